//! What the `SQLite` service owes under one idempotency key.

use warehouse::model::{CARD_DECLINED, ITEM_SOLD_OUT};
use warehouse::sqlite::SqliteService;
use warehouse::{Bill, Check, Effect, Order, PaymentApi, Points, Reservation, WarehouseApi, check};

struct Bench {
    service: SqliteService,
    folder: tempfile::TempDir,
}

impl Bench {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { service: SqliteService::open(folder.path().join("service")).await.unwrap(), folder }
    }

    /// As after a crash: the same file, opened again.
    async fn reopen(&mut self) {
        self.service.close().await;
        self.service = SqliteService::open(self.folder.path().join("service")).await.unwrap();
    }

    async fn assert_counts(&self, effect: Effect, order: &Order, expected: (u32, u32)) {
        let book = self.service.read_book().await.unwrap();
        let found = book.entries.get(&(effect, order.id.clone()));
        assert_eq!(found.map_or((0, 0), |entry| (entry.applied, entry.compensated)), expected);
        let balances = check(&book, None).into_iter().find(|check| check.name.contains("balances")).unwrap();
        assert!(Check::holds(&balances), "{balances:?}");
    }
}

#[tokio::test]
async fn a_commit_acts_once_and_repeats_its_answer() {
    let (mut bench, order) = (Bench::new().await, Order::sample(1));
    let first = bench.service.reserve("key", &order).await.unwrap();
    bench.reopen().await;
    // The answer is the recorded one, not one made out of what is asked now.
    let other = Order { quantity: 99, ..order.clone() };
    assert_eq!(bench.service.reserve("key", &other).await.unwrap(), first);
    bench.assert_counts(Effect::Reserve, &order, (1, 0)).await;
}

#[tokio::test]
async fn a_refusal_is_recorded_too() {
    let (mut bench, order) = (Bench::new().await, Order::sample(1));
    let bill = |card: &str| Bill::new(&Order { card: card.into(), ..order.clone() }, &Reservation::of(&order));
    assert_eq!(bench.service.charge("key", &bill(CARD_DECLINED)).await.unwrap_err().code(), "card-declined");
    bench.reopen().await;
    assert_eq!(bench.service.charge("key", &bill(&order.card)).await.unwrap_err().code(), "card-declined");
    bench.assert_counts(Effect::Charge, &order, (0, 0)).await;
}

#[tokio::test]
async fn a_compensation_takes_effect_once() {
    let (mut bench, order) = (Bench::new().await, Order::sample(1));
    bench.service.reserve("key", &order).await.unwrap();
    bench.service.release("key", &order.id).await.unwrap();
    bench.reopen().await;
    bench.service.release("key", &order.id).await.unwrap();
    bench.assert_counts(Effect::Reserve, &order, (1, 1)).await;
}

#[tokio::test]
async fn a_commit_after_its_compensation_is_refused() {
    let (bench, order) = (Bench::new().await, Order::sample(1));
    // What is not known was not committed, or is lost: that is no "nothing to take back".
    assert!(bench.service.release("key", &order.id).await.unwrap_err().is_for_operator());
    bench.assert_counts(Effect::Reserve, &order, (0, 0)).await;
    bench.service.reserve("other key", &order).await.unwrap();
    bench.service.release("other key", &order.id).await.unwrap();
    assert_eq!(bench.service.reserve("other key", &order).await.unwrap_err().code(), "compensated");
    bench.assert_counts(Effect::Reserve, &order, (1, 1)).await;
}

#[tokio::test]
async fn two_keys_act_twice_and_the_check_sees_it() {
    let (bench, order) = (Bench::new().await, Order::sample(1));
    bench.service.reserve("one", &order).await.unwrap();
    bench.service.reserve("two", &order).await.unwrap();
    bench.assert_counts(Effect::Reserve, &order, (2, 0)).await;
    let book = bench.service.read_book().await.unwrap();
    assert!(check(&book, None).iter().any(|check| check.name == "no step twice" && !check.holds()));
}

#[tokio::test]
async fn only_what_is_reserved_ships() {
    let (bench, order) = (Bench::new().await, Order::sample(1));
    let cleared = Points { order_id: order.id.clone(), points: 1 };
    assert_eq!(bench.service.ship("early", &cleared).await.unwrap_err().code(), "not-reserved");
    bench.service.reserve("reserve", &order).await.unwrap();
    bench.service.ship("ship", &cleared).await.unwrap();
    bench.assert_counts(Effect::Ship, &order, (1, 0)).await;
    let sold_out = Order { item: ITEM_SOLD_OUT.into(), id: "other".into(), ..order };
    assert_eq!(bench.service.reserve("sold out", &sold_out).await.unwrap_err().code(), "out-of-stock");
}
