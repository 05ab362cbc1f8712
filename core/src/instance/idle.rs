//! Whether an instance may leave memory: it waits, and all that it needs to go on is on disk.
//!
//! Leaving is a crash that was chosen, and coming back a recovery: there is no other way back than `restore`. So all
//! that is asked here is whether somebody else brings it back in time. Next: `waiting`, `saga` for whom it waits.

use std::collections::BTreeSet;

use super::{Instance, OutgoingKey};
use crate::id::{NodeId, RoleIndex};

/// What brings an idle instance back, besides a frame for it and a question of a caller: whichever comes first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idle {
    /// The wall clock's time, in milliseconds since 1970, at which it has something to do.
    pub until_unix_ms: Option<u64>,
    /// The nodes that have not acknowledged all that it has said, which it says again once it is back.
    pub unheard: BTreeSet<NodeId>,
}

impl Instance {
    /// What the instance waits for, if it has nothing to do until then: it may be dropped, and made anew out of its
    /// records when that comes. To be asked after its effects were taken.
    pub fn idle(&self) -> Option<Idle> {
        let is_waiting = self.does_nothing() && self.is_durable() && self.is_brought_back();
        is_waiting.then(|| Idle { until_unix_ms: self.next_time_unix_ms(), unheard: self.unheard() })
    }

    fn does_nothing(&self) -> bool {
        let over = self.stopped.is_some() || self.rehearsing || self.close_after.is_some();
        let works = self.running > 0 || !self.retrying.is_empty() || !self.jobs.is_empty();
        !over && !works && (self.program_ended || self.waits_for_others())
    }

    /// Nothing is on its way to the disk, nor waits for what is.
    fn is_durable(&self) -> bool {
        let written = self.pending.changes.is_empty() && self.pending.acks.is_empty() && self.synced + 1 == self.number;
        let told = self.acks_after.is_empty() && self.held.is_empty();
        written && told && self.output_after.is_none() && self.view_after.is_none()
    }

    /// Whether those it waits for will speak though it does not nudge them: they know of the session (or are being
    /// invited until they do), and what they say is said until it is acknowledged.
    fn is_brought_back(&self) -> bool {
        let spoken_to = |role: &RoleIndex| self.is_sure_of(*role) || self.unacked.contains(&OutgoingKey::Invite(*role));
        // The answers of these are not acknowledged.
        let unsure = self.doubts_a_turn() || !self.awaited_to_undo().is_empty();
        !unsure && self.awaited().iter().all(spoken_to)
    }

    fn unheard(&self) -> BTreeSet<NodeId> {
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
