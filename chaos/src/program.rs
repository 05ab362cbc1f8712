//! The choreographies: one order over three roles, with a pivot, and one with a deadline instead.
//!
//! A deadline may pass behind a pivot, which then needs an operator; so the hurried form has compensable steps only.
//! All steps are on the built-in state, where the runtime promises that each takes effect exactly once.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use accompanist::Kind;
use accompanist::prelude::*;

use crate::ledger::{Entry, Step, post};
use crate::model::{Bank, Fate, Order, Shop, Stock};

type Roles = (Shop, Stock, Bank);

/// Makes [`Hold`] book twice from now on: to see that the audit finds it.
pub(crate) static BOOK_TWICE: AtomicBool = AtomicBool::new(false);
/// Makes [`Reserve`] forget to take back from now on: to see that the audit finds it.
pub(crate) static FORGET_BACK: AtomicBool = AtomicBool::new(false);

/// What a step writes down.
pub(crate) fn entry(order: &Order, step: Step) -> Entry {
    let item = |place: &str| format!("{place}:{}", order.item);
    let (from, to, amount) = match step {
        Step::Place => ("wanted".into(), "open".into(), 1),
        Step::Reserve => (item("free"), item("reserved"), order.quantity),
        Step::Hold => (format!("funds:{}", order.customer), "held".into(), order.cents),
        Step::Capture => ("held".into(), "takings".into(), order.cents),
        Step::Ship => (item("reserved"), item("shipped"), order.quantity),
        Step::Complete => ("open".into(), "completed".into(), 1),
    };
    Entry { order: order.id.clone(), step, back: false, from, to, amount }
}

fn back(order: &Order, step: Step) -> Entry {
    let Entry { order, step, from, to, amount, .. } = entry(order, step);
    Entry { order, step, back: true, from: to, to: from, amount }
}

