//! What the link receives: packets from nodes that are introduced, frames for instances, and acknowledgements.

use accompanist_core::NodeId;
use accompanist_core::frame::{Body, Delivery, Epoch, Frame, Packet, Receipt};
use metrics::histogram;
use ractor::ActorRef;

use super::{LinkSignal, LinkState};
use crate::base::dropped::Dropped;
use crate::base::metric;
use crate::runtime::messages::{InstanceMessage, SupervisorMessage};
use crate::runtime::queue_delay::Arrival;
use crate::writer::Job;

impl LinkState {
    pub(super) fn receive(&mut self, myself: &ActorRef<LinkSignal>, from: &NodeId, bytes: &[u8], arrived_ms: u64) {
        if self.is_halted {
            return;
        }
        if !self.context.access.is_member(from) {
            return self
                .context
                .note_dropped("not a member", || format!("`{from}` is not in the members file, or revoked"));
        }
        let packet = match Packet::from_bytes(bytes, from, &self.context.node) {
            // Only the advertisement in such a packet matters: it tells who else uses this node's name.
            Ok(packet) if *from == self.context.node => {
                if let Some(advertisement) = packet.advertisement.filter(|_| packet.epoch != self.epoch) {
                    self.handle_own_name(myself, &advertisement);
                }
                return;
            }
            Ok(packet) => packet,
            Err(error) => return self.context.note_dropped(error.reason(), || format!("{from}: {error}")),
        };
        let Packet { epoch, round, queue_ms, frames, acks, advertisement } = packet;
        // Advertisements come first: this one may introduce the sender.
        let advertisements =
            advertisement.map(|advertisement| self.learn(myself, from, epoch, advertisement)).is_some();
        if !self.introductions.has(from, epoch) {
            if !advertisements {
                self.context.note_dropped("not introduced", || format!("{from} in epoch {epoch} has made no offer"));
                self.ask(from);
            }
            return;
        }
        self.context.peers.note_received(from, queue_ms, self.context.now_ms());
        self.rounds.note_received(from, epoch, round);
        for (epoch, numbers) in acks {
            for number in numbers {
                self.acknowledged(from, epoch, number);
            }
        }
        for (number, frame) in frames {
            self.dispatch(delivery(from.clone(), epoch, number, frame), arrived_ms);
        }
    }

    /// Asks a node that is not introduced to introduce itself: a packet from it, or one that names it, has arrived.
    pub(super) fn ask(&mut self, node: &NodeId) {
        let is_known = self.context.peers.knows(node);
        if *node != self.context.node && self.introductions.asks(node, is_known, self.context.now_ms()) {
            self.advertise_asking(node);
        }
    }

    pub(super) fn dispatch(&mut self, delivery: Delivery, arrived_ms: u64) {
        if let Some(receipt) = &delivery.receipt {
            self.context.admissions.queue_delay().arrived(
                Arrival::Frame(receipt.clone()),
                arrived_ms,
                self.context.now_ms(),
            );
        }
        let id = delivery.frame.receiver();
        let bytes_max = self.context.settings.limits.payload_bytes_max;
        if let Body::Deliver { payload, path, .. } = &delivery.frame.body
            && payload.len() > bytes_max
        {
            let reason = format!(
                "the message at {path} has {} bytes, the limit here is {bytes_max}: raise `payload_bytes_max`, which \
                 is larger at its sender",
                payload.len()
            );
            self.context.admissions.note_taken(&delivery);
            self.context.note_dropped("too large", || format!("{id}: {reason}"));
            return self.context.operator.note_dead(&delivery, &reason);
        }
        if let Err(InstanceMessage::Deliver(delivery)) =
            self.context.directory.tell(id, InstanceMessage::Deliver(delivery))
        {
            self.context.routes.to_supervisor(SupervisorMessage::Deliver(delivery));
        }
    }

    pub(super) fn acknowledge(&mut self, receipt: Receipt) {
        self.context.admissions.queue_delay().stored(&Arrival::Frame(receipt.clone()), self.context.now_ms());
        if receipt.to == self.context.node {
            self.acknowledged(&receipt.to, receipt.epoch, receipt.number);
        } else {
            self.due.acknowledgement(receipt);
        }
    }

    /// Handles an acknowledgement: the receiver has made a frame durable. Informs the frame's instance, and sends a
    /// frame that waited for room in the window.
    fn acknowledged(&mut self, by: &NodeId, epoch: Epoch, number: u64) {
        if epoch != self.epoch {
            return Dropped::count("acknowledgement of another epoch"); // Of an earlier link of this node, mostly.
        }
        if !self.outbox.is_sent_to(number, by) {
            let detail = || format!("{by} acknowledges frame {number}, which went to another node");
            return self.context.note_dropped("acknowledgement of another node", detail);
        }
        let now_ms = self.context.now_ms();
        if let Some(took) = self.outbox.took(number, now_ms).filter(|_| *by != self.context.node) {
            histogram!(metric::ACKNOWLEDGEMENT).record(took);
        }
        let (acked, next) = self.outbox.acknowledge(number, now_ms);
        self.context.routes.note_ack_latency(self.outbox.ack_latency_ms());
        if let Some((id, key, node)) = acked {
            self.passivated.acknowledged(&node);
            self.note_partner(&node);
            // A passivated instance does not need the acknowledgement.
            let _ = self.context.directory.tell(id, InstanceMessage::Acked(key));
        }
        if let Some(next) = next {
            self.transmit(next);
        }
    }

    /// Notes that a node takes part in sessions: what is known of it is kept from now on.
    fn note_partner(&mut self, node: &NodeId) {
        if self.partners.contains(node) || *node == self.context.node {
            return;
        }
        let _order = self.context.writer.in_order();
        let change = self.context.peers.note_partner(node);
        if self.context.peers.knows(node) {
            self.partners.insert(node.clone());
        }
        if let Some(change) = change {
            self.context.writer.submit(Job::Change { changes: vec![change], done: Box::new(|_| ()) });
        }
    }
}

/// Makes a delivery of a received frame; number 0 asks for no acknowledgement.
pub(super) fn delivery(from: NodeId, epoch: Epoch, number: u64, frame: Frame) -> Delivery {
    let receipt = (number > 0).then(|| Receipt { to: from.clone(), epoch, number });
    Delivery { from, frame, receipt }
}
