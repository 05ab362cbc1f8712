//! Decides whether an instance may be passivated: it waits, and everything it needs in order to continue is on disk.
//!
//! Passivation is a deliberate crash, and reactivation is a recovery through `restore`; there is no other way back.
//! The only question here is therefore whether something else will reactivate the instance in time. Next: `waiting`
//! and `ending`, which know what it waits for.

use std::collections::BTreeSet;

use super::{Machine, OutgoingKey};
use crate::base::id::{NodeId, RoleIndex};
use crate::contract::Change;
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
        is_waiting.then(|| Idle {
            until_unix_ms: self.next_time_unix_ms(),
            unacknowledged: self.outbox.unacknowledged(&self.identity.header),
        })
    }

    /// Returns the record that an idle instance writes before it is passivated, if that record has changed. With the
    /// record, the reactivated instance need not send everything again. Nothing is lost if the record is not written.
    pub fn passivation(&mut self) -> Option<Change> {
        let passivated = self.outbox.passivated(self.peers.done().collect(), self.since());
        let nothing = PassivatedState::default();
        if passivated == *self.outbox.last_passivated().unwrap_or(&nothing) {
            return None;
        }
        let record = Record::Passivated(passivated);
        self.apply(&record, self.journal.next()).ok()?;
        record.change(self.identity.id).ok() // Made of values of this crate, so it can be encoded.
    }

    fn does_nothing(&self) -> bool {
        let over = self.stopped.is_some() || self.identity.rehearsing || self.phase.closes();
        !over && !self.steps.are_busy() && (self.program.is_over() || self.waits_for_others())
    }

    /// Whether nothing is being written, and nothing waits for a write.
    pub(super) fn is_durable(&self) -> bool {
        self.journal.is_durable() && self.outbox.holds_nothing() && self.caller.is_durable()
    }

    /// Whether the awaited roles will send without being nudged: they know the session (or are being invited until
    /// they do), and they resend until they are acknowledged.
    fn is_brought_back(&self) -> bool {
        let spoken_to =
            |role: &RoleIndex| self.is_sure_of(*role) || self.outbox.is_unacknowledged(&OutgoingKey::Invite(*role));
        // The answers of these roles are not acknowledged.
        let unsure = self.doubts_a_turn() || !self.awaited_to_compensate().is_empty();
        !unsure && self.awaited().iter().all(spoken_to)
    }
}
