//! The choreography: one program for the three roles.
//!
//! Written once, over four steps of either form; the two choreographies differ in nothing but their steps.

use accompanist::Step;
use accompanist::prelude::*;

use crate::model::{Bill, Order, Points, Receipt, Reservation, Shipment};
use crate::roles::{Loyalty, Payment, Warehouse};
use crate::{built_in, services};

type Roles = (Warehouse, Payment, Loyalty);

/// The program. What one role has to do and when follows from it; so do the messages.
async fn order_saga<Form>(
    ctx: &Context<Roles>,
    order: At<Warehouse, Order>,
    reserve: impl Step<Form, Role = Warehouse, Input = Order, Output = Reservation>,
    charge: impl Step<Form, Role = Payment, Input = Bill, Output = Receipt>,
    award: impl Step<Form, Role = Loyalty, Input = Receipt, Output = Points>,
    ship: impl Step<Form, Role = Warehouse, Input = Points, Output = Shipment>,
) -> Result<At<Warehouse, Shipment>, Abort> {
    let reserved = ctx.transact(reserve, &order).await?;
    let bill = ctx.locally(Warehouse, |here| Bill::new(here.get(&order), here.get(&reserved)));
    let bill = ctx.comm(Warehouse, Payment, &bill).await?;
    let receipt = ctx.transact(charge, &bill).await?;
    let receipt = ctx.comm(Payment, Loyalty, &receipt).await?;
    let points = ctx.transact(award, &receipt).await?;
    let cleared = ctx.comm(Loyalty, Warehouse, &points).await?;
    ctx.transact(ship, &cleared).await
}

/// The saga on the built-in state: each step is exactly-once, with one sync and no duty on the service's side.
#[derive(Debug, Clone, Copy)]
pub struct WarehouseOrder;

impl Choreography for WarehouseOrder {
    const NAME: &'static str = "warehouse-order";
    type Roles = Roles;
    type Input = At<Warehouse, Order>;
    type Output = At<Warehouse, Shipment>;

    async fn run(&self, ctx: &Context<Roles>, order: At<Warehouse, Order>) -> Result<At<Warehouse, Shipment>, Abort> {
        use built_in::{Award, Charge, Reserve, Ship};
        order_saga(ctx, order, Reserve, Charge, Award, Ship).await
    }
}

/// The saga against services that have databases of their own and honour idempotency keys.
#[derive(Debug, Clone, Copy)]
pub struct WarehouseOrderSqlite;

impl Choreography for WarehouseOrderSqlite {
    const NAME: &'static str = "warehouse-order-sqlite";
    type Roles = Roles;
    type Input = At<Warehouse, Order>;
    type Output = At<Warehouse, Shipment>;

    async fn run(&self, ctx: &Context<Roles>, order: At<Warehouse, Order>) -> Result<At<Warehouse, Shipment>, Abort> {
        use services::{Award, Charge, Reserve, Ship};
        order_saga(ctx, order, Reserve, Charge, Award, Ship).await
    }
}
