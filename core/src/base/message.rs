//! Encodings of values: users' types are encoded self-describingly ([`encode`]), the runtime's own types are not
//! ([`pack`]).
//!
//! This is the only module that knows both encodings. Next: `value/`, the format of the former.

use std::fmt;
use std::sync::Arc;

use serde::de::{DeserializeOwned, Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::base::error_text::debug_as_text;
use crate::base::panics;
use crate::base::value::{self, Encoded, Order};

/// The initial capacity for packed values, sufficient for most of them. A vector that starts empty is reallocated
/// four times.
const PACKED_BYTES_USUAL: usize = 128;

/// A type that can be sent between roles or recorded: every `serde` type that owns its data and reads back what it
/// writes.
///
/// The encoding is self-describing, with the names of types, fields and variants, so all of serde's attributes work,
/// and a value is not read as one of another type. A value is read back when it is encoded, and refused at that point
/// if its type cannot do that. A value that a replay encodes again (a message, a step's input) must not contain a
/// `HashMap` or `HashSet`. `docs/how-to/evolution.md` says which changes of a type are compatible with open sessions.
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

    /// The number of bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the payload is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A hash of a value's bytes, with which a replay checks that it computes the same value.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fingerprint(pub u64);

impl Fingerprint {
    /// Returns the fingerprint of `payload`. The function is the same in every release, because journals contain
    /// fingerprints.
    pub fn of(payload: &Payload) -> Self {
        // Any stable hash would do; this one (SHA-1, truncated) is already a dependency.
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

/// The error for bytes that are not a value of the expected type, or for a value that cannot be encoded.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{type_name}` cannot be {action}: {reason}")]
pub struct CodecError {
    type_name: &'static str,
    action: &'static str,
    reason: String,
}

debug_as_text!(CodecError);

impl CodecError {
    fn new<T: ?Sized>(action: &'static str, reason: &impl fmt::Display) -> Self {
        Self { type_name: std::any::type_name::<T>(), action, reason: reason.to_string() }
    }
}

impl CodecError {
    /// The error for parts that do not make up a `T`.
    pub(crate) fn undecodable<T: ?Sized>(reason: &impl fmt::Display) -> Self {
        Self::new::<T>("decoded", reason)
    }
}

/// The action named in errors about values that are sent or recorded.
const ENCODED: &str = "encoded";
/// The action named in errors about values that a replay must encode again, to the same bytes.
const REPEATED: &str = "encoded to the same bytes twice";

/// Encodes a value that is encoded only once. The bytes are read back at once, so that an unreadable value is refused
/// here, where its type is known, and not by its receiver.
///
/// # Errors
/// [`CodecError`] for a value that its own type cannot read back, or whose `Serialize` fails or panics.
pub fn encode<T: Message>(value: &T) -> Result<Vec<u8>, CodecError> {
    encode_and_read(value).map(|(bytes, _)| bytes)
}

/// Like [`encode`], and also returns the value as a reader of the bytes will get it.
///
/// # Errors
/// As [`encode`].
pub fn encode_and_read<T: Message>(value: &T) -> Result<(Vec<u8>, T), CodecError> {
    let Encoded { mut bytes, .. } = written(value)?;
    let read = read_back(&mut bytes)?;
    Ok((bytes, read))
}

/// Like [`encode`], for a value that a replay computes and encodes again, or that a caller repeats. The same value
/// must have the same bytes each time.
///
/// # Errors
/// As [`encode`]; also for a value that contains a `HashMap`, a `HashSet` or another unordered collection.
pub fn encode_repeatable<T: Message>(value: &T) -> Result<Vec<u8>, CodecError> {
    let Encoded { mut bytes, order } = written(value)?;
    let advice = "use a `BTreeMap` or `BTreeSet`, which have one order";
    let mut copy: T = read_back(&mut bytes)?;
    let rounds = match order {
        Order::Fixed => 0,
        Order::Hashed(collection) => {
            let reason = format!("a `{collection}` has another order each time it is made: {advice}");
            return Err(CodecError::new::<T>(REPEATED, &reason));
        }
        Order::Unknown(entries) => rounds_to_tell_an_order(entries),
    };
    for _ in 0..rounds {
        let mut again = written(&copy)?.bytes;
        copy = read_back(&mut again)?;
        if again != bytes {
            let reason = format!("read back, it has other bytes, as collections without an order have: {advice}");
            return Err(CodecError::new::<T>(REPEATED, &reason));
        }
    }
    Ok(bytes)
}

/// The number of times a value is encoded again to detect an unordered collection in it. The `entries` may be those
/// of a struct with such a collection in it (`serde(flatten)`), of which perhaps only two are unordered. With few
/// entries, the check misses the collection one time in a million. With many entries it misses one time in eight at
/// worst, because each round costs as much as encoding the value; a replay then detects it.
fn rounds_to_tell_an_order(entries: usize) -> usize {
    if entries < 10 { 20 } else { 3 }
}

/// Turns a panic in a user's `Serialize` or `Deserialize` into an ordinary error, so that after an effect it is
/// handled like any other value that cannot be encoded.
fn caught<T, R>(action: &'static str, code: impl FnOnce() -> Result<R, value::Error>) -> Result<R, CodecError> {
    match panics::catch(code) {
        Ok(result) => result.map_err(|error| CodecError::new::<T>(action, &error)),
        Err(panic) => Err(CodecError::new::<T>(action, &format!("it panicked: {panic}"))),
    }
}

fn written<T: Serialize>(value: &T) -> Result<Encoded, CodecError> {
    caught::<T, _>(ENCODED, || value::encode(value))
}

/// Reads back what was just encoded, and corrects type names that the reader does not ask for.
fn read_back<T: DeserializeOwned>(bytes: &mut Vec<u8>) -> Result<T, CodecError> {
    caught::<T, _>(ENCODED, || value::read_back(bytes)).map_err(|CodecError { reason, .. }| {
        let reason = format!(
            "its `Deserialize` does not read what its `Serialize` writes ({reason}): look at its serde attributes"
        );
        CodecError::new::<T>(ENCODED, &reason)
    })
}

/// Decodes a value.
///
/// # Errors
/// [`CodecError`] if the bytes are not a value of type `T`, or if bytes are left over. Its text shows the shape that
/// was written and the shape that `T` has, and no part of the value.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    value::decode(bytes).map_err(|error| CodecError::new::<T>("decoded", &with_shapes::<T>(&error, bytes)))
}

fn with_shapes<T: DeserializeOwned>(error: &value::Error, bytes: &[u8]) -> String {
    let written = value::written_shape(bytes);
    // The shape comes from the user's `Deserialize`, which may panic on an example.
    let expected = panics::catch(value::expected_shape::<T>).unwrap_or_else(|_| "not known".into());
    format!("{error}; written was `{written}`, expected is `{expected}`")
}

/// Returns what an encoded value contains, for people: at most `characters_max` characters. `None` if the bytes are no
/// value. Not for logs, which must not contain users' data.
pub(crate) fn rendered(bytes: &[u8], characters_max: usize) -> Option<String> {
    value::rendered(bytes, characters_max)
}

/// Returns the names and kinds in an encoded value, and nothing of its content.
pub(crate) fn shape(bytes: &[u8]) -> String {
    value::written_shape(bytes)
}

/// Encodes a type of the runtime itself, such as a frame or a record. The encoding is positional (postcard), without
/// names, so variants and fields may only be appended.
///
/// # Errors
/// [`CodecError`] for a type that the encoding cannot represent.
pub fn pack<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, CodecError> {
    let bytes = Vec::with_capacity(PACKED_BYTES_USUAL);
    postcard::to_extend(value, bytes).map_err(|error| CodecError::new::<T>("packed", &error))
}

/// Decodes a value that [`pack`] encoded.
///
/// # Errors
/// As [`decode`].
pub fn unpack<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(value),
        Ok((_, rest)) => Err(CodecError::new::<T>("unpacked", &format!("{} bytes are left over", rest.len()))),
        Err(error) => Err(CodecError::new::<T>("unpacked", &error)),
    }
}
