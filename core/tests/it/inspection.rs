//! What an instance shows of itself to operators: what it waits for, on whom and since when.

use std::sync::Arc;

use accompanist_core::frame::{Body, Lacks};
use accompanist_core::machine::{INSPECTED_MAX, Inspection, Limits, Status, StepState, WaitKind};
use accompanist_core::message::{pack, unpack};
use accompanist_core::record::Task;
use accompanist_core::{Abort, At, Service};

use crate::rig::{Bank, Disk, Rig, bank_step, choreography, path, payload, roles};
use crate::trade::{BUYER, Buyer, SELLER, Seller, Trade, service};

/// When the rig's clock begins.
const BEGIN_MS: u64 = 1_000;

fn abort() -> Abort {
    Abort::new("changed-my-mind", "by the buyer")
}

/// A buyer whose order was acknowledged, and which waits for the answer.
fn waiting_buyer() -> Rig {
    let mut rig = Rig::begin(Trade, BUYER, Some(payload(&7u32)), Service::none());
    let effects = rig.turn_synced();
    rig.ack(&effects);
    rig.turn_synced();
    rig
}

/// A seller that has charged, and whose refund fails for now.
fn refunding_seller(bank: &Arc<Bank>, tries_max: u32) -> Rig {
    let limits = Limits { tries_max, retry_delay_min_ms: 20, ..Limits::default() };
    let mut rig = Rig::begin_within(Trade, SELLER, None, service(bank), limits);
    rig.hear_message(BUYER, &[0], &7u32, 1);
    let effects = rig.turn_synced();
    rig.ack(&effects);
    rig.hear(BUYER, Body::Abort(abort()), 2);
    rig.turn_synced();
    rig
}

#[test]
fn a_wait_is_shown_with_the_role_its_node_and_since_when_however_often_it_is_polled() {
    let mut rig = waiting_buyer();
    for unix_ms in [BEGIN_MS, 5_000, 9_000] {
        rig.set_clock(unix_ms);
        // Wakes the program, which waits on.
        rig.hear_once(SELLER, Body::Nudge(Lacks::default()));
        rig.turn_synced();
        let inspection = rig.part.inspect();
        assert_eq!((inspection.status, inspection.now_unix_ms), (Status::Running, unix_ms));
        let [wait] = &inspection.waits[..] else { panic!("{inspection:?}") };
        assert_eq!((&wait.path, wait.kind, wait.since_unix_ms), (&path(&[2]), WaitKind::Receive, BEGIN_MS));
        assert_eq!(wait.on.as_ref().map(ToString::to_string).unwrap(), "role `seller` at node `seller`");
        assert_eq!(inspection.to_string(), "running, waits for a comm from `seller` at node `seller` (operation 2)");
    }
}

fn since(disk: &Disk, unix_ms: u64) -> u64 {
    let mut rig = Rig::restore(Trade, BUYER, disk.clone(), Service::none());
    rig.set_clock(unix_ms);
    rig.turn_synced();
    let inspection = rig.part.inspect();
    assert_eq!(inspection.loaded_unix_ms, unix_ms);
    inspection.waits[0].since_unix_ms
}

#[test]
fn a_wait_lasts_over_a_passivation_and_begins_anew_after_a_crash() {
    let rig = waiting_buyer();
    let mut disk = rig.disk.clone();
    assert_eq!(since(&disk, 9_000), 9_000, "as after a crash");
    disk.apply(rig.part.passivation().into_iter().collect());
    assert_eq!(since(&disk, 9_000), BEGIN_MS);
    // Nothing has changed, so the next passivation writes nothing.
    let mut next_life = Rig::restore(Trade, BUYER, disk, Service::none());
    next_life.turn_synced();
    assert_eq!(next_life.part.passivation(), None);
}

#[test]
fn a_compensation_that_is_retried_is_shown_with_its_tries_its_last_error_and_its_next_try() {
    let mut rig = refunding_seller(&Bank::retrying(2), 50);
    rig.set_clock(1_010);
    rig.turn_synced();
    let inspection = rig.part.inspect();
    assert_eq!((inspection.status, inspection.compensations_left), (Status::Compensating, 1));
    assert_eq!(inspection.abort, Some(abort()));
    let [step] = &inspection.steps[..] else { panic!("{inspection:?}") };
    assert_eq!((step.step.as_str(), step.task, step.state), ("charge", Task::Compensate, StepState::Retrying));
    assert_eq!((step.tries, step.last_error.as_deref(), step.since_unix_ms), (1, Some("busy"), BEGIN_MS));
    assert_eq!(step.next_try_unix_ms, Some(1_030), "in 20 ms");
    assert_eq!(
        inspection.to_string(),
        "compensating (by the buyer (changed-my-mind)), the compensation of step `charge` is tried again: busy"
    );
    // The second try fails, the third does not.
    rig.now_ms = 20;
    rig.turn_synced();
    let step = rig.part.inspect().steps.remove(0);
    assert_eq!((step.tries, step.since_unix_ms), (2, BEGIN_MS));
    rig.now_ms = 60;
    rig.turn_synced();
    let inspection = rig.part.inspect();
    assert_eq!((inspection.steps.len(), inspection.compensations_left), (0, 0));
    assert_eq!(inspection.awaited_ends.iter().map(|role| role.name.as_str()).collect::<Vec<_>>(), ["buyer"]);
}

