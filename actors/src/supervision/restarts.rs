//! Counts failures: computes the pause before the next restart, and decides when to give up. Pure.

use std::collections::VecDeque;
use std::time::Duration;

use crate::config::Policy;

/// The restarts of one actor, or of one supervisor's children.
#[derive(Debug, Default)]
pub(crate) struct Restarts {
    /// The times of the failures, on the node's clock.
    at_ms: VecDeque<u64>,
    /// The failures in a row without a reset of the back-off.
    in_a_row: u32,
}

impl Restarts {
    /// Records a failure. Returns the pause before the restart, or `None` to give up. `random` is any number.
    pub(crate) fn failed(&mut self, policy: &Policy, now_ms: u64, random: u64) -> Option<Duration> {
        let is_within = |span: Duration, at_ms: u64| u128::from(now_ms.saturating_sub(at_ms)) < span.as_millis();
        if !self.at_ms.back().is_some_and(|at_ms| is_within(policy.reset_after, *at_ms)) {
            self.in_a_row = 0;
        }
        while self.at_ms.pop_front_if(|at_ms| !is_within(policy.period, *at_ms)).is_some() {}
        self.at_ms.push_back(now_ms);
        let pause = policy.pause(self.in_a_row, random);
        self.in_a_row = self.in_a_row.saturating_add(1);
        (self.times() <= policy.restarts_max).then_some(pause)
    }

    /// Returns how many failures count at present.
    pub(crate) fn times(&self) -> u32 {
        u32::try_from(self.at_ms.len()).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> Policy {
        Policy { restarts_max: 3, jitter: 0.0, delay_max: Duration::from_millis(60), ..Policy::default() }
    }

    fn pauses(policy: &Policy, at_ms: &[u64]) -> Vec<Option<u128>> {
        let mut restarts = Restarts::default();
        let failed = |at_ms: &u64| restarts.failed(policy, *at_ms, 0).map(|pause| pause.as_millis());
        at_ms.iter().map(failed).collect()
    }

    #[test]
    fn pauses_double_up_to_the_maximum_until_restarts_are_exhausted() {
        assert_eq!(pauses(&policy(), &[0, 100, 200, 300]), [Some(20), Some(40), Some(60), None]);
    }

    #[test]
    fn failures_before_the_period_do_not_count() {
        let policy = Policy { reset_after: Duration::from_mins(2), ..policy() };
        // At the fourth failure, the first is a minute ago and no longer counts; at the fifth, the second still
        // counts.
        assert_eq!(pauses(&policy, &[0, 1_000, 2_000, 60_000, 60_999]), [Some(20), Some(40), Some(60), Some(60), None]);
    }

    #[test]
    fn the_pause_is_reset_after_a_time_without_failures() {
        assert_eq!(pauses(&policy(), &[0, 10, 30_010]), [Some(20), Some(40), Some(20)]);
    }

    #[test]
    fn jitter_lengthens_a_pause_by_at_most_its_share() {
        let policy = Policy { jitter: 0.5, ..policy() };
        for (random, pause_ms) in [(0, 20), (u64::MAX, 30), (u64::MAX / 2, 25)] {
            let pause = Restarts::default().failed(&policy, 0, random).map(|pause| pause.as_millis());
            assert_eq!(pause, Some(pause_ms));
        }
    }

    #[test]
    fn zero_restarts_allow_none() {
        assert_eq!(pauses(&Policy { restarts_max: 0, ..policy() }, &[0]), [None]);
    }
}
