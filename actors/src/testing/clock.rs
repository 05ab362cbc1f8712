//! The clock and the randomness of one simulated node: paused tokio time, as shown by a clock that runs fast or slow
//! and is set now and then.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};

use accompanist_core::contract::Environment;
use tokio::time::Instant;

/// The wall clock's reading when a world begins.
const BEGIN_UNIX_MS: i64 = 1_700_000_000_000;
/// The unit of drift.
const MILLION: i64 = 1_000_000;

/// Time and randomness derived from a seed. To be the same in every run, it needs a tokio runtime whose time is
/// paused.
#[derive(Debug)]
pub struct SimulatedClock {
    origin: Instant,
    drift_ppm: i64,
    offset_ms: AtomicI64,
    random: Mutex<fastrand::Rng>,
}

impl SimulatedClock {
    /// Creates a clock without error, with the randomness of `seed`.
    pub fn new(seed: u64) -> Self {
        let random = Mutex::new(fastrand::Rng::with_seed(seed));
        Self { origin: Instant::now(), drift_ppm: 0, offset_ms: AtomicI64::new(0), random }
    }

    /// Makes the clock faster than real time by this many millionths, or slower if negative.
    #[must_use]
    pub fn drifting(mut self, ppm: i32) -> Self {
        self.drift_ppm = i64::from(ppm);
        self
    }

    /// Sets the wall clock forward or back. The monotonic clock is not affected.
    pub fn set_by(&self, ms: i64) {
        self.offset_ms.fetch_add(ms, Ordering::Relaxed);
    }

    fn elapsed_ms(&self) -> i64 {
        let elapsed = i64::try_from(self.origin.elapsed().as_micros()).unwrap_or(i64::MAX);
        // The result is never negative and never goes back: a drift is far below a million.
        (elapsed.saturating_add(elapsed / 1_000 * self.drift_ppm / (MILLION / 1_000))) / 1_000
    }
}

impl Environment for SimulatedClock {
    fn unix_ms(&self) -> u64 {
        let offset = self.offset_ms.load(Ordering::Relaxed);
        u64::try_from(BEGIN_UNIX_MS + self.elapsed_ms() + offset).unwrap_or_default()
    }

    fn monotonic_ms(&self) -> u64 {
        u64::try_from(self.elapsed_ms()).unwrap_or_default()
    }

    fn random(&self) -> u64 {
        self.random.lock().unwrap_or_else(PoisonError::into_inner).u64(..)
    }
}
