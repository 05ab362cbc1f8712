//! The history of a session over all nodes: everything that was ever durable, and everything that was sent.
//!
//! A crash does not remove anything here, and neither does the closing of an instance: the outside world may rely on
//! all of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::disk::{Fact, Seen};
use super::{Verdict, require};
use crate::base::id::{NodeId, Path, RoleIndex, SessionId};
use crate::base::message::Payload;
use crate::base::role_names::{RoleNames, role_name};
use crate::frame::{Header, Outcome};
use crate::record::Record;

/// The result of a step, as it was recorded.
#[derive(Debug, Clone, Copy, Default)]
struct StepFacts {
    intended: bool,
    /// Whether the step has an output, and not a refusal.
    output: bool,
    compensated: bool,
}

/// Everything that a role has had on disk.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(super) struct RoleFacts {
    pub(super) opened: bool,
    pub(super) aborted: bool,
    pub(super) closing: bool,
    /// The latest end, and the kinds of all ends.
    pub(super) end: Option<Outcome>,
    pub(super) finished: bool,
    pub(super) compensated: bool,
    pub(super) closed: Option<Outcome>,
    pub(super) received: BTreeSet<(Path, RoleIndex)>,
    pub(super) observed: BTreeSet<Path>,
    turns_over: BTreeMap<Path, u32>,
    steps: BTreeMap<Path, StepFacts>,
}

/// A message of a program, as it was sent.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) payload: Payload,
    pub(super) acked: bool,
}

/// The effects that a service was made to have under one key.
#[derive(Debug, Default)]
pub(super) struct Effect {
    pub(super) committed: u32,
    pub(super) compensated: u32,
}

/// The facts about a session. See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Facts {
    pub(super) header: Option<Arc<Header>>,
    pub(super) roles: BTreeMap<RoleIndex, RoleFacts>,
    /// The messages by path, sender and receiver.
    pub(super) messages: BTreeMap<(Path, RoleIndex, RoleIndex), Message>,
    /// The sent aborts, by sender and receiver, and whether they are acknowledged.
    pub(super) aborts: BTreeMap<(RoleIndex, RoleIndex), bool>,
    pub(super) effects: BTreeMap<Path, Effect>,
}

pub(super) fn are_alike(one: &Outcome, other: &Outcome) -> bool {
    std::mem::discriminant(one) == std::mem::discriminant(other)
}

/// Adds facts that have just become durable.
pub(super) fn learn(sessions: &mut BTreeMap<SessionId, Facts>, facts: &[Fact]) {
    for fact in facts {
        let Some(id) = fact.instance() else { continue };
        let session = sessions.entry(id.session).or_default();
        let role = session.roles.entry(id.role).or_default();
        match fact {
            Fact::Opened(_, Some(opened)) => {
                session.header.get_or_insert_with(|| opened.header.clone());
                role.opened = true;
            }
            Fact::Closed(_, Some(closed)) => {
                role.end = Some(closed.outcome.clone());
                role.closed = Some(closed.outcome.clone());
            }
            Fact::Record(_, _, Some(record)) => role.learn(record),
            _ => {}
        }
    }
}

impl RoleFacts {
    fn learn(&mut self, record: &Record) {
        match record {
            Record::Received { path, from, .. } => {
                self.received.insert((path.clone(), *from));
            }
            Record::Observed { path, .. } => {
                self.observed.insert(path.clone());
            }
            Record::Intended { path, .. } => self.steps.entry(path.clone()).or_default().intended = true,
            Record::Committed { path, result, .. } => {
                self.steps.entry(path.clone()).or_default().output = result.is_ok();
            }
            Record::Compensated { path } => self.steps.entry(path.clone()).or_default().compensated = true,
            Record::Aborted { .. } => self.aborted = true,
            Record::Closing => self.closing = true,
            Record::Ended { outcome, .. } => {
                self.end = Some(outcome.clone());
                self.finished |= *outcome == Outcome::Finished;
                self.compensated |= *outcome != Outcome::Finished;
            }
            Record::Checkpoint { path, turn, .. } => {
                let turns = self.turns_over.entry(path.clone()).or_default();
                *turns = (*turns).max(*turn);
            }
            _ => {}
        }
    }

