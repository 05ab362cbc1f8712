//! The events of one role's part: what each of its records states.
//!
//! This module knows no other role's part. Next: `recorded` and `program`, which order the events.

use std::collections::BTreeMap;

use super::draft::{Detail, Draft, Phase, Stage};
use super::event::{EventKind, ShownValue, Values};
use super::export::KnownPart;
use super::scopes::{SagaEnd, Scopes, saga_end};
use crate::base::id::{Path, RoleIndex};
use crate::base::message::{Payload, unpack};
use crate::frame::Outcome;
use crate::machine::{SagaPaths, Status};
use crate::record::{Record, StepFailure, Task};

/// Makes the drafts of one role's part.
pub(super) struct PartDrafts<'a> {
    role: RoleIndex,
    part: &'a KnownPart,
    scopes: &'a Scopes,
    values: Values,
    /// The name of each step, and the position of its commit.
    steps: BTreeMap<&'a Path, (&'a str, Option<u32>)>,
    /// The path of the operation that has taken each signal.
    takers: BTreeMap<(&'a str, u64), &'a Path>,
    drafts: &'a mut Vec<Draft>,
}

impl<'a> PartDrafts<'a> {
    pub(super) fn new(
        role: RoleIndex,
        part: &'a KnownPart,
        scopes: &'a Scopes,
        values: Values,
        drafts: &'a mut Vec<Draft>,
    ) -> Self {
        let (mut steps, mut takers) = (BTreeMap::new(), BTreeMap::new());
        for record in &part.records {
            match record {
                Record::Committed { path, name, order, .. } => {
                    steps.insert(path, (name.as_str(), Some(*order)));
                }
                Record::Intended { path, name, .. } => {
                    steps.entry(path).or_insert((name.as_str(), None));
                }
                Record::Troubled { path, trouble, .. } => {
                    steps.entry(path).or_insert((trouble.step.as_str(), None));
                }
                Record::Observed { path, name, result } => {
                    for (signal, number, _) in taken(name, result) {
                        takers.insert((signal, number), path);
                    }
                }
                _ => {}
            }
        }
        Self { role, part, scopes, values, steps, takers, drafts }
    }

    pub(super) fn all(mut self) {
        for record in &self.part.records {
            if let Some(draft) = self.of_record(record) {
                self.drafts.push(draft);
            }
        }
        let part = self.part;
        if part.status == Status::Closed {
            self.closed();
        }
        if let Some(reason) = &part.stopped {
            self.drafts.push(Draft::now(self.role, EventKind::Stopped { reason: reason.clone() }));
        }
        for (path, what) in &part.waits_for {
            let kind = EventKind::Waits { what: what.clone() };
            self.drafts.push(Draft::new(self.role, Stage::Now, path.clone(), Phase::First, kind).at(path));
        }
    }

    /// The end of a part. Its journal may be gone, so the tombstone may be all that tells of it.
    fn closed(&mut self) {
        let has_ended = self.part.records.iter().any(|record| matches!(record, Record::Ended { .. }));
        if let Some(outcome) = self.part.outcome.clone().filter(|_| !has_ended) {
            let output = self.part.output.as_ref().map(|output| self.value(output));
            let kind = EventKind::Ended { outcome, output };
            self.drafts.push(Draft::new(self.role, Stage::End, Path::root(), Phase::First, kind));
        }
        self.drafts.push(Draft::new(self.role, Stage::Closed, Path::root(), Phase::First, EventKind::Closed));
    }

    fn value(&self, payload: &Payload) -> ShownValue {
        ShownValue::of(payload, self.values)
    }

    /// An event of the program, at the path of its operation.
    fn at(&self, path: &Path, phase: Phase, kind: EventKind) -> Draft {
        Draft::new(self.role, Stage::Program, path.clone(), phase, kind).at(path)
    }

    fn ends(&self, stage: Stage, phase: Phase, kind: EventKind) -> Draft {
        Draft::new(self.role, stage, Path::root(), phase, kind)
    }

    fn of_record(&self, record: &Record) -> Option<Draft> {
        Some(match record {
            Record::Received { path, from, operation, payload } => {
                let kind = EventKind::Received { from: *from, operation: *operation, value: self.value(payload) };
                self.at(path, Phase::Receive, kind).numbered(u64::from(from.0))
            }
            Record::Observed { path, name, result } => self.observed(path, name, result),
            Record::Intended { path, name, .. } => {
                self.at(path, Phase::Intend, EventKind::Intended { step: name.clone() })
            }
            Record::Committed { path, name, order, result, .. } => {
                let result = result.as_ref().map(|output| self.value(output)).map_err(Clone::clone);
                let kind = EventKind::Committed { step: name.clone(), order: *order, result };
                self.at(path, Phase::Commit, kind).numbered(u64::from(*order))
            }
            Record::Compensated { path } => {
                let step = self.steps.get(path).map(|(name, _)| (*name).to_owned());
                self.undone(path, EventKind::Compensated { step })
            }
            Record::Troubled { path, trouble, .. } => self.troubled(path, trouble),
            Record::Checkpoint { path, turn, state } => {
                let kind = EventKind::Checkpoint { turn: *turn, bytes: state.len() };
                let draft = Draft::new(self.role, Stage::Program, path.child(*turn), Phase::First, kind);
                draft.at(path)
            }
            Record::Signalled { number, name, key, payload, .. } => {
                self.signalled(*number, name, key, payload.as_ref())
            }
            Record::Aborted { abort, own } => {
                let phase = if *own { Phase::First } else { Phase::Last };
                self.ends(Stage::Abort, phase, EventKind::Aborted { abort: abort.clone(), own: *own })
            }
            Record::Ended { outcome, output } => {
                let output = output.as_ref().map(|output| self.value(output));
                let is_aborted = self.part.records.iter().any(|record| matches!(record, Record::Aborted { .. }));
                let stage = if is_aborted && *outcome == Outcome::Finished { Stage::Finish } else { Stage::End };
                self.ends(stage, Phase::First, EventKind::Ended { outcome: outcome.clone(), output })
            }
            Record::Quarantined { reason, failures } => {
                let kind = EventKind::Quarantined { reason: reason.clone(), failures: *failures };
                Draft::now(self.role, kind)
            }
            Record::Closing => self.ends(Stage::Closing, Phase::First, EventKind::Closing),
            Record::Terminated => self.ends(Stage::Compensation, Phase::First, EventKind::Terminated),
            Record::Passivated(_) => return None, // Knowledge, and no event.
        })
    }

