//! What holds in every state, by its number in `docs/invariants.md`, and what has to happen in some.

use std::sync::OnceLock;

use accompanist_core::Path;
use accompanist_core::frame::{Body, Outcome};
use accompanist_core::record::Record;
use stateright::Property;

use crate::faults;
use crate::session::Session;
use crate::state::{Entry, State};

/// A property that is watched. Only the first state that violates it counts: the way there is the shortest.
pub struct Watched {
    pub name: &'static str,
    first: OnceLock<u64>,
}

impl Watched {
    pub fn new(name: &'static str) -> Self {
        Self { name, first: OnceLock::new() }
    }
}

impl Session {
    fn holds(&self, name: &str, state: &State, holds: impl Fn(&Self, &State) -> bool) -> bool {
        let Some(watched) = self.watched.iter().find(|watched| watched.name == name) else { return true };
        holds(self, state) || *watched.first.get_or_init(|| state.hash) != state.hash
    }
}

macro_rules! always {
    ($($name:expr => $holds:expr),+ $(,)?) => {
        /// The names of all that always holds.
        pub const ALWAYS: &[&str] = &[$($name),+];

        pub fn all() -> Vec<Property<Session>> {
            vec![
                $(Property::always($name, |session, state| session.holds($name, state, $holds)),)+
                Property::sometimes(FINISHED, |_, state: &State| ends(state, true)),
                Property::sometimes(COMPENSATED, |_, state: &State| ends(state, false)),
                Property::sometimes(FINISHED_AFTER_CRASH, |_, state: &State| state.crashes > 0 && ends(state, true)),
                Property::sometimes(COMPENSATED_AFTER_CRASH, |_, state: &State| state.crashes > 0 && ends(state, false)),
            ]
        }
    };
}

macro_rules! no_fault {
    ($fault:path) => {
        |_, state| !state.faults.contains($fault)
    };
}

pub const FINISHED: &str = "it finishes";
pub const COMPENSATED: &str = "it is compensated";
pub const FINISHED_AFTER_CRASH: &str = "it finishes after a crash";
pub const COMPENSATED_AFTER_CRASH: &str = "it is compensated after a crash";

pub const EFFECT_ONCE: &str = "2: a commit takes effect at most once";
pub const CAN_END: &str = "3: it can end, whatever has happened";
pub const ALL_OR_COMPENSATED: &str = "3: a closed role has all its steps, or has taken them back";
pub const ONE_OUTCOME: &str = "4: closed roles have ended alike";
pub const RECEIVED_WAS_SAID: &str = "4: what is received was said";
pub const ONE_BATCH: &str = "12: the built-in state is as the records say";
pub const TOLD_ABORT: &str = "3: who is told of an abort sees no session finish";
pub const CLOSED_STAYS_CLOSED: &str = "21: closed stays closed, and nothing is left behind";
pub const SAME_BYTES: &str = "22: same id, same bytes";
pub const SAGA_ALIKE: &str = "42: a saga within ends alike for all";
pub const BEGUN_IS_KNOWN: &str = "8: nobody has heard of a session that its initiator has forgotten";

always! {
    EFFECT_ONCE => |_, state| state.book.values().all(|entry| entry.committed <= 1),
    faults::COMMIT_AFTER_COMPENSATION => no_fault!(faults::COMMIT_AFTER_COMPENSATION),
    CAN_END => |session, state| !session.dead.contains(&state.hash),
    ALL_OR_COMPENSATED => all_or_compensated,
    faults::TROUBLE => no_fault!(faults::TROUBLE),
    ONE_OUTCOME => |_, state| one_outcome(state),
    RECEIVED_WAS_SAID => |_, state| received_was_said(state),
    faults::UNDURABLE_ACKNOWLEDGEMENT => no_fault!(faults::UNDURABLE_ACKNOWLEDGEMENT),
    faults::NO_INTENT => no_fault!(faults::NO_INTENT),
    ONE_BATCH => |_, state| one_batch(state),
    TOLD_ABORT => |_, state| !(state.told_abort && outcomes(state).any(|outcome| *outcome == Outcome::Finished)),
    faults::BAD_COMPENSATION => no_fault!(faults::BAD_COMPENSATION),
    faults::OUT_OF_ORDER => no_fault!(faults::OUT_OF_ORDER),
    faults::EARLY_CLOSE => no_fault!(faults::EARLY_CLOSE),
    CLOSED_STAYS_CLOSED => |_, state| closed_stays_closed(state),
    SAME_BYTES => |_, state| same_bytes(state),
    faults::STOPPED => no_fault!(faults::STOPPED),
    faults::INVITED => no_fault!(faults::INVITED),
    SAGA_ALIKE => saga_alike,
    BEGUN_IS_KNOWN => |_, state| begun_is_known(state),
}

