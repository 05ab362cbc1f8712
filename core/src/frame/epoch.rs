//! Epochs: the lives of a node's link.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The size of an [`Epoch`] in bytes, in every form.
pub(super) const EPOCH_BYTES: usize = 16;

/// The identity of one life of a node's link: 128 random bits, drawn when the link starts. Frame and round numbers
/// are counted within an epoch, so an acknowledgement from an earlier epoch, or a guessed one, matches no frame of
/// the current epoch.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "[u8; EPOCH_BYTES]", into = "[u8; EPOCH_BYTES]")]
pub struct Epoch(pub u128);

impl From<[u8; EPOCH_BYTES]> for Epoch {
    fn from(bytes: [u8; EPOCH_BYTES]) -> Self {
        Self(u128::from_be_bytes(bytes))
    }
}

impl From<Epoch> for [u8; EPOCH_BYTES] {
    fn from(epoch: Epoch) -> Self {
        epoch.0.to_be_bytes()
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
