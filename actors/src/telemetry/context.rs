//! Where spans of `tracing` meet those of OpenTelemetry. Without the feature `telemetry` they never do.

use accompanist_core::frame::Traceparent;
use tracing::Span;

/// Returns the place of a span in its trace; `None` if nothing exports it.
#[cfg(feature = "telemetry")]
pub(crate) fn traceparent_of(span: &Span) -> Option<Traceparent> {
    use opentelemetry::trace::TraceContextExt;
    use tracing_opentelemetry::OpenTelemetrySpanExt;

    let context = span.context();
    let place = context.span().span_context().clone();
    Traceparent::new(place.trace_id().to_bytes(), place.span_id().to_bytes(), place.trace_flags().to_u8())
}

/// Returns the place of a span in its trace: nothing exports it.
#[cfg(not(feature = "telemetry"))]
pub(crate) fn traceparent_of(_span: &Span) -> Option<Traceparent> {
    None
}

/// Puts a span under another one, which may be of another process. The span must not have been entered yet.
#[cfg(feature = "telemetry")]
pub(crate) fn set_parent(span: &Span, parent: &Traceparent) {
    use opentelemetry::Context;
    use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState};
    use tracing_opentelemetry::OpenTelemetrySpanExt;

    let (trace, span_id) = (TraceId::from_bytes(parent.trace_id()), SpanId::from_bytes(parent.span_id()));
    let place = SpanContext::new(trace, span_id, TraceFlags::new(parent.flags()), true, TraceState::NONE);
    // Fails if nothing exports the span: then it has no place in a trace.
    let _ = span.set_parent(Context::new().with_remote_span_context(place));
}

/// Puts a span under another one: nothing exports it.
#[cfg(not(feature = "telemetry"))]
pub(crate) fn set_parent(_span: &Span, _parent: &Traceparent) {}
