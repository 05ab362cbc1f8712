//! Panics in a user's code, whatever their payload is: one failure each, counted by the policy, and nobody else feels
//! it.

use std::panic::panic_any;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use accompanist::NodeBuilder;
use accompanist::contract::StoreError;
use accompanist::prelude::*;
use accompanist::ractor::{Actor, ActorProcessingErr, ActorRef};
use accompanist::store::MemoryDisk;
use accompanist::supervision::{Group, Policy, Restart};
use accompanist::transport::LocalNetwork;
use serde::{Deserialize, Serialize};

use crate::support::{on_disk, until, within};

/// What a panic carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Payload {
    None,
    Str,
    Text,
    /// Panics when it is dropped.
    Bomb,
    /// Panics when it is dropped, with another one of its kind.
    Bombs,
}

const PAYLOADS: [Payload; 4] = [Payload::Str, Payload::Text, Payload::Bomb, Payload::Bombs];

/// Panics when it is dropped; the flag says whether with another one.
struct Bomb(bool);

impl Drop for Bomb {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            if self.0 { panic_any(Bomb(true)) } else { panic!("dropped, as the test wants") }
        }
    }
}

impl Payload {
    fn explode(self) {
        match self {
            Self::None => {}
            Self::Str => panic!("a text, as the test wants"),
            Self::Text => panic!("a {self:?}, as the test wants"),
            Self::Bomb => panic_any(Bomb(false)),
            Self::Bombs => panic_any(Bomb(true)),
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Str => "a text, as the test wants",
            Self::Text => "a Text, as the test wants",
            Self::Bomb | Self::Bombs => "a panic without a text",
        }
    }
}

/// Where it panics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Place {
    Program,
    LocalCommit,
    LocalCompensate,
    Commit,
    Compensate,
}

const PLACES: [Place; 5] =
    [Place::Program, Place::LocalCommit, Place::LocalCompensate, Place::Commit, Place::Compensate];

#[derive(Clone, Copy)]
struct Shop;
impl Role for Shop {
    const NAME: &'static str = "shop";
    /// How often it was about to panic.
    type Service = AtomicU32;
}

static LOCAL: AtomicU32 = AtomicU32::new(0);

type Order = (Place, Payload);

struct Step;
impl Transaction for Step {
    const NAME: &'static str = "step";
    type Role = Shop;
    type Input = Order;
    type Output = ();
    async fn commit(&self, here: &Local<Shop>, (place, payload): &Order) -> Result<(), Abort> {
        if *place == Place::Commit {
            here.service().fetch_add(1, SeqCst);
            payload.explode();
        }
        Ok(())
    }
    async fn compensate(&self, here: &Local<Shop>, (place, payload): &Order, (): &()) -> Result<(), Retry> {
        if *place == Place::Compensate {
            here.service().fetch_add(1, SeqCst);
            payload.explode();
        }
        Ok(())
    }
}

struct LocalStep;
impl LocalTransaction for LocalStep {
    const NAME: &'static str = "local step";
    type Role = Shop;
    type Input = Order;
    type Output = ();
    fn commit(&self, _: &mut State<'_>, (place, payload): &Order) -> Result<(), Abort> {
        if *place == Place::LocalCommit {
            LOCAL.fetch_add(1, SeqCst);
            payload.explode();
        }
        Ok(())
    }
    fn compensate(&self, _: &mut State<'_>, (place, payload): &Order, (): &()) -> Result<(), Retry> {
        if *place == Place::LocalCompensate {
            LOCAL.fetch_add(1, SeqCst);
            payload.explode();
        }
        Ok(())
    }
}

struct Decide;
impl LocalTransaction for Decide {
    const NAME: &'static str = "decide";
    type Role = Shop;
    type Input = Order;
    type Output = ();
    fn commit(&self, _: &mut State<'_>, (place, _): &Order) -> Result<(), Abort> {
        let aborts = [Place::LocalCompensate, Place::Compensate].contains(place);
        if aborts { Err(Abort::new("enough", "it is to be taken back")) } else { Ok(()) }
    }
    fn compensate(&self, _: &mut State<'_>, _: &Order, (): &()) -> Result<(), Retry> {
        Ok(())
    }
}

