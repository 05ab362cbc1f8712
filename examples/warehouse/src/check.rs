//! Judges the ledgers of all roles after the fact. Each check can fail, and says which order broke it.
//!
//! Pure: a [`Book`] in, violations out. It knows what must hold, not how the runtime makes it hold.

use std::collections::{BTreeMap, BTreeSet};

use crate::ledger::{Book, Effect, Entry};
use crate::model::Outcome;

/// An order as its source knows it.
#[derive(Debug, Clone, Copy)]
pub struct Placed {
    /// How it has to end.
    pub expected: Outcome,
    /// How the system said it ended, if it did.
    pub answered: Option<Outcome>,
}

/// One property, and what breaks it.
#[derive(Debug, Clone)]
pub struct Check {
    /// What is claimed.
    pub name: &'static str,
    /// One line for each violation; none when the claim holds.
    pub violations: Vec<String>,
}

impl Check {
    /// Whether the claim holds.
    pub fn holds(&self) -> bool {
        self.violations.is_empty()
    }
}

/// Checks `book`; what needs to know the orders is checked when they are `placed`.
pub fn check(book: &Book, placed: Option<&BTreeMap<String, Placed>>) -> Vec<Check> {
    let mut checks = vec![
        Check { name: "no step twice", violations: repeated(book) },
        Check { name: "all or compensated", violations: halves(book) },
        Check { name: "balances agree with entries", violations: wrong_balances(book) },
    ];
    if let Some(placed) = placed {
        checks.push(Check { name: "nothing lost", violations: lost(book, placed) });
        checks.push(Check { name: "every answer right", violations: wrong_answers(book, placed) });
    }
    checks
}

fn repeated(book: &Book) -> Vec<String> {
    let twice = |entry: &Entry| entry.applied > 1 || entry.compensated > 1 || entry.compensated > entry.applied;
    let found = book.entries.iter().filter(|(_, entry)| twice(entry));
    found
        .map(|((effect, order), entry)| {
            let (applied, compensated) = (entry.applied, entry.compensated);
            format!("{order}: {} was applied {applied} times and compensated {compensated} times", effect.name())
        })
        .collect()
}

/// How often each effect of an order stands.
fn status(book: &Book, order: &str) -> [i64; 4] {
    Effect::ALL.map(|effect| book.entries.get(&(effect, order.to_owned())).map_or(0, Entry::net))
}

fn describe(status: [i64; 4]) -> String {
    let parts = Effect::ALL.iter().zip(status).map(|(effect, times)| format!("{} {times}", effect.name()));
    parts.collect::<Vec<_>>().join(", ")
}

fn orders_of(book: &Book) -> BTreeSet<&String> {
    book.entries.keys().map(|(_, order)| order).collect()
}

fn halves(book: &Book) -> Vec<String> {
    let status = orders_of(book).into_iter().map(|order| (order, status(book, order)));
    let half = status.filter(|(_, times)| *times != [0; 4] && *times != [1; 4]);
    half.map(|(order, times)| format!("{order} stands half done: {}", describe(times))).collect()
}

fn wrong_balances(book: &Book) -> Vec<String> {
    let mut computed: BTreeMap<_, i64> = BTreeMap::new();
    for ((effect, _), entry) in &book.entries {
        let account = (*effect, entry.account.clone());
        *computed.entry(account).or_default() += effect.signed(entry.amount) * entry.net();
    }
    let accounts: BTreeSet<_> = computed.keys().chain(book.balances.keys()).collect();
    let judged = accounts.into_iter().map(|account| {
        let initial = account.0.balance_initial(&account.1);
        let sum = initial + computed.get(account).copied().unwrap_or(0);
        (account, sum, book.balances.get(account).copied().unwrap_or(initial))
    });
    let wrong = judged.filter(|(_, sum, balance)| sum != balance);
    wrong
        .map(|((effect, account), sum, balance)| {
            format!("{} of {account}: the balance is {balance}, the entries give {sum}", effect.name())
        })
        .collect()
}

fn lost(book: &Book, placed: &BTreeMap<String, Placed>) -> Vec<String> {
    let judged = placed.iter().filter_map(|(order, placed)| match placed.answered {
        None => Some(format!("{order} was never answered: {}", describe(status(book, order)))),
        Some(Outcome::Completed) => {
            let times = status(book, order);
            times.contains(&0).then(|| format!("{order} was answered as completed, and has: {}", describe(times)))
        }
        Some(Outcome::Compensated) => None,
    });
    judged.collect()
}

fn wrong_answers(book: &Book, placed: &BTreeMap<String, Placed>) -> Vec<String> {
    let mut wrong = Vec::new();
    for (order, placed) in placed {
        let Some(answered) = placed.answered else { continue };
        let times = status(book, order);
        if answered != placed.expected {
            wrong.push(format!("{order} was answered as {answered:?}, and should be {:?}", placed.expected));
        }
        if answered == Outcome::Compensated && times != [0; 4] {
            wrong.push(format!("{order} was answered as compensated, and has: {}", describe(times)));
        }
    }
    let unknown = orders_of(book).into_iter().filter(|order| !placed.contains_key(*order));
    wrong.extend(unknown.map(|order| format!("{order} was never placed")));
    wrong
}
