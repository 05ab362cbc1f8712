//! The machines as they are: all that has to hold holds in every state.

use crate::check::check_all;
use crate::life::Play;
use crate::programs;
use crate::properties::{COMPENSATED, COMPENSATED_AFTER_CRASH, FINISHED, FINISHED_AFTER_CRASH};
use crate::session::Bounds;

fn holds(play: &Play, bounds: Bounds, ends: &[&'static str]) {
    let report = check_all(play, bounds);
    if let Some((name, way)) = report.found {
        panic!("{name}: does not hold after\n{}", way.join("\n"));
    }
    for end in ends {
        assert!(report.sometimes.contains(end), "never: {end}");
    }
}

#[test]
fn a_message_there_a_step_and_a_message_back() {
    holds(&programs::there(), Bounds::default(), &[FINISHED]);
}

#[test]
fn the_same_with_a_crash() {
    holds(&programs::there(), Bounds { crashes: 1, ..Bounds::default() }, &[FINISHED, FINISHED_AFTER_CRASH]);
}

#[test]
fn zz() {
    let c: usize = std::env::var("C").unwrap().parse().unwrap();
    let b = Bounds { crashes: c, cancel: std::env::var("CAN").is_ok(), busy: std::env::var("BUSY").map_or(0, |b| b.parse().unwrap()), any_time: std::env::var("AT").is_ok() };
    let play = match std::env::var("P").unwrap().as_str() {
        "there" => programs::there(), "chain" => programs::chain(), "pair" => programs::pair(), "local" => programs::local(),
        "within" => programs::within(), "draw" => programs::draw(), "twice" => programs::twice(), _ => panic!()
    };
    holds(&play, b, &[]);
}
