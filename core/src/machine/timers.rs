//! The clocks of an instance as it was told them last, and the pause before it next nudges the others.
//!
//! This module knows no clock of its own. Next: `nudges`, which says what is asked when the pause is over.

use std::hash::{Hash, Hasher};

use super::digest::Since;

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
}

impl Default for Timers {
    fn default() -> Self {
        Self { now_ms: 0, unix_ms: 0, nudge: None, nudges_due: 1 }
    }
}

impl Timers {
    /// The time at which the wall clock shows `unix_ms`, provided that it does not jump: at least 1 ms and at most
    /// `wait_max_ms` from now.
    pub(super) fn time_of(&self, unix_ms: u64, wait_max_ms: u64) -> u64 {
        self.now_ms.saturating_add(unix_ms.saturating_sub(self.unix_ms).clamp(1, wait_max_ms))
    }

    pub(super) fn digest(&self, since: Since, hasher: &mut impl Hasher) {
        let Self {
            now_ms: _,
            // The waits contain what is compared with it.
            unix_ms: _,
            nudge,
            // Only the runtime uses this, when an instance is reactivated to nudge, or passivated.
            nudges_due: _,
        } = self;
        since.left(*nudge).hash(hasher);
    }
}
