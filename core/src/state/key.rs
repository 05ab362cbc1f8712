//! Keys of tables as bytes whose order is that of the keys.
//!
//! Three properties, each proved by a property test: bytes compare as the keys do, they give back the key, and no
//! key's bytes begin another's of the same type, so that those of a tuple are those of its parts, one after the other.

use std::fmt::Debug;

use uuid::Uuid;

use crate::id::SessionId;

/// The key type of a [`Table`](crate::Table): whole numbers, `String`, `[u8; N]`, [`Uuid`], [`SessionId`], `()`, and
/// tuples of two to four of these. Sorted as `Ord` does: text by its bytes, tuples by their first part first.
///
/// A type of one's own is a key by way of another key; the order of its rows is the order of that one:
///
/// ```
/// use accompanist_core::state::{AsKey, Key};
///
/// #[derive(Debug, Clone, Copy, PartialEq)]
/// enum Shelf { Upper, Lower }
///
/// impl AsKey<Shelf> for Shelf {
///     fn encode(&self, bytes: &mut Vec<u8>) {
///         AsKey::<u8>::encode(&(*self as u8), bytes);
///     }
/// }
/// impl Key for Shelf {
///     fn decode(bytes: &mut &[u8]) -> Option<Self> {
///         match u8::decode(bytes)? { 0 => Some(Self::Upper), 1 => Some(Self::Lower), _ => None }
///     }
/// }
///
/// let mut bytes = Vec::new();
/// AsKey::<(Shelf, String)>::encode(&(Shelf::Lower, "apples"), &mut bytes);
/// assert_eq!(<(Shelf, String)>::decode(&mut bytes.as_slice()), Some((Shelf::Lower, "apples".into())));
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the key of a table",
    label = "this type has no bytes whose order is its own",
    note = "use whole numbers, `String`, `[u8; N]`, `Uuid`, `SessionId`, or a tuple of two to four of these; for a type of your own, implement `accompanist::state::Key` by way of one of them"
)]
pub trait Key: AsKey<Self> + Sized {
    /// Takes the bytes of one key off the front; `None` when they are no such key.
    fn decode(bytes: &mut &[u8]) -> Option<Self>;
}

/// What stands for a key of type `K` in calls: the key, a reference to it, `&str` for `String`, and tuples of these.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no key of a table with keys `{K}`",
    label = "give it a `{K}`, a reference to one, or, for text, a `&str`"
)]
pub trait AsKey<K>: Debug {
    /// Appends the bytes of the key.
    fn encode(&self, bytes: &mut Vec<u8>);
}

#[diagnostic::do_not_recommend]
impl<K, Q: AsKey<K> + ?Sized> AsKey<K> for &Q {
    fn encode(&self, bytes: &mut Vec<u8>) {
        (**self).encode(bytes);
    }
}

/// Takes `N` bytes off the front.
fn split<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (first, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*first)
}

/// A key of as many bytes as all of its type: how it becomes bytes, and how they become it.
macro_rules! fixed {
    ($(#[$doc:meta])* $key:ty, |$value:ident| $encode:expr, |$bytes:ident| $decode:expr) => {
        $(#[$doc])*
        impl AsKey<$key> for $key {
            fn encode(&self, bytes: &mut Vec<u8>) {
                let $value = self;
                bytes.extend_from_slice(&$encode);
            }
        }
        $(#[$doc])*
        impl Key for $key {
            fn decode(bytes: &mut &[u8]) -> Option<Self> {
                let $bytes = split(bytes)?;
                Some($decode)
            }
        }
    };
}

macro_rules! numbers {
    ($($unsigned:ident $signed:ident),*) => {$(
        fixed!(
            /// Big-endian.
            $unsigned, |number| number.to_be_bytes(), |bytes| Self::from_be_bytes(bytes)
        );
        fixed!(
            /// Big-endian with the sign turned, so that what is below zero comes first.
            $signed, |number| (number ^ Self::MIN).to_be_bytes(), |bytes| Self::from_be_bytes(bytes) ^ Self::MIN
        );
    )*};
}
numbers!(u8 i8, u16 i16, u32 i32, u64 i64, u128 i128);

impl<const N: usize> AsKey<Self> for [u8; N] {
    fn encode(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(self);
    }
}

impl<const N: usize> Key for [u8; N] {
    fn decode(bytes: &mut &[u8]) -> Option<Self> {
        split(bytes)
    }
}

fixed!(Uuid, |id| *id.as_bytes(), |bytes| Self::from_bytes(bytes));
fixed!(SessionId, |id| *id.as_bytes(), |bytes| Self::from_bytes(bytes));

/// The key of a table with one row.
impl AsKey<()> for () {
    fn encode(&self, _: &mut Vec<u8>) {}
}

/// The key of a table with one row.
impl Key for () {
    fn decode(_: &mut &[u8]) -> Option<Self> {
        Some(())
    }
}

/// What ends a text: lower than all that may follow a zero within one.
const TEXT_END: [u8; 2] = [0, 0];
/// What follows a zero that is part of a text.
const ZERO_WITHIN: u8 = u8::MAX;

/// Its bytes, a zero as 0 255, and 0 0 at the end.
impl AsKey<String> for str {
    fn encode(&self, bytes: &mut Vec<u8>) {
        for byte in self.bytes() {
            bytes.push(byte);
            if byte == 0 {
                bytes.push(ZERO_WITHIN);
            }
        }
        bytes.extend_from_slice(&TEXT_END);
    }
}

impl AsKey<Self> for String {
    fn encode(&self, bytes: &mut Vec<u8>) {
        self.as_str().encode(bytes);
    }
}

impl Key for String {
    fn decode(bytes: &mut &[u8]) -> Option<Self> {
        let mut text = Vec::new();
        loop {
            let [byte] = split(bytes)?;
            if byte == 0 {
                match split(bytes)? {
                    [0] => return Self::from_utf8(text).ok(),
                    [ZERO_WITHIN] => {}
                    _ => return None,
                }
            }
            text.push(byte);
        }
    }
}

macro_rules! tuple {
    ($($part:ident $as_part:ident),*) => {
        /// Its parts, one after the other.
        impl<$($part, $as_part: AsKey<$part>),*> AsKey<($($part,)*)> for ($($as_part,)*) {
            fn encode(&self, bytes: &mut Vec<u8>) {
                #[expect(non_snake_case, reason = "a variable for each type")]
                let ($($as_part,)*) = self;
                $($as_part.encode(bytes);)*
            }
        }
        /// Its parts, one after the other.
        impl<$($part: Key),*> Key for ($($part,)*) {
            fn decode(bytes: &mut &[u8]) -> Option<Self> {
                Some(($($part::decode(bytes)?,)*))
            }
        }
    };
}
tuple!(A QA, B QB);
tuple!(A QA, B QB, C QC);
tuple!(A QA, B QB, C QC, D QD);
