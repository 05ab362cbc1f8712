//! What is left of closed sessions: how long, who may ask for it, and that nothing happens again once it is gone.
//!
//! In paused time, in which hours pass in no time. Next: `actors/src/writer/collector.rs`, with tests of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use accompanist::contract::{BoxFuture, Inbox, Space, Store, Transport, TransportError, Wire};
use accompanist::frame::{Body, Frame, Packet};
use accompanist::id::{InstanceId, RoleIndex};
use accompanist::prelude::*;
use accompanist::store::MemoryDisk;
use accompanist::transport::LocalNetwork;
use accompanist::{NodeBuilder, Tombstones, metric};
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};

use crate::support::{TestNode, node_id, quick, until, within};
use crate::trade::{Back, Deal, Front, Outside, Pay, Side, Tally, Trade, deal};
use crate::world::SimulatedEnvironment;

const MINUTE: Duration = Duration::from_mins(1);

/// No bounds, and no least age.
fn unbounded() -> Retention {
    Retention { age_min: Duration::ZERO, age_max: None, count_max: None, bytes_max: None }
}

/// The front is sent as many bytes as it wants.
struct Parcel;
impl Choreography for Parcel {
    const NAME: &'static str = "parcel";
    type Roles = (Back, Front);
    type Input = At<Front, usize>;
    type Output = At<Front, Vec<u8>>;
    async fn run(&self, ctx: &Context<Self::Roles>, size: At<Front, usize>) -> Result<At<Front, Vec<u8>>, Abort> {
        let size = ctx.comm(Front, Back, &size).await?;
        let parcel = ctx.locally(Back, |here| vec![7; *here.get(&size)]);
        ctx.comm(Back, Front, &parcel).await
    }
}

/// Paid for at the back, which hears of it without being told anything that depends on others.
struct Round;
impl Choreography for Round {
    const NAME: &'static str = "round";
    type Roles = (Back, Front, Side);
    type Input = At<Front, Deal>;
    type Output = At<Front, u32>;
    async fn run(&self, ctx: &Context<Self::Roles>, deal: At<Front, Deal>) -> Result<At<Front, u32>, Abort> {
        let known = ctx.effect(Back, "guess", async |_| crate::trade::deal(1)).await?;
        let paid = ctx.transact(Pay, &known).await?;
        let paid = ctx.comm(Back, Front, &paid).await?;
        ctx.comm(Front, Side, &deal).await?;
        Ok(paid)
    }
}

type Sent = (NodeId, Packet);

/// A network that a test listens to, and that swallows what the test wants.
#[derive(Clone, Default)]
struct Tap {
    network: LocalNetwork,
    sent: Arc<Mutex<Vec<Sent>>>,
    /// Frames to these nodes that say `Close` are lost.
    closes_lost: Arc<Mutex<BTreeSet<&'static str>>>,
    /// Acknowledgements of frames that say `Done` are lost.
    dones_unheard: Arc<Mutex<Option<BTreeSet<u64>>>>,
}

struct TappedWire(Arc<dyn Wire>, Tap);

impl Transport for Tap {
    fn attach(&self, node: NodeId, inbox: Arc<dyn Inbox>) -> BoxFuture<'_, Result<Arc<dyn Wire>, TransportError>> {
        Box::pin(async move {
            let wire = self.network.attach(node, inbox).await?;
            Ok(Arc::new(TappedWire(wire, self.clone())) as Arc<dyn Wire>)
        })
    }
}

impl Wire for TappedWire {
    fn send(&self, to: &NodeId, packet: Vec<u8>) {
        let mut packet = Packet::from_bytes(&packet).unwrap();
        if self.1.closes_lost.lock().unwrap().contains(to.as_str()) {
            packet.frames.retain(|(_, frame)| !matches!(frame.body, Body::Close(_)));
        }
        if let Some(numbers) = &mut *self.1.dones_unheard.lock().unwrap() {
            let dones = packet.frames.iter().filter(|(_, frame)| matches!(frame.body, Body::Done(_)));
            numbers.extend(dones.map(|(number, _)| *number));
            // Each node counts for itself: the front's acknowledgements are of what the back has said.
            for (_, acks) in packet.acks.iter_mut().filter(|_| to.as_str() == "back") {
                acks.retain(|number| !numbers.contains(number));
            }
        }
        self.1.sent.lock().unwrap().push((to.clone(), packet.clone()));
        self.0.send(to, packet.to_bytes().unwrap());
    }
    fn broadcast(&self, packet: Vec<u8>) {
        self.0.broadcast(packet);
    }
    fn packet_bytes_max(&self) -> usize {
        self.0.packet_bytes_max()
    }
}

