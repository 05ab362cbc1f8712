//! Values as bytes: the one place that knows the encoding (postcard).

use std::fmt;
use std::sync::Arc;

use serde::de::{DeserializeOwned, Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What can be sent between roles or recorded: every `serde` type that owns its data.
///
/// The encoding is positional (postcard): fields may not be added, removed or reordered while sessions
/// that hold such a value are open.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be sent or recorded",
    label = "this type has no bytes",
    note = "give it `#[derive(serde::Serialize, serde::Deserialize)]` and fields that own their data; of a type from elsewhere, send what it is made of"
)]
pub trait Message: Serialize + DeserializeOwned + Send + Sync + 'static {}
#[diagnostic::do_not_recommend]
impl<T: Serialize + DeserializeOwned + Send + Sync + 'static> Message for T {}

/// Encoded bytes, cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Payload(Arc<[u8]>);

impl Payload {
    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        &self.0
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none (as for `()`).
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A short stand-in for the bytes of a value, to tell whether a replay computes the same one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fingerprint(pub u64);

impl Fingerprint {
    /// That of `payload`. The same in every release, since journals hold it.
    pub fn of(payload: &Payload) -> Self {
        // Any stable hash does; this one (SHA-1, cut off) is at hand.
        let hash = uuid::Uuid::new_v5(&uuid::Uuid::nil(), payload.as_slice());
        Self(hash.as_u64_pair().0)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl From<Vec<u8>> for Payload {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl Serialize for Payload {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Payload {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl<'de> Visitor<'de> for Bytes {
            type Value = Payload;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }
            fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Payload, E> {
                Ok(Payload(bytes.into()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Payload, A::Error> {
                let mut bytes = Vec::new();
                while let Some(byte) = items.next_element()? {
                    bytes.push(byte);
                }
                Ok(bytes.into())
            }
        }
        deserializer.deserialize_bytes(Bytes)
    }
}

/// Bytes that are not the value they should be, or a value that has no bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{type_name}` cannot be {action}: {reason}")]
pub struct CodecError {
    type_name: &'static str,
    action: &'static str,
    reason: String,
}

/// Room for most values. A vector that begins with none is moved four times on its way there.
const ENCODED_BYTES_USUAL: usize = 128;

/// The bytes of a value.
///
/// # Errors
/// [`CodecError`] for a type that the encoding has no form for, such as a sequence of unknown length.
pub fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, CodecError> {
    let bytes = Vec::with_capacity(ENCODED_BYTES_USUAL);
    postcard::to_extend(value, bytes).map_err(|error| codec_error::<T>("encoded", &error))
}

/// The value of these bytes.
///
/// # Errors
/// [`CodecError`] when they are no such value, or have bytes left over.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(value),
        Ok((_, rest)) => Err(CodecError {
            type_name: std::any::type_name::<T>(),
            action: "decoded",
            reason: format!("{} bytes are left over", rest.len()),
        }),
        Err(error) => Err(codec_error::<T>("decoded", &error)),
    }
}

fn codec_error<T: ?Sized>(action: &'static str, error: &postcard::Error) -> CodecError {
    CodecError { type_name: std::any::type_name::<T>(), action, reason: error.to_string() }
}
