//! What turns the values of a store into other bytes and back: encryption, as a rule. Knows rows, no stores.
//!
//! Next: `encoded.rs`, which puts a codec over a store, and `key_ring.rs`, the codec that is there.

use std::fmt;

use accompanist_core::contract::Space;

/// Which key a value is under. A key that is replaced keeps its id for good; a new one gets another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(pub u32);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where a value is kept. A codec that authenticates binds the value to it, so that nobody can move it to another row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row<'a> {
    /// In which space.
    pub space: Space,
    /// Under which key of the space.
    pub key: &'a [u8],
}

impl Row<'_> {
    /// Bytes that no other row has: to be authenticated together with a value.
    pub fn to_bytes(&self) -> Vec<u8> {
        // No space has a zero in its name.
        [self.space.name().as_bytes(), &[0], self.key].concat()
    }
}

/// Encodes the values of a store before they are written, and decodes them when they are read.
///
/// [`KeyRing`](crate::store::KeyRing) is one. All calls are made by the store's one writer, and block it.
pub trait Codec: Send + Sync + 'static {
    /// The name of the algorithm. The store keeps it, and is opened by no codec of another name.
    fn name(&self) -> &str;

    /// The key that new values are encoded with.
    fn current_key(&self) -> KeyId;

    /// Encodes the value of `row` with `key`, which is the [current](Self::current_key) one.
    ///
    /// # Errors
    /// [`CodecError`]; the node then stops, and nothing of the batch is written.
    fn encode(&self, key: KeyId, row: Row<'_>, value: &[u8]) -> Result<Vec<u8>, CodecError>;

    /// Decodes what [`Codec::encode`] has made, perhaps in an earlier life of the node.
    ///
    /// # Errors
    /// [`CodecError::NoKey`] without the key, [`CodecError::Altered`] for bytes that were not encoded with this key for this
    /// row.
    fn decode(&self, key: KeyId, row: Row<'_>, encoded: &[u8]) -> Result<Vec<u8>, CodecError>;
}

/// A value that cannot be encoded or decoded. None of them tells a key or a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// The codec does not have the key.
    #[error("it is under key {0}, which this node does not have: add the key to its key file, behind the current one")]
    NoKey(KeyId),
    /// The bytes are not what was encoded.
    #[error(
        "it is not what was encrypted with key {0} for this row: it was altered, cut or moved from another row, or the key \
         is another one of the same id"
    )]
    Altered(KeyId),
    /// The codec failed.
    #[error("{0}")]
    Failed(String),
}
