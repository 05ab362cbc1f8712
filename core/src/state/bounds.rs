//! Selections of rows of a table: Rust's ranges over keys, or all keys with a common beginning. Next: `rows`.

use std::ops::{Bound, Range, RangeBounds, RangeFrom, RangeFull, RangeInclusive, RangeTo, RangeToInclusive};

use super::key::AsKey;
use crate::contract::KeyRange;

/// A selection of rows of a table with keys `K`: `..` for all, any of Rust's ranges over keys (an inverted one has no
/// rows), a pair of [`Bound`]s, or [`Under`] for all tuples with a common beginning.
///
/// ```
/// use accompanist_core::state::{KeyBounds, Under};
///
/// fn check(_: impl KeyBounds<(String, u32)>) {}
/// check(..);
/// check(("apples", 3)..);
/// check(("apples", 3)..=("apples", 7));
/// check(Under(("apples",)));
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no range of keys `{K}`",
    label = "rows are named by `..`, by a range of keys, or by `Under((first_part,))`"
)]
pub trait KeyBounds<K> {
    /// The range in bytes, without the prefix of the table. A range without an end goes to the end of the table.
    fn key_range(self) -> KeyRange;
}

/// All keys that begin with these parts: `Under((a,))` of a tuple `(A, B)`, `Under((a, b))` of `(A, B, C)`, ..
///
/// ```
/// # use accompanist_core::{Abort, State, Table, state::{Under, Writes}};
/// /// Which buyer has reserved how many of which book.
/// const RESERVED: Table<(String, u64), u32> = Table::new("reserved");
///
/// # let base = Writes::default();
/// # let state = &mut State::new(&base, "seller");
/// for (book, buyer) in [("atlas", 7), ("atlas", 8), ("novel", 7)] {
///     RESERVED.put(state, (book, buyer), &1)?;
/// }
/// assert_eq!(RESERVED.count(state, Under(("atlas",)))?, 2); // All buyers of one book.
/// # Ok::<(), Abort>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Under<P>(pub P);

fn bytes<K>(key: &impl AsKey<K>) -> Vec<u8> {
    let mut bytes = Vec::new();
    key.encode(&mut bytes);
    bytes
}

fn range<K, Q: AsKey<K>>(keys: &impl RangeBounds<Q>) -> KeyRange {
    // No key is a prefix of another, so no key lies between a key and the smallest byte string greater than it.
    let next = |key| KeyRange::next(&bytes(key));
    let from = match keys.start_bound() {
        Bound::Unbounded => Vec::new(),
        Bound::Included(key) => bytes(key),
        Bound::Excluded(key) => next(key),
    };
    let to = match keys.end_bound() {
        Bound::Unbounded => None,
        Bound::Included(key) => Some(next(key)),
        Bound::Excluded(key) => Some(bytes(key)),
    };
    KeyRange { from, to }
}

impl<K> KeyBounds<K> for RangeFull {
    fn key_range(self) -> KeyRange {
        KeyRange { from: Vec::new(), to: None }
    }
}

macro_rules! bounds {
    ($($range:ty),*) => {$(
        impl<K, Q: AsKey<K>> KeyBounds<K> for $range {
            fn key_range(self) -> KeyRange {
                range::<K, Q>(&self)
            }
        }
    )*};
}
bounds!(Range<Q>, RangeInclusive<Q>, RangeFrom<Q>, RangeTo<Q>, RangeToInclusive<Q>, (Bound<Q>, Bound<Q>));

macro_rules! under {
    ($($part:ident $as_part:ident),* of $($other:ident),*) => {
        impl<$($part, $as_part: AsKey<$part>,)* $($other),*> KeyBounds<($($part,)* $($other),*)>
            for Under<($($as_part,)*)>
        {
            fn key_range(self) -> KeyRange {
                #[expect(non_snake_case, reason = "a variable for each type")]
                let Self(($($as_part,)*)) = self;
                let mut prefix = Vec::new();
                $($as_part.encode(&mut prefix);)*
                KeyRange::under(&prefix)
            }
        }
    };
}
under!(A QA of X);
under!(A QA of X, Y);
under!(A QA of X, Y, Z);
under!(A QA, B QB of X);
under!(A QA, B QB of X, Y);
under!(A QA, B QB, C QC of X);
