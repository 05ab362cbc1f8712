//! Whether a node is alive, and ready for its callers, as probes ask.

use std::sync::Arc;

use accompanist::prelude::*;
use accompanist::store::MemoryDisk;
use accompanist::testing::NodeActor;
use accompanist::transport::LocalNetwork;
use accompanist::{MemberStatus, NodeBuilder};

use crate::support::{TestNode, node_id, on_disk, quick, until, within};
use crate::trade::{Back, Front, Outside, Trade, deal};

fn front(network: &LocalNetwork) -> NodeBuilder {
    on_disk("front", &MemoryDisk::default(), network.clone()).role(Front, Arc::new(())).choreography(Trade)
}

fn back(network: &LocalNetwork) -> NodeBuilder {
    let builder = on_disk("back", &MemoryDisk::default(), network.clone());
    builder.role(Back, Arc::new(Outside::default())).choreography(Trade)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_ready_once_it_knows_a_node_for_each_role_of_what_it_starts() {
    let network = LocalNetwork::new();
    let front = TestNode::start(front(&network)).await;
    until("the recovery to end", || front.readiness().recovered).await;
    let alone = front.readiness();
    assert!(!alone.is_ready() && alone.running && alone.store_writable && alone.has_room);
    let missing = alone.missing_roles.iter().map(|(name, missing)| (*name, missing.role));
    assert_eq!(missing.collect::<Vec<_>>(), [("trade", "back")]);
    assert_eq!(
        alone.to_string(),
        "not ready: it cannot start `trade`, version 1: no node is known that plays role `back` and takes new sessions"
    );
    assert!(front.is_alive(), "a restart would bring no back");

    // The back starts nothing, so it is ready even without anybody.
    let back = TestNode::start(back(&network)).await;
    until("the back to be ready", || back.readiness().is_ready()).await;
    until("the front to be ready", || front.readiness().is_ready()).await;
    assert_eq!(front.readiness().to_string(), "ready");
    assert_eq!(within(within(front.start(Trade, deal(1))).await.unwrap().settled()).await.unwrap(), 101);

    // Who is away is still known: sessions wait for it.
    within(back.shutdown()).await;
    assert!(front.readiness().is_ready());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_drains_is_alive_and_not_ready() {
    let network = LocalNetwork::new();
    let back = TestNode::start(back(&network)).await;
    until("the back to be ready", || back.readiness().is_ready()).await;
    within(back.operator().drain()).await.unwrap();
    let draining = back.readiness();
    assert!(back.is_alive() && !draining.is_ready());
    assert_eq!(draining.status, MemberStatus::Draining);
    assert!(draining.to_string().contains("it drains"), "{draining}");
    within(back.operator().undrain()).await.unwrap();
    assert!(back.readiness().is_ready());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_without_room_for_sessions_is_not_ready() {
    let (network, outside) = (LocalNetwork::new(), Arc::new(Outside::default()));
    let disk = MemoryDisk::default();
    let builder = Node::builder(node_id("home")).store(disk.open().unwrap()).transport(network);
    let builder = builder.settings(Settings { open_max: 2, ..quick() }).choreography(Trade);
    let home = TestNode::start(builder.role(Front, Arc::new(())).role(Back, outside.clone())).await;
    until("the node to be ready", || home.readiness().is_ready()).await;
    outside.set_gate(false);
    let session = within(home.start(Trade, deal(1))).await.unwrap();
    until("both parts to be open", || !home.readiness().has_room).await;
    assert!(home.readiness().to_string().contains("`open_max`"));
    outside.set_gate(true);
    within(session.settled()).await.unwrap();
    until("room", || home.readiness().is_ready()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_has_failed_is_not_alive_and_says_why() {
    let network = LocalNetwork::new();
    let back = TestNode::start(back(&network)).await;
    until("the back to be ready", || back.readiness().is_ready()).await;
    back.panic_in(NodeActor::Root);
    let error = within(back.failed()).await;
    assert!(!back.is_alive());
    assert_eq!(back.failure().map(|failure| failure.to_string()), Some(error.to_string()));
    let readiness = back.readiness();
    assert!(!readiness.running && !readiness.is_ready(), "{readiness}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_shut_down_is_not_alive_and_has_not_failed() {
    let network = LocalNetwork::new();
    let back = TestNode::start(back(&network)).await;
    within(back.shutdown()).await;
    let readiness = back.readiness();
    assert!(!back.is_alive() && back.failure().is_none());
    assert!(!readiness.running && !readiness.store_writable, "{readiness}");
}
