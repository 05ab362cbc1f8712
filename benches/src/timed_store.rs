//! A store that says how long its writes and syncs take, and how much it is given. Changes nothing of what it wraps.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use accompanist::contract::{Batch, Change, Direction, Entry, KeyRange, Space, Store, StoreError};
use anyhow::Result;
use fleet::Times;

/// What has been measured of a store.
#[derive(Debug, Clone)]
pub(crate) struct StoreTimes {
    /// Of each batch, before its sync.
    pub(crate) apply: Times,
    /// Of each sync.
    pub(crate) sync: Times,
}

/// How much a store has been given since it was opened.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct StoreAmounts {
    /// Syncs, with or without effect.
    pub(crate) syncs: u64,
    /// Rows, removals included.
    pub(crate) rows: u64,
    /// Bytes of their keys and values.
    pub(crate) row_bytes: u64,
}

/// The times of a store that a node has.
#[derive(Debug, Clone)]
pub(crate) struct StoreWatch(Arc<Mutex<(StoreTimes, StoreAmounts)>>);

impl StoreWatch {
    /// With nothing measured.
    pub(crate) fn new() -> Result<Self> {
        let times = StoreTimes { apply: Times::new()?, sync: Times::new()? };
        Ok(Self(Arc::new(Mutex::new((times, StoreAmounts::default())))))
    }

    /// What has been measured by now.
    pub(crate) fn times(&self) -> StoreTimes {
        self.lock().0.clone()
    }

    /// What the store was given by now.
    pub(crate) fn amounts(&self) -> StoreAmounts {
        self.lock().1
    }

    /// Forgets the times that have been measured.
    pub(crate) fn clear(&self) {
        let (times, _) = &mut *self.lock();
        times.apply.clear();
        times.sync.clear();
    }

    /// A batch was applied.
    pub(crate) fn applied(&self, rows: u64, row_bytes: u64, time: Duration) {
        let (times, amounts) = &mut *self.lock();
        times.apply.add(time);
        amounts.rows += rows;
        amounts.row_bytes += row_bytes;
    }

    /// A sync has ended.
    pub(crate) fn synced(&self, time: Duration) {
        let (times, amounts) = &mut *self.lock();
        times.sync.add(time);
        amounts.syncs += 1;
    }

    fn lock(&self) -> MutexGuard<'_, (StoreTimes, StoreAmounts)> {
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
        let bytes = |change: &Change| change.key.len() + change.value.as_ref().map_or(0, Vec::len);
        let (rows, row_bytes) = (batch.len() as u64, batch.iter().map(bytes).sum::<usize>() as u64);
        let begun = Instant::now();
        let applied = self.store.apply(batch);
        self.watch.applied(rows, row_bytes, begun.elapsed());
        applied
    }

    fn sync(&mut self) -> Result<(), StoreError> {
        let begun = Instant::now();
        let synced = self.store.sync();
        self.watch.synced(begun.elapsed());
        synced
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