impl Tap {
    /// How many frames of this kind were sent since the last [`Tap::clear`].
    fn sent(&self, kind: impl Fn(&Body) -> bool) -> usize {
        let sent = self.sent.lock().unwrap();
        sent.iter().flat_map(|(_, packet)| &packet.frames).filter(|(_, frame)| kind(&frame.body)).count()
    }

    fn clear(&self) {
        self.sent.lock().unwrap().clear();
    }

    /// Sends again all that was sent.
    async fn repeat(&self) {
        let sent = self.sent.lock().unwrap().clone();
        let wire = self.network.attach(node_id("rogue"), Arc::new(Nobody)).await.unwrap();
        for (to, packet) in sent {
            wire.send(&to, packet.to_bytes().unwrap());
        }
    }
}

struct Nobody;
impl Inbox for Nobody {
    fn receive(&self, _: &[u8]) {}
}

/// What outlives the nodes of a test.
struct Town {
    tap: Tap,
    outside: Arc<Outside>,
    environment: Arc<SimulatedEnvironment>,
    disks: BTreeMap<&'static str, MemoryDisk>,
}

impl Town {
    fn new() -> Self {
        let environment = Arc::new(SimulatedEnvironment::new(fastrand::Rng::with_seed(7)));
        let disks = ["home", "front", "back", "side"].map(|name| (name, MemoryDisk::default())).into();
        Self { tap: Tap::default(), outside: Arc::default(), environment, disks }
    }

    fn builder(&self, name: &str, retention: Retention) -> NodeBuilder {
        let builder = Node::builder(node_id(name)).simulated_store(self.disks[name].open().unwrap(), SYNC);
        let builder = builder.transport(self.tap.clone()).environment(self.environment.clone());
        let builder = builder.settings(Settings { retention, ..quick() });
        builder.choreography(Trade).choreography(Parcel).choreography(Round)
    }

    /// A node that plays all roles.
    async fn home(&self, retention: Retention) -> TestNode {
        let builder = self.builder("home", retention).role(Front, Arc::new(())).role(Back, self.outside.clone());
        TestNode::start(builder.role(Side, Arc::new(()))).await
    }
    async fn front(&self, retention: Retention) -> TestNode {
        TestNode::start(self.builder("front", retention).role(Front, Arc::new(()))).await
    }
    async fn back(&self, retention: Retention) -> TestNode {
        TestNode::start(self.builder("back", retention).role(Back, self.outside.clone())).await
    }
    async fn side(&self, retention: Retention) -> TestNode {
        TestNode::start(self.builder("side", retention).role(Side, Arc::new(()))).await
    }

    /// What a node that has been shut down has left on its disk. Tombstones and their order must agree.
    fn remains(&self, name: &str) -> Remains {
        let store = self.disks[name].open().unwrap();
        let entries = |space| store.scan(space, &[], None, usize::MAX).unwrap();
        let closed: BTreeSet<_> = entries(Space::Closed).into_iter().map(|(key, _)| key).collect();
        let ended: BTreeSet<_> = entries(Space::Ended).into_iter().map(|(key, _)| key[8..].to_vec()).collect();
        assert_eq!(closed, ended, "tombstones, and their order");
        let bytes = entries(Space::Closed).iter().map(|(key, value)| 2 * key.len() + 8 + value.len()).sum::<usize>();
        let sessions = closed.iter().map(|key| InstanceId::from_bytes(key).unwrap().session).collect();
        let keys = entries(Space::Keys).len();
        Remains { tombstones: Tombstones { count: closed.len() as u64, bytes: bytes as u64 }, sessions, keys }
    }
}

const SYNC: Duration = Duration::from_millis(1);

struct Remains {
    tombstones: Tombstones,
    sessions: BTreeSet<SessionId>,
    keys: usize,
}

/// Runs a session of `Parcel` to its end.
async fn parcel(node: &TestNode, key: &str, size: usize) -> SessionId {
    let session = within(node.start_keyed(Parcel, key, size)).await.unwrap();
    assert_eq!(within(session.settled()).await.unwrap().len(), size);
    node.is_idle().await;
    session.id()
}

