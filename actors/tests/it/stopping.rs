//! A node is stopped by what it runs itself, twice at once, or by someone who waits no longer: it stops whole.

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context as TaskContext, Waker};
use std::time::Duration;

use accompanist::NodeBuilder;
use accompanist::prelude::*;
use accompanist::ractor::{Actor, ActorProcessingErr, ActorRef};
use accompanist::store::MemoryDisk;
use accompanist::supervision::{Group, Restart};
use accompanist::transport::LocalNetwork;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::support::{node_id, quick, until, within};

/// The node, for what it runs itself, and whether one step may end.
struct Switch {
    node: OnceLock<Node>,
    gate: watch::Sender<bool>,
}

impl Default for Switch {
    fn default() -> Self {
        Self { node: OnceLock::new(), gate: watch::channel(false).0 }
    }
}

impl Switch {
    fn node(&self) -> &Node {
        self.node.get().unwrap()
    }
}

/// Who stops it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum By {
    Nobody,
    Commit,
    Program,
}

#[derive(Clone, Copy)]
struct Admin;
impl Role for Admin {
    const NAME: &'static str = "admin";
    type Service = Switch;
}

struct TurnOff;
impl Transaction for TurnOff {
    const NAME: &'static str = "turn off";
    type Role = Admin;
    type Input = By;
    type Output = ();
    async fn commit(&self, here: &Local<Admin>, from: &By) -> Result<(), Abort> {
        if *from == By::Commit {
            here.service().node().shutdown().await;
        }
        here.service().gate.subscribe().wait_for(|open| *open).await.unwrap();
        Ok(())
    }
    async fn compensate(&self, _: &Local<Admin>, _: &By, (): &()) -> Result<(), Retry> {
        Ok(())
    }
}

struct Evening(Arc<Switch>);
impl Choreography for Evening {
    const NAME: &'static str = "evening";
    type Roles = (Admin,);
    type Input = At<Admin, By>;
    type Output = At<Admin, ()>;
    async fn run(&self, ctx: &Context<(Admin,)>, from: At<Admin, By>) -> Result<Self::Output, Abort> {
        let here = AtomicBool::new(false);
        ctx.locally(Admin, |admin| here.store(*admin.get(&from) == By::Program, Ordering::Relaxed));
        if here.load(Ordering::Relaxed) {
            self.0.node().shutdown().await;
        }
        ctx.transact(TurnOff, &from).await
    }
}

/// How the handler of an actor, which does not await, stops the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Handler {
    Spawns,
    Polls,
}

struct Butler(Arc<Switch>);
impl DurableActor for Butler {
    const NAME: &'static str = "butler";
    type Message = Handler;
    type Reply = ();
    fn handle(&self, _: &mut ActorContext<'_>, _: &mut State<'_>, handler: Handler) -> Result<(), Abort> {
        let node = self.0.node().clone();
        match handler {
            Handler::Spawns => drop(tokio::spawn(async move { node.shutdown().await })),
            Handler::Polls => {
                let mut stopped = pin!(node.shutdown());
                let polled = stopped.as_mut().poll(&mut TaskContext::from_waker(Waker::noop()));
                assert!(polled.is_ready(), "the writer's thread does not wait for itself");
            }
        }
        Ok(())
    }
}

struct House {
    folder: tempfile::TempDir,
    switch: Arc<Switch>,
    node: Node,
    /// Someone waits for it.
    session: Session<Evening>,
}

impl House {
    fn builder(switch: &Arc<Switch>) -> NodeBuilder {
        let builder = Node::builder(node_id("one")).transport(LocalNetwork::new()).settings(quick());
        builder.role(Admin, switch.clone()).choreography(Evening(switch.clone())).actor(Butler(switch.clone()))
    }

    async fn new() -> Self {
        let (folder, switch) = (tempfile::tempdir().unwrap(), Arc::new(Switch::default()));
        let builder = Self::builder(&switch).store(FjallStore::open(folder.path()).unwrap());
        let node = within(builder.start()).await.unwrap();
        switch.node.set(node.clone()).unwrap();
        let session = within(node.start(Evening(switch.clone()), By::Nobody)).await.unwrap();
        Self { folder, switch, node, session }
    }

    async fn start(&self, from: By) {
        within(self.node.start(Evening(self.switch.clone()), from)).await.unwrap();
    }

