//! Traces: what a session does at all its nodes, as spans for an OpenTelemetry collector.
//!
//! A node makes spans with the crate `tracing`, under the target [`SPANS`], and carries the place of a session in its
//! trace ([`Traceparent`]) in the session's header: one session is one trace over all nodes, through restarts too.
//! Which spans there are, and with which fields, is in `docs/how-to/traces.md`.
//!
//! The feature `telemetry` adds the way to a collector. In a service's `main`:
//!
//! ```no_run
//! # #[cfg(feature = "telemetry")] fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let _telemetry = accompanist::telemetry::init("shop")?; // Ends, and sends the last spans, when it is dropped.
//! # Ok(())
//! # }
//! # #[cfg(not(feature = "telemetry"))] fn main() {}
//! ```
//!
//! A service that has a subscriber adds a layer to it: `Telemetry::builder` (also with the feature) says how.
//!
//! Knows nothing of nodes. `context` is the one place where spans of `tracing` meet those of OpenTelemetry.

pub(crate) mod context;
#[cfg(feature = "telemetry")]
mod error;
#[cfg(feature = "telemetry")]
mod exporter;

pub use accompanist_core::frame::{InvalidTraceparent, Traceparent};

#[cfg(feature = "telemetry")]
pub use self::error::TelemetryError;
#[cfg(feature = "telemetry")]
pub use self::exporter::{Telemetry, TelemetryBuilder, init};

/// The target of the log's lines about single sessions that were started here, at `info`: two for each. A filter such
/// as `info,accompanist::sessions=warn` leaves them out.
pub const SESSIONS: &str = "accompanist::sessions";

/// The target of all spans: of starts, parts and calls of steps at `debug`, of messages at `trace`. A subscriber that
/// does not ask for this target costs a session nothing.
pub const SPANS: &str = "accompanist::spans";