async fn parcels(node: &TestNode, count: usize, size: usize) -> Vec<SessionId> {
    let mut sessions = Vec::new();
    for key in 0..count {
        sessions.push(parcel(node, &key.to_string(), size).await);
    }
    sessions
}

fn count(node: &Node) -> u64 {
    node.tombstones().map_or(u64::MAX, |tombstones| tombstones.count)
}

async fn is_unknown(node: &Node, id: SessionId) -> bool {
    matches!(within(node.session::<Parcel>(id)).await, Err(SessionLookupError::Unknown { session }) if session == id)
}

#[tokio::test(start_paused = true)]
async fn more_than_so_many_are_not_kept() {
    let town = Town::new();
    let node = town.home(Retention { count_max: Some(10), ..unbounded() }).await;
    let sessions = parcels(&node, 20, 1).await;
    // Two roles each.
    until("ten tombstones", || count(&node) == 10).await;
    for session in &sessions[..15] {
        assert!(is_unknown(&node, *session).await);
    }
    for session in &sessions[15..] {
        assert_eq!(within(within(node.session::<Parcel>(*session)).await.unwrap().settled()).await.unwrap(), [7]);
    }
    within(node.shutdown()).await;
    let remains = town.remains("home");
    assert_eq!(remains.tombstones.count, 10);
    assert_eq!(remains.sessions, sessions[15..].iter().copied().collect());
    assert_eq!(remains.keys, 10, "each key, and whose it is");
}

#[tokio::test(start_paused = true)]
async fn more_than_so_many_bytes_are_not_kept() {
    let town = Town::new();
    let node = town.home(Retention { bytes_max: Some(10_000), ..unbounded() }).await;
    let sessions = parcels(&node, 30, 1_000).await;
    until("ten thousand bytes", || node.tombstones().unwrap().bytes <= 10_000).await;
    assert!(is_unknown(&node, sessions[0]).await && !is_unknown(&node, sessions[29]).await);
    let kept = node.tombstones().unwrap();
    within(node.shutdown()).await;
    let remains = town.remains("home");
    assert_eq!(remains.tombstones, kept);
    // One more would not have been too much.
    assert!((8_500..=10_000).contains(&kept.bytes), "{kept:?}");
}

#[tokio::test(start_paused = true)]
async fn what_is_too_old_is_not_kept() {
    let town = Town::new();
    let node = town.home(Retention { age_max: Some(60 * MINUTE), ..unbounded() }).await;
    let early = parcels(&node, 3, 1).await;
    tokio::time::sleep(30 * MINUTE).await;
    let late = parcel(&node, "late", 1).await;
    tokio::time::sleep(29 * MINUTE).await;
    assert_eq!(count(&node), 8);
    // By itself: nothing else happens here.
    tokio::time::sleep(2 * MINUTE).await;
    assert_eq!(count(&node), 2);
    assert!(is_unknown(&node, early[2]).await && !is_unknown(&node, late).await);
    // While the node is down, too.
    within(node.shutdown()).await;
    assert_eq!(town.remains("home").tombstones.count, 2);
    tokio::time::sleep(30 * MINUTE).await;
    let node = town.home(Retention { age_max: Some(60 * MINUTE), ..unbounded() }).await;
    until("nothing left", || count(&node) == 0).await;
    assert!(is_unknown(&node, late).await);
    tokio::time::sleep(MINUTE).await; // It is written lazily.
    within(node.shutdown()).await;
    let remains = town.remains("home");
    assert_eq!((remains.tombstones, remains.keys), (Tombstones::default(), 0));
}

/// Counters and gauges of the thread that a test runs on.
#[derive(Default)]
struct Numbers(Mutex<BTreeMap<String, Arc<std::sync::atomic::AtomicU64>>>);

impl Numbers {
    fn number(&self, key: &str) -> Arc<std::sync::atomic::AtomicU64> {
        self.0.lock().unwrap().entry(key.into()).or_default().clone()
    }
    fn counter(&self, key: &str) -> u64 {
        self.number(key).load(std::sync::atomic::Ordering::SeqCst)
    }
    fn gauge(&self, key: &str) -> f64 {
        f64::from_bits(self.counter(key))
    }
}

