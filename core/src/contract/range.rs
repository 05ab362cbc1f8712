//! A part of an ordered key space: what a range read asks for. Knows bytes and their order, nothing of what they mean.

use std::ops::Bound;

/// The keys from `from` on and before `to`, in the order of their bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRange {
    /// The first key that may be in it.
    pub from: Vec<u8>,
    /// The first key behind it; `None` for no end.
    pub to: Option<Vec<u8>>,
}

/// A range of bytes as ordered maps want it.
pub type ByteBounds<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

/// Which end of a range is read first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the least key up.
    Forward,
    /// From the greatest key down.
    Backward,
}

impl KeyRange {
    /// All keys that begin with `prefix`.
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

    /// The least key behind `key`.
    pub fn next(key: &[u8]) -> Vec<u8> {
        [key, &[0]].concat()
    }

    /// Whether no key can be in it.
    pub fn is_empty(&self) -> bool {
        self.to.as_ref().is_some_and(|to| *to <= self.from)
    }

    /// The range as ordered maps want it; `None` for an empty one, which they may panic at.
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

    /// Takes out the part up to and with `key`, as seen from the end where reading begins.
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

    /// Takes out all there is.
    #[must_use]
    pub fn take(&mut self) -> Self {
        std::mem::replace(self, Self { from: Vec::new(), to: Some(Vec::new()) })
    }
}
