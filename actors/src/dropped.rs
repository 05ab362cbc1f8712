//! What was dropped: always counted, and said in the log as long as somebody may still read it.
//!
//! What a stranger sends may be dropped a million times, and each of them was a line. The first ones of each reason are said
//! in full, later ones once a minute, with how many there were since. Knows no frames and no actors.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use metrics::counter;

use crate::metric;

/// So many of each reason are said in full.
const LINES_FIRST: u32 = 10;
/// After those, there is this much time from one line of a reason to the next.
const LINE_PAUSE_MS: u64 = 60_000;

/// See the module's documentation. Reasons are fixed texts, so there are few.
#[derive(Debug, Default)]
pub(crate) struct Dropped(Mutex<BTreeMap<&'static str, Said>>);

/// What was said of one reason.
#[derive(Debug, Default)]
struct Said {
    lines: u32,
    last_ms: u64,
    /// Those that were not said since the last line.
    left_out: u64,
}

impl Dropped {
    /// Counts something that was dropped, and says so in the log unless enough was said of the same reason.
    pub(crate) fn note(&self, reason: &'static str, now_ms: u64, detail: impl FnOnce() -> String) {
        counter!(metric::DROPPED, "reason" => reason).increment(1);
        if let Some(left_out) = self.left_out(reason, now_ms) {
            tracing::warn!(reason, detail = detail(), left_out, "dropped");
        }
    }

    /// Counts something whose dropping nobody has to hear of.
    pub(crate) fn count(reason: &'static str) {
        counter!(metric::DROPPED, "reason" => reason).increment(1);
    }

    /// If a line is due: how many there were since the last one.
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
    fn the_first_are_said_and_then_one_a_minute_with_the_count() {
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
