//! A store whose values are encoded, usually encrypted (decision 0038). Keys, and therefore the order of rows, are
//! not encoded.
//!
//! Two rows stay in clear: the number of the store's format, which is read before anything else is known, and the
//! marker, which says with which keys the store is encoded (`encoded/marker.rs`). This module knows no algorithm.

mod marker;

use std::collections::BTreeMap;

use accompanist_core::contract::{Batch, Change, Direction, Entry, KeyRange, Space, Store, StoreError};

use self::marker::{MARKER_KEY, Marker};
use super::FORMAT_KEY;
use super::codec::{Codec, CodecError, KeyId, Row};

/// The version of a value's framing: this byte, four bytes with the key's id, the codec's output.
const VALUE_VERSION: u8 = 1;

/// The number of rows per read when all rows are traversed.
const PAGE: usize = 256;

/// The last key that was read, and the encoded rows of a space up to it.
type Page = (Vec<u8>, Vec<Entry>);

/// A store that wraps another one and encodes its values.
///
/// Not encoded are: the keys of rows (ids of sessions, names of nodes, of tables, and keys of their rows), the sizes
/// of values up to a constant, how many rows there are and when they are written.
///
/// ```
/// use accompanist::store::{EncodedStore, FjallStore, KeyId, KeyRing};
///
/// # let folder = tempfile::tempdir()?;
/// // A real node reads them from a file, with `KeyRing::load`.
/// let keys = || KeyRing::new([(KeyId(1), [7; 32])]);
/// let store = EncodedStore::open(FjallStore::open(folder.path())?, keys()?)?;
/// drop(store); // Given to `NodeBuilder::store`, as a rule.
///
/// let other = KeyRing::new([(KeyId(1), [8; 32])])?;
/// let error = EncodedStore::open(FjallStore::open(folder.path())?, other).unwrap_err();
/// assert!(error.to_string().contains("its key 1 is another one"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct EncodedStore<S> {
    store: S,
    codec: Box<dyn Codec>,
}

impl<S> std::fmt::Debug for EncodedStore<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EncodedStore").field("codec", &self.codec.name()).finish_non_exhaustive()
    }
}

impl<S: Store> EncodedStore<S> {
    /// Opens the contents of `store` with `codec`, or begins a new store if it is empty. A key that the codec no
    /// longer has, and with which no value is encoded any more, is removed from the marker.
    ///
    /// # Errors
    /// [`StoreError::Encoding`] for a store in clear, for a store of another codec, and for keys that are missing or
    /// are not those with which the store was written; nothing is changed in these cases. Otherwise the errors of the
    /// wrapped store.
    pub fn open(store: S, codec: impl Codec) -> Result<Self, StoreError> {
        let mut encoded = Self { store, codec: Box::new(codec) };
        let found = Marker::read(&encoded.store)?;
        if found.is_none() && has_rows(&encoded.store)? {
            return Err(StoreError::Encoding(
                "its values are in clear, and it was opened with a codec: open it without, or begin with an empty \
                 folder"
                    .into(),
            ));
        }
        let mut marker = found.clone().unwrap_or_else(|| Marker::new(encoded.codec.name()));
        let missing = marker.missing_keys(encoded.codec.as_ref())?;
        if !missing.is_empty() {
            let rows = encoded.rows_by_key()?;
            if let Some((key, rows)) = missing.iter().find_map(|key| rows.get_key_value(key)) {
                return Err(StoreError::Encoding(format!(
                    "{rows} of its values are under key {key}, which this node does not have: give it the key file of \
                     this store, or add the key behind the current one"
                )));
            }
        }
        marker.remove(&missing);
        marker.add_current(encoded.codec.as_ref())?;
        if found.as_ref() != Some(&marker) {
            // The marker must be durable before the first value under a new key is.
            encoded.write_marker(&marker)?;
        }
        Ok(encoded)
    }

