//! The codec that encrypts: XChaCha20-Poly1305 with a random nonce for each value, and keys from a file or from the
//! caller.
//!
//! An encrypted value is authenticated together with its row, so that a value that was altered or moved to another
//! row is not accepted as one of the store's. This module knows no stores. Next: `key_ring/file.rs`.

mod file;

use std::path::Path;

use chacha20poly1305::aead::{Aead, Generate, KeyInit, Payload};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};

use super::codec::{Codec, CodecError, KeyId, Row};

/// The size of a key in bytes.
const KEY_BYTES: usize = 32;

/// Keys for the values of a store: the first one encrypts, all of them decrypt.
///
/// To rotate, put a new key with a new id before the others and restart the node: later writes use the new key. An
/// old key is needed until [`EncodedStore::rows_by_key`](super::EncodedStore::rows_by_key) has no value under it;
/// [`EncodedStore::reencode`](super::EncodedStore::reencode) achieves this at once.
///
/// Give each node a separate key, since a value is bound to its row and not to its store.
pub struct KeyRing {
    current: (KeyId, XChaCha20Poly1305),
    older: Vec<(KeyId, XChaCha20Poly1305)>,
}

impl std::fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let older: Vec<_> = self.older.iter().map(|(id, _)| id).collect();
        f.debug_struct("KeyRing").field("current", &self.current.0).field("older", &older).finish_non_exhaustive()
    }
}

/// Keys that cannot be used. No error reveals a key.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyRingError {
    /// The file cannot be read.
    #[error("the key file `{file}` cannot be read ({reason}): see docs/security.md for how to make one")]
    Unreadable {
        /// The file.
        file: String,
        /// Why.
        reason: String,
    },
    /// Users other than the owner may read the file.
    #[error(
        "the key file `{file}` can be read by others than its owner (mode {mode:04o}): run `chmod 600 {file}`, and \
         replace the keys if somebody may have read them"
    )]
    Exposed {
        /// The file.
        file: String,
        /// The file's mode.
        mode: u32,
    },
    /// The file cannot be parsed.
    #[error(
        "{file}:{line}: this is no key file: each key is `[[keys]]` with `id = NUMBER` and `secret = \"64 hexadecimal \
         digits\"`"
    )]
    Malformed {
        /// The file.
        file: String,
        /// The number of the line.
        line: usize,
    },
    /// There is no key.
    #[error("there is no key to encrypt with: give at least one, the current one first")]
    Empty,
    /// Two keys have one id.
    #[error("two keys have the id {0}: give each new key an id that no other has had")]
    Twice(KeyId),
}

accompanist_core::debug_as_text!(KeyRingError);

impl KeyRing {
    /// Reads a file that only its owner may read, in TOML, the current key first:
    ///
    /// ```toml
    /// [[keys]]
    /// id = 2
    /// secret = "9c1185a5c5e9fc54612808977ee8f548b2258d31d8a4f0d7c1c8d2b7a1f9e3b6"
    ///
    /// [[keys]]
    /// id = 1
    /// secret = "0f1e2d3c4b5a69788796a5b4c3d2e1f00112233445566778899aabbccddeeff0"
    /// ```
    ///
    /// # Errors
    /// [`KeyRingError`], with the line that cannot be parsed.
    pub fn load(file: impl AsRef<Path>) -> Result<Self, KeyRingError> {
        Self::new(file::read(file.as_ref())?)
    }

    /// Creates a ring from keys that the caller provides (from a key management service or a secret store), the
    /// current one first.
    ///
    /// # Errors
    /// [`KeyRingError::Empty`] and [`KeyRingError::Twice`].
    pub fn new(keys: impl IntoIterator<Item = (KeyId, [u8; KEY_BYTES])>) -> Result<Self, KeyRingError> {
        let mut keys = keys.into_iter().map(|(id, key)| (id, XChaCha20Poly1305::new(&Key::from(key))));
        let current = keys.next().ok_or(KeyRingError::Empty)?;
        let mut ring = Self { current, older: Vec::new() };
        for (id, cipher) in keys {
            if ring.cipher(id).is_some() {
                return Err(KeyRingError::Twice(id));
            }
            ring.older.push((id, cipher));
        }
        Ok(ring)
    }

