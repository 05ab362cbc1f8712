//! Counts dropped packets and frames, and logs some of them.
//!
//! An unknown sender may cause a million drops, each of which would be a log line. The first ones of each reason are
//! logged in full, later ones once a minute with the number left out since. Knows no frames and no actors.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use metrics::counter;

use crate::base::metric;

/// How many drops of each reason are logged in full.
const LINES_FIRST: u32 = 10;
/// The pause between two further log lines of one reason.
const LINE_PAUSE_MS: u64 = 60_000;

/// The drops by reason; see the module's documentation. Reasons are fixed texts, so there are few.
#[derive(Debug, Default)]
pub(crate) struct Dropped(Mutex<BTreeMap<&'static str, DropReport>>);

/// The log lines of one reason.
#[derive(Debug, Default)]
struct DropReport {
    lines: u32,
    last_ms: u64,
    /// The number of drops that were not logged since the last line.
    left_out: u64,
}

impl Dropped {
    /// Counts a drop, and logs it unless enough of the same reason was logged.
    pub(crate) fn note(&self, reason: &'static str, now_ms: u64, detail: impl FnOnce() -> String) {
        counter!(metric::DROPPED, "reason" => reason).increment(1);
        if let Some(left_out) = self.left_out(reason, now_ms) {
            tracing::warn!(reason, detail = detail(), left_out, "dropped");
        }
    }

    /// Counts a drop that need not be logged.
    pub(crate) fn count(reason: &'static str) {
        counter!(metric::DROPPED, "reason" => reason).increment(1);
    }

    /// Returns, if a log line is due, how many drops were left out since the last one.
    fn left_out(&self, reason: &'static str, now_ms: u64) -> Option<u64> {
        let mut reasons = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let said = reasons.entry(reason).or_default();
        if said.lines >= LINES_FIRST && now_ms.saturating_sub(said.last_ms) < LINE_PAUSE_MS {
            said.left_out += 1;
            return None;
        }
        (said.lines, said.last_ms) = (said.lines.saturating_add(1), now_ms);
        Some(std::mem::take(&mut said.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_drops_are_logged_and_then_one_a_minute_with_the_count() {
        let dropped = Dropped::default();
        let lines: Vec<_> = (0..10_000).filter_map(|number| dropped.left_out("garbled", number)).collect();
        assert_eq!(lines, vec![0; 10]);
        assert_eq!(dropped.left_out("too large", 10_000), Some(0), "each reason has its own");
        let last_ms = 9;
        assert_eq!(dropped.left_out("garbled", last_ms + LINE_PAUSE_MS - 1), None);
        assert_eq!(dropped.left_out("garbled", last_ms + LINE_PAUSE_MS), Some(10_000 - 10 + 1));
        assert_eq!(dropped.left_out("garbled", last_ms + LINE_PAUSE_MS + 1), None);
        assert_eq!(dropped.left_out("garbled", last_ms + 2 * LINE_PAUSE_MS), Some(1));
    }
}
