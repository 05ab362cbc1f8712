//! A service's own data, as a local transaction sees it: reads of the store below, writes kept aside.
//!
//! The writes of a step that is refused are thrown away; those of one that commits go into the same batch
//! as the step's record. Knows keys and values, no store.

use std::collections::BTreeMap;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::abort::Abort;
use crate::contract::{Batch, Change, Entry, Space, Store, StoreError};
use crate::message::{decode, encode};

/// The most entries that one [`State::list`] reads. A step that needs more keeps its data in several tables.
pub const LIST_ENTRIES_MAX: usize = 1_000_000;

/// Reading of stored state: a store, or writes over one.
pub trait ReadState {
    /// The value of a key in [`Space::State`].
    fn read(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;
    /// All entries whose key begins with `prefix`.
    fn read_all(&self, prefix: &[u8]) -> Result<Vec<Entry>, StoreError>;
}

impl ReadState for &dyn Store {
    fn read(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.get(Space::State, key)
    }
    fn read_all(&self, prefix: &[u8]) -> Result<Vec<Entry>, StoreError> {
        self.scan(Space::State, prefix, None, LIST_ENTRIES_MAX)
    }
}

impl<S: Store> ReadState for S {
    fn read(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        (&(self as &dyn Store)).read(key)
    }
    fn read_all(&self, prefix: &[u8]) -> Result<Vec<Entry>, StoreError> {
        (&(self as &dyn Store)).read_all(prefix)
    }
}

/// Writes that are not in the store yet, over a store: later steps of one group commit see the earlier ones.
#[derive(Debug, Default, Clone)]
pub struct Writes(BTreeMap<Vec<u8>, Option<Vec<u8>>>);

impl Writes {
    /// Puts `later` over these.
    pub fn absorb(&mut self, later: Self) {
        self.0.extend(later.0);
    }

    /// The writes as changes of [`Space::State`].
    pub fn into_batch(self) -> Batch {
        self.0.into_iter().map(|(key, value)| Change { space: Space::State, key, value }).collect()
    }

    /// These writes over what `base` has.
    pub fn over<'a>(&'a self, base: &'a dyn ReadState) -> Layered<'a> {
        Layered { base, writes: self }
    }
}

/// [`Writes`] over another layer.
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

    fn read_all(&self, prefix: &[u8]) -> Result<Vec<Entry>, StoreError> {
        let mut entries: BTreeMap<_, _> = self.base.read_all(prefix)?.into_iter().collect();
        for (key, value) in self.writes.0.range(prefix.to_vec()..).take_while(|(key, _)| key.starts_with(prefix)) {
            match value {
                Some(value) => entries.insert(key.clone(), value.clone()),
                None => entries.remove(key),
            };
        }
        Ok(entries.into_iter().collect())
    }
}

/// The data of one role's service: tables of string keys and `serde` values.
///
/// Handed to a [`LocalTransaction`](crate::LocalTransaction). All it does is atomic with the step's record,
/// and steps run one after the other, so they need no locks.
pub struct State<'a> {
    base: &'a dyn ReadState,
    role: &'a str,
    writes: Writes,
}

impl std::fmt::Debug for State<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "State({}, {} writes)", self.role, self.writes.0.len())
    }
}

impl<'a> State<'a> {
    /// The state of `role` over `base`.
    pub fn new(base: &'a dyn ReadState, role: &'a str) -> Self {
        Self { base, role, writes: Writes::default() }
    }

    /// The writes made so far.
    pub fn into_writes(self) -> Writes {
        self.writes
    }

    /// The value of `key` in `table`.
    ///
    /// # Errors
    /// When the store cannot be read or the value is of another type; pass it on with `?`. It stops the
    /// session where it is (nothing is compensated, nothing lost), since no business decision can be made.
    pub fn get<T: DeserializeOwned>(&self, table: &str, key: &str) -> Result<Option<T>, Abort> {
        let bytes = self.writes.over(self.base).read(&self.key(table, key)).map_err(|e| failure(&e))?;
        bytes.map(|bytes| decode(&bytes).map_err(|e| failure(&e))).transpose()
    }

    /// Sets `key` in `table`.
    ///
    /// # Errors
    /// When the value cannot be encoded; pass it on with `?`.
    pub fn put<T: Serialize>(&mut self, table: &str, key: &str, value: &T) -> Result<(), Abort> {
        let value = encode(value).map_err(|e| failure(&e))?;
        self.writes.0.insert(self.key(table, key), Some(value));
        Ok(())
    }

    /// Removes `key` from `table`; nothing happens when it is not there.
    pub fn remove(&mut self, table: &str, key: &str) {
        self.writes.0.insert(self.key(table, key), None);
    }

    /// All keys and values of `table`, in key order.
    ///
    /// # Errors
    /// As [`State::get`].
    pub fn list<T: DeserializeOwned>(&self, table: &str) -> Result<Vec<(String, T)>, Abort> {
        let prefix = self.key(table, "");
        let entries = self.writes.over(self.base).read_all(&prefix).map_err(|e| failure(&e))?;
        let typed = entries.into_iter().map(|(key, value)| {
            let key = String::from_utf8_lossy(key.get(prefix.len()..).unwrap_or_default()).into_owned();
            Ok((key, decode(&value).map_err(|e| failure(&e))?))
        });
        typed.collect()
    }

    /// Role and table with a length before each, so that no two pairs share a prefix, then the key.
    fn key(&self, table: &str, key: &str) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.role.len() + table.len() + key.len() + 4);
        for part in [self.role, table] {
            // Longer names would not fit any sane schema; the cut is still unambiguous, as the rest follows.
            bytes.extend_from_slice(&u16::try_from(part.len()).unwrap_or(u16::MAX).to_be_bytes());
            bytes.extend_from_slice(part.as_bytes());
        }
        bytes.extend_from_slice(key.as_bytes());
        bytes
    }
}

fn failure(error: &dyn std::fmt::Display) -> Abort {
    Abort::failure(error.to_string())
}
