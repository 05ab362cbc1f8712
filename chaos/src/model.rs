//! What the roles talk about: orders, and how each of them has to end.
//!
//! Plain data. Next: [`crate::program`].

use accompanist::prelude::*;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// Takes the orders.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shop;

/// Has the items.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stock;

/// Has the money.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bank;

impl Role for Shop {
    const NAME: &'static str = "shop";
    type Service = ();
}

impl Role for Stock {
    const NAME: &'static str = "stock";
    type Service = ();
}

impl Role for Bank {
    const NAME: &'static str = "bank";
    type Service = ();
}

/// One of the three roles, and the node that plays it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum RoleName {
    /// Takes the orders
    Shop,
    /// Has the items
    Stock,
    /// Has the money
    Bank,
}

impl RoleName {
    /// All of them.
    pub(crate) const ALL: [Self; 3] = [Self::Shop, Self::Stock, Self::Bank];

    /// The name of the role, and of its node.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Shop => Shop::NAME,
            Self::Stock => Stock::NAME,
            Self::Bank => Bank::NAME,
        }
    }
}

/// What is drawn for an order, so that it ends one way or the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Fate {
    /// Nothing is in its way.
    Fine,
    /// The stock has none of it: refused at the second step.
    OutOfStock,
    /// The bank holds no money for it: refused at the third step.
    Declined,
    /// The bank refuses at the pivot, when all else is done.
    RefusedAtPivot,
    /// It has a deadline, and may or may not be in time.
    Hurried,
}

/// How an order ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Outcome {
    /// All steps are committed.
    Finished,
    /// It was aborted, and what was committed is compensated.
    Aborted,
}

/// What a customer wants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Order {
    /// Its id: the idempotency key of the whole order.
    pub(crate) id: String,
    pub(crate) customer: String,
    pub(crate) item: String,
    pub(crate) quantity: i64,
    pub(crate) cents: i64,
    pub(crate) fate: Fate,
    /// How long the stock waits before the pivot, in milliseconds; 0 is not at all.
    pub(crate) sleep_ms: u64,
    /// When it is given up, in milliseconds after its start; only of a hurried one.
    pub(crate) deadline_ms: u64,
}

/// One order in so many sleeps before the pivot.
const SLEEPS_ONE_IN: u32 = 10;

impl Order {
    /// Draws an order.
    pub(crate) fn draw(number: u32, random: &mut fastrand::Rng) -> Self {
        let fate = match random.u32(0..100) {
            0..=5 => Fate::OutOfStock,
            6..=13 => Fate::Declined,
            14..=19 => Fate::RefusedAtPivot,
            20..=34 => Fate::Hurried,
            _ => Fate::Fine,
        };
        let sleep_ms = if random.u32(0..SLEEPS_ONE_IN) == 0 { random.u64(1..400) } else { 0 };
        let quantity = random.i64(1..=5);
        Self {
            id: format!("order-{number}"),
            customer: format!("customer-{}", random.u32(0..20)),
            item: format!("item-{}", random.u32(0..8)),
            quantity,
            cents: quantity * random.i64(100..5_000),
            fate,
            sleep_ms,
            deadline_ms: if fate == Fate::Hurried { random.u64(50..6_000) } else { 0 },
        }
    }

    /// How it has to end; `None` when either end is right.
    pub(crate) fn expected(&self) -> Option<Outcome> {
        match self.fate {
            Fate::Fine => Some(Outcome::Finished),
            Fate::OutOfStock | Fate::Declined | Fate::RefusedAtPivot => Some(Outcome::Aborted),
            Fate::Hurried => None,
        }
    }
}
