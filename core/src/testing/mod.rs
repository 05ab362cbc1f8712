//! Tools for users' own tests: histories and their replay ([`History`], [`replay`]). The feature `testing` adds runs
//! with a crash at every point (`check_crashes`), invariants as predicates (`InvariantMonitor`), a review of a
//! choreography (`lint`), and its sequence diagram (`Diagram`).
//!
//! This module knows no runtime. A simulated world of nodes is in `accompanist::testing`.

mod history;

#[cfg(feature = "testing")]
mod again;
#[cfg(feature = "testing")]
mod carrier;
#[cfg(feature = "testing")]
mod crashes;
#[cfg(feature = "testing")]
mod diagram;
#[cfg(feature = "testing")]
mod disk;
#[cfg(feature = "testing")]
mod harness;
#[cfg(feature = "testing")]
mod lint;
#[cfg(feature = "testing")]
mod monitor;
#[cfg(feature = "testing")]
mod narration;
#[cfg(feature = "testing")]
mod plan;
#[cfg(feature = "testing")]
mod setup;
#[cfg(feature = "testing")]
mod timeline;

pub use history::{History, ReplayError, Replayed, replay};

#[cfg(feature = "testing")]
pub use self::{
    again::test_command,
    crashes::{CrashReport, RunFailure, check_crashes},
    diagram::Diagram,
    disk::Disk,
    lint::{Finding, lint},
    monitor::{InvariantMonitor, Violation},
    setup::{Ended, Output, TestSetup},
};
#[cfg(feature = "testing")]
#[doc(hidden)]
pub use crate::driver::requests::{Call, Carriage, Courier, Request};
