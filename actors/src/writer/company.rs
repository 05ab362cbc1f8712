//! Predicts whether a lazy write will soon share a commit with another one: only while several sessions are written.
//! A session that is alone would wait in vain, several times until it is settled (decision 0004).

use std::time::Duration;

use accompanist_core::SessionId;
use tokio::time::Instant;

/// How many of the longest delays may lie between writes of two sessions that count as concurrent.
const DELAYS: u32 = 4;

/// See the module's documentation.
pub(super) struct Company {
    lasts: Duration,
    last: Option<(SessionId, Instant)>,
    /// When a session was last written that differs from the one written before it.
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