    /// The node has stopped whole, or is about to: who waits is let go, the store is free, and it was no failure.
    async fn ends_whole(self) {
        assert!(matches!(within(self.session.settled()).await, Err(SessionError::NodeStopped)));
        until("the store is free", || FjallStore::open(self.folder.path()).is_ok()).await;
        assert!(tokio::time::timeout(Duration::ZERO, self.node.failed()).await.is_err());
        // Once more changes nothing.
        within(self.node.shutdown()).await;
        within(self.node.kill()).await;
        let started = within(self.node.start(Evening(self.switch.clone()), By::Nobody)).await;
        assert!(matches!(started, Err(StartError::NodeStopped)));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_can_be_shut_down_within_a_commit_of_its_own() {
    let house = House::new().await;
    house.start(By::Commit).await;
    house.ends_whole().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_can_be_shut_down_within_a_program_of_its_own() {
    let house = House::new().await;
    // It may be off before that is answered.
    let _ = within(house.node.start(Evening(house.switch.clone()), By::Program)).await;
    house.ends_whole().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_can_be_shut_down_within_the_handler_of_an_actor() {
    for handler in [Handler::Spawns, Handler::Polls] {
        let house = House::new().await;
        let _ = within(house.node.actor::<Butler>().tell(&handler)).await;
        house.ends_whole().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_abandoned_shutdown_completes() {
    let house = House::new().await;
    {
        let mut stopped = pin!(house.node.shutdown());
        let _ = stopped.as_mut().poll(&mut TaskContext::from_waker(Waker::noop()));
    }
    house.ends_whole().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_shutdowns_and_kills_all_complete() {
    let house = House::new().await;
    let (first, second) = (house.node.clone(), house.node.clone());
    let shutdowns = async { tokio::join!(first.shutdown(), second.shutdown(), house.node.kill(), second.kill()) };
    within(shutdowns).await;
    drop(FjallStore::open(house.folder.path()).unwrap());
    house.ends_whole().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_abandoned_kill_completes() {
    let house = House::new().await;
    {
        let mut killed = pin!(house.node.kill());
        let _ = killed.as_mut().poll(&mut TaskContext::from_waker(Waker::noop()));
    }
    assert!(matches!(within(house.session.settled()).await, Err(SessionError::NodeStopped)));
    within(house.node.shutdown()).await;
    house.ends_whole().await;
}

#[test]
fn a_node_whose_runtime_is_gone_can_be_shut_down() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let house = runtime.block_on(House::new());
    drop(runtime);
    let other = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    other.block_on(async {
        within(house.node.shutdown()).await;
        drop(FjallStore::open(house.folder.path()).unwrap());
        let error = within(house.node.failed()).await;
        assert!(matches!(&error, NodeError::Ended { part: "runtime", .. }), "{error}");
        assert!(matches!(within(house.session.settled()).await, Err(SessionError::NodeStopped)));
    });
}

/// Stops the node as soon as it is told.
struct Guard(Arc<Switch>);
impl Actor for Guard {
    type Msg = ();
    type State = ();
    type Arguments = ActorSlot;
    async fn pre_start(&self, myself: ActorRef<()>, slot: ActorSlot) -> Result<(), ActorProcessingErr> {
        slot.set(myself).unwrap();
        Ok(())
    }
    async fn handle(&self, _: ActorRef<()>, (): (), (): &mut ()) -> Result<(), ActorProcessingErr> {
        self.0.node().shutdown().await;
        Ok(())
    }
}

type ActorSlot = Arc<OnceLock<ActorRef<()>>>;

/// In paused time, since an actor that does not stop is given some.
#[tokio::test(start_paused = true)]
async fn a_node_can_be_shut_down_by_an_actor_of_a_group_of_its_own() {
    let (switch, slot, disk) = (Arc::new(Switch::default()), ActorSlot::default(), MemoryDisk::default());
    let group = Group::new("guards").child("guard", Restart::Permanent, {
        let (switch, slot) = (switch.clone(), slot.clone());
        move |supervisor| {
            let (switch, slot) = (switch.clone(), slot.clone());
            async move { Ok(Actor::spawn_linked(None, Guard(switch), slot, supervisor).await?.0.get_cell()) }
        }
    });
    let builder = House::builder(&switch).supervise(group).simulated_store(disk.open().unwrap(), Duration::ZERO);
    let node = within(builder.start()).await.unwrap();
    switch.node.set(node.clone()).unwrap();
    let session = within(node.start(Evening(switch.clone()), By::Nobody)).await.unwrap();
    slot.get().unwrap().cast(()).unwrap();
    assert!(matches!(within(session.settled()).await, Err(SessionError::NodeStopped)));
    within(node.shutdown()).await;
    assert!(tokio::time::timeout(Duration::ZERO, node.failed()).await.is_err());
}
