//! More than a node can do: what is beyond a bound is refused or waits, and nothing that was accepted is lost.

use std::sync::Arc;
use std::time::Duration;

use accompanist::prelude::*;
use accompanist::store::MemoryDisk;
use accompanist::transport::LocalNetwork;
use accompanist::{AskError, NodeBuilder, Session, metric};

use crate::retention::Numbers;
use crate::support::{TestNode, node_id, on_disk, quick, until, within};
use crate::trade::{Back, Front, Outside};

/// Waits for a signal at the front, when the back has heard of it.
pub struct Hold;
impl Choreography for Hold {
    const NAME: &'static str = "hold";
    type Roles = (Front, Back);
    type Input = At<Front, u32>;
    type Output = At<Front, u32>;
    async fn run(&self, ctx: &Context<Self::Roles>, number: At<Front, u32>) -> Result<At<Front, u32>, Abort> {
        let heard = ctx.comm(Front, Back, &number).await?;
        let _: At<Front, ()> = ctx.signal(Front, "go").await?;
        let go = ctx.comm(Front, Back, &number).await?;
        let sum = ctx.locally(Back, |here| here.get(&heard) + here.get(&go));
        ctx.comm(Back, Front, &sum).await
    }
}

/// Instances stay in memory while they wait, so that a test can fill it.
fn patient() -> Settings {
    Settings { passivation_delay: Duration::from_hours(1), ..quick() }
}

/// In one thread with the test, whose time is paused.
fn builder(name: &str, settings: Settings, disk: &MemoryDisk, network: &LocalNetwork) -> NodeBuilder {
    let builder = Node::builder(node_id(name)).simulated_store(disk.open().unwrap(), Duration::from_millis(1));
    builder.transport(network.clone()).settings(settings).choreography(Hold)
}

async fn front(settings: Settings, disk: &MemoryDisk, network: &LocalNetwork) -> TestNode {
    TestNode::start(builder("front", settings, disk, network).role(Front, Arc::new(()))).await
}

async fn back(settings: Settings, disk: &MemoryDisk, network: &LocalNetwork) -> TestNode {
    TestNode::start(builder("back", settings, disk, network).role(Back, Arc::new(Outside::default()))).await
}

