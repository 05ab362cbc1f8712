//! Which steps wait for locks, and how many connections they may hold while they do: one locked row must not take all of them.
//!
//! A step waits for a lock for a moment only. If that was not enough, it lets its connection go. The next time it waits longer, as one
//! of few; if those few are there already, it waits for a moment again, in turn with the others: so who comes upon a row that is only
//! busy is not kept behind those whose row is locked for long. Knows keys, no database.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How long a step waits for a lock the first time: longer than any lock is held that is let go at the end of a short transaction.
const QUICK_WAIT_MAX: Duration = Duration::from_millis(100);
/// How long one waits that has waited before: at most so long its connection is of no use to others.
const SLOW_WAIT_MAX: Duration = Duration::from_secs(5);
/// The most keys that are remembered. A step beyond waits as if for the first time.
const KEYS_MAX: usize = 100_000;
/// The part of the connections that those may hold who wait longer, and as many those who wait for a moment again.
const PART: u32 = 4;

/// The lanes of the steps on one database.
pub(super) struct Lanes {
    /// The steps that have waited for a lock in vain.
    waited: Mutex<HashSet<String>>,
    slow: Arc<Semaphore>,
    again: Arc<Semaphore>,
}

/// The way of one try.
pub(super) struct Lane {
    /// How long it may wait for each lock.
    pub(super) lock_wait_max: Duration,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Lanes {
    /// For a pool of so many connections.
    pub(super) fn new(connections_max: u32) -> Self {
        let part = || Arc::new(Semaphore::new(usize::try_from(connections_max / PART).unwrap_or(1).max(1)));
        Self { waited: Mutex::default(), slow: part(), again: part() }
    }

    /// The lane of the next try of `key`; none if too many wait for locks for it to wait as well.
    pub(super) async fn enter(&self, key: &str) -> Option<Lane> {
        if !self.waited().contains(key) {
            return Some(Lane { lock_wait_max: QUICK_WAIT_MAX, _permit: None });
        }
        if let Ok(permit) = self.slow.clone().try_acquire_owned() {
            return Some(Lane { lock_wait_max: SLOW_WAIT_MAX, _permit: Some(permit) });
        }
        let permit = tokio::time::timeout(SLOW_WAIT_MAX, self.again.clone().acquire_owned()).await;
        Some(Lane { lock_wait_max: QUICK_WAIT_MAX, _permit: Some(permit.ok()?.ok()?) })
    }

    /// A step under `key` has waited for a lock in vain.
    pub(super) fn note_waited(&self, key: &str) {
        let mut waited = self.waited();
        if waited.len() < KEYS_MAX {
            waited.insert(key.to_owned());
        }
    }

    /// A step under `key` has come to a result, or to another trouble.
    pub(super) fn forget(&self, key: &str) {
        self.waited().remove(key);
    }

    fn waited(&self) -> MutexGuard<'_, HashSet<String>> {
        self.waited.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn those_who_have_waited_are_few_at_a_time() {
        for (connections, few) in [(1, 1), (4, 1), (10, 2), (100, 25)] {
            let lanes = Lanes::new(connections);
            let keys: Vec<String> = (0..=2 * few).map(|key| key.to_string()).collect();
            let mut entered = Vec::new();
            for key in &keys {
                // For the first time all may.
                assert_eq!(lanes.enter(key).await.unwrap().lock_wait_max, QUICK_WAIT_MAX);
                lanes.note_waited(key);
            }
            for key in &keys[..2 * few] {
                entered.push(lanes.enter(key).await.unwrap());
            }
            let waits: Vec<Duration> = entered.iter().map(|lane| lane.lock_wait_max).collect();
            assert_eq!(waits, [vec![SLOW_WAIT_MAX; few], vec![QUICK_WAIT_MAX; few]].concat());
            assert!(lanes.enter(&keys[2 * few]).await.is_none(), "one more of {connections}");
            entered.pop();
            assert_eq!(lanes.enter(&keys[2 * few]).await.unwrap().lock_wait_max, QUICK_WAIT_MAX);
            lanes.forget(&keys[0]);
            assert_eq!(lanes.enter(&keys[0]).await.unwrap().lock_wait_max, QUICK_WAIT_MAX);
        }
    }
}
