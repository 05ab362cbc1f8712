//! Runs a check: visits all states, asks which of them cannot come to an end any more, and shows the way to what is
//! wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::time::Instant;

use stateright::{Checker, HasDiscoveries, Model};

use crate::actions::Action;
use crate::broken::Broken;
use crate::life::Play;
use crate::properties::{ALWAYS, CAN_END};
use crate::session::{Bounds, Session};
use crate::state::State;

/// What came of a check.
#[derive(Debug)]
pub struct Report {
    pub states: usize,
    pub depth: usize,
    /// The property that does not hold, and the shortest way to where it does not.
    pub found: Option<(&'static str, Vec<String>)>,
    /// What happens in some state.
    pub sometimes: BTreeSet<&'static str>,
}

/// Checks what is `watched`; the first that does not hold ends it.
pub fn check(play: &Play, bounds: Bounds, broken: Option<Broken>, watched: &[&'static str]) -> Report {
    let begun = Instant::now();
    let mut report = run(Session::new(play, bounds, broken, watched), |session| {
        let dead = if watched.contains(&CAN_END) { dead(session) } else { BTreeSet::new() };
        (!dead.is_empty()).then_some(dead)
    });
    if let (None, Some(dead)) = (&report.0.found, report.1) {
        // Once more, now that it is known which states to look for.
        let again = Session { dead, ..Session::new(play, bounds, broken, &[CAN_END]) };
        report.0.found = run(again, |_| ()).0.found;
    }
    let report = report.0;
    let name = play.choreography.name();
    let found = report.found.as_ref().map_or("all holds", |(name, _)| name);
    println!(
        "{name} {bounds:?}, broken {broken:?}: {} states, depth {}, {:.1} s: {found}",
        report.states,
        report.depth,
        begun.elapsed().as_secs_f32()
    );
    if let Some((_, way)) = &report.found
        && (broken.is_none() || std::env::var_os("ACCOMPANIST_MODEL_WAYS").is_some())
    {
        println!("{}", way.join("\n"));
    }
    report
}

fn run<T>(session: Session, ask: impl FnOnce(&Session) -> T) -> (Report, T) {
    // One thread visits the states in the order of their distance; the tests have a thread each.
    let checker = session.checker().finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    let (states, depth) = (checker.unique_state_count(), checker.max_depth());
    let expanded = checker.model().expanded.load(Ordering::Relaxed);
    let mut discoveries: BTreeMap<_, _> = checker.discoveries().into_iter().collect();
    let session = checker.model();
    let answer = ask(session);
    let violated = ALWAYS.iter().find_map(|name| Some((*name, discoveries.remove(name)?)));
    let found = violated.map(|(name, path)| (name, way(&path.into_vec())));
    assert!(
        found.is_some() || (checker.is_done() && expanded == states),
        "{expanded} of {states} states were gone on from"
    );
    let mut sometimes: BTreeSet<&'static str> = discoveries.into_keys().collect();
    sometimes.append(&mut session.happened.lock().unwrap());
    (Report { states, depth, found, sometimes }, answer)
}

fn way(path: &[(State, Option<Action>)]) -> Vec<String> {
    let steps = path.iter().filter_map(|(state, action)| Some(action.as_ref()?.describe(state)));
    let mut way: Vec<String> = steps.enumerate().map(|(number, step)| format!("{:3}. {step}", number + 1)).collect();
    if let Some((last, _)) = path.last() {
        way.push(format!("and then:\n{last:?}  faults: {:?}", last.faults));
    }
    way
}

/// The states from which no way leads to the end, though nothing more crashes.
fn dead(session: &Session) -> BTreeSet<u64> {
    let progress = session.progress.lock().unwrap();
    let mut before: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    let mut states = BTreeSet::new();
    for (from, to) in progress.iter() {
        before.entry(*to).or_default().push(*from);
        states.extend([*from, *to]);
    }
    let mut alive = session.over.lock().unwrap().clone();
    let mut open: Vec<u64> = alive.iter().copied().collect();
    while let Some(state) = open.pop() {
        for from in before.get(&state).into_iter().flatten() {
            if alive.insert(*from) {
                open.push(*from);
            }
        }
    }
    states.difference(&alive).copied().collect()
}
