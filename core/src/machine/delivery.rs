//! Handling of what arrives at an instance: frames, syncs, acknowledgements.
//!
//! Nothing is acknowledged before it is durable, and a duplicate is not taken twice. Next: `writes`.

use super::phase::Program;
use super::waiters::Shared;
use super::{LocalResult, Machine, OutgoingKey, Stop};
use crate::frame::{Body, Delivery, Frame, Operation, Receipt};
use crate::id::{Path, RoleIndex};
use crate::message::{Fingerprint, Payload};
use crate::record::Record;

impl Machine {
    /// Delivers a frame for this instance. Its receipt is returned as an acknowledgement once that is due. Returns
    /// whether the frame came from the node that plays the sending role; frames from any other node are neither taken
    /// nor acknowledged.
    pub fn deliver(&mut self, delivery: Delivery) -> bool {
        if !delivery.is_of_cast(&self.header) {
            return false;
        }
        if self.stopped.is_none() {
            self.take(delivery.frame, delivery.receipt);
        } // A stopped instance does not acknowledge, so the sender keeps the frame until an operator has acted.
        true
    }

    fn take(&mut self, frame: Frame, receipt: Option<Receipt>) {
        match frame.body {
            Body::Deliver { path, operation, payload } => {
                let of_one = !matches!(operation, Operation::Vote | Operation::Verdict);
                self.deliver_message(path.clone(), frame.from, operation, payload, receipt);
                if of_one {
                    return self.waiting.wake_at(&path);
                }
            }
            Body::Nudge(lacks) => {
                self.answer_nudge(frame.from, lacks);
                if frame.from == self.header.initiator && self.phase.has_ended() {
                    // The nudge asks how this role has ended. Once it is acknowledged, the initiator does not ask
                    // again.
                    let known = receipt.filter(|receipt| !self.acks_once_announced.contains(receipt));
                    self.acks_once_announced.extend(known);
                } else {
                    self.ack_when_written(receipt);
                }
            }
            Body::Turns { finals, aborted } => self.note_turns(frame.from, finals, aborted),
            Body::Compensating(next) => self.note_compensating(frame.from, next),
            Body::Abort(abort) => {
                self.obey(&abort);
                self.ack_when_written(receipt);
            }
            Body::Done(outcome) => {
                if receipt.is_none() {
                    self.answer_done(frame.from, &outcome);
                }
                self.note_done(frame.from, outcome);
                // The outcome is held in memory only; after a crash the initiator asks again.
                self.ack_when_written(receipt);
            }
            Body::Close(outcome) => {
                self.note_closed(frame.from, Some(outcome));
                // A close that comes too early is not acknowledged, so it is resent.
                let receipt = receipt.filter(|receipt| self.phase.closes() && !self.will_ack(receipt));
                self.acks_due.extend(receipt.clone());
                self.pending.acks.extend(receipt);
            }
            Body::Closed(outcome) => self.note_closed(frame.from, outcome),
            Body::Gone(path) => self.note_gone(frame.from, &path),
        }
        self.wake();
    }

    fn deliver_message(
        &mut self,
        path: Path,
        from: RoleIndex,
        operation: Operation,
        payload: Payload,
        receipt: Option<Receipt>,
    ) {
        let id = (path.clone(), from);
        match self.mailbox.get(&id) {
            _ if self.is_over(&path) => {} // The message belongs to a turn that has ended at this role.
            None => {
                self.record(&Record::Received { path, from, operation, payload: payload.clone() }, false);
                self.hear_of_saga(&id.0, operation, &payload);
                self.mailbox.insert(id, (operation, payload));
            }
            Some((known_operation, known)) if (*known_operation, known) == (operation, &payload) => {}
            // The message has no effect any more: what is on disk stays, and the sender learns that the session has
            // ended.
            Some(_) if self.phase.is_aborted() || self.phase.is_settled() || self.program == Program::Terminated => {}
            Some((known_operation, known)) => {
                let described = |operation: Operation, payload: &Payload| {
                    let fingerprint = Fingerprint::of(payload);
                    let from = self.name_of(from);
                    format!("a {operation} of {} bytes ({fingerprint}) from {from}", payload.len())
                };
                let recorded = described(*known_operation, known);
                return self.stop(Stop::Diverged { path, recorded, replayed: described(operation, &payload) });
            }
        }
        self.ack_when_written(receipt);
    }

    /// Acknowledges once everything that is written or pending now is durable.
    fn ack_when_written(&mut self, receipt: Option<Receipt>) {
        let Some(receipt) = receipt.filter(|receipt| !self.will_ack(receipt)) else { return };
        if !self.pending.changes.is_empty() {
            self.acks_due.insert(receipt.clone());
            self.pending.acks.push(receipt);
        } else if self.synced < self.all_so_far() {
            self.acks_due.insert(receipt.clone());
            self.acks_after.push_back((self.all_so_far(), receipt));
        } else {
            self.effects.acks.push(receipt);
        }
    }

    /// Whether the receipt already waits for a write. A frame that arrives several times meanwhile is listed once.
    fn will_ack(&self, receipt: &Receipt) -> bool {
        self.acks_due.contains(receipt)
    }

    /// Reports that write `number` is durable.
    pub fn synced(&mut self, number: u64, local: Option<(Path, LocalResult)>) {
        self.synced = self.synced.max(number);
        if std::mem::take(&mut self.opening) {
            self.effects.opened = true;
        }
        while let Some((_, receipt)) = self.acks_after.pop_front_if(|(after, _)| *after <= number) {
            self.acks_due.remove(&receipt);
            self.effects.acks.push(receipt);
        }
        if let Some((path, result)) = local {
            self.local_ended(&path, result);
            self.waiting.wake_at(&path);
        }
        self.waiting.wake_shared(&Shared::Writes, usize::MAX);
    }

    /// Reports that the receiver has made the frame `key` durable.
    pub fn acked(&mut self, key: &OutgoingKey) {
        if self.unacked.remove(key) {
            if let OutgoingKey::Deliver(_, to) | OutgoingKey::Abort(to) | OutgoingKey::Invite(to) = key {
                self.acquainted.insert(*to);
            }
            match key {
                OutgoingKey::Invite(to) => drop(self.invited.insert(*to)),
                OutgoingKey::Deliver(path, to) => {
                    if let Some(sent) = self.sent.get_mut(&(path.clone(), *to)) {
                        sent.heard = true;
                    }
                }
                OutgoingKey::Done { .. } => {
                    self.announced = self.phase.outcome().cloned();
                    self.effects.acks.append(&mut self.acks_once_announced);
                }
                _ => {}
            }
            self.wake_for_room();
        }
    }
}
