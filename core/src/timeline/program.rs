//! Edges between the events of one role, out of the order in which its program calls operations.
//!
//! Within a scope the program calls its operations in the order of their counters. So what an operation did comes
//! before what a later one in the same scope does, or in a scope within it. What is in an inner scope comes before what
//! follows that scope only if the inner one is known to be a saga or a loop, since any other may be a fork.
//!
//! A message may arrive long before the program takes it, so it comes after nothing that its receiver did, and before
//! what its receiver calls after the operation that takes it. Where the program may go on without a message (an aborted
//! saga, a time limit), the message comes before nothing either.

use std::mem;

use super::draft::{Draft, Stage};
use super::event::EventKind;
use super::order::{Bond, Edge};
use super::scopes::{Scopes, saga_voted_at};
use crate::base::id::{Path, RoleIndex};
use crate::machine::TURN_VOTE;

/// The depth of paths up to which the order of a program is followed.
const DEPTH_MAX: usize = 256;
/// The number of events that may be directly before another one. Of more, the latest count, so that hostile records do
/// not make the edges outgrow the events. A role family has 64 members.
const FRONTIER_MAX: usize = 128;

/// How an event of an operation stands to the program.
enum Stand {
    /// The operation was called after what precedes it in its scope.
    Called,
    /// As `Called`, and all that its scope contains has ended: the vote of a saga, or of a turn.
    Ends,
    /// It may happen while the scope still runs: a vote against a saga.
    Early,
    /// It comes after nothing of its own role.
    Apart,
    /// As `Apart`: the arrival of a message.
    Message,
}

/// An event that is before others.
#[derive(Clone, Copy)]
struct Latest {
    event: usize,
    is_message: bool,
}

/// A scope, while the events in it are gone through.
#[derive(Default)]
struct Frame {
    is_sequential: bool,
    is_aborted_body: bool,
    /// The latest events that come before whatever is called next in the scope.
    frontier: Vec<Latest>,
    /// The latest events that may go on beside it.
    loose: Vec<Latest>,
    /// Whether the frontier comes after those of the scopes around this one.
    is_anchored: bool,
}

struct Sweep<'a> {
    scopes: &'a Scopes,
    /// The path of the innermost scope.
    scope: Vec<u32>,
    /// The scopes, from the outermost to the innermost.
    frames: Vec<Frame>,
    edges: &'a mut Vec<Edge>,
}

/// Adds the edges between the events of `role`.
pub(super) fn edges(drafts: &[Draft], role: RoleIndex, scopes: &Scopes, edges: &mut Vec<Edge>) {
    let own = drafts.iter().enumerate().filter(|(_, draft)| draft.role == role && is_of_program(draft));
    let own: Vec<(usize, &Draft)> = own.collect();
    let mut sweep = Sweep { scopes, scope: Vec::new(), frames: vec![Frame::default()], edges };
    for operation in own.chunk_by(|(_, one), (_, other)| one.place.path == other.place.path) {
        sweep.operation(operation);
    }
}

fn is_of_program(draft: &Draft) -> bool {
    draft.place.stage == Stage::Program && (1..=DEPTH_MAX).contains(&draft.place.path.depth())
}

