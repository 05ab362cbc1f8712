//! Codecs: they encode the values of a store to other bytes and back, usually for encryption. This module knows rows,
//! but no stores.
//!
//! Next: `encoded.rs`, which applies a codec to a store, and `key_ring.rs`, the codec that is provided.

use std::fmt;

use accompanist_core::contract::Space;

/// The key with which a value is encoded. A replaced key keeps its id for good; a new key gets another id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(pub u32);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The place of a value. An authenticating codec binds the value to its row, so that nobody can move it to another
/// row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row<'a> {
    /// The space of the row.
    pub space: Space,
    /// The key within the space.
    pub key: &'a [u8],
}

impl Row<'_> {
    /// Returns bytes that no other row has, to be authenticated together with a value.
    pub fn to_bytes(&self) -> Vec<u8> {
        // No space has a zero in its name.
        [self.space.name().as_bytes(), &[0], self.key].concat()
    }
}

/// Encodes the values of a store before they are written, and decodes them when they are read.
///
/// [`KeyRing`](crate::store::KeyRing) is one. The store's only writer makes all calls, and each call blocks it.
pub trait Codec: Send + Sync + 'static {
    /// The name of the algorithm. The store records the name, and cannot be opened with a codec of another name.
    fn name(&self) -> &str;

    /// The key with which new values are encoded.
    fn current_key(&self) -> KeyId;

    /// Encodes the value of `row` with `key`, which is the [current](Self::current_key) one.
    ///
    /// # Errors
    /// [`CodecError`]; the node then stops, and nothing of the batch is written.
    fn encode(&self, key: KeyId, row: Row<'_>, value: &[u8]) -> Result<Vec<u8>, CodecError>;

    /// Decodes a value that [`Codec::encode`] has encoded, perhaps in an earlier run of the node.
    ///
    /// # Errors
    /// [`CodecError::NoKey`] without the key, [`CodecError::Altered`] for bytes that were not encoded with this key
    /// for this row.
    fn decode(&self, key: KeyId, row: Row<'_>, encoded: &[u8]) -> Result<Vec<u8>, CodecError>;
}

/// A value that cannot be encoded or decoded. No error reveals a key or a value.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// The codec does not have the key.
    #[error("it is under key {0}, which this node does not have: add the key to its key file, behind the current one")]
    NoKey(KeyId),
    /// The bytes are not those that were encoded.
    #[error(
        "it is not what was encrypted with key {0} for this row: it was altered, cut or moved from another row, or the \
         key is another one of the same id"
    )]
    Altered(KeyId),
    /// The codec failed.
    #[error("{0}")]
    Failed(String),
}

accompanist_core::debug_as_text!(CodecError);
