//! Decides which tombstones are removed, and when: the first to close goes first, once there are too many, too large
//! or too old ones.
//!
//! The batch of each tombstone also writes an index entry in the order of closing, so that collecting needs to read
//! neither tombstones nor the whole index. The collector knows keys and sizes; the writer calls it between two group
//! commits. `docs/decisions/0009-retention.md` says why a tombstone may be removed at all. `age_clock` determines
//! their age.

use std::sync::Arc;
use std::time::Duration;

use accompanist_core::contract::{Batch, Change, Entry, Environment, Space, Store, StoreError};
use accompanist_core::id::InstanceId;
use accompanist_core::record::{read_value, value_bytes};
use metrics::{counter, gauge};
use tokio::sync::watch;

use super::age_clock::AgeClock;
use super::keys;
use crate::base::metric;
use crate::config::Retention;

/// How many tombstones one group commit collects, or one page counts: about a millisecond's work.
const PAGE: usize = 1_024;
/// How many entries are read at a time: usually only a few are due.
const CHUNK: usize = 64;
/// The longest pause between two readings of the clock, which may be set.
const LOOK_PERIOD_MAX: Duration = Duration::from_mins(1);

/// The size of what is stored of closed instances.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tombstones {
    /// The number of tombstones.
    pub count: u64,
    /// Their size in bytes, outputs and keys included.
    pub bytes: u64,
}

/// See the module's documentation.
pub(crate) struct Collector {
    retention: Retention,
    clock: AgeClock,
    kept: Tombstones,
    /// The tombstones that existed at the start are counted up to this key; `None` once all are.
    counting: Option<Vec<u8>>,
    /// All entries up to this key are collected. Scans start here, so that they do not read over removed entries.
    collected_to: Vec<u8>,
    /// A lower bound on the closing times of all tombstones; `None` if there is none.
    oldest_unix_ms: Option<u64>,
    /// Whether more is stored than the bounds allow, with every tombstone younger than the minimum age.
    held_back: bool,
    publisher: watch::Sender<Option<Tombstones>>,
}

/// A tombstone's entry in the index.
struct Ended {
    at_unix_ms: u64,
    id: InstanceId,
    bytes: u64,
}

impl Ended {
    fn change(&self) -> Option<Change> {
        let key = [&self.at_unix_ms.to_be_bytes()[..], &self.id.to_bytes()].concat();
        Some(Change { space: Space::Ended, key, value: Some(value_bytes(&self.bytes).ok()?) })
    }