/// A step that can be taken back.
macro_rules! compensable {
    ($(#[$about:meta])* $name:ident, $text:literal, $role:ident, $commit:expr, $compensate:expr) => {
        $(#[$about])*
        struct $name;

        impl LocalTransaction for $name {
            const NAME: &'static str = $text;
            type Role = $role;
            type Input = Order;
            type Output = Order;

            fn commit(&self, state: &mut State<'_>, order: &Order) -> Result<Order, Abort> {
                let commit: fn(&mut State<'_>, &Order) -> Result<(), Abort> = $commit;
                commit(state, order)?;
                Ok(order.clone())
            }
            fn compensate(&self, state: &mut State<'_>, order: &Order, _: &Order) -> Result<(), Retry> {
                let compensate: fn(&mut State<'_>, &Order) -> Result<(), Abort> = $compensate;
                Ok(compensate(state, order)?)
            }
        }
    };
}

/// A step that cannot be taken back.
macro_rules! lasting {
    ($(#[$about:meta])* $name:ident, $text:literal, $role:ident, $kind:expr, $commit:expr) => {
        $(#[$about])*
        struct $name;

        impl LocalTransaction for $name {
            const NAME: &'static str = $text;
            const KIND: Kind = $kind;
            type Role = $role;
            type Input = Order;
            type Output = Order;

            fn commit(&self, state: &mut State<'_>, order: &Order) -> Result<Order, Abort> {
                let commit: fn(&mut State<'_>, &Order) -> Result<(), Abort> = $commit;
                commit(state, order)?;
                Ok(order.clone())
            }
        }
    };
}

compensable!(
    /// The shop opens the order.
    Place,
    "place",
    Shop,
    |state, order| post(state, &entry(order, Step::Place)),
    |state, order| post(state, &back(order, Step::Place))
);

compensable!(
    /// The stock puts the items aside.
    Reserve,
    "reserve",
    Stock,
    |state, order| {
        if order.fate == Fate::OutOfStock {
            return Err(Abort::new("out-of-stock", "there is none of it"));
        }
        post(state, &entry(order, Step::Reserve))
    },
    |state, order| {
        if FORGET_BACK.load(Ordering::Relaxed) {
            return Ok(());
        }
        post(state, &back(order, Step::Reserve))
    }
);

compensable!(
    /// The bank puts the money aside.
    Hold,
    "hold",
    Bank,
    |state, order| {
        if order.fate == Fate::Declined {
            return Err(Abort::new("declined", "the customer has no money"));
        }
        if BOOK_TWICE.load(Ordering::Relaxed) {
            post(state, &entry(order, Step::Hold))?;
        }
        post(state, &entry(order, Step::Hold))
    },
    |state, order| post(state, &back(order, Step::Hold))
);

lasting!(
    /// The bank takes the money: the point of no return.
    Capture,
    "capture",
    Bank,
    Kind::Pivot,
    |state, order| {
        if order.fate == Fate::RefusedAtPivot {
            return Err(Abort::new("refused", "the bank has thought again"));
        }
        post(state, &entry(order, Step::Capture))
    }
);

lasting!(
    /// The stock sends the items off.
    Ship,
    "ship",
    Stock,
    Kind::Retriable,
    |state, order| post(state, &entry(order, Step::Ship))
);

lasting!(
    /// The shop closes the order.
    Complete,
    "complete",
    Shop,
    Kind::Retriable,
    |state, order| post(state, &entry(order, Step::Complete))
);

compensable!(
    /// As [`Capture`], but it can be taken back.
    CaptureBack,
    "capture-back",
    Bank,
    |state, order| post(state, &entry(order, Step::Capture)),
    |state, order| post(state, &back(order, Step::Capture))
);

compensable!(
    /// As [`Ship`], but it can be taken back.
    ShipBack,
    "ship-back",
    Stock,
    |state, order| post(state, &entry(order, Step::Ship)),
    |state, order| post(state, &back(order, Step::Ship))
);

compensable!(
    /// As [`Complete`], but it can be taken back.
    CompleteBack,
    "complete-back",
    Shop,
    |state, order| post(state, &entry(order, Step::Complete)),
    |state, order| post(state, &back(order, Step::Complete))
);

/// The first half, which both forms share: all that can be taken back, and the sleep before the point of no return.
async fn prepare(ctx: &Context<Roles>, order: At<Shop, Order>) -> Result<At<Bank, Order>, Abort> {
    let placed = ctx.transact(Place, &order).await?;
    let request = ctx.comm(Shop, Stock, &placed).await?;
    let reserved = ctx.transact(Reserve, &request).await?;
    let held = ctx.comm(Stock, Bank, &reserved).await?;
    let held = ctx.transact(Hold, &held).await?;
    // Who sleeps and who does not is known to all, or nobody could branch on it.
    let sleep_ms = ctx.locally(Shop, |here| here.get(&order).sleep_ms);
    let sleep_ms = ctx.broadcast(Shop, &sleep_ms).await?;
    if sleep_ms > 0 {
        ctx.sleep(Stock, Duration::from_millis(sleep_ms)).await?;
        let _ = ctx.comm(Stock, Bank, &reserved).await?;
    }
    Ok(held)
}

/// An order with a pivot: behind it the saga only goes forward.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sale;

impl Choreography for Sale {
    const NAME: &'static str = "sale";
    type Roles = Roles;
    type Input = At<Shop, Order>;
    type Output = At<Shop, Order>;

    async fn run(&self, ctx: &Context<Roles>, order: At<Shop, Order>) -> Result<At<Shop, Order>, Abort> {
        let held = prepare(ctx, order).await?;
        let captured = ctx.transact(Capture, &held).await?;
        let captured = ctx.comm(Bank, Stock, &captured).await?;
        let shipped = ctx.transact(Ship, &captured).await?;
        let shipped = ctx.comm(Stock, Shop, &shipped).await?;
        ctx.transact(Complete, &shipped).await
    }
}

/// An order with a deadline: whatever was done by then can be taken back.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HurriedSale;

impl Choreography for HurriedSale {
    const NAME: &'static str = "hurried-sale";
    type Roles = Roles;
    type Input = At<Shop, Order>;
    type Output = At<Shop, Order>;

    async fn run(&self, ctx: &Context<Roles>, order: At<Shop, Order>) -> Result<At<Shop, Order>, Abort> {
        let held = prepare(ctx, order).await?;
        let captured = ctx.transact(CaptureBack, &held).await?;
        let captured = ctx.comm(Bank, Stock, &captured).await?;
        let shipped = ctx.transact(ShipBack, &captured).await?;
        let shipped = ctx.comm(Stock, Shop, &shipped).await?;
        ctx.transact(CompleteBack, &shipped).await
    }
}
