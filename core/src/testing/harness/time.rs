//! The time of a run, and whether its passing still causes anything.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::contract::Environment;

/// The number of times that time passes without effect before the run is assumed to continue through timers only, or
/// not at all; below, the additional number for each role.
const QUIET_TIMES_MIN: usize = 16;
const QUIET_TIMES_PER_ROLE: usize = 8;

/// The time in the harness, and numbers that never repeat.
#[derive(Debug, Default)]
pub(super) struct Clock {
    passed_ms: AtomicU64,
    drawn: AtomicU64,
}

impl Environment for Clock {
    fn unix_ms(&self) -> u64 {
        self.passed_ms.load(Ordering::Relaxed).saturating_add(1_700_000_000_000)
    }
    fn monotonic_ms(&self) -> u64 {
        self.passed_ms.load(Ordering::Relaxed)
    }
    fn random(&self) -> u64 {
        self.drawn.fetch_add(1, Ordering::Relaxed)
    }
}

/// The clock of a run, with a count of how often it was advanced in vain.
#[derive(Default)]
pub(super) struct RunTime {
    clock: Arc<Clock>,
    /// The number of consecutive times that time has passed and caused nothing except nudges.
    quiet: usize,
}

impl RunTime {
    pub(super) fn clock(&self) -> &Arc<Clock> {
        &self.clock
    }

    pub(super) fn now_ms(&self) -> u64 {
        self.clock.monotonic_ms()
    }

    /// Advances the clock to `next_ms`, unless it is later already. Returns the time that passes.
    pub(super) fn advance(&mut self, next_ms: u64) -> u64 {
        let now_ms = self.now_ms();
        self.clock.passed_ms.store(next_ms.max(now_ms), Ordering::Relaxed);
        next_ms.saturating_sub(now_ms)
    }

    /// Notes that time passes.
    pub(super) fn note_quiet(&mut self) {
        self.quiet += 1;
    }

    /// Notes that something has happened besides the passing of time.
    pub(super) fn note_progress(&mut self) {
        self.quiet = 0;
    }

    /// Whether time has passed without effect often enough that all waiting roles have nudged each other several
    /// times and learned nothing.
    pub(super) fn is_quiet(&self, roles: usize) -> bool {
        self.quiet > QUIET_TIMES_MIN + QUIET_TIMES_PER_ROLE * roles
    }
}
