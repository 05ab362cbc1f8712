//! The saga, the services' duties and the check, each where it can fail.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod check;
mod crashes;
mod quiet;
mod saga;
mod service;
