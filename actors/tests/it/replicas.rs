//! Nodes that come and go: where sessions are placed, what a node that drains waits for, and who is forgotten.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use accompanist::contract::StoreError;
use accompanist::id::InstanceId;
use accompanist::prelude::*;
use accompanist::store::MemoryDisk;
use accompanist::transport::{Faults, FaultyNetwork, LocalNetwork};
use accompanist::{
    Contact, CordonError, DrainError, ForgetError, KnownNode, LeaveError, MemberStatus, NodeBuilder, metric,
};
use tokio::task::JoinHandle;

use crate::retention::Numbers;
use crate::support::{TestNode, node_id, on_disk, quick, until, within};
use crate::trade::{Back, Deal, Dispatch, Front, Outside, Pay, Side, Tally, deal};
use crate::twins::refusal;

/// What the side has noted of each deal, how often.
const NOTES: Table<u32, u32> = Table::new("notes");

pub struct Note;
impl LocalTransaction for Note {
    const NAME: &'static str = "note";
    type Role = Side;
    type Input = Deal;
    type Output = ();
    fn commit(&self, state: &mut State<'_>, deal: &Deal) -> Result<(), Abort> {
        NOTES.update(state, deal.id, |notes| Ok(notes.unwrap_or_default() + 1)).map(drop)
    }
    fn compensate(&self, state: &mut State<'_>, deal: &Deal, (): &()) -> Result<(), Retry> {
        NOTES.update(state, deal.id, |notes| Ok(notes.unwrap_or_default() - 1))?;
        Ok(())
    }
}

/// The side hears of it only when the back has been paid, and nobody waits for it before.
pub struct Late;
impl Choreography for Late {
    const NAME: &'static str = "late";
    type Roles = (Back, Front, Side);
    type Input = At<Front, Deal>;
    type Output = At<Front, u32>;
    async fn run(&self, ctx: &Context<Self::Roles>, deal: At<Front, Deal>) -> Result<At<Front, u32>, Abort> {
        let bill = ctx.comm(Front, Back, &deal).await?;
        ctx.transact(Pay, &bill).await?;
        let order = ctx.comm(Back, Side, &bill).await?;
        ctx.transact(Note, &order).await?;
        ctx.comm(Back, Front, &bill).await?;
        ctx.transact(Dispatch, &deal).await
    }
}

/// The side notes it, and that is all.
struct Swift;
impl Choreography for Swift {
    const NAME: &'static str = "swift";
    type Roles = (Front, Side);
    type Input = At<Front, Deal>;
    type Output = At<Front, Deal>;
    async fn run(&self, ctx: &Context<Self::Roles>, deal: At<Front, Deal>) -> Result<At<Front, Deal>, Abort> {
        let order = ctx.comm(Front, Side, &deal).await?;
        ctx.transact(Note, &order).await?;
        Ok(deal)
    }
}

/// Holds up its first turn, before anything of it is in the store.
struct Slow;
static SLOW: [AtomicBool; 2] = [AtomicBool::new(false), AtomicBool::new(false)];
impl Choreography for Slow {
    const NAME: &'static str = "slow";
    type Roles = (Front, Side);
    type Input = At<Front, Deal>;
    type Output = At<Front, u32>;
    async fn run(&self, ctx: &Context<Self::Roles>, deal: At<Front, Deal>) -> Result<At<Front, u32>, Abort> {
        let id = ctx.locally(Front, |here| {
            let [reached, goes_on] = &SLOW;
            reached.store(true, Ordering::SeqCst);
            // A task that this turn woke waits in the worker's LIFO slot, which no other worker can take from.
            tokio::task::block_in_place(|| {
                while !goes_on.load(Ordering::SeqCst) {
                    std::thread::sleep(Duration::from_millis(1));
                }
            });
            here.get(&deal).id
        });
        let order = ctx.comm(Front, Side, &deal).await?;
        ctx.transact(Note, &order).await?;
        Ok(id)
    }
}

