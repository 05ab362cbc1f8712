//! Sealing of packets from one node to another: packets are encrypted and authenticated with the keys of the two
//! nodes, so that carriers cannot read them, change them, or send any in another node's name (decision 0037).
//!
//! All cryptography is that of `crypto_box` (X25519, `XChaCha20-Poly1305`). Under the seal a packet names its sender
//! and receiver, the runs of both links, and its number. Two nodes use the same keys in both directions, so nothing
//! else distinguishes a packet from one that is sent back. This module knows no frames, and nothing of what is done
//! with a packet.
//!
//! ```text
//! kind | nonce, 24 bytes | sealed: kind, from, to, receiver's epoch, sender's epoch, number, packet | tag, 16 bytes
//! ```
//!
//! Next: [`keys`] the keys and their files, [`replays`] which packets are fresh.

mod keys;
mod replays;

use std::collections::BTreeMap;
use std::sync::OnceLock;

use accompanist_core::NodeId;
use accompanist_core::frame::Epoch;
use crypto_box::aead::rand_core::RngCore;
use crypto_box::aead::{AeadInPlace, OsRng};
use crypto_box::{ChaChaBox, Nonce, SecretKey, Tag};
use serde::{Deserialize, Serialize};

pub use self::keys::{SEAL_KEY_FILE, SEAL_KEYS_MAX, SealError, SealKey, SealSecrets};
pub(crate) use self::replays::{Freshness, Replays};

/// The first byte of a packet that is sealed for its receiver. No unsealed packet begins with it.
const TO_ONE: u8 = 0xA1;
/// The first byte of a broadcast packet that is sealed for nodes with the sender's own name; other nodes cannot open
/// it.
const TO_OWN_NAME: u8 = 0xA2;
const NONCE_BYTES: usize = 24;
const TAG_BYTES: usize = 16;
/// The most bytes that sealing adds to a packet: the framing, two names of 64 bytes, two epochs and a number.
pub(crate) const SEAL_BYTES_MAX: usize = 1 + NONCE_BYTES + TAG_BYTES + 1 + 2 * 65 + 2 * 16 + 10;

/// The header under the seal, before the packet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Head {
    kind: u8,
    pub(crate) from: NodeId,
    pub(crate) to: NodeId,
    /// The epoch of the receiver's link for which the packet is meant.
    pub(crate) to_epoch: Epoch,
    /// The epoch of the sender's link.
    pub(crate) from_epoch: Epoch,
    /// The number of the packet among those that the sender has sealed for this receiver.
    pub(crate) number: u64,
}

impl Head {
    /// Creates the header of a packet for one other node.
    pub(crate) fn to_one(from: NodeId, to: NodeId, to_epoch: Epoch, from_epoch: Epoch, number: u64) -> Self {
        Self { kind: TO_ONE, from, to, to_epoch, from_epoch, number }
    }

    /// Creates the header of a packet for any other node with the own name.
    pub(crate) fn to_own_name(own: NodeId, epoch: Epoch) -> Self {
        Self { kind: TO_OWN_NAME, from: own.clone(), to: own, to_epoch: Epoch(0), from_epoch: epoch, number: 0 }
    }
}

/// A packet that was opened.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) head: Head,
    bytes: Vec<u8>,
    start: usize,
}

impl Opened {
    /// Returns the packet as its sender sealed it.
    pub(crate) fn packet(&self) -> &[u8] {
        self.bytes.get(self.start..).unwrap_or_default()
    }
}

/// The reason why a packet is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The packet is not sealed.
    NotSealed,
    /// No key opens the packet: it was changed on its way, or somebody else has sealed it.
    Unopened,
    /// The packet names another sender or receiver.
    Misdirected,
    /// The sender is not a member.
    Stranger,
}

/// Whether the bytes look like a sealed packet.
pub(crate) fn is_sealed(bytes: &[u8]) -> bool {
    matches!(bytes.first(), Some(&(TO_ONE | TO_OWN_NAME)))
}

/// Whether the packet is only for nodes with the sender's name.
pub(crate) fn is_for_own_name(bytes: &[u8]) -> bool {
    bytes.first() == Some(&TO_OWN_NAME)
}

/// The current keys of a node and of all members.
pub(crate) struct Seal {
    own: NodeId,
    secrets: Vec<SecretKey>,
    /// The peers, including the own node.
    peers: BTreeMap<NodeId, Peer>,
}

struct Peer {
    keys: Vec<SealKey>,
    /// One box for each pair of keys, created on first use. The first box seals.
    boxes: OnceLock<Vec<ChaChaBox>>,
}

impl std::fmt::Debug for Seal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Seal").field("own", &self.own).finish_non_exhaustive()
    }
}

