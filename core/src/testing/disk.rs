//! A minimal disk in memory. Everything on it is durable.

use std::collections::BTreeMap;

use crate::base::id::{InstanceId, Path};
use crate::contract::{Batch, Change, Direction, Entry, KeyRange, Space, StoreError};
use crate::machine::{Limits, LocalResult, Machine, Write};
use crate::record::{Closed, Opened, Record, read_value};
use crate::state::{ReadState, State};

/// The data that one role has made durable, by space and key.
///
/// ```
/// use accompanist_core::testing::Disk;
/// use accompanist_core::{Abort, State, Table};
///
/// const SHELF: Table<String, u32> = Table::new("shelf");
///
/// let mut disk = Disk::default();
/// let mut state = State::new(&disk, "seller");
/// SHELF.put(&mut state, "books", &10)?;
/// let writes = state.into_writes();
/// disk.apply(writes.into_batch());
/// assert_eq!(SHELF.get(&State::new(&disk, "seller"), "books")?, Some(10));
/// # Ok::<(), Abort>(())
/// ```
#[derive(Debug, Default, Clone, PartialEq, Eq, Hash)]
pub struct Disk(BTreeMap<(Space, Vec<u8>), Vec<u8>>);

impl Disk {
    /// Stores a batch.
    pub fn apply(&mut self, batch: Batch) {
        for change in batch {
            match change.value {
                Some(value) => self.0.insert((change.space, change.key), value),
                None => self.0.remove(&(change.space, change.key)),
            };
        }
    }

    /// Runs the local transaction of a write and stores all its changes, like a writer's group commit for a single
    /// write. Returns the transaction's result, for the part that requested it.
    pub fn write(&mut self, write: Write) -> Option<(Path, LocalResult)> {
        let (batch, local) = self.prepare(write);
        self.apply(batch);
        local
    }

    /// Like [`Disk::write`], without storing anything. Returns also what is to be stored.
    #[doc(hidden)]
    pub fn prepare(&self, write: Write) -> (Batch, Option<(Path, LocalResult)>) {
        let mut batch = write.changes;
        let local = write.local.map(|job| {
            let (writes, record, result) = job.run(self);
            batch.extend(writes.into_batch());
            batch.extend(record);
            (job.path().clone(), result)
        });
        let tombstones = batch.iter().filter(|change| change.space == Space::Closed && change.value.is_some());
        let places: Vec<Change> = tombstones.map(place).collect();
        batch.extend(places);
        (batch, local)
    }

    /// Returns the machine of a role's next life: restored from this disk, or begun with `opened` if there is nothing
    /// on it.
    #[doc(hidden)]
    pub fn machine(&self, id: InstanceId, role: &'static str, opened: &Opened, limits: Limits) -> Machine {
        match self.opened() {
            Some(opened) => Machine::restore(id, role, &opened, self.records(), limits),
            None => Machine::begin(id, role, opened, limits),
        }
    }

    /// Returns the entries of a space, in order.
    pub fn entries(&self, space: Space) -> Vec<Entry> {
        let entries = self.0.iter().filter(|((of, _), _)| *of == space);
        entries.map(|((_, key), value)| (key.clone(), value.clone())).collect()
    }

    /// Returns the rows of the built-in state, in order, without what is recorded of the tables themselves.
    pub fn rows(&self) -> Vec<Entry> {
        self.entries(Space::State).into_iter().filter(|(key, _)| State::is_row(key)).collect()
    }

    /// Returns the opening record of the one session on this disk.
    pub fn opened(&self) -> Option<Opened> {
        self.all(Space::Open).into_iter().next()
    }

    /// Returns the tombstone of the one session on this disk.
    pub fn closed(&self) -> Option<Closed> {
        self.all(Space::Closed).into_iter().next()
    }

    /// Returns the journal, in the order of a scan.
    pub fn records(&self) -> Vec<Record> {
        self.all(Space::Journal)
    }

    #[expect(clippy::expect_used, reason = "these bytes were written by this very code")]
    fn all<T: serde::de::DeserializeOwned>(&self, space: Space) -> Vec<T> {
        let entries = self.entries(space).into_iter();
        entries.map(|(_, value)| read_value(space, &value).expect("what was written can be read")).collect()
    }
}

/// Returns a tombstone's entry in the order of closing, which a writer adds to its batch. Here all entries have the
/// same time.
fn place(tombstone: &Change) -> Change {
    let key = [&0u64.to_be_bytes()[..], &tombstone.key].concat();
    Change { space: Space::Ended, key, value: Some(Vec::new()) }
}

impl ReadState for Disk {
    fn read(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.0.get(&(Space::State, key.to_vec())).cloned())
    }
    fn read_range(&self, keys: &KeyRange, direction: Direction, limit: usize) -> Result<Vec<Entry>, StoreError> {
        let mut found = self.entries(Space::State);
        found.retain(|(key, _)| *key >= keys.from && keys.to.as_ref().is_none_or(|to| key < to));
        if direction == Direction::Backward {
            found.reverse();
        }
        found.truncate(limit);
        Ok(found)
    }
}
