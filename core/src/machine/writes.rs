//! The output of an instance: writes in the order of their numbers, and frames once everything they depend on is
//! durable.

use std::sync::Arc;

use super::{Effects, Forget, LocalJob, Machine, Outgoing, OutgoingKey, Stop, Write};
use crate::frame::{Body, Frame, Header};
use crate::id::{Path, RoleIndex};
use crate::record::{self, Record};

impl Machine {
    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.is_some()
    }

    /// The number of the write that makes everything so far durable.
    pub(super) fn all_so_far(&self) -> u64 {
        if self.pending.changes.is_empty() { self.number - 1 } else { self.number }
    }

    /// Returns everything to be done since the last call.
    pub fn take_effects(&mut self) -> Effects {
        self.flush(None);
        while let Some((_, outgoing)) = self.held.pop_front_if(|(after, _)| *after <= self.synced) {
            self.effects.frames.push(outgoing);
        }
        if let Some((_, output)) = self.output_after.take_if(|(after, _)| *after <= self.synced) {
            self.effects.forget = output.is_err().then_some(Forget::Messages);
            self.effects.output = Some(output);
        }
        if let Some((_, view)) = self.view_after.take_if(|(after, _)| *after <= self.synced) {
            self.view = Some(view);
        }
        if self.close_after.is_some_and(|after| after > 0 && after <= self.synced) {
            self.effects.closed = self.closed.take();
            // Its last frame, if the close has overtaken the acknowledgement. The initiator closes only when all of its
            // frames are acknowledged.
            if self.effects.closed.is_some() && !self.initiates() {
                self.effects.forget = Some(Forget::All);
            }
        }
        self.effects.lacking = self.take_lacking();
        std::mem::take(&mut self.effects)
    }

    /// Turns the pending changes (and a local step with them) into the next write.
    pub(super) fn flush(&mut self, local: Option<LocalJob>) {
        if local.is_none() && self.pending.changes.is_empty() {
            return;
        }
        let pending = std::mem::take(&mut self.pending);
        self.acks_after.extend(pending.acks.into_iter().map(|receipt| (self.number, receipt)));
        let urgent = pending.urgent || local.is_some();
        self.effects.writes.push(Write { number: self.number, changes: pending.changes, local, urgent });
        self.number += 1;
    }

    /// Adds `record` to the next write.
    pub(super) fn record(&mut self, record: &Record, urgent: bool) {
        match record.change(self.id) {
            Ok(change) => {
                if let Err(error) = change.check() {
                    return self.stop(Stop::Unstorable { reason: error.to_string() });
                }
                self.pending.changes.push(change);
                self.pending.urgent |= urgent;
            }
            Err(error) => self.stop(Stop::Undecodable { path: Path::root(), reason: error.to_string() }),
        }
    }

    /// Removes `record` with the next write.
    pub(super) fn unrecord(&mut self, record: &Record) {
        self.pending.changes.push(record::remove(self.id, record));
    }

    /// Adds a result to the next write. Everything sent from now on waits for that write.
    pub(super) fn record_result(&mut self, record: &Record) {
        self.record(record, true);
        self.barrier = self.number;
    }

    /// Whether a result is not on disk yet.
    pub(crate) fn has_unsynced_results(&self) -> bool {
        self.barrier > self.synced
    }

    /// Sends `body` to `to` once write `after` is durable.
    pub(super) fn say(&mut self, key: OutgoingKey, to: RoleIndex, body: Body, after: u64) {
        // A nudged role may not know the session yet, or may have forgotten it and need to know whom to answer.
        let nudges = matches!(key, OutgoingKey::Nudge(_) | OutgoingKey::Invite(_));
        let header = (nudges || !self.acquainted.contains(&to)).then(|| self.header.clone());
        self.say_with(key, to, header, body, after);
    }

    /// Answers a role that has asked, without asking for an acknowledgement: a role that still waits nudges again.
    /// Without a header, the answer creates no instance, however late it arrives.
    pub(super) fn answer(&mut self, to: RoleIndex, body: Body) {
        self.say_with(OutgoingKey::Nudge(to), to, None, body, self.barrier);
    }

    fn say_with(&mut self, key: OutgoingKey, to: RoleIndex, header: Option<Arc<Header>>, body: Body, after: u64) {
        let Some(node) = self.header.node_of(to).cloned() else { return };
        let frame = Frame { session: self.id.session, from: self.id.role, to, header, body };
        let asked_for = matches!(key, OutgoingKey::Nudge(_) | OutgoingKey::Done { .. });
        if key.is_acknowledged() {
            self.unacked.insert(key.clone());
        }
        let sent = (after, Outgoing { key, node, frame });
        // An answer that is requested several times while it is held is sent once.
        if !(asked_for && self.held.contains(&sent)) {
            self.held.push_back(sent);
        }
    }

    pub(super) fn stop(&mut self, stop: Stop) {
        if self.stopped.is_none() {
            self.effects.stopped = Some(stop.clone());
            self.stopped = Some(stop);
        }
    }
}