impl Seal {
    /// Creates the keys, after checking that `own` can seal for all `members`, and they for it. `members` are names
    /// and keys, without those that are revoked.
    pub(crate) fn new<'a>(
        own: &NodeId,
        secrets: &SealSecrets,
        members: impl Iterator<Item = (&'a str, &'a [SealKey])>,
    ) -> Result<Self, SealError> {
        let (mut peers, mut owners, mut lacking) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
        for (name, keys) in members {
            match NodeId::new(name) {
                Ok(node) if !keys.is_empty() => {
                    peers.insert(node, Peer { keys: keys.to_vec(), boxes: OnceLock::new() });
                }
                // A pattern is not a node's name.
                _ => lacking.push(format!("`{name}`")),
            }
            for key in keys {
                if let Some(other) = owners.insert(*key, name).filter(|other| *other != name) {
                    return Err(SealError::SameKey { one: other.to_owned(), other: name.to_owned() });
                }
            }
        }
        if !lacking.is_empty() {
            return Err(SealError::Missing(lacking.join(", ")));
        }
        let listed = peers.get(own).map(|peer| peer.keys.as_slice()).unwrap_or_default();
        // The other nodes may not know a key yet that is missing from the list here.
        let (mut known, new): (Vec<_>, Vec<_>) = secrets.keys().partition(|(_, public)| listed.contains(public));
        if known.is_empty() {
            return Err(SealError::NotOwn(own.clone()));
        }
        known.extend(new);
        let secrets = known.into_iter().map(|(secret, _)| secret.clone()).collect();
        Ok(Self { own: own.clone(), secrets, peers })
    }

    /// All other members.
    pub(crate) fn others(&self) -> impl Iterator<Item = &NodeId> {
        self.peers.keys().filter(|node| **node != self.own)
    }

    fn boxes(&self, node: &NodeId) -> Option<&[ChaChaBox]> {
        let peer = self.peers.get(node)?;
        let of_secret = |secret| peer.keys.iter().map(move |key| ChaChaBox::new(&key.public_key(), secret));
        Some(peer.boxes.get_or_init(|| self.secrets.iter().flat_map(of_secret).collect()))
    }

    /// Seals a packet for `head.to`; `None` if that node is not a member, or the operating system provides no random
    /// numbers.
    pub(crate) fn seal(&self, head: &Head, packet: &[u8]) -> Option<Vec<u8>> {
        let sealing = self.boxes(&head.to)?.first()?;
        let mut nonce = Nonce::default();
        OsRng.try_fill_bytes(&mut nonce).ok()?;
        let mut bytes = Vec::with_capacity(packet.len() + SEAL_BYTES_MAX);
        bytes.push(head.kind);
        bytes.extend_from_slice(&nonce);
        let mut bytes = postcard::to_extend(head, bytes).ok()?;
        bytes.extend_from_slice(packet);
        let tag = sealing.encrypt_in_place_detached(&nonce, &[], bytes.get_mut(1 + NONCE_BYTES..)?).ok()?;
        bytes.extend_from_slice(&tag);
        Some(bytes)
    }

    /// Opens a packet that has arrived from `from`.
    pub(crate) fn open(&self, from: &NodeId, bytes: &[u8]) -> Result<Opened, Refusal> {
        let boxes = self.boxes(from).ok_or(Refusal::Stranger)?;
        if !is_sealed(bytes) {
            return Err(Refusal::NotSealed);
        }
        let (kind, rest) = bytes.split_first().ok_or(Refusal::NotSealed)?;
        let (nonce, sealed) = rest.split_at_checked(NONCE_BYTES).ok_or(Refusal::Unopened)?;
        let (sealed, tag) = sealed.split_last_chunk::<TAG_BYTES>().ok_or(Refusal::Unopened)?;
        let (nonce, tag, mut bytes) = (Nonce::from_slice(nonce), Tag::from_slice(tag), sealed.to_vec());
        // A failed decryption leaves the bytes unchanged.
        let opens = |own: &ChaChaBox| own.decrypt_in_place_detached(nonce, &[], &mut bytes, tag).is_ok();
        if !boxes.iter().any(opens) {
            return Err(Refusal::Unopened);
        }
        let (head, start) = match postcard::take_from_bytes::<Head>(&bytes) {
            Ok((head, packet)) => (head, bytes.len() - packet.len()),
            Err(_) => return Err(Refusal::Misdirected),
        };
        if head.kind != *kind || head.from != *from || head.to != self.own {
            return Err(Refusal::Misdirected);
        }
        Ok(Opened { head, bytes, start })
    }
}

#[cfg(test)]
mod tests;
