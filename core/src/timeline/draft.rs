//! The events of a session before they are ordered: what records state, and what follows from them.
//!
//! Each draft has a place. The order of places is how events are shown that are not ordered otherwise: along the paths
//! of the program, then the abort, the compensations, the ends. Next: `part`, the events of one role's records, and
//! `recorded` and `program`, the edges between drafts.

use std::collections::BTreeMap;

use super::event::{Arrival, EventKind, ShownValue, Values};
use super::export::{Knowledge, SessionExport, SessionPart};
use super::part::PartDrafts;
use super::scopes::Scopes;
use crate::base::id::{Path, RoleIndex};
use crate::frame::{Header, Operation};
use crate::record::Record;

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
                let reason = missing(part).unwrap_or_default();
                drafts.push(Draft::now(part.role, EventKind::Missing { reason }));
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
    pub(super) fn new(role: RoleIndex, stage: Stage, path: Path, phase: Phase, kind: EventKind) -> Self {
        Self { place: Place { stage, path, phase, number: 0, role }, role, path: None, kind, detail: Detail::None }
    }

    /// An event that is so now.
    pub(super) fn now(role: RoleIndex, kind: EventKind) -> Self {
        Self::new(role, Stage::Now, Path::root(), Phase::First, kind)
    }

    pub(super) fn at(self, path: &Path) -> Self {
        Self { path: Some(path.clone()), ..self }
    }

    pub(super) fn detailed(self, detail: Detail) -> Self {
        Self { detail, ..self }
    }

    pub(super) fn numbered(mut self, number: u64) -> Self {
        self.place.number = number;
        self
    }
}
