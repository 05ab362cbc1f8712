//! The tests of all networks: one contract for every one of them, then what is particular to each.
//!
//! Nothing here asserts how long anything takes; the bounds on waiting only end a test that hangs.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "tests"
)]

mod contract;
mod faulty;
mod local;
mod recorder;
#[cfg(feature = "zenoh")]
mod zenoh;
#[cfg(feature = "zenoh")]
mod zenoh_errors;
