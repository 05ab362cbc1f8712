//! The line protocol between the tool and its nodes, over standard input and output: one JSON value a line.
//!
//! Pipes, so that it works across network namespaces. When standard input ends, the node stops.

use serde::{Deserialize, Serialize};

use crate::model::{Order, Outcome};

/// What a node is told.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Command {
    /// Place an order, or ask what became of it. Only to the shop.
    Place(Order),
    /// Set the clock so many milliseconds ahead of the machine's.
    ClockAhead(i64),
    /// Say what is open and what is stopped.
    Report,
}

/// What a node says.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// It runs.
    Ready,
    /// An order is closed at all roles.
    Settled { id: String, outcome: Outcome },
    /// An order is stopped.
    Failed { id: String, reason: String },
    /// What is open here, and what is stopped until an operator looks at it.
    Report { open: usize, stopped: Vec<String> },
}
