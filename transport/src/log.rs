//! A filter for Zenoh's log lines that removes their repetitions.
//!
//! Zenoh logs some lines for each packet, thousands of times a minute ("Route data with unknown scope", "Unable to
//! connect"). This module must not know what they mean. Next: [`crate::metric`] for the count of lines that are left
//! out.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Filter};

use crate::metric;

/// How many lines of one place in the source pass in each period, unless configured otherwise.
const LINES_MAX_DEFAULT: u32 = 5;
/// The period.
const PERIOD: Duration = Duration::from_mins(1);

/// A filter for a `tracing_subscriber` layer: of each place in Zenoh's source that logs, only the first lines of each
/// minute pass. When the next line of any place in Zenoh is logged after that minute, a separate line reports how
/// many were left out; [`metric::LOG_LINES_LEFT_OUT`] counts them at once. Lines that do not come from Zenoh always
/// pass.
///
/// ```
/// use accompanist_transport::ZenohLogFilter;
/// use tracing_subscriber::prelude::*;
///
/// let lines = tracing_subscriber::fmt::layer().with_filter(ZenohLogFilter::default());
/// tracing_subscriber::registry().with(lines).init();
/// ```
#[derive(Debug)]
pub struct ZenohLogFilter {
    lines_max: u32,
    places: Mutex<HashMap<Place, Lines>>,
}

/// A place in the source: its module and line. The number of places is fixed.
type Place = (&'static str, u32);

/// The lines of one place in the current period.
#[derive(Debug)]
struct Lines {
    began: Instant,
    passed: u32,
    left_out: u64,
}

impl Default for ZenohLogFilter {
    fn default() -> Self {
        Self { lines_max: LINES_MAX_DEFAULT, places: Mutex::default() }
    }
}

impl ZenohLogFilter {
    /// Sets how many lines of each place pass in a minute; 5 by default.
    #[must_use]
    pub fn lines_per_minute(mut self, lines_max: u32) -> Self {
        self.lines_max = lines_max;
        self
    }

    /// Returns whether a line of `place` passes, and how many lines were left out of each place whose minute is over.
    fn admit(&self, place: Place, now: Instant) -> (bool, Vec<(Place, u64)>) {
        let mut places = self.places();
        let over = places.iter_mut().filter_map(|(place, lines)| Some((*place, lines.end(now)?))).collect();
        let lines = places.entry(place).or_insert(Lines { began: now, passed: 0, left_out: 0 });
        let passes = lines.passed < self.lines_max;
        if passes {
            lines.passed += 1;
        } else {
            lines.left_out += 1;
        }
        (passes, over)
    }

    fn places(&self) -> MutexGuard<'_, HashMap<Place, Lines>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lines {
    /// Begins a new period if this one is over, and returns how many lines were left out, if any were.
    fn end(&mut self, now: Instant) -> Option<u64> {
        if now.duration_since(self.began) < PERIOD {
            return None;
        }
        (self.began, self.passed) = (now, 0);
        Some(std::mem::take(&mut self.left_out)).filter(|&left_out| left_out > 0)
    }
}

impl<S: Subscriber> Filter<S> for ZenohLogFilter {
    fn enabled(&self, _: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        true
    }

    fn event_enabled(&self, event: &Event<'_>, _: &Context<'_, S>) -> bool {
        let metadata = event.metadata();
        if !is_of_zenoh(metadata.target()) {
            return true;
        }
        let place = (metadata.target(), metadata.line().unwrap_or_default());
        let (passes, over) = self.admit(place, Instant::now());
        if !passes {
            metric::log_line_left_out();
        }
        for ((module, line), count) in over {
            tracing::warn!(count, module, line, "repeated log lines of zenoh were left out");
        }
        passes
    }
}

fn is_of_zenoh(target: &str) -> bool {
    target.split("::").next().is_some_and(|name| name == "zenoh" || name.starts_with("zenoh_"))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::io;
    use std::sync::Arc;

    use tracing_subscriber::prelude::*;

    use super::*;

    /// The bytes that were written.
    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Returns the lines that are written while `say` runs.
    fn lines(filter: ZenohLogFilter, say: impl FnOnce()) -> Vec<String> {
        let written = Written::default();
        let writer = written.clone();
        let layer =
            tracing_subscriber::fmt::layer().without_time().with_ansi(false).with_writer(move || writer.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer.with_filter(filter)), say);
        let bytes = written.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect()
    }

    #[test]
    fn only_the_first_lines_of_a_place_in_zenoh_pass() {
        let lines = lines(ZenohLogFilter::default().lines_per_minute(2), || {
            for scope in 0..100 {
                tracing::error!(target: "zenoh::net::routing", "unknown scope {scope}");
                tracing::warn!(target: "zenoh_transport::unicast", "another place");
                tracing::warn!(target: "accompanist::link", "ours");
                tracing::warn!(target: "zenohlike", "somebody else's");
            }
        });
        let count = |text: &str| lines.iter().filter(|line| line.contains(text)).count();
        assert_eq!((count("unknown scope"), count("another place")), (2, 2), "{lines:?}");
        assert_eq!((count("ours"), count("somebody else's")), (100, 100));
        assert!(lines.iter().any(|line| line.ends_with("unknown scope 1")), "{lines:?}");
    }

    #[test]
    fn suppressed_lines_are_reported_after_their_minute() {
        let (filter, start) = (ZenohLogFilter::default().lines_per_minute(1), Instant::now());
        let (one, other) = (("zenoh::one", 1), ("zenoh::one", 2));
        let passed: Vec<bool> = (0..4).map(|_| filter.admit(one, start).0).collect();
        assert_eq!(passed, [true, false, false, false]);
        assert_eq!(filter.admit(other, start + PERIOD / 2), (true, vec![]), "each place for itself");

        let (is_passed, over) = filter.admit(other, start + PERIOD);
        assert!(!is_passed, "its own minute is not over");
        assert_eq!(over, [(one, 3)]);
        assert_eq!(filter.admit(one, start + PERIOD), (true, vec![]), "a new minute, and said once");
    }
}
