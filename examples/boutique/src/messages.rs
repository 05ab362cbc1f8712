//! What roles tell each other, where a message of the services is not enough.

use serde::{Deserialize, Serialize};

use crate::hipstershop::{Address, CreditCardInfo, Money, OrderItem};

/// What a customer asks for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Wish {
    /// The order's name everywhere.
    pub order: String,
    /// Whose cart it is.
    pub user: String,
    /// What is paid with.
    pub currency: String,
    /// Where it goes.
    pub address: Address,
    /// Where the confirmation goes.
    pub email: String,
    /// What is charged. Told to the payment service's sidecar only.
    pub card: CreditCardInfo,
}

/// An order with something of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Of<T> {
    /// The order.
    pub order: String,
    /// What it is about.
    pub what: T,
}

impl<T> Of<T> {
    /// Of the order `order`.
    pub fn new(order: &str, what: T) -> Self {
        Self { order: order.into(), what }
    }
}

/// What an order costs, in the customer's currency.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Costs {
    /// Each item, with what all of it costs.
    pub items: Vec<OrderItem>,
    /// The shipping.
    pub shipping: Money,
    /// All together.
    pub total: Money,
}

impl Costs {
    /// Of these items and that shipping.
    pub fn new(items: Vec<OrderItem>, shipping: Money) -> Self {
        let costs = items.iter().filter_map(|item| item.cost.as_ref());
        let total = costs.fold(shipping.clone(), |total, cost| crate::money::sum(&total, cost));
        Self { items, shipping, total }
    }
}
