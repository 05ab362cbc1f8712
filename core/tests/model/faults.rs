//! What a role does that it must not, seen when it does it. Each is named after its number in `docs/invariants.md`.

use accompanist_core::frame::{Body, Outcome, Receipt};
use accompanist_core::machine::Effects;
use accompanist_core::record::Record;

use crate::service::{Call, Task};
use crate::state::{State, Stored};

pub const COMMIT_AFTER_COMPENSATION: &str = "2: no commit comes after its compensation";
pub const TROUBLE: &str = "3: no step needs an operator";
pub const UNDURABLE_ACKNOWLEDGEMENT: &str = "9: what is acknowledged is durable";
pub const NO_INTENT: &str = "10: a commit's intent is durable before it starts";
pub const BAD_COMPENSATION: &str = "17: what is compensated is durably committed, and aborted";
pub const OUT_OF_ORDER: &str = "18: the latest step is compensated first";
pub const EARLY_CLOSE: &str = "20: a close leaves once all have durably ended alike, and that is durable";
pub const STOPPED: &str = "22 to 24: no role diverges";
pub const INVITED: &str = "34: nobody invites the closed";

/// What a disk knows of the role's end.
fn ended(stored: &Stored) -> Option<&Outcome> {
    let ended = stored.records.iter().find_map(|record| match record {
        Record::Ended { outcome, .. } => Some(outcome),
        _ => None,
    });
    stored.closed.as_ref().map(|closed| &closed.outcome).or(ended)
}

pub fn alike(one: &Outcome, other: &Outcome) -> bool {
    std::mem::discriminant(one) == std::mem::discriminant(other)
}

/// What `role` wants done, seen before it is.
pub fn of_effects(state: &mut State, role: usize, effects: &Effects) {
    let mut faults = Vec::new();
    if effects.stopped.is_some() {
        faults.push(STOPPED);
    }
    if effects.troubles.as_ref().is_some_and(|troubles| !troubles.is_empty()) {
        faults.push(TROUBLE);
    }
    let closed = state.seats.iter().any(|seat| seat.closed || seat.stored.closed.is_some());
    for outgoing in &effects.frames {
        // An answer begins nothing.
        let may_begin = outgoing.frame.header.is_some() || outgoing.key.is_acknowledged();
        match &outgoing.frame.body {
            Body::Deliver { .. } | Body::Nudge(_) | Body::Abort(_) if closed && may_begin => faults.push(INVITED),
            Body::Close(outcome) => {
                let closing = |record: &Record| matches!(record, Record::Closing);
                let is_written = state.seats[role].stored.records.iter().any(closing);
                let all = state.seats.iter().all(|seat| ended(&seat.stored).is_some_and(|end| alike(end, outcome)));
                if !is_written || !all {
                    faults.push(EARLY_CLOSE);
                }
            }
            _ => {}
        }
    }
    state.faults.extend(faults);
}

/// Which calls of `role` are new, besides the `known` ones.
pub fn of_calls(state: &mut State, role: usize, known: &[Call]) {
    let seat = &state.seats[role];
    let new: Vec<Call> = seat.shape.calls.iter().filter(|call| !known.contains(call)).cloned().collect();
    if new.is_empty() {
        return;
    }
    let stored = seat.stored.clone();
    let records = &stored.records;
    for Call { task, path, .. } in new {
        let intended = |record: &Record| matches!(record, Record::Intended { path: of, .. } if *of == path);
        let committed =
            |record: &Record| matches!(record, Record::Committed { path: of, result: Ok(_), .. } if *of == path);
        let aborted = |record: &Record| match record {
            Record::Aborted { .. } => true,
            // A saga's verdict, at the role that decides it or at another one.
            Record::Observed { name, .. } => name == "saga" || name == "vote",
            Record::Received { operation, .. } => *operation == accompanist_core::frame::Operation::Verdict,
            _ => false,
        };
        match task {
            Task::Commit if !records.iter().any(intended) => state.faults.insert(NO_INTENT),
            Task::Compensate if !(records.iter().any(committed) && records.iter().any(aborted)) => {
                state.faults.insert(BAD_COMPENSATION)
            }
            _ => false,
        };
    }
}

/// What the service of `role` is about to do.
pub fn of_answer(state: &mut State, role: usize, call: &Call) {
    let Some(own) = state.book.get(&(role, call.path.clone())) else { return };
    let scope = call.path.scopes().next();
    let later = state.book.iter().any(|((of, path), entry)| {
        let in_place = *of == role && path.scopes().next() == scope;
        in_place && entry.committed > 0 && entry.undone == 0 && entry.place > own.place
    });
    match call.task {
        Task::Commit if own.undone > 0 => state.faults.insert(COMMIT_AFTER_COMPENSATION),
        Task::Compensate if later => state.faults.insert(OUT_OF_ORDER),
        _ => false,
    };
}

/// What `role` acknowledges with `receipt`.
pub fn of_acknowledgement(state: &mut State, role: usize, receipt: &Receipt) {
    let Some(flight) = state.flights.get(&receipt.number) else { return };
    let stored = &state.seats[role].stored;
    if stored.closed.is_some() {
        return;
    }
    let records = &stored.records;
    let has = |wanted: &dyn Fn(&Record) -> bool| records.iter().any(wanted);
    let from = flight.frame.from;
    let durable = match &flight.frame.body {
        Body::Deliver { path, .. } => {
            has(&|record| matches!(record, Record::Received { path: at, from: of, .. } if at == path && *of == from))
        }
        Body::Abort(_) => has(&|record| matches!(record, Record::Aborted { .. } | Record::Closing)),
        Body::Close(_) => false,
        // Kept in memory only.
        _ => true,
    };
    if !durable {
        state.faults.insert(UNDURABLE_ACKNOWLEDGEMENT);
    }
}
