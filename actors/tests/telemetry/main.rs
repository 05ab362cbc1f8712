//! Traces: a session over three nodes is one trace, as a collector of OTLP receives it.
//!
//! A binary of its own, since a process has one subscriber. The collector is in it, with the gRPC service of the
//! protocol; `collector` has it, `sale` the program.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    unreachable_pub,
    reason = "tests"
)]

mod collector;
mod sale;
mod traces;
