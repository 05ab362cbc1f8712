//! What the tests of nodes share: waits with an end, nodes that are checked when they go, and where nodes live.

use std::future::Future;
use std::net::TcpListener;
use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::time::Duration;

use accompanist::contract::{Space, Store, Transport};
use accompanist::id::{InstanceId, RoleIndex};
use accompanist::prelude::*;
use accompanist::store::MemoryDisk;
use accompanist::transport::LocalNetwork;
use accompanist::{NodeBuilder, StoppedSession};
use tempfile::TempDir;

use crate::trade::{Back, Front, Outside, Side};

/// The end of a test that hangs. Nothing is measured by it.
#[track_caller]
pub fn within<T>(what: impl IntoFuture<Output = T>) -> impl Future<Output = T> {
    let caller = std::panic::Location::caller();
    async move {
        let ended = tokio::time::timeout(Duration::from_mins(1), what).await;
        ended.unwrap_or_else(|_| panic!("what {caller} waits for never came"))
    }
}

/// Waits until a condition holds.
pub async fn until(what: &str, holds: impl Fn() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_mins(1), wait).await.unwrap_or_else(|_| panic!("it never came to: {what}"));
}

/// Short pauses, so that nobody waits long for a node that is away or an instance that fails.
pub fn quick() -> Settings {
    let mut settings = Settings {
        lazy_write_delay_max: Duration::from_millis(2),
        retransmission_delay_min: Duration::from_millis(20),
        retransmission_delay_max: Duration::from_millis(100),
        // So short that instances leave memory in many tests.
        passivation_delay: Duration::from_millis(30),
        // Tests of crashes cut off steps that wait for a gate.
        shutdown_grace: Duration::ZERO,
        // Tests run beside others, on a machine that may be slow.
        queue_delay_max: Duration::from_hours(1),
        ..Settings::default()
    };
    settings.supervision.instances.restarts_max = 3;
    settings.supervision.instances.delay_min = Duration::from_millis(1);
    settings.limits.nudge_delay_min_ms = 10;
    settings.limits.nudge_delay_max_ms = 100;
    settings.limits.retry_delay_min_ms = 1;
    settings
}

/// A node that fails its test if a session of it is stopped and nobody has looked.
#[derive(Debug)]
pub struct TestNode {
    node: Node,
    looked: AtomicBool,
}

impl TestNode {
    pub async fn start(builder: NodeBuilder) -> Self {
        let node = within(builder.start()).await.unwrap();
        Self { node, looked: AtomicBool::new(false) }
    }

    /// The sessions that are stopped here, once there is one.
    pub async fn stopped(&self) -> Vec<StoppedSession> {
        until("a session that is stopped", || !self.node.operator().stopped_sessions().is_empty()).await;
        self.looked.store(true, Ordering::SeqCst);
        self.node.operator().stopped_sessions()
    }

    /// Waits until everything has ended.
    pub async fn is_idle(&self) {
        let ended = async {
            while self.node.operator().instances() > 0 || self.open().await > 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        within(ended).await;
    }

    /// How many instances are open, in memory or not.
    pub async fn open(&self) -> usize {
        self.node.operator().open_versions().await.unwrap().values().sum()
    }
}

impl Deref for TestNode {
    type Target = Node;
    fn deref(&self) -> &Node {
        &self.node
    }
}

impl Drop for TestNode {
    fn drop(&mut self) {
        if !self.looked.load(Ordering::SeqCst) && !std::thread::panicking() {
            assert_eq!(self.node.operator().stopped_sessions(), [], "a session is stopped at {}", self.node.name());
        }
    }
}

/// A folder, a network and services that outlive the one node which plays all roles on them.
pub struct Home {
    folder: TempDir,
    pub outside: Arc<Outside>,
}

impl Home {
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), outside: Arc::default() }
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn builder(&self) -> NodeBuilder {
        let store = FjallStore::open(self.folder()).unwrap();
        all_roles("home", store, LocalNetwork::new(), &self.outside)
    }
}

/// The builder of a node that plays all roles.
pub fn all_roles(name: &str, store: impl Store, network: impl Transport, outside: &Arc<Outside>) -> NodeBuilder {
    let builder = Node::builder(node_id(name)).store(store).transport(network).settings_unless_given(quick());
    builder.role(Front, Arc::new(())).role(Back, outside.clone()).role(Side, Arc::new(()))
}

/// The builder of a node that still lacks its role.
pub fn on_disk(name: &str, disk: &MemoryDisk, network: impl Transport) -> NodeBuilder {
    Node::builder(node_id(name)).store(disk.open().unwrap()).transport(network).settings_unless_given(quick())
}

pub fn node_id(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

/// Whether a role's part of a session is over, as its disk tells. The node on it must have been shut down.
pub fn has_tombstone(disk: &MemoryDisk, session: SessionId, role: u8) -> bool {
    let (store, key) = (disk.open().unwrap(), InstanceId { session, role: RoleIndex(role) }.to_bytes());
    let [open, closed] = [Space::Open, Space::Closed].map(|space| store.get(space, &key).unwrap().is_some());
    assert!(!(open && closed), "{session} is both open and closed at role {role}");
    closed
}

#[cfg_attr(not(feature = "zenoh"), expect(dead_code, reason = "nodes on the one network that needs it"))]
/// An address that nobody listens on, below those that the system gives to outgoing connections.
pub fn free_endpoint() -> String {
    static PORT_NEXT: AtomicU16 = AtomicU16::new(0);
    let start = u16::try_from(std::process::id() % 10_000).unwrap();
    loop {
        let port = 20_000 + (start + PORT_NEXT.fetch_add(1, Ordering::Relaxed)) % 10_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return format!("tcp/127.0.0.1:{port}");
        }
    }
}
