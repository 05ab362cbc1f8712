//! A crash of each role at each point of an order, and at each pair of points; and a look at the program from outside.

use std::collections::BTreeMap;
use std::time::Duration;

use accompanist::prelude::*;
use accompanist::testing::{Diagram, Ended, TestSetup, check_crashes, keep_diagram, lint};
use warehouse::built_in::read_book;
use warehouse::model::{CARD_DECLINED, ITEM_SOLD_OUT};
use warehouse::{Book, Check, Loyalty, NoService, Order, Outcome, Payment, Placed, Warehouse, WarehouseOrder, check};

fn services() -> Services {
    let none = std::sync::Arc::new(NoService);
    Services::new().with(Warehouse, none.clone()).with(Payment, none.clone()).with(Loyalty, none)
}

fn judge(order: &Order, ended: &Ended<WarehouseOrder>) {
    let mut book = Book::default();
    book.absorb(ended.read_state(Warehouse, read_book).unwrap());
    book.absorb(ended.read_state(Payment, read_book).unwrap());
    book.absorb(ended.read_state(Loyalty, read_book).unwrap());
    let answered = Some(if ended.output().is_ok() { Outcome::Completed } else { Outcome::Compensated });
    let placed = Placed { expected: order.expected_outcome(), answered };
    let checks = check(&book, Some(&BTreeMap::from([(order.id.clone(), placed)])));
    assert!(checks.iter().all(Check::holds), "{checks:?}");
}

#[tokio::test]
async fn an_order_survives_each_pair_of_crashes() {
    let declined = Order { card: CARD_DECLINED.into(), ..Order::sample(2) };
    let sold_out = Order { item: ITEM_SOLD_OUT.into(), ..Order::sample(3) };
    for order in [Order::sample(1), declined, sold_out] {
        let scene = || {
            let order = order.clone();
            TestSetup::new(services()).judge(move |ended| judge(&order, ended))
        };
        let report = check_crashes(WarehouseOrder, order.clone(), 2, scene).await;
        let report = report.unwrap_or_else(|failure| panic!("{failure}"));
        println!("{}: {report:?}", order.id);
        assert!(report.points > 50 && report.aborted == 0, "{report:?}");
    }
}

#[tokio::test]
async fn the_picture_in_the_readme_is_that_of_the_program() {
    let declined = Order { card: CARD_DECLINED.into(), ..Order::sample(2) };
    let sold_out = Order { item: ITEM_SOLD_OUT.into(), ..Order::sample(3) };
    let cases =
        [("the card is good", Order::sample(1)), ("the card is declined", declined), ("nothing is left", sold_out)];
    let cases = cases.map(|(label, order)| (label, order, TestSetup::new(services())));
    let diagram = Diagram::of_cases(WarehouseOrder, cases).await.unwrap_or_else(|failure| panic!("{failure}"));
    keep_diagram(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md"), "order", &diagram);
}

#[tokio::test]
async fn the_program_has_no_lint_findings() {
    let scene = TestSetup::new(services()).deadline(Duration::from_hours(1));
    let findings = lint(WarehouseOrder, Order::sample(1), scene).await.unwrap_or_else(|failure| panic!("{failure}"));
    assert_eq!(findings, []);
}