pub async fn go(session: &Session<Hold>) {
    within(session.initiator().signal("go", "once", &())).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_starts_at_once_so_many_are_let_in_and_all_those_end() {
    let settings = Settings { instances_max: 40, ..patient() };
    let builder = on_disk("home", &MemoryDisk::default(), LocalNetwork::new()).settings(settings).choreography(Hold);
    let node = builder.role(Front, Arc::new(())).role(Back, Arc::new(Outside::default()));
    let node = TestNode::start(node).await;
    for _ in 0..5 {
        let starts: Vec<_> = (0..300u32)
            .map(|number| {
                let node = node.clone();
                tokio::spawn(async move { (number, node.start(Hold, number).await) })
            })
            .collect();
        let mut sessions = Vec::new();
        let mut refused = 0;
        for start in starts {
            match within(start).await.unwrap() {
                (number, Ok(session)) => sessions.push((number, session)),
                (_, Err(error)) => {
                    assert!(matches!(error, StartError::Overloaded(20)), "{error}");
                    refused += 1;
                }
            }
            assert!(node.operator().instances() <= 40);
        }
        assert!(!sessions.is_empty() && sessions.len() <= 20, "{} were let in", sessions.len());
        assert_eq!(refused, 300 - sessions.len());
        for (number, session) in sessions {
            go(&session).await;
            assert_eq!(within(session.settled()).await.unwrap(), number * 2);
        }
        node.is_idle().await;
    }
}

/// A slow disk at the back, and a hundred orders a second.
#[tokio::test(start_paused = true)]
async fn overloaded_nodes_refuse_new_sessions_and_complete_admitted_ones() {
    let network = LocalNetwork::new();
    let described = |name: &str, sync_ms| {
        let store = MemoryDisk::default().open().unwrap();
        let builder = Node::builder(node_id(name)).simulated_store(store, Duration::from_millis(sync_ms));
        builder.transport(network.clone()).choreography(Hold).choreography(Alone)
    };
    let front = TestNode::start(described("front", 1).role(Front, Arc::new(()))).await;
    let _back = TestNode::start(described("back", 200).role(Back, Arc::new(Outside::default()))).await;
    let before = within(front.start(Hold, 0).key("before")).await.unwrap();
    let mut sessions = Vec::new();
    let refusal = within(async {
        loop {
            match front.start(Hold, 1).await {
                Ok(session) => sessions.push(session),
                Err(refusal) => return refusal,
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    let waits = Duration::from_millis(200)..Duration::from_millis(600);
    assert!(
        matches!(&refusal, StartError::QueueTooLong { node, delay } if *node == node_id("back") && waits.contains(delay)),
        "{refusal}"
    );
    assert!(refusal.to_string().contains("`back`") && refusal.to_string().contains("queue_delay_max"), "{refusal}");
    assert!(sessions.len() > 10, "{} were let in", sessions.len());
    // What is there already is given, and what needs nothing of the slow node is let in.
    let again = within(front.start(Hold, 0).key("before")).await.unwrap();
    assert_eq!(again.id(), before.id());
    assert_eq!(within(within(front.start(Alone, 5)).await.unwrap().settled()).await.unwrap(), 5);
    sessions.push(before);
    for session in &sessions {
        go(session).await;
    }
    for session in sessions {
        within(session.settled()).await.unwrap();
    }
    // In simulated time: what was said of the queue is old by then.
    tokio::time::sleep(Duration::from_secs(2)).await;
    within(front.start(Hold, 2)).await.unwrap();
}

/// Starts so many sessions of [`Alone`] at the same moment, and gives those that were let in, in order, and the
/// refusals.
async fn burst(node: &TestNode, count: u32) -> (Vec<Session<Alone>>, Vec<StartError>) {
    let starts = futures_util::future::join_all((0..count).map(|number| node.start(Alone, number).into_future()));
    let (sessions, refusals): (Vec<_>, Vec<_>) = within(starts).await.into_iter().partition(Result::is_ok);
    (sessions.into_iter().filter_map(Result::ok).collect(), refusals.into_iter().filter_map(Result::err).collect())
}

fn alone(sync_ms: u64) -> NodeBuilder {
    let store = MemoryDisk::default().open().unwrap();
    let builder = Node::builder(node_id("front")).simulated_store(store, Duration::from_millis(sync_ms));
    builder.transport(LocalNetwork::new()).choreography(Alone).role(Front, Arc::new(()))
}

#[tokio::test(start_paused = true)]
async fn a_burst_of_starts_on_an_idle_node_is_let_in() {
    let node = TestNode::start(alone(1)).await;
    let (sessions, refusals) = burst(&node, 3_000).await;
    assert_eq!((sessions.len(), refusals.len()), (3_000, 0), "{:?}", refusals.first());
    for (number, session) in (0..).zip(sessions) {
        assert_eq!(within(session.settled()).await.unwrap(), number);
    }
}

/// Three batches of 64 need more than the 250 ms that a start may wait for its turn.
#[tokio::test(start_paused = true)]
async fn starts_wait_for_their_turn_and_are_refused_when_that_takes_too_long() {
    let node = TestNode::start(alone(100)).await;
    let (sessions, refusals) = burst(&node, 1_000).await;
    let is_late = |refusal: &StartError| {
        let StartError::QueueTooLong { node, delay } = refusal else { return false };
        *node == node_id("front") && *delay == Duration::from_millis(250)
    };
    assert!(refusals.iter().all(is_late), "{refusals:?}");
    assert!((128..=3 * 64).contains(&sessions.len()), "{} were let in", sessions.len());
    for session in sessions {
        within(session.settled()).await.unwrap();
    }
    // The turns of those that went away are free.
    assert_eq!(burst(&node, 64).await.0.len(), 64);
}

/// Nothing is said to anybody.
struct Alone;
impl Choreography for Alone {
    const NAME: &'static str = "alone";
    type Roles = (Front,);
    type Input = At<Front, u32>;
    type Output = At<Front, u32>;
    async fn run(&self, _: &Context<Self::Roles>, number: At<Front, u32>) -> Result<At<Front, u32>, Abort> {
        Ok(number)
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_refuses_new_sessions_and_continues_open_ones() {
    let numbers = Numbers::default();
    let _recorder = metrics::set_default_local_recorder(&numbers);
    let (disks, network) = (<[MemoryDisk; 2]>::default(), LocalNetwork::new());
    let front = front(Settings { open_max: 3, ..quick() }, &disks[0], &network).await;
    let two = Settings { open_max: 2, ..quick() };
    let back_node = back(two.clone(), &disks[1], &network).await;
    let mut sessions = Vec::new();
    for number in 0..2 {
        sessions.push(within(front.start(Hold, number)).await.unwrap());
    }
    until("both at the back", || back_node.operator().open_instances() == Some(2)).await;
    // What is there was counted, not remembered.
    within(back_node.shutdown()).await;
    let back_node = back(two, &disks[1], &network).await;
    until("both at the back", || back_node.operator().open_instances() == Some(2)).await;
    let dropped = numbers.counter(metric::DROPPED);
    sessions.push(within(front.start(Hold, 2)).await.unwrap());
    until("the third to be dropped, more than once", || numbers.counter(metric::DROPPED) >= dropped + 2).await;
    assert_eq!(back_node.operator().open_instances(), Some(2));
    until("all three at the front", || front.operator().open_instances() == Some(3)).await;
    let full = within(front.start(Hold, 3)).await.unwrap_err();
    assert!(matches!(full, StartError::TooManyOpen(3)), "{full}");
    // The last one cannot end before there is room for it; those that are there are not held up.
    for session in sessions.iter().rev() {
        go(session).await;
    }
    for (number, session) in (0..3).zip(sessions) {
        assert_eq!(within(session.settled()).await.unwrap(), number * 2);
    }
    until("nothing at the front", || front.operator().open_instances() == Some(0)).await;
    until("nothing at the back", || back_node.operator().open_instances() == Some(0)).await;
    assert!(numbers.gauge(metric::INSTANCES_OPEN).abs() < 0.1);
    let another = within(front.start(Hold, 4)).await.unwrap();
    go(&another).await;
    assert_eq!(within(another.settled()).await.unwrap(), 8);
}

#[tokio::test(start_paused = true)]
async fn who_asks_an_instance_that_has_no_room_in_memory_waits_for_some() {
    let (disks, network) = (<[MemoryDisk; 2]>::default(), LocalNetwork::new());
    let front = front(quick(), &disks[0], &network).await;
    let back_node = back(quick(), &disks[1], &network).await;
    let waits = within(front.start(Hold, 1)).await.unwrap();
    until("it to be at the back", || back_node.operator().open_instances() == Some(1)).await;
    within(back_node.shutdown()).await;
    // The next life of the back has no room but for what it takes up again, which is one that it does not keep.
    let back_node = back(Settings { instances_max: 1, ..quick() }, &disks[1], &network).await;
    let busy = within(front.start(Hold, 2)).await.unwrap();
    until("the other at the back", || back_node.operator().open_instances() == Some(2)).await;
    for _ in 0..20 {
        let [one, other] = [&waits, &busy].map(|session| back_node.instance(Hold, session.id(), Back));
        let (one, other) = tokio::join!(within(one.status()), within(other.status()));
        assert!(matches!((&one, &other), (Ok(_), Ok(_))), "{one:?} {other:?}");
        assert!(back_node.operator().instances() <= 1);
    }
    for (number, session) in [(1, waits), (2, busy)] {
        go(&session).await;
        assert_eq!(within(session.settled()).await.unwrap(), number * 2);
    }
}

#[tokio::test(start_paused = true)]
async fn callers_are_admitted_in_turn_and_a_cancelled_one_frees_its_place() {
    let (disk, network) = (MemoryDisk::default(), LocalNetwork::new());
    let node = front(Settings { callers_max: 1, ..quick() }, &disk, &network).await;
    let read = || node.read_state(Front, |_| ());
    for _ in 0..3 {
        let (mut gone, mut waits) = (Box::pin(read()), Box::pin(read()));
        tokio::select! {
            biased;
            _ = &mut gone => {}
            _ = &mut waits => {}
            () = std::future::ready(()) => {}
        }
        drop(gone);
        within(waits).await.unwrap();
    }
    let unknown = || node.instance(Hold, accompanist::SessionId::fresh(1, 1), Front);
    let asked = within(futures_util::future::join_all((0..10).map(|_| async move { unknown().status().await }))).await;
    assert!(asked.iter().all(|answer| matches!(answer, Err(AskError::NotOpen(_)))), "{asked:?}");
}
