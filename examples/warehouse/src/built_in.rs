//! The steps on the built-in state: plain functions whose changes are atomic with the runtime's own records.
//!
//! No idempotency keys and no care for crashes here: each step counts on being run exactly once.

use accompanist::prelude::*;

use crate::ledger::{Book, Effect, Entry, Key, Posting};
use crate::model::{Bill, Order, Points, Receipt, Reservation, Shipment};
use crate::roles::{Loyalty, Payment, Warehouse};

const ENTRIES: &str = "entries";
const BALANCES: &str = "balances";

fn key(effect: Effect, name: &str) -> String {
    format!("{}/{name}", effect.name())
}

fn post(state: &mut State<'_>, posting: &Posting) -> Result<(), Abort> {
    let (entry_key, balance_key) = (key(posting.effect, &posting.order_id), key(posting.effect, &posting.account));
    let (entry, balance) = posting.apply(state.get(ENTRIES, &entry_key)?, state.get(BALANCES, &balance_key)?)?;
    state.put(ENTRIES, &entry_key, &entry)?;
    state.put(BALANCES, &balance_key, &balance)
}

fn take_back(state: &mut State<'_>, effect: Effect, order_id: &str) -> Result<(), Retry> {
    let entry_key = key(effect, order_id);
    // Taking back what never was makes an entry too, for the check to find.
    let entry: Entry = state.get(ENTRIES, &entry_key)?.unwrap_or_default();
    let balance_key = key(effect, &entry.account);
    let (entry, balance) = entry.take_back(effect, state.get(BALANCES, &balance_key)?);
    state.put(ENTRIES, &entry_key, &entry)?;
    Ok(state.put(BALANCES, &balance_key, &balance)?)
}

/// Reads the ledger of one role.
///
/// # Errors
/// When the store cannot be read.
pub fn read_book(state: &State<'_>) -> Result<Book, Abort> {
    Ok(Book { entries: by_key(state.list(ENTRIES)?)?, balances: by_key(state.list(BALANCES)?)? })
}

fn by_key<T, C: FromIterator<(Key, T)>>(rows: Vec<(String, T)>) -> Result<C, Abort> {
    let typed = rows.into_iter().map(|(key, value)| {
        let (effect, name) = key.split_once('/').unwrap_or_default();
        let effect = Effect::from_name(effect);
        let effect = effect.ok_or_else(|| Abort::new("ledger", format!("the ledger has a strange key `{key}`")))?;
        Ok(((effect, name.to_owned()), value))
    });
    typed.collect()
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
        let reserved = state.get(ENTRIES, &key(Effect::Reserve, &cleared.order_id))?;
        post(state, &Posting::ship(cleared, reserved.as_ref())?)?;
        Ok(Shipment::of(cleared))
    }
    fn compensate(&self, state: &mut State<'_>, cleared: &Points, _: &Shipment) -> Result<(), Retry> {
        take_back(state, Effect::Ship, &cleared.order_id)
    }
}
