//! What an instance waits for, on whom and since when, as data: for operators and their tools.
//!
//! Everything is plain data that can be sent elsewhere and outlives the instance. Times are wall-clock times of the
//! instance's node. The times since when something lasts survive a passivation; after a crash they begin anew. Lists
//! are bounded. This module changes nothing. Next: `description`, which says the same in one sentence.

mod data;
mod display;

use super::Machine;
use super::steps::StepEntry;
use super::waiting::{Waiting, WaitingFor};
use crate::base::id::{Path, RoleIndex};

pub use self::data::{
    INSPECTED_MAX, InspectedSignal, InspectedStep, InspectedWait, Inspection, SessionRole, SessionTrouble, StepState,
    UnacknowledgedFrames, WaitKind,
};

/// The maximum number of operations and steps whose times outlive a passivation: the first ones.
const PASSIVATED_SINCE_MAX: usize = 64;

/// The first [`INSPECTED_MAX`] of `all`; counts the others.
fn first<T>(mut all: impl Iterator<Item = T>, omitted: &mut usize) -> Vec<T> {
    let listed = all.by_ref().take(INSPECTED_MAX).collect();
    *omitted += all.count();
    listed
}

impl Machine {
    /// Returns what the instance waits for, on whom and since when, as of its last turn.
    pub fn inspect(&self) -> Inspection {
        let (header, mut omitted) = (&self.identity.header, 0);
        Inspection {
            session: self.identity.id.session,
            choreography: header.choreography.clone(),
            version: header.version,
            role: self.session_role(self.identity.id.role),
            initiator: self.session_role(header.initiator),
            started_unix_ms: header.started_unix_ms,
            deadline_unix_ms: header.deadline_unix_ms,
            now_unix_ms: self.timers.unix_ms,
            loaded_unix_ms: self.timers.loaded_unix_ms,
            status: self.status(),
            stopped: self.stopped.as_ref().map(ToString::to_string),
            abort: self.phase.abort().cloned(),
            waits: first(self.waits.iter().map(|(path, waiting)| self.inspect_wait(path, waiting)), &mut omitted),
            steps: first(self.steps.iter().filter_map(|(path, entry)| self.inspect_step(path, entry)), &mut omitted),
            compensations_left: self.compensations_left(),
            signals: first(self.inspect_signals(), &mut omitted),
            unacknowledged: self.inspect_unacknowledged(),
            awaited_ends: self.awaited_ends().into_iter().map(|role| self.session_role(role)).collect(),
            troubles: self.peer_troubles(),
            omitted,
        }
    }

    /// A role of the session, with its name and its node.
    pub(super) fn session_role(&self, role: RoleIndex) -> SessionRole {
        SessionRole::of(&self.identity.header, self.identity.roles, role)
    }

    fn inspect_wait(&self, path: &Path, waiting: &Waiting) -> InspectedWait {
        let (kind, on) = match &waiting.what {
            WaitingFor::Message(_, from) => (WaitKind::Receive, Some(*from)),
            WaitingFor::TurnOver(decider) => (WaitKind::TurnEnd, Some(*decider)),
            WaitingFor::Room(to) => (WaitKind::Room, Some(*to)),
            WaitingFor::Time => (WaitKind::Time, None),
            WaitingFor::Signal(_) => (WaitKind::Signal, None),
            WaitingFor::Step(_) => (WaitKind::StepEnd, None),
            WaitingFor::Effect(_) => (WaitKind::EffectEnd, None),
            WaitingFor::Writes => (WaitKind::Disk, None),
        };
        InspectedWait {
            path: path.clone(),
            kind,
            on: on.map(|role| self.session_role(role)),
            text: waiting.described(self.identity.roles),
            since_unix_ms: self.or_loaded(self.waits.since_unix_ms(path)),
            until_unix_ms: waiting.until_unix_ms,
        }
    }

    /// The time that is known, or else that of the first turn: before it, there was no clock.
    fn or_loaded(&self, unix_ms: Option<u64>) -> u64 {
        unix_ms.filter(|unix_ms| *unix_ms > 0).unwrap_or(self.timers.loaded_unix_ms)
    }

    /// The step, if something is done for it, or was tried in vain.
    fn inspect_step(&self, path: &Path, entry: &StepEntry) -> Option<InspectedStep> {
        let (trouble, attempt) = (entry.trouble.as_ref(), entry.attempt.as_ref());
        let task = trouble.map(|trouble| trouble.task).or(attempt.map(|attempt| attempt.task))?;
        let state = match trouble {
            Some(_) => StepState::NeedsOperator,
            None if entry.is_running() => StepState::Running,
            None => StepState::Retrying,
        };
        let next_try = entry.pause.filter(|_| state == StepState::Retrying);
        let last_error = trouble.map(|trouble| &trouble.reason).or(attempt.and_then(|attempt| attempt.reason.as_ref()));
        Some(InspectedStep {
            path: path.clone(),
            step: entry.name.clone(),
            task,
            state,
            tries: attempt.map(|attempt| attempt.failures).max(Some(entry.tries)).unwrap_or_default(),
            last_error: last_error.cloned(),
            since_unix_ms: self.or_loaded(self.step_since_unix_ms(path, entry)),
            next_try_unix_ms: next_try.map(|pause| self.timers.unix_at(pause.until_ms)),
        })
    }

    fn step_since_unix_ms(&self, path: &Path, entry: &StepEntry) -> Option<u64> {
        let attempt = entry.attempt.as_ref().map(|attempt| attempt.since_unix_ms);
        attempt.or_else(|| self.timers.passivated_since.get(path).copied())
    }

    /// The number of committed steps of an aborted session that are still to be compensated.
    fn compensations_left(&self) -> usize {
        if self.phase.is_aborted() { self.steps.compensations_left(&self.loops) } else { 0 }
    }

    fn inspect_signals(&self) -> impl Iterator<Item = InspectedSignal> {
        let waiting = self.caller.signals.untaken_keys();
        waiting.map(|(name, key)| InspectedSignal { name: name.into(), key: key.into() })
    }

    fn inspect_unacknowledged(&self) -> Vec<UnacknowledgedFrames> {
        let frames = self.outbox.unacknowledged_by(self.identity.header.initiator);
        let listed = |(role, frames)| UnacknowledgedFrames { role: self.session_role(role), frames };
        frames.into_iter().map(listed).collect()
    }

    /// Since when operations wait, and steps are in trouble, as far as a clock has said: for the next life.
    pub(super) fn since(&self) -> Vec<(Path, u64)> {
        let waits = self.waits.iter().map(|(path, _)| (path, self.waits.since_unix_ms(path)));
        let troubled = self.steps.iter().filter(|(_, entry)| entry.trouble.is_some());
        let troubled = troubled.map(|(path, entry)| (path, self.step_since_unix_ms(path, entry)));
        let known = waits.chain(troubled).map(|(path, since_unix_ms)| (path, self.or_loaded(since_unix_ms)));
        let known = known.filter(|(_, since_unix_ms)| *since_unix_ms > 0);
        known.map(|(path, since_unix_ms)| (path.clone(), since_unix_ms)).take(PASSIVATED_SINCE_MAX).collect()
    }
}