    fn cipher(&self, id: KeyId) -> Option<&XChaCha20Poly1305> {
        let all = std::iter::once(&self.current).chain(&self.older);
        all.into_iter().find(|(known, _)| *known == id).map(|(_, cipher)| cipher)
    }
}

impl Codec for KeyRing {
    fn name(&self) -> &'static str {
        "xchacha20-poly1305"
    }

    fn current_key(&self) -> KeyId {
        self.current.0
    }

    /// Returns the nonce, the ciphertext and the tag.
    fn encode(&self, key: KeyId, row: Row<'_>, value: &[u8]) -> Result<Vec<u8>, CodecError> {
        let cipher = self.cipher(key).ok_or(CodecError::NoKey(key))?;
        let nonce = XNonce::try_generate()
            .map_err(|error| CodecError::Failed(format!("the system gives no random numbers ({error})")))?;
        let encrypted = cipher.encrypt(&nonce, Payload { msg: value, aad: &row.to_bytes() });
        let encrypted = encrypted.map_err(|_| CodecError::Failed("the value is too large to encrypt".into()))?;
        Ok([nonce.as_slice(), &encrypted].concat())
    }

    fn decode(&self, key: KeyId, row: Row<'_>, encoded: &[u8]) -> Result<Vec<u8>, CodecError> {
        let cipher = self.cipher(key).ok_or(CodecError::NoKey(key))?;
        let (nonce, encrypted) = encoded.split_first_chunk::<24>().ok_or(CodecError::Altered(key))?;
        let payload = Payload { msg: encrypted, aad: &row.to_bytes() };
        cipher.decrypt(&XNonce::from(*nonce), payload).map_err(|_| CodecError::Altered(key))
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use accompanist_core::contract::Space;

    use super::*;

    const KEY: KeyId = KeyId(7);

    fn row(key: &[u8]) -> Row<'_> {
        Row { space: Space::State, key }
    }

    #[test]
    fn the_same_value_is_never_encrypted_alike() {
        let ring = KeyRing::new([(KEY, [1; 32])]).unwrap();
        let [first, second] = [(); 2].map(|()| ring.encode(KEY, row(b"k"), b"value").unwrap());
        assert_ne!(first[..24], second[..24], "nonces");
        assert_ne!(first[24..], second[24..]);
        assert_eq!(first.len(), 24 + 5 + 16);
        for encoded in [first, second] {
            assert_eq!(ring.decode(KEY, row(b"k"), &encoded).unwrap(), b"value");
        }
    }

    #[test]
    fn what_was_altered_cut_or_moved_is_refused() {
        let ring = KeyRing::new([(KEY, [1; 32]), (KeyId(8), [2; 32])]).unwrap();
        let encoded = ring.encode(KEY, row(b"k"), b"value").unwrap();
        let altered = Err(CodecError::Altered(KEY));
        for position in 0..encoded.len() {
            let mut bytes = encoded.clone();
            bytes[position] ^= 1;
            assert_eq!(ring.decode(KEY, row(b"k"), &bytes), altered, "byte {position}");
            assert_eq!(ring.decode(KEY, row(b"k"), &encoded[..position]), altered, "cut at {position}");
        }
        assert_eq!(ring.decode(KEY, row(b"l"), &encoded), altered);
        assert_eq!(ring.decode(KEY, Row { space: Space::Meta, key: b"k" }, &encoded), altered);
        assert_eq!(ring.decode(KeyId(8), row(b"k"), &encoded), Err(CodecError::Altered(KeyId(8))));
        assert_eq!(ring.decode(KeyId(9), row(b"k"), &encoded), Err(CodecError::NoKey(KeyId(9))));
    }

    #[test]
    fn keys_need_ids_of_their_own_and_are_not_shown() {
        assert_eq!(KeyRing::new([]).unwrap_err(), KeyRingError::Empty);
        let twice = [(KEY, [1; 32]), (KeyId(8), [2; 32]), (KEY, [3; 32])];
        assert_eq!(KeyRing::new(twice).unwrap_err(), KeyRingError::Twice(KEY));
        let ring = KeyRing::new([(KEY, [171; 32]), (KeyId(8), [171; 32])]).unwrap();
        assert_eq!(format!("{ring:?}"), "KeyRing { current: KeyId(7), older: [KeyId(8)], .. }");
    }
}
