//! Telemetry with durable actors: sensors tell a gateway what they measure, and the gateway tells a site.
//!
//! [`model`] has the readings, [`gateway`] and [`site`] an actor each, [`check`](mod@check) what has to hold at the
//! end. The binary starts a process for each, and kills some.

#![expect(missing_docs, reason = "an example")]

pub mod check;
pub mod gateway;
pub mod model;
pub mod site;

pub use check::{Check, Log, check, read_log};
pub use gateway::{Gateway, smoothed};
pub use model::{Reading, Report, measured};
pub use site::Site;
