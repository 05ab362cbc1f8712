//! The way of spans to an OpenTelemetry collector: OTLP over gRPC, in batches, from threads of its own.

use std::time::Duration;

use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracer, SdkTracerProvider, TracerProviderBuilder,
};
use tokio::runtime::{Builder, Runtime};
use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_opentelemetry::OpenTelemetryLayer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

use super::{SPANS, TelemetryError};

/// The most ended spans that wait to be sent: those of two thousand sessions of a few steps. Spans that end while the
/// queue is full are lost, with a warning: a slow collector must not slow down sessions, or fill memory.
const QUEUE_MAX: usize = 16_384;

/// The spans of a request. About half a kilobyte each: far below the 4 MiB that a collector accepts.
const BATCH_MAX: usize = 1_024;

/// The longest time that an ended span waits for others.
const BATCH_DELAY_MAX: Duration = Duration::from_secs(1);

/// The time that the end of a process waits for a collector to take the last spans.
const FLUSH_MAX: Duration = Duration::from_secs(3);

/// Targets whose spans are of no interest: those of the way to the collector itself.
const OWN_TARGETS: [&str; 5] = ["h2", "hyper", "opentelemetry", "tonic", "tower"];

/// Sends the traces of this process to a collector, and prints its log.
///
/// The collector is at `OTEL_EXPORTER_OTLP_ENDPOINT`, or at `http://localhost:4317`. Lines of the log go to the
/// standard output, from `info` on or as `RUST_LOG` says, in the form `warn,accompanist=info`. [`Telemetry::builder`]
/// is for all other cases. `service` is the name under which a collector shows the process.
///
/// # Errors
/// Returns [`TelemetryError`]. A collector that cannot be reached is no error: the spans are lost, with a warning.
pub fn init(service: &str) -> Result<Telemetry, TelemetryError> {
    let telemetry = Telemetry::builder(service).build()?;
    let wanted = std::env::var("RUST_LOG").ok().and_then(|wanted| wanted.parse::<Targets>().ok());
    let wanted = wanted.unwrap_or_else(|| Targets::new().with_default(LevelFilter::INFO));
    let log = tracing_subscriber::fmt::layer().with_filter(wanted);
    let subscriber = tracing_subscriber::registry().with(telemetry.layer()).with(log);
    tracing::subscriber::set_global_default(subscriber).map_err(|_| TelemetryError::Subscriber)?;
    Ok(telemetry)
}

/// The settings of an exporter; see [`Telemetry::builder`].
#[derive(Debug, Clone)]
#[must_use = "nothing is sent before `build`"]
pub struct TelemetryBuilder {
    service: String,
    endpoint: Option<String>,
    share: Option<f64>,
    messages: bool,
}

impl TelemetryBuilder {
    /// Sets the collector's address, `http://host:4317`. Without it, `OTEL_EXPORTER_OTLP_ENDPOINT` has it. TLS is not
    /// built in: send to a collector beside the process, which sends on.
    pub fn endpoint(mut self, endpoint: impl Into<String>) -> Self {
        self.endpoint = Some(endpoint.into());
        self
    }

    /// Sets the share of the traces that begin here and are sent, from 0.0 to 1.0; all, without it. A session that
    /// belongs to a trace from elsewhere is sent if that trace is: all nodes send all of a session, or nothing.
    pub fn share(mut self, share: f64) -> Self {
        self.share = Some(share);
        self
    }

    /// Makes a span of each message, too: from when it is sent until it is on the disk of its receiver. About as many
    /// as all the others.
    pub fn messages(mut self) -> Self {
        self.messages = true;
        self
    }

    /// Begins to send. May be called outside of a tokio runtime, since the exporter has one of its own.
    ///
    /// # Errors
    /// Returns [`TelemetryError`]. A collector that cannot be reached is no error: the spans are lost, with a warning.
    pub fn build(self) -> Result<Telemetry, TelemetryError> {
        if let Some(share) = self.share.filter(|share| !(0.0..=1.0).contains(share)) {
            return Err(TelemetryError::Share(share));
        }
        // Not that of the service: the end of this value waits for the last spans, perhaps on its only worker.
        let runtime = Builder::new_multi_thread().worker_threads(1).thread_name("telemetry").enable_all().build();
        let runtime = runtime.map_err(|error| TelemetryError::Thread(error.to_string()))?;
        let provider = {
            let _within = runtime.enter();
            self.provider()?
        };
        Ok(Telemetry { provider, messages: self.messages, runtime: Some(runtime) })
    }

