//! Whatever a node consists of panics or ends: the node goes on, or says why not, and lets all go who wait for it.

use std::panic::panic_any;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use accompanist::contract::{
    Batch, BoxFuture, Direction, Entry, Inbox, KeyRange, Space, Store, StoreError, Transport, TransportError, Wire,
};
use accompanist::prelude::*;
use accompanist::store::{MemoryDisk, MemoryStore};
use accompanist::testing::NodeActor;
use accompanist::transport::LocalNetwork;

use crate::actor::{Note, Recorder};
use crate::support::{node_id, on_disk, quick, until, within};
use crate::trade::{Back, Front, Outside, Trade, deal};

/// A call of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    Get,
    Range,
    Apply,
    Sync,
    MakeReady,
    Drop,
}

/// A store that panics in the call that is named.
struct Trap {
    store: MemoryStore,
    at: Arc<Mutex<Option<Call>>>,
}

struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        assert!(std::thread::panicking(), "dropped, as the test wants");
    }
}

impl Trap {
    fn pass(&self, call: Call) {
        if *self.at.lock().unwrap() == Some(call) && !std::thread::panicking() {
            // The worst of them for one, and one with a text for the others.
            if call == Call::Get { panic_any(Bomb) } else { panic!("{call:?} panics, as the test wants") }
        }
    }
}

impl Store for Trap {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.pass(Call::Get);
        self.store.get(space, key)
    }
    fn range(
        &self,
        space: Space,
        keys: &KeyRange,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<Entry>, StoreError> {
        self.pass(Call::Range);
        self.store.range(space, keys, direction, limit)
    }
    fn apply(&mut self, batch: Batch) -> Result<(), StoreError> {
        self.pass(Call::Apply);
        self.store.apply(batch)
    }
    fn sync(&mut self) -> Result<(), StoreError> {
        self.pass(Call::Sync);
        self.store.sync()
    }
    fn commits(&self) -> u64 {
        self.store.commits()
    }
    fn make_ready(&mut self) {
        self.pass(Call::MakeReady);
    }
}

impl Drop for Trap {
    fn drop(&mut self) {
        self.pass(Call::Drop);
    }
}

/// A node with a session in the middle, which waits for a service, and one who waits for it.
struct Middle {
    outside: Arc<Outside>,
    disk: MemoryDisk,
    node: Node,
    session: Session<Trade>,
}

fn all_roles(
    outside: &Arc<Outside>,
    store: impl Store,
    network: impl Transport,
    settings: Settings,
) -> accompanist::NodeBuilder {
    let builder = Node::builder(node_id("one")).store(store).transport(network).settings(settings);
    let builder = builder.role(Front, Arc::new(())).role(Back, outside.clone()).choreography(Trade);
    builder.actor(Recorder)
}

async fn in_the_middle(network: impl Transport, at: &Arc<Mutex<Option<Call>>>) -> Middle {
    let (outside, disk) = (Arc::new(Outside::default()), MemoryDisk::default());
    outside.set_gate(false);
    let store = Trap { store: disk.open().unwrap(), at: at.clone() };
    // Long enough that no test waits so long.
    let settings = Settings { cast_wait_max: Duration::from_hours(1), ..quick() };
    let node = within(all_roles(&outside, store, network, settings).start()).await.unwrap();
    let session = within(node.start(Trade, deal(1))).await.unwrap();
    within(outside.asked_times(1)).await;
    Middle { outside, disk, node, session }
}

impl Middle {
    /// All who have waited are let go, and nobody has to wait any more.
    async fn is_over(&self) {
        assert!(matches!(within(self.session.settled()).await, Err(SessionError::NodeStopped)));
        assert!(matches!(within(self.node.start(Trade, deal(2))).await, Err(StartError::NodeStopped)));
        assert!(within(self.node.actor::<Recorder>().ask(&Note::Count)).await.is_err());
        assert!(within(self.node.operator().drain_progress()).await.is_err());
    }

