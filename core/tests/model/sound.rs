//! The machines as they are: all that has to hold holds in every state, and much happens on the way.

use crate::check::check;
use crate::life::Play;
use crate::programs;
use crate::properties::{ALWAYS, COMPENSATED, COMPENSATED_AFTER_CRASH, FINISHED, FINISHED_AFTER_CRASH};
use crate::session::{AFTER_CLOSE, Bounds, DOUBLE, DOUBT, FORGOTTEN, LATE, LOST_WRITE, SENT_AGAIN, UNHEARD_SYNC};

const CRASHES: &[&str] = &[LOST_WRITE, UNHEARD_SYNC, LATE, DOUBLE, AFTER_CLOSE];

/// Visits all states, of which there are at least `floor`; all of `happens` has to happen.
fn holds(play: &Play, bounds: Bounds, floor: usize, happens: &[&[&'static str]]) {
    let more = std::env::var("ACCOMPANIST_MODEL_CRASHES").map_or(0, |more| more.parse().expect("a number"));
    let bounds = Bounds { crashes: bounds.crashes + more, ..bounds };
    let report = check(play, bounds, None, ALWAYS);
    if let Some((name, way)) = report.found {
        panic!("{name}: does not hold after\n{}", way.join("\n"));
    }
    assert!(report.states >= floor, "there were {floor} states and more, now {}", report.states);
    for what in happens.iter().copied().flatten() {
        assert!(report.sometimes.contains(what), "never: {what}");
    }
}

#[test]
fn a_message_a_step_and_a_message_back() {
    let bounds = Bounds { crashes: 1, any_time: true, ..Bounds::default() };
    holds(&programs::there(), bounds, 30_000, &[CRASHES, &[FINISHED, FINISHED_AFTER_CRASH, DOUBT]]);
}

#[test]
fn two_messages_one_way() {
    let bounds = Bounds { crashes: 1, ..Bounds::default() };
    holds(&programs::twice(), bounds, 1_300, &[CRASHES, &[FINISHED, FINISHED_AFTER_CRASH]]);
}

#[test]
fn something_drawn_by_chance() {
    let bounds = Bounds { crashes: 1, any_time: true, ..Bounds::default() };
    holds(&programs::draw(), bounds, 30_000, &[CRASHES, &[FINISHED, FINISHED_AFTER_CRASH]]);
}

#[test]
fn a_step_on_the_built_in_state() {
    let bounds = Bounds { crashes: 1, any_time: true, ..Bounds::default() };
    holds(&programs::local(), bounds, 27_000, &[CRASHES, &[FINISHED, FINISHED_AFTER_CRASH]]);
}

#[test]
fn a_refusal_and_a_service_too_busy_to_take_a_step_back() {
    let bounds = Bounds { crashes: 1, busy: 1, ..Bounds::default() };
    let ends = &[FINISHED, FINISHED_AFTER_CRASH, COMPENSATED, COMPENSATED_AFTER_CRASH, DOUBT];
    holds(&programs::pair(), bounds, 4_000, &[CRASHES, ends]);
}

#[test]
fn a_saga_within_the_session() {
    let bounds = Bounds { crashes: 1, ..Bounds::default() };
    holds(&programs::within(), bounds, 3_400, &[CRASHES, &[FINISHED, FINISHED_AFTER_CRASH, DOUBT]]);
}

#[test]
fn a_cancel_at_any_moment() {
    let bounds = Bounds { cancel: true, ..Bounds::default() };
    holds(&programs::pair(), bounds, 2_800, &[&[FINISHED, COMPENSATED, DOUBLE, AFTER_CLOSE]]);
}

#[test]
fn a_cancel_and_a_crash_at_any_moment() {
    let bounds = Bounds { crashes: 1, cancel: true, ..Bounds::default() };
    let ends = &[FINISHED, FINISHED_AFTER_CRASH, COMPENSATED, COMPENSATED_AFTER_CRASH, DOUBT];
    holds(&programs::there(), bounds, 74_000, &[CRASHES, ends]);
}

/// Frames that are acknowledged and lost.
const FORGETS: &[&str] = &[FORGOTTEN, DOUBLE, AFTER_CLOSE];

#[test]
fn a_frame_that_is_acknowledged_and_lost_before_a_message_a_step_and_a_message_back() {
    let bounds = Bounds { forgotten: 1, ..Bounds::default() };
    holds(&programs::there(), bounds, 670, &[FORGETS, &[FINISHED, SENT_AGAIN]]);
}

#[test]
fn an_abort_that_is_acknowledged_and_lost() {
    let bounds = Bounds { forgotten: 1, ..Bounds::default() };
    holds(&programs::pair(), bounds, 9_400, &[FORGETS, &[FINISHED, COMPENSATED]]);
}

#[test]
fn a_vote_or_a_verdict_that_is_acknowledged_and_lost() {
    let bounds = Bounds { forgotten: 1, ..Bounds::default() };
    holds(&programs::within(), bounds, 9_800, &[FORGETS, &[FINISHED, SENT_AGAIN]]);
}

#[test]
fn a_frame_that_is_acknowledged_and_lost_and_a_crash() {
    let bounds = Bounds { crashes: 1, forgotten: 1, ..Bounds::default() };
    holds(&programs::lone(), bounds, 4_400, &[FORGETS, &[FINISHED_AFTER_CRASH]]);
}

#[test]
fn three_roles_of_which_the_last_may_refuse() {
    holds(&programs::chain(), Bounds::default(), 7_900, &[&[FINISHED, COMPENSATED, DOUBLE]]);
}
