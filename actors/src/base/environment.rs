//! The machine's clock and random numbers. This is the only place in this crate that reads either.

use std::time::{SystemTime, UNIX_EPOCH};

use accompanist_core::contract::Environment;
use tokio::time::Instant;

/// The clock and the random numbers of this machine.
#[derive(Debug)]
pub struct SystemEnvironment {
    origin: Instant,
}

impl Default for SystemEnvironment {
    fn default() -> Self {
        Self { origin: Instant::now() }
    }
}

impl Environment for SystemEnvironment {
    fn unix_ms(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    fn monotonic_ms(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn random(&self) -> u64 {
        fastrand::u64(..)
    }
}
