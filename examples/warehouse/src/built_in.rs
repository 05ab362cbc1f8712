//! The steps on the built-in state: plain functions whose changes are atomic with the runtime's own records.
//!
//! No idempotency keys and no care for crashes here: each step counts on being run exactly once.

use accompanist::prelude::*;

use crate::ledger::{Book, Effect, Entry, Key, Posting};
use crate::model::{Bill, Order, Points, Receipt, Reservation, Shipment};
use crate::roles::{Loyalty, Payment, Warehouse};

/// By effect and order.
const ENTRIES: Table<(String, String), Entry> = Table::new("entries");
/// By effect and account.
const BALANCES: Table<(String, String), i64> = Table::new("balances");

fn post(state: &mut State<'_>, posting: &Posting) -> Result<(), Abort> {
    let effect = posting.effect.name();
    let (entry_key, balance_key) = ((effect, &posting.order_id), (effect, &posting.account));
    let (entry, balance) = posting.apply(ENTRIES.get(state, entry_key)?, BALANCES.get(state, balance_key)?)?;
    ENTRIES.put(state, entry_key, &entry)?;
    BALANCES.put(state, balance_key, &balance)
}

fn take_back(state: &mut State<'_>, effect: Effect, order_id: &str) -> Result<(), Retry> {
    let entry_key = (effect.name(), order_id);
    // Taking back what never was makes an entry too, for the check to find.
    let entry = ENTRIES.get(state, entry_key)?.unwrap_or_default();
    let account = entry.account.clone();
    let balance_key = (effect.name(), &account);
    let (entry, balance) = entry.take_back(effect, BALANCES.get(state, balance_key)?);
    ENTRIES.put(state, entry_key, &entry)?;
    Ok(BALANCES.put(state, balance_key, &balance)?)
}

/// Reads the ledger of one role.
///
/// # Errors
/// When the store cannot be read.
pub fn read_book(state: &State<'_>) -> Result<Book, Abort> {
    let entries = ENTRIES.range(state, ..).map(by_effect).collect::<Result<_, _>>()?;
    Ok(Book { entries, balances: BALANCES.range(state, ..).map(by_effect).collect::<Result<_, _>>()? })
}

fn by_effect<T>(row: Result<((String, String), T), Abort>) -> Result<(Key, T), Abort> {
    let ((effect, name), value) = row?;
    let strange = || Abort::new("ledger", format!("the ledger has a strange effect `{effect}`"));
    Ok(((Effect::from_name(&effect).ok_or_else(strange)?, name), value))
}

/// Takes items out of the stock.
#[derive(Debug, Clone, Copy)]
pub struct Reserve;

impl LocalTransaction for Reserve {
    const NAME: &'static str = "reserve";
    type Role = Warehouse;
    type Input = Order;
    type Output = Reservation;

    fn commit(&self, state: &mut State<'_>, order: &Order) -> Result<Reservation, Abort> {
        post(state, &Posting::reserve(order))?;
        Ok(Reservation::of(order))
    }
    fn compensate(&self, state: &mut State<'_>, order: &Order, _: &Reservation) -> Result<(), Retry> {
        take_back(state, Effect::Reserve, &order.id)
    }
}

/// Charges the card.
#[derive(Debug, Clone, Copy)]
pub struct Charge;

impl LocalTransaction for Charge {
    const NAME: &'static str = "charge";
    type Role = Payment;
    type Input = Bill;
    type Output = Receipt;

    fn commit(&self, state: &mut State<'_>, bill: &Bill) -> Result<Receipt, Abort> {
        post(state, &Posting::charge(bill)?)?;
        Ok(Receipt::of(bill))
    }
    fn compensate(&self, state: &mut State<'_>, bill: &Bill, _: &Receipt) -> Result<(), Retry> {
        take_back(state, Effect::Charge, &bill.order_id)
    }
}

/// Awards points.
#[derive(Debug, Clone, Copy)]
pub struct Award;

impl LocalTransaction for Award {
    const NAME: &'static str = "award";
    type Role = Loyalty;
    type Input = Receipt;
    type Output = Points;

    fn commit(&self, state: &mut State<'_>, receipt: &Receipt) -> Result<Points, Abort> {
        post(state, &Posting::award(receipt))?;
        Ok(Points::of(receipt))
    }
    fn compensate(&self, state: &mut State<'_>, receipt: &Receipt, _: &Points) -> Result<(), Retry> {
        take_back(state, Effect::Award, &receipt.order_id)
    }
}

/// Sends the items off.
#[derive(Debug, Clone, Copy)]
pub struct Ship;

impl LocalTransaction for Ship {
    const NAME: &'static str = "ship";
    type Role = Warehouse;
    type Input = Points;
    type Output = Shipment;

    fn commit(&self, state: &mut State<'_>, cleared: &Points) -> Result<Shipment, Abort> {
        let reserved = ENTRIES.get(state, (Effect::Reserve.name(), &cleared.order_id))?;
        post(state, &Posting::ship(cleared, reserved.as_ref())?)?;
        Ok(Shipment::of(cleared))
    }
    fn compensate(&self, state: &mut State<'_>, cleared: &Points, _: &Shipment) -> Result<(), Retry> {
        take_back(state, Effect::Ship, &cleared.order_id)
    }
}
