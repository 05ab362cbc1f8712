//! The saga over Zenoh: three nodes with a session each, on addresses of this machine.

use std::sync::Arc;

use accompanist::prelude::*;
use accompanist::store::MemoryDisk;
use accompanist::transport::{ZenohConfig, ZenohTransport};

use crate::saga::{Bank, Loyalty, Order, Payment, Warehouse, WarehouseOrder, check_order, ledgers};
use crate::support::{TestNode, free_endpoint, on_disk, until, within};

struct Sites {
    endpoints: [String; 3],
    disks: [MemoryDisk; 3],
    bank: Arc<Bank>,
}

impl Sites {
    fn new() -> Self {
        let endpoints = [(); 3].map(|()| free_endpoint());
        Self { endpoints, disks: Default::default(), bank: Arc::default() }
    }

    /// A session that listens at its own address and knows the others'.
    async fn open(&self, index: usize) -> ZenohTransport {
        let mut config = ZenohConfig::new().listen(&self.endpoints[index]);
        for other in (0..3).filter(|other| *other != index) {
            config = config.connect(&self.endpoints[other]);
        }
        within(ZenohTransport::open(config)).await.unwrap()
    }

    async fn start(&self, index: usize, network: &ZenohTransport) -> TestNode {
        let name = ["warehouse", "payment", "loyalty"][index];
        let builder = on_disk(name, &self.disks[index], network.clone()).choreography(WarehouseOrder);
        TestNode::start(match index {
            0 => builder.role(Warehouse, Arc::new(())),
            1 => builder.role(Payment, self.bank.clone()),
            _ => builder.role(Loyalty, Arc::new(())),
        })
        .await
    }
}

/// Waits for every order, and checks all of them against the ledgers.
async fn check(orders: Vec<(Order, Session<WarehouseOrder>)>, nodes: [&TestNode; 3], bank: &Arc<Bank>) {
    let mut ended = Vec::new();
    for (order, session) in orders {
        match within(session.settled()).await {
            Ok(_) => ended.push((order, true)),
            Err(SessionError::Aborted(_)) => ended.push((order, false)),
            Err(error) => panic!("{order:?}: {error}"),
        }
    }
    for node in nodes {
        node.is_idle().await;
    }
    let ledgers = ledgers(nodes[0], nodes[2], bank).await;
    for (order, completed) in ended {
        check_order(&order, completed, &ledgers);
    }
}

async fn place(warehouse: &Node, ids: std::ops::Range<u32>) -> Vec<(Order, Session<WarehouseOrder>)> {
    let mut placed = Vec::new();
    for id in ids {
        let order = Order { id, declined: id % 10 == 3 };
        placed.push((order.clone(), within(warehouse.start(WarehouseOrder, order)).await.unwrap()));
    }
    placed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orders_complete_over_zenoh() {
    let sites = Sites::new();
    let networks = [sites.open(0).await, sites.open(1).await, sites.open(2).await];
    let warehouse = sites.start(0, &networks[0]).await;
    let payment = sites.start(1, &networks[1]).await;
    let loyalty = sites.start(2, &networks[2]).await;
    let orders = place(&warehouse, 0..20).await;
    check(orders, [&warehouse, &payment, &loyalty], &sites.bank).await;
    for (node, network) in [warehouse, payment, loyalty].iter().zip(&networks) {
        within(node.shutdown()).await;
        within(network.close()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orders_complete_although_a_node_restarts() {
    let sites = Sites::new();
    let networks = [sites.open(0).await, sites.open(1).await, sites.open(2).await];
    let warehouse = sites.start(0, &networks[0]).await;
    let payment = sites.start(1, &networks[1]).await;
    let loyalty = sites.start(2, &networks[2]).await;
    let mut orders = place(&warehouse, 0..10).await;
    // In the middle: the first has come as far as the bank.
    until("a charge", || sites.bank.asked() > 0).await;
    within(payment.shutdown()).await;
    within(networks[1].close()).await;
    orders.extend(place(&warehouse, 10..20).await); // With nobody to take the money.

    let network = sites.open(1).await;
    let payment = sites.start(1, &network).await;
    check(orders, [&warehouse, &payment, &loyalty], &sites.bank).await;
    for node in [warehouse, payment, loyalty] {
        within(node.shutdown()).await;
    }
}
