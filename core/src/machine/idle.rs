//! Decides whether an instance may be passivated: it waits, and everything it needs in order to continue is on disk.
//!
//! Passivation is a deliberate crash, and reactivation is a recovery through `restore`; there is no other way back.
//! The only question here is therefore whether something else will reactivate the instance in time. Next: `waiting`
//! and `ending`, which know what it waits for.

use std::collections::BTreeSet;

use super::{Machine, OutgoingKey, SentMessage};
use crate::contract::Change;
use crate::id::{NodeId, RoleIndex};
use crate::record::{PassivatedState, Record};

/// The events that reactivate a passivated instance, besides a frame for it and a caller's question. The first one
/// counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idle {
    /// The wall-clock time, in milliseconds since 1970, at which the instance has something to do.
    pub until_unix_ms: Option<u64>,
    /// The nodes that have not acknowledged everything the instance has sent. The instance resends it once it is
    /// reactivated.
    pub unacknowledged: BTreeSet<NodeId>,
}

impl Machine {
    /// Returns what the instance waits for, if it has nothing to do until then. It may then be dropped, and restored
    /// from its records when that happens. Call this after its effects were taken.
    pub fn idle(&self) -> Option<Idle> {
        let is_waiting = self.does_nothing() && self.is_durable() && self.is_brought_back();
        is_waiting.then(|| Idle { until_unix_ms: self.next_time_unix_ms(), unacknowledged: self.unacknowledged() })
    }

    /// Returns the record that an idle instance writes before it is passivated, if that record has changed. With the
    /// record, the reactivated instance need not send everything again. Nothing is lost if the record is not written.
    pub fn rest(&mut self) -> Option<Change> {
        let heard = self.sent.iter().filter(|(_, sent)| sent.heard);
        let passivated = PassivatedState {
            heard: heard.map(|((path, to), sent)| (path.clone(), *to, sent.fingerprint)).collect(),
            acquainted: self.acquainted.iter().copied().collect(),
            done: self.done.iter().map(|(role, outcome)| (*role, outcome.clone())).collect(),
            announced: self.announced.clone(),
        };
        let nothing = PassivatedState::default();
        if passivated == *self.passivated.as_ref().unwrap_or(&nothing) {
            return None;
        }
        self.passivated = Some(passivated.clone());
        Record::PassivatedState(passivated).change(self.id).ok() // Made of values of this crate, so it can be encoded.
    }

    pub(super) fn restore_passivated(&mut self, passivated: PassivatedState) {
        self.passivated = Some(passivated.clone());
        let PassivatedState { heard, acquainted, done, announced } = passivated;
        let heard =
            heard.into_iter().map(|(path, to, fingerprint)| ((path, to), SentMessage { fingerprint, heard: true }));
        self.sent.extend(heard);
        self.acquainted.extend(acquainted);
        self.done.extend(done);
        self.announced = announced;
    }

    fn does_nothing(&self) -> bool {
        let over = self.stopped.is_some() || self.rehearsing || self.phase.closes();
        let works = self.running > 0 || !self.retrying.is_empty() || !self.jobs.is_empty();
        !over && !works && (self.program.is_over() || self.waits_for_others())
    }

    /// Whether nothing is being written, and nothing waits for a write.
    pub(super) fn is_durable(&self) -> bool {
        let written = self.pending.changes.is_empty() && self.pending.acks.is_empty() && self.synced + 1 == self.number;
        let acknowledged = self.acks_after.is_empty() && self.held.is_empty();
        written && acknowledged && self.output_after.is_none() && self.view_after.is_none()
    }

    /// Whether the awaited roles will send without being nudged: they know the session (or are being invited until
    /// they do), and they resend until they are acknowledged.
    fn is_brought_back(&self) -> bool {
        let spoken_to = |role: &RoleIndex| self.is_sure_of(*role) || self.unacked.contains(&OutgoingKey::Invite(*role));
        // The answers of these roles are not acknowledged.
        let unsure = self.doubts_a_turn() || !self.awaited_to_compensate().is_empty();
        !unsure && self.awaited().iter().all(spoken_to)
    }

    fn unacknowledged(&self) -> BTreeSet<NodeId> {
        let receiver = |key: &OutgoingKey| match key {
            OutgoingKey::Deliver(_, to)
            | OutgoingKey::Abort(to)
            | OutgoingKey::Close(to)
            | OutgoingKey::Nudge(to)
            | OutgoingKey::Invite(to) => *to,
            OutgoingKey::Done { .. } => self.header.initiator,
        };
        self.unacked.iter().filter_map(|key| self.header.node_of(receiver(key)).cloned()).collect()
    }
}
