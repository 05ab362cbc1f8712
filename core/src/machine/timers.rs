//! The clocks of an instance as it was told them last, and the pause before it next nudges the others.
//!
//! This module knows no clock of its own. Next: `nudges`, which says what is asked when the pause is over.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};

use super::digest::Since;
use crate::base::id::Path;

/// A pause that doubles.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pause {
    pub(super) until_ms: u64,
    pub(super) length_ms: u64,
}

impl Pause {
    pub(super) fn first(now_ms: u64, length_ms: u64) -> Self {
        Self { until_ms: now_ms.saturating_add(length_ms), length_ms }
    }
    pub(super) fn next(self, now_ms: u64, length_max_ms: u64) -> Self {
        Self::first(now_ms, self.length_ms.saturating_mul(2).min(length_max_ms))
    }
}

/// See the module's documentation.
pub(super) struct Timers {
    /// A clock that never goes back.
    pub(super) now_ms: u64,
    /// The wall clock.
    pub(super) unix_ms: u64,
    pub(super) nudge: Option<Pause>,
    /// The number of nudges that remain before the instance may be passivated.
    pub(super) nudges_due: u8,
    /// The wall clock at the first turn of this life; 0 before that.
    pub(super) loaded_unix_ms: u64,
    /// Since when operations wait, and steps are in trouble, by the wall clock, as of the last passivation.
    pub(super) passivated_since: BTreeMap<Path, u64>,
}

impl Default for Timers {
    fn default() -> Self {
        Self { now_ms: 0, unix_ms: 0, nudge: None, nudges_due: 1, loaded_unix_ms: 0, passivated_since: BTreeMap::new() }
    }
}

impl Timers {
    /// The time at which the wall clock shows `unix_ms`, provided that it does not jump: at least 1 ms and at most
    /// `wait_max_ms` from now.
    pub(super) fn time_of(&self, unix_ms: u64, wait_max_ms: u64) -> u64 {
        self.now_ms.saturating_add(unix_ms.saturating_sub(self.unix_ms).clamp(1, wait_max_ms))
    }

    /// Notes what the clocks show.
    pub(super) fn note(&mut self, now_ms: u64, unix_ms: u64) {
        (self.now_ms, self.unix_ms) = (now_ms, unix_ms);
        if self.loaded_unix_ms == 0 {
            self.loaded_unix_ms = unix_ms;
        }
    }

    /// The wall-clock time since which something that begins now at `path` is under way: before a passivation, if it
    /// was interrupted by that. 0 if no clock is known yet.
    pub(super) fn begins_unix_ms(&mut self, path: &Path) -> u64 {
        if self.passivated_since.is_empty() {
            return self.unix_ms;
        }
        self.passivated_since.remove(path).unwrap_or(self.unix_ms)
    }

    /// The wall-clock time that the clock of `settle` reaches at `at_ms`, provided that neither jumps.
    pub(super) fn unix_at(&self, at_ms: u64) -> u64 {
        self.unix_ms.saturating_add(at_ms.saturating_sub(self.now_ms))
    }

    pub(super) fn digest(&self, since: Since, hasher: &mut impl Hasher) {
        let Self {
            now_ms: _,
            // The waits contain what is compared with it.
            unix_ms: _,
            nudge,
            // Only the runtime uses this, when an instance is reactivated to nudge, or passivated.
            nudges_due: _,
            // These are for people.
            loaded_unix_ms: _,
            passivated_since: _,
        } = self;
        since.left(*nudge).hash(hasher);
    }
}