/// What the side of this node has noted, without what it has taken back.
pub async fn notes(node: &Node) -> BTreeMap<u32, u32> {
    let read = |state: &State<'_>| NOTES.range(state, ..).collect::<Result<BTreeMap<_, _>, _>>().unwrap();
    let mut notes = node.read_state(Side, read).await.unwrap();
    notes.retain(|_, notes| *notes > 0);
    notes
}

/// Where nodes live that come and go: a disk for each name. The name says what a node plays: `back-1` plays the back.
#[derive(Default)]
pub struct Cluster {
    disks: Mutex<BTreeMap<String, MemoryDisk>>,
    pub outside: Arc<Outside>,
    pub network: LocalNetwork,
}

impl Cluster {
    fn disk(&self, name: &str) -> MemoryDisk {
        self.disks.lock().unwrap().entry(name.into()).or_default().clone()
    }

    fn builder(&self, name: &str) -> NodeBuilder {
        // So that nobody waits long for what is said from time to time.
        let settings = Settings { advertisement_period_max: Duration::from_millis(200), ..quick() };
        let builder = on_disk(name, &self.disk(name), self.network.clone())
            .settings(settings)
            .choreography(Late)
            .choreography(Slow);
        match name.split('-').next() {
            Some("back") => builder.role(Back, self.outside.clone()),
            Some("front") => builder.role(Front, Arc::new(())),
            _ => builder.role(Side, Arc::new(())),
        }
    }

    pub async fn start(&self, name: &str) -> TestNode {
        TestNode::start(self.builder(name)).await
    }

    /// Nodes that all know each other.
    pub async fn start_all<const N: usize>(&self, names: [&str; N]) -> [TestNode; N] {
        let mut nodes = Vec::new();
        for name in names {
            nodes.push(self.start(name).await);
        }
        for node in &nodes {
            knows(node, |known| known.len() + 1 >= N).await;
        }
        nodes.try_into().unwrap()
    }

    /// The power fails, and comes back.
    pub async fn cut(&self, node: TestNode) -> TestNode {
        let name = node.name().to_string();
        self.disk(&name).crash(0);
        within(node.kill()).await;
        self.start(&name).await
    }

    /// Its disk burns with it.
    pub async fn burn(&self, node: TestNode) {
        within(node.kill()).await;
        self.disks.lock().unwrap().remove(node.name().as_str());
    }
}

type Standings = BTreeMap<String, MemberStatus>;

fn statuses(node: &Node) -> Standings {
    node.operator().peers().into_iter().map(|known| (known.node.to_string(), known.status)).collect()
}

/// Waits for what a node knows of the others.
async fn knows(node: &Node, holds: impl Fn(&Standings) -> bool) {
    until(&format!("what {} is to know", node.name()), || holds(&statuses(node))).await;
}

pub async fn knows_that(node: &Node, other: &str, status: MemberStatus) {
    knows(node, |known| known.get(other) == Some(&status)).await;
}

/// What a node knows of another one.
fn seen(node: &Node, other: &str) -> KnownNode {
    node.operator().peers().into_iter().find(|known| known.node.as_str() == other).unwrap()
}

fn is_silent(node: &Node, other: &str) -> bool {
    matches!(seen(node, other).contact, Contact::Silent(_))
}

fn waits_until_drained(node: &Node) -> JoinHandle<Result<(), DrainError>> {
    let node = node.clone();
    tokio::spawn(async move { node.operator().drained().await })
}

/// Drains the node, waits, and lets it leave.
pub async fn leaves(node: &Node) {
    within(node.operator().drain()).await.unwrap();
    within(node.operator().drained()).await.unwrap();
    within(node.operator().leave()).await.unwrap();
}

/// Starts these deals, and gives their sessions.
pub async fn started(front: &Node, deals: impl IntoIterator<Item = u32>) -> Vec<Session<Late>> {
    let mut sessions = Vec::new();
    for id in deals {
        sessions.push(within(front.start(Late, deal(id)).key(id.to_string())).await.unwrap());
    }
    sessions
}

pub async fn settled(sessions: Vec<Session<Late>>) {
    for session in sessions {
        within(session.settled()).await.unwrap();
    }
}

/// How many instances are open at `at`, as the node that drains knows.
async fn open_at(node: &Node, at: &str) -> Option<u64> {
    within(node.operator().drain_progress()).await.unwrap().open[&node_id(at)]
}