/// Both steps, and an abort if one is to be taken back.
struct Run;
impl Choreography for Run {
    const NAME: &'static str = "run";
    type Roles = (Shop,);
    type Input = At<Shop, Order>;
    type Output = At<Shop, ()>;
    async fn run(&self, ctx: &Context<(Shop,)>, order: At<Shop, Order>) -> Result<Self::Output, Abort> {
        ctx.locally(Shop, |shop| {
            let (place, payload) = *shop.get(&order);
            if place == Place::Program {
                shop.service().fetch_add(1, SeqCst);
                payload.explode();
            }
        });
        ctx.transact(LocalStep, &order).await?;
        ctx.transact(Step, &order).await?;
        ctx.transact(Decide, &order).await
    }
}

/// Does as it is told.
struct Parrot;
impl DurableActor for Parrot {
    const NAME: &'static str = "parrot";
    type Message = Payload;
    type Reply = u32;
    fn handle(&self, _: &mut ActorContext<'_>, _: &mut State<'_>, payload: Payload) -> Result<u32, Abort> {
        payload.explode();
        Ok(7)
    }
}

fn builder(disk: &MemoryDisk, runs: &Arc<AtomicU32>) -> NodeBuilder {
    on_disk("one", disk, LocalNetwork::new()).role(Shop, runs.clone()).choreography(Run).actor(Parrot)
}

