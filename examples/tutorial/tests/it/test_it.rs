//! Chapter 5: a crash of each role at each point, and worlds in which machines and networks fail.

use std::sync::Arc;

// ANCHOR: crashes
use accompanist::prelude::*;
use accompanist::testing::{Ended, Simulation, TestSetup, World, check_crashes};
use tutorial::sale::{ACCOUNTS, BOOKS, Bank, CREDIT, PRICE, SHELF, Sale, Shop};

/// Either the books are gone and paid, or they are on the shelf and the money is on the account.
fn nothing_is_lost(sold: u32, ended: &Ended<Sale>) {
    let left = ended.read_state(Shop, |shop| SHELF.get(shop, "books")).unwrap();
    let account = ended.read_state(Bank, |bank| ACCOUNTS.get(bank, "ada")).unwrap();
    assert_eq!(left.unwrap_or(BOOKS), BOOKS - sold, "books on the shelf");
    assert_eq!(account.unwrap_or(CREDIT), CREDIT - sold * PRICE, "money on the account");
}

#[tokio::test]
async fn sale_survives_a_crash_at_each_point() {
    for (books, sold) in [(2, 2), (15, 0), (21, 0)] {
        let setup = || TestSetup::new(Services::new()).judge(move |ended| nothing_is_lost(sold, ended));
        let report = check_crashes(Sale, books, 1, setup).await.unwrap_or_else(|failure| panic!("{failure}"));
        println!("{books} books: {report:?}");
    }
}
// ANCHOR_END: crashes

// ANCHOR: worlds
async fn six_orders(world: World) {
    world.add_node("shop", |node| node.choreography(Sale).role(Shop, Arc::new(()))).await;
    world.add_node("bank", |node| node.choreography(Sale).role(Bank, Arc::new(()))).await;
    let mut sold = 0;
    for (order, books) in [("order-1", 2), ("order-2", 3), ("order-3", 9), ("order-4", 2), ("order-5", 20)] {
        // However often the shop's machine loses power.
        if world.settled::<Sale>("shop", order, books).await.is_ok() {
            sold += books;
        }
    }
    world.settle().await; // All is mended, and all sessions end.
    let left = world.running("shop").await.read_state(Shop, |shop| SHELF.get(shop, "books")).await;
    let account = world.running("bank").await.read_state(Bank, |bank| ACCOUNTS.get(bank, "ada")).await;
    assert_eq!(left.unwrap().unwrap(), Some(BOOKS - sold));
    assert_eq!(account.unwrap().unwrap(), Some(CREDIT - sold * PRICE));
}

#[test]
fn orders_survive_power_cuts_partitions_and_wrong_clocks() {
    println!("{}", Simulation::new().seeds(20).run(six_orders));
}
// ANCHOR_END: worlds
