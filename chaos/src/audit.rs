//! Judges the ledgers of all roles, and what callers were told. Pure: books in, violations out.

use std::collections::{BTreeMap, BTreeSet};

use crate::ledger::{Book, Step};
use crate::model::{Fate, Order, Outcome, RoleName};

/// An order, and all that callers were told of it.
#[derive(Debug, Clone)]
pub(crate) struct Told {
    pub(crate) order: Order,
    pub(crate) outcomes: Vec<Outcome>,
}

/// How often a step was done and compensated.
type Counts = BTreeMap<(String, Step), (u32, u32)>;

/// Checks everything; each violation is a line for people.
pub(crate) fn audit(books: &BTreeMap<RoleName, Book>, told: &BTreeMap<String, Told>) -> Vec<String> {
    let mut violations = Vec::new();
    let mut counts = Counts::new();
    for (role, book) in books {
        violations.extend(book_alone(book).into_iter().map(|text| format!("{}: {text}", role.name())));
        for entry in &book.log {
            let (done, back) = counts.entry((entry.order.clone(), entry.step)).or_default();
            *(if entry.back { back } else { done }) += 1;
        }
    }
    for ((order, step), (done, back)) in &counts {
        if *done > 1 || back > done {
            violations.push(format!("{order}: {step:?} was done {done} times and compensated {back} times"));
        }
    }
    let known: BTreeSet<_> = counts.keys().map(|(order, _)| order).collect();
    violations.extend(
        known.into_iter().filter(|order| !told.contains_key(*order)).map(|order| format!("{order} was never placed")),
    );
    for told in told.values() {
        violations.extend(order_alone(told, &counts).into_iter().map(|text| format!("{}: {text}", told.order.id)));
    }
    violations.extend(totals(books, told));
    violations
}

/// What must hold of a ledger by itself, at any time: of a copy of a store, too.
pub(crate) fn book_alone(book: &Book) -> Vec<String> {
    let mut violations = Vec::new();
    let found = book.log.len() as u64;
    if found != book.length {
        violations.push(format!("the log has {found} entries and says {}", book.length));
    }
    let computed = book.computed();
    if computed != book.balances {
        violations.push(format!("the balances are {:?}, the log gives {computed:?}", book.balances));
    }
    let sum: i64 = book.balances.values().sum();
    if sum != 0 {
        violations.push(format!("the balances add up to {sum}"));
    }
    violations
}

const STEPS: [Step; 6] = [Step::Place, Step::Reserve, Step::Hold, Step::Capture, Step::Ship, Step::Complete];

fn order_alone(told: &Told, counts: &Counts) -> Vec<String> {
    let mut violations = Vec::new();
    let Some(outcome) = told.outcomes.first() else { return vec!["nobody was told how it ended".into()] };
    if told.outcomes.iter().any(|other| other != outcome) {
        violations.push(format!("callers were told different ends: {:?}", told.outcomes));
    }
    if told.order.expected().is_some_and(|expected| expected != *outcome) {
        violations.push(format!("it ended as {outcome:?}, and is {:?}", told.order.fate));
    }
    let stands = STEPS.map(|step| {
        let (done, back) = counts.get(&(told.order.id.clone(), step)).copied().unwrap_or_default();
        i64::from(done) - i64::from(back)
    });
    let right = if *outcome == Outcome::Finished { [1; 6] } else { [0; 6] };
    if stands != right {
        violations.push(format!("callers were told {outcome:?}, and its steps {STEPS:?} stand {stands:?} times"));
    }
    violations
}

/// What all finished orders together must have moved.
fn totals(books: &BTreeMap<RoleName, Book>, told: &BTreeMap<String, Told>) -> Vec<String> {
    let finished = || told.values().filter(|told| told.outcomes.first() == Some(&Outcome::Finished));
    let balance = |role: RoleName, prefix: &str| -> i64 {
        let balances = books.get(&role).map(|book| &book.balances).into_iter().flatten();
        balances.filter(|(account, _)| account.starts_with(prefix)).map(|(_, balance)| balance).sum()
    };
    let cents: i64 = finished().map(|told| told.order.cents).sum();
    let items: i64 = finished().map(|told| told.order.quantity).sum();
    let orders = i64::try_from(finished().count()).unwrap_or(i64::MAX);
    let claims = [
        ("the bank's takings", balance(RoleName::Bank, "takings"), cents),
        ("the money that is held", balance(RoleName::Bank, "held"), 0),
        ("the money that customers have left", balance(RoleName::Bank, "funds:"), -cents),
        ("the items that are shipped", balance(RoleName::Stock, "shipped:"), items),
        ("the items that are reserved", balance(RoleName::Stock, "reserved:"), 0),
        ("the items that have left the stock", balance(RoleName::Stock, "free:"), -items),
        ("the orders that are completed", balance(RoleName::Shop, "completed"), orders),
        ("the orders that are open", balance(RoleName::Shop, "open"), 0),
    ];
    let wrong = claims.into_iter().filter(|(_, found, right)| found != right);
    wrong.map(|(what, found, right)| format!("{what}: {found}, and should be {right}")).collect()
}

