//! What the link sends: frames of instances, and the packets that carry them with acknowledgements and advertisements.

use std::time::Duration;

use accompanist_core::NodeId;
use accompanist_core::frame::{Packet, Round};
use accompanist_core::id::InstanceId;
use accompanist_core::machine::{Forget, Outgoing};
use metrics::{counter, gauge};

use super::LinkState;
use super::outbox::Transmission;
use super::receiving::delivery;
use crate::base::metric;

impl LinkState {
    pub(super) fn forget(&mut self, id: InstanceId, what: Forget) {
        for next in self.outbox.forget(id, what, self.context.now_ms()) {
            self.transmit(next);
        }
    }

    pub(super) fn send(&mut self, id: InstanceId, outgoing: Outgoing) {
        if !outgoing.key.is_acknowledged() {
            return self.transmit(Transmission { node: outgoing.node, number: 0, frame: outgoing.frame });
        }
        counter!(metric::FRAMES_SENT).increment(1);
        if let Some(transmission) = self.outbox.add(id, outgoing, self.context.now_ms()) {
            self.transmit(transmission);
        }
    }

    pub(super) fn transmit(&mut self, Transmission { node, number, frame }: Transmission) {
        if node == self.context.node {
            let now_ms = self.context.now_ms();
            self.dispatch(delivery(node, self.epoch, number, frame), now_ms);
        } else {
            self.due.frame(node, number, frame);
        }
    }

    pub(super) fn packet(&self) -> Packet {
        let round = Round::Direct(self.rounds.number());
        Packet { round, queue_ms: self.queue_ms, ..Packet::new(self.epoch) }
    }

    /// Updates the queue delay of this node, which each packet carries.
    fn note_queue(&mut self) {
        let delay_ms = self.context.admissions.queue_delay().ms(self.context.now_ms());
        if std::mem::replace(&mut self.queue_ms, delay_ms) != delay_ms {
            gauge!(metric::QUEUE_DELAY).set(Duration::from_millis(self.queue_ms).as_secs_f64());
        }
    }

    /// Sends all that has become due.
    pub(super) fn flush(&mut self) {
        self.note_queue();
        for (node, mut due) in self.due.take() {
            self.rounds.note_sent(&node);
            // A node that may not know this one receives its advertisement before anything else.
            if due.shows_sender() && self.introductions.greets(&node) && due.advertisement.is_none() {
                due.advertisement = Some(self.greeting(&node));
            }
            for packet in due.packets(self.endpoint.packet_bytes_max(), || self.packet()) {
                self.put(Some(&node), &packet);
            }
        }
    }

    pub(super) fn put(&mut self, to: Option<&NodeId>, packet: &Packet) {
        let Some(wire) = self.endpoint.wire() else { return };
        if let Some(seal) = self.context.access.seal() {
            return self.put_sealed(&seal, wire.as_ref(), to, packet);
        }
        match (packet.to_bytes(&self.context.node, to), to) {
            (Err(error), _) => self.context.note_dropped("unencodable", || error.to_string()),
            (Ok(bytes), Some(node)) => wire.send(node, bytes),
            (Ok(bytes), None) => wire.broadcast(bytes),
        }
    }
}
