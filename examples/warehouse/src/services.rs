//! The steps against services: thin glue from the program to the traits of [`crate::roles`].
//!
//! All that matters is that the idempotency key is handed on.

use accompanist::prelude::*;

use crate::model::{Bill, Order, Points, Receipt, Reservation, Shipment};
use crate::roles::{Loyalty, Payment, Warehouse};

/// Takes items out of the stock.
#[derive(Debug, Clone, Copy)]
pub struct Reserve;

impl Transaction for Reserve {
    const NAME: &'static str = "reserve";
    type Role = Warehouse;
    type Input = Order;
    type Output = Reservation;

    async fn commit(&self, here: &Local<Warehouse>, order: &Order) -> Result<Reservation, Abort> {
        here.service().reserve(&here.key().to_string(), order).await
    }
    async fn compensate(&self, here: &Local<Warehouse>, order: &Order, _: &Reservation) -> Result<(), Retry> {
        here.service().release(&here.key().to_string(), &order.id).await
    }
}

/// Charges the card.
#[derive(Debug, Clone, Copy)]
pub struct Charge;

impl Transaction for Charge {
    const NAME: &'static str = "charge";
    type Role = Payment;
    type Input = Bill;
    type Output = Receipt;

    async fn commit(&self, here: &Local<Payment>, bill: &Bill) -> Result<Receipt, Abort> {
        here.service().charge(&here.key().to_string(), bill).await
    }
    async fn compensate(&self, here: &Local<Payment>, bill: &Bill, _: &Receipt) -> Result<(), Retry> {
        here.service().refund(&here.key().to_string(), &bill.order_id).await
    }
}

/// Awards points.
#[derive(Debug, Clone, Copy)]
pub struct Award;

impl Transaction for Award {
    const NAME: &'static str = "award";
    type Role = Loyalty;
    type Input = Receipt;
    type Output = Points;

    async fn commit(&self, here: &Local<Loyalty>, receipt: &Receipt) -> Result<Points, Abort> {
        here.service().award(&here.key().to_string(), receipt).await
    }
    async fn compensate(&self, here: &Local<Loyalty>, receipt: &Receipt, _: &Points) -> Result<(), Retry> {
        here.service().revoke(&here.key().to_string(), &receipt.order_id).await
    }
}

/// Sends the items off.
#[derive(Debug, Clone, Copy)]
pub struct Ship;

impl Transaction for Ship {
    const NAME: &'static str = "ship";
    type Role = Warehouse;
    type Input = Points;
    type Output = Shipment;

    async fn commit(&self, here: &Local<Warehouse>, cleared: &Points) -> Result<Shipment, Abort> {
        here.service().ship(&here.key().to_string(), cleared).await
    }
    async fn compensate(&self, here: &Local<Warehouse>, cleared: &Points, _: &Shipment) -> Result<(), Retry> {
        here.service().recall(&here.key().to_string(), &cleared.order_id).await
    }
}
