//! The warehouse saga over many seeds, with crashes of nodes, clocks that are wrong, and a network that loses, doubles,
//! reorders, delays and splits.
//!
//! `ACCOMPANIST_SEEDS=20000` runs more of them, `ACCOMPANIST_SEED=17` one again.

use std::sync::Arc;
use std::time::Duration;

use accompanist::NodeBuilder;
use accompanist::prelude::*;
use accompanist::testing::{FaultProfile, Simulation, World};

use crate::saga::{Bank, Loyalty, Order, Payment, Warehouse, WarehouseOrder, check_order, ledgers};

const ORDERS: u32 = 8;

/// In every second world nodes forget what has closed as soon as no packet can be that old.
fn settings(forgetful: bool, passivation_delay: Duration, age_min_ms: u64) -> Settings {
    let age_min = Duration::from_millis(age_min_ms);
    let retention = Retention { age_min, count_max: Some(0), ..Retention::default() };
    let pauses = Settings {
        passivation_delay,
        retransmission_delay_min: Duration::from_millis(20),
        retransmission_delay_max: Duration::from_millis(60),
        // Deafness is noticed after some of these, and a world waits for that.
        advertisement_period_max: Duration::from_millis(300),
        ..Settings::default()
    };
    if forgetful { Settings { retention, ..pauses } } else { pauses }
}

async fn orders(world: World) {
    let bank = Arc::new(Bank::watched_by(world.recorder()));
    let forgetful = world.draw(0..2) == 0;
    // Longer than any delay of the network; and where orders are placed, longer than it takes to ask again.
    let passivation_delay = Duration::from_millis(match world.draw(0..3) {
        0 => 0,
        1 => 10,
        _ => 1_000,
    });
    let [asked, told] = [1_000, 60].map(|age_min_ms| settings(forgetful, passivation_delay, age_min_ms));
    let describe = move |node: NodeBuilder| node.settings(asked.clone()).choreography(WarehouseOrder);
    world.add_node("warehouse", move |node| describe(node).role(Warehouse, Arc::new(()))).await;
    let describe = move |node: NodeBuilder| node.settings(told.clone()).choreography(WarehouseOrder);
    let (pays, charged) = (describe.clone(), bank.clone());
    world.add_node("payment", move |node| pays(node).role(Payment, charged.clone())).await;
    world.add_node("loyalty", move |node| describe(node).role(Loyalty, Arc::new(()))).await;

    let orders: Vec<Order> = (0..ORDERS).map(|id| Order { id, declined: world.draw(0..5) == 0 }).collect();
    let placed: Vec<_> = orders.iter().map(|order| tokio::spawn(place(world.clone(), order.clone()))).collect();
    let mut completed = Vec::new();
    for order in placed {
        completed.push(order.await.unwrap());
    }
    world.settle().await;

    let (warehouse, loyalty) = (world.running("warehouse").await, world.running("loyalty").await);
    let ledgers = ledgers(&warehouse, &loyalty, &bank).await;
    for (order, completed) in orders.iter().zip(&completed) {
        check_order(order, *completed, &ledgers);
    }
    world.recorder().note(format!("{completed:?} {ledgers:?} {}", bank.asked()));
}

/// Places one order until it is known to be settled, over every crash of the node it is placed at.
async fn place(world: World, order: Order) -> bool {
    let key = format!("order-{}", order.id);
    world.settled::<WarehouseOrder>("warehouse", &key, order).await.is_ok()
}

/// Each seed twice, since one seed has to be one trace.
#[test]
fn the_saga_survives_crashes_and_a_rough_network() {
    println!("{}", Simulation::new().seeds(500).twice().run(orders));
}

/// An operator's slip, a clock without a battery: what is kept for a time is kept for it, whatever a clock shows.
#[test]
fn the_saga_survives_clocks_that_are_set_by_years() {
    let ten_years = Duration::from_hours(10 * 365 * 24);
    let clocks = FaultProfile { clocks_set_max: 8, clock_error_max: ten_years, ..FaultProfile::rough() };
    println!("{}", Simulation::new().seeds(100).fault_profile(clocks).run(orders));
}
