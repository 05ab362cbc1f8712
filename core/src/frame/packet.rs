//! Packets in binary form: the version, a checksum, and the content.
//!
//! The checksum covers everything after it, and the packet's sender and receiver. A packet with a flipped bit, and
//! one that reaches the wrong node, is dropped and never decoded. The checksum detects accidents, not forgery: it has
//! no key, and whoever can send packets can compute it. Who may send in whose name is the transport's responsibility.

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::{Advertisement, Epoch, Frame};
use crate::base::error_text::debug_as_text;
use crate::base::id::NodeId;
use crate::base::message::{CodecError, pack, unpack};

/// The first byte of every packet. A packet of another version is dropped and counted.
pub const WIRE_VERSION: u8 = 2;

/// The size of the checksum, which follows the version.
const CHECKSUM_BYTES: usize = 8;

/// The round in which a packet was sent, and in which of the two ways. The sender counts its rounds of broadcast
/// advertisements within its epoch, from 1. Each receiver reports in its own advertisements the latest round that it
/// received in each way; see [`Reception`](super::Reception).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Round {
    /// Sent to one node.
    Direct(u64),
    /// Sent to all nodes.
    Broadcast(u64),
}

/// One message on the wire: frames, acknowledgements and an advertisement together, as they become due.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Packet {
    /// The epoch of the sending node.
    pub epoch: Epoch,
    /// The round of the packet.
    pub round: Round,
    /// The current delay, in milliseconds, from the arrival of a frame at the sender of this packet until the frame
    /// is on the sender's disk; 0 if too little arrives there to tell.
    pub queue_ms: u64,
    /// Frames with their numbers. Number 0 asks for no acknowledgement.
    pub frames: Vec<(u64, Frame)>,
    /// The numbers of the receiver's frames that are durable at the sender, with the epoch in which they were sent.
    pub acks: Vec<(Epoch, Vec<u64>)>,
    /// The advertisement of the sender.
    pub advertisement: Option<Advertisement>,
}

/// The reason why a packet is refused.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum PacketError {
    /// The packet does not have a version byte.
    #[error("the packet is empty")]
    Empty,
    /// The packet is of another wire version.
    #[error("the packet has wire version {0}, this release speaks {WIRE_VERSION}: run releases that speak the same")]
    Version(u8),
    /// The packet is not what its sender sent to this receiver.
    #[error("the packet does not match its checksum: it was changed on its way, cut off, or is for another node")]
    Checksum,
    /// The packet matches its checksum but cannot be decoded.
    #[error("the packet is garbled: {0}")]
    Garbled(CodecError),
}

debug_as_text!(PacketError);

// The `CodecError` is not the `source` of the error, because its text is part of the error's text.
impl From<CodecError> for PacketError {
    fn from(error: CodecError) -> Self {
        Self::Garbled(error)
    }
}

impl PacketError {
    /// The reason in one or two words, as a label for a counter.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Empty | Self::Garbled(_) => "garbled",
            Self::Version(_) => "wire version",
            Self::Checksum => "checksum",
        }
    }
}

impl Packet {
    /// Creates an empty packet to one node, of round 0.
    pub fn new(epoch: Epoch) -> Self {
        Self { epoch, round: Round::Direct(0), queue_ms: 0, frames: Vec::new(), acks: Vec::new(), advertisement: None }
    }

    /// Whether the packet has no content.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty() && self.acks.is_empty() && self.advertisement.is_none()
    }

    /// Encodes the packet, sent `from` this node to one other node or to all.
    ///
    /// # Errors
    /// Never for packets made of values of this module.
    pub fn to_bytes(&self, from: &NodeId, to: Option<&NodeId>) -> Result<Vec<u8>, CodecError> {
        let mut bytes = pack(&(WIRE_VERSION, [0u8; CHECKSUM_BYTES], self))?;
        if let Some((head, body)) = bytes.split_at_mut_checked(1 + CHECKSUM_BYTES) {
            let checksum = checksum(from, to, body).to_be_bytes();
            head.iter_mut().skip(1).zip(checksum).for_each(|(byte, of_checksum)| *byte = of_checksum);
        }
        Ok(bytes)
    }

    /// Decodes a packet that `from` encoded with [`Packet::to_bytes`] for `to`, or for all.
    ///
    /// # Errors
    /// [`PacketError`] for anything else. Bytes from a stranger never cause a panic.
    pub fn from_bytes(bytes: &[u8], from: &NodeId, to: &NodeId) -> Result<Self, PacketError> {
        let (known, body) = split(bytes)?;
        let fits = |to| known == checksum(from, to, body).to_be_bytes();
        if fits(Some(to)) || fits(None) { Ok(unpack(body)?) } else { Err(PacketError::Checksum) }
    }

    /// Decodes a packet regardless of its sender and receiver, for tests that inspect traffic.
    ///
    /// # Errors
    /// [`PacketError`] for bytes that are no packet. The checksum is not verified.
    #[cfg(feature = "testing")]
    pub fn peek(bytes: &[u8]) -> Result<Self, PacketError> {
        Ok(unpack(split(bytes)?.1)?)
    }
}

/// Splits a packet into its checksum and the bytes that the checksum covers.
fn split(bytes: &[u8]) -> Result<(&[u8], &[u8]), PacketError> {
    match bytes.split_first() {
        None => Err(PacketError::Empty),
        Some((&WIRE_VERSION, rest)) => rest.split_at_checked(CHECKSUM_BYTES).ok_or(PacketError::Checksum),
        Some((&version, _)) => Err(PacketError::Version(version)),
    }
}

/// The checksum over the packet's body, sender and receiver: the same bytes between two other nodes have another
/// checksum.
fn checksum(from: &NodeId, to: Option<&NodeId>, body: &[u8]) -> u64 {
    // No node name contains a slash, so the key of a broadcast differs from every key with a receiver.
    let way = to.map_or_else(|| format!("{from}/"), |to| format!("{from}/{to}"));
    xxh3_64_with_seed(body, xxh3_64_with_seed(way.as_bytes(), 0))
}
