//! Why no traces can be sent, and what to do about it.

use accompanist_core::debug_as_text;

/// The error when traces cannot be sent.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum TelemetryError {
    /// The collector's address, or another setting of the exporter, cannot be used.
    #[error(
        "traces cannot be sent: {0}; give the collector's address as `http://host:4317`, in the program or in \
         OTEL_EXPORTER_OTLP_ENDPOINT"
    )]
    Exporter(String),
    /// The share of traces to send is none.
    #[error("{0} is no share of traces: give a number from 0.0, for none, to 1.0, for all")]
    Share(f64),
    /// The process has a subscriber of `tracing` already.
    #[error(
        "the process has a `tracing` subscriber already: add the layer of `Telemetry::builder(..).build()` to it instead \
         of `init`"
    )]
    Subscriber,
    /// The system gives no thread for the exporter.
    #[error("the exporter's thread cannot be started: {0}")]
    Thread(String),
}

debug_as_text!(TelemetryError);
