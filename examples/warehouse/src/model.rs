//! What the roles talk about: orders, bills, receipts, points, shipments.
//!
//! Plain data. Next: [`crate::program`].

use serde::{Deserialize, Serialize};

/// A card that pays.
pub const CARD_GOOD: &str = "4242424242424242";
/// A card that is always declined.
pub const CARD_DECLINED: &str = "4000000000000002";
/// An item that is never in stock.
pub const ITEM_SOLD_OUT: &str = "unicorn";
/// What the warehouse has: each item with its price in cents.
pub const CATALOGUE: [(&str, u32); 4] =
    [("espresso-cup", 1_250), ("coffee-grinder", 8_900), ("milk-jug", 2_400), (ITEM_SOLD_OUT, 99_900)];

/// How many of `item` the warehouse has before the first order.
pub fn stock_initial(item: &str) -> i64 {
    if item == ITEM_SOLD_OUT { 0 } else { 1_000_000_000 }
}

/// What a customer wants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Its id, chosen by the customer's side: the idempotency key of the whole order.
    pub id: String,
    /// Who.
    pub customer: String,
    /// What.
    pub item: String,
    /// How many.
    pub quantity: u32,
    /// For how much each.
    pub unit_price_cents: u32,
    /// Paid with this card.
    pub card: String,
}

impl Order {
    /// An order that differs from its neighbours in customer, item and quantity.
    pub fn sample(number: u32) -> Self {
        let in_stock = CATALOGUE.iter().filter(|(item, _)| *item != ITEM_SOLD_OUT);
        let (item, price) = in_stock.cycle().nth(number as usize % CATALOGUE.len()).copied().unwrap_or(("cup", 1_000));
        Self {
            id: format!("order-{number}"),
            customer: format!("customer-{}", number % 17),
            item: item.into(),
            quantity: 1 + number % 3,
            unit_price_cents: price,
            card: CARD_GOOD.into(),
        }
    }

    /// How it has to end.
    pub fn expected_outcome(&self) -> Outcome {
        let refused = self.card == CARD_DECLINED || stock_initial(&self.item) < i64::from(self.quantity);
        if refused { Outcome::Compensated } else { Outcome::Completed }
    }
}

/// How an order ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// All steps are committed.
    Completed,
    /// It was aborted, and what was committed is compensated.
    Compensated,
}

/// Items put aside for an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reservation {
    /// The order.
    pub order_id: String,
    /// How many items.
    pub quantity: u32,
}

impl Reservation {
    /// What `order` asks for.
    pub fn of(order: &Order) -> Self {
        Self { order_id: order.id.clone(), quantity: order.quantity }
    }
}

/// What the warehouse asks the payment service to charge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bill {
    /// The order.
    pub order_id: String,
    /// Who pays.
    pub customer: String,
    /// With this card.
    pub card: String,
    /// So much.
    pub amount_cents: u32,
}

impl Bill {
    /// The bill for what was reserved.
    pub fn new(order: &Order, reserved: &Reservation) -> Self {
        Self {
            order_id: order.id.clone(),
            customer: order.customer.clone(),
            card: order.card.clone(),
            amount_cents: reserved.quantity.saturating_mul(order.unit_price_cents),
        }
    }
}

/// A bill that is paid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The order.
    pub order_id: String,
    /// Who paid.
    pub customer: String,
    /// So much.
    pub amount_cents: u32,
}

impl Receipt {
    /// The receipt for `bill`.
    pub fn of(bill: &Bill) -> Self {
        Self { order_id: bill.order_id.clone(), customer: bill.customer.clone(), amount_cents: bill.amount_cents }
    }
}

/// Points awarded; for the warehouse, the word that the order is cleared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Points {
    /// The order.
    pub order_id: String,
    /// One for each unit of money.
    pub points: u32,
}

impl Points {
    /// The points for `receipt`.
    pub fn of(receipt: &Receipt) -> Self {
        Self { order_id: receipt.order_id.clone(), points: receipt.amount_cents / 100 }
    }
}

/// Items on their way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shipment {
    /// The order.
    pub order_id: String,
    /// How to find the parcel.
    pub tracking: String,
    /// What the customer was awarded.
    pub points: u32,
}

impl Shipment {
    /// The shipment of a cleared order.
    pub fn of(cleared: &Points) -> Self {
        let order_id = cleared.order_id.clone();
        Self { tracking: format!("parcel-{order_id}"), order_id, points: cleared.points }
    }
}
