//! Whether an instance may leave memory: it waits, and all that it needs to go on is on disk.
//!
//! Leaving is a crash that was chosen, and coming back a recovery: there is no other way back than `restore`. So all
//! that is asked here is whether somebody else brings it back in time. Next: `waiting`, `saga` for whom it waits.

use std::collections::BTreeSet;

use super::{Instance, OutgoingKey, Said};
use crate::contract::Change;
use crate::id::{NodeId, RoleIndex};
use crate::record::{Record, Rested};

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

    /// What an idle instance writes down before it leaves memory, if that is news: with it it need not say all again when
    /// it is back. Nothing is lost if it is not written.
    pub fn rest(&mut self) -> Option<Change> {
        let heard = self.said.iter().filter(|(_, said)| said.heard);
        let rested = Rested {
            heard: heard.map(|((path, to), said)| (path.clone(), *to, said.fingerprint)).collect(),
            acquainted: self.acquainted.iter().copied().collect(),
            done: self.done.iter().map(|(role, outcome)| (*role, outcome.clone())).collect(),
            told: self.told.clone(),
        };
        let nothing = Rested::default();
        if rested == *self.rested.as_ref().unwrap_or(&nothing) {
            return None;
        }
        self.rested = Some(rested.clone());
        Record::Rested(rested).change(self.id).ok() // Made of values of this crate, it has bytes.
    }

    pub(super) fn restore_rested(&mut self, rested: Rested) {
        self.rested = Some(rested.clone());
        let Rested { heard, acquainted, done, told } = rested;
        let heard = heard.into_iter().map(|(path, to, fingerprint)| ((path, to), Said { fingerprint, heard: true }));
        self.said.extend(heard);
        self.acquainted.extend(acquainted);
        self.done.extend(done);
        self.told = told;
    }

    fn does_nothing(&self) -> bool {
        let over = self.stopped.is_some() || self.rehearsing || self.close_after.is_some();
        let works = self.running > 0 || !self.retrying.is_empty() || !self.jobs.is_empty();
        !over && !works && (self.program_ended || self.waits_for_others())
    }

    /// Nothing is on its way to the disk, nor waits for what is.
    pub(super) fn is_durable(&self) -> bool {
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
