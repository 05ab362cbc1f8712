//! Pending writes layered over the store: each layer reads as if its writes were in the store already.
//!
//! The layers are the writes of a step, those of the steps before it in the same group commit, and the store; also
//! one more for each message that an actor handles within a step. This module knows keys and values as bytes, not
//! tables.

use std::collections::BTreeMap;

use crate::contract::{Batch, Change, Direction, Entry, KeyRange, Space, Store, StoreError};

/// The minimum number of entries that a layer requests from the layer below, because removals may leave fewer than
/// were requested.
const PAGE_ENTRIES_MIN: usize = 32;

/// Read access to stored state: a store, or writes over one.
pub trait ReadState {
    /// Returns the value of a key in [`Space::State`].
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read.
    fn read(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// Returns at most `limit` entries whose key is in `keys`, like [`Store::range`].
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read.
    fn read_range(&self, keys: &KeyRange, direction: Direction, limit: usize) -> Result<Vec<Entry>, StoreError>;
}

impl ReadState for &dyn Store {
    fn read(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.get(Space::State, key)
    }
    fn read_range(&self, keys: &KeyRange, direction: Direction, limit: usize) -> Result<Vec<Entry>, StoreError> {
        self.range(Space::State, keys, direction, limit)
    }
}

impl<S: Store> ReadState for S {
    fn read(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        (&(self as &dyn Store)).read(key)
    }
    fn read_range(&self, keys: &KeyRange, direction: Direction, limit: usize) -> Result<Vec<Entry>, StoreError> {
        (&(self as &dyn Store)).read_range(keys, direction, limit)
    }
}

/// Writes that are not in the store yet, layered over a store: later steps of a group commit see the earlier ones.
///
/// Without a store, they read as writes over an empty store, which is all that a unit test of a step needs:
///
/// ```
/// use accompanist_core::state::Writes;
/// use accompanist_core::{State, Table};
///
/// const STOCK: Table<String, u32> = Table::new("stock");
///
/// # fn main() -> Result<(), accompanist_core::Abort> {
/// let mut stored = Writes::default();
/// let mut state = State::new(&stored, "seller");
/// STOCK.put(&mut state, "apples", &3)?;
/// let writes = state.into_writes();
/// stored.absorb(writes);
/// assert_eq!(STOCK.get(&State::new(&stored, "seller"), "apples")?, Some(3));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Default, Clone)]
pub struct Writes(BTreeMap<Vec<u8>, Option<Vec<u8>>>);

impl Writes {
    pub(super) fn set(&mut self, key: Vec<u8>, value: Option<Vec<u8>>) {
        self.0.insert(key, value);
    }

    /// The number of written keys.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Applies `later` on top of these writes.
    pub fn absorb(&mut self, later: Self) {
        self.0.extend(later.0);
    }

    /// Returns the writes as changes of [`Space::State`].
    pub fn into_batch(self) -> Batch {
        self.0.into_iter().map(|(key, value)| Change { space: Space::State, key, value }).collect()
    }

    /// Layers these writes over `base`.
    ///
    /// ```
    /// # use accompanist_core::state::Writes;
    /// # use accompanist_core::{Abort, State, Table};
    /// # const SHELF: Table<String, u32> = Table::new("shelf");
    /// # let mut below = Writes::default();
    /// # let mut state = State::new(&below, "seller");
    /// # SHELF.put(&mut state, "books", &10)?;
    /// # let writes = state.into_writes();
    /// # below.absorb(writes);
    /// // There are 10 books `below`. A first step takes one, and the next step sees that before it is stored.
    /// let mut first = State::new(&below, "seller");
    /// SHELF.put(&mut first, "books", &9)?;
    /// let pending = first.into_writes();
    /// let layered = pending.over(&below);
    /// assert_eq!(SHELF.get(&State::new(&layered, "seller"), "books")?, Some(9));
    /// # Ok::<(), Abort>(())
    /// ```
    pub fn over<'a>(&'a self, base: &'a dyn ReadState) -> Layered<'a> {
        Layered { base, writes: self }
    }

    /// Applies these writes to `entries`, within `keys`.
    fn overlay(&self, entries: Vec<Entry>, keys: &KeyRange, direction: Direction) -> Vec<Entry> {
        let mut merged: BTreeMap<_, _> = entries.into_iter().collect();
        for (key, value) in keys.bounds().into_iter().flat_map(|bounds| self.0.range::<[u8], _>(bounds)) {
            match value {
                Some(value) => merged.insert(key.clone(), value.clone()),
                None => merged.remove(key),
            };
        }
        match direction {
            Direction::Forward => merged.into_iter().collect(),
            Direction::Backward => merged.into_iter().rev().collect(),
        }
    }
}

/// Reads as writes over an empty store.
impl ReadState for Writes {
    fn read(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.0.get(key).cloned().flatten())
    }

    fn read_range(&self, keys: &KeyRange, direction: Direction, limit: usize) -> Result<Vec<Entry>, StoreError> {
        let found = keys.bounds().into_iter().flat_map(|bounds| self.0.range::<[u8], _>(bounds));
        let found = found.filter_map(|(key, value)| Some((key.clone(), value.clone()?)));
        Ok(match direction {
            Direction::Forward => found.take(limit).collect(),
            Direction::Backward => found.rev().take(limit).collect(),
        })
    }
}

/// [`Writes`] layered over another layer.
#[derive(Clone, Copy)]
pub struct Layered<'a> {
    base: &'a dyn ReadState,
    writes: &'a Writes,
}

impl std::fmt::Debug for Layered<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.writes.fmt(f)
    }
}

impl ReadState for Layered<'_> {
    fn read(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        match self.writes.0.get(key) {
            Some(value) => Ok(value.clone()),
            None => self.base.read(key),
        }
    }

    fn read_range(&self, keys: &KeyRange, direction: Direction, limit: usize) -> Result<Vec<Entry>, StoreError> {
        let (mut rest, mut found) = (keys.clone(), Vec::new());
        while found.len() < limit && !rest.is_empty() {
            let asked = limit.max(PAGE_ENTRIES_MIN);
            let page = self.base.read_range(&rest, direction, asked)?;
            // Writes beyond the last entry of a full page come after entries that have not been read yet.
            let covered = match page.last() {
                Some((last, _)) if page.len() >= asked => rest.split_off_through(last, direction),
                _ => rest.take(),
            };
            found.extend(self.writes.overlay(page, &covered, direction));
        }
        found.truncate(limit);
        Ok(found)
    }
}
