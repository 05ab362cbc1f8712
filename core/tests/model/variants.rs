//! Each broken variant is found, both by what watches the fault itself and by what comes of it; the sound machine,
//! under the same bounds, has no such state.

use crate::broken::Broken;
use crate::check::check;
use crate::faults;
use crate::life::Play;
use crate::programs;
use crate::properties::{ALL_OR_COMPENSATED, CAN_END, CLOSED_STAYS_CLOSED, EFFECT_ONCE, RECEIVED_WAS_SAID, SAME_BYTES};
use crate::session::Bounds;

const CRASH: Bounds = Bounds { crashes: 1, cancel: false, any_time: false, busy: 0, forgotten: 0 };

/// `broken` violates each of `properties`; the shortest way there has so many steps, of which the last is so.
fn is_found(play: &Play, bounds: Bounds, broken: Broken, properties: &[(&'static str, usize, &str)]) {
    for (property, steps, last) in properties {
        let report = check(play, bounds, Some(broken), &[property]);
        let (name, way) = report.found.expect("nothing was found");
        // After the steps comes the state.
        let (found, end) = (way.len() - 1, &way[way.len() - 2]);
        assert!(found == *steps && end.contains(last), "{name} is found in {found} steps\n{}", way.join("\n"));
    }
    let names: Vec<_> = properties.iter().map(|(property, ..)| *property).collect();
    let sound = check(play, bounds, None, &names);
    assert!(sound.found.is_none(), "the sound machine has it, too");
}

#[test]
fn a_message_acknowledged_before_it_is_synced_can_be_lost() {
    let at_once = (faults::UNDURABLE_ACKNOWLEDGEMENT, 2, "arrives: `comm at 0`");
    is_found(&programs::there(), CRASH, Broken::AckBeforeSync, &[at_once]);
    // What comes of it is healed: the receiver asks for it.
    let healed = check(&programs::there(), CRASH, Some(Broken::AckBeforeSync), &[CAN_END]);
    assert!(healed.found.is_none(), "{:?}", healed.found);
}

#[test]
fn without_a_tombstone_a_late_frame_begins_the_session_again() {
    let begins = (CLOSED_STAYS_CLOSED, 15, "arrives: `comm at 0`");
    let invites = (faults::INVITED, 18, "role 1 is durable");
    is_found(&programs::there(), Bounds::default(), Broken::NoTombstone, &[begins, invites]);
}

#[test]
fn without_ids_a_duplicate_message_counts_as_the_next_one() {
    let stops = (faults::STOPPED, 4, "arrives: `comm at 0`");
    let taken = (RECEIVED_WAS_SAID, 5, "role 1 is durable");
    is_found(&programs::twice(), Bounds::default(), Broken::NoDedup, &[stops, taken]);
}

#[test]
fn a_service_that_does_not_honour_the_key_commits_twice() {
    is_found(&programs::there(), CRASH, Broken::DeafService, &[(EFFECT_ONCE, 6, "answers Commit at 1")]);
}

#[test]
fn without_its_intent_a_step_in_doubt_is_never_compensated() {
    let bounds = Bounds { cancel: true, ..CRASH };
    let (begins, stays) = ((faults::NO_INTENT, 3, "role 1 is durable"), (ALL_OR_COMPENSATED, 15, "role 1 is durable"));
    is_found(&programs::lone(), bounds, Broken::LostIntent, &[begins, stays]);
}

#[test]
fn a_result_that_leaves_before_its_sync_is_another_one_after_a_crash() {
    let (other, stops) = ((SAME_BYTES, 3, "arrives: `comm at 0`"), (faults::STOPPED, 5, "arrives: `comm at 2`"));
    is_found(&programs::draw(), CRASH, Broken::SyncedTooEarly, &[other, stops]);
}

#[test]
fn a_verdict_that_is_obeyed_before_its_sync_is_another_one_after_a_crash() {
    let obeyed = (faults::BAD_COMPENSATION, 4, "arrives: `vote at 0.1`");
    let commits = (faults::COMMIT_AFTER_COMPENSATION, 7, "answers Commit at 0.0.0");
    is_found(&programs::within(), CRASH, Broken::SyncedTooEarly, &[obeyed, commits]);
}

#[test]
fn with_the_order_of_steps_swapped_compensation_goes_forwards() {
    is_found(&programs::thrice(), CRASH, Broken::Forwards, &[(faults::OUT_OF_ORDER, 10, "answers Compensate at 1")]);
}

#[test]
fn an_abort_that_is_not_written_is_obeyed_too_early() {
    is_found(&programs::pair(), CRASH, Broken::LostAbort, &[(faults::BAD_COMPENSATION, 7, "role 1 is durable")]);
}

#[test]
fn a_close_that_is_not_written_is_forgotten_while_others_obey_it() {
    let (early, invites) = ((faults::EARLY_CLOSE, 12, "role 0 is durable"), (faults::INVITED, 16, "role 0 has waited"));
    is_found(&programs::there(), CRASH, Broken::LostClosing, &[early, invites]);
}

#[test]
fn a_message_acknowledged_and_lost_hangs_a_session_unless_it_is_resent() {
    let bounds = Bounds { forgotten: 1, ..Bounds::default() };
    is_found(&programs::there(), bounds, Broken::SendsOnce, &[(CAN_END, 2, "is acknowledged and lost: `comm at 0`")]);
}