fn outcomes(state: &State) -> impl Iterator<Item = &Outcome> {
    state.seats.iter().filter_map(|seat| Some(&seat.stored.closed.as_ref()?.outcome))
}

fn ends(state: &State, finished: bool) -> bool {
    state.all_closed() && outcomes(state).all(|outcome| (*outcome == Outcome::Finished) == finished)
}

fn is_kept(entry: &Entry) -> bool {
    entry.committed > 0 && entry.undone == 0
}

fn all_or_compensated(session: &Session, state: &State) -> bool {
    let in_saga = |path: &Path| session.play.saga.as_ref().is_some_and(|saga| path.is_in(saga));
    state.seats.iter().enumerate().all(|(role, seat)| {
        let Some(closed) = &seat.stored.closed else { return true };
        let entries = state.book.iter().filter(|((of, _), _)| *of == role);
        match closed.outcome {
            Outcome::Finished => {
                entries.filter(|((_, path), _)| !in_saga(path)).all(|(_, entry)| is_kept(entry) || entry.committed == 0)
            }
            Outcome::Compensated(_) => entries.into_iter().all(|(_, entry)| !is_kept(entry)),
        }
    })
}

fn saga_alike(session: &Session, state: &State) -> bool {
    let Some(saga) = session.play.saga.as_ref().filter(|_| state.all_closed()) else { return true };
    let entries = state.book.iter().filter(|((_, path), _)| path.is_in(saga));
    let kept = entries.clone().filter(|(_, entry)| is_kept(entry)).count();
    kept == 0 || kept == entries.count()
}

fn one_outcome(state: &State) -> bool {
    let mut outcomes = outcomes(state);
    let Some(first) = outcomes.next() else { return true };
    outcomes.all(|outcome| faults::alike(outcome, first))
}

/// The messages that were said: from whom, to whom, at which path, and what.
fn said(state: &State) -> impl Iterator<Item = (u8, u8, &Path, &accompanist_core::Payload)> {
    state.flights.values().filter_map(|flight| match &flight.frame.body {
        Body::Deliver { path, payload, .. } => Some((flight.frame.from.0, flight.frame.to.0, path, payload)),
        _ => None,
    })
}

fn received_was_said(state: &State) -> bool {
    state.seats.iter().enumerate().all(|(role, seat)| {
        seat.stored.records.iter().all(|record| match record {
            Record::Received { path, from, payload, .. } => {
                said(state).any(|said| said == (from.0, u8::try_from(role).unwrap(), path, payload))
            }
            _ => true,
        })
    })
}

fn same_bytes(state: &State) -> bool {
    let same = |one: (u8, u8, &Path, &accompanist_core::Payload)| {
        said(state).all(|other| (one.0, one.1, one.2) != (other.0, other.1, other.2) || one.3 == other.3)
    };
    said(state).all(same)
}

/// Steps on the built-in state count one up, and down again.
fn one_batch(state: &State) -> bool {
    state.seats.iter().all(|seat| {
        let rows = seat.stored.disk.rows();
        if rows.iter().any(|(_, value)| value.last() != Some(&1)) {
            return false; // It ran twice.
        }
        if let Some(closed) = &seat.stored.closed {
            return rows.is_empty() || closed.outcome == Outcome::Finished;
        }
        let records = &seat.stored.records;
        let count = |kind: fn(&Record) -> bool| records.iter().filter(|record| kind(record)).count();
        if count(|record| matches!(record, Record::Intended { .. })) > 0 {
            return true; // This role's steps are on a service.
        }
        let committed = count(|record| matches!(record, Record::Committed { result: Ok(_), .. }));
        rows.len() + count(|record| matches!(record, Record::Compensated { .. })) == committed
    })
}

fn closed_stays_closed(state: &State) -> bool {
    state.seats.iter().all(|seat| {
        let closed = seat.stored.closed.is_some();
        let left = seat.stored.is_opened || !seat.stored.records.is_empty();
        let awake = seat.closed && seat.life.is_some();
        !(closed && left || awake)
    })
}

fn begun_is_known(state: &State) -> bool {
    !state.never_began() || (state.flights.is_empty() && state.seats.iter().all(|seat| seat.life.is_none()))
}
