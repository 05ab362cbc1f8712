//! The numbers of an instance, each with its unit and its reason. No behaviour.

use serde::{Deserialize, Serialize};

/// Bounds and pauses of an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Messages of one instance that are sent and not yet acknowledged. A full window makes `comm` wait.
    pub unacked_max: usize,
    /// The largest message. A larger one aborts the session.
    pub payload_bytes_max: usize,
    /// The pause before the first nudge to a role that is waited for; it doubles from one to the next. A node lengthens it
    /// for instances that begin while acknowledgements take long.
    pub nudge_delay_min_ms: u64,
    /// The longest pause between two nudges.
    pub nudge_delay_max_ms: u64,
    /// The pause before a compensation, or a step that only goes forward, is tried again; it doubles from one to the next.
    pub retry_delay_min_ms: u64,
    /// The longest pause between two tries.
    pub retry_delay_max_ms: u64,
    /// Tries of a compensation, or of a step that only goes forward, before an operator is needed.
    pub tries_max: u32,
    /// Signals that wait to be taken by the program. More are refused.
    pub signals_max: usize,
    /// Records of one instance in its journal beyond which it warns, once: its loops should be checkpoints
    /// ([`Context::repeat`](crate::Context::repeat)).
    pub journal_records_warn: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            unacked_max: 256,
            payload_bytes_max: 512 * 1024,
            nudge_delay_min_ms: 50,
            nudge_delay_max_ms: 5_000,
            retry_delay_min_ms: 20,
            retry_delay_max_ms: 30_000,
            // About twenty minutes.
            tries_max: 50,
            signals_max: 1_024,
            journal_records_warn: 10_000,
        }
    }
}
