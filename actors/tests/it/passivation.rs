//! Instances that only wait leave memory, and come back on their event: a message, a signal, a time, a question, a node
//! that hears again. `core/tests/it/long.rs` lets them leave at any moment that they may; here it is nodes that do it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use accompanist::contract::{BoxFuture, Inbox, Transport, TransportError, Wire};
use accompanist::prelude::*;
use accompanist::store::MemoryDisk;
use accompanist::transport::LocalNetwork;
use accompanist::{NodeBuilder, Recovery};
use accompanist_core::frame::Packet;

use crate::support::{Home, TestNode, on_disk, quick, until, within};
use crate::trade::{Back, Front, Outside, Side};

/// The front waits for the side, to which it has said nothing; the back waits for a signal.
struct Approve;
impl Choreography for Approve {
    const NAME: &'static str = "approve";
    type Roles = (Front, Back, Side);
    type Input = At<Front, u32>;
    type Output = At<Front, u32>;
    async fn run(&self, ctx: &Context<Self::Roles>, asked: At<Front, u32>) -> Result<At<Front, u32>, Abort> {
        ctx.publish(Front, &asked);
        let asked = ctx.comm(Front, Back, &asked).await?;
        let bonus: At<Back, u32> = ctx.signal(Back, "go").await?;
        let sum = ctx.locally(Back, |here| here.get(&asked) + here.get(&bonus));
        let sum = ctx.comm(Back, Side, &sum).await?;
        ctx.comm(Side, Front, &sum).await
    }
}

/// Sleeps for so many milliseconds, and says how long it was.
struct Nap;
impl Choreography for Nap {
    const NAME: &'static str = "nap";
    type Roles = (Front, Back);
    type Input = At<Front, u32>;
    type Output = At<Front, u64>;
    async fn run(&self, ctx: &Context<Self::Roles>, _: At<Front, u32>) -> Result<At<Front, u64>, Abort> {
        let before = ctx.now(Front).await?;
        ctx.sleep(Front, Duration::from_millis(400)).await?;
        let after = ctx.now(Front).await?;
        Ok(ctx.locally(Front, |here| {
            let passed = here.get(&after).duration_since(*here.get(&before));
            passed.map_or(0, |passed| u64::try_from(passed.as_millis()).unwrap_or_default())
        }))
    }
}

fn builder(name: &str, disk: &MemoryDisk, network: &LocalNetwork) -> NodeBuilder {
    on_disk(name, disk, network.clone()).choreography(Approve)
}

/// One node for each role.
struct Cluster {
    network: LocalNetwork,
    disks: [MemoryDisk; 3],
}

impl Cluster {
    fn new() -> Self {
        Self { network: LocalNetwork::new(), disks: Default::default() }
    }
    async fn front(&self) -> TestNode {
        TestNode::start(builder("front", &self.disks[0], &self.network).role(Front, Arc::new(()))).await
    }
    async fn back(&self) -> TestNode {
        TestNode::start(builder("back", &self.disks[1], &self.network).role(Back, Arc::new(Outside::default()))).await
    }
    async fn side(&self) -> TestNode {
        TestNode::start(builder("side", &self.disks[2], &self.network).role(Side, Arc::new(()))).await
    }
}

