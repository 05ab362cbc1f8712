//! The check finds violations that are planted in sound ledgers.

use std::collections::BTreeMap;

use warehouse::{Bill, Book, Effect, Order, Outcome, Placed, Points, Posting, Receipt, Reservation, check};

type Orders = BTreeMap<String, Placed>;

fn post(book: &mut Book, posting: &Posting) {
    let entry_key = (posting.effect, posting.order_id.clone());
    let balance_key = (posting.effect, posting.account.clone());
    let (entry, balance) =
        posting.apply(book.entries.get(&entry_key).cloned(), book.balances.get(&balance_key).copied()).unwrap();
    book.entries.insert(entry_key, entry);
    book.balances.insert(balance_key, balance);
}

fn take_back(book: &mut Book, effect: Effect, order: &str) {
    let key = (effect, order.to_owned());
    let entry = book.entries.get(&key).cloned().unwrap_or_default();
    let account = (effect, entry.account.clone());
    let (entry, balance) = entry.take_back(effect, book.balances.get(&account).copied());
    book.entries.insert(key, entry);
    book.balances.insert(account, balance);
}

/// Ten completed orders, and one that was reserved and compensated.
fn sound() -> (Book, Orders) {
    let (mut book, mut orders) = (Book::default(), Orders::new());
    for number in 1..=10 {
        let order = Order::sample(number);
        let bill = Bill::new(&order, &Reservation::of(&order));
        let points = Points::of(&Receipt::of(&bill));
        post(&mut book, &Posting::reserve(&order));
        post(&mut book, &Posting::charge(&bill).unwrap());
        post(&mut book, &Posting::award(&Receipt::of(&bill)));
        let reserved = book.entries.get(&(Effect::Reserve, order.id.clone())).cloned();
        post(&mut book, &Posting::ship(&points, reserved.as_ref()).unwrap());
        let placed = Placed { expected: Outcome::Completed, answered: Some(Outcome::Completed) };
        orders.insert(order.id, placed);
    }
    post(&mut book, &Posting::reserve(&Order::sample(11)));
    take_back(&mut book, Effect::Reserve, "order-11");
    let placed = Placed { expected: Outcome::Compensated, answered: Some(Outcome::Compensated) };
    orders.insert("order-11".into(), placed);
    (book, orders)
}

/// Plants something, and expects that exactly these checks fail, naming `order`.
fn finds(order: &str, expected: &[&str], plant: impl FnOnce(&mut Book, &mut Orders)) {
    let (mut book, mut orders) = sound();
    plant(&mut book, &mut orders);
    let failed: Vec<_> = check(&book, Some(&orders)).into_iter().filter(|check| !check.holds()).collect();
    let names: Vec<_> = failed.iter().map(|check| check.name).collect();
    assert_eq!(names, expected, "{failed:?}");
    for check in failed {
        assert!(check.violations.iter().all(|violation| violation.contains(order)), "{check:?}");
    }
}

#[test]
fn sound_ledgers_pass() {
    finds("", &[], |_, _| {});
}

#[test]
fn a_step_done_twice() {
    let reserve = Posting::reserve(&Order::sample(3));
    finds("order-3", &["no step twice", "all or compensated"], |book, _| post(book, &reserve));
}

#[test]
fn a_step_compensated_twice() {
    finds("order-11", &["no step twice", "all or compensated", "every answer right"], |book, _| {
        take_back(book, Effect::Reserve, "order-11");
    });
}

#[test]
fn a_step_committed_and_compensated_twice() {
    // The sums are right: only the counts tell.
    let reserve = Posting::reserve(&Order::sample(11));
    finds("order-11", &["no step twice"], |book, _| {
        post(book, &reserve);
        take_back(book, Effect::Reserve, "order-11");
    });
}

#[test]
fn half_an_order() {
    finds("order-5", &["all or compensated", "nothing lost"], |book, _| take_back(book, Effect::Ship, "order-5"));
}

#[test]
fn an_order_without_compensation() {
    let reserve = Posting::reserve(&Order::sample(12));
    finds("order-12", &["all or compensated", "every answer right"], |book, orders| {
        post(book, &reserve);
        orders
            .insert("order-12".into(), Placed { expected: Outcome::Compensated, answered: Some(Outcome::Compensated) });
    });
}

#[test]
fn a_lost_order() {
    finds("order-7", &["nothing lost"], |book, _| {
        for effect in Effect::ALL {
            let entry = book.entries.remove(&(effect, "order-7".into())).unwrap();
            let balance = book.balances.get_mut(&(effect, entry.account)).unwrap();
            *balance -= effect.signed(entry.amount);
        }
    });
}

#[test]
fn an_order_never_answered() {
    finds("order-7", &["nothing lost"], |_, orders| orders.get_mut("order-7").unwrap().answered = None);
}

#[test]
fn a_wrong_answer() {
    finds("order-7", &["every answer right"], |_, orders| {
        orders.get_mut("order-7").unwrap().expected = Outcome::Compensated;
    });
}

#[test]
fn a_wrong_balance() {
    finds("milk-jug", &["balances agree with entries"], |book, _| {
        *book.balances.get_mut(&(Effect::Reserve, "milk-jug".into())).unwrap() += 1;
    });
}
