//! Counts how many instances are open in the store, in memory or not.
//!
//! They are counted once after a start, page by page between two group commits; each write then updates the count.
//! This module knows only keys.

use accompanist_core::contract::{Change, Space, Store, StoreError};
use metrics::gauge;
use tokio::sync::watch;

use crate::base::metric;

/// How many keys one page counts: the writer can write between two pages.
const PAGE: usize = 256;

/// The instances open in a store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Open {
    pub(crate) count: u64,
    /// Whether all instances that were open at the start are counted.
    pub(crate) complete: bool,
}

/// See the module's documentation.
pub(super) struct OpenCount {
    count: u64,
    /// The instances that were open at the start are counted up to this key; `None` once all are.
    counting: Option<Vec<u8>>,
    /// The keys in the group that is being committed, and whether they open.
    noted: Vec<(Vec<u8>, bool)>,
    publisher: watch::Sender<Open>,
}

impl OpenCount {
    pub(super) fn new() -> Self {
        let publisher = watch::channel(Open::default()).0;
        Self { count: 0, counting: Some(Vec::new()), noted: Vec::new(), publisher }
    }

    pub(super) fn watch(&self) -> watch::Receiver<Open> {
        self.publisher.subscribe()
    }

    pub(super) fn is_counting(&self) -> bool {
        self.counting.is_some()
    }

    /// Records an instance's changes that are about to be written. An instance is opened once and closed once.
    pub(super) fn note(&mut self, changes: &[Change]) {
        let of_open = changes.iter().filter(|change| change.space == Space::Open);
        self.noted.extend(of_open.map(|change| (change.key.clone(), change.value.is_some())));
    }

    /// Applies the recorded changes, which are now on disk.
    pub(super) fn committed(&mut self) {
        if self.noted.is_empty() {
            return;
        }
        let mut count = self.count;
        for (key, opens) in self.noted.drain(..) {
            // Otherwise the count has not reached this key yet, and will see it.
            if self.counting.as_ref().is_none_or(|counted_to| key <= *counted_to) {
                count = if opens { count.saturating_add(1) } else { count.saturating_sub(1) };
            }
        }
        self.set(count);
    }

    /// Counts a page. Call it only when all recorded changes are in the store.
    pub(super) fn page(&mut self, store: &dyn Store) -> Result<(), StoreError> {
        let entries = store.scan(Space::Open, &[], self.counting.as_deref().filter(|key| !key.is_empty()), PAGE)?;
        let (count, complete) = (self.count + entries.len() as u64, entries.len() < PAGE);
        self.counting = entries.into_iter().next_back().map(|(key, _)| key).filter(|_| !complete);
        self.set(count);
        Ok(())
    }

    #[expect(clippy::cast_precision_loss, reason = "a gauge's numbers are floating, and exact up to 2^53")]
    fn set(&mut self, count: u64) {
        // Set by differences, so that the values of several nodes in one process add up.
        gauge!(metric::INSTANCES_OPEN).increment(count as f64 - self.count as f64);
        self.count = count;
        self.publisher.send_replace(Open { count, complete: self.counting.is_none() });
    }
}

impl Drop for OpenCount {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use accompanist_core::contract::Batch;

    use super::*;
    use crate::store::{MemoryDisk, MemoryStore};

    fn change(number: u32, opens: bool) -> Change {
        Change { space: Space::Open, key: number.to_be_bytes().to_vec(), value: opens.then(Vec::new) }
    }

    /// Writes as the writer does.
    fn write(count: &mut OpenCount, store: &mut MemoryStore, changes: Batch) {
        count.note(&changes);
        store.apply(changes).unwrap();
        count.committed();
    }

    #[test]
    fn instances_that_open_or_close_during_the_count_are_counted_once() {
        let mut store = MemoryDisk::default().open().unwrap();
        let pages = u32::try_from(PAGE).unwrap() * 2;
        store.apply((0..pages).map(|number| change(number * 2, true)).collect()).unwrap();
        let mut count = OpenCount::new();
        let watch = count.watch();
        write(&mut count, &mut store, vec![change(1, true)]);
        assert_eq!(*watch.borrow(), Open::default());
        count.page(&store).unwrap();
        assert_eq!(watch.borrow().count, PAGE as u64);
        // Before and after the key that the count has reached.
        write(&mut count, &mut store, vec![change(3, true), change(0, false)]);
        write(&mut count, &mut store, vec![change(pages * 2 - 1, true), change(pages * 2 - 2, false)]);
        while count.is_counting() {
            count.page(&store).unwrap();
        }
        let left = u64::from(pages) + 1;
        assert_eq!(*watch.borrow(), Open { count: left, complete: true });
        write(&mut count, &mut store, vec![change(3, false), change(5, true), change(5, false)]);
        assert_eq!(watch.borrow().count, left - 1);
    }
}