async fn have_left(nodes: &[&TestNode], open: usize) {
    for node in nodes {
        let left = async {
            while node.operator().instances() > 0 || node.open().await < open {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        within(left).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiting_instances_are_passivated_at_all_roles_and_reactivated_by_a_signal() {
    let cluster = Cluster::new();
    let (front, back, side) = (cluster.front().await, cluster.back().await, cluster.side().await);
    let mut sessions = Vec::new();
    for number in 0..20 {
        sessions.push(within(front.start(Approve, number)).await.unwrap());
    }
    // The side has been invited, and knows of them all, though nobody had anything to say to it.
    have_left(&[&front, &back, &side], 20).await;
    for (number, session) in (0..20).zip(&sessions) {
        let handle = back.instance(Approve, session.id(), Back);
        within(handle.signal("go", "once", &100u32)).await.unwrap();
        assert_eq!(within(session.settled()).await.unwrap(), number + 100);
    }
    for node in [front, back, side] {
        node.is_idle().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_reactivates_an_instance_with_the_same_view() {
    let home = Home::new();
    let node = TestNode::start(home.builder().choreography(Approve)).await;
    let session = within(node.start(Approve, 7)).await.unwrap();
    for _ in 0..3 {
        have_left(&[&node], 3).await;
        assert_eq!(within(session.initiator().query::<u32>()).await.unwrap(), Some(7));
        let waits = within(session.initiator().waits_for()).await.unwrap();
        assert_eq!(waits.len(), 1, "{waits:?}");
    }
    have_left(&[&node], 3).await;
    assert!(within(session.cancel("enough")).await.unwrap());
    assert!(within(session.settled()).await.is_err());
    node.is_idle().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sleep_is_slept_outside_of_memory_and_over_a_restart() {
    let home = Home::new();
    let node = TestNode::start(home.builder().choreography(Nap)).await;
    let sessions = [within(node.start(Nap, 0)).await.unwrap(), within(node.start(Nap, 0).key("k")).await.unwrap()];
    until("one that has left", || node.operator().instances() < 2).await;
    for session in &sessions {
        assert!(within(session.settled()).await.unwrap() >= 400);
    }
    let session = within(node.start(Nap, 0).key("over")).await.unwrap().id();
    within(node.shutdown()).await;
    let node = TestNode::start(home.builder().choreography(Nap)).await;
    assert!(within(within(node.session::<Nap>(session)).await.unwrap().settled()).await.unwrap() >= 400);
    node.is_idle().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unacknowledged_frames_wait_on_disk_until_their_node_returns() {
    let cluster = Cluster::new();
    let (front, back, side) = (cluster.front().await, cluster.back().await, cluster.side().await);
    within(within(front.start(Approve, 1)).await.unwrap().cancel("all know each other")).await.unwrap();
    front.is_idle().await;
    within(back.shutdown()).await;
    let sessions: Vec<_> = {
        let mut sessions = Vec::new();
        for number in 0..300 {
            sessions.push(within(front.start(Approve, number)).await.unwrap());
        }
        sessions
    };
    // But for the few with which it is tried whether the back hears again.
    until("most have left", || front.operator().instances() < 30).await;
    assert_eq!(front.open().await, 300);
    let back = cluster.back().await;
    for (number, session) in (0..300).zip(&sessions) {
        let handle = back.instance(Approve, session.id(), Back);
        // It does not know the session before the front has said it again.
        let signalled = async {
            while handle.signal("go", "once", &1u32).await.is_err() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        within(signalled).await;
        assert_eq!(within(session.settled()).await.unwrap(), number + 1);
    }
    for node in [front, back, side] {
        node.is_idle().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recovery_reactivates_a_bounded_number_of_instances_at_a_time() {
    const SESSIONS: usize = 1_000;
    let home = Home::new();
    let settings = Settings { reactivations_max: 8, passivation_delay: Duration::ZERO, ..quick() };
    let builder = || home.builder().choreography(Approve).settings(settings.clone());
    let node = TestNode::start(builder()).await;
    let mut sessions = Vec::new();
    for number in 0..SESSIONS {
        let number = u32::try_from(number).unwrap();
        sessions.push(within(node.start(Approve, number)).await.unwrap().id());
    }
    have_left(&[&node], 3 * SESSIONS).await;
    within(node.shutdown()).await;

    let node = TestNode::start(builder()).await;
    let most = Arc::new(AtomicUsize::new(0));
    let looker = tokio::spawn({
        let (node, most) = (Node::clone(&node), most.clone());
        async move {
            while !node.operator().recovery().finished {
                most.fetch_max(node.operator().instances(), Ordering::Relaxed);
                tokio::task::yield_now().await;
            }
        }
    });
    // New ones do not wait for the old ones.
    let fresh = within(node.start(Approve, 5)).await.unwrap();
    within(node.instance(Approve, fresh.id(), Back).signal("go", "once", &5u32)).await.unwrap();
    assert_eq!(within(fresh.settled()).await.unwrap(), 10);
    within(looker).await.unwrap();
    let Recovery { instances, finished, .. } = node.operator().recovery();
    assert!(finished && instances >= u64::try_from(3 * SESSIONS).unwrap(), "{instances}");
    // Besides those on their way, those that are about to leave.
    assert!(most.load(Ordering::Relaxed) < SESSIONS / 2, "{most:?} at once");
    let last = sessions[SESSIONS / 2];
    within(node.instance(Approve, last, Back).signal("go", "once", &0u32)).await.unwrap();
    let session = within(node.session::<Approve>(last)).await.unwrap();
    assert_eq!(within(session.settled()).await.unwrap(), u32::try_from(SESSIONS / 2).unwrap());
    have_left(&[&node], 3 * (SESSIONS - 1)).await;
}

/// A network that counts the packets with something in them for an instance, and the offers, which go by like a clock.
#[derive(Clone)]
struct Listened {
    network: LocalNetwork,
    said: Arc<AtomicUsize>,
    advertisements: Arc<AtomicUsize>,
}

struct ListenedWire(Arc<dyn Wire>, Listened);

impl Transport for Listened {
    fn attach(&self, node: NodeId, inbox: Arc<dyn Inbox>) -> BoxFuture<'_, Result<Arc<dyn Wire>, TransportError>> {
        Box::pin(async move {
            let wire = self.network.attach(node, inbox).await?;
            Ok(Arc::new(ListenedWire(wire, self.clone())) as Arc<dyn Wire>)
        })
    }
}

impl Wire for ListenedWire {
    fn send(&self, to: &NodeId, packet: Vec<u8>) {
        let Packet { frames, acks, .. } = Packet::peek(&packet).unwrap();
        self.1.said.fetch_add(frames.len() + acks.len(), Ordering::SeqCst);
        self.0.send(to, packet);
    }
    fn broadcast(&self, packet: Vec<u8>) {
        self.1.advertisements.fetch_add(1, Ordering::SeqCst);
        self.0.broadcast(packet);
    }
    fn packet_bytes_max(&self) -> usize {
        self.0.packet_bytes_max()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passivated_instances_send_nothing() {
    let network = Listened { network: LocalNetwork::new(), said: Arc::default(), advertisements: Arc::default() };
    let settings = Settings { advertisement_period_max: Duration::from_millis(100), ..quick() };
    let disks: [MemoryDisk; 3] = Default::default();
    let node = |name, disk| on_disk(name, disk, network.clone()).settings(settings.clone()).choreography(Approve);
    let front = TestNode::start(node("front", &disks[0]).role(Front, Arc::new(()))).await;
    let back = TestNode::start(node("back", &disks[1]).role(Back, Arc::new(Outside::default()))).await;
    let side = TestNode::start(node("side", &disks[2]).role(Side, Arc::new(()))).await;
    for number in 0..50 {
        within(front.start(Approve, number)).await.unwrap();
    }
    have_left(&[&front, &back, &side], 50).await;
    let counts = || [&network.said, &network.advertisements].map(|count| count.load(Ordering::SeqCst));
    // What was on its way when the last instance left arrives, and is acknowledged. Then nobody has anything to say.
    within(async {
        loop {
            let [said, advertisements] = counts();
            until("some time", || counts()[1] > advertisements + 20).await;
            if counts()[0] == said {
                break;
            }
        }
    })
    .await;
}