impl Recorder for Numbers {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.number(key.name()))
    }
    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.number(key.name()))
    }
    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

#[tokio::test(start_paused = true)]
async fn below_the_least_age_everything_is_kept() {
    let numbers = Numbers::default();
    let _recorder = metrics::set_default_local_recorder(&numbers);
    let town = Town::new();
    let nothing =
        Retention { age_min: 10 * MINUTE, age_max: Some(Duration::ZERO), count_max: Some(0), bytes_max: Some(0) };
    let node = town.home(nothing).await;
    let sessions = parcels(&node, 20, 1).await;
    tokio::time::sleep(9 * MINUTE).await;
    assert_eq!(count(&node), 40);
    let again = within(node.start_keyed(Parcel, "0", 5)).await.unwrap();
    assert_eq!((again.id(), within(again.settled()).await.unwrap()), (sessions[0], vec![7]));
    assert_eq!(numbers.counter(metric::RETENTION_HELD_BACK), 1, "said once, not for each");
    let kept = node.tombstones().unwrap();
    let gauges = || (numbers.gauge(metric::TOMBSTONES), numbers.gauge(metric::TOMBSTONE_BYTES));
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    let expected = (40.0, kept.bytes as f64);
    assert_eq!(gauges(), expected);
    tokio::time::sleep(2 * MINUTE).await;
    assert_eq!(count(&node), 0);
    assert_eq!((gauges(), numbers.counter(metric::TOMBSTONES_COLLECTED)), ((0.0, 0.0), 40));
    for session in sessions {
        assert!(is_unknown(&node, session).await);
    }
    within(node.shutdown()).await;
    assert_eq!(town.remains("home").tombstones.count, 0);
}

#[tokio::test(start_paused = true)]
async fn a_store_is_bounded_over_many_sessions() {
    let town = Town::new();
    let node = town.home(Retention { count_max: Some(100), ..unbounded() }).await;
    let mut most = 0;
    for round in 0..50 {
        let starts = (0..100).map(|key| node_start(&node, round * 100 + key));
        for session in futures_util::future::join_all(starts).await {
            within(session.settled()).await.unwrap();
        }
        most = most.max(count(&node));
    }
    node.is_idle().await;
    until("a hundred tombstones", || count(&node) == 100).await;
    // It comes behind a little.
    assert!(most < 1_000, "{most} were kept at a time");
    within(node.shutdown()).await;
    let remains = town.remains("home");
    assert_eq!(remains.tombstones.count, 100);
    assert!(remains.keys <= 2 * remains.sessions.len(), "{} entries of keys", remains.keys);
}

