//! A collector: it keeps all spans that are exported to it.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

use accompanist::telemetry::Telemetry;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};
use tracing_subscriber::layer::SubscriberExt;

/// A span, as tests look at it.
#[derive(Debug, Clone)]
pub struct Seen {
    pub name: String,
    pub trace: Vec<u8>,
    pub id: Vec<u8>,
    pub parent: Vec<u8>,
    /// Whether its status is that of an error.
    pub is_error: bool,
    pub attributes: BTreeMap<String, String>,
}

impl Seen {
    pub fn is(&self, key: &str) -> &str {
        self.attributes.get(key).map_or("", String::as_str)
    }
}

impl From<Span> for Seen {
    fn from(span: Span) -> Self {
        let text = |value| match value {
            Some(Value::StringValue(text)) => text,
            Some(Value::BoolValue(is)) => is.to_string(),
            Some(Value::IntValue(number)) => number.to_string(),
            other => format!("{other:?}"),
        };
        let attributes = span.attributes.into_iter();
        Self {
            name: span.name,
            trace: span.trace_id,
            id: span.span_id,
            parent: span.parent_span_id,
            is_error: span.status.is_some_and(|status| status.code == 2),
            attributes: attributes.map(|pair| (pair.key, text(pair.value.and_then(|value| value.value)))).collect(),
        }
    }
}

#[derive(Clone, Default)]
struct Received(Arc<Mutex<Vec<Seen>>>);

#[tonic::async_trait]
impl TraceService for Received {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let resources = request.into_inner().resource_spans.into_iter();
        let spans = resources.flat_map(|resource| resource.scope_spans).flat_map(|scope| scope.spans);
        self.0.lock().unwrap().extend(spans.map(Seen::from));
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

/// The collector and the exporter of this process: each process has one subscriber.
struct Collector {
    received: Received,
    telemetry: Telemetry,
}

static COLLECTOR: LazyLock<Collector> = LazyLock::new(|| {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    listener.set_nonblocking(true).unwrap();
    let received = Received::default();
    let service = TraceServiceServer::new(received.clone());
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let incoming = TcpIncoming::from(tokio::net::TcpListener::from_std(listener).unwrap());
            Server::builder().add_service(service).serve_with_incoming(incoming).await.unwrap();
        });
    });
    let telemetry = Telemetry::builder("tests").endpoint(format!("http://{address}")).messages().build().unwrap();
    // Lines of the log, too: two layers with filters of their own.
    let log = tracing_subscriber::fmt::layer().with_test_writer();
    tracing::subscriber::set_global_default(tracing_subscriber::registry().with(telemetry.layer()).with(log)).unwrap();
    Collector { received, telemetry }
});

/// Begins to collect.
pub fn collect() {
    LazyLock::force(&COLLECTOR);
}

/// The spans whose field `key` is `value`, once there are `count`.
pub fn spans(key: &str, value: &str, count: usize) -> Vec<Seen> {
    let end = Instant::now() + Duration::from_mins(1);
    loop {
        COLLECTOR.telemetry.flush().unwrap();
        let all = COLLECTOR.received.0.lock().unwrap().clone();
        let found: Vec<_> = all.into_iter().filter(|span| span.is(key) == value).collect();
        if found.len() >= count {
            return found;
        }
        let names = || found.iter().map(|span| format!("{} {}", span.name, span.is("node"))).collect::<Vec<_>>();
        assert!(Instant::now() < end, "{count} spans of {key} {value} never came, only {:?}", names());
        std::thread::sleep(Duration::from_millis(5));
    }
}
