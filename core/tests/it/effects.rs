//! The effects of a turn, as people see them.

use accompanist_core::machine::CallOutcome;
use accompanist_core::{At, LocalTransaction, Retry, Service, State};

use crate::rig::{Rig, choreography, payload, roles};

roles! { Clerk "clerk" (), Vault "vault" () }

struct Deposit;
impl LocalTransaction for Deposit {
    const NAME: &'static str = "deposit";
    type Role = Clerk;
    type Input = u32;
    type Output = u32;
    fn commit(&self, _: &mut State<'_>, amount: &u32) -> Result<u32, accompanist_core::Abort> {
        Ok(*amount)
    }
    fn compensate(&self, _: &mut State<'_>, _: &u32, _: &u32) -> Result<(), Retry> {
        Ok(())
    }
}

choreography!(Deposits: (Clerk, Vault), At<Clerk, u32> => At<Clerk, u32>, |ctx, n| {
    ctx.comm(Clerk, Vault, &n).await?;
    let now = ctx.now(Clerk).await?;
    let stored = ctx.transact(Deposit, &n).await?;
    ctx.comm(Clerk, Vault, &now).await?;
    Ok(stored)
});

#[test]
fn the_effects_of_a_turn_show_records_and_no_bytes() {
    let mut rig = Rig::begin(Deposits, 0, Some(payload(&7u32)), Service::none());
    let begun = rig.turn();
    insta::assert_debug_snapshot!(begun, @r#"
    Effects {
        writes: [
            Write {
                number: 1,
                changes: [
                    32 bytes in `open`,
                    Observed {
                        path: 1,
                        name: "now",
                        result: 51 bytes,
                    },
                ],
                urgent: true,
                local: LocalJob {
                    path: 2,
                    name: "deposit",
                    kind: Compensable,
                    input: Fingerprint(
                        12300836563124769786,
                    ),
                    order: 0,
                    compensates: None,
                    ..
                },
            },
        ],
    }
    "#);
    rig.sync(begun.writes);
    insta::assert_debug_snapshot!(rig.turn(), @r"
    Effects {
        frames: [
            Outgoing {
                key: Deliver(
                    0,
                    RoleIndex(
                        1,
                    ),
                ),
                node: vault,
                body: Deliver {
                    path: 0,
                    operation: Comm,
                    payload: 1 bytes,
                },
                with_header: true,
            },
            Outgoing {
                key: Deliver(
                    3,
                    RoleIndex(
                        1,
                    ),
                ),
                node: vault,
                body: Deliver {
                    path: 3,
                    operation: Comm,
                    payload: 51 bytes,
                },
                with_header: true,
            },
        ],
        output: Some(
            Ok(
                1 bytes,
            ),
        ),
        opened: true,
    }
    ");
}

#[test]
fn a_call_of_a_step_that_has_ended_is_reported_once_with_the_time_it_took() {
    let mut rig = Rig::begin(Deposits, 0, Some(payload(&7u32)), Service::none());
    let begun = rig.turn();
    assert_eq!(begun.calls, []);
    rig.now_ms += 40;
    rig.sync(begun.writes);
    let calls = rig.turn().calls;
    let reported = calls.iter().map(|call| (call.step.as_str(), call.outcome, call.took_ms));
    assert_eq!(reported.collect::<Vec<_>>(), [("deposit", CallOutcome::Committed, 40)]);
    assert_eq!(rig.turn().calls, []);
}
