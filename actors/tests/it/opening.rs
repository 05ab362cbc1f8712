//! A session exists once its opening is durable: nothing is said of it before, and only a start begins its initiator.

use std::sync::{Arc, Condvar, Mutex};

use accompanist::contract::{Batch, Direction, Entry, KeyRange, Space, Store, StoreError, Transport};
use accompanist::id::RoleIndex;
use accompanist::prelude::*;
use accompanist::store::{MemoryDisk, MemoryStore};
use accompanist::transport::LocalNetwork;
use accompanist_core::frame::{Body, Frame, Header, Lacks, Outcome, Packet};

use crate::rogue::{EPOCH, Rogue};
use crate::support::{TestNode, all_roles, node_id, on_disk, quick, until, within};
use crate::trade::{Back, Deal, Front, KEPT, Outside, Pay, Tally, deal};

/// Sent off at once: the front writes nothing but the opening before it.
struct Hop;
impl Choreography for Hop {
    const NAME: &'static str = "hop";
    type Roles = (Back, Front);
    type Input = At<Front, Deal>;
    type Output = At<Front, u32>;
    async fn run(&self, ctx: &Context<Self::Roles>, deal: At<Front, Deal>) -> Result<At<Front, u32>, Abort> {
        let bill = ctx.comm(Front, Back, &deal).await?;
        let paid = ctx.transact(Pay, &bill).await?;
        let paid = ctx.comm(Back, Front, &paid).await?;
        // The front still has what it was started with.
        Ok(ctx.locally(Front, |here| here.get(&paid) + here.get(&deal).id))
    }
}

/// Where syncs wait while it is shut.
#[derive(Default)]
pub struct Lock {
    shut: Mutex<bool>,
    opened: Condvar,
    waits: Mutex<bool>,
}

impl Lock {
    pub fn set(&self, shut: bool) {
        *self.shut.lock().unwrap() = shut;
        self.opened.notify_all();
    }
    fn pass(&self) {
        let mut shut = self.shut.lock().unwrap();
        while *shut {
            *self.waits.lock().unwrap() = true;
            shut = self.opened.wait(shut).unwrap();
        }
    }
}

/// A disk whose syncs take as long as a test wants.
pub struct Slow(pub MemoryStore, pub Arc<Lock>);

impl Store for Slow {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.0.get(space, key)
    }
    fn range(
        &self,
        space: Space,
        keys: &KeyRange,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<Entry>, StoreError> {
        self.0.range(space, keys, direction, limit)
    }
    fn apply(&mut self, batch: Batch) -> Result<(), StoreError> {
        self.0.apply(batch)
    }
    fn sync(&mut self) -> Result<(), StoreError> {
        self.1.pass();
        self.0.sync()
    }
    fn commits(&self) -> u64 {
        self.0.commits()
    }
}

async fn front(disk: &MemoryDisk, lock: &Arc<Lock>, network: &LocalNetwork) -> TestNode {
    let store = Slow(disk.open().unwrap(), lock.clone());
    let builder = Node::builder(node_id("front")).store(store).transport(network.clone()).settings(quick());
    TestNode::start(builder.role(Front, Arc::new(())).choreography(Hop)).await
}

