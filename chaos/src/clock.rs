//! A clock that can be set: the machine's own, and so many milliseconds ahead of it or behind.

use std::sync::atomic::{AtomicI64, Ordering};

use accompanist::SystemEnvironment;
use accompanist::contract::Environment;

/// The environment of a node whose wall clock jumps. Its monotonic clock does not, as on a real machine.
#[derive(Debug, Default)]
pub(crate) struct JumpingClock {
    system: SystemEnvironment,
    ahead_ms: AtomicI64,
}

impl JumpingClock {
    /// Sets the wall clock to so much ahead of the machine's.
    pub(crate) fn set_ahead(&self, ahead_ms: i64) {
        self.ahead_ms.store(ahead_ms, Ordering::SeqCst);
    }
}

impl Environment for JumpingClock {
    fn unix_ms(&self) -> u64 {
        self.system.unix_ms().saturating_add_signed(self.ahead_ms.load(Ordering::SeqCst))
    }

    fn monotonic_ms(&self) -> u64 {
        self.system.monotonic_ms()
    }

    fn random(&self) -> u64 {
        self.system.random()
    }
}
