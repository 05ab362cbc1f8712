//! The output of an instance: writes in the order of their numbers, and frames once everything they depend on is
//! durable.
//!
//! Here the coordinator hands what it decides to `journal` and `outbox`, and collects what they set free.

use super::journal::Urgency;
use super::{Effects, Forget, LocalJob, Machine, OutgoingKey, Stop};
use crate::base::id::RoleIndex;
use crate::frame::{Body, Outcome};
use crate::record::Record;

impl Machine {
    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.is_some()
    }

    /// Returns everything to be done since the last call.
    pub fn take_effects(&mut self) -> Effects {
        self.flush(None);
        while let Some(outgoing) = self.outbox.take_ready(|write| self.journal.is_synced(write)) {
            self.effects.frames.push(outgoing);
        }
        if let Some(output) = self.caller.take_due(|write| self.journal.is_synced(write)) {
            self.effects.forget = output.is_err().then_some(Forget::Messages);
            self.effects.output = Some(output);
        }
        self.effects.closed = self.phase.take_tombstone(|write| self.journal.is_synced(write));
        // Its last frame, if the close has overtaken the acknowledgement. The initiator closes only when all of its
        // frames are acknowledged.
        if self.effects.closed.is_some() && !self.identity.initiates() {
            self.effects.forget = Some(Forget::All);
        }
        self.effects.lacking = self.take_lacking();
        std::mem::take(&mut self.effects)
    }

    /// Turns the pending changes (and a local step with them) into the next write.
    pub(super) fn flush(&mut self, local: Option<LocalJob>) {
        self.effects.writes.extend(self.journal.flush(local));
    }

    /// Adds `record` to the next write.
    pub(super) fn record(&mut self, record: &Record, urgency: Urgency) {
        if let Err(stop) = self.journal.record(record, urgency) {
            self.stop(stop);
        }
    }

    /// Whether a result is not on disk yet.
    pub(crate) fn has_unsynced_results(&self) -> bool {
        self.journal.has_unsynced_results()
    }

    /// Sends `body` to `to` once write `after` is durable.
    pub(super) fn send(&mut self, key: OutgoingKey, to: RoleIndex, body: Body, after: u64) {
        self.outbox.send(&self.identity, key, to, body, after);
    }

    /// Answers a role that has asked, without asking for an acknowledgement: a role that still waits nudges again.
    pub(super) fn answer(&mut self, to: RoleIndex, body: Body) {
        self.outbox.answer(&self.identity, to, body, self.journal.barrier());
    }

    /// Reports the own outcome to the initiator.
    pub(super) fn send_done(&mut self, outcome: Outcome, after: u64) {
        self.outbox.send_done(&self.identity, outcome, after);
    }

    pub(super) fn stop(&mut self, stop: Stop) {
        if self.stopped.is_none() {
            self.effects.stopped = Some(stop.clone());
            self.stopped = Some(stop);
        }
    }
}
