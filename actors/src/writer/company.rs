//! Whether a write that nothing waits for is likely to have company soon: only while several sessions are written. A session that is
//! alone would wait for nobody, several times until it is settled (decision 0004).

use std::time::Duration;

use accompanist_core::SessionId;
use tokio::time::Instant;

/// Sessions are taken for written side by side for so many of the longest delays.
const DELAYS: u32 = 4;

/// See the module's documentation.
pub(super) struct Company {
    lasts: Duration,
    last: Option<(SessionId, Instant)>,
    /// When another session was written than the one before.
    seen: Option<Instant>,
}

impl Company {
    pub(super) fn new(delay_max: Duration) -> Self {
        Self { lasts: delay_max * DELAYS, last: None, seen: None }
    }

    pub(super) fn note(&mut self, session: SessionId, now: Instant) {
        let is_recent = |at: Instant| now.duration_since(at) <= self.lasts;
        if self.last.is_some_and(|(last, at)| last != session && is_recent(at)) {
            self.seen = Some(now);
        }
        self.last = Some((session, now));
    }

    pub(super) fn is_likely(&self, now: Instant) -> bool {
        self.seen.is_some_and(|at| now.duration_since(at) <= self.lasts)
    }
}
