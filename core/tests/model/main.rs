//! The machines of `core/`, model checked: all reachable states of small sessions, with crashes, lost, doubled and late
//! frames. Read `docs/model.md` first.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    unreachable_pub,
    reason = "tests"
)]

mod actions;
mod broken;
mod check;
mod faults;
mod hashes;
mod life;
mod programs;
mod properties;
#[path = "../it/rig.rs"]
#[allow(dead_code, unused_imports, unused_macros, reason = "shared with the other tests, which use more of it")]
mod rig;
mod service;
mod session;
mod sound;
mod state;
mod variants;
