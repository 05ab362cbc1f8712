//! Limits how many connections steps may hold while they wait for locks: one locked row must not occupy all of them.
//!
//! A step first waits for a lock only briefly, and releases its connection if that was not enough. The next time it
//! waits longer, as one of a few steps. If those few places are taken, it takes its turn for another brief wait. A
//! step whose row is merely busy is thus not held up by steps whose row is locked for long. This module knows keys,
//! no database.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How long a step waits for a lock the first time: longer than a short transaction holds a lock.
const QUICK_WAIT_MAX: Duration = Duration::from_millis(100);
/// How long a step waits if it has waited before: at most this long, its connection is unavailable to others.
const SLOW_WAIT_MAX: Duration = Duration::from_secs(5);
/// The most keys that are remembered. Further steps always wait as if for the first time.
const KEYS_MAX: usize = 100_000;
/// The fraction of connections (one in this many) for steps that wait longer, and again for steps that repeat the
/// brief wait.
const PART: u32 = 4;

/// The lanes of the steps on one database.
pub(super) struct Lanes {
    /// The steps that have waited for a lock in vain.
    waited: Mutex<HashSet<String>>,
    slow: Arc<Semaphore>,
    again: Arc<Semaphore>,
}

/// The permission for one try.
pub(super) struct Lane {
    /// How long the try may wait for each lock.
    pub(super) lock_wait_max: Duration,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Lanes {
    /// Creates the lanes for a pool of `connections_max` connections.
    pub(super) fn new(connections_max: u32) -> Self {
        let part = || Arc::new(Semaphore::new(usize::try_from(connections_max / PART).unwrap_or(1).max(1)));
        Self { waited: Mutex::default(), slow: part(), again: part() }
    }

    /// Returns the lane for the next try of `key`; `None` if too many steps already wait for locks.
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

    /// Records that a step under `key` has waited for a lock in vain.
    pub(super) fn note_waited(&self, key: &str) {
        let mut waited = self.waited();
        if waited.len() < KEYS_MAX {
            waited.insert(key.to_owned());
        }
    }

    /// Forgets `key`: its step has a result, or a different error.
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
    async fn at_most_a_few_steps_wait_for_locks_at_a_time() {
        for (connections, few) in [(1, 1), (4, 1), (10, 2), (100, 25)] {
            let lanes = Lanes::new(connections);
            let keys: Vec<String> = (0..=2 * few).map(|key| key.to_string()).collect();
            let mut entered = Vec::new();
            for key in &keys {
                // The first time, all may wait.
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
