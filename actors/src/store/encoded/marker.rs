//! The row that says that a store is encoded, with which codec, and with which keys.
//!
//! For each key that values may be encoded with, the row has a text that was encoded with that key. A missing or
//! wrong key is thus detected when the store is opened, and not when the first session is read.

use accompanist_core::contract::{Space, Store, StoreError};
use accompanist_core::record::{read_value, value_bytes};
use serde::{Deserialize, Serialize};

use crate::store::codec::{Codec, CodecError, KeyId, Row};

/// The key of the row, in [`Space::Meta`].
pub(super) const MARKER_KEY: &[u8] = b"codec";

/// The text that is encoded with each key. Not secret.
const PROBE: &[u8] = b"accompanist";

const ROW: Row<'static> = Row { space: Space::Meta, key: MARKER_KEY };

/// See the module's documentation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Marker {
    codec: String,
    /// The keys with which values may be encoded, the oldest first, each with the encoded probe.
    keys: Vec<(u32, Vec<u8>)>,
}

impl Marker {
    pub(super) fn new(codec: &str) -> Self {
        Self { codec: codec.into(), keys: Vec::new() }
    }

    pub(super) fn read(store: &dyn Store) -> Result<Option<Self>, StoreError> {
        store.get(Space::Meta, MARKER_KEY)?.map(|value| read_value(Space::Meta, &value)).transpose()
    }

    pub(super) fn to_bytes(&self) -> Result<Vec<u8>, StoreError> {
        value_bytes(self).map_err(|error| StoreError::Failed(error.to_string()))
    }

    pub(super) fn codec(&self) -> &str {
        &self.codec
    }

    /// Returns the keys of the marker that `codec` does not have.
    ///
    /// # Errors
    /// [`StoreError::Encoding`] if `codec` is another codec, or has another key under the same id.
    pub(super) fn missing_keys(&self, codec: &dyn Codec) -> Result<Vec<KeyId>, StoreError> {
        if self.codec != codec.name() {
            let (stored, given) = (&self.codec, codec.name());
            return Err(StoreError::Encoding(format!(
                "its values are encoded with `{stored}`, and it was opened with `{given}`: open it with `{stored}`"
            )));
        }
        let mut missing = Vec::new();
        for (key, probe) in &self.keys {
            let key = KeyId(*key);
            match codec.decode(key, ROW, probe) {
                Ok(decoded) if decoded == PROBE => {}
                Err(CodecError::NoKey(_)) => missing.push(key),
                Err(CodecError::Failed(reason)) => return Err(StoreError::Failed(reason)),
                Ok(_) | Err(CodecError::Altered(_)) => {
                    return Err(StoreError::Encoding(format!(
                        "its key {key} is another one than this node's of the same id: give the node the key file of \
                         this store"
                    )));
                }
            }
        }
        Ok(missing)
    }

    pub(super) fn remove(&mut self, keys: &[KeyId]) {
        self.keys.retain(|(key, _)| !keys.contains(&KeyId(*key)));
    }

    /// Records that values may be encoded with the codec's current key from now on.
    pub(super) fn add_current(&mut self, codec: &dyn Codec) -> Result<(), StoreError> {
        let current = codec.current_key();
        if self.keys.iter().all(|(key, _)| *key != current.0) {
            let probe = codec.encode(current, ROW, PROBE);
            let probe = probe.map_err(|error| StoreError::Failed(format!("the codec cannot encode: {error}")))?;
            self.keys.push((current.0, probe));
        }
        Ok(())
    }
}