    /// The node can be shut down, and the next life ends what this one has begun.
    async fn goes_on_in_another_life(self) {
        within(self.node.shutdown()).await;
        self.outside.set_gate(true);
        let store = self.disk.open().unwrap();
        let node = within(all_roles(&self.outside, store, LocalNetwork::new(), quick()).start()).await.unwrap();
        let session = within(node.session::<Trade>(self.session.id())).await.unwrap();
        assert_eq!(within(session.settled()).await.unwrap(), 101);
        within(node.shutdown()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_panics_in_any_call_ends_the_node_with_the_reason() {
    for call in [Call::Get, Call::Range, Call::Apply, Call::Sync, Call::MakeReady] {
        let at = Arc::default();
        let middle = in_the_middle(LocalNetwork::new(), &at).await;
        let node = middle.node.clone();
        let waits = tokio::spawn(async move { node.actor::<Recorder>().named("waits").ask(&Note::Count).await });
        // One that is on disk only, and has to be loaded.
        within(middle.node.actor::<Recorder>().tell(&Note::Count)).await.unwrap();
        until("the actor has left memory", || middle.node.operator().instances() <= 2).await;
        *at.lock().unwrap() = Some(call);
        let tells = middle.node.actor::<Recorder>();
        let told = tokio::spawn(async move { tells.tell(&Note::Count).await });
        let started = {
            let node = middle.node.clone();
            tokio::spawn(async move { node.start(Trade, deal(3)).await })
        };
        let error = within(middle.node.failed()).await;
        let expected = if call == Call::Get { "a panic without a text".into() } else { format!("{call:?} panics") };
        assert!(
            matches!(&error, NodeError::Ended { part: "writer", reason } if reason.contains(&expected)),
            "{call:?}: {error}"
        );
        // What was asked before the panic is answered or refused, and nothing hangs.
        let _ = within(told).await.unwrap();
        let _ = within(started).await.unwrap();
        let _ = within(waits).await.unwrap();
        middle.is_over().await;
        *at.lock().unwrap() = None;
        middle.goes_on_in_another_life().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_panics_when_it_is_closed_keeps_no_shutdown_from_its_end() {
    let at = Arc::new(Mutex::new(Some(Call::Drop)));
    let middle = in_the_middle(LocalNetwork::new(), &at).await;
    within(middle.node.shutdown()).await;
    assert!(matches!(within(middle.session.settled()).await, Err(SessionError::NodeStopped)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_root_that_panics_ends_the_node_with_the_reason() {
    let middle = in_the_middle(LocalNetwork::new(), &Arc::default()).await;
    // A caller that waits for a cast.
    let front = on_disk("two", &MemoryDisk::default(), LocalNetwork::new());
    let settings = Settings { cast_wait_max: Duration::from_hours(1), ..quick() };
    let front = front.settings(settings).role(Front, Arc::new(())).choreography(Trade);
    let front = within(front.start()).await.unwrap();
    let waits = {
        let front = front.clone();
        tokio::spawn(async move { front.start(Trade, deal(1)).await })
    };
    for node in [&front, &middle.node] {
        node.panic_in(NodeActor::Root);
        let error = within(node.failed()).await;
        let NodeError::Ended { part: "root", reason } = &error else { panic!("{error}") };
        assert!(reason.contains("as the test has ordered"), "{error}");
    }
    assert!(matches!(within(waits).await.unwrap(), Err(StartError::NodeStopped)));
    within(front.shutdown()).await;
    middle.is_over().await;
    middle.goes_on_in_another_life().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panicking_link_or_supervisor_is_restarted_as_often_as_the_policy_allows() {
    for actor in [NodeActor::Link, NodeActor::Roles] {
        let middle = in_the_middle(LocalNetwork::new(), &Arc::default()).await;
        middle.node.panic_in(actor);
        // Asked again when it has come back.
        until("it is in memory again", || middle.outside.asked() > 1).await;
        let failed = middle.node.failed();
        let again = async {
            loop {
                middle.node.panic_in(actor);
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let error = tokio::select! {
            error = within(failed) => error,
            () = again => unreachable!(),
        };
        let NodeError::RestartedTooOften { part, reason, .. } = &error else { panic!("{error}") };
        let name = if actor == NodeActor::Link { "link" } else { "supervisor of roles" };
        assert!(part == name && reason.contains("as the test has ordered"), "{error}");
        middle.is_over().await;
        middle.goes_on_in_another_life().await;
    }
}

/// A network whose wires end by themselves: so many of them at once.
#[derive(Clone, Default)]
struct Fragile {
    network: LocalNetwork,
    ends_left: Arc<Mutex<u32>>,
    inbox: Arc<Mutex<Option<Arc<dyn Inbox>>>>,
}

impl Fragile {
    fn end(&self) {
        let inbox = self.inbox.lock().unwrap().clone();
        // As by the thread of the wire.
        std::thread::spawn(move || inbox.unwrap().closed("its thread has panicked")).join().unwrap();
    }
}

impl Transport for Fragile {
    fn attach(&self, node: NodeId, inbox: Arc<dyn Inbox>) -> BoxFuture<'_, Result<Arc<dyn Wire>, TransportError>> {
        *self.inbox.lock().unwrap() = Some(inbox.clone());
        let ends = {
            let mut left = self.ends_left.lock().unwrap();
            let ends = *left > 0;
            *left = left.saturating_sub(1);
            ends
        };
        let attached = self.network.attach(node, inbox);
        Box::pin(async move {
            let wire = attached.await;
            if ends {
                self.end();
            }
            wire
        })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wire_that_ends_by_itself_is_made_anew_and_one_that_keeps_ending_ends_the_node() {
    let network = Fragile::default();
    let middle = in_the_middle(network.clone(), &Arc::default()).await;
    *network.ends_left.lock().unwrap() = 2;
    network.end();
    until("it is in memory again", || middle.outside.asked() > 1).await;
    *network.ends_left.lock().unwrap() = u32::MAX;
    network.end();
    let error = within(middle.node.failed()).await;
    let NodeError::RestartedTooOften { part, reason, .. } = &error else { panic!("{error}") };
    assert!(part == "link" && reason.contains("its wire has ended: its thread has panicked"), "{error}");
    middle.is_over().await;
    middle.goes_on_in_another_life().await;
}
