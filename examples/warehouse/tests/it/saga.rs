//! The whole program in one process, over the `SQLite` services: completed, declined, out of stock.

use std::collections::BTreeMap;
use std::sync::Arc;

use accompanist::prelude::*;
use warehouse::model::{CARD_DECLINED, ITEM_SOLD_OUT};
use warehouse::sqlite::SqliteService;
use warehouse::{
    Book, Check, Effect, Loyalty, NoService, Order, Outcome, Payment, Placed, Warehouse, WarehouseOrder,
    WarehouseOrderSqlite, check,
};

/// Runs `order` against three databases; gives the answer and what the ledgers say.
async fn run_on_sqlite(order: &Order) -> (Result<warehouse::Shipment, Abort>, Book) {
    let folder = tempfile::tempdir().unwrap();
    let mut services = Vec::new();
    for name in ["warehouse", "payment", "loyalty"] {
        services.push(Arc::new(SqliteService::open(folder.path().join(name)).await.unwrap()));
    }
    let wired = Services::new()
        .with(Warehouse, services[0].clone())
        .with(Payment, services[1].clone())
        .with(Loyalty, services[2].clone());
    let answer = run_local(WarehouseOrderSqlite, order.clone(), &wired).await;
    let mut book = Book::default();
    for service in &services {
        book.absorb(service.read_book().await.unwrap());
        service.close().await;
    }
    (answer, book)
}

/// How often each effect was applied and compensated.
fn counts(book: &Book, order: &Order) -> [(u32, u32); 4] {
    Effect::ALL.map(|effect| {
        book.entries.get(&(effect, order.id.clone())).map_or((0, 0), |entry| (entry.applied, entry.compensated))
    })
}

fn assert_checked(book: &Book, order: &Order, answered: Outcome) {
    let placed = Placed { expected: order.expected_outcome(), answered: Some(answered) };
    let checks = check(book, Some(&BTreeMap::from([(order.id.clone(), placed)])));
    assert!(checks.iter().all(Check::holds), "{checks:?}");
}

#[tokio::test]
async fn an_order_completes() {
    let order = Order::sample(1);
    let (answer, book) = run_on_sqlite(&order).await;
    let shipment = answer.unwrap();
    assert_eq!(shipment.points, order.quantity * order.unit_price_cents / 100);
    assert_eq!(counts(&book, &order), [(1, 0); 4]);
    assert_checked(&book, &order, Outcome::Completed);
}

#[tokio::test]
async fn a_declined_card_takes_the_reservation_back() {
    let order = Order { card: CARD_DECLINED.into(), ..Order::sample(2) };
    let (answer, book) = run_on_sqlite(&order).await;
    assert_eq!(answer.unwrap_err().code(), "card-declined");
    assert_eq!(counts(&book, &order), [(1, 1), (0, 0), (0, 0), (0, 0)]);
    assert_checked(&book, &order, Outcome::Compensated);
}

#[tokio::test]
async fn an_order_out_of_stock_changes_nothing() {
    let order = Order { item: ITEM_SOLD_OUT.into(), ..Order::sample(3) };
    let (answer, book) = run_on_sqlite(&order).await;
    assert_eq!(answer.unwrap_err().code(), "out-of-stock");
    assert_eq!(book, Book::default());
    assert_checked(&book, &order, Outcome::Compensated);
}

/// One node plays all roles, on the built-in state.
#[tokio::test(flavor = "multi_thread")]
async fn the_built_in_ledger_agrees() {
    use accompanist::store::MemoryDisk;
    use accompanist::transport::LocalNetwork;

    let node = Node::builder(NodeId::new("all").unwrap())
        .store(MemoryDisk::default().open().unwrap())
        .transport(LocalNetwork::default())
        .role(Warehouse, Arc::new(NoService))
        .role(Payment, Arc::new(NoService))
        .role(Loyalty, Arc::new(NoService))
        .choreography(WarehouseOrder)
        .start()
        .await
        .unwrap();
    let good = Order::sample(1);
    let declined = Order { card: CARD_DECLINED.into(), ..Order::sample(2) };
    let sold_out = Order { item: ITEM_SOLD_OUT.into(), ..Order::sample(3) };
    let mut placed = BTreeMap::new();
    for order in [&good, &declined, &sold_out] {
        let session = node.start(WarehouseOrder, order.clone()).key(&order.id).await.unwrap();
        let answered = match session.settled().await {
            Ok(_) => Outcome::Completed,
            Err(SessionError::Aborted(_)) => Outcome::Compensated,
            Err(error) => panic!("{error}"),
        };
        placed.insert(order.id.clone(), Placed { expected: order.expected_outcome(), answered: Some(answered) });
    }
    let mut book = node.read_state(Warehouse, warehouse::built_in::read_book).await.unwrap().unwrap();
    book.absorb(node.read_state(Payment, warehouse::built_in::read_book).await.unwrap().unwrap());
    book.absorb(node.read_state(Loyalty, warehouse::built_in::read_book).await.unwrap().unwrap());
    node.shutdown().await;
    assert_eq!(counts(&book, &good), [(1, 0); 4]);
    assert_eq!(counts(&book, &declined), [(1, 1), (0, 0), (0, 0), (0, 0)]);
    assert_eq!(counts(&book, &sold_out), [(0, 0); 4]);
    let checks = check(&book, Some(&placed));
    assert!(checks.iter().all(Check::holds), "{checks:?}");
}

/// Both forms end alike in one process without any store.
#[tokio::test]
async fn the_built_in_form_runs_without_a_store() {
    let services = Services::new()
        .with(Warehouse, Arc::new(NoService))
        .with(Payment, Arc::new(NoService))
        .with(Loyalty, Arc::new(NoService));
    let order = Order::sample(1);
    let shipment = run_local(WarehouseOrder, order.clone(), &services).await.unwrap();
    assert_eq!(shipment.tracking, format!("parcel-{}", order.id));
    let declined = Order { card: CARD_DECLINED.into(), ..order };
    let abort = run_local(WarehouseOrder, declined, &services).await.unwrap_err();
    assert_eq!(abort.code(), "card-declined");
}
