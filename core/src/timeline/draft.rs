//! The events of a session before they are ordered: what each record states, and what follows from it.
//!
//! Each draft has a place. The order of places is how events are shown that are not ordered otherwise: along the paths
//! of the program, then the abort, the compensations, the ends. Edges between drafts are in `recorded` and `program`.

use std::collections::BTreeMap;

use super::event::{Arrival, EventKind, ShownValue, Values};
use super::export::{Knowledge, KnownPart, SessionExport, SessionPart};
use super::scopes::{SagaEnd, Scopes, saga_end};
use crate::base::id::{Path, RoleIndex};
use crate::base::message::{Payload, unpack};
use crate::frame::{Header, Operation, Outcome};
use crate::machine::{SagaPaths, Status};
use crate::record::{Record, StepFailure, Task};

/// What an event is a part of, in the order in which these are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    Start,
    Program,
    /// The end of a part that has finished before the session was aborted.
    Finish,
    Abort,
    Compensation,
    /// A signal that the program has not taken.
    Untaken,
    End,
    Closing,
    Closed,
    /// What is so now, and not an event of the past.
    Now,
}

/// What an event is among those of one path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    First,
    Observe,
    Send,
    Receive,
    Intend,
    Commit,
    Trouble,
    Decide,
    Compensate,
    Last,
}

/// Where an event is shown, unless an edge says otherwise.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) stage: Stage,
    pub(super) path: Path,
    pub(super) phase: Phase,
    number: u64,
    role: RoleIndex,
}

/// An event that is not ordered yet.
pub(super) struct Draft {
    pub(super) place: Place,
    pub(super) role: RoleIndex,
    pub(super) path: Option<Path>,
    pub(super) kind: EventKind,
    pub(super) detail: Detail,
}

/// What edges need of an event and nobody else.
pub(super) enum Detail {
    None,
    /// The aborted saga within the session because of which a step was compensated, or is in trouble.
    Saga(Path),
    /// The name and the numbers of the signals that an operation has taken.
    Taken(String, Vec<u64>),
}

/// Returns the events of a session, in the order of their places.
pub(super) fn drafts(export: &SessionExport, parts: &[&SessionPart], scopes: &Scopes, values: Values) -> Vec<Draft> {
    let mut drafts: Vec<Draft> = start(export, parts, values).into_iter().collect();
    for part in parts {
        match part.as_known() {
            Some(known) => PartDrafts::new(part.role, known, scopes, values, &mut drafts).all(),
            None => {
                drafts.push(Draft::now(part.role, EventKind::Missing { reason: missing(part).unwrap_or_default() }))
            }
        }
    }
    drafts.extend(sent(parts));
    drafts.sort_by(|one, other| one.place.cmp(&other.place));
    drafts
}

/// Why nothing is known of a part, if that is so.
pub(super) fn missing(part: &SessionPart) -> Option<String> {
    match &part.knowledge {
        Knowledge::Known(_) => None,
        Knowledge::Unknown => Some("the node does not have the session".into()),
        Knowledge::Away { reason } => Some(format!("the node is away: {reason}")),
    }
}

/// The session's header, as the initiator has it, or else another role.
pub(super) fn header<'a>(parts: &[&'a SessionPart]) -> Option<&'a Header> {
    let headers = || parts.iter().filter_map(|part| Some((part.role, &*part.as_known()?.opened.header)));
    let own = headers().find(|(role, header)| *role == header.initiator);
    own.or_else(|| headers().next()).map(|(_, header)| header)
}

fn start(export: &SessionExport, parts: &[&SessionPart], values: Values) -> Option<Draft> {
    let header = header(parts)?;
    let own = parts.iter().find(|part| part.role == header.initiator).and_then(|part| part.as_known());
    let kind = EventKind::Started {
        choreography: header.choreography.clone(),
        version: header.version,
        attributes: export.attributes.clone(),
        input: own.and_then(|part| part.opened.input.as_ref()).map(|input| ShownValue::of(input, values)),
        started_unix_ms: header.started_unix_ms,
    };
    Some(Draft::new(header.initiator, Stage::Start, Path::root(), Phase::First, kind))
}

/// The messages that were sent, as their receivers' records and their senders' knowledge show.
fn sent(parts: &[&SessionPart]) -> Vec<Draft> {
    let mut known: BTreeMap<(&Path, RoleIndex, RoleIndex), (Option<Operation>, Arrival)> = BTreeMap::new();
    for (part, record) in parts.iter().flat_map(|part| records(part).map(move |record| (part, record))) {
        match record {
            Record::Received { path, from, operation, .. } => {
                known.insert((path, *from, part.role), (Some(*operation), Arrival::Received));
            }
            Record::Passivated(passivated) => {
                for (path, to, _) in &passivated.acknowledged {
                    known.entry((path, part.role, *to)).or_insert((None, Arrival::Acknowledged));
                }
            }
            _ => {}
        }
    }
    for part in parts {
        for (path, to) in part.as_known().iter().flat_map(|known| &known.unacknowledged) {
            known.entry((path, part.role, *to)).or_insert((None, Arrival::Unknown));
        }
    }
    let drafts = known.into_iter().map(|((path, from, to), (operation, arrival))| {
        let kind = EventKind::Sent { to, operation, arrival };
        let draft = Draft::new(from, Stage::Program, path.clone(), Phase::Send, kind).at(path);
        draft.numbered(u64::from(to.0))
    });
    drafts.collect()
}

/// The records of a part, if it is known.
pub(super) fn records(part: &SessionPart) -> impl Iterator<Item = &Record> {
    part.as_known().into_iter().flat_map(|known| &known.records)
}

impl Draft {
    fn new(role: RoleIndex, stage: Stage, path: Path, phase: Phase, kind: EventKind) -> Self {
        Self { place: Place { stage, path, phase, number: 0, role }, role, path: None, kind, detail: Detail::None }
    }

    /// An event that is so now.
    fn now(role: RoleIndex, kind: EventKind) -> Self {
        Self::new(role, Stage::Now, Path::root(), Phase::First, kind)
    }

    fn at(self, path: &Path) -> Self {
        Self { path: Some(path.clone()), ..self }
    }

    fn detailed(self, detail: Detail) -> Self {
        Self { detail, ..self }
    }

    fn numbered(mut self, number: u64) -> Self {
        self.place.number = number;
        self
    }
}

/// Makes the drafts of one role's part.
struct PartDrafts<'a> {
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
    fn new(
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

    fn all(mut self) {
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
        match signals.is_empty() {
            true => self.value(result),
            false => ShownValue { text, bytes: signals.iter().map(|(_, _, payload)| payload.len()).sum() },
        }
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
