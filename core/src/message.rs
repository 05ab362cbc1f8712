//! Values as bytes: what users define is self-describing ([`encode`]), what the runtime defines is not ([`pack`]).
//!
//! The one place that knows both encodings. Next: `value/`, the format of the former.

use std::fmt;
use std::sync::Arc;

use serde::de::{DeserializeOwned, Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::panics;
use crate::value::{Encoded, Order};

/// Room for most of what is packed. A vector that begins with none is moved four times on its way there.
const PACKED_BYTES_USUAL: usize = 128;

/// What can be sent between roles or recorded: every `serde` type that owns its data and reads back what it writes.
///
/// The encoding is self-describing, with the names of fields and variants, so all of serde's attributes work. A value is
/// read back when it is encoded, and refused there if its type cannot do that; one that a replay encodes anew (a message, a
/// step's input) may hold no `HashMap` or `HashSet`. Which changes of a type open sessions bear: see
/// `docs/programming-model.md`.
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

    /// Whether there are none.
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

impl CodecError {
    fn new<T: ?Sized>(action: &'static str, reason: &impl fmt::Display) -> Self {
        Self { type_name: std::any::type_name::<T>(), action, reason: reason.to_string() }
    }
}

/// What is done to a value that is sent or recorded.
const ENCODED: &str = "encoded";
/// What is done to a value that a replay has to encode once more, to the same bytes.
const REPEATED: &str = "encoded to the same bytes twice";

/// The bytes of a value that is encoded once. It is read back at once: what cannot be read is refused here, where it is
/// known, and not by its receiver.
///
/// # Errors
/// [`CodecError`] for a value that its own type cannot read back, or whose `Serialize` fails or panics.
pub fn encode<T: Message>(value: &T) -> Result<Vec<u8>, CodecError> {
    encode_and_read(value).map(|(bytes, _)| bytes)
}

/// As [`encode`], and the value as whoever gets the bytes will read it.
///
/// # Errors
/// As [`encode`].
pub fn encode_and_read<T: Message>(value: &T) -> Result<(Vec<u8>, T), CodecError> {
    let Encoded { bytes, .. } = written(value)?;
    let read = read_back(&bytes)?;
    Ok((bytes, read))
}

/// As [`encode`], for a value that a replay computes and encodes anew, or a caller repeats: the same value has to have the
/// same bytes each time.
///
/// # Errors
/// As [`encode`]; and for a value with a `HashMap` or `HashSet`, or another collection without an order.
pub fn encode_repeatable<T: Message>(value: &T) -> Result<Vec<u8>, CodecError> {
    let Encoded { bytes, order } = written(value)?;
    let advice = "use a `BTreeMap` or `BTreeSet`, which have one order";
    let mut copy: T = read_back(&bytes)?;
    let rounds = match order {
        Order::Fixed => 0,
        Order::Hashed(collection) => {
            let reason = format!("a `{collection}` has another order each time it is made: {advice}");
            return Err(CodecError::new::<T>(REPEATED, &reason));
        }
        Order::Unknown(entries) => rounds_to_tell_an_order(entries),
    };
    for _ in 0..rounds {
        if written(&copy)?.bytes != bytes {
            let reason = format!("read back, it has other bytes, as collections without an order have: {advice}");
            return Err(CodecError::new::<T>(REPEATED, &reason));
        }
        copy = read_back(&bytes)?;
    }
    Ok(bytes)
}

/// How often a value is written anew until a collection without an order in it has shown that. Its `entries` may be those of
/// a struct with such a collection in it (`serde(flatten)`), of which perhaps two have no order: with few of them it is missed
/// one time in a million. With many, one time in eight at worst, since each time costs as much as the value; a replay finds it then.
fn rounds_to_tell_an_order(entries: usize) -> usize {
    if entries < 10 { 20 } else { 3 }
}

/// A panic in `Serialize` or `Deserialize` of a user is an error as any other: after an effect, nothing else may lose its
/// result.
fn caught<T, R>(action: &'static str, code: impl FnOnce() -> Result<R, crate::value::Error>) -> Result<R, CodecError> {
    match panics::catch(code) {
        Ok(result) => result.map_err(|error| CodecError::new::<T>(action, &error)),
        Err(panic) => Err(CodecError::new::<T>(action, &format!("it panicked: {panic}"))),
    }
}

fn written<T: Serialize>(value: &T) -> Result<Encoded, CodecError> {
    caught::<T, _>(ENCODED, || crate::value::encode(value))
}

fn read_back<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    caught::<T, _>(ENCODED, || crate::value::decode(bytes)).map_err(|CodecError { reason, .. }| {
        let reason = format!(
            "its `Deserialize` does not read what its `Serialize` writes ({reason}): look at its serde attributes"
        );
        CodecError::new::<T>(ENCODED, &reason)
    })
}

/// The value of these bytes.
///
/// # Errors
/// [`CodecError`] when they are no such value, or have bytes left over.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    crate::value::decode(bytes).map_err(|error| CodecError::new::<T>("decoded", &error))
}

/// The bytes of what the runtime itself defines, such as frames and records: positional (postcard), without names.
/// Variants and fields are only appended.
///
/// # Errors
/// [`CodecError`] for a type that the encoding has no form for.
pub fn pack<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, CodecError> {
    let bytes = Vec::with_capacity(PACKED_BYTES_USUAL);
    postcard::to_extend(value, bytes).map_err(|error| CodecError::new::<T>("packed", &error))
}

/// What [`pack`] has made of a value.
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
