//! The three roles, and what the program may ask of the service of each.
//!
//! Traits, so that every role's binary can hold the whole program and link only its own service.
//! Implemented in [`crate::sqlite`]; [`NoService`] stands in where all steps are on the built-in state.

use accompanist::contract::BoxFuture;
use accompanist::prelude::*;

use crate::model::{Bill, Order, Points, Receipt, Reservation, Shipment};

/// Holds the stock, takes the orders, ships.
#[derive(Debug, Clone, Copy)]
pub struct Warehouse;

/// Charges cards.
#[derive(Debug, Clone, Copy)]
pub struct Payment;

/// Awards points.
#[derive(Debug, Clone, Copy)]
pub struct Loyalty;

impl Role for Warehouse {
    const NAME: &'static str = "warehouse";
    type Service = dyn WarehouseApi;
}

impl Role for Payment {
    const NAME: &'static str = "payment";
    type Service = dyn PaymentApi;
}

impl Role for Loyalty {
    const NAME: &'static str = "loyalty";
    type Service = dyn LoyaltyApi;
}

/// A step's answer: what it gave, or the refusal.
pub type Committed<'a, T> = BoxFuture<'a, Result<T, Abort>>;
/// The end of a compensation.
pub type Compensated<'a> = BoxFuture<'a, Result<(), Retry>>;

/// What the warehouse's service does. All methods honour the idempotency key: the same key acts once.
pub trait WarehouseApi: Send + Sync {
    /// Puts items aside.
    fn reserve<'a>(&'a self, key: &'a str, order: &'a Order) -> Committed<'a, Reservation>;
    /// Puts them back.
    fn release<'a>(&'a self, key: &'a str, order_id: &'a str) -> Compensated<'a>;
    /// Sends the items of an order off.
    fn ship<'a>(&'a self, key: &'a str, cleared: &'a Points) -> Committed<'a, Shipment>;
    /// Calls the parcel back.
    fn recall<'a>(&'a self, key: &'a str, order_id: &'a str) -> Compensated<'a>;
}

/// What the payment service does; keys as in [`WarehouseApi`].
pub trait PaymentApi: Send + Sync {
    /// Charges the card, or refuses with the code `card-declined`.
    fn charge<'a>(&'a self, key: &'a str, bill: &'a Bill) -> Committed<'a, Receipt>;
    /// Pays it back.
    fn refund<'a>(&'a self, key: &'a str, order_id: &'a str) -> Compensated<'a>;
}

/// What the loyalty service does; keys as in [`WarehouseApi`].
pub trait LoyaltyApi: Send + Sync {
    /// Awards points.
    fn award<'a>(&'a self, key: &'a str, receipt: &'a Receipt) -> Committed<'a, Points>;
    /// Takes them away.
    fn revoke<'a>(&'a self, key: &'a str, order_id: &'a str) -> Compensated<'a>;
}

/// The service of a role whose steps are all on the built-in state. Nobody calls it; it refuses if one does.
#[derive(Debug, Clone, Copy)]
pub struct NoService;

fn refuse<'a, T: Send + 'a>() -> Committed<'a, T> {
    let reason = "this node keeps the built-in ledger: start all nodes with the same --ledger";
    Box::pin(async move { Err(Abort::new("no-service", reason)) })
}

fn wait<'a>() -> Compensated<'a> {
    Box::pin(async { Err(Retry::new("this node keeps the built-in ledger: start it with the --ledger it had before")) })
}

impl WarehouseApi for NoService {
    fn reserve<'a>(&'a self, _: &'a str, _: &'a Order) -> Committed<'a, Reservation> {
        refuse()
    }
    fn release<'a>(&'a self, _: &'a str, _: &'a str) -> Compensated<'a> {
        wait()
    }
    fn ship<'a>(&'a self, _: &'a str, _: &'a Points) -> Committed<'a, Shipment> {
        refuse()
    }
    fn recall<'a>(&'a self, _: &'a str, _: &'a str) -> Compensated<'a> {
        wait()
    }
}

impl PaymentApi for NoService {
    fn charge<'a>(&'a self, _: &'a str, _: &'a Bill) -> Committed<'a, Receipt> {
        refuse()
    }
    fn refund<'a>(&'a self, _: &'a str, _: &'a str) -> Compensated<'a> {
        wait()
    }
}

impl LoyaltyApi for NoService {
    fn award<'a>(&'a self, _: &'a str, _: &'a Receipt) -> Committed<'a, Points> {
        refuse()
    }
    fn revoke<'a>(&'a self, _: &'a str, _: &'a str) -> Compensated<'a> {
        wait()
    }
}
