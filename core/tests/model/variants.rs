//! Each broken variant is found, both by what watches the fault itself and by what comes of it; the sound machine, under
//! the same bounds, has no such state.

use crate::broken::Broken;
use crate::check::check;
use crate::faults;
use crate::life::Play;
use crate::programs;
use crate::properties::{
    ALL_OR_COMPENSATED, CAN_END, CLOSED_STAYS_CLOSED, EFFECT_ONCE, ONE_OUTCOME, RECEIVED_WAS_SAID, SAME_BYTES,
};
use crate::session::Bounds;

const CRASH: Bounds = Bounds { crashes: 1, cancel: false, any_time: false, busy: 0 };

/// `broken` violates `property`; the shortest way there ends with `last`.
fn is_found(play: &Play, bounds: Bounds, broken: Broken, property: &'static str, last: &str) {
    let report = check(play, bounds, Some(broken), &[property]);
    let (name, way) = report.found.expect("nothing was found");
    let end = way.iter().rev().nth(1).unwrap();
    assert!(name == property && end.contains(last), "{name} is found by way of\n{}", way.join("\n"));
    let sound = check(play, bounds, None, &[property]);
    assert!(sound.found.is_none(), "the sound machine has it, too");
}

#[test]
fn zz() {
    let v = std::env::var("V").unwrap();
    let c = Bounds { cancel: true, ..CRASH };
    let n = Bounds::default();
    let all: Vec<(&str, Play, Bounds, Broken)> = vec![
        ("ack", programs::there(), CRASH, Broken::AckBeforeSync),
        ("tomb", programs::there(), n, Broken::NoTombstone),
        ("dedup", programs::twice(), n, Broken::NoDedup),
        ("deaf", programs::there(), CRASH, Broken::DeafService),
        ("intent", programs::pair(), c, Broken::LostIntent),
        ("early", programs::draw(), CRASH, Broken::SyncedTooEarly),
        ("earlyw", programs::within(), CRASH, Broken::SyncedTooEarly),
        ("fwd", programs::thrice(), CRASH, Broken::Forwards),
        ("abort", programs::pair(), CRASH, Broken::LostAbort),
        ("closing", programs::there(), CRASH, Broken::LostClosing),
    ];
    for (name, play, bounds, broken) in all {
        if name == v || v == "all" {
            for property in crate::properties::ALWAYS {
                check(&play, bounds, Some(broken), &[property]);
            }
        }
    }
}