/// How many orders ended by a deadline that could have been met: for people, no violation.
pub(crate) fn late(told: &BTreeMap<String, Told>) -> usize {
    let late = |told: &&Told| told.order.fate == Fate::Hurried && told.outcomes.first() == Some(&Outcome::Aborted);
    told.values().filter(late).count()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

    use super::*;
    use crate::ledger::Entry;

    fn order(id: &str, fate: Fate) -> Order {
        let (customer, item) = ("c".to_owned(), "i".to_owned());
        Order { id: id.into(), customer, item, quantity: 2, cents: 500, fate, sleep_ms: 0, deadline_ms: 0 }
    }

    /// Books in which all is well: one order finished, one was compensated.
    fn books() -> (BTreeMap<RoleName, Book>, BTreeMap<String, Told>) {
        let mut books: BTreeMap<_, _> = RoleName::ALL.into_iter().map(|role| (role, Book::default())).collect();
        let mut told = BTreeMap::new();
        for (id, fate, outcome) in [("a", Fate::Fine, Outcome::Finished), ("b", Fate::Hurried, Outcome::Aborted)] {
            let order = order(id, fate);
            for step in STEPS {
                if outcome == Outcome::Finished {
                    post(&mut books, &order, step, false);
                } else if step <= Step::Reserve {
                    post(&mut books, &order, step, false);
                    post(&mut books, &order, step, true);
                }
            }
            told.insert(id.to_owned(), Told { order, outcomes: vec![outcome, outcome] });
        }
        (books, told)
    }

    fn post(books: &mut BTreeMap<RoleName, Book>, order: &Order, step: Step, back: bool) {
        let role = match step {
            Step::Place | Step::Complete => RoleName::Shop,
            Step::Reserve | Step::Ship => RoleName::Stock,
            Step::Hold | Step::Capture => RoleName::Bank,
        };
        let Entry { from, to, amount, .. } = crate::program::entry(order, step);
        let (from, to) = if back { (to, from) } else { (from, to) };
        let entry = Entry { order: order.id.clone(), step, back, from, to, amount };
        let book = books.get_mut(&role).unwrap();
        book.log.push(entry);
        book.length += 1;
        book.balances = book.computed();
    }

    /// What the audit says after `change`.
    fn after(change: impl FnOnce(&mut BTreeMap<RoleName, Book>, &mut BTreeMap<String, Told>)) -> String {
        let (mut books, mut told) = books();
        change(&mut books, &mut told);
        audit(&books, &told).join("\n")
    }

    #[test]
    fn books_that_are_right_pass() {
        assert_eq!(after(|_, _| {}), "");
    }

    #[test]
    fn each_mistake_is_found() {
        let found = [
            (after(|books, told| post(books, &told["a"].order, Step::Hold, false)), "a: Hold was done 2 times"),
            (after(|books, told| post(books, &told["b"].order, Step::Reserve, true)), "compensated 2 times"),
            (after(|books, told| post(books, &told["b"].order, Step::Hold, false)), "stand [0, 0, 1, 0, 0, 0] times"),
            (after(|books, _| drop(books.get_mut(&RoleName::Stock).unwrap().log.pop())), "the log has"),
            (
                after(|books, _| *books.get_mut(&RoleName::Bank).unwrap().balances.get_mut("takings").unwrap() += 1),
                "add up to 1",
            ),
            (after(|_, told| told.get_mut("a").unwrap().outcomes.push(Outcome::Aborted)), "told different ends"),
            (after(|_, told| told.get_mut("a").unwrap().outcomes.clear()), "nobody was told"),
            (after(|_, told| told.get_mut("b").unwrap().order.fate = Fate::Fine), "b: it ended as Aborted"),
            (after(|_, told| drop(told.remove("a"))), "a was never placed"),
            (
                after(|_, told| told.get_mut("a").unwrap().order.cents += 1),
                "the bank's takings: 500, and should be 501",
            ),
        ];
        for (said, expected) in found {
            assert!(said.contains(expected), "`{expected}` is not in: {said}");
        }
    }
}
