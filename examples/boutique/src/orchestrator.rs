//! The original's way: one place calls all services, one after the other. Nothing of it is durable, and nothing is
//! taken back.

use accompanist::Abort;
use tonic::transport::Channel;

use crate::call::channel;
use crate::hipstershop::{ChargeRequest, OrderItem, OrderResult, SendOrderConfirmationRequest, ShipOrderRequest};
use crate::messages::{Costs, Wish};
use crate::money;
use crate::steps::{cart_of, charge, confirm, converted, empty_cart, price_of, quote_of, ship};

/// The services, as one place sees them.
#[derive(Debug, Clone)]
pub struct Services {
    cart: Channel,
    catalog: Channel,
    currency: Channel,
    payment: Channel,
    shipping: Channel,
    email: Channel,
}

impl Services {
    /// At these addresses: cart, catalog, currency, payment, shipping, email.
    ///
    /// # Errors
    /// When one is no address.
    pub fn new(addresses: &[String; 6]) -> Result<Self, tonic::transport::Error> {
        let [cart, catalog, currency, payment, shipping, email] = addresses;
        Ok(Self {
            cart: channel(cart)?,
            catalog: channel(catalog)?,
            currency: channel(currency)?,
            payment: channel(payment)?,
            shipping: channel(shipping)?,
            email: channel(email)?,
        })
    }

    /// Places an order, as the original's checkout service does.
    ///
    /// # Errors
    /// A service's refusal; what was done before is left as it is.
    pub async fn place_order(&self, wish: &Wish) -> Result<OrderResult, Abort> {
        let Wish { order, user, currency, address, email, card } = wish;
        let items = cart_of(&self.cart, user).await?;
        let mut costs = Vec::new();
        for item in &items {
            let price = price_of(&self.catalog, &item.product_id).await?;
            let price = converted(&self.currency, price, currency).await?;
            costs.push(OrderItem { cost: Some(money::times(&price, item.quantity)), item: Some(item.clone()) });
        }
        let quote = quote_of(&self.shipping, address, &items).await?;
        let Costs { items: costs, shipping, total } =
            Costs::new(costs, converted(&self.currency, quote, currency).await?);
        let bill = ChargeRequest { amount: Some(total), credit_card: Some(card.clone()) };
        charge(&self.payment, &format!("{order}/charge"), &bill).await?;
        let parcel = ShipOrderRequest { address: Some(address.clone()), items };
        let tracking = ship(&self.shipping, &format!("{order}/ship"), &parcel).await?;
        empty_cart(&self.cart, &format!("{order}/empty"), user).await?;
        let result = OrderResult {
            order_id: order.clone(),
            shipping_tracking_id: tracking,
            shipping_cost: Some(shipping),
            shipping_address: Some(address.clone()),
            items: costs,
        };
        let mail = SendOrderConfirmationRequest { email: email.clone(), order: Some(result.clone()) };
        confirm(&self.email, &format!("{order}/mail"), &mail).await;
        Ok(result)
    }
}