    pub(super) fn has_step(&self, path: &Path) -> bool {
        self.steps.contains_key(path)
    }

    /// Whether an end of this kind was durable.
    pub(super) fn has_ended(&self, outcome: &Outcome) -> bool {
        let recorded = if *outcome == Outcome::Finished { self.finished } else { self.compensated };
        recorded || self.closed.as_ref().is_some_and(|closed| are_alike(closed, outcome))
    }

    /// Whether the turn of a loop that contains `path` has ended at this role.
    pub(super) fn is_over(&self, path: &Path) -> bool {
        is_over(self.turns_over.iter().map(|(path, turn)| (path, *turn)), path)
    }
}

pub(super) fn is_over<'a>(mut turns_over: impl Iterator<Item = (&'a Path, u32)>, path: &Path) -> bool {
    turns_over.any(|(scope, turns)| path.counter_in(scope).is_some_and(|turn| turn < turns))
}

impl Facts {
    pub(super) fn is_intended(&self, path: &Path) -> bool {
        self.roles.values().any(|role| role.steps.get(path).is_some_and(|step| step.intended))
    }

    pub(super) fn has_output(&self, path: &Path) -> bool {
        self.roles.values().any(|role| role.steps.get(path).is_some_and(|step| step.output))
    }

    /// Whether a step stays on an aborted session, because its turn has ended at some role, and so for all.
    pub(super) fn is_final(&self, seen: &Seen, path: &Path) -> bool {
        self.roles.values().any(|role| role.is_over(path)) || is_over(seen.turns_over(), path)
    }

    /// The roles of the cast whose latest durable end is not of this kind.
    pub(super) fn not_ended_as(&self, outcome: &Outcome) -> Vec<RoleIndex> {
        let roles = self.header.iter().flat_map(|header| header.roles());
        let unlike = |role: &RoleIndex| {
            let end = self.roles.get(role).and_then(|facts| facts.end.as_ref());
            !end.is_some_and(|end| are_alike(end, outcome))
        };
        roles.filter(unlike).collect()
    }

    /// A role that has closed according to its disk, if there is one.
    pub(super) fn closed_at(&self) -> Option<RoleIndex> {
        self.roles.iter().find(|(_, role)| role.closed.is_some()).map(|(role, _)| *role)
    }

    pub(super) fn ended(&self, session: SessionId, names: RoleNames) -> Verdict {
        let Some(header) = &self.header else { return Ok(()) };
        let mut outcomes = Vec::new();
        for role in header.roles() {
            let closed = self.roles.get(&role).and_then(|facts| facts.closed.as_ref());
            require(closed.is_some(), 3, || {
                let node = header.node_of(role).map(NodeId::as_str).unwrap_or_default();
                format!("session {session} never ended at role {} on node `{node}`", role_name(names, role))
            })?;
            outcomes.extend(closed);
        }
        let first = outcomes.first();
        let alike = outcomes.iter().all(|outcome| first.is_some_and(|first| are_alike(first, outcome)));
        require(alike, 4, || format!("{session} has ended in two ways: {outcomes:?}"))?;
        for (path, effect) in &self.effects {
            let step = self.roles.values().find_map(|role| role.steps.get(path)).copied().unwrap_or_default();
            require(step.output || effect.committed == effect.compensated, 3, || {
                format!("{session}/{path} was carried out by its service, and neither recorded nor compensated")
            })?;
            require(!step.compensated || effect.compensated > 0 || !step.output, 3, || {
                format!("{session}/{path} is recorded as compensated, and its service knows nothing of that")
            })?;
        }
        Ok(())
    }
}
