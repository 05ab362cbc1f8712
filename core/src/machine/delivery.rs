//! Handling of what arrives at an instance: frames, syncs, acknowledgements.
//!
//! Nothing is acknowledged before it is durable, and a duplicate is not taken twice. Next: `writes`.

use super::journal::Urgency;
use super::phase::Program;
use super::waiters::Shared;
use super::{LocalResult, Machine, OutgoingKey, Stop};
use crate::base::id::{Path, RoleIndex};
use crate::base::message::{Fingerprint, Payload};
use crate::frame::{Body, Delivery, Frame, Operation, Receipt};
use crate::record::Record;

impl Machine {
    /// Delivers a frame for this instance. Its receipt is returned as an acknowledgement once that is due. Returns
    /// whether the frame came from the node that plays the sending role; frames from any other node are neither taken
    /// nor acknowledged.
    pub fn deliver(&mut self, delivery: Delivery) -> bool {
        if !delivery.is_of_cast(&self.identity.header) {
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
                    return self.waits.wake_at(&path);
                }
            }
            Body::Nudge(lacks) => {
                self.answer_nudge(frame.from, lacks);
                if frame.from == self.identity.header.initiator && self.phase.has_ended() {
                    // The nudge asks how this role has ended. Once it is acknowledged, the initiator does not ask
                    // again.
                    self.outbox.ack_once_announced(receipt);
                } else {
                    self.ack_when_written(receipt);
                }
            }
            Body::Turns { finals, aborted } => self.note_turns(frame.from, finals, aborted),
            Body::Compensating(next) => self.peers.note_compensating(frame.from, next),
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
                self.journal.ack_with_next_write(receipt.filter(|_| self.phase.closes()));
            }
            Body::Closed(outcome) => self.note_closed(frame.from, outcome),
            Body::Gone(path) => self.note_gone(frame.from, &path),
            // Nothing of the program waits for these.
            Body::Trouble(trouble) => return self.note_peer_trouble(frame.from, trouble),
            Body::TroubleAsked => return self.answer_trouble_asked(frame.from),
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
        match self.inputs.message(&path, from) {
            _ if self.loops.is_over(&path) => {} // The message belongs to a turn that has ended at this role.
            None => {
                let (at, message) = (path.clone(), payload.clone());
                self.commit(&Record::Received { path, from, operation, payload }, Urgency::Lazy);
                self.note_vote_or_verdict(&at, operation, &message);
            }
            Some((known_operation, known)) if (*known_operation, known) == (operation, &payload) => {}
            // The message has no effect any more: what is on disk stays, and the sender learns that the session has
            // ended.
            Some(_) if self.phase.is_aborted() || self.phase.is_settled() || self.program == Program::Terminated => {}
            Some((known_operation, known)) => {
                let described = |operation: Operation, payload: &Payload| {
                    let fingerprint = Fingerprint::of(payload);
                    let from = self.identity.name_of(from);
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
        self.effects.acks.extend(self.journal.ack_when_written(receipt));
    }

    /// Reports that write `number` is durable.
    pub fn synced(&mut self, number: u64, local: Option<(Path, LocalResult)>) {
        let (opened, acks) = self.journal.note_synced(number);
        self.effects.opened |= opened;
        self.effects.acks.extend(acks);
        if let Some((path, result)) = local {
            self.local_ended(&path, result);
            self.waits.wake_at(&path);
        }
        self.waits.wake_shared(&Shared::Writes, usize::MAX);
    }

    /// Reports that the receiver has made the frame `key` durable.
    pub fn acked(&mut self, key: &OutgoingKey) {
        if self.outbox.note_acked(key, self.phase.outcome()) {
            if matches!(key, OutgoingKey::Done { .. }) {
                self.effects.acks.extend(self.outbox.take_acks_once_announced());
            }
            self.wake_for_room();
        }
    }
}
