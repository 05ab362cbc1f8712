//! The runtime as a whole: nodes, faults, and what survives them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    unreachable_pub,
    reason = "tests"
)]

mod damage;
mod delivery;
mod long;
mod node;
mod opening;
mod retention;
mod rogue;
mod saga;
mod simulation;
mod state;
mod stores;
mod supervision;
mod support;
mod torn;
mod trade;
mod tree;
mod world;
#[cfg(feature = "zenoh")]
mod zenoh;
