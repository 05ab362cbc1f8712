//! Loops whose turns are checkpoints: recovery starts at the last checkpoint, and the journal before it is dropped.
//!
//! The steps of a turn can be compensated until the turn has ended for all roles; then they are final. One role, the
//! first of the loop's roles, decides that: it collects a vote of each other role, writes its own checkpoint, and
//! informs them. No role drops a turn's journal before that, so that an abort finds all roles with the same turns to
//! compensate. A role of an aborted session asks the deciding role, whose list is complete once that role knows of
//! the abort, too.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::task::{Context, Poll};

use super::Machine;
use super::apply::Refusal;
use super::journal::Urgency;
use super::waiting::Waiting;
use crate::base::id::{Path, RoleIndex};
use crate::base::message::Payload;
use crate::contract::{Change, Space};
use crate::frame::{Body, Operation};
use crate::record::Record;

/// The operation, in the scope of a turn, with which a role reports that its part of the turn has ended.
pub(crate) const TURN_VOTE: u32 = u32::MAX;

/// The progress of a loop.
#[derive(Default, Hash)]
struct Loop {
    /// The role that decides when a turn is final. Known once the program (or its replay) has reached the loop.
    decider: Option<RoleIndex>,
    turn: u32,
    state: Option<Payload>,
}

/// The turns that a deciding role has reported as final.
#[derive(Default, Hash)]
struct LoopKnowledge {
    finals: BTreeMap<Path, u32>,
    /// Whether the deciding role knew of the abort, so that nothing is added any more.
    complete: bool,
}

/// The loops that this role takes part in.
pub(super) struct Loops {
    role: RoleIndex,
    entries: BTreeMap<Path, Loop>,
    learned: BTreeMap<RoleIndex, LoopKnowledge>,
}

/// The role is the same in all instances whose hashes are compared.
impl Hash for Loops {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        let Self { role: _, entries, learned } = self;
        (entries, learned).hash(hasher);
    }
}

impl Loops {
    pub(super) fn new(role: RoleIndex) -> Self {
        Self { role, entries: BTreeMap::new(), learned: BTreeMap::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn decider(&self, path: &Path) -> Option<RoleIndex> {
        self.entries.get(path)?.decider
    }

    /// Notes that `turn` begins with `state`.
    pub(super) fn note_turn(&mut self, path: &Path, turn: u32, state: Payload) -> Result<(), Refusal> {
        let entry = self.entries.entry(path.clone()).or_default();
        match &entry.state {
            Some(_) if turn < entry.turn => return Err("a later turn has begun"),
            Some(known) if turn == entry.turn && *known != state => return Err("the turn began with another state"),
            _ => {}
        }
        (entry.turn, entry.state) = (turn, Some(state));
        Ok(())
    }

    /// The number of turns of the loop at `path` that `decider` has reported as final.
    fn reported(&self, path: &Path, decider: RoleIndex) -> Option<u32> {
        self.learned.get(&decider)?.finals.get(path).copied()
    }

    fn note_reported(&mut self, from: RoleIndex, finals: Vec<(Path, u32)>, aborted: bool) {
        let learned = self.learned.entry(from).or_default();
        if learned.complete {
            return;
        }
        learned.complete = aborted;
        for (path, turns) in finals {
            let known = learned.finals.entry(path).or_default();
            *known = turns.max(*known);
        }
    }

    /// The turns of this role's loops that have ended.
    fn own_finals(&self) -> Vec<(Path, u32)> {
        let own = self.entries.iter().filter(|(_, entry)| entry.turn > 0);
        own.map(|(path, entry)| (path.clone(), entry.turn)).collect()
    }

    /// The number of final turns of the loop; `None` while only another role knows it.
    fn finals(&self, path: &Path, entry: &Loop) -> Option<u32> {
        let Some(decider) = entry.decider.filter(|role| *role != self.role) else { return Some(entry.turn) };
        let learned = self.learned.get(&decider).filter(|learned| learned.complete)?;
        Some(learned.finals.get(path).copied().unwrap_or_default().max(entry.turn))
    }

    /// The loops around `path`, each with the turn that contains `path`.
    fn around<'a>(&'a self, path: &'a Path) -> impl Iterator<Item = (Path, &'a Loop, u32)> {
        let scopes = path.scopes().filter(|_| !self.entries.is_empty());
        scopes.filter_map(|scope| {
            let (entry, turn) = (self.entries.get(&scope)?, path.counter_in(&scope)?);
            Some((scope, entry, turn))
        })
    }

    /// Whether `path` is in a turn that has ended at this role.
    pub(super) fn is_over(&self, path: &Path) -> bool {
        self.around(path).any(|(_, entry, turn)| turn < entry.turn)
    }

    /// Whether the step at `path` of an aborted session stays, because its turn has ended for all roles.
    pub(super) fn is_final(&self, path: &Path) -> bool {
        self.around(path).any(|(scope, entry, turn)| turn < self.finals(&scope, entry).unwrap_or(entry.turn))
    }

    /// The roles that must report which of the turns around `paths` are final.
    fn deciders_in_doubt<'a>(&'a self, paths: impl Iterator<Item = &'a Path>) -> Vec<RoleIndex> {
        let around = paths.flat_map(|path| self.around(path));
        let doubtful = around.filter(|(scope, entry, _)| self.finals(scope, entry).is_none());
        let mut deciders: Vec<RoleIndex> = doubtful.filter_map(|(_, entry, _)| entry.decider).collect();
        deciders.dedup();
        deciders
    }