    fn observed(&self, path: &Path, name: &str, result: &Payload) -> Draft {
        match saga_end(path, name, result) {
            Some(SagaEnd::Voted(_, abort)) => self.at(path, Phase::Observe, EventKind::Voted { abort }),
            // The decision is recorded at the path of the saga, and comes after the votes.
            Some(SagaEnd::Decided(saga, abort)) => {
                let kind = EventKind::Decided { abort };
                let place = SagaPaths::of(saga).vote;
                Draft::new(self.role, Stage::Program, place, Phase::Decide, kind).at(path)
            }
            None => {
                let kind = EventKind::Observed { name: name.to_owned(), value: self.observed_value(name, result) };
                let signals = taken(name, result);
                let signal = signals.first().map(|(signal, ..)| (*signal).to_owned()).unwrap_or_default();
                let numbers = signals.iter().map(|(_, number, _)| *number).collect();
                self.at(path, Phase::Observe, kind).detailed(Detail::Taken(signal, numbers))
            }
        }
    }

    /// The result of an observation. The record of a signal has the signal's number beside the value.
    fn observed_value(&self, name: &str, result: &Payload) -> ShownValue {
        let signals = taken(name, result);
        let texts = signals.iter().map(|(_, _, payload)| self.value(payload).text);
        let text = texts.collect::<Vec<_>>().join(", ");
        if signals.is_empty() {
            return self.value(result);
        }
        ShownValue { text, bytes: signals.iter().map(|(_, _, payload)| payload.len()).sum() }
    }

    fn signalled(&self, number: u64, name: &str, key: &str, payload: Option<&Payload>) -> Draft {
        let value = payload.map(|payload| self.value(payload));
        let kind = EventKind::Signalled { number, name: name.to_owned(), key: key.to_owned(), value };
        let draft = match self.takers.get(&(name, number)) {
            Some(path) => Draft::new(self.role, Stage::Program, (*path).clone(), Phase::First, kind),
            None => self.ends(Stage::Untaken, Phase::First, kind),
        };
        draft.numbered(number)
    }

    fn troubled(&self, path: &Path, failure: &StepFailure) -> Draft {
        let kind = EventKind::Troubled { failure: failure.clone() };
        match failure.task {
            Task::Commit | Task::Record => self.at(path, Phase::Trouble, kind),
            Task::Compensate | Task::FindOut | Task::Reconcile => self.undone(path, kind),
        }
    }

    /// An event of the compensation of a step, because of a saga within the session or of the session itself. Each role
    /// goes backwards along its commits.
    fn undone(&self, path: &Path, kind: EventKind) -> Draft {
        let order = self.steps.get(path).and_then(|(_, order)| *order).unwrap_or_default();
        let number = u64::MAX - u64::from(order);
        let saga = self.scopes.aborted_around(self.role, path);
        let draft = match saga {
            Some(saga) => {
                let place = SagaPaths::of(saga.clone()).verdict;
                Draft::new(self.role, Stage::Program, place, Phase::Compensate, kind)
            }
            None => self.ends(Stage::Compensation, Phase::Compensate, kind),
        };
        draft.at(path).numbered(number).detailed(saga.cloned().map_or(Detail::None, Detail::Saga))
    }
}

/// The signals that the observation `name` has taken: their name, their numbers and their values.
fn taken<'a>(name: &'a str, result: &Payload) -> Vec<(&'a str, u64, Payload)> {
    if let Some(signal) = name.strip_prefix("signal ") {
        let taken = unpack::<(u64, Payload)>(result.as_slice()).ok();
        return taken.into_iter().map(|(number, payload)| (signal, number, payload)).collect();
    }
    let signals = name.strip_prefix("signals ");
    let taken = signals.and_then(|signal| Some((signal, unpack::<Vec<(u64, Payload)>>(result.as_slice()).ok()?)));
    let taken = taken.into_iter().flat_map(|(signal, taken)| taken.into_iter().map(move |taken| (signal, taken)));
    taken.map(|(signal, (number, payload))| (signal, number, payload)).collect()
}
