//! A store in memory that can crash: unsynced batches are lost, the way a disk loses them.
//!
//! For tests and simulations. A [`MemoryDisk`] is the disk, which persists; a [`MemoryStore`] is one run of a node on
//! it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use accompanist_core::contract::{Batch, Change, Direction, Entry, KeyRange, Space, Store, StoreError};

type Entries = BTreeMap<(Space, Vec<u8>), Vec<u8>>;

#[derive(Default)]
struct Disk {
    entries: Entries,
    /// The batches that are applied and not synced, in order.
    unsynced: Vec<Batch>,
    /// How many batches are in the entries.
    commits: u64,
    /// The run of a node that may use the disk. An older one is a process that has been killed.
    life: u64,
    syncs: u64,
}

/// A disk that successive runs of a node use, one after the other.
#[derive(Clone, Default)]
pub struct MemoryDisk(Arc<Mutex<Disk>>);

impl std::fmt::Debug for MemoryDisk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let disk = self.lock();
        write!(f, "MemoryDisk({} entries, {} unsynced batches)", disk.entries.len(), disk.unsynced.len())
    }
}

impl MemoryDisk {
    fn lock(&self) -> MutexGuard<'_, Disk> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a new run on the disk; the previous run can no longer write.
    ///
    /// # Errors
    /// [`StoreError`] when the disk holds a store of a later release.
    pub fn open(&self) -> Result<MemoryStore, StoreError> {
        let life = {
            let mut disk = self.lock();
            disk.life += 1;
            disk.life
        };
        let mut store = MemoryStore { disk: self.clone(), life, ahead: Entries::new(), removed: BTreeSet::new() };
        super::check_format(&mut store)?;
        Ok(store)
    }

    /// Simulates a power cut: of the unsynced batches, the first `kept` still reach the disk, and the rest is lost.
    /// The current run can no longer write.
    pub fn crash(&self, kept: usize) {
        let mut disk = self.lock();
        disk.life += 1;
        let unsynced = std::mem::take(&mut disk.unsynced);
        for batch in unsynced.into_iter().take(kept) {
            disk.commits += 1;
            write(&mut disk.entries, batch);
        }
    }

    /// Returns another disk with the synced contents of this one: a backup.
    #[must_use]
    pub fn copy(&self) -> Self {
        let disk = self.lock();
        let (entries, commits) = (disk.entries.clone(), disk.commits);
        Self(Arc::new(Mutex::new(Disk { entries, commits, ..Disk::default() })))
    }

    /// Returns how many batches a crash could lose now.
    pub fn unsynced(&self) -> usize {
        self.lock().unsynced.len()
    }

    /// Returns how many syncs the disk has done.
    pub fn syncs(&self) -> u64 {
        self.lock().syncs
    }
}

fn write(entries: &mut Entries, batch: Batch) {
    for Change { space, key, value } in batch {
        match value {
            Some(value) => entries.insert((space, key), value),
            None => entries.remove(&(space, key)),
        };
    }
}

/// Returns the entries of a space within `keys`, which is not empty.
fn under<'a>(
    entries: &'a Entries,
    space: Space,
    keys: &KeyRange,
) -> impl DoubleEndedIterator<Item = (&'a (Space, Vec<u8>), &'a Vec<u8>)> {
    let next_space = || Space::ALL.into_iter().filter(|other| *other > space).min().map(|next| (next, Vec::new()));
    let to = keys.to.clone().map(|to| (space, to)).or_else(next_space).map_or(Bound::Unbounded, Bound::Excluded);
    entries.range((Bound::Included((space, keys.from.clone())), to))
}

fn first<'a>(
    entries: impl DoubleEndedIterator<Item = (&'a (Space, Vec<u8>), &'a Vec<u8>)>,
    direction: Direction,
    limit: usize,
) -> Vec<Entry> {
    let entries = entries.map(|((_, key), value)| (key.clone(), value.clone()));
    match direction {
        Direction::Forward => entries.take(limit).collect(),
        Direction::Backward => entries.rev().take(limit).collect(),
    }
}

/// One run of a node on a [`MemoryDisk`].
#[derive(Debug)]
pub struct MemoryStore {
    disk: MemoryDisk,
    life: u64,
    /// The writes that are applied and not synced, as this run sees them.
    ahead: Entries,
    removed: BTreeSet<(Space, Vec<u8>)>,
}

impl MemoryStore {
    fn alive(&self) -> Result<MutexGuard<'_, Disk>, StoreError> {
        let disk = self.disk.lock();
        if disk.life == self.life { Ok(disk) } else { Err(StoreError::Closed) }
    }
}

impl Store for MemoryStore {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let disk = self.alive()?;
        let key = (space, key.to_vec());
        if self.removed.contains(&key) {
            return Ok(None);
        }
        Ok(self.ahead.get(&key).or_else(|| disk.entries.get(&key)).cloned())
    }

    fn range(
        &self,
        space: Space,
        keys: &KeyRange,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<Entry>, StoreError> {
        let disk = self.alive()?;
        let mut found = BTreeMap::new();
        if !keys.is_empty() {
            let synced = under(&disk.entries, space, keys).filter(|(key, _)| !self.removed.contains(*key));
            // Either source alone may have all of the first entries.
            found.extend(first(synced, direction, limit));
            found.extend(first(under(&self.ahead, space, keys), direction, limit));
        }
        Ok(match direction {
            Direction::Forward => found.into_iter().take(limit).collect(),
            Direction::Backward => found.into_iter().rev().take(limit).collect(),
        })
    }

    fn apply(&mut self, batch: Batch) -> Result<(), StoreError> {
        batch.iter().try_for_each(Change::check)?;
        self.alive()?.unsynced.push(batch.clone());
        for Change { space, key, value } in batch {
            let key = (space, key);
            match value {
                Some(value) => {
                    self.removed.remove(&key);
                    self.ahead.insert(key, value);
                }
                None => {
                    self.ahead.remove(&key);
                    self.removed.insert(key);
                }
            }
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), StoreError> {
        {
            let mut disk = self.alive()?;
            disk.syncs += 1;
            for batch in std::mem::take(&mut disk.unsynced) {
                disk.commits += 1;
                write(&mut disk.entries, batch);
            }
        }
        self.ahead.clear();
        self.removed.clear();
        Ok(())
    }

    fn check(&mut self) -> Result<(), StoreError> {
        self.alive().map(drop)
    }

    fn commits(&self) -> u64 {
        let disk = self.disk.lock();
        disk.commits + disk.unsynced.len() as u64
    }
}