    /// Forgets the loops in `scope`.
    fn forget(&mut self, scope: &Path) {
        self.entries.retain(|path, _| !path.is_in(scope));
        for learned in self.learned.values_mut() {
            learned.finals.retain(|path, _| !path.is_in(scope));
        }
    }

    /// The checkpoints of the loops in `scope`.
    fn records_in<'a>(&'a self, scope: &'a Path) -> impl Iterator<Item = Record> {
        let loops = self.entries.range(scope.clone()..).take_while(|(path, _)| path.is_in(scope));
        loops.filter_map(|(path, Loop { decider: _, turn, state })| {
            Some(Record::Checkpoint { path: path.clone(), turn: *turn, state: state.clone()? })
        })
    }
}

impl Machine {
    /// Enters the loop at `path`, which the program has reached. Returns the turn and state to continue from, if
    /// there is a checkpoint.
    pub(crate) fn enter_loop(&mut self, path: &Path, decider: RoleIndex) -> (u32, Option<Payload>) {
        let entry = self.loops.entries.entry(path.clone()).or_default();
        entry.decider = Some(decider);
        (entry.turn, entry.state.clone())
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
        let decider = self.loops.decider(path).unwrap_or(self.identity.id.role);
        if decider != self.identity.id.role {
            if self.loops.reported(path, decider).is_some_and(|finals| finals > turn) {
                return Poll::Ready(());
            }
            return self.wait(cx, path, Waiting::for_turn_over(decider));
        }
        let vote = path.child(turn).child(TURN_VOTE);
        let lacks_vote = |role: &&RoleIndex| **role != decider && self.inputs.message(&vote, **role).is_none();
        match members.iter().find(lacks_vote) {
            Some(role) => self.wait(cx, &vote, Waiting::for_message(Operation::Vote, *role)),
            None if self.journal.is_crowded() => {
                self.journal.hurry();
                self.wait(cx, &vote, Waiting::for_writes())
            }
            None => Poll::Ready(()),
        }
    }

    /// Starts `turn` of the loop with `state`. All earlier turns have ended for all `members`.
    pub(crate) fn checkpoint(&mut self, path: &Path, turn: u32, state: Payload, members: &[RoleIndex]) {
        let over = path.child(turn.saturating_sub(1));
        let keys = self.journal_keys(&over);
        self.journal.change(keys.into_iter().map(|key| Change { space: Space::Journal, key, value: None }));
        self.forget(&over);
        let record = Record::Checkpoint { path: path.clone(), turn, state };
        if self.loops.decider(path) != Some(self.identity.id.role) || members.len() < 2 {
            // No other role depends on this checkpoint: if it is lost, the turn is replayed from its journal.
            return self.commit(&record, Urgency::Lazy);
        }
        self.commit(&record, Urgency::Result);
        for to in members {
            if *to != self.identity.id.role {
                self.send_turns(*to);
            }
        }
    }

    /// The keys of all records in `scope`.
    pub(super) fn journal_keys(&self, scope: &Path) -> Vec<Vec<u8>> {
        let records = self.inputs.records_in(scope).chain(self.loops.records_in(scope));
        records.chain(self.steps.records_in(scope)).map(|record| record.key(self.identity.id)).collect()
    }

    /// Removes everything in `scope` from memory.
    fn forget(&mut self, scope: &Path) {
        self.inputs.forget(scope);
        self.outbox.forget(scope);
        self.steps.forget(scope);
        self.loops.forget(scope);
        self.sagas.forget(scope);
    }

    /// Sends `to` the final turns of the loops that this role decides.
    pub(super) fn send_turns(&mut self, to: RoleIndex) {
        self.answer(to, Body::Turns { finals: self.loops.own_finals(), aborted: self.phase.is_aborted() });
    }

    pub(super) fn note_turns(&mut self, from: RoleIndex, finals: Vec<(Path, u32)>, aborted: bool) {
        self.loops.note_reported(from, finals, aborted);
    }

    /// The roles that must first report which turns of an aborted session are final.
    pub(super) fn deciders_in_doubt(&self) -> Vec<RoleIndex> {
        if !self.phase.is_aborted() || self.loops.is_empty() {
            return Vec::new();
        }
        self.loops.deciders_in_doubt(self.steps.iter().map(|(path, _)| path))
    }

    pub(super) fn doubts_a_turn(&self) -> bool {
        !self.deciders_in_doubt().is_empty()
    }
}
