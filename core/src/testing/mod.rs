//! Tools for users' own tests: histories and their replay ([`History`], [`replay`]). The feature `testing` adds runs
//! with a crash at every point (`check_crashes`), invariants as predicates (`Watch`), and a review of a choreography
//! (`lint`).
//!
//! This module knows no runtime. A simulated world of nodes is in `accompanist::testing`.

mod history;

#[cfg(feature = "testing")]
mod again;
#[cfg(feature = "testing")]
mod crashes;
#[cfg(feature = "testing")]
mod disk;
#[cfg(feature = "testing")]
mod lint;
#[cfg(feature = "testing")]
mod plan;
#[cfg(feature = "testing")]
mod post;
#[cfg(feature = "testing")]
mod scene;
#[cfg(feature = "testing")]
mod stage;
#[cfg(feature = "testing")]
mod timeline;
#[cfg(feature = "testing")]
mod watch;

pub use history::{History, ReplayError, Replayed, replay};

#[cfg(feature = "testing")]
pub use self::{
    again::test_command,
    crashes::{CrashReport, RunFailure, check_crashes},
    disk::Disk,
    lint::{Finding, lint},
    scene::{Ended, Output, Scene},
    watch::{Violation, Watch},
};
#[cfg(feature = "testing")]
#[doc(hidden)]
pub use crate::requests::{Call, Carriage, Courier, Request};
