//! What is due to be sent to one node, and the packets that carry it.
//!
//! Pure: knows no wire. Next: `sending`, which puts the packets on the wire.

use std::collections::BTreeMap;

use accompanist_core::NodeId;
use accompanist_core::frame::{Advertisement, Body, Epoch, Frame, Outcome, Packet, Receipt};

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

/// The content to send to each node once all queued messages have been handled.
#[derive(Default)]
pub(super) struct PacketQueue {
    due: BTreeMap<NodeId, DuePackets>,
}

impl PacketQueue {
    pub(super) fn frame(&mut self, to: NodeId, number: u64, frame: Frame) {
        self.of(to).frames.push((number, frame));
    }

    /// Adds the acknowledgement that the receipt asks for, at the node that it names.
    pub(super) fn acknowledgement(&mut self, receipt: Receipt) {
        self.of(receipt.to).acks.entry(receipt.epoch).or_default().push(receipt.number);
    }

    /// Adds an advertisement in place of an earlier one.
    pub(super) fn advertisement(&mut self, to: NodeId, advertisement: Advertisement) {
        self.of(to).advertisement = Some(advertisement);
    }

    /// Asks for a packet even without content, to learn whether it arrives.
    pub(super) fn probe(&mut self, to: NodeId) {
        self.of(to).probe = true;
    }

    /// Takes all that is due.
    pub(super) fn take(&mut self) -> BTreeMap<NodeId, DuePackets> {
        std::mem::take(&mut self.due)
    }

    fn of(&mut self, to: NodeId) -> &mut DuePackets {
        self.due.entry(to).or_default()
    }
}

/// What is due to one node.
#[derive(Default)]
pub(super) struct DuePackets {
    frames: Vec<(u64, Frame)>,
    acks: BTreeMap<Epoch, Vec<u64>>,
    pub(super) advertisement: Option<Advertisement>,
    /// Whether to send a packet even without content.
    probe: bool,
}

impl DuePackets {
    /// Returns whether anything besides an advertisement is due.
    fn has_content(&self) -> bool {
        !(self.frames.is_empty() && self.acks.is_empty())
    }

    /// Returns whether anything is due that shows this node to the other one: more than an empty packet.
    pub(super) fn shows_sender(&self) -> bool {
        self.has_content() || self.advertisement.is_some()
    }

    /// Returns the packets to send, in order, where `empty` makes one without content, and one with frames has at
    /// most `packet_bytes_max` bytes unless it has one frame only.
    pub(super) fn packets(self, packet_bytes_max: usize, empty: impl Fn() -> Packet) -> Vec<Packet> {
        let has_content = self.has_content();
        let Self { frames, acks, advertisement, probe } = self;
        let bytes_max = packet_bytes_max.saturating_sub(PACKET_OVERHEAD_BYTES);
        let mut packets = Vec::new();
        let (shared, separate) = match advertisement {
            Some(small) if has_content && small.size() <= ADVERTISEMENT_ALONG_BYTES_MAX => (Some(small), None),
            advertisement => (None, advertisement),
        };
        if separate.is_some() || (probe && !has_content) {
            packets.push(Packet { advertisement: separate, ..empty() });
        }
        let advertisement_bytes = shared.as_ref().map_or(0, Advertisement::size);
        let mut packet = Packet { advertisement: shared, ..empty() };
        let mut acks_in_packet = 0;
        for (epoch, numbers) in acks {
            for numbers in numbers.chunks(PACKET_ACKS_MAX) {
                if acks_in_packet + numbers.len() > PACKET_ACKS_MAX {
                    packets.push(std::mem::replace(&mut packet, empty()));
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
                packets.push(std::mem::replace(&mut packet, empty()));
                bytes = 0;
            }
            bytes += frame_bytes;
            packet.frames.push((number, frame));
        }
        packets.extend((!packet.is_empty()).then_some(packet));
        packets
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
        Body::Trouble(Some(trouble)) => trouble.text_bytes(),
        _ => 0,
    };
    payload + FRAME_OVERHEAD_BYTES
}
