//! The usual acknowledgement latency of one node, and from it how long to wait before a frame is resent.
//!
//! TCP's estimate (RFC 6298), in whole milliseconds: a moving mean, and four times the deviation from it. Unlike
//! there, a frame that was resent counts, too, from its first transmission: both copies of a frame are answered by
//! the same acknowledgement, so a node that is always late would otherwise never be recognised as late. This errs on
//! the long side, and the caller bounds it. Pure.

/// The estimated acknowledgement latency of one node; see the module's documentation.
#[derive(Debug, Default)]
pub(super) struct RoundTrip {
    /// Eight times the mean, and four times the deviation; `None` while nothing is known.
    estimate: Option<(u64, u64)>,
}

impl RoundTrip {
    /// Adds the time that an acknowledgement took.
    pub(super) fn took(&mut self, time_ms: u64) {
        self.estimate = Some(match self.estimate {
            None => (time_ms * 8, time_ms * 2),
            Some((mean_by_8, deviation_by_4)) => {
                let mean = mean_by_8 / 8;
                (mean_by_8 - mean + time_ms, deviation_by_4 - deviation_by_4 / 4 + mean.abs_diff(time_ms))
            }
        });
    }

    /// Returns the mean latency; `None` while nothing is known.
    pub(super) fn mean_ms(&self) -> Option<u64> {
        self.estimate.map(|(mean_by_8, _)| mean_by_8 / 8)
    }

    /// Returns the time after which a frame was likely lost; 0 while nothing is known.
    pub(super) fn ack_latency_ms(&self) -> u64 {
        self.estimate.map_or(0, |(mean_by_8, deviation_by_4)| mean_by_8 / 8 + deviation_by_4)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(times_ms: impl IntoIterator<Item = u64>) -> u64 {
        let mut trip = RoundTrip::default();
        times_ms.into_iter().for_each(|time_ms| trip.took(time_ms));
        trip.ack_latency_ms()
    }

    #[test]
    fn the_latency_estimate_is_slightly_above_the_usual_one() {
        assert_eq!(after([]), 0);
        assert_eq!(after([10]), 30);
        assert!((500..=520).contains(&after([500; 100])), "{}", after([500; 100]));
        let changing = (0..100).map(|n| if n % 2 == 0 { 400 } else { 600 });
        assert!((600..=1_000).contains(&after(changing)), "the slow ones are waited for");
    }

    #[test]
    fn one_long_time_is_soon_forgotten() {
        let times = [5; 20].into_iter().chain([2_000]).chain([5; 60]);
        assert!(after(times) < 80);
    }
}
