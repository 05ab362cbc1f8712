//! What the link sends: frames of instances, and the packets that carry them with acknowledgements and advertisements.

use std::time::Duration;

use accompanist_core::NodeId;
use accompanist_core::frame::{Advertisement, Body, Frame, Outcome, Packet, Round};
use accompanist_core::id::InstanceId;
use accompanist_core::machine::{Forget, Outgoing};
use metrics::{counter, gauge};

use super::outbox::Transmission;
use super::receiving::delivery;
use super::{DuePackets, LinkState};
use crate::base::metric;

/// The most bytes of a packet besides its frames: version, checksum, epoch, round, and lengths.
pub(super) const PACKET_OVERHEAD_BYTES: usize = 256;
/// The most bytes of a frame besides its payload: ids, path, and a header with twelve node names and sixteen patches.
pub(super) const FRAME_OVERHEAD_BYTES: usize = 2_048;
/// The size up to which an advertisement shares a packet with the first frames to a node; a larger one is sent before
/// them.
const ADVERTISEMENT_ALONG_BYTES_MAX: usize = 8 * 1024;
/// The most acknowledgements in one packet.
const PACKET_ACKS_MAX: usize = 4_096;
/// The most bytes of one acknowledgement, and of the frame around those of one epoch.
const ACK_BYTES: usize = 10;
const ACKS_OVERHEAD_BYTES: usize = 20;

impl LinkState {
    pub(super) fn forget(&mut self, id: InstanceId, what: Forget) {
        for next in self.outbox.forget(id, what, self.context.now_ms()) {
            self.transmit(next);
        }
    }

    pub(super) fn say(&mut self, id: InstanceId, outgoing: Outgoing) {
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
            self.due.entry(node).or_default().frames.push((number, frame));
        }
    }

    pub(super) fn packet(&self) -> Packet {
        let round = Round::Direct(self.reachability.round());
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
        let bytes_max = self.packet_bytes_max.saturating_sub(PACKET_OVERHEAD_BYTES);
        for (node, DuePackets { frames, acks, mut advertisement, probe }) in std::mem::take(&mut self.due) {
            self.reachability.sent(&node);
            let says = !(frames.is_empty() && acks.is_empty());
            // A node that may not know this one receives its advertisement before anything else.
            if (says || advertisement.is_some()) && self.introductions.greets(&node) && advertisement.is_none() {
                advertisement = Some(self.greeting(&node));
            }
            let mut packet = self.packet();
            if advertisement
                .as_ref()
                .is_some_and(|advertisement| says && advertisement.size() <= ADVERTISEMENT_ALONG_BYTES_MAX)
            {
                packet.advertisement = advertisement;
            } else if advertisement.is_some() || (probe && !says) {
                // Sent alone, since it may be large.
                let alone = Packet { advertisement, ..self.packet() };
                self.put(Some(&node), &alone);
            }
            let advertisement_bytes = packet.advertisement.as_ref().map_or(0, Advertisement::size);
            let mut acks_in_packet = 0;
            for (epoch, numbers) in acks {
                for numbers in numbers.chunks(PACKET_ACKS_MAX) {
                    if acks_in_packet + numbers.len() > PACKET_ACKS_MAX {
                        let full = std::mem::replace(&mut packet, self.packet());
                        self.put(Some(&node), &full);
                        acks_in_packet = 0;
                    }
                    acks_in_packet += numbers.len();
                    packet.acks.push((epoch, numbers.to_vec()));
                }
            }
            let mut bytes = advertisement_bytes + acks_in_packet * ACK_BYTES + packet.acks.len() * ACKS_OVERHEAD_BYTES;
            for (number, frame) in frames {
                let frame_bytes = frame_bytes(&frame);
                if bytes + frame_bytes > bytes_max && !packet.is_empty() {
                    let full = std::mem::replace(&mut packet, self.packet());
                    self.put(Some(&node), &full);
                    bytes = 0;
                }
                bytes += frame_bytes;
                packet.frames.push((number, frame));
            }
            if !packet.is_empty() {
                self.put(Some(&node), &packet);
            }
        }
    }

    pub(super) fn put(&mut self, to: Option<&NodeId>, packet: &Packet) {
        let Some(wire) = self.wire.upgrade() else { return };
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

/// Returns the most bytes that a frame takes in a packet.
fn frame_bytes(frame: &Frame) -> usize {
    let payload = match &frame.body {
        Body::Deliver { payload, .. } => payload.len(),
        Body::Abort(abort) | Body::Done(Outcome::Compensated(abort)) | Body::Close(Outcome::Compensated(abort)) => {
            abort.code().len() + abort.message().len()
        }
        // A path has at most five bytes for each enclosing scope, and scopes are few.
        Body::Turns { finals, .. } => finals.len() * 64,
        _ => 0,
    };
    payload + FRAME_OVERHEAD_BYTES
}