    /// Returns how many values are encoded with each key. Reads all values.
    ///
    /// # Errors
    /// Those of the wrapped store, and [`StoreError::Corrupt`] for a value that was never encoded.
    pub fn rows_by_key(&self) -> Result<BTreeMap<KeyId, u64>, StoreError> {
        let mut rows = BTreeMap::new();
        for space in Space::ALL {
            self.each_page(space, |page| {
                for (_, stored) in page {
                    let (key, _) = split(space, stored)?;
                    *rows.entry(key).or_default() += 1;
                }
                Ok(())
            })?;
        }
        Ok(rows)
    }

    /// Encodes again all values that are not encoded with the current key, and removes the other keys from the
    /// marker. Returns how many values that were. Use it on a store whose node is not running: a running node encodes
    /// new values with the current key in any case.
    ///
    /// Files of the store may contain the old values for a while: the store rewrites them in the background.
    ///
    /// # Errors
    /// Those of reading and writing the store. Values that were encoded again before the error stay so, and all
    /// values stay readable.
    pub fn reencode(&mut self) -> Result<u64, StoreError> {
        let (current, mut count) = (self.codec.current_key(), 0);
        for space in Space::ALL {
            let mut after = None;
            while let Some((last, page)) = self.page(space, after.as_deref())? {
                let mut batch = Batch::new();
                for (key, stored) in page {
                    if split(space, &stored)?.0 != current {
                        let value = self.decode(space, &key, &stored)?;
                        batch.push(Change { space, key, value: Some(value) });
                    }
                }
                count += batch.len() as u64;
                if !batch.is_empty() {
                    self.apply(batch)?;
                    self.sync()?;
                }
                after = Some(last);
            }
        }
        let mut marker = Marker::new(self.codec.name());
        marker.add_current(self.codec.as_ref())?;
        self.write_marker(&marker)?;
        Ok(count)
    }

    /// Returns the wrapped store, with the values as they are on disk.
    pub fn into_inner(self) -> S {
        self.store
    }

    fn write_marker(&mut self, marker: &Marker) -> Result<(), StoreError> {
        let value = Some(marker.to_bytes()?);
        self.store.apply(vec![Change { space: Space::Meta, key: MARKER_KEY.to_vec(), value }])?;
        self.store.sync()
    }

    /// Calls `visit` with all encoded rows of a space, as they are stored.
    fn each_page(
        &self,
        space: Space,
        mut visit: impl FnMut(&[Entry]) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut after = None;
        while let Some((last, page)) = self.page(space, after.as_deref())? {
            visit(&page)?;
            after = Some(last);
        }
        Ok(())
    }

    /// Returns the next encoded rows after a key, as they are stored, with the last key that was read.
    fn page(&self, space: Space, after: Option<&[u8]>) -> Result<Option<Page>, StoreError> {
        let mut page = self.store.scan(space, &[], after, PAGE)?;
        let Some((last, _)) = page.last() else { return Ok(None) };
        let last = last.clone();
        page.retain(|(key, _)| !is_clear(space, key));
        Ok(Some((last, page)))
    }

    fn encode(&self, mut change: Change) -> Result<Change, StoreError> {
        if is_clear(change.space, &change.key) {
            return Ok(change);
        }
        let (id, row) = (self.codec.current_key(), Row { space: change.space, key: &change.key });
        let encoded = change.value.as_ref().map(|value| self.codec.encode(id, row, value)).transpose();
        let space = change.space;
        let encoded =
            encoded.map_err(|error| StoreError::Failed(format!("a value of `{space}` cannot be encoded: {error}")))?;
        change.value = encoded.map(|encoded| join(id, &encoded));
        Ok(change)
    }

    fn decode(&self, space: Space, key: &[u8], stored: &[u8]) -> Result<Vec<u8>, StoreError> {
        let (id, encoded) = split(space, stored)?;
        self.codec.decode(id, Row { space, key }, encoded).map_err(|error| corrupt(space, &error))
    }
}

