//! A store that says how long its writes and syncs take. Changes nothing of what it wraps.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use accompanist::contract::{Batch, Direction, Entry, KeyRange, Space, Store, StoreError};
use anyhow::Result;

use crate::times::Times;

/// What has been measured of a store.
#[derive(Debug, Clone)]
pub(crate) struct StoreTimes {
    /// Of each batch, before its sync.
    pub(crate) apply: Times,
    /// Of each sync.
    pub(crate) sync: Times,
}

/// The times of a store that a node has.
#[derive(Debug, Clone)]
pub(crate) struct StoreWatch(Arc<Mutex<StoreTimes>>);

impl StoreWatch {
    /// With nothing measured.
    pub(crate) fn new() -> Result<Self> {
        Ok(Self(Arc::new(Mutex::new(StoreTimes { apply: Times::new()?, sync: Times::new()? }))))
    }

    /// What has been measured by now.
    pub(crate) fn times(&self) -> StoreTimes {
        self.lock().clone()
    }

    /// Forgets what has been measured.
    pub(crate) fn clear(&self) {
        let mut times = self.lock();
        times.apply.clear();
        times.sync.clear();
    }

    fn lock(&self) -> MutexGuard<'_, StoreTimes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// See the module's documentation.
pub(crate) struct TimedStore<S> {
    store: S,
    watch: StoreWatch,
}

impl<S: Store> TimedStore<S> {
    /// Measures `store` into `watch`.
    pub(crate) fn new(store: S, watch: StoreWatch) -> Self {
        Self { store, watch }
    }
}

impl<S: Store> Store for TimedStore<S> {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.store.get(space, key)
    }

    fn range(
        &self,
        space: Space,
        keys: &KeyRange,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<Entry>, StoreError> {
        self.store.range(space, keys, direction, limit)
    }

    fn apply(&mut self, batch: Batch) -> Result<(), StoreError> {
        let begun = Instant::now();
        let applied = self.store.apply(batch);
        self.watch.lock().apply.add(begun.elapsed());
        applied
    }

    fn sync(&mut self) -> Result<(), StoreError> {
        let begun = Instant::now();
        let synced = self.store.sync();
        self.watch.lock().sync.add(begun.elapsed());
        synced
    }
}