async fn back(outside: &Arc<Outside>, network: impl Transport) -> TestNode {
    let builder = on_disk("back", &MemoryDisk::default(), network).role(Back, outside.clone());
    TestNode::start(builder.choreography(Hop)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_lost_in_a_crash_has_sent_no_frame() {
    let (outside, network) = (Arc::new(Outside::default()), LocalNetwork::new());
    let (disk, lock) = (MemoryDisk::default(), Arc::new(Lock::default()));
    let back = back(&outside, network.clone()).await;
    let first = front(&disk, &lock, &network).await;
    let session = within(first.start(Hop, deal(1))).await.unwrap();
    assert_eq!(within(session.settled()).await.unwrap(), 101);
    first.is_idle().await;
    back.is_idle().await;
    assert_eq!(outside.total(), KEPT);

    lock.set(true);
    let node = Node::clone(&first);
    let starting = tokio::spawn(async move { node.start(Hop, deal(2)).key("k").await.map(|session| session.id()) });
    until("a sync", || *lock.waits.lock().unwrap()).await;
    let rogue = Rogue::attach(&network).await;
    for _ in 0..20 {
        rogue.is_heard(&["front", "back"]).await; // What is on its way is through.
    }
    disk.crash(0);
    within(first.kill()).await;
    lock.set(false);
    assert!(matches!(within(starting).await.unwrap(), Err(StartError::NodeStopped)));

    let second = front(&disk, &Arc::default(), &network).await;
    rogue.is_heard(&["front", "back"]).await;
    back.is_idle().await;
    assert_eq!((outside.asked(), outside.total()), (1, KEPT), "paid for a session that does not exist");
    let session = within(second.start(Hop, deal(2)).key("k")).await.unwrap();
    assert_eq!(within(session.settled()).await.unwrap(), 202);
    assert_eq!(outside.total(), Tally { done: 2, undone: 0 });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frame_does_not_begin_an_initiator() {
    let (outside, network) = (Arc::new(Outside::default()), LocalNetwork::new());
    let store = MemoryDisk::default().open().unwrap();
    let node = TestNode::start(all_roles("home", store, network.clone(), &outside).choreography(Hop)).await;
    let rogue = Rogue::attach(&network).await;
    rogue.is_heard(&["home"]).await;
    let header = Arc::new(Header {
        choreography: "hop".into(),
        version: 1,
        initiator: RoleIndex(1),
        cast: vec![node_id("rogue"), node_id("home")],
        started_unix_ms: 0,
        deadline_unix_ms: None,
        patches: vec![],
        traceparent: None,
    });
    // Of sessions that nobody has started here, one of them as if under a key.
    let keyed = SessionId::keyed("hop", "k").under_key(1);
    for (number, session) in (1..).zip([SessionId::fresh(1, 1), keyed]) {
        for body in [Body::Nudge(Lacks::default()), Body::Done(Outcome::Finished)] {
            let (from, to) = (RoleIndex(0), RoleIndex(1));
            let frame = Frame { session, from, to, header: Some(header.clone()), body };
            rogue.send("home", &Packet { frames: vec![(number, frame)], ..Packet::new(EPOCH) });
        }
    }
    rogue.is_heard(&["home"]).await;
    node.is_idle().await;
    let session = within(node.start(Hop, deal(3)).key("k")).await.unwrap();
    assert_eq!(within(session.settled()).await.unwrap(), 303);
    node.is_idle().await;
}

/// Each repeated start comes about when the instance it asks for is on its way out of memory.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_that_meets_the_end_of_its_session_is_answered() {
    let outside = Arc::new(Outside::default());
    let store = MemoryDisk::default().open().unwrap();
    let node = TestNode::start(all_roles("home", store, LocalNetwork::new(), &outside).choreography(Hop)).await;
    for id in 0..300 {
        let key = id.to_string();
        for _ in 0..4 {
            let session = within(node.start(Hop, deal(id)).key(&key)).await.unwrap();
            assert_eq!(within(session.settled()).await.unwrap(), id * 101);
        }
    }
    assert_eq!(outside.asked(), 300);
}

/// Each of the frames brings the tombstone into memory for a moment, where a start may just meet it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_among_late_frames_is_answered() {
    let (outside, network) = (Arc::new(Outside::default()), LocalNetwork::new());
    let store = MemoryDisk::default().open().unwrap();
    let node = TestNode::start(all_roles("home", store, network.clone(), &outside).choreography(Hop)).await;
    let session = within(node.start(Hop, deal(1)).key("k")).await.unwrap();
    within(session.settled()).await.unwrap();
    let rogue = Rogue::attach(&network).await;
    let frame = Frame {
        session: session.id(),
        from: RoleIndex(0),
        to: RoleIndex(1),
        header: None,
        body: Body::Nudge(Lacks::default()),
    };
    rogue.is_heard(&["home"]).await;
    let packet = Packet { frames: vec![(0, frame)], ..Packet::new(EPOCH) };
    for _ in 0..1_000 {
        rogue.send("home", &packet);
        let again = within(node.start(Hop, deal(1)).key("k")).await.unwrap();
        assert_eq!(within(again.settled()).await.unwrap(), 101);
    }
    node.is_idle().await;
    assert_eq!(outside.asked(), 1);
}