async fn check(place: Place, payload: Payload) {
    let (disk, runs) = (MemoryDisk::default(), Arc::new(AtomicU32::new(0)));
    let node = within(builder(&disk, &runs).start()).await.unwrap();
    LOCAL.store(0, SeqCst);
    let session = within(node.start(Run, (place, payload)).key("boom")).await.unwrap();
    let settled = within(session.settled()).await;
    let Err(SessionError::Stopped { reason, .. }) = settled else { panic!("{place:?} {payload:?}: {settled:?}") };
    let text = payload.text();
    assert!(
        reason.contains("quarantined after 4 failures") && reason.contains(text),
        "{place:?} {payload:?}: {reason}"
    );
    let times = runs.load(SeqCst) + LOCAL.load(SeqCst);
    assert_eq!(times, 4, "{place:?} {payload:?}: three restarts are allowed");
    // Others do not feel it.
    let other = within(node.start(Run, (place, Payload::None))).await.unwrap();
    let _ = within(other.settled()).await; // Some abort.
    within(node.read_state(Shop, |_| ())).await.unwrap();
    within(node.shutdown()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_with_any_payload_anywhere_in_a_session_is_counted_and_felt_by_no_other() {
    for place in PLACES {
        for payload in PAYLOADS {
            check(place, payload).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panicking_reader_gets_an_error_and_the_writer_continues() {
    let node = within(builder(&MemoryDisk::default(), &Arc::default()).start()).await.unwrap();
    for payload in PAYLOADS {
        let read = within(node.read_state(Shop, move |_| payload.explode())).await;
        assert!(matches!(&read, Err(StoreError::Panicked(text)) if text == payload.text()), "{payload:?}: {read:?}");
        let read = within(node.actor::<Parrot>().read(move |_| payload.explode())).await;
        assert!(read.is_err(), "{payload:?}");
    }
    let session = within(node.start(Run, (Place::Program, Payload::None))).await.unwrap();
    within(session.settled()).await.unwrap();
    within(node.shutdown()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_actor_that_panics_stands_still_with_its_message_alone() {
    for payload in PAYLOADS {
        let node = within(builder(&MemoryDisk::default(), &Arc::default()).start()).await.unwrap();
        let (parrot, other) = (node.actor::<Parrot>(), node.actor::<Parrot>().named("other"));
        within(parrot.tell(&payload)).await.unwrap();
        until("a message that is stopped", || !node.operator().stopped_sessions().is_empty()).await;
        let reason = node.operator().stopped_sessions()[0].reason.clone();
        assert!(reason.contains(payload.text()), "{payload:?}: {reason}");
        assert_eq!(within(other.ask(&Payload::None)).await.unwrap(), 7, "{payload:?}");
        within(node.shutdown()).await;
    }
}

/// Waits on disk, with a value that panics when it is dropped.
struct Hoard;
impl Choreography for Hoard {
    const NAME: &'static str = "hoard";
    type Roles = (Shop,);
    type Input = At<Shop, ()>;
    type Output = At<Shop, u32>;
    async fn run(&self, ctx: &Context<(Shop,)>, _: At<Shop, ()>) -> Result<At<Shop, u32>, Abort> {
        let _bomb = Bomb(true);
        ctx.signal(Shop, "open").await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_that_panic_on_drop_harm_no_other_session() {
    let builder = builder(&MemoryDisk::default(), &Arc::default()).choreography(Hoard);
    let node = within(builder.start()).await.unwrap();
    for _ in 0..10 {
        within(node.start(Hoard, ())).await.unwrap();
    }
    until("all have left memory", || node.operator().instances() == 0).await;
    let session = within(node.start(Run, (Place::Program, Payload::None))).await.unwrap();
    within(session.settled()).await.unwrap();
    assert!(tokio::time::timeout(Duration::ZERO, node.failed()).await.is_err(), "no supervisor has felt it");
    within(node.shutdown()).await;
}

struct Miner(Arc<AtomicU32>);
impl Actor for Miner {
    type Msg = ();
    type State = ();
    type Arguments = ();
    async fn pre_start(&self, myself: ActorRef<()>, (): ()) -> Result<(), ActorProcessingErr> {
        self.0.fetch_add(1, SeqCst);
        myself.cast(())?;
        Ok(())
    }
    async fn handle(&self, _: ActorRef<()>, (): (), (): &mut ()) -> Result<(), ActorProcessingErr> {
        panic_any(Bomb(false))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_actor_of_a_group_whose_panic_ractor_cannot_drop_has_failed_as_any_other() {
    for restart in [Restart::Permanent, Restart::Transient] {
        let starts = Arc::new(AtomicU32::new(0));
        let policy = Policy { restarts_max: 2, delay_min: Duration::from_millis(1), ..Policy::default() };
        let miners = Group::new("miners").policy(policy).child("miner", restart, {
            let starts = starts.clone();
            move |supervisor| {
                let starts = starts.clone();
                async move { Ok(Actor::spawn_linked(None, Miner(starts), (), supervisor).await?.0.get_cell()) }
            }
        });
        let mut builder = builder(&MemoryDisk::default(), &Arc::default()).supervise(miners);
        let mut settings = crate::support::quick();
        settings.supervision.tree.restarts_max = 0;
        builder = builder.settings(settings);
        let node = within(builder.start()).await.unwrap();
        let error = within(node.failed()).await;
        assert!(matches!(&error, NodeError::RestartedTooOften { part, .. } if part == "group `miners`"), "{error}");
        assert_eq!(starts.load(SeqCst), 3, "{restart:?}: two restarts are allowed");
        within(node.shutdown()).await;
    }
}

/// A group whose actor cannot even be asked for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_whose_start_panics_is_no_group() {
    for payload in PAYLOADS {
        let group = Group::new("nobody").child("nobody", Restart::Permanent, move |_| async move {
            payload.explode();
            Err(accompanist::ractor::SpawnErr::ActorAlreadyStarted)
        });
        let disk = MemoryDisk::default();
        let started = within(builder(&disk, &Arc::default()).supervise(group).start()).await;
        let error = started.err().unwrap();
        assert!(error.to_string().contains(payload.text()), "{payload:?}: {error}");
    }
}
