//! What the log says of a node's life and of its sessions: with names, in fields of the same names, and no more of
//! single sessions than was asked for.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, LazyLock, Mutex};

use accompanist::prelude::*;
use accompanist::store::MemoryDisk;
use accompanist::telemetry::{SESSIONS, SPANS};
use accompanist::transport::LocalNetwork;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::subscriber::DefaultGuard;
use tracing::{Dispatch, Event, Level, Subscriber, span};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

use crate::support::{all_roles, within};
use crate::trade::{Deal, Outside, Trade, deal};

/// A line of the log, or a span.
#[derive(Debug, Clone)]
struct Line {
    target: String,
    level: Level,
    fields: BTreeMap<&'static str, String>,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.fields.insert(field.name(), format!("{value:?}"));
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        self.fields.insert(field.name(), value.to_owned());
    }
}

impl Line {
    fn is(&self, field: &str) -> &str {
        self.fields.get(field).map_or("", String::as_str)
    }
}

/// A second subscriber. While there is one alone, whoever comes first to a span, on a thread without any, would turn it
/// off for all.
static ELSEWHERE: LazyLock<Dispatch> = LazyLock::new(|| {
    let spans = Targets::new().with_target(SPANS, LevelFilter::TRACE);
    Dispatch::new(tracing_subscriber::registry().with(Log::default().with_filter(spans)))
});

/// Keeps what is logged on the test's thread, which runs its nodes.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<Line>>>);

impl<S: Subscriber> Layer<S> for Log {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        let mut line = Line { target: metadata.target().to_owned(), level: *metadata.level(), fields: BTreeMap::new() };
        event.record(&mut line);
        self.0.lock().unwrap().push(line);
    }
    fn on_new_span(&self, attributes: &span::Attributes<'_>, _: &span::Id, _: Context<'_, S>) {
        let metadata = attributes.metadata();
        let mut line = Line { target: metadata.target().to_owned(), level: *metadata.level(), fields: BTreeMap::new() };
        line.fields.insert("span", metadata.name().to_owned());
        attributes.record(&mut line);
        self.0.lock().unwrap().push(line);
    }
}

impl Log {
    /// Begins to keep what passes the filter.
    fn begin(filter: Targets) -> (Self, DefaultGuard) {
        LazyLock::force(&ELSEWHERE);
        let log = Self::default();
        let guard =
            tracing::subscriber::set_default(tracing_subscriber::registry().with(log.clone().with_filter(filter)));
        (log, guard)
    }

    /// The only line with this message.
    fn one(&self, message: &str) -> Line {
        let mut found = self.all();
        found.retain(|line| line.is("message") == message);
        assert_eq!(found.len(), 1, "`{message}` in {:#?}", self.all());
        found.remove(0)
    }

    fn all(&self) -> Vec<Line> {
        self.0.lock().unwrap().clone()
    }
}

async fn node() -> Node {
    let store = MemoryDisk::default().open().unwrap();
    let builder = all_roles("home", store, LocalNetwork::new(), &Arc::new(Outside::default()));
    within(builder.choreography(Trade).start()).await.unwrap()
}

#[tokio::test]
async fn a_session_is_logged_at_its_start_and_its_end_with_its_names() {
    let (log, _guard) = Log::begin(Targets::new().with_target("accompanist", LevelFilter::INFO));
    let node = node().await;
    let session = within(node.start(Trade, Deal { id: 7, refused: true })).await.unwrap();
    within(session.settled()).await.unwrap_err();
    node.shutdown().await;
    let id = session.id().to_string();
    for line in [log.one("a session is started"), log.one("a session has ended")] {
        assert_eq!((line.target.as_str(), line.level), (SESSIONS, Level::INFO));
        assert_eq!(
            (line.is("session"), line.is("choreography"), line.is("role"), line.is("node")),
            (id.as_str(), "trade", "front", "home")
        );
    }
    let end = log.one("a session has ended");
    assert_eq!(end.is("outcome"), "compensated");
    assert!(end.is("error").contains("there is no truck") && end.is("duration_ms").parse::<u64>().is_ok(), "{end:?}");
    let started = log.one("the node has started");
    assert_eq!((started.is("node"), started.is("roles")), ("home", "front, back, side"));
    assert!(started.is("choreographies").contains("trade 1"), "{started:?}");
    assert_eq!(log.one("the node has stopped: it was shut down").is("node"), "home");
    // Nothing else at `info` is about a single session, and nobody has asked for spans.
    let about = log.all().into_iter().filter(|line| line.is("session") == id);
    assert_eq!(about.count(), 2);
}

#[tokio::test]
async fn a_filter_by_target_leaves_single_sessions_out() {
    let filter = Targets::new().with_target("accompanist", LevelFilter::INFO).with_target(SESSIONS, LevelFilter::WARN);
    let (log, _guard) = Log::begin(filter);
    let node = node().await;
    let session = within(node.start(Trade, deal(8))).await.unwrap();
    within(session.settled()).await.unwrap();
    node.shutdown().await;
    assert!(log.all().iter().all(|line| line.target != SESSIONS && line.is("session").is_empty()), "{:#?}", log.all());
    log.one("the node has started");
}

/// Without an exporter, too: a subscriber of one's own sees them.
#[tokio::test]
async fn spans_have_the_same_names_and_only_what_is_done_has_one() {
    let (log, _guard) = Log::begin(Targets::new().with_target(SPANS, LevelFilter::TRACE));
    let node = node().await;
    let session = within(node.start(Trade, Deal { id: 9, refused: true })).await.unwrap();
    within(session.settled()).await.unwrap_err();
    node.shutdown().await;
    let id = session.id().to_string();
    let mut names: Vec<_> =
        log.all().iter().map(|line| format!("{} {}", line.is("role"), line.is("otel.name"))).collect();
    names.sort();
    // Steps on the built-in state run on the writer's thread, where this log hears nothing.
    assert_eq!(
        names,
        [
            " start trade",
            "back comm to front",
            "back compensate pay",
            "back pay",
            "back trade back",
            "front comm to back",
            "front trade front"
        ]
    );
    for line in log.all() {
        assert_eq!((line.is("session"), line.is("choreography"), line.is("node")), (id.as_str(), "trade", "home"));
    }
}
