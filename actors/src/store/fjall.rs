//! The store on disk. The one place that knows fjall.
//!
//! fjall has no group commit and its calls block: the writer makes one batch and one sync of many requests, on
//! a thread of its own.

use std::path::Path;

use accompanist_core::contract::{Batch, Change, Direction, Entry, KeyRange, Space, Store, StoreError};
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use crate::settings::Durability;

/// How much memory and disk a store takes.
#[derive(Debug, Clone)]
pub struct FjallSizes {
    /// Bytes of cache for blocks that are read.
    pub cache_bytes: u64,
    /// Bytes a keyspace collects in memory before they are written to a table.
    pub memtable_bytes: u64,
    /// Bytes of journals before old ones are cleared away; at least 64 MiB. Opening a store reads all of them, which
    /// takes about a second for each 64 MiB.
    pub journals_bytes_max: u64,
}

impl Default for FjallSizes {
    fn default() -> Self {
        Self { cache_bytes: 32 << 20, memtable_bytes: 16 << 20, journals_bytes_max: 64 << 20 }
    }
}

/// A store in a folder of its own.
pub struct FjallStore {
    database: Database,
    spaces: Vec<(Space, Keyspace)>,
    sync: PersistMode,
}

impl std::fmt::Debug for FjallStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FjallStore").field("sync", &self.sync).finish_non_exhaustive()
    }
}

impl FjallStore {
    /// Opens the store in `folder`, or makes a new one there, with the sizes of a server.
    ///
    /// # Errors
    /// [`StoreError`] when the folder is in use, cannot be used, or holds a store of a later release.
    pub fn open(folder: impl AsRef<Path>) -> Result<Self, StoreError> {
        Self::open_with(folder, &FjallSizes::default())
    }

    /// As [`FjallStore::open`], with sizes of the caller's.
    ///
    /// # Errors
    /// As [`FjallStore::open`].
    pub fn open_with(folder: impl AsRef<Path>, sizes: &FjallSizes) -> Result<Self, StoreError> {
        let folder = folder.as_ref();
        let path = || folder.display().to_string();
        let opened = |error: fjall::Error| match error {
            fjall::Error::Locked => StoreError::InUse { path: path() },
            error => StoreError::Open { path: path(), reason: error.to_string() },
        };
        let database = Database::builder(folder)
            .cache_size(sizes.cache_bytes)
            .max_journaling_size(sizes.journals_bytes_max.max(64 << 20))
            .worker_threads(1)
            .open()
            .map_err(opened)?;
        let mut spaces = Vec::new();
        for space in Space::ALL {
            let options = || KeyspaceCreateOptions::default().max_memtable_size(sizes.memtable_bytes);
            spaces.push((space, database.keyspace(space.name(), options).map_err(opened)?));
        }
        let mut store = Self { database, spaces, sync: PersistMode::SyncData };
        super::check_format(&mut store)?;
        Ok(store)
    }

    /// What [`Store::sync`] has to survive.
    #[must_use]
    pub fn durability(mut self, durability: Durability) -> Self {
        self.sync = match durability {
            Durability::Power => PersistMode::SyncData,
            Durability::Process => PersistMode::Buffer,
        };
        self
    }

    fn keyspace(&self, space: Space) -> Result<&Keyspace, StoreError> {
        let found = self.spaces.iter().find(|(known, _)| *known == space);
        found.map(|(_, keyspace)| keyspace).ok_or_else(|| StoreError::Failed(format!("there is no space `{space}`")))
    }
}

#[expect(clippy::needless_pass_by_value, reason = "used as a function for map_err")]
fn failed(error: fjall::Error) -> StoreError {
    StoreError::Failed(error.to_string())
}

impl Store for FjallStore {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.keyspace(space)?.get(key).map_err(failed)?.map(|value| value.to_vec()))
    }

    fn range(
        &self,
        space: Space,
        keys: &KeyRange,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<Entry>, StoreError> {
        let Some(bounds) = keys.bounds() else { return Ok(Vec::new()) };
        let mut found = self.keyspace(space)?.range::<&[u8], _>(bounds);
        let next = || match direction {
            Direction::Forward => found.next(),
            Direction::Backward => found.next_back(),
        };
        let entry = |guard: fjall::Guard| {
            let (key, value) = guard.into_inner().map_err(failed)?;
            Ok((key.to_vec(), value.to_vec()))
        };
        std::iter::from_fn(next).take(limit).map(entry).collect()
    }

    fn apply(&mut self, batch: Batch) -> Result<(), StoreError> {
        let mut write = self.database.batch();
        for Change { space, key, value } in batch {
            let keyspace = self.keyspace(space)?;
            match value {
                Some(value) => write.insert(keyspace, key, value),
                None => write.remove(keyspace, key),
            }
        }
        write.commit().map_err(failed)
    }

    fn sync(&mut self) -> Result<(), StoreError> {
        self.database.persist(self.sync).map_err(failed)
    }
}
