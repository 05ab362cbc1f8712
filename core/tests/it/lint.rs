//! What `testing::lint` reports, and what it does not.

use std::time::Duration;

use accompanist_core::testing::{Finding, TestSetup, lint};
use accompanist_core::{Abort, At, Choreography, Kind, Local, Located, Retry, Role, Services, Transaction};

use crate::rig::{choreography, path, roles};

roles! { Buyer "buyer" (), Seller "seller" (), Carrier "carrier" () }

/// A step at any role, of any kind.
struct Step<R, const KIND: u8>(R);
impl<R: Role, const KIND: u8> Transaction for Step<R, KIND> {
    const NAME: &'static str = ["hold", "pay", "tell"][KIND as usize];
    const KIND: Kind = [Kind::Compensable, Kind::Pivot, Kind::Retriable][KIND as usize];
    type Role = R;
    type Input = u32;
    type Output = u32;
    async fn commit(&self, _: &Local<R>, n: &u32) -> Result<u32, Abort> {
        Ok(*n)
    }
    async fn compensate(&self, _: &Local<R>, _: &u32, _: &u32) -> Result<(), Retry> {
        Ok(())
    }
}

const HOLD: u8 = 0;
const PAY: u8 = 1;
const TELL: u8 = 2;

fn findings<C: Choreography>(choreography: C, input: <C::Input as Located>::Value, deadline: bool) -> Vec<Finding> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let setup = TestSetup::new(Services::new());
    let setup = if deadline { setup.deadline(Duration::from_hours(1)) } else { setup };
    runtime.block_on(lint(choreography, input, setup)).unwrap_or_else(|failure| panic!("{failure}"))
}

// All that may refuse ends before the pivot, and its role knows.
choreography!(Careful: (Buyer, Seller, Carrier), At<Buyer, u32> => At<Buyer, u32>, |ctx, n| {
    let there = ctx.comm(Buyer, Carrier, &n).await?;
    let held = ctx.transact(Step::<_, HOLD>(Carrier), &there).await?;
    let held = ctx.comm(Carrier, Seller, &held).await?;
    let paid = ctx.transact(Step::<_, PAY>(Seller), &held).await?;
    let paid = ctx.comm(Seller, Carrier, &paid).await?;
    let told = ctx.transact(Step::<_, TELL>(Carrier), &paid).await?;
    let done = ctx.locally(Carrier, |here| { here.get(&told); });
    ctx.comm(Carrier, Buyer, &done).await?;
    Ok(n)
});

#[test]
fn a_careful_program_has_no_findings() {
    assert_eq!(findings(Careful, 7, true), []);
}

// The buyer tells both at once: one pays while the other may refuse. And afterwards the carrier may refuse once more.
choreography!(Hasty: (Buyer, Seller, Carrier), At<Buyer, u32> => At<Buyer, u32>, |ctx, n| {
    let (seller, carrier) = ctx.multicast(Buyer, (Seller, Carrier), &n).await?;
    let paid = ctx.transact(Step::<_, PAY>(Seller), &seller).await?;
    ctx.transact(Step::<_, HOLD>(Carrier), &carrier).await?;
    let paid = ctx.comm(Seller, Carrier, &paid).await?;
    ctx.transact(Step::<_, HOLD>(Carrier), &paid).await?;
    Ok(n)
});

#[test]
fn a_step_that_may_refuse_beside_or_after_a_pivot_is_found() {
    let found = |at: &[u32], after| Finding::AbortBesidePivot {
        pivot: ("pay".into(), path(&[1])),
        other: ("hold".into(), path(at)),
        after,
    };
    assert_eq!(findings(Hasty, 7, true), [found(&[2], false), found(&[4], true)]);
}

// The carrier receives a value that it has no use for, and nobody hears of the carrier.
choreography!(Lonely: (Buyer, Seller, Carrier), At<Buyer, u32> => At<Buyer, u32>, |ctx, n| {
    ctx.comm(Buyer, Carrier, &n).await?;
    let there = ctx.comm(Buyer, Seller, &n).await?;
    let back = ctx.comm(Seller, Buyer, &there).await?;
    Ok(back)
});

#[test]
fn roles_and_values_of_no_use_are_found() {
    let expected =
        [Finding::OnlyWaits { role: "carrier" }, Finding::NeverUsed { path: path(&[0]), from: "buyer", to: "carrier" }];
    assert_eq!(findings(Lonely, 7, true), expected);
}

#[test]
fn a_session_that_may_wait_for_ever_is_found() {
    // The others begin when they hear something; the buyer begins by itself.
    let expected = Finding::NoDeadline { role: "buyer", path: path(&[2]), what: "a comm from `seller`".into() };
    assert!(findings(Lonely, 7, false).contains(&expected));
    assert!(expected.to_string().contains("`comm_within`"));
}