async fn node_start(node: &TestNode, key: usize) -> Session<Parcel> {
    within(node.start_keyed(Parcel, &key.to_string(), 1)).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn what_is_kept_is_counted_again_after_a_restart() {
    let town = Town::new();
    let node = town.home(unbounded()).await;
    parcels(&node, 30, 100).await;
    let kept = node.tombstones().unwrap();
    assert_eq!(kept.count, 60);
    within(node.shutdown()).await;
    assert_eq!(town.remains("home").tombstones, kept);
    let node = town.home(Retention { count_max: Some(40), ..unbounded() }).await;
    until("forty tombstones", || count(&node) == 40).await;
    parcels(&node, 1, 100).await;
    // Now they count as before: the next one drives the first out.
    parcel(&node, "one more", 100).await;
    until("forty tombstones", || count(&node) == 40).await;
    let kept = node.tombstones().unwrap();
    within(node.shutdown()).await;
    assert_eq!(town.remains("home").tombstones, kept);
}

#[tokio::test(start_paused = true)]
async fn a_crash_amid_a_collection_loses_nothing_and_counts_nothing_twice() {
    let town = Town::new();
    let node = town.home(unbounded()).await;
    let mut sessions = Vec::new();
    for key in 0..1_300 {
        let session = node_start(&node, key).await;
        within(session.settled()).await.unwrap();
        sessions.push(session.id());
    }
    node.is_idle().await;
    within(node.shutdown()).await;
    let mut left = town.remains("home").tombstones.count;
    assert_eq!(left, 2_600);
    // Each life gets as far as one page, which a crash undoes or not.
    for kept in [0, 1, 0, 1] {
        let node = town.home(Retention { count_max: Some(500), ..unbounded() }).await;
        until("a page on its way to the disk", || town.disks["home"].unsynced() > 0).await;
        town.disks["home"].crash(kept);
        within(node.kill()).await;
        let remains = town.remains("home");
        left -= if kept == 0 { 0 } else { 1_024 };
        assert_eq!(remains.tombstones.count, left.max(500));
        left = remains.tombstones.count;
        let latest = sessions.iter().rev().take(250);
        assert!(latest.clone().all(|session| remains.sessions.contains(session)), "collected before its time");
    }
    let node = town.home(Retention { count_max: Some(500), ..unbounded() }).await;
    until("five hundred tombstones", || count(&node) == 500).await;
    let kept = node.tombstones().unwrap();
    within(node.shutdown()).await;
    let remains = town.remains("home");
    assert_eq!(remains.tombstones, kept);
    assert_eq!(remains.sessions, sessions[1_050..].iter().copied().collect());
    assert_eq!(remains.keys, 500);
}

/// Collected as soon as they are ten minutes old.
fn short() -> Retention {
    Retention { age_min: 10 * MINUTE, count_max: Some(0), ..unbounded() }
}

/// Collected as soon as they are there.
fn none() -> Retention {
    Retention { count_max: Some(0), ..unbounded() }
}

#[tokio::test(start_paused = true)]
async fn late_duplicates_begin_nothing_below_the_least_age() {
    let town = Town::new();
    let (front, back, side) = (town.front(short()).await, town.back(short()).await, town.side(short()).await);
    let session = within(front.start(Round, deal(1))).await.unwrap();
    assert_eq!(within(session.settled()).await.unwrap(), 100);
    for node in [&front, &back, &side] {
        node.is_idle().await;
    }
    for _ in 0..9 {
        tokio::time::sleep(MINUTE).await;
        town.tap.repeat().await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!((town.outside.asked(), back.instances()), (1, 0));
    tokio::time::sleep(2 * MINUTE).await;
    assert_eq!([count(&front), count(&back), count(&side)], [0, 0, 0]);
}

/// One role has not heard the close when another one has closed and forgotten: the initiator may not ask that one again.
#[tokio::test(start_paused = true)]
async fn a_role_that_has_forgotten_is_not_asked_again() {
    let town = Town::new();
    let (front, back, side) = (town.front(none()).await, town.back(none()).await, town.side(none()).await);
    town.tap.closes_lost.lock().unwrap().insert("side");
    let session = within(front.start_keyed(Round, "k", deal(1))).await.unwrap();
    assert_eq!(within(session.output()).await.unwrap(), 100);
    back.is_idle().await;
    until("nothing left at the back", || count(&back) == 0).await;
    assert_eq!((front.instances(), side.instances()), (1, 1));
    // Not by a life that has forgotten what it heard, either.
    town.disks["front"].crash(0);
    within(front.kill()).await;
    let front = town.front(none()).await;
    tokio::time::sleep(MINUTE).await;
    assert_eq!((town.outside.asked(), back.instances()), (1, 0), "the back plays its part again");
    town.tap.closes_lost.lock().unwrap().clear();
    for node in [&front, &back, &side] {
        node.is_idle().await;
    }
    assert_eq!((town.outside.asked(), town.outside.total()), (1, Tally { done: 1, undone: 0 }));
    until("nothing left at all", || [&front, &back, &side].iter().all(|node| count(node) == 0)).await;
}

/// A close for what is forgotten is acknowledged: otherwise its sender could never close.
#[tokio::test(start_paused = true)]
async fn a_close_that_is_repeated_to_a_role_that_has_forgotten_ends_the_session() {
    let town = Town::new();
    let (front, back, side) = (town.front(none()).await, town.back(none()).await, town.side(none()).await);
    town.tap.closes_lost.lock().unwrap().insert("side");
    let session = within(front.start(Round, deal(1))).await.unwrap();
    within(session.output()).await.unwrap();
    until("nothing left at the back", || back.instances() == 0 && count(&back) == 0).await;
    town.disks["front"].crash(0);
    within(front.kill()).await;
    town.tap.closes_lost.lock().unwrap().clear();
    let front = town.front(none()).await;
    front.is_idle().await;
    side.is_idle().await;
    assert_eq!(town.outside.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn messages_of_an_aborted_session_are_not_sent_again() {
    let town = Town::new();
    let (front, back) = (town.front(none()).await, town.back(none()).await);
    assert_eq!(parcel_once(&front).await, [7]);
    within(back.shutdown()).await;
    let session = within(front.start(Parcel, 1)).await.unwrap();
    let delivers = |body: &Body| matches!(body, Body::Deliver { .. });
    until("a message", || town.tap.sent(delivers) > 3).await;
    assert!(within(session.cancel("as the test wants")).await.unwrap());
    until("the abort", || town.tap.sent(|body| matches!(body, Body::Abort(_))) > 0).await;
    town.tap.clear();
    until("the abort again", || town.tap.sent(|body| matches!(body, Body::Abort(_))) > 3).await;
    assert_eq!(town.tap.sent(delivers), 0);
    let _back = town.back(none()).await;
    assert!(matches!(within(session.settled()).await, Err(SessionError::Aborted(_))));
}

async fn parcel_once(node: &TestNode) -> Vec<u8> {
    within(within(node.start(Parcel, 1)).await.unwrap().settled()).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn the_last_word_of_a_role_that_has_closed_is_not_sent_again() {
    let town = Town::new();
    let (front, back) = (town.front(none()).await, town.back(none()).await);
    *town.tap.dones_unheard.lock().unwrap() = Some(BTreeSet::new());
    assert_eq!(parcel_once(&front).await, [7]);
    front.is_idle().await;
    back.is_idle().await;
    assert!(town.tap.sent(|body| matches!(body, Body::Done(_))) > 0);
    tokio::time::sleep(SYNC).await;
    town.tap.clear();
    tokio::time::sleep(MINUTE).await;
    assert_eq!(town.tap.sent(|_| true), 0);
}

#[tokio::test(start_paused = true)]
async fn a_key_whose_session_is_forgotten_starts_a_new_one() {
    let town = Town::new();
    // The back remembers what the front has forgotten.
    let (front, back) = (town.front(short()).await, town.back(Retention::default()).await);
    let trade = async |refused| {
        let session = within(front.start_keyed(Trade, "k", Deal { id: 1, refused })).await.unwrap();
        (session.id(), within(session.settled()).await.is_ok())
    };
    let (first, completed) = trade(true).await;
    assert!(!completed);
    tokio::time::sleep(9 * MINUTE).await;
    assert_eq!(trade(false).await, (first, false), "still the one that was aborted");
    tokio::time::sleep(2 * MINUTE).await;
    let (second, completed) = trade(false).await;
    assert!(completed && second != first);
    assert_eq!(trade(true).await, (second, true));
    // The service was asked under another idempotency key: what was taken back stays so.
    assert_eq!((town.outside.asked(), town.outside.total()), (2, Tally { done: 2, undone: 1 }));
    front.is_idle().await;
    back.is_idle().await;
}

#[tokio::test(start_paused = true)]
async fn a_session_can_be_asked_for() {
    let town = Town::new();
    let node = town.home(short()).await;
    town.outside.set_gate(false);
    let open = within(node.start(Trade, deal(1))).await.unwrap();
    let (followed, other) = (within(node.session::<Trade>(open.id())).await.unwrap(), open.id());
    assert_eq!(followed.id(), open.id());
    let wrong = within(node.session::<Parcel>(other)).await.unwrap_err();
    assert!(matches!(&wrong, SessionLookupError::OtherChoreography { found, asked: "parcel", .. } if found == "trade"));
    // Over a restart.
    within(node.shutdown()).await;
    assert!(matches!(within(followed.settled()).await, Err(SessionError::NodeStopped)));
    let stopped = within(node.session::<Trade>(open.id())).await.unwrap_err();
    assert!(matches!(stopped, SessionLookupError::NodeStopped), "{stopped}");
    let node = town.home(short()).await;
    let followed = within(node.session::<Trade>(open.id())).await.unwrap();
    let again = followed.initiator().waits_for();
    assert!(!within(again).await.unwrap().is_empty(), "it waits to be paid");
    town.outside.set_gate(true);
    assert_eq!(within(followed.output()).await.unwrap(), 101);
    assert_eq!(within(followed.settled()).await.unwrap(), 101);
    node.is_idle().await;
    let refused = within(node.start(Trade, Deal { id: 2, refused: true })).await.unwrap();
    assert!(within(refused.settled()).await.is_err());
    node.is_idle().await;

    let mut nodes = vec![node];
    for _ in 0..2 {
        // Closed, aborted, and of another choreography; then all of it again in another life.
        let node = nodes.pop().unwrap();
        let closed = within(node.session::<Trade>(open.id())).await.unwrap();
        assert_eq!((closed.id(), within(closed.output()).await.unwrap()), (open.id(), 101));
        assert_eq!(within(closed.settled()).await.unwrap(), 101);
        let aborted = within(node.session::<Trade>(refused.id())).await.unwrap();
        for told in [within(aborted.output()).await, within(aborted.settled()).await] {
            assert!(matches!(told, Err(SessionError::Aborted(abort)) if abort.code() == "no-truck"));
        }
        let wrong = within(node.session::<Parcel>(refused.id())).await.unwrap_err();
        assert!(matches!(wrong, SessionLookupError::OtherChoreography { .. }), "{wrong}");
        let unknown = within(node.session::<Trade>(SessionId::fresh(1, 1))).await.unwrap_err();
        assert!(matches!(unknown, SessionLookupError::Unknown { .. }), "{unknown}");
        assert_eq!(node.instances(), 0, "nothing begins by asking");
        within(node.shutdown()).await;
        nodes.push(town.home(short()).await);
    }
    tokio::time::sleep(11 * MINUTE).await;
    for session in [open.id(), refused.id()] {
        let collected = within(nodes[0].session::<Trade>(session)).await.unwrap_err();
        assert!(matches!(collected, SessionLookupError::Unknown { .. }), "{collected}");
    }
    assert_eq!(town.outside.asked(), 3, "once again in the second life, under its key");
}

/// A role that did not start the session has no result to give.
#[tokio::test(start_paused = true)]
async fn a_session_is_asked_for_where_it_was_started() {
    let town = Town::new();
    let (front, back) = (town.front(short()).await, town.back(short()).await);
    let session = within(front.start(Parcel, 3)).await.unwrap();
    within(session.settled()).await.unwrap();
    front.is_idle().await;
    back.is_idle().await;
    assert!(is_unknown(&back, session.id()).await && !is_unknown(&front, session.id()).await);
}

/// Whoever asks while a session ends is answered. In real time, which goes on while one asks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_asked_for_while_it_ends_is_told() {
    let town = Town::new();
    let node = town.home(short()).await;
    for _ in 0..100 {
        let session = within(node.start(Parcel, 2)).await.unwrap();
        let (mut asked, mut asks) = (0, true);
        while asks {
            asks = node.instances() > 0;
            let again = within(node.session::<Parcel>(session.id())).await.unwrap();
            assert_eq!(within(again.output()).await.unwrap(), [7, 7]);
            asked += 1;
        }
        assert!(asked > 0);
    }
}

/// A frame of nobody's session names roles that its header does not have, and one for a session that is forgotten here.
#[tokio::test(start_paused = true)]
async fn frames_of_an_end_begin_nothing() {
    let town = Town::new();
    let (front, back) = (town.front(none()).await, town.back(none()).await);
    assert_eq!(parcel_once(&front).await, [7]);
    front.is_idle().await;
    until("nothing left at the back", || back.instances() == 0 && count(&back) == 0).await;
    let sent = town.tap.sent.lock().unwrap().clone();
    let headers = sent.iter().flat_map(|(_, packet)| &packet.frames).filter_map(|(_, frame)| frame.header.clone());
    let header = headers.last().unwrap();
    let session = sent.iter().flat_map(|(_, packet)| &packet.frames).map(|(_, frame)| frame.session).last().unwrap();
    let wire = town.tap.network.attach(node_id("rogue"), Arc::new(Nobody)).await.unwrap();
    let finished = accompanist::frame::Outcome::Finished;
    let turns = Body::Turns { finals: vec![], aborted: true };
    for (number, body) in (1..).zip([Body::Close(finished.clone()), Body::Done(finished), turns, Body::Undoing(None)]) {
        let (from, to) = (RoleIndex(1), RoleIndex(0));
        let frame = Frame { session, from, to, header: Some(header.clone()), body };
        let packet = Packet { frames: vec![(number, frame)], ..Packet::new(node_id("front"), 7) };
        wire.send(&node_id("back"), packet.to_bytes().unwrap());
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!((back.instances(), count(&back)), (0, 0));
    }
}