impl<S: Store> Store for EncodedStore<S> {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        if is_marker(space, key) {
            return Ok(None);
        }
        match self.store.get(space, key)? {
            Some(stored) if !is_clear(space, key) => self.decode(space, key, &stored).map(Some),
            stored => Ok(stored),
        }
    }

    fn range(
        &self,
        space: Space,
        keys: &KeyRange,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<Entry>, StoreError> {
        // One of them may be the marker, which is not a row of this store.
        let limit_below = if space == Space::Meta { limit.saturating_add(1) } else { limit };
        let found = self.store.range(space, keys, direction, limit_below)?.into_iter();
        let found = found.filter(|(key, _)| !is_marker(space, key)).take(limit);
        let decoded = found.map(|(key, stored)| {
            let value = if is_clear(space, &key) { stored } else { self.decode(space, &key, &stored)? };
            Ok((key, value))
        });
        decoded.collect()
    }

    fn apply(&mut self, batch: Batch) -> Result<(), StoreError> {
        // Check the changes as given: the wrapped store sees values that are larger by the codec's overhead.
        batch.iter().try_for_each(Change::check)?;
        if let Some(Change { space, .. }) = batch.iter().find(|change| is_marker(change.space, &change.key)) {
            let reason = "its key is that of the marker of an encoded store".into();
            return Err(StoreError::Unstorable { space: *space, reason });
        }
        let encoded = batch.into_iter().map(|change| self.encode(change)).collect::<Result<_, _>>()?;
        self.store.apply(encoded)
    }

    fn sync(&mut self) -> Result<(), StoreError> {
        self.store.sync()
    }

    fn check(&mut self) -> Result<(), StoreError> {
        self.store.check()
    }

    fn commits(&self) -> u64 {
        self.store.commits()
    }

    fn make_ready(&mut self) {
        self.store.make_ready();
    }
}

/// Checks that values read from the store are values as they were written.
pub(crate) fn check_decoded(store: &dyn Store) -> Result<(), StoreError> {
    // An encoded store hides this row from its users.
    match Marker::read(store)? {
        Some(marker) => Err(StoreError::Encoding(format!(
            "its values are encoded with `{}`: open it with `EncodedStore` and the keys that it was written with",
            marker.codec()
        ))),
        None => Ok(()),
    }
}

fn is_marker(space: Space, key: &[u8]) -> bool {
    space == Space::Meta && key == MARKER_KEY
}

/// Whether the row is not encoded.
fn is_clear(space: Space, key: &[u8]) -> bool {
    space == Space::Meta && [FORMAT_KEY, MARKER_KEY].contains(&key)
}

/// Whether the store holds anything besides the rows of an empty store.
fn has_rows(store: &dyn Store) -> Result<bool, StoreError> {
    for space in Space::ALL {
        if store.scan(space, &[], None, 2)?.iter().any(|(key, _)| !is_clear(space, key)) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn join(key: KeyId, encoded: &[u8]) -> Vec<u8> {
    [&[VALUE_VERSION], key.0.to_be_bytes().as_slice(), encoded].concat()
}

fn split(space: Space, stored: &[u8]) -> Result<(KeyId, &[u8]), StoreError> {
    let unknown = |reason: String| StoreError::Corrupt { space, reason };
    match stored.split_first() {
        Some((&VALUE_VERSION, rest)) => {
            let (key, encoded) = rest.split_first_chunk().ok_or_else(|| unknown("it is cut off".into()))?;
            Ok((KeyId(u32::from_be_bytes(*key)), encoded))
        }
        Some((version, _)) => Err(unknown(format!("it is encoded in version {version}, or not at all"))),
        None => Err(unknown("it is empty, and so not encoded".into())),
    }
}

fn corrupt(space: Space, error: &CodecError) -> StoreError {
    StoreError::Corrupt { space, reason: error.to_string() }
}
