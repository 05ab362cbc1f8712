//! The lives of a node's link.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The bytes of an [`Epoch`], in every form.
pub(super) const EPOCH_BYTES: usize = 16;

/// One life of a node's link: 128 random bits, drawn when it starts. The numbers of its frames and rounds count within it,
/// so an acknowledgement of an earlier life, or a guess, names no frame of this one.
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
