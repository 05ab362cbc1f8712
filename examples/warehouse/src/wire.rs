//! The line protocol between those who order and the warehouse: one JSON value a line.
//!
//! Orders go one way as they are; these are the answers.

use serde::{Deserialize, Serialize};
use warehouse::Outcome;

/// The longest line that is read.
pub(crate) const LINE_BYTES_MAX: u64 = 64 * 1024;

/// What the warehouse says of an order. Every order is accepted, gets an output, and is settled later.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub(crate) enum Answer {
    /// The order is on the warehouse's disk: it will be carried out, whatever crashes.
    Accepted {
        /// The order.
        id: String,
    },
    /// The program has ended at the warehouse.
    Output {
        /// The order.
        id: String,
        /// How it ended.
        outcome: Outcome,
        /// The parcel, or why there is none.
        detail: String,
    },
    /// The session is closed at all roles: done, or all taken back.
    Settled {
        /// The order.
        id: String,
        /// How it ended.
        outcome: Outcome,
    },
    /// The order is stopped, or is none.
    Failed {
        /// The order.
        id: String,
        /// Why.
        reason: String,
    },
}
