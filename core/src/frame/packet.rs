//! One packet as bytes: the version, a checksum, and what it carries.
//!
//! The checksum is over all that follows it and over the packet's sender and receiver, so that a packet with a flipped bit,
//! and one that reaches somebody it is not for, is dropped and never decoded. It finds accidents and no forgery: it has no
//! key, and whoever can send packets can compute it. Who may send in whose name is the transport's matter.

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::{Epoch, Frame, Offer};
use crate::id::NodeId;
use crate::message::{CodecError, pack, unpack};

/// The first byte of every packet. A packet of another version is dropped and counted.
pub const WIRE_VERSION: u8 = 2;

/// The bytes of the checksum, which follow the version.
const CHECKSUM_BYTES: usize = 8;

/// When, and by which of the two ways, a packet was sent: the sender counts its rounds of offers to all within its epoch, from
/// 1. Each receiver says in its own offers which it received last of each way, see [`Reception`](super::Reception).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Round {
    /// To one node.
    Direct(u64),
    /// To all.
    Broadcast(u64),
}

/// One message on the wire: frames, acknowledgements and news, together as they come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Packet {
    /// The epoch of the node that sends it.
    pub epoch: Epoch,
    /// Its round.
    pub round: Round,
    /// How long what arrives at the sender takes at present until it is on its disk, in milliseconds; 0 if too little arrives there to
    /// tell.
    pub queue_ms: u64,
    /// Frames with their numbers; number 0 asks for no acknowledgement.
    pub frames: Vec<(u64, Frame)>,
    /// Numbers of the receiver's frames that are durable here, with the epoch they were sent in.
    pub acks: Vec<(Epoch, Vec<u64>)>,
    /// What the sender offers.
    pub offer: Option<Offer>,
}

/// A packet that is refused.
#[derive(Debug, thiserror::Error)]
pub enum PacketError {
    /// Not even a version byte.
    #[error("the packet is empty")]
    Empty,
    /// Of another release.
    #[error("the packet has wire version {0}, this release speaks {WIRE_VERSION}: run releases that speak the same")]
    Version(u8),
    /// Not what its sender sent to this receiver.
    #[error("the packet does not match its checksum: it was changed on its way, cut off, or is for another node")]
    Checksum,
    /// Not a packet, although it is as it was sent.
    #[error("the packet is garbled: {0}")]
    Garbled(CodecError),
}

// No source: its text is in this one.
impl From<CodecError> for PacketError {
    fn from(error: CodecError) -> Self {
        Self::Garbled(error)
    }
}

impl PacketError {
    /// In one or two words, for a counter.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Empty | Self::Garbled(_) => "garbled",
            Self::Version(_) => "wire version",
            Self::Checksum => "checksum",
        }
    }
}

impl Packet {
    /// An empty packet to one node, of round 0.
    pub fn new(epoch: Epoch) -> Self {
        Self { epoch, round: Round::Direct(0), queue_ms: 0, frames: Vec::new(), acks: Vec::new(), offer: None }
    }

    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty() && self.acks.is_empty() && self.offer.is_none()
    }

    /// The bytes on the wire, `from` this node to one other or to all.
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

    /// Reads what `from` has made with [`Packet::to_bytes`] for `to`, or for all.
    ///
    /// # Errors
    /// [`PacketError`] for anything else; bytes from a stranger never panic.
    pub fn from_bytes(bytes: &[u8], from: &NodeId, to: &NodeId) -> Result<Self, PacketError> {
        let (known, body) = split(bytes)?;
        let fits = |to| known == checksum(from, to, body).to_be_bytes();
        if fits(Some(to)) || fits(None) { Ok(unpack(body)?) } else { Err(PacketError::Checksum) }
    }

    /// Reads a packet whoever it is from and for: for tests that look into what is sent.
    ///
    /// # Errors
    /// [`PacketError`] for bytes that are no packet. The checksum is not looked at.
    #[cfg(feature = "testing")]
    pub fn peek(bytes: &[u8]) -> Result<Self, PacketError> {
        Ok(unpack(split(bytes)?.1)?)
    }
}

/// The checksum, and what it is over.
fn split(bytes: &[u8]) -> Result<(&[u8], &[u8]), PacketError> {
    match bytes.split_first() {
        None => Err(PacketError::Empty),
        Some((&WIRE_VERSION, rest)) => rest.split_at_checked(CHECKSUM_BYTES).ok_or(PacketError::Checksum),
        Some((&version, _)) => Err(PacketError::Version(version)),
    }
}

/// Over all of the packet's body, and over who sends it to whom: the same bytes between two others have another one.
fn checksum(from: &NodeId, to: Option<&NodeId>, body: &[u8]) -> u64 {
    // No name has a slash, so `all` is nobody's.
    let way = to.map_or_else(|| format!("{from}/"), |to| format!("{from}/{to}"));
    xxh3_64_with_seed(body, xxh3_64_with_seed(way.as_bytes(), 0))
}