impl Sweep<'_> {
    /// Goes through the events of the operation at one path, in the order of their phases.
    fn operation(&mut self, events: &[(usize, &Draft)]) {
        let Some((_, first)) = events.first() else { return };
        let path = &first.place.path;
        let Some((_, scope)) = path.counters().split_last() else { return };
        self.enter(scope);
        let is = |kind: fn(&EventKind) -> bool| {
            let events = events.iter().filter(move |(_, draft)| kind(&draft.kind));
            events.map(|(event, _)| *event).collect::<Vec<_>>()
        };
        self.add(&Stand::Early, &is(|kind| matches!(kind, EventKind::Voted { .. })));
        self.add(&Stand::Called, &is(|kind| matches!(kind, EventKind::Observed { .. } | EventKind::Checkpoint { .. })));
        let sends = if is_vote(path, self.scopes) { Stand::Ends } else { Stand::Called };
        self.add(&sends, &is(|kind| matches!(kind, EventKind::Sent { .. })));
        if !self.scopes.may_go_on_without(path) {
            self.add(&Stand::Message, &is(|kind| matches!(kind, EventKind::Received { .. })));
        }
        self.add(&Stand::Called, &is(|kind| matches!(kind, EventKind::Intended { .. })));
        self.commit(&is(|kind| matches!(kind, EventKind::Committed { .. })), events);
        self.add(&Stand::Early, &is(|kind| matches!(kind, EventKind::Decided { abort: Some(_) })));
        self.add(&Stand::Ends, &is(|kind| matches!(kind, EventKind::Decided { abort: None })));
        self.add(&Stand::Apart, &is(|kind| matches!(kind, EventKind::Compensated { .. })));
    }

    /// The result of a step takes the place of its intent, which it comes after. A built-in step has no intent.
    fn commit(&mut self, committed: &[usize], events: &[(usize, &Draft)]) {
        let is_intended = events.iter().any(|(_, draft)| matches!(draft.kind, EventKind::Intended { .. }));
        match self.frames.last_mut() {
            Some(frame) if is_intended && !committed.is_empty() => frame.frontier = latest(committed, false),
            _ => self.add(&Stand::Called, committed),
        }
    }

    fn add(&mut self, stand: &Stand, events: &[usize]) {
        if events.is_empty() {
            return;
        }
        let before = match stand {
            Stand::Apart | Stand::Message => Vec::new(),
            Stand::Early => self.before(1),
            Stand::Called => self.before(0),
            Stand::Ends => {
                let loose = self.frames.last_mut().map(|frame| mem::take(&mut frame.loose)).unwrap_or_default();
                let mut before = self.before(0);
                extend(&mut before, loose);
                before
            }
        };
        for Latest { event: from, .. } in before {
            self.edges.extend(events.iter().map(|to| Edge { from, to: *to, bond: Bond::Program }));
        }
        let Some(frame) = self.frames.last_mut() else { return };
        match stand {
            Stand::Apart | Stand::Early => extend(&mut frame.frontier, latest(events, false)),
            Stand::Message => extend(&mut frame.frontier, latest(events, true)),
            Stand::Called | Stand::Ends => {
                frame.frontier = latest(events, false);
                frame.is_anchored = true;
            }
        }
    }

    /// The latest events before whatever is called next, without those in the innermost `skipped` scopes.
    fn before(&self, skipped: usize) -> Vec<Latest> {
        let mut before = Vec::new();
        for frame in self.frames.iter().rev().skip(skipped) {
            before.splice(0..0, frame.frontier.iter().copied());
            if frame.is_anchored || before.len() > FRONTIER_MAX {
                break;
            }
        }
        extend(&mut before, Vec::new());
        before
    }

    /// Leaves the scopes that do not contain `scope`, and enters those that lead to it.
    fn enter(&mut self, scope: &[u32]) {
        let common = self.scope.iter().zip(scope).take_while(|(one, other)| one == other).count();
        while self.scope.len() > common {
            self.leave();
        }
        for counter in scope.iter().skip(common) {
            self.scope.push(*counter);
            let is_sequential = self.scopes.is_sequential(&self.scope);
            let is_aborted_body = self.scopes.is_aborted_body(&self.scope);
            self.frames.push(Frame { is_sequential, is_aborted_body, ..Frame::default() });
        }
    }

    fn leave(&mut self) {
        self.scope.pop();
        let (Some(mut inner), Some(outer)) = (self.frames.pop(), self.frames.last_mut()) else { return };
        if inner.is_aborted_body {
            inner.frontier.retain(|latest| !latest.is_message);
            inner.loose.retain(|latest| !latest.is_message);
        }
        let into = if inner.is_sequential { &mut outer.frontier } else { &mut outer.loose };
        extend(into, inner.frontier);
        extend(into, inner.loose);
    }
}

fn latest(events: &[usize], is_message: bool) -> Vec<Latest> {
    events.iter().map(|event| Latest { event: *event, is_message }).collect()
}

/// Adds the latest events. Of too many, the first are left out.
fn extend(events: &mut Vec<Latest>, later: Vec<Latest>) {
    events.extend(later);
    let surplus = events.len().saturating_sub(FRONTIER_MAX);
    events.drain(..surplus);
}

/// Whether this is the path of the votes of a saga, or of a turn of a loop.
fn is_vote(path: &Path, scopes: &Scopes) -> bool {
    let of_saga = || saga_voted_at(path).is_some_and(|saga| scopes.is_saga(saga.counters()));
    path.counters().last() == Some(&TURN_VOTE) || of_saga()
}
