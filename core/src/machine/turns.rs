//! Loops whose turns are checkpoints: recovery starts at the last checkpoint, and the journal before it is dropped.
//!
//! The steps of a turn can be compensated until the turn has ended for all roles; then they are final. One role, the
//! first of the loop's roles, decides that: it collects a vote of each other role, writes its own checkpoint, and
//! informs them. No role drops a turn's journal before that, so that an abort finds all roles with the same turns to
//! compensate. A role of an aborted session asks the deciding role, whose list is complete once that role knows of
//! the abort, too.

use std::collections::BTreeMap;
use std::task::{Context, Poll};

use super::Machine;
use super::waiting::Waiting;
use crate::contract::{Change, Space};
use crate::frame::{Body, Operation};
use crate::id::{Path, RoleIndex};
use crate::message::Payload;
use crate::record::Record;

/// The operation, in the scope of a turn, with which a role reports that its part of the turn has ended.
pub(crate) const TURN_VOTE: u32 = u32::MAX;

/// The maximum number of changes that a loop accumulates for one write.
const PENDING_CHANGES_MAX: usize = 1_024;

/// The progress of a loop.
#[derive(Default, Hash)]
pub(super) struct Loop {
    /// The role that decides when a turn is final. Known once the program (or its replay) has reached the loop.
    decider: Option<RoleIndex>,
    pub(super) turn: u32,
    state: Option<Payload>,
}

/// The turns that a deciding role has reported as final.
#[derive(Default, Hash)]
pub(super) struct LoopKnowledge {
    finals: BTreeMap<Path, u32>,
    /// Whether the deciding role knew of the abort, so that nothing is added any more.
    complete: bool,
}

impl Machine {
    /// Enters the loop at `path`, which the program has reached. Returns the turn and state to continue from, if
    /// there is a checkpoint.
    pub(crate) fn enter_loop(&mut self, path: &Path, decider: RoleIndex) -> (u32, Option<Payload>) {
        let entry = self.loops.entry(path.clone()).or_default();
        entry.decider = Some(decider);
        (entry.turn, entry.state.clone())
    }

    pub(super) fn restore_loop(&mut self, path: Path, turn: u32, state: Payload) {
        self.loops.insert(path, Loop { decider: None, turn, state: Some(state) });
    }

    /// Waits until the turn has ended for all `members`, as far as this role can know.
    pub(crate) fn poll_turn_over(
        &mut self,
        cx: &Context<'_>,
        path: &Path,
        turn: u32,
        members: &[RoleIndex],
    ) -> Poll<()> {
        if self.is_stopped() || self.is_aborted(path) {
            return Poll::Pending;
        }
        let decider = self.loops.get(path).and_then(|entry| entry.decider).unwrap_or(self.id.role);
        if decider != self.id.role {
            let known = self.heard.get(&decider).and_then(|heard| heard.finals.get(path));
            if known.is_some_and(|finals| *finals > turn) {
                return Poll::Ready(());
            }
            return self.wait(cx, path, Waiting::for_turn_over(decider));
        }
        let vote = path.child(turn).child(TURN_VOTE);
        let missing =
            members.iter().find(|role| **role != decider && !self.mailbox.contains_key(&(vote.clone(), **role)));
        match missing {
            Some(role) => self.wait(cx, &vote, Waiting::for_message(Operation::Vote, *role)),
            // Without this limit, a program that never waits would fill the memory with pending changes.
            None if self.pending.changes.len() >= PENDING_CHANGES_MAX => {
                self.pending.urgent = true;
                self.wait(cx, &vote, Waiting::for_writes())
            }
            None => Poll::Ready(()),
        }
    }

    /// Starts `turn` of the loop with `state`. All earlier turns have ended for all `members`.
    pub(crate) fn checkpoint(&mut self, path: &Path, turn: u32, state: Payload, members: &[RoleIndex]) {
        let over = path.child(turn.saturating_sub(1));
        let keys = self.journal_keys(&over).into_iter();
        self.pending.changes.extend(keys.map(|key| Change { space: Space::Journal, key, value: None }));
        self.forget(&over);
        let record = Record::Checkpoint { path: path.clone(), turn, state: state.clone() };
        let entry = self.loops.entry(path.clone()).or_default();
        (entry.turn, entry.state) = (turn, Some(state));
        if entry.decider != Some(self.id.role) || members.len() < 2 {
            // No other role depends on this checkpoint: if it is lost, the turn is replayed from its journal.
            return self.record(&record, false);
        }
        self.record_result(&record);
        for to in members {
            if *to != self.id.role {
                self.tell_turns(*to);
            }
        }
    }

