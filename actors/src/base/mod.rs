//! What every room may use and what knows no other room: metrics, a latch, the log of drops, the machine's
//! clock.

pub(crate) mod dropped;
pub(crate) mod environment;
#[cfg(feature = "testing")]
pub(crate) mod faults;
pub(crate) mod gauge_share;
pub(crate) mod latch;
pub mod metric;
