//! The language and the protocol, without any runtime.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    unreachable_pub,
    reason = "tests"
)]

mod changed;
mod clippy;
mod codec;
mod crashes;
mod derive;
mod diagram;
mod effects;
mod families;
mod functions;
mod fuzz;
mod harness;
mod inspection;
mod instance;
mod journal;
mod keys;
mod layers;
mod lint;
mod long;
mod machine;
mod model;
mod nudges;
mod operations;
mod rig;
mod rooms;
mod standstill;
mod tables;
mod timeline;
mod timeline_order;
mod traceparent;
mod trade;
mod trouble;
mod ui;
mod undecided;
mod unrecorded;
mod values;
mod watch;
