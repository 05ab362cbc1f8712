//! When this node advertises itself next to all: soon after a change, then at growing intervals. Pure.

use std::time::Duration;

use crate::config::ADVERTISEMENT_DELAY_MIN;

/// The time of the next advertisement.
pub(super) struct AdvertisementSchedule {
    delay: Duration,
    /// Counts the changes: an advertisement that was planned before the last one is no longer due.
    series: u64,
}

impl AdvertisementSchedule {
    pub(super) fn new() -> Self {
        Self { delay: ADVERTISEMENT_DELAY_MIN, series: 0 }
    }

    /// Begins a series with short intervals, and cancels the advertisement that was planned.
    pub(super) fn restart(&mut self) {
        self.series += 1;
        self.delay = ADVERTISEMENT_DELAY_MIN;
    }

    /// Plans the next advertisement. Returns after which delay it is due, and its series.
    pub(super) fn plan(&mut self, period_max: Duration) -> (Duration, u64) {
        let delay = self.delay;
        self.delay = (delay * 2).min(period_max);
        (delay, self.series)
    }

    /// Returns whether an advertisement of this series is still due.
    pub(super) fn is_due(&self, series: u64) -> bool {
        self.series == series
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_double_up_to_the_period_and_a_restart_cancels_what_was_planned() {
        let mut schedule = AdvertisementSchedule::new();
        let period = 3 * ADVERTISEMENT_DELAY_MIN;
        let planned = [(); 3].map(|()| schedule.plan(period));
        assert_eq!(planned, [(period / 3, 0), (2 * period / 3, 0), (period, 0)]);
        assert!(schedule.is_due(0));
        schedule.restart();
        assert!(!schedule.is_due(0) && schedule.is_due(1));
        assert_eq!(schedule.plan(period), (ADVERTISEMENT_DELAY_MIN, 1));
    }
}
