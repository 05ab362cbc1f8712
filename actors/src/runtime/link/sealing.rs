//! Seals packets to other nodes and opens packets from them, if this node has keys (decision 0037).
//!
//! Everything is sealed. A packet to all is sent to each member separately: if a router could forge such a packet in
//! a member's name, it could take that member out of service. One more copy goes to all that only a node of this name
//! can open, because two nodes of one name have to notice each other.

use accompanist_core::NodeId;
use accompanist_core::contract::Wire;
use accompanist_core::frame::{Advertisement, Epoch, Packet};

use super::LinkState;
use crate::base::dropped::Dropped;
use crate::runtime::context::NodeContext;
use crate::security::seal::{
    Freshness, Head, Opened, Refusal, Replays, SEAL_BYTES_MAX, Seal, is_for_own_name, is_sealed,
};

/// Returns the size of the link's largest packet: the rest of what the wire carries is for the seal.
pub(super) fn packet_bytes_max(context: &NodeContext, wire: &dyn Wire) -> usize {
    let seal_bytes = context.access.seal().map_or(0, |_| SEAL_BYTES_MAX);
    wire.packet_bytes_max().saturating_sub(seal_bytes)
}

/// The packets that were sent and accepted in this epoch.
pub(super) struct Sealing {
    epoch: Epoch,
    replays: Replays,
}

impl Sealing {
    pub(super) fn new(epoch: Epoch) -> Self {
        Self { epoch, replays: Replays::new(epoch) }
    }

    fn head(&mut self, own: &NodeId, to: &NodeId) -> Head {
        let (to_epoch, number) = self.replays.next(to);
        Head::to_one(own.clone(), to.clone(), to_epoch, self.epoch, number)
    }
}

/// A packet as the link handles it.
pub(super) enum Incoming {
    /// A packet in clear: this node does not seal.
    Clear(Vec<u8>),
    Opened(Opened),
}

impl Incoming {
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Clear(bytes) => bytes,
            Self::Opened(opened) => opened.packet(),
        }
    }
}

impl LinkState {
    /// Opens a packet; returns it if it is from whom it seems to be and has not arrived before.
    pub(super) fn open(&mut self, from: &NodeId, bytes: Vec<u8>) -> Option<Incoming> {
        let Some(seal) = self.context.access.seal() else {
            if !is_sealed(&bytes) {
                return Some(Incoming::Clear(bytes));
            }
            let detail = || format!("`{from}` seals, and this node has no keys: give it its `seal_key_file`");
            self.context.note_dropped("seal", detail);
            return None;
        };
        let is_own = *from == self.context.node;
        if is_for_own_name(&bytes) && !is_own {
            return None; // Not meant for this node.
        }
        let opened = match seal.open(from, &bytes) {
            Ok(opened) => opened,
            Err(refusal) => {
                self.note_refused(from, refusal);
                return None;
            }
        };
        if is_own {
            return Some(Incoming::Opened(opened)); // A sender with this node's keys is this node, in whatever epoch.
        }
        let Head { to_epoch, from_epoch, number, .. } = opened.head;
        match self.sealing.replays.check(from, to_epoch, from_epoch, number) {
            Freshness::Fresh => Some(Incoming::Opened(opened)),
            Freshness::Replayed => {
                self.context.note_dropped("replayed", || format!("{from}: packet {number} of epoch {from_epoch}"));
                None
            }
            Freshness::OtherLife => {
                Dropped::count("seal of another epoch");
                self.inform_of_epoch(&seal, from, from_epoch);
                None
            }
        }
    }

    fn note_refused(&self, from: &NodeId, refusal: Refusal) {
        let note = |reason, what| self.context.note_dropped(reason, || format!("`{from}` {what}"));
        match refusal {
            Refusal::NotSealed => {
                note("not sealed", "sends in clear, or somebody in its name: give it its `seal_key_file`");
            }
            Refusal::Unopened => note(
                "seal",
                "has sealed nothing that opens with the keys in the members file, or somebody has changed it: are the \
                 files of both nodes those of the last `accompanist security renew`?",
            ),
            Refusal::Misdirected => note("seal", "has sealed a packet that says another sender or receiver"),
            Refusal::Stranger => note("not a member", "is not in the members file, or revoked"),
        }
    }

    /// Sends a member this link's epoch, addressed to the epoch that its packet names, so that it seals fresh packets
    /// for this link. The member's packet may have been recorded long ago, so nothing else is done with it.
    fn inform_of_epoch(&mut self, seal: &Seal, node: &NodeId, epoch: Epoch) {
        let Some(wire) = self.endpoint.wire() else { return };
        if !self.introductions.asks(node, true, self.context.now_ms()) {
            return;
        }
        let advertisement = Advertisement { ask: true, ..self.advertisement_of(node) };
        let packet = Packet { advertisement: Some(advertisement), ..self.packet() };
        let mut head = self.sealing.head(&self.context.node, node);
        head.to_epoch = epoch;
        self.send_sealed(seal, wire.as_ref(), &head, &packet);
    }

    pub(super) fn put_sealed(&mut self, seal: &Seal, wire: &dyn Wire, to: Option<&NodeId>, packet: &Packet) {
        let own = self.context.node.clone();
        if let Some(to) = to {
            let head = self.sealing.head(&own, to);
            return self.send_sealed(seal, wire, &head, packet);
        }
        for to in seal.others() {
            let head = self.sealing.head(&own, to);
            self.send_sealed(seal, wire, &head, packet);
        }
        self.send_sealed(seal, wire, &Head::to_own_name(own, self.sealing.epoch), packet);
    }

    fn send_sealed(&self, seal: &Seal, wire: &dyn Wire, head: &Head, packet: &Packet) {
        let Head { from, to, .. } = head;
        match packet.to_bytes(from, Some(to)).map(|bytes| seal.seal(head, &bytes)) {
            Ok(Some(sealed)) if from == to => wire.broadcast(sealed),
            Ok(Some(sealed)) => wire.send(to, sealed),
            Ok(None) => {
                self.context.note_dropped("no seal key", || format!("`{to}` is not in the members file, or revoked"));
            }
            Err(error) => self.context.note_dropped("unencodable", || error.to_string()),
        }
    }
}
