//! What the steps did: entries with counts, and balances that must agree with them.
//!
//! Pure: where entries are kept is the business of [`crate::built_in`] and [`crate::sqlite`]. An entry counts
//! how often its effect was applied and compensated, and nothing here prevents a second time: if the runtime
//! repeated a step, the ledger would show it.

use std::collections::BTreeMap;

use accompanist::Abort;
use serde::{Deserialize, Serialize};

use crate::model::{Bill, CARD_DECLINED, Order, Points, Receipt, stock_initial};

/// What a step does to the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    /// Takes items out of the stock.
    Reserve,
    /// Takes money from a card.
    Charge,
    /// Gives points to a customer.
    Award,
    /// Sends items off.
    Ship,
}

impl Effect {
    /// All of them, in the order of the saga.
    pub const ALL: [Self; 4] = [Self::Reserve, Self::Charge, Self::Award, Self::Ship];

    /// Its name, which ledgers keep.
    pub fn name(self) -> &'static str {
        match self {
            Self::Reserve => "reserve",
            Self::Charge => "charge",
            Self::Award => "award",
            Self::Ship => "ship",
        }
    }

    /// The effect of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|effect| effect.name() == name)
    }

    /// The balance of `account` before anything happened.
    pub fn balance_initial(self, account: &str) -> i64 {
        if self == Self::Reserve { stock_initial(account) } else { 0 }
    }

    /// What an amount of it does to a balance: reserving takes from the stock, all else adds up.
    pub fn signed(self, amount: i64) -> i64 {
        if self == Self::Reserve { -amount } else { amount }
    }
}

/// An effect to apply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Posting {
    /// Which.
    pub effect: Effect,
    /// For which order.
    pub order_id: String,
    /// Whose balance changes: an item's or a customer's.
    pub account: String,
    /// By how much.
    pub amount: i64,
}

impl Posting {
    /// Takes what `order` wants out of the stock.
    pub fn reserve(order: &Order) -> Self {
        Self::new(Effect::Reserve, &order.id, &order.item, i64::from(order.quantity))
    }

    /// Charges `bill`, unless the card is declined.
    pub fn charge(bill: &Bill) -> Result<Self, Abort> {
        if bill.card == CARD_DECLINED {
            return Err(Abort::new("card-declined", "the card was declined"));
        }
        Ok(Self::new(Effect::Charge, &bill.order_id, &bill.customer, i64::from(bill.amount_cents)))
    }

    /// Awards points for `receipt`.
    pub fn award(receipt: &Receipt) -> Self {
        let points = Points::of(receipt).points;
        Self::new(Effect::Award, &receipt.order_id, &receipt.customer, i64::from(points))
    }

    /// Ships what was reserved for a cleared order.
    pub fn ship(cleared: &Points, reserved: Option<&Entry>) -> Result<Self, Abort> {
        match reserved {
            Some(entry) if entry.net() > 0 => {
                Ok(Self::new(Effect::Ship, &cleared.order_id, &entry.account, entry.amount))
            }
            _ => Err(Abort::new("not-reserved", format!("nothing is reserved for {}", cleared.order_id))),
        }
    }

    fn new(effect: Effect, order_id: &str, account: &str, amount: i64) -> Self {
        Self { effect, order_id: order_id.into(), account: account.into(), amount }
    }

    /// The entry and the balance after this posting, out of those before it.
    pub fn apply(&self, entry: Option<Entry>, balance: Option<i64>) -> Result<(Entry, i64), Abort> {
        let before = balance.unwrap_or_else(|| self.effect.balance_initial(&self.account));
        let after = before + self.effect.signed(self.amount);
        if after < 0 {
            return Err(Abort::new("out-of-stock", format!("there are {before} of {}", self.account)));
        }
        let entry =
            entry.unwrap_or(Entry { account: self.account.clone(), amount: self.amount, applied: 0, compensated: 0 });
        Ok((Entry { applied: entry.applied + 1, ..entry }, after))
    }
}

/// What became of one effect for one order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Whose balance it changed.
    pub account: String,
    /// By how much each time.
    pub amount: i64,
    /// How often it was applied.
    pub applied: u32,
    /// How often it was compensated.
    pub compensated: u32,
}

impl Entry {
    /// How often it stands: applied less taken back.
    pub fn net(&self) -> i64 {
        i64::from(self.applied) - i64::from(self.compensated)
    }

    /// This entry after `effect` was compensated, and the balance, out of the one before.
    #[must_use]
    pub fn take_back(self, effect: Effect, balance: Option<i64>) -> (Self, i64) {
        let before = balance.unwrap_or_else(|| effect.balance_initial(&self.account));
        let after = before - effect.signed(self.amount);
        (Self { compensated: self.compensated + 1, ..self }, after)
    }
}

/// An effect and the order or account it concerns.
pub type Key = (Effect, String);

/// All that ledgers hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Book {
    /// By effect and order id.
    pub entries: BTreeMap<Key, Entry>,
    /// By effect and account.
    pub balances: BTreeMap<Key, i64>,
}

impl Book {
    /// Adds the ledger of another role.
    pub fn absorb(&mut self, other: Self) {
        self.entries.extend(other.entries);
        self.balances.extend(other.balances);
    }
}
