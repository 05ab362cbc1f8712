//! Nodes join, drain, crash and leave while orders flow all the time: every session ends, none is lost, the books
//! balance.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use accompanist::prelude::*;
use accompanist::testing::{Simulation, World};
use accompanist::{MemberStatus, NodeBuilder};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::replicas::{Cluster, Late, knows_that, leaves, notes};
use crate::saga::{Bank, Ledger, Loyalty, Order, Payment, Warehouse, WarehouseOrder, check_order, ledgers};
use crate::support::{TestNode, within};
use crate::trade::{Deal, Tally};

/// A deal of the load; some are refused at their last step.
fn deal(id: u32) -> Deal {
    Deal { id, refused: id % 5 == 3 }
}

type Told = Result<u32, SessionError>;

/// Deals as fast as it goes, at the front behind the door, until it is told to stop.
struct Load {
    stop: Arc<AtomicBool>,
    door: watch::Sender<Node>,
    started: watch::Receiver<u32>,
    task: JoinHandle<Vec<JoinHandle<Told>>>,
}

impl Load {
    fn begin(front: &Node) -> Self {
        let (stop, door) = (Arc::new(AtomicBool::new(false)), watch::Sender::new(front.clone()));
        let (started_sender, started) = watch::channel(0);
        let (stopping, mut front) = (stop.clone(), door.subscribe());
        let task = tokio::spawn(async move {
            let mut told = Vec::new();
            while !stopping.load(Ordering::SeqCst) {
                let (node, id) = (front.borrow_and_update().clone(), *started_sender.borrow());
                match node.start(Late, deal(id)).key(id.to_string()).await {
                    Ok(session) => {
                        told.push(tokio::spawn(async move { session.settled().await }));
                        started_sender.send_replace(id + 1);
                    }
                    Err(StartError::Draining) => front.changed().await.unwrap(), // Nothing has begun.
                    Err(error) => panic!("{error}"),
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            told
        });
        Self { stop, door, started, task }
    }

    /// Waits until so many more have been started.
    async fn goes_on(&self, more: u32) {
        let mut started = self.started.clone();
        let so_far = *started.borrow();
        within(started.wait_for(|started| *started >= so_far + more)).await.unwrap();
    }

    /// Stops it, and says how each has ended.
    async fn end(self) -> Vec<Told> {
        self.stop.store(true, Ordering::SeqCst);
        let mut ended = Vec::new();
        for told in within(self.task).await.unwrap() {
            ended.push(within(told).await.unwrap());
        }
        ended
    }
}

/// The notes of sides, those that have gone included.
#[derive(Default)]
struct Books(BTreeMap<u32, u32>);

impl Books {
    async fn add(&mut self, side: &Node) {
        for (id, times) in notes(side).await {
            *self.0.entry(id).or_default() += times;
        }
    }
}

/// Lets a node leave under load, and burns what it leaves behind.
async fn retire(cluster: &Cluster, load: &Load, node: TestNode, books: &mut Books) {
    leaves(&node).await;
    if node.name().as_str().starts_with("side") {
        books.add(&node).await;
    }
    cluster.burn(node).await;
    load.goes_on(20).await;
}

/// Lets a node drain that loses its power while sessions are open on it.
async fn drains_over_a_crash(cluster: &Cluster, load: &Load, node: TestNode) -> TestNode {
    cluster.outside.set_gate(false);
    let asked = cluster.outside.asked();
    within(cluster.outside.asked_times(asked + 20)).await;
    within(node.operator().drain()).await.unwrap();
    let open = within(node.operator().drain_progress()).await.unwrap().open[node.name()].unwrap();
    assert!(open > 0, "it is in the middle of nothing");
    let node = cluster.cut(node).await;
    assert_eq!(node.operator().status(), MemberStatus::Draining);
    load.goes_on(10).await;
    cluster.outside.set_gate(true);
    within(node.operator().drained()).await.unwrap();
    node
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_join_and_leave_under_load_and_no_session_is_lost() {
    let (cluster, mut books) = (Cluster::default(), Books::default());
    let [front, back, side] = cluster.start_all(["front-1", "back-1", "side-1"]).await;
    let load = Load::begin(&front);
    load.goes_on(20).await;
    let (other_back, other_side) = (cluster.start("back-2").await, cluster.start("side-2").await);
    for name in ["back-2", "side-2"] {
        knows_that(&front, name, MemberStatus::Serving).await;
    }
    load.goes_on(50).await;
    retire(&cluster, &load, side, &mut books).await;
    let back = drains_over_a_crash(&cluster, &load, back).await;
    retire(&cluster, &load, back, &mut books).await;

    let other_front = cluster.start("front-2").await;
    for name in ["back-2", "side-2"] {
        knows_that(&other_front, name, MemberStatus::Serving).await;
    }
    within(front.operator().drain()).await.unwrap();
    load.door.send_replace(Node::clone(&other_front));
    retire(&cluster, &load, front, &mut books).await;
    // One of a name that was there before, with nothing on its disk.
    let side = cluster.start("side-1").await;
    knows_that(&other_front, "side-1", MemberStatus::Serving).await;
    let other_side = cluster.cut(other_side).await;
    load.goes_on(50).await;

    let ended = load.end().await;
    for node in [&other_front, &other_back, &side, &other_side] {
        node.is_idle().await;
    }
    for side in [&side, &other_side] {
        assert!(!notes(side).await.is_empty(), "{} is not used", side.name());
        books.add(side).await;
    }
    let mut refused = 0;
    for (id, told) in (0..).zip(&ended) {
        match told {
            Ok(output) => assert_eq!((*output, deal(id).refused), (id, false)),
            Err(SessionError::Aborted(abort)) if deal(id).refused => {
                assert_eq!(abort.code(), "no-truck");
                refused += 1;
            }
            Err(error) => panic!("deal {id}: {error}"),
        }
        let noted = u32::from(!deal(id).refused);
        assert_eq!(books.0.get(&id).copied().unwrap_or_default(), noted, "deal {id}");
    }
    assert_eq!(cluster.outside.total(), Tally { done: u32::try_from(ended.len()).unwrap(), undone: refused });
}

/// Lets a node drain and leave, over all its crashes, and takes it away.
async fn retires(world: World, name: &str) -> Node {
    loop {
        let node = world.running(name).await;
        let left = async {
            node.operator().drain().await.ok()?;
            node.operator().drained().await.ok()?;
            node.operator().leave().await.ok()
        };
        if left.await.is_some() {
            return node;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

const ORDERS: u32 = 12;

async fn place(world: World, order: Order, after_ms: u64) -> bool {
    tokio::time::sleep(Duration::from_millis(after_ms)).await;
    let key = format!("order-{}", order.id);
    world.settled::<WarehouseOrder>("warehouse", &key, order).await.is_ok()
}

/// Payment and loyalty have two nodes each, of which one leaves and a third one comes, at any moment.
async fn replicas(world: World) {
    let bank = Arc::new(Bank::watched_by(world.recorder()));
    let settings = Settings {
        retransmission_delay_min: Duration::from_millis(20),
        retransmission_delay_max: Duration::from_millis(60),
        advertisement_period_max: Duration::from_millis(300),
        ..Settings::default()
    };
    let describe = move |node: NodeBuilder| node.settings(settings.clone()).choreography(WarehouseOrder);
    let (asks, awards) = (describe.clone(), describe.clone());
    let charged = bank.clone();
    let pays = move |node: NodeBuilder| describe(node).role(Payment, charged.clone());
    let awards = move |node: NodeBuilder| awards(node).role(Loyalty, Arc::new(()));
    world.add_node("warehouse", move |node| asks(node).role(Warehouse, Arc::new(()))).await;
    for name in ["payment-1", "payment-2"] {
        world.add_node(name, pays.clone()).await;
    }
    for name in ["loyalty-1", "loyalty-2"] {
        world.add_node(name, awards.clone()).await;
    }
    let orders: Vec<Order> = (0..ORDERS).map(|id| Order { id, declined: world.draw(0..5) == 0 }).collect();
    let placed: Vec<_> =
        orders.iter().map(|order| tokio::spawn(place(world.clone(), order.clone(), world.draw(0..600)))).collect();

    let pauses = [(); 4].map(|()| Duration::from_millis(world.draw(0..400)));
    let joins = async {
        tokio::time::sleep(pauses[0]).await;
        world.add_node("payment-3", pays.clone()).await;
        tokio::time::sleep(pauses[1]).await;
        world.add_node("loyalty-3", awards.clone()).await;
    };
    let payment_leaves = async {
        tokio::time::sleep(pauses[2]).await;
        retires(world.clone(), "payment-1").await;
        world.remove_node("payment-1").await;
    };
    let loyalty_leaves = async {
        tokio::time::sleep(pauses[3]).await;
        retires(world.clone(), "loyalty-1").await;
        let gone = own_ledgers(&world, "loyalty-1", &bank).await;
        world.remove_node("loyalty-1").await;
        gone
    };
    let ((), (), mut books) = tokio::join!(joins, payment_leaves, loyalty_leaves);
    let mut completed = Vec::new();
    for order in placed {
        completed.push(order.await.unwrap());
    }
    world.settle().await;
    for name in ["loyalty-2", "loyalty-3"] {
        for (step, ledger) in own_ledgers(&world, name, &bank).await {
            merge(books.entry(step).or_default(), ledger);
        }
    }
    let warehouse = world.running("warehouse").await;
    for (step, ledger) in ledgers(&warehouse, &warehouse, &bank).await {
        merge(books.entry(step).or_default(), ledger);
    }
    for (order, completed) in orders.iter().zip(&completed) {
        check_order(order, *completed, &books);
    }
    world.recorder().note(format!("{completed:?} {books:?} {}", bank.asked()));
}

/// What a node of loyalty has in its books.
async fn own_ledgers(world: &World, name: &str, bank: &Arc<Bank>) -> BTreeMap<&'static str, Ledger> {
    let node = world.running(name).await;
    let mut own = ledgers(&node, &node, bank).await;
    own.retain(|step, _| *step != "charge");
    own
}

fn merge(into: &mut Ledger, from: Ledger) {
    for (id, entry) in from {
        let known = into.entry(id).or_default();
        known.done += entry.done;
        known.undone += entry.undone;
    }
}

/// Each seed twice, since one seed has to be one trace.
#[test]
fn nodes_join_and_leave_in_rough_worlds_and_no_session_is_lost() {
    println!("{}", Simulation::new().seeds(60).twice().run(replicas));
}