    /// The keys of all records in `scope`.
    pub(super) fn journal_keys(&self, scope: &Path) -> Vec<Vec<u8>> {
        let at = |path: &Path| path.clone();
        let mail = self.mailbox.range((scope.clone(), RoleIndex(0))..).take_while(|((path, _), _)| path.is_in(scope));
        let mail = mail.map(|((path, from), (operation, payload))| Record::Received {
            path: at(path),
            from: *from,
            operation: *operation,
            payload: payload.clone(),
        });
        let observed = self.observed.range(scope.clone()..).take_while(|(path, _)| path.is_in(scope));
        let observed = observed.map(|(path, observation)| observation.record(path));
        let loops = self.loops.range(scope.clone()..).take_while(|(path, _)| path.is_in(scope));
        let loops = loops.filter_map(|(path, entry)| {
            Some(Record::Checkpoint { path: at(path), turn: entry.turn, state: entry.state.clone()? })
        });
        let steps = self.steps_in(scope).flat_map(|(path, entry)| entry.records(path));
        mail.chain(observed).chain(loops).chain(steps).map(|record| record.key(self.id)).collect()
    }

    /// Removes everything in `scope` from memory.
    fn forget(&mut self, scope: &Path) {
        self.mailbox.retain(|(path, _), _| !path.is_in(scope));
        self.sent.retain(|(path, _), _| !path.is_in(scope));
        self.observed.retain(|path, _| !path.is_in(scope));
        self.steps.retain(|path, _| !path.is_in(scope));
        self.loops.retain(|path, _| !path.is_in(scope));
        self.sagas.retain(|path, _| !path.is_in(scope));
        for heard in self.heard.values_mut() {
            heard.finals.retain(|path, _| !path.is_in(scope));
        }
    }

    /// Sends `to` the final turns of the loops that this role decides.
    pub(super) fn tell_turns(&mut self, to: RoleIndex) {
        let own = self.loops.iter().filter(|(_, entry)| entry.turn > 0);
        let finals = own.map(|(path, entry)| (path.clone(), entry.turn)).collect();
        self.answer(to, Body::Turns { finals, aborted: self.phase.is_aborted() });
    }

    pub(super) fn has_loops(&self) -> bool {
        !self.loops.is_empty()
    }

    pub(super) fn note_turns(&mut self, from: RoleIndex, finals: Vec<(Path, u32)>, aborted: bool) {
        let heard = self.heard.entry(from).or_default();
        if heard.complete {
            return;
        }
        heard.complete = aborted;
        for (path, turns) in finals {
            let known = heard.finals.entry(path).or_default();
            *known = turns.max(*known);
        }
    }

    /// The number of final turns of the loop; `None` while only another role knows it.
    fn finals(&self, path: &Path, entry: &Loop) -> Option<u32> {
        let Some(decider) = entry.decider.filter(|role| *role != self.id.role) else { return Some(entry.turn) };
        let heard = self.heard.get(&decider).filter(|heard| heard.complete)?;
        Some(heard.finals.get(path).copied().unwrap_or_default().max(entry.turn))
    }

    /// The loops around `path`, each with the turn that contains `path`.
    fn loops_around<'a>(&'a self, path: &'a Path) -> impl Iterator<Item = (Path, &'a Loop, u32)> {
        let scopes = path.scopes().filter(|_| !self.loops.is_empty());
        scopes.filter_map(|scope| {
            let (entry, turn) = (self.loops.get(&scope)?, path.counter_in(&scope)?);
            Some((scope, entry, turn))
        })
    }

    /// Whether `path` is in a turn that has ended at this role.
    pub(super) fn is_over(&self, path: &Path) -> bool {
        self.loops_around(path).any(|(_, entry, turn)| turn < entry.turn)
    }

    /// Whether the step at `path` of an aborted session stays, because its turn has ended for all roles.
    pub(super) fn is_final(&self, path: &Path) -> bool {
        self.loops_around(path).any(|(scope, entry, turn)| turn < self.finals(&scope, entry).unwrap_or(entry.turn))
    }

    /// The roles that must first report which turns of an aborted session are final.
    pub(super) fn deciders_in_doubt(&self) -> Vec<RoleIndex> {
        if !self.phase.is_aborted() || self.loops.is_empty() {
            return Vec::new();
        }
        let around = self.steps.keys().flat_map(|path| self.loops_around(path));
        let doubtful = around.filter(|(scope, entry, _)| self.finals(scope, entry).is_none());
        let mut deciders: Vec<RoleIndex> = doubtful.filter_map(|(_, entry, _)| entry.decider).collect();
        deciders.dedup();
        deciders
    }

    pub(super) fn doubts_a_turn(&self) -> bool {
        !self.deciders_in_doubt().is_empty()
    }
}
