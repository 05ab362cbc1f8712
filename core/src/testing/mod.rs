//! For users' own tests: histories and replaying one ([`History`], [`replay`]), invariants as predicates ([`Watch`]).
//!
//! Knows no runtime. A simulated world of nodes, which tells a [`Watch`] all it does, is in `accompanist::testing`.

mod history;
mod watch;

pub use history::{History, ReplayError, Replayed, replay};
pub use watch::{Violation, Watch};
