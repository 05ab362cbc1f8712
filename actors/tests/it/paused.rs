//! Nodes in paused time, in which hours pass in no time, on a network that a test listens to: for `retention`,
//! `forgotten` and `results`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use accompanist::contract::{BoxFuture, Inbox, Space, Store, Transport, TransportError, Wire};
use accompanist::id::InstanceId;
use accompanist::prelude::*;
use accompanist::store::MemoryDisk;
use accompanist::testing::SimulatedClock;
use accompanist::transport::LocalNetwork;
use accompanist::{NodeBuilder, Tombstones};
use accompanist_core::frame::{Body, Packet};

use crate::support::{TestNode, node_id, quick, within};
use crate::trade::{Back, Deal, Front, Outside, Pay, Side, Trade};

pub const MINUTE: Duration = Duration::from_mins(1);

/// No bounds, and no least age.
pub fn unbounded() -> Retention {
    Retention { age_min: Duration::from_millis(100), age_max: None, count_max: None, bytes_max: None }
}

/// The front is sent as many bytes as it wants.
pub struct Parcel;
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
pub struct Round;
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

/// What was sent to one node.
#[derive(Clone)]
pub struct Sent {
    pub from: NodeId,
    pub to: NodeId,
    pub packet: Packet,
}

/// A network that a test listens to, and that swallows what the test wants.
#[derive(Clone, Default)]
pub struct Tap {
    pub network: LocalNetwork,
    pub sent: Arc<Mutex<Vec<Sent>>>,
    /// Frames to these nodes that say `Close` are lost.
    pub closes_lost: Arc<Mutex<BTreeSet<&'static str>>>,
    /// Acknowledgements of frames that say `Done` are lost.
    pub dones_unheard: Arc<Mutex<Option<BTreeSet<u64>>>>,
}

struct TappedWire(Arc<dyn Wire>, NodeId, Tap);

impl Transport for Tap {
    fn attach(&self, node: NodeId, inbox: Arc<dyn Inbox>) -> BoxFuture<'_, Result<Arc<dyn Wire>, TransportError>> {
        Box::pin(async move {
            let wire = self.network.attach(node.clone(), inbox).await?;
            Ok(Arc::new(TappedWire(wire, node, self.clone())) as Arc<dyn Wire>)
        })
    }
}

impl Wire for TappedWire {
    fn send(&self, to: &NodeId, packet: Vec<u8>) {
        let Self(wire, from, tap) = self;
        let mut packet = Packet::from_bytes(&packet, from, to).unwrap();
        if tap.closes_lost.lock().unwrap().contains(to.as_str()) {
            packet.frames.retain(|(_, frame)| !matches!(frame.body, Body::Close(_)));
        }
        if let Some(numbers) = &mut *tap.dones_unheard.lock().unwrap() {
            let dones = packet.frames.iter().filter(|(_, frame)| matches!(frame.body, Body::Done(_)));
            numbers.extend(dones.map(|(number, _)| *number));
            // Each node counts for itself: the front's acknowledgements are of what the back has said.
            for (_, acks) in packet.acks.iter_mut().filter(|_| to.as_str() == "back") {
                acks.retain(|number| !numbers.contains(number));
            }
        }
        tap.sent.lock().unwrap().push(Sent { from: from.clone(), to: to.clone(), packet: packet.clone() });
        wire.send(to, packet.to_bytes(from, Some(to)).unwrap());
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
    pub fn sent(&self, kind: impl Fn(&Body) -> bool) -> usize {
        let sent = self.sent.lock().unwrap();
        sent.iter().flat_map(|sent| &sent.packet.frames).filter(|(_, frame)| kind(&frame.body)).count()
    }

    pub fn clear(&self) {
        self.sent.lock().unwrap().clear();
    }

    /// Sends again all that was sent.
    pub fn repeat(&self) {
        let sent = self.sent.lock().unwrap().clone();
        for Sent { from, to, packet } in sent {
            self.network.inject(&from, Some(&to), &packet.to_bytes(&from, Some(&to)).unwrap());
        }
    }
}

/// What outlives the nodes of a test.
pub struct PausedCluster {
    pub tap: Tap,
    pub outside: Arc<Outside>,
    environment: Arc<SimulatedClock>,
    pub disks: BTreeMap<&'static str, MemoryDisk>,
}

impl PausedCluster {
    pub fn new() -> Self {
        let environment = Arc::new(SimulatedClock::new(7));
        let disks = ["home", "front", "back", "side"].map(|name| (name, MemoryDisk::default())).into();
        Self { tap: Tap::default(), outside: Arc::default(), environment, disks }
    }

    pub fn builder(&self, name: &str, retention: Retention) -> NodeBuilder {
        let builder = Node::builder(node_id(name)).simulated_store(self.disks[name].open().unwrap(), SYNC);
        let builder = builder.transport(self.tap.clone()).environment(self.environment.clone());
        let builder = builder.settings(Settings { retention, ..quick() });
        builder.choreography(Trade).choreography(Parcel).choreography(Round)
    }

    /// A node that plays all roles.
    pub async fn home(&self, retention: Retention) -> TestNode {
        let builder = self.builder("home", retention).role(Front, Arc::new(())).role(Back, self.outside.clone());
        TestNode::start(builder.role(Side, Arc::new(()))).await
    }
    pub async fn front(&self, retention: Retention) -> TestNode {
        TestNode::start(self.builder("front", retention).role(Front, Arc::new(()))).await
    }
    pub async fn back(&self, retention: Retention) -> TestNode {
        TestNode::start(self.builder("back", retention).role(Back, self.outside.clone())).await
    }
    pub async fn side(&self, retention: Retention) -> TestNode {
        TestNode::start(self.builder("side", retention).role(Side, Arc::new(()))).await
    }

    /// What a node that has been shut down has left on its disk. Tombstones and their order must agree.
    pub fn remains(&self, name: &str) -> Remains {
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

pub const SYNC: Duration = Duration::from_millis(1);

pub struct Remains {
    pub tombstones: Tombstones,
    pub sessions: BTreeSet<SessionId>,
    pub keys: usize,
}

/// Runs a session of `Parcel` to its end.
pub async fn parcel(node: &TestNode, key: &str, size: usize) -> SessionId {
    let session = within(node.start(Parcel, size).key(key)).await.unwrap();
    assert_eq!(within(session.settled()).await.unwrap().len(), size);
    node.is_idle().await;
    session.id()
}

pub async fn parcels(node: &TestNode, count: usize, size: usize) -> Vec<SessionId> {
    let mut sessions = Vec::new();
    for key in 0..count {
        sessions.push(parcel(node, &key.to_string(), size).await);
    }
    sessions
}

pub fn count(node: &Node) -> u64 {
    node.operator().tombstones().map_or(u64::MAX, |tombstones| tombstones.count)
}

pub async fn is_unknown(node: &Node, id: SessionId) -> bool {
    matches!(within(node.session::<Parcel>(id)).await, Err(SessionLookupError::Unknown { session }) if session == id)
}

/// Collected as soon as they are ten minutes old.
pub fn short() -> Retention {
    Retention { age_min: 10 * MINUTE, count_max: Some(0), ..unbounded() }
}

/// Collected as soon as they are there.
pub fn none() -> Retention {
    Retention { count_max: Some(0), ..unbounded() }
}

pub async fn parcel_once(node: &TestNode) -> Vec<u8> {
    within(within(node.start(Parcel, 1)).await.unwrap().settled()).await.unwrap()
}