#[test]
fn a_step_in_trouble_is_shown_with_its_reason_after_a_passivation_too() {
    let rig = refunding_seller(&Bank::retrying(1), 1);
    let mut disk = rig.disk.clone();
    disk.apply(rig.part.passivation().into_iter().collect());
    let mut next_life = Rig::restore(Trade, SELLER, disk, service(&Bank::new()));
    next_life.set_clock(9_000);
    next_life.turn_synced();
    for part in [&rig.part, &next_life.part] {
        let inspection = part.inspect();
        let [step] = &inspection.steps[..] else { panic!("{inspection:?}") };
        assert_eq!((inspection.status, step.state), (Status::NeedsOperator, StepState::NeedsOperator));
        assert_eq!((step.tries, step.last_error.as_deref()), (1, Some("busy")));
        assert_eq!((step.since_unix_ms, step.next_try_unix_ms), (BEGIN_MS, None));
    }
}

/// The first failure of a row is one to warn about, and then ever fewer.
#[test]
fn failures_are_reported_with_their_number_and_are_for_the_log_at_growing_intervals() {
    let mut rig = Rig::begin(Trade, SELLER, None, service(&Bank::retrying(9)));
    rig.hear_message(BUYER, &[0], &7u32, 1);
    let effects = rig.turn_synced();
    rig.ack(&effects);
    rig.hear(BUYER, Body::Abort(abort()), 2);
    let mut logged = Vec::new();
    for _ in 0..9 {
        for retried in rig.turn_synced().retries {
            assert!(retried.pause_ms >= 20 && retried.reason == "busy");
            logged.extend(retried.is_for_the_log().then_some(retried.failures));
        }
        rig.now_ms += 60_000;
    }
    assert_eq!(logged, [1, 2, 4, 8]);
}

roles! { Solo "solo" Bank }
bank_step!(Pay "pay" Solo);

choreography!(Called: (Solo, Buyer), At<Solo, u32> => At<Solo, u32>, |ctx, n| {
    ctx.comm(Solo, Buyer, &n).await?;
    let first: At<Solo, u32> = ctx.signal(Solo, "first").await?;
    ctx.transact(Pay, &first).await
});

#[test]
fn signals_that_nobody_has_taken_and_unacknowledged_frames_are_shown() {
    let mut rig = Rig::begin(Called, 0, Some(payload(&7u32)), Service::of::<Solo>(Bank::new()));
    rig.turn_synced();
    rig.part.signal("second", "a", payload(&1u32)).unwrap();
    rig.turn_synced();
    let inspection = rig.part.inspect();
    let signals: Vec<_> = inspection.signals.iter().map(|signal| (signal.name.as_str(), signal.key.as_str())).collect();
    assert_eq!(signals, [("second", "a")]);
    assert_eq!((inspection.waits[0].kind, inspection.waits[0].text.as_str()), (WaitKind::Signal, "signal `first`"));
    let [open] = &inspection.unacknowledged[..] else { panic!("{inspection:?}") };
    assert_eq!((open.role.name.as_str(), open.frames), ("buyer", 1));
}

#[test]
fn a_step_under_way_is_shown_as_running() {
    let mut rig = Rig::begin(Trade, SELLER, None, service(&Bank::new()));
    rig.hear_message(BUYER, &[0], &7u32, 1);
    rig.turn(); // Its intent is not durable yet.
    let inspection = rig.part.inspect();
    let [step] = &inspection.steps[..] else { panic!("{inspection:?}") };
    assert_eq!((step.state, step.task, step.tries, &step.last_error), (StepState::Running, Task::Commit, 0, &None));
    assert_eq!(inspection.to_string(), "running, step `charge` runs");
}

const WIDTH: u32 = 300;

choreography!(Wide: (Buyer, Seller), At<Buyer, u32> => At<Buyer, u32>, |ctx, n| {
    let number = ctx.locally(Seller, |_| 1u32);
    let branches = (0..WIDTH).map(|_| ctx.comm(Seller, Buyer, &number));
    futures_util::future::try_join_all(branches).await?;
    Ok(n)
});

#[test]
fn the_lists_of_an_inspection_are_bounded_and_what_is_left_out_is_counted() {
    let mut rig = Rig::begin(Wide, BUYER, Some(payload(&7u32)), Service::none());
    rig.turn_synced();
    let inspection = rig.part.inspect();
    assert_eq!((inspection.waits.len(), inspection.omitted), (INSPECTED_MAX, WIDTH as usize - INSPECTED_MAX));
    assert!(inspection.to_string().ends_with(", and 248 more"));
}

#[test]
fn an_inspection_is_read_back_from_bytes_and_from_json() {
    let mut rig = waiting_buyer();
    rig.hear_once(SELLER, Body::Trouble(Some(accompanist_core::frame::RoleTrouble::stopped("it differs"))));
    rig.turn_synced();
    for part in [&rig.part, &refunding_seller(&Bank::retrying(1), 1).part] {
        let inspection = part.inspect();
        assert_eq!(unpack::<Inspection>(&pack(&inspection).unwrap()).unwrap(), inspection);
        let json = serde_json::to_string(&inspection).unwrap();
        assert_eq!(serde_json::from_str::<Inspection>(&json).unwrap(), inspection);
    }
}