    fn provider(&self) -> Result<SdkTracerProvider, TelemetryError> {
        let exporter = SpanExporter::builder().with_tonic().with_timeout(FLUSH_MAX);
        let exporter = match &self.endpoint {
            Some(endpoint) => exporter.with_endpoint(endpoint),
            None => exporter,
        };
        let exporter = exporter.build().map_err(|error| TelemetryError::Exporter(error.to_string()))?;
        let batches = BatchConfigBuilder::default()
            .with_max_queue_size(QUEUE_MAX)
            .with_max_export_batch_size(BATCH_MAX)
            .with_scheduled_delay(BATCH_DELAY_MAX)
            .build();
        let processor = BatchSpanProcessor::builder(exporter).with_batch_config(batches).build();
        let resource = Resource::builder().with_service_name(self.service.clone()).build();
        let provider = TracerProviderBuilder::default().with_span_processor(processor).with_resource(resource);
        Ok(match self.share {
            Some(share) => provider.with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(share)))),
            None => provider,
        }
        .build())
    }
}

/// Sends the traces of this process to a collector for as long as it lives: keep it until the end of `main`.
///
/// Dropping it sends what waits, for three seconds at most; nothing is sent after that.
#[must_use = "traces are sent only for as long as this value lives"]
pub struct Telemetry {
    provider: SdkTracerProvider,
    messages: bool,
    /// Present until the end.
    runtime: Option<Runtime>,
}

impl std::fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Telemetry").field("messages", &self.messages).finish_non_exhaustive()
    }
}

impl Telemetry {
    /// Returns a builder, with the name under which a collector shows the process.
    ///
    /// ```no_run
    /// use accompanist::telemetry::Telemetry;
    /// use tracing_subscriber::layer::SubscriberExt;
    /// use tracing_subscriber::util::SubscriberInitExt;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let telemetry = Telemetry::builder("shop").endpoint("http://127.0.0.1:4317").share(0.01).build()?;
    /// tracing_subscriber::registry().with(telemetry.layer()).with(tracing_subscriber::fmt::layer()).init();
    /// # Ok(())
    /// # }
    /// ```
    pub fn builder(service: impl Into<String>) -> TelemetryBuilder {
        TelemetryBuilder { service: service.into(), endpoint: None, share: None, messages: false }
    }

    /// Returns the layer that sends spans, with its filter: the spans of sessions ([`SPANS`]), and all others from
    /// `info` on, so that those of the service's own code join them.
    pub fn layer<S>(&self) -> impl Layer<S> + use<S>
    where
        S: Subscriber + for<'span> LookupSpan<'span>,
    {
        let own = if self.messages { LevelFilter::TRACE } else { LevelFilter::DEBUG };
        let wanted = Targets::new()
            .with_default(LevelFilter::INFO)
            .with_target(SPANS, own)
            .with_targets(OWN_TARGETS.map(|target| (target, LevelFilter::OFF)));
        let layer: OpenTelemetryLayer<S, SdkTracer> =
            tracing_opentelemetry::layer().with_tracer(self.provider.tracer("accompanist"));
        // Where a line of code is and which thread runs it cost more than they tell.
        layer.with_location(false).with_threads(false).with_tracked_inactivity(false).with_filter(wanted)
    }

    /// Sends what waits, and returns once the collector has it or after the export's time limit. Blocks its thread.
    ///
    /// # Errors
    /// Returns [`TelemetryError::Exporter`] if the collector has not taken all.
    pub fn flush(&self) -> Result<(), TelemetryError> {
        self.provider.force_flush().map_err(|error| TelemetryError::Exporter(error.to_string()))
    }
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        if let Err(error) = self.provider.shutdown_with_timeout(FLUSH_MAX) {
            tracing::warn!(%error, "the last spans were not sent");
        }
        if let Some(runtime) = self.runtime.take() {
            // Dropping a runtime within another one panics.
            runtime.shutdown_background();
        }
    }
}