async fn comes_to(node: &Node, at: &str, open: Option<u64>) {
    within(async {
        while open_at(node, at).await != open {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_draining_node_takes_no_new_sessions_until_undrained() {
    let cluster = Cluster::default();
    let [front, _back, one, other] = cluster.start_all(["front", "back", "side-1", "side-2"]).await;
    assert!(matches!(within(one.operator().drained()).await, Err(DrainError::NotDraining)));
    within(one.operator().drain()).await.unwrap();
    within(one.operator().drain()).await.unwrap();
    assert_eq!(one.operator().status(), MemberStatus::Draining);
    knows_that(&front, "side-1", MemberStatus::Draining).await;
    settled(started(&front, 0..30).await).await;
    assert_eq!([notes(&one).await.len(), notes(&other).await.len()], [0, 30]);
    within(one.operator().drained()).await.unwrap();
    // It stays so after a power cut, here and there.
    let (one, front) = (cluster.cut(one).await, cluster.cut(front).await);
    assert_eq!((one.operator().status(), statuses(&front)["side-1"]), (MemberStatus::Draining, MemberStatus::Draining));
    settled(started(&front, 30..50).await).await;
    assert_eq!([notes(&one).await.len(), notes(&other).await.len()], [0, 50]);
    within(one.operator().undrain()).await.unwrap();
    knows_that(&front, "side-1", MemberStatus::Serving).await;
    settled(started(&front, 50..100).await).await;
    assert!(!notes(&one).await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_draining_node_starts_no_session_and_completes_its_own() {
    let cluster = Cluster::default();
    let [front, _back, _side] = cluster.start_all(["front", "back", "side"]).await;
    let closed = within(front.start(Late, deal(1)).key("1")).await.unwrap();
    within(closed.settled()).await.unwrap();
    cluster.outside.set_gate(false);
    let open = within(front.start(Late, deal(2)).key("2")).await.unwrap();
    within(front.operator().drain()).await.unwrap();
    let mut front = front;
    for _ in 0..2 {
        let refused = within(front.start(Late, deal(3))).await.unwrap_err();
        assert!(refused.to_string().contains("drains"), "{refused}");
        assert!(matches!(within(front.start(Late, deal(3)).key("3")).await, Err(StartError::Draining)));
        let again = within(front.start(Late, deal(1)).key("1")).await.unwrap();
        assert_eq!((again.id(), within(again.settled()).await.unwrap()), (closed.id(), 1));
        assert_eq!(within(front.start(Late, deal(2)).key("2")).await.unwrap().id(), open.id());
        front = cluster.cut(front).await;
    }
    let again = within(front.session::<Late>(open.id())).await.unwrap();
    cluster.outside.set_gate(true);
    assert_eq!(within(again.settled()).await.unwrap(), 2);
    within(front.operator().drained()).await.unwrap();
    within(front.operator().undrain()).await.unwrap();
    settled(started(&front, [3]).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_draining_node_waits_for_sessions_that_have_not_reached_it() {
    let cluster = Cluster::default();
    let [front, back, side] = cluster.start_all(["front", "back", "side"]).await;
    cluster.outside.set_gate(false);
    let sessions = started(&front, 0..3).await;
    within(cluster.outside.asked_times(3)).await;
    within(side.operator().drain()).await.unwrap();
    let drained = waits_until_drained(&side);
    for at in ["front", "back"] {
        comes_to(&side, at, Some(3)).await;
    }
    assert_eq!((open_at(&side, "side").await, side.operator().instances()), (Some(0), 0));
    let refused = within(side.operator().leave()).await.unwrap_err();
    let text = "3 instances are open at `back`, 3 instances are open at `front`";
    assert!(matches!(&refused, LeaveError::Needed(_)) && refused.to_string().contains(text), "{refused}");
    // Over a crash of each.
    let (front, side) = (cluster.cut(front).await, cluster.cut(side).await);
    assert!(within(drained).await.unwrap().is_err(), "it was stopped");
    let drained = waits_until_drained(&side);
    comes_to(&side, "front", Some(3)).await;
    assert!(!drained.is_finished());
    cluster.outside.set_gate(true);
    within(drained).await.unwrap().unwrap();
    within(side.operator().leave()).await.unwrap();
    within(side.shutdown()).await;
    for session in sessions {
        let session = within(front.session::<Late>(session.id())).await.unwrap();
        within(session.settled()).await.unwrap();
    }
    back.is_idle().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_sessions_avoid_silent_nodes_and_open_ones_stay() {
    let cluster = Cluster::default();
    let [front, back, one, two, three] = cluster.start_all(["front", "back", "side-1", "side-2", "side-3"]).await;
    cluster.outside.set_gate(false);
    let open = started(&front, 0..30).await;
    within(cluster.outside.asked_times(30)).await;
    within(two.shutdown()).await;
    until("silence", || is_silent(&front, "side-2")).await;
    // A key stands for the session that there is, wherever that was cast.
    let again = started(&front, 0..30).await;
    assert!(open.iter().zip(&again).all(|(open, again)| open.id() == again.id()));
    cluster.outside.set_gate(true);
    settled(started(&front, 100..160).await).await;
    let of = |notes: &BTreeMap<u32, u32>, new: bool| notes.keys().filter(|id| (**id >= 100) == new).count();
    let [ones, threes] = [notes(&one).await, notes(&three).await];
    assert!(of(&ones, true) > 0 && of(&threes, true) > 0);
    assert_eq!(of(&ones, true) + of(&threes, true), 60);

    let two = cluster.start("side-2").await;
    settled(open).await;
    let twos = notes(&two).await;
    assert!(of(&twos, false) > 0 && of(&twos, true) == 0, "what was cast to it before");
    until("it is back", || seen(&front, "side-2").contact == Contact::Good).await;
    settled(started(&front, 200..300).await).await;
    assert!(of(&notes(&two).await, true) > 0, "its share again");
    for node in [&front, &back, &one, &two, &three] {
        node.is_idle().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_succeeds_while_no_peer_is_received_even_after_a_restart() {
    let cluster = Cluster::default();
    let [front, back, one] = cluster.start_all(["front", "back", "side-1"]).await;
    // They have heard of the front: before, nothing can be started with them.
    settled(started(&front, [15]).await).await;
    for node in [back, one] {
        within(node.shutdown()).await;
    }
    until("silence", || is_silent(&front, "back") && is_silent(&front, "side-1")).await;
    let mut sessions = started(&front, 0..5).await;
    within(front.shutdown()).await;
    let front = cluster.start("front").await;
    sessions.extend(started(&front, 5..10).await);
    until("silence", || is_silent(&front, "back") && is_silent(&front, "side-1")).await;
    sessions.extend(started(&front, 10..15).await);
    let [_back, one] = cluster.start_all(["back", "side-1"]).await;
    for session in sessions {
        let session = within(front.session::<Late>(session.id())).await.unwrap();
        within(session.settled()).await.unwrap();
    }
    assert_eq!(notes(&one).await.len(), 16);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cordoned_node_keeps_its_sessions_and_gets_no_new_ones() {
    let cluster = Cluster::default();
    let [front, back, one, other] = cluster.start_all(["front", "back", "side-1", "side-2"]).await;
    cluster.outside.set_gate(false);
    let open = started(&front, 0..20).await;
    within(cluster.outside.asked_times(20)).await;
    let name = one.name().clone();
    within(front.operator().cordon(&name)).await.unwrap();
    within(front.operator().cordon(&name)).await.unwrap();
    assert!(matches!(within(front.operator().cordon(front.name())).await, Err(CordonError::Own)));
    assert!(matches!(within(front.operator().uncordon(&node_id("nobody"))).await, Err(CordonError::Unknown(_))));
    let known = seen(&front, "side-1");
    assert_eq!((known.cordoned, known.status), (true, MemberStatus::Serving));
    assert!(!seen(&front, "side-2").cordoned && !seen(&back, "side-1").cordoned, "the front alone says so");
    cluster.outside.set_gate(true);
    settled(open).await;
    let before = notes(&one).await.len();
    assert!(before > 0);
    settled(started(&front, 20..60).await).await;
    let front = cluster.cut(front).await;
    assert!(seen(&front, "side-1").cordoned);
    settled(started(&front, 60..100).await).await;
    assert_eq!([notes(&one).await.len(), notes(&other).await.len()], [before, 100 - before]);
    within(front.operator().uncordon(&name)).await.unwrap();
    assert!(!seen(&front, "side-1").cordoned);
    settled(started(&front, 100..160).await).await;
    assert!(notes(&one).await.len() > before);
}

/// What it does not know of it could not ask when it drains.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_does_not_know_the_starter_is_not_cast() {
    let (network, disks) = (FaultyNetwork::new(1, Faults::none()), [MemoryDisk::default(), MemoryDisk::default()]);
    let [front, side] = ["front", "side"].map(node_id);
    network.cut(&front, &side);
    let hasty = Settings { cast_wait_max: Duration::from_millis(20), ..quick() };
    let builder = |name, disk| on_disk(name, disk, network.clone()).settings(hasty.clone()).choreography(Swift);
    let front = TestNode::start(builder("front", &disks[0]).role(Front, Arc::new(()))).await;
    let side = TestNode::start(builder("side", &disks[1]).role(Side, Arc::new(()))).await;
    knows_that(&front, "side", MemberStatus::Serving).await;
    assert!(matches!(within(front.start(Swift, deal(1))).await, Err(StartError::NobodyPlays { role: "side" })));
    assert!(statuses(&side).is_empty());
    network.heal();
    within(async { while front.start(Swift, deal(2)).key("2").await.is_err() {} }).await;
    front.is_idle().await;
    side.is_idle().await;
    assert_eq!(notes(&side).await, BTreeMap::from([(2, 1)]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_node_is_needed_by_a_start_that_is_under_way() {
    // If the test fails, too: a runtime does not end before its threads.
    struct GoesOn;
    impl Drop for GoesOn {
        fn drop(&mut self) {
            SLOW[1].store(true, Ordering::SeqCst);
        }
    }
    let (cluster, goes_on) = (Cluster::default(), GoesOn);
    let [front, side] = cluster.start_all(["front", "side"]).await;
    let starting = {
        let front = Node::clone(&front);
        tokio::spawn(async move { front.start(Slow, deal(1)).key("1").await })
    };
    until("a start in its first turn", || SLOW[0].load(Ordering::SeqCst)).await;
    // Nobody waits for it any more; it takes place all the same.
    starting.abort();
    within(side.operator().drain()).await.unwrap();
    let drained = waits_until_drained(&side);
    comes_to(&side, "front", Some(1)).await;
    assert!(within(front.operator().open_versions()).await.unwrap().is_empty(), "it is in the store");
    assert!(!drained.is_finished());
    drop(goes_on);
    within(drained).await.unwrap().unwrap();
    assert_eq!(notes(&side).await, BTreeMap::from([(1, 1)]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_waits_for_a_node_that_is_down_until_it_returns_or_is_forgotten() {
    let cluster = Cluster::default();
    let [front, other, _back, side] = cluster.start_all(["front-1", "front-2", "back", "side"]).await;
    cluster.outside.set_gate(false);
    let session = started(&front, [1]).await.remove(0).id();
    within(cluster.outside.asked_times(1)).await;
    within(front.shutdown()).await;
    within(other.shutdown()).await;
    within(side.operator().drain()).await.unwrap();
    let drained = waits_until_drained(&side);
    comes_to(&side, "back", Some(1)).await;
    assert_eq!([open_at(&side, "front-1").await, open_at(&side, "front-2").await], [None, None]);
    cluster.outside.set_gate(true);
    let front = cluster.start("front-1").await;
    let session = within(front.session::<Late>(session)).await.unwrap();
    within(session.settled()).await.unwrap();
    for at in ["front-1", "back", "side"] {
        comes_to(&side, at, Some(0)).await;
    }
    assert!(!drained.is_finished());
    let burnt = node_id("front-2");
    within(front.operator().forget(&burnt)).await.unwrap();
    assert!(!drained.is_finished(), "what an operator says at the front holds there");
    within(side.operator().forget(&burnt)).await.unwrap();
    within(drained).await.unwrap().unwrap();
    assert!(matches!(within(front.operator().forget(&burnt)).await, Err(ForgetError::Unknown(_))));
    assert!(matches!(within(front.operator().forget(front.name())).await, Err(ForgetError::Own)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_departed_node_informs_nodes_that_were_away() {
    let cluster = Cluster::default();
    let [front, back, one, other] = cluster.start_all(["front", "back", "side-1", "side-2"]).await;
    assert!(matches!(within(one.operator().leave()).await, Err(LeaveError::NotDraining)));
    within(one.operator().drain()).await.unwrap();
    within(one.operator().drained()).await.unwrap();
    within(other.shutdown()).await;
    let leaving = {
        let one = Node::clone(&one);
        tokio::spawn(async move { one.operator().leave().await })
    };
    for node in [&front, &back] {
        knows_that(node, "side-1", MemberStatus::Left).await;
    }
    assert!(!leaving.is_finished(), "one is still to hear of it");
    leaving.abort();
    within(one.shutdown()).await;
    // The others remember it in their later lives, and nobody believes them.
    let (front, back) = (cluster.cut(front).await, cluster.cut(back).await);
    assert_eq!(statuses(&front)["side-1"], MemberStatus::Left);
    let other = cluster.start("side-2").await;
    settled(started(&front, 0..20).await).await;
    assert_eq!(notes(&other).await.len(), 20);
    assert_eq!(statuses(&other)["side-1"], MemberStatus::Draining);

    // The same store again: it knows, and says so.
    let one = cluster.start("side-1").await;
    assert_eq!(one.operator().status(), MemberStatus::Left);
    knows_that(&other, "side-1", MemberStatus::Left).await;
    within(one.operator().leave()).await.unwrap();
    assert_eq!(statuses(&front)["side-1"], MemberStatus::Left);
    within(one.operator().undrain()).await.unwrap();
    knows_that(&front, "side-1", MemberStatus::Serving).await;
    settled(started(&front, 20..60).await).await;
    let own = notes(&one).await.len();
    assert!(own > 0);
    leaves(&one).await;
    cluster.burn(one).await;

    // A fresh one of the same name.
    let one = cluster.start("side-1").await;
    knows_that(&front, "side-1", MemberStatus::Serving).await;
    settled(started(&front, 60..100).await).await;
    assert!(!notes(&one).await.is_empty());
    assert_eq!(notes(&other).await.len() + own + notes(&one).await.len(), 100);
    back.is_idle().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_of_a_node_that_burnt_down_are_listed_cancelled_and_ended_by_another_one_of_its_name() {
    const SESSIONS: u32 = 300; // More than a page.
    let cluster = Cluster::default();
    let [front, back, side] = cluster.start_all(["front", "back", "side"]).await;
    cluster.outside.set_gate(false);
    let sessions = started(&front, 0..SESSIONS).await;
    within(cluster.outside.asked_times(SESSIONS)).await;
    cluster.burn(side).await;
    let burnt = node_id("side");
    for node in [&front, &back] {
        within(node.operator().forget(&burnt)).await.unwrap();
        assert_eq!(statuses(node)["side"], MemberStatus::Left);
    }

    let (mut listed, mut after) = (Vec::new(), None);
    loop {
        let (page, next) = within(front.operator().sessions_cast_to(&burnt, after)).await.unwrap();
        listed.extend(page);
        after = next;
        if after.is_none() {
            break;
        }
    }
    let mut ids: Vec<SessionId> = sessions.iter().map(Session::id).collect();
    ids.sort_unstable();
    assert_eq!(listed.iter().map(|cast| cast.id.session).collect::<Vec<_>>(), ids);
    assert!(listed.iter().all(|cast| cast.is_initiator && (cast.choreography.as_str(), cast.version) == ("late", 1)));
    assert!(within(front.operator().sessions_cast_to(&node_id("nobody"), None)).await.unwrap().0.is_empty());
    let (at_back, _) = within(back.operator().sessions_cast_to(&burnt, None)).await.unwrap();
    assert!(at_back.iter().all(|cast| !cast.is_initiator && cast.initiator.as_str() == "front"));

    let InstanceId { session, role } = at_back[0].id;
    let elsewhere = within(back.operator().instance(session, role).cancel("not here")).await.unwrap_err();
    assert!(elsewhere.to_string().contains("on node `"), "{elsewhere}");
    for cast in listed {
        within(front.operator().instance(cast.id.session, cast.id.role).cancel("burnt down")).await.unwrap();
    }
    cluster.outside.set_gate(true);
    // They have been compensated, and wait for the one that is gone.
    until("all taken back", || cluster.outside.total() == Tally { done: SESSIONS, undone: SESSIONS }).await;
    assert_eq!(within(front.operator().open_versions()).await.unwrap().values().sum::<usize>(), SESSIONS as usize);
    let side = cluster.start("side").await;
    for session in sessions {
        assert!(matches!(within(session.settled()).await, Err(SessionError::Aborted(_))));
    }
    settled(started(&front, [999]).await).await;
    for node in [&front, &back, &side] {
        node.is_idle().await;
    }
    assert_eq!(notes(&side).await, BTreeMap::from([(999, 1)]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_forgotten_by_mistake_learns_it_and_can_rejoin() {
    let cluster = Cluster::default();
    let [front, back, _side] = cluster.start_all(["front", "back", "side"]).await;
    cluster.outside.set_gate(false);
    let session = started(&front, [1]).await.remove(0);
    within(cluster.outside.asked_times(1)).await;
    within(back.operator().forget(&node_id("front"))).await.unwrap();
    is_forgotten_by_the_back(&front).await;
    // What it has begun goes on.
    cluster.outside.set_gate(true);
    within(session.settled()).await.unwrap();
    let front = cluster.cut(front).await;
    is_forgotten_by_the_back(&front).await;
    within(front.operator().undrain()).await.unwrap();
    knows_that(&back, "front", MemberStatus::Serving).await;
    within(async {
        while let Err(error) = front.start(Late, deal(2)).await {
            assert!(matches!(error, StartError::NobodyPlays { role: "back" }), "{error}");
        }
    })
    .await;
    front.is_idle().await;
    assert_eq!(cluster.outside.total().undone, 0);
}

/// It still serves, but starts nothing that the back would play in.
async fn is_forgotten_by_the_back(front: &Node) {
    within(async {
        while !matches!(front.start(Late, deal(9)).await, Err(StartError::NobodyPlays { role: "back" })) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(front.operator().status(), MemberStatus::Serving);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_stays_with_its_nodes_over_joins_and_restarts() {
    let cluster = Cluster::default();
    let [front, back, one] = cluster.start_all(["front", "back", "side-1"]).await;
    cluster.outside.set_gate(false);
    let ids: Vec<SessionId> = started(&front, 0..30).await.iter().map(Session::id).collect();
    within(cluster.outside.asked_times(30)).await;
    let others = [cluster.start("side-2").await, cluster.start("side-3").await];
    for name in ["side-2", "side-3"] {
        knows_that(&front, name, MemberStatus::Serving).await;
    }
    let (front, back, one) = (cluster.cut(front).await, cluster.cut(back).await, cluster.cut(one).await);
    cluster.outside.set_gate(true);
    for id in ids {
        within(within(front.session::<Late>(id)).await.unwrap().settled()).await.unwrap();
    }
    assert_eq!(notes(&one).await.len(), 30);
    for other in &others {
        assert!(notes(other).await.is_empty());
    }
    settled(started(&front, 30..130).await).await;
    for node in [&one, &others[0], &others[1]] {
        assert!(notes(node).await.keys().any(|id| *id >= 30), "{} is not used", node.name());
    }
    back.is_idle().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn known_peers_are_listed() {
    let cluster = Cluster::default();
    let [front, back, side] = cluster.start_all(["front", "back", "side"]).await;
    let heard = seen(&front, "back");
    assert_eq!((heard.roles, heard.status), (vec!["back".to_owned()], MemberStatus::Serving));
    assert!(heard.last_heard.is_some());
    within(back.shutdown()).await;
    // Not cut: what it has only heard yet may be lost with its power.
    within(front.shutdown()).await;
    let front = cluster.start("front").await;
    knows(&front, |known| known.len() == 2).await;
    assert_eq!(seen(&front, "back").last_heard, None, "not in this life");
    until("the side to be heard", || seen(&front, "side").last_heard.is_some()).await;
    within(front.operator().forget(&node_id("back"))).await.unwrap();
    let gone = seen(&front, "back");
    assert_eq!((gone.status, gone.roles, gone.last_heard), (MemberStatus::Left, vec![], None));
    assert_eq!(statuses(&side)["back"], MemberStatus::Serving, "nobody is believed about another node");
}

/// In one thread, where the numbers of a test are its own.
#[tokio::test(start_paused = true)]
async fn a_gauge_counts_open_instances() {
    let numbers = Numbers::default();
    let _recorder = metrics::set_default_local_recorder(&numbers);
    let (cluster, disk) = (Cluster::default(), MemoryDisk::default());
    let builder = Node::builder(node_id("home")).simulated_store(disk.open().unwrap(), Duration::from_millis(1));
    let builder = builder.transport(cluster.network.clone()).settings(quick()).choreography(Late);
    let builder = builder.role(Front, Arc::new(())).role(Back, cluster.outside.clone()).role(Side, Arc::new(()));
    let home = TestNode::start(builder).await;
    cluster.outside.set_gate(false);
    let sessions = started(&home, 0..5).await;
    within(cluster.outside.asked_times(5)).await;
    assert!(numbers.gauge(metric::DRAINING_INSTANCES).abs() < 0.1);
    within(home.operator().drain()).await.unwrap();
    until("the front's and the back's", || (numbers.gauge(metric::DRAINING_INSTANCES) - 10.0).abs() < 0.1).await;
    assert_eq!(open_at(&home, "home").await, Some(10));
    cluster.outside.set_gate(true);
    settled(sessions).await;
    within(home.operator().drained()).await.unwrap();
    assert!(numbers.gauge(metric::DRAINING_INSTANCES).abs() < 0.1);
    within(home.shutdown()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_store_under_a_known_name_stops_the_node_unless_declared_fresh() {
    let cluster = Cluster::default();
    let [front, side] = cluster.start_all(["front", "side"]).await;
    within(front.shutdown()).await;
    let front = cluster.start("front").await; // It has the side on its disk.
    cluster.burn(side).await;
    within(front.shutdown()).await;
    let front = cluster.start("front").await;
    for _ in 0..2 {
        let error = refusal(cluster.builder("side")).await;
        assert!(matches!(&error, StoreError::Replaced { by } if by == "front"), "{error}");
        assert!(error.to_string().contains("--fresh"), "{error}");
        assert_eq!(seen(&front, "side").last_heard, None, "it was heard");
    }
    let side = TestNode::start(cluster.builder("side").fresh()).await;
    until("the side to be heard", || seen(&front, "side").last_heard.is_some()).await;
    for node in [side, front] {
        within(node.shutdown()).await;
    }
    // Said once: its store keeps it.
    let [front, _side] = cluster.start_all(["front", "side"]).await;
    until("the side to be heard", || seen(&front, "side").last_heard.is_some()).await;
}

/// Forgotten as soon as it is known, over and over: what the link has just learned of it and has not written yet does
/// not come to disk after the node was forgotten.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_name_of_a_node_that_was_forgotten_is_free() {
    let cluster = Cluster::default();
    for _ in 0..20 {
        let front = cluster.start("front").await;
        let side = TestNode::start(cluster.builder("side").fresh()).await;
        within(async {
            while !front.operator().peers().iter().any(|known| known.last_heard.is_some()) {
                tokio::task::yield_now().await;
            }
        })
        .await;
        within(front.operator().forget(&node_id("side"))).await.unwrap();
        cluster.burn(side).await;
        within(front.shutdown()).await;
        let [front, side] = cluster.start_all(["front", "side"]).await;
        until("the side to be heard", || seen(&front, "side").last_heard.is_some()).await;
        cluster.burn(side).await;
        within(front.shutdown()).await;
    }
}
