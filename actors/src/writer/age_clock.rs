//! The clock that determines the age of tombstones: the wall clock, as far as elapsed time confirms it.
//!
//! A wall clock may be set, by NTP, by a virtual machine that resumes, or by an operator's mistake. A single reading
//! of a clock that is ahead would make all tombstones old. The callers' keys would be removed with them, and finished
//! work would be done again. A jump forward therefore counts only once it has lasted. A jump back counts at once: it
//! makes everything younger.

use std::sync::Arc;
use std::time::Duration;

use accompanist_core::contract::Environment;

/// A clock has jumped if it is further ahead than this, and than a tenth of the time since the last reading.
const JUMP_MIN_MS: u64 = 60_000;

/// See the module's documentation.
pub(super) struct AgeClock {
    environment: Arc<dyn Environment>,
    /// How long a jump forward has to last.
    ack_latency_ms: u64,
    /// The time that counted at the last reading, and the monotonic clock's reading at that moment.
    last: Option<(u64, u64)>,
    /// Since when, on the monotonic clock, the wall clock has been ahead.
    ahead_since_ms: Option<u64>,
}

impl AgeClock {
    pub(super) fn new(environment: Arc<dyn Environment>, ack_latency: Duration) -> Self {
        let ack_latency_ms = u64::try_from(ack_latency.as_millis()).unwrap_or(u64::MAX);
        Self { environment, ack_latency_ms, last: None, ahead_since_ms: None }
    }

    /// Records the time at which something was closed in an earlier run of the node. The current time is at least
    /// that; how long the node was down is unknown.
    pub(super) fn note_earlier(&mut self, unix_ms: u64) {
        let now_ms = self.environment.monotonic_ms();
        if self.last.is_none_or(|(known, _)| known < unix_ms) && unix_ms <= self.environment.unix_ms() {
            self.last = Some((unix_ms, now_ms));
        }
    }

    /// Returns the wall clock's time, confirmed or not.
    pub(super) fn shown_unix_ms(&self) -> u64 {
        self.environment.unix_ms()
    }

    /// Returns how long a jump forward still has to last, if there was one.
    pub(super) fn believes_in(&self) -> Option<Duration> {
        let lasts_ms = self.environment.monotonic_ms().saturating_sub(self.ahead_since_ms?);
        Some(Duration::from_millis(self.ack_latency_ms.saturating_sub(lasts_ms)))
    }

    /// Returns the time that counts.
    pub(super) fn unix_ms(&mut self) -> u64 {
        let (shown, now_ms) = (self.environment.unix_ms(), self.environment.monotonic_ms());
        let counts = match self.last {
            None => shown,
            Some((last, at_ms)) => {
                let passed_ms = now_ms.saturating_sub(at_ms);
                let expected = last.saturating_add(passed_ms);
                let is_ahead = shown > expected.saturating_add(JUMP_MIN_MS.max(passed_ms / 10));
                let since_ms = *self.ahead_since_ms.get_or_insert(now_ms);
                if is_ahead && now_ms.saturating_sub(since_ms) < self.ack_latency_ms {
                    self.last = Some((expected, now_ms));
                    return expected;
                }
                shown
            }
        };
        self.ahead_since_ms = None;
        self.last = Some((counts, now_ms));
        counts
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    const MINUTE_MS: u64 = 60_000;
    const DAY_MS: u64 = 24 * 60 * MINUTE_MS;
    const START_MS: u64 = 1_000 * DAY_MS;

    /// The wall clock, and the monotonic one.
    struct Hands(Mutex<(u64, u64)>);

    impl Environment for Hands {
        fn unix_ms(&self) -> u64 {
            self.hands().0
        }
        fn monotonic_ms(&self) -> u64 {
            self.hands().1
        }
        fn random(&self) -> u64 {
            0
        }
    }

    impl Hands {
        fn hands(&self) -> std::sync::MutexGuard<'_, (u64, u64)> {
            self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
        }
        fn pass(&self, ms: u64) {
            let mut hands = self.hands();
            hands.0 += ms;
            hands.1 += ms;
        }
        fn set(&self, unix_ms: u64) {
            self.hands().0 = unix_ms;
        }
    }

    fn clock() -> (Arc<Hands>, AgeClock) {
        let hands = Arc::new(Hands(Mutex::new((START_MS, 0))));
        let clock = AgeClock::new(hands.clone(), Duration::from_millis(20 * MINUTE_MS));
        (hands, clock)
    }

    #[test]
    fn it_goes_as_the_wall_clock_does() {
        let (hands, mut clock) = clock();
        for _ in 0..100 {
            assert_eq!(clock.unix_ms(), hands.unix_ms());
            hands.pass(7 * MINUTE_MS);
            // NTP slews, or steps by less than a jump.
            hands.set(hands.unix_ms() + 30_000);
        }
    }

    #[test]
    fn a_short_jump_forward_counts_for_nothing() {
        let (hands, mut clock) = clock();
        clock.unix_ms();
        for days in [1, 10_000] {
            hands.set(START_MS + days * DAY_MS);
            for minute in 0..19 {
                assert!(clock.unix_ms() < START_MS + DAY_MS / 2, "{minute} minutes after a jump of {days} days");
                hands.pass(MINUTE_MS);
            }
            hands.set(START_MS + 19 * MINUTE_MS);
            assert!(clock.unix_ms() <= START_MS + 38 * MINUTE_MS);
        }
    }

    #[test]
    fn a_jump_ahead_that_lasts_counts_after_a_while() {
        let (hands, mut clock) = clock();
        clock.unix_ms();
        assert_eq!(clock.believes_in(), None);
        hands.set(START_MS + DAY_MS);
        clock.unix_ms();
        hands.pass(5 * MINUTE_MS);
        assert_eq!(clock.believes_in(), Some(Duration::from_mins(15)));
        hands.pass(15 * MINUTE_MS);
        assert_eq!(clock.unix_ms(), START_MS + DAY_MS + 20 * MINUTE_MS);
        hands.pass(MINUTE_MS);
        assert_eq!(clock.unix_ms(), START_MS + DAY_MS + 21 * MINUTE_MS);
    }

    #[test]
    fn a_jump_back_counts_at_once() {
        let (hands, mut clock) = clock();
        clock.unix_ms();
        hands.set(START_MS - DAY_MS);
        assert_eq!(clock.unix_ms(), START_MS - DAY_MS);
    }

    /// At a start there is nothing to compare with except what was closed before.
    #[test]
    fn a_clock_that_is_ahead_at_a_start_is_not_believed_either() {
        let (hands, mut clock) = clock();
        clock.note_earlier(START_MS - DAY_MS);
        clock.note_earlier(START_MS - 2 * DAY_MS);
        // From a clock that was wrong at the time.
        clock.note_earlier(START_MS + DAY_MS);
        assert_eq!(clock.unix_ms(), START_MS - DAY_MS);
        hands.pass(20 * MINUTE_MS);
        assert_eq!(clock.unix_ms(), START_MS + 20 * MINUTE_MS);
    }
}
