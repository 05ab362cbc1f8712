//! Edges that follow from what records state, whatever the program is.
//!
//! | event | comes after |
//! |---|---|
//! | a message is received | it was sent |
//! | a step is committed, or cannot be | it was intended |
//! | a step is committed | the step that its role committed before it |
//! | a step is compensated | it was committed, or intended; the abort, as its role knows it |
//! | a vote against a saga is sent | the role has recorded it |
//! | a saga is committed | the votes for it |
//! | a signal is taken | it arrived |
//! | a signal arrived | the signal that arrived before it |
//! | another role knows of the abort | the one role that has decided it |
//! | a part ends | all that its role did; the abort, unless it had finished before |
//! | the session closes | all roles have ended in the same way |
//!
//! Each leads to a later place ([`Place`](super::draft::Place)), except those between numbers of one role. So they have
//! no cycle, and those between numbers have none in the records of a session that nodes have run.

use std::collections::BTreeMap;

use super::draft::{Detail, Draft, Stage};
use super::event::EventKind;
use super::order::{Bond, Edge};
use super::scopes::saga_voted_at;
use crate::base::abort::Abort;
use crate::base::id::{Path, RoleIndex};
use crate::frame::Outcome;
use crate::machine::SagaPaths;

/// The events of one role, by what edges need them for.
#[derive(Default)]
struct RoleEvents<'a> {
    sent: BTreeMap<(&'a Path, RoleIndex), usize>,
    received: Vec<(usize, &'a Path, RoleIndex)>,
    intended: BTreeMap<&'a Path, usize>,
    committed: BTreeMap<&'a Path, usize>,
    /// The commits, by their numbers.
    commits: BTreeMap<u32, usize>,
    signals: BTreeMap<u64, (&'a str, usize)>,
    /// The votes against sagas, and the decisions on them, by the saga's path.
    voted: BTreeMap<Path, usize>,
    decided: BTreeMap<&'a Path, (usize, Option<&'a Abort>)>,
    aborted: Option<(usize, &'a Abort, bool)>,
    is_terminated: bool,
    ended: Option<(usize, &'a Outcome)>,
    /// The compensations, and the troubles with them.
    undone: Vec<(usize, &'a Draft)>,
    /// The operations that have taken signals, with the signals' name and numbers.
    taken: Vec<(usize, &'a str, &'a [u64])>,
    all: Vec<(usize, &'a Draft)>,
    closing: Option<usize>,
    closed: Option<usize>,
}

impl<'a> RoleEvents<'a> {
    fn note(&mut self, event: usize, draft: &'a Draft) {
        self.all.push((event, draft));
        match (&draft.detail, &draft.path) {
            (Detail::Saga(_), _) => self.undone.push((event, draft)),
            (Detail::Taken(name, numbers), _) => self.taken.push((event, name, numbers)),
            _ if draft.place.stage == Stage::Compensation && draft.path.is_some() => self.undone.push((event, draft)),
            _ => {}
        }
        match (&draft.kind, &draft.path) {
            (EventKind::Sent { to, .. }, Some(path)) => drop(self.sent.insert((path, *to), event)),
            (EventKind::Received { from, .. }, Some(path)) => self.received.push((event, path, *from)),
            (EventKind::Intended { .. }, Some(path)) => drop(self.intended.insert(path, event)),
            (EventKind::Committed { order, .. }, Some(path)) => {
                self.committed.insert(path, event);
                self.commits.insert(*order, event);
            }
            (EventKind::Signalled { number, name, .. }, _) => drop(self.signals.insert(*number, (name, event))),
            (EventKind::Voted { .. }, Some(path)) => {
                self.voted.extend(saga_voted_at(path).map(|saga| (saga, event)));
            }
            (EventKind::Decided { abort }, Some(path)) => {
                self.decided.insert(path, (event, abort.as_ref()));
            }
            (EventKind::Aborted { abort, own }, _) => self.aborted = Some((event, abort, *own)),
            (EventKind::Terminated, _) => self.is_terminated = true,
            (EventKind::Ended { outcome, .. }, _) => self.ended = Some((event, outcome)),
            (EventKind::Closing, _) => self.closing = Some(event),
            (EventKind::Closed, _) => self.closed = Some(event),
            _ => {}
        }
    }
}

/// Adds the edges. `is_whole` says that the parts of all roles are known.
pub(super) fn edges(drafts: &[Draft], is_whole: bool, edges: &mut Vec<Edge>) {
    let mut roles: BTreeMap<RoleIndex, RoleEvents<'_>> = BTreeMap::new();
    for (event, draft) in drafts.iter().enumerate() {
        roles.entry(draft.role).or_default().note(event, draft);
    }
    let mut add = Edges(edges);
    for (role, own) in &roles {
        messages(*role, own, &roles, &mut add);
        steps(own, &mut add);
        compensations(own, &mut add);
        sagas(own, &mut add);
        signals(own, &mut add);
        end(own, &mut add);
    }
    aborts(&roles, is_whole, &mut add);
    closes(&roles, &mut add);
}

struct Edges<'a>(&'a mut Vec<Edge>);

impl Edges<'_> {
    /// Adds an edge from each event to `to`.
    fn recorded(&mut self, from: impl IntoIterator<Item = usize>, to: usize) {
        self.0.extend(from.into_iter().map(|from| Edge { from, to, bond: Bond::Recorded }));
    }

    /// Adds edges from each event to the next.
    fn sequence(&mut self, events: impl Iterator<Item = usize> + Clone) {
        let pairs = events.clone().zip(events.skip(1));
        self.0.extend(pairs.map(|(from, to)| Edge { from, to, bond: Bond::Sequence }));
    }
}

fn messages(role: RoleIndex, own: &RoleEvents<'_>, roles: &BTreeMap<RoleIndex, RoleEvents<'_>>, edges: &mut Edges<'_>) {
    for (received, path, from) in &own.received {
        let sent = roles.get(from).and_then(|sender| sender.sent.get(&(*path, role)));
        edges.recorded(sent.copied(), *received);
    }
}

fn steps(own: &RoleEvents<'_>, edges: &mut Edges<'_>) {
    for (path, committed) in &own.committed {
        edges.recorded(own.intended.get(path).copied(), *committed);
    }
    edges.sequence(own.commits.values().copied());
}

fn compensations(own: &RoleEvents<'_>, edges: &mut Edges<'_>) {
    for (event, draft) in &own.undone {
        let step = draft.path.as_ref().and_then(|path| own.committed.get(path).or_else(|| own.intended.get(path)));
        edges.recorded(step.copied(), *event);
        let cause = match &draft.detail {
            Detail::Saga(saga) => own.known_abort(saga),
            // An operator who terminates a part counts its steps as compensated without any abort.
            _ => own.aborted.filter(|_| !own.is_terminated).map(|(aborted, ..)| aborted),
        };
        edges.recorded(cause, *event);
    }
}

impl RoleEvents<'_> {
    /// The event with which the role learned that the saga is aborted, if that is certain: its own vote or decision, or
    /// else the verdict. A verdict may arrive after an abort of the session for which the step was compensated.
    fn known_abort(&self, saga: &Path) -> Option<usize> {
        let own = || self.decided.get(saga).map(|(decided, _)| *decided);
        let verdict = || {
            let mut received = self.received.iter().filter(|_| self.aborted.is_none());
            let path = SagaPaths::of(saga.clone()).verdict;
            received.find(|(_, at, _)| **at == path).map(|(received, ..)| *received)
        };
        self.voted.get(saga).copied().or_else(own).or_else(verdict)
    }
}

fn sagas(own: &RoleEvents<'_>, edges: &mut Edges<'_>) {
    for (saga, voted) in &own.voted {
        let path = SagaPaths::of(saga.clone()).vote;
        let sent = own.sent.iter().filter(|((at, _), _)| **at == path);
        sent.for_each(|(_, sent)| edges.recorded([*voted], *sent));
    }
    // A decision against a saga may have its reason from the own part of the saga, even if a vote has the same reason.
    for (saga, (decided, _)) in own.decided.iter().filter(|(_, (_, abort))| abort.is_none()) {
        let path = SagaPaths::of((*saga).clone()).vote;
        let votes = own.received.iter().filter(|(_, at, _)| **at == path);
        edges.recorded(votes.map(|(vote, ..)| *vote), *decided);
    }
}

fn signals(own: &RoleEvents<'_>, edges: &mut Edges<'_>) {
    edges.sequence(own.signals.values().map(|(_, event)| *event));
    for (taken, name, numbers) in &own.taken {
        let arrived = numbers.iter().filter_map(|number| own.signals.get(number));
        let arrived = arrived.filter(|(of, _)| of == name);
        edges.recorded(arrived.map(|(_, arrived)| *arrived), *taken);
    }
}

/// An aborted part that has ended as finished did so before the abort.
fn end(own: &RoleEvents<'_>, edges: &mut Edges<'_>) {
    let Some((ended, outcome)) = own.ended else { return };
    let is_compensated = matches!(outcome, Outcome::Compensated(_));
    let precedes = |draft: &Draft| match &draft.kind {
        EventKind::Sent { .. }
        | EventKind::Intended { .. }
        | EventKind::Committed { .. }
        | EventKind::Decided { .. }
        | EventKind::Voted { .. } => true,
        EventKind::Compensated { .. } => is_compensated || matches!(draft.detail, Detail::Saga(_)),
        EventKind::Aborted { .. } => is_compensated,
        _ => false,
    };
    edges.recorded(own.all.iter().filter(|(_, draft)| precedes(draft)).map(|(event, _)| *event), ended);
    if let (Some((aborted, ..)), false) = (own.aborted, is_compensated) {
        edges.recorded([ended], aborted);
    }
}

/// Only if all parts are known, and one role alone has decided, the others have learned of the abort from it.
fn aborts(roles: &BTreeMap<RoleIndex, RoleEvents<'_>>, is_whole: bool, edges: &mut Edges<'_>) {
    let aborted = || roles.values().filter_map(|role| role.aborted).filter(|_| is_whole);
    let own: Vec<_> = aborted().filter(|(_, _, own)| *own).collect();
    let [(decided, reason, _)] = own[..] else { return };
    let others = aborted().filter(|(_, abort, own)| !own && *abort == reason);
    others.for_each(|(learned, ..)| edges.recorded([decided], learned));
}

/// The initiator closes after all have ended in the same way, and the others after it.
fn closes(roles: &BTreeMap<RoleIndex, RoleEvents<'_>>, edges: &mut Edges<'_>) {
    let closing = roles.values().find_map(|role| Some((role.closing?, role.ended?.1)));
    let ended = |alike: &Outcome| {
        let ended = roles.values().filter_map(|role| role.ended).filter(|(_, outcome)| *outcome == alike);
        ended.map(|(ended, _)| ended).collect::<Vec<_>>()
    };
    if let Some((closing, outcome)) = closing {
        edges.recorded(ended(outcome), closing);
    }
    for role in roles.values() {
        let Some(closed) = role.closed else { continue };
        match (closing, role.ended) {
            (Some((closing, _)), _) => edges.recorded([closing], closed),
            (None, Some((_, outcome))) => edges.recorded(ended(outcome), closed),
            (None, None) => {}
        }
    }
}
