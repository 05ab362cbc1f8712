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
#[cfg(feature = "zenoh")]
mod half_new;
mod local;
#[cfg(feature = "zenoh")]
mod log;
#[cfg(feature = "zenoh")]
mod proxy;
mod recorder;
#[cfg(feature = "zenoh")]
mod zenoh;
#[cfg(feature = "zenoh")]
mod zenoh_errors;
#[cfg(feature = "zenoh")]
mod zenoh_healing;
#[cfg(feature = "zenoh")]
mod zenoh_members;
