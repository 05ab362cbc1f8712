//! The encoding of table keys, whose byte order is the order of the keys.
//!
//! The encoding has three properties, each checked by a property test: bytes compare as the keys do; the key can be
//! decoded from its bytes; and no key's bytes are a prefix of another's of the same type, so that the bytes of a
//! tuple are the concatenated bytes of its parts.

use std::fmt::Debug;

use uuid::Uuid;

use crate::base::id::SessionId;

/// The key type of a [`Table`](crate::Table): whole numbers, `String`, `[u8; N]`, [`Uuid`], [`SessionId`], `()`, and
/// tuples of two to four of these. The order is that of `Ord`: text by its bytes, tuples by their first part first.
///
/// A user's type becomes a key by encoding itself as another key; its rows have the order of that key:
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
    note = "use whole numbers, `String`, `[u8; N]`, `Uuid`, `SessionId`, or a tuple of two to four of these; for a \
        type of your own, implement `accompanist::state::Key` by way of one of them"
)]
pub trait Key: AsKey<Self> + Sized {
    /// Decodes one key from the front of `bytes`; `None` if the bytes are no such key.
    fn decode(bytes: &mut &[u8]) -> Option<Self>;

    /// Appends the name of the key's type. A table records it with its first row, because the bytes of a key do not
    /// tell its type, and refuses keys of another name from then on. The default is the type's own name, without its
    /// modules; give a renamed type its former name.
    fn describe(shape: &mut String) {
        let name = std::any::type_name::<Self>();
        let (outer, arguments) = name.split_at(name.find('<').unwrap_or(name.len()));
        shape.push_str(outer.rsplit("::").next().unwrap_or(outer));
        shape.push_str(arguments);
    }
}

/// Returns the name of a key's type.
pub(super) fn shape_of<K: Key>() -> String {
    let mut shape = String::new();
    K::describe(&mut shape);
    shape
}

/// A value that can be passed as a key of type `K`: the key, a reference to it, `&str` for `String`, and tuples of
/// these.
///
/// ```
/// # use accompanist_core::{Abort, State, Table, state::Writes};
/// /// Which buyer has reserved how many of which book.
/// const RESERVED: Table<(String, u64), u32> = Table::new("reserved");
///
/// # let base = Writes::default();
/// # let state = &mut State::new(&base, "seller");
/// let (book, buyer) = ("atlas".to_owned(), 7);
/// RESERVED.put(state, ("atlas", 7), &2)?; // No `String` is made.
/// assert_eq!(RESERVED.get(state, (&book, &buyer))?, Some(2));
/// assert_eq!(RESERVED.get(state, (book, buyer))?, Some(2));
/// # Ok::<(), Abort>(())
/// ```
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

/// Implements a key type of fixed size by its conversions to and from bytes.
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
            /// Big-endian with the sign bit inverted, so that negative numbers come first.
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

/// The terminator of a text: less than everything that may follow a zero byte within one.
const TEXT_END: [u8; 2] = [0, 0];
/// The byte that follows a zero byte within a text.
const ZERO_WITHIN: u8 = u8::MAX;

/// The bytes of the text, with each zero encoded as 0 255, and a final 0 0.
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
        /// The concatenated parts.
        impl<$($part, $as_part: AsKey<$part>),*> AsKey<($($part,)*)> for ($($as_part,)*) {
            fn encode(&self, bytes: &mut Vec<u8>) {
                #[expect(non_snake_case, reason = "a variable for each type")]
                let ($($as_part,)*) = self;
                $($as_part.encode(bytes);)*
            }
        }
        /// The concatenated parts.
        impl<$($part: Key),*> Key for ($($part,)*) {
            fn decode(bytes: &mut &[u8]) -> Option<Self> {
                Some(($($part::decode(bytes)?,)*))
            }
            fn describe(shape: &mut String) {
                let mut before = "(";
                $(
                    shape.push_str(std::mem::replace(&mut before, ", "));
                    $part::describe(shape);
                )*
                shape.push(')');
            }
        }
    };
}
tuple!(A QA, B QB);
tuple!(A QA, B QB, C QC);
tuple!(A QA, B QB, C QC, D QD);
