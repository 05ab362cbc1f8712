//! A set of measured times, and what is read from it.

use std::time::Duration;

use anyhow::{Context, Result};
use hdrhistogram::Histogram;

/// The longest time that is told from longer ones, in nanoseconds: ten minutes.
const LONGEST_NS: u64 = 600_000_000_000;
/// Three digits: an error below 0.1 %.
const DIGITS: u8 = 3;

/// An HDR histogram of times.
#[derive(Debug, Clone)]
pub struct Times(Histogram<u64>);

impl Times {
    /// With nothing in it.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub fn new() -> Result<Self> {
        Ok(Self(Histogram::new_with_bounds(1, LONGEST_NS, DIGITS).context("a histogram's bounds")?))
    }

    /// Adds one.
    pub fn add(&mut self, time: Duration) {
        self.0.saturating_record(u64::try_from(time.as_nanos()).unwrap_or(LONGEST_NS));
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.0.reset();
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The time that `quantile` of all do not exceed.
    pub fn quantile(&self, quantile: f64) -> Duration {
        Duration::from_nanos(self.0.value_at_quantile(quantile))
    }

    /// The same in milliseconds.
    pub fn millis(&self, quantile: f64) -> f64 {
        self.quantile(quantile).as_secs_f64() * 1e3
    }

    /// The median.
    pub fn p50(&self) -> Duration {
        self.quantile(0.5)
    }
}
