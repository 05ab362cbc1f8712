//! The saga that is measured: an order in four steps on the built-in state of three roles, with three hops.
//!
//! The same shape as the example's order, with nothing else in it: no service outside, no branch, no refusal.

use accompanist::prelude::*;
use serde::{Deserialize, Serialize};

/// Keeps the goods, and starts the saga.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Warehouse;
impl Role for Warehouse {
    const NAME: &'static str = "warehouse";
    type Service = ();
}

/// Keeps the accounts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Payment;
impl Role for Payment {
    const NAME: &'static str = "payment";
    type Service = ();
}

/// Keeps the points.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Loyalty;
impl Role for Loyalty {
    const NAME: &'static str = "loyalty";
    type Service = ();
}

/// How many items and customers there are: each order has one of each.
const ITEMS: u64 = 100;
const CUSTOMERS: u64 = 1_000;

/// What a customer wants.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) number: u64,
    pub(crate) customer: String,
    pub(crate) item: String,
    pub(crate) quantity: u32,
    pub(crate) cents: i64,
}

impl Order {
    /// The order of that number: the same in every run.
    pub(crate) fn new(number: u64) -> Self {
        let (customer, item) = (number % CUSTOMERS, number % ITEMS);
        let (customer, item) = (format!("customer-{customer}"), format!("item-{item}"));
        Self { number, customer, item, quantity: 1, cents: 2_500 }
    }
}

/// Adds to a number in the built-in state, and gives the sum.
fn add(state: &mut State<'_>, table: Table<String, i64>, key: &str, difference: i64) -> Result<i64, Abort> {
    table.update(state, key, |sum| Ok(sum.unwrap_or_default() + difference))
}

/// How many things were shipped by the orders that are done.
pub(crate) async fn shipped(node: &Node) -> anyhow::Result<i64> {
    let sum = |state: &State<'_>| {
        let rows: Result<Vec<(String, i64)>, _> = Table::new("shipped").range(state, ..).collect();
        rows.map(|rows| rows.into_iter().map(|(_, count)| count).sum())
    };
    Ok(node.read_state(Warehouse, sum).await??)
}

macro_rules! step {
    ($(#[$doc:meta])* $name:ident, $text:literal, $role:ident, $table:literal, |$order:ident| $key:expr, $difference:expr) => {
        $(#[$doc])*
        struct $name;
        impl LocalTransaction for $name {
            const NAME: &'static str = $text;
            type Role = $role;
            type Input = Order;
            type Output = i64;
            fn commit(&self, state: &mut State<'_>, $order: &Order) -> Result<i64, Abort> {
                add(state, Table::new($table), $key, $difference)
            }
            fn compensate(&self, state: &mut State<'_>, $order: &Order, _: &i64) -> Result<(), Retry> {
                add(state, Table::new($table), $key, -$difference)?;
                Ok(())
            }
        }
    };
}

step! {
    /// Takes the goods off the shelf; the shelf is never empty here.
    Reserve, "reserve", Warehouse, "reserved", |order| &order.item, i64::from(order.quantity)
}
step! {
    /// Takes the money.
    Charge, "charge", Payment, "charged", |order| &order.customer, order.cents
}
step! {
    /// Gives a point for each euro.
    Award, "award", Loyalty, "points", |order| &order.customer, order.cents / 100
}
step! {
    /// Notes the parcel.
    Ship, "ship", Warehouse, "shipped", |order| &order.item, i64::from(order.quantity)
}

/// The saga.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WarehouseOrder;

impl Choreography for WarehouseOrder {
    const NAME: &'static str = "bench-warehouse-order";
    type Roles = (Warehouse, Payment, Loyalty);
    type Input = At<Warehouse, Order>;
    type Output = At<Warehouse, i64>;

    async fn run(&self, ctx: &Context<Self::Roles>, order: At<Warehouse, Order>) -> Result<At<Warehouse, i64>, Abort> {
        ctx.transact(Reserve, &order).await?;
        let charged = ctx.comm(Warehouse, Payment, &order).await?;
        ctx.transact(Charge, &charged).await?;
        let awarded = ctx.comm(Payment, Loyalty, &charged).await?;
        ctx.transact(Award, &awarded).await?;
        let shipped = ctx.comm(Loyalty, Warehouse, &awarded).await?;
        ctx.transact(Ship, &shipped).await
    }
}

/// Stands in the middle, where there is one who does.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Checkout;
impl Role for Checkout {
    const NAME: &'static str = "checkout";
    type Service = ();
}

/// The same steps as a durable orchestrator has them done: a coordinator asks one service after the other, and hears
/// from each before it asks the next. Services, steps, stores and network are those of [`WarehouseOrder`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct CentralOrder;

impl Choreography for CentralOrder {
    const NAME: &'static str = "bench-central-order";
    type Roles = (Checkout, Warehouse, Payment, Loyalty);
    type Input = At<Checkout, Order>;
    type Output = At<Checkout, i64>;

    async fn run(&self, ctx: &Context<Self::Roles>, order: At<Checkout, Order>) -> Result<At<Checkout, i64>, Abort> {
        let asked = ctx.comm(Checkout, Warehouse, &order).await?;
        let reserved = ctx.transact(Reserve, &asked).await?;
        ctx.comm(Warehouse, Checkout, &reserved).await?;
        let asked = ctx.comm(Checkout, Payment, &order).await?;
        let charged = ctx.transact(Charge, &asked).await?;
        ctx.comm(Payment, Checkout, &charged).await?;
        let asked = ctx.comm(Checkout, Loyalty, &order).await?;
        let awarded = ctx.transact(Award, &asked).await?;
        ctx.comm(Loyalty, Checkout, &awarded).await?;
        let asked = ctx.comm(Checkout, Warehouse, &order).await?;
        let shipped = ctx.transact(Ship, &asked).await?;
        ctx.comm(Warehouse, Checkout, &shipped).await
    }
}

/// The same, but for the parcel: it is sent when somebody says so, with the signal [`PARCEL`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct ParcelOrder;

/// The signal that a parcel is ready.
pub(crate) const PARCEL: &str = "parcel";

impl Choreography for ParcelOrder {
    const NAME: &'static str = "bench-parcel-order";
    type Roles = (Warehouse, Payment, Loyalty);
    type Input = At<Warehouse, Order>;
    type Output = At<Warehouse, i64>;

    async fn run(&self, ctx: &Context<Self::Roles>, order: At<Warehouse, Order>) -> Result<At<Warehouse, i64>, Abort> {
        ctx.transact(Reserve, &order).await?;
        let charged = ctx.comm(Warehouse, Payment, &order).await?;
        ctx.transact(Charge, &charged).await?;
        let awarded = ctx.comm(Payment, Loyalty, &charged).await?;
        ctx.transact(Award, &awarded).await?;
        let order = ctx.comm(Loyalty, Warehouse, &awarded).await?;
        let _: At<Warehouse, ()> = ctx.signal(Warehouse, PARCEL).await?;
        ctx.transact(Ship, &order).await
    }
}
