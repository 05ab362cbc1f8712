//! The limits of an instance, each with its unit and its reason. This module has no behaviour.

use serde::{Deserialize, Serialize};

/// The limits and pauses of an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// The maximum number of unacknowledged messages of one instance. When the window is full, `comm` waits.
    pub unacked_max: usize,
    /// The maximum size of a message. A larger message aborts the session.
    pub payload_bytes_max: usize,
    /// The pause before the first nudge to an awaited role. The pause doubles with each nudge. A node lengthens it
    /// for instances that begin while acknowledgements take long.
    pub nudge_delay_min_ms: u64,
    /// The maximum pause between two nudges.
    pub nudge_delay_max_ms: u64,
    /// The pause before a compensation, or a retriable step, is retried. The pause doubles with each try.
    pub retry_delay_min_ms: u64,
    /// The maximum pause between two tries.
    pub retry_delay_max_ms: u64,
    /// The maximum number of tries of a compensation, or of a retriable step, before an operator is needed.
    pub tries_max: u32,
    /// The maximum number of signals that wait for the program. Further signals are refused.
    pub signals_max: usize,
    /// The number of records in an instance's journal above which it warns, once: its loops should be checkpoints
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
            // 50 tries take about twenty minutes.
            tries_max: 50,
            signals_max: 1_024,
            journal_records_warn: 10_000,
        }
    }
}