    fn read((key, value): &Entry) -> Option<Self> {
        let (at, id) = key.split_at_checked(size_of::<u64>())?;
        let at_unix_ms = u64::from_be_bytes(at.try_into().ok()?);
        let bytes = read_value(Space::Ended, value).ok()?;
        Some(Self { at_unix_ms, id: InstanceId::from_bytes(id)?, bytes })
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn removal(space: Space, key: Vec<u8>) -> Change {
    Change { space, key, value: None }
}

impl Collector {
    pub(crate) fn new(retention: Retention, environment: Arc<dyn Environment>) -> Self {
        let clock = AgeClock::new(environment, retention.age_min);
        Self {
            retention,
            clock,
            kept: Tombstones::default(),
            counting: Some(Vec::new()),
            collected_to: Vec::new(),
            oldest_unix_ms: None,
            held_back: false,
            publisher: watch::channel(None).0,
        }
    }

    /// Returns the number and size of the tombstones, as a watch; `None` while they are being counted.
    pub(super) fn watch(&self) -> watch::Receiver<Option<Tombstones>> {
        self.publisher.subscribe()
    }

    /// Records a tombstone that is about to be written. Returns its index entry, to be written with it.
    pub(super) fn note_closed(&mut self, id: InstanceId, tombstone: &Change) -> Option<Change> {
        let value_bytes = tombstone.value.as_ref().map_or(0, Vec::len);
        let bytes = (2 * InstanceId::BYTES + size_of::<u64>() + value_bytes) as u64;
        let ended = Ended { at_unix_ms: self.clock.shown_unix_ms(), id, bytes };
        let change = ended.change()?;
        // Otherwise the count has not reached this key yet, and will see it.
        if self.counting.as_ref().is_none_or(|counted_to| change.key <= *counted_to) {
            self.add(&ended);
        }
        if change.key <= self.collected_to {
            self.collected_to.clear(); // The clock was set back.
        }
        self.note_held_back();
        Some(change)
    }

    /// Returns how long there is nothing to do; `None` if there never will be.
    pub(super) fn pause(&mut self) -> Option<Duration> {
        if self.counting.is_some() {
            return Some(Duration::ZERO);
        }
        let pause_ms = self.due_unix_ms()?.saturating_sub(self.clock.unix_ms());
        let look = self.clock.believes_in().map_or(LOOK_PERIOD_MAX, |after| after.min(LOOK_PERIOD_MAX));
        Some(Duration::from_millis(pause_ms).min(look))
    }

    pub(super) fn is_due(&mut self) -> bool {
        self.pause() == Some(Duration::ZERO)
    }

    /// Counts a page or collects one; returns the removals. Call it only when everything recorded is in the store.
    pub(super) fn page(&mut self, store: &dyn Store) -> Result<Batch, StoreError> {
        let mut batch = Batch::new();
        if self.counting.is_some() {
            self.count_page(store)?;
            self.publish();
        } else {
            let before = self.kept.count;
            self.collect_page(store, &mut batch)?;
            counter!(metric::TOMBSTONES_COLLECTED).increment(before - self.kept.count);
        }
        self.note_held_back();
        Ok(batch)
    }

    fn count_page(&mut self, store: &dyn Store) -> Result<(), StoreError> {
        let entries = store.scan(Space::Ended, &[], self.counting.as_deref(), PAGE)?;
        for ended in entries.iter().filter_map(Ended::read) {
            self.clock.note_earlier(ended.at_unix_ms);
            self.add(&ended);
        }
        let complete = entries.len() < PAGE;
        self.counting = entries.into_iter().next_back().map(|(key, _)| key).filter(|_| !complete);
        Ok(())
    }

    fn collect_page(&mut self, store: &dyn Store, batch: &mut Batch) -> Result<(), StoreError> {
        let now_unix_ms = self.clock.unix_ms();
        for _ in 0..PAGE / CHUNK {
            let entries = store.scan(Space::Ended, &[], Some(&self.collected_to), CHUNK)?;
            let complete = entries.len() < CHUNK;
            for entry in entries {
                match Ended::read(&entry) {
                    Some(ended) if self.goes(&ended, now_unix_ms) => self.collect(store, &ended, batch)?,
                    Some(ended) => {
                        self.oldest_unix_ms = Some(ended.at_unix_ms);
                        return Ok(());
                    }
                    None => tracing::error!("a tombstone's place in the order cannot be read; the tombstone stays"),
                }
                self.collected_to.clone_from(&entry.0);
                batch.push(removal(Space::Ended, entry.0));
            }
            if complete {
                self.oldest_unix_ms = None;
                return Ok(());
            }
        }
        Ok(())
    }

    fn goes(&self, ended: &Ended, now_unix_ms: u64) -> bool {
        let age_ms = now_unix_ms.saturating_sub(ended.at_unix_ms);
        let too_old = self.retention.age_max.is_some_and(|age_max| age_ms >= millis(age_max));
        age_ms >= millis(self.retention.age_min) && (too_old || self.is_over())
    }

    fn collect(&mut self, store: &dyn Store, ended: &Ended, batch: &mut Batch) -> Result<(), StoreError> {
        batch.push(removal(Space::Closed, ended.id.to_bytes().to_vec()));
        batch.extend(keys::release(store, ended.id)?);
        self.oldest_unix_ms = Some(ended.at_unix_ms);
        let Tombstones { count, bytes } = self.kept;
        self.set(Tombstones { count: count.saturating_sub(1), bytes: bytes.saturating_sub(ended.bytes) });
        Ok(())
    }

    fn add(&mut self, ended: &Ended) {
        let oldest = self.oldest_unix_ms.map_or(ended.at_unix_ms, |oldest| oldest.min(ended.at_unix_ms));
        self.oldest_unix_ms = Some(oldest);
        let Tombstones { count, bytes } = self.kept;
        self.set(Tombstones { count: count.saturating_add(1), bytes: bytes.saturating_add(ended.bytes) });
    }

    fn set(&mut self, kept: Tombstones) {
        // Set by differences, so that the values of several nodes in one process add up.
        gauge!(metric::TOMBSTONES).increment(difference(self.kept.count, kept.count));
        gauge!(metric::TOMBSTONE_BYTES).increment(difference(self.kept.bytes, kept.bytes));
        self.kept = kept;
    }

    fn is_over(&self) -> bool {
        let Retention { count_max, bytes_max, .. } = self.retention;
        count_max.is_some_and(|max| self.kept.count > max) || bytes_max.is_some_and(|max| self.kept.bytes > max)
    }

    /// Returns when the first to close may have to be removed.
    fn due_unix_ms(&self) -> Option<u64> {
        let Retention { age_min, age_max, .. } = self.retention;
        let age = if self.is_over() { age_min } else { age_max?.max(age_min) };
        Some(self.oldest_unix_ms?.saturating_add(millis(age)))
    }

    /// Warns when the minimum age overrides the other bounds. This is no failure, but an operator should know.
    fn note_held_back(&mut self) {
        if self.counting.is_some() {
            return;
        }
        let held_back = self.is_over() && !self.is_due();
        if held_back && !self.held_back {
            let Tombstones { count, bytes } = self.kept;
            counter!(metric::RETENTION_HELD_BACK).increment(1);
            tracing::warn!(count, bytes, "retention keeps more than its bounds: all of it is younger than `age_min`");
        }
        // The state ends only when the store is within the bounds, not when the next tombstone becomes removable.
        self.held_back = held_back || (self.held_back && self.is_over());
    }

    /// Publishes the counts: everything recorded and collected is in the store.
    pub(super) fn publish(&self) {
        if self.counting.is_none() {
            self.publisher.send_if_modified(|published| published.replace(self.kept) != Some(self.kept));
        }
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.set(Tombstones::default());
    }
}

#[expect(clippy::cast_precision_loss, reason = "a gauge's numbers are floating, and exact up to 2^53")]
fn difference(from: u64, to: u64) -> f64 {
    to as f64 - from as f64
}

#[cfg(test)]
mod tests;
