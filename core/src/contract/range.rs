//! Ranges of an ordered key space, as range reads take them. This module knows bytes and their order, not their
//! meaning.

use std::ops::Bound;

/// The keys from `from` (inclusive) to `to` (exclusive), in the order of their bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRange {
    /// The first key that may be in the range.
    pub from: Vec<u8>,
    /// The first key after the range; `None` if the range has no end.
    pub to: Option<Vec<u8>>,
}

/// The bounds of a byte range in the form that ordered maps take.
pub type ByteBounds<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

/// The direction in which a range is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the smallest key upwards.
    Forward,
    /// From the greatest key downwards.
    Backward,
}

impl KeyRange {
    /// The range of all keys that begin with `prefix`.
    ///
    /// ```
    /// use accompanist_core::contract::KeyRange;
    ///
    /// assert_eq!(KeyRange::under(b"ab"), KeyRange { from: b"ab".to_vec(), to: Some(b"ac".to_vec()) });
    /// assert_eq!(KeyRange::under(&[7, 255]), KeyRange { from: vec![7, 255], to: Some(vec![8]) });
    /// assert_eq!(KeyRange::under(&[255]).to, None);
    /// ```
    pub fn under(prefix: &[u8]) -> Self {
        let mut to = prefix.to_vec();
        while to.last() == Some(&u8::MAX) {
            to.pop();
        }
        if let Some(last) = to.last_mut() {
            *last += 1;
        }
        Self { from: prefix.to_vec(), to: (!to.is_empty()).then_some(to) }
    }

    /// The smallest key greater than `key`.
    pub fn next(key: &[u8]) -> Vec<u8> {
        [key, &[0]].concat()
    }

    /// Whether no key can be in the range.
    pub fn is_empty(&self) -> bool {
        self.to.as_ref().is_some_and(|to| *to <= self.from)
    }

    /// The bounds in the form that ordered maps take. Returns `None` for an empty range, on which such maps may
    /// panic.
    ///
    /// ```
    /// use accompanist_core::contract::KeyRange;
    /// use std::collections::BTreeMap;
    ///
    /// let map = BTreeMap::from([(b"a".to_vec(), 1), (b"b".to_vec(), 2), (b"ba".to_vec(), 3), (b"c".to_vec(), 4)]);
    /// let found = KeyRange::under(b"b").bounds().map(|bounds| map.range::<[u8], _>(bounds).count());
    /// assert_eq!(found, Some(2));
    /// assert_eq!(KeyRange { from: b"b".to_vec(), to: Some(b"a".to_vec()) }.bounds(), None);
    /// ```
    pub fn bounds(&self) -> Option<ByteBounds<'_>> {
        let to = self.to.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        (!self.is_empty()).then_some((Bound::Included(self.from.as_slice()), to))
    }

    /// Splits off and returns the part up to and including `key`, as seen from the end where reading begins.
    #[must_use]
    pub fn split_off_through(&mut self, key: &[u8], direction: Direction) -> Self {
        match direction {
            Direction::Forward => {
                let next = Self::next(key);
                Self { from: std::mem::replace(&mut self.from, next.clone()), to: Some(next) }
            }
            Direction::Backward => Self { from: key.to_vec(), to: self.to.replace(key.to_vec()) },
        }
    }

    /// Takes the whole range and leaves an empty one.
    #[must_use]
    pub fn take(&mut self) -> Self {
        std::mem::replace(self, Self { from: Vec::new(), to: Some(Vec::new()) })
    }
}
