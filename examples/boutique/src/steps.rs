//! What the sidecars ask of the services: reads, and steps with an idempotency key.
//!
//! The `Service` of each role is a channel to the service that its sidecar stands beside.

use accompanist::Kind;
use accompanist::prelude::*;
use tonic::transport::Channel;

use crate::call::{answered, undone, with_key};
use crate::hipstershop::cart_service_client::CartServiceClient;
use crate::hipstershop::currency_service_client::CurrencyServiceClient;
use crate::hipstershop::email_service_client::EmailServiceClient;
use crate::hipstershop::payment_service_client::PaymentServiceClient;
use crate::hipstershop::product_catalog_service_client::ProductCatalogServiceClient;
use crate::hipstershop::shipping_service_client::ShippingServiceClient;
use crate::hipstershop::{
    Address, CartItem, ChargeRequest, CurrencyConversionRequest, EmptyCartRequest, GetCartRequest, GetProductRequest,
    GetQuoteRequest, Money, SendOrderConfirmationRequest, ShipOrderRequest,
};
use crate::messages::Of;
use crate::program::{Cart, Email, Payment, Shipping};
use crate::reversal::payment_reversal_client::PaymentReversalClient;
use crate::reversal::shipping_reversal_client::ShippingReversalClient;
use crate::reversal::{CancelRequest, RefundRequest};

/// What is in a user's cart; an empty one is refused.
///
/// # Errors
/// The refusal.
pub async fn cart_of(channel: &Channel, user: &str) -> Result<Vec<CartItem>, Abort> {
    let client = CartServiceClient::new(channel.clone());
    let request = GetCartRequest { user_id: user.into() };
    let cart = answered(|| {
        let (mut client, request) = (client.clone(), request.clone());
        async move { client.get_cart(request).await }
    });
    let items = cart.await?.items;
    if items.is_empty() { Err(Abort::new("empty-cart", "there is nothing in the cart")) } else { Ok(items) }
}

/// What one of a product costs, in dollars.
///
/// # Errors
/// When there is no such product.
pub async fn price_of(channel: &Channel, product: &str) -> Result<Money, Abort> {
    let client = ProductCatalogServiceClient::new(channel.clone());
    let request = GetProductRequest { id: product.into(), language: String::new() };
    let product = answered(|| {
        let (mut client, request) = (client.clone(), request.clone());
        async move { client.get_product(request).await }
    });
    Ok(product.await?.price_usd.unwrap_or_default())
}

/// What money is in another currency.
///
/// # Errors
/// When there is no such currency.
pub async fn converted(channel: &Channel, from: Money, to: &str) -> Result<Money, Abort> {
    let client = CurrencyServiceClient::new(channel.clone());
    let request = CurrencyConversionRequest { from: Some(from), to_code: to.into() };
    let money = answered(|| {
        let (mut client, request) = (client.clone(), request.clone());
        async move { client.convert(request).await }
    });
    money.await
}

/// What the shipping costs, in dollars.
///
/// # Errors
/// The refusal.
pub async fn quote_of(channel: &Channel, address: &Address, items: &[CartItem]) -> Result<Money, Abort> {
    let client = ShippingServiceClient::new(channel.clone());
    let request = GetQuoteRequest { address: Some(address.clone()), items: items.to_vec() };
    let quote = answered(|| {
        let (mut client, request) = (client.clone(), request.clone());
        async move { client.get_quote(request).await }
    });
    Ok(quote.await?.cost_usd.unwrap_or_default())
}

/// The key of a step: the order's name is in it for people.
fn key_of<R: Role>(here: &Local<R>, order: &str) -> String {
    format!("{order}/{}", here.key())
}

/// Charges the card.
pub(crate) struct Charge;
impl Transaction for Charge {
    const NAME: &'static str = "charge";
    type Role = Payment;
    type Input = Of<ChargeRequest>;
    type Output = String;
    async fn commit(&self, here: &Local<Payment>, bill: &Of<ChargeRequest>) -> Result<String, Abort> {
        charge(here.service(), &key_of(here, &bill.order), &bill.what).await
    }
    async fn compensate(&self, here: &Local<Payment>, bill: &Of<ChargeRequest>, paid: &String) -> Result<(), Retry> {
        refund(here.service(), &key_of(here, &bill.order), paid).await
    }
}

/// Charges a card under a key, and gives the transaction's id.
///
/// # Errors
/// When the card is not taken.
pub async fn charge(channel: &Channel, key: &str, request: &ChargeRequest) -> Result<String, Abort> {
    let client = PaymentServiceClient::new(channel.clone());
    let charged = answered(|| {
        let (mut client, request) = (client.clone(), with_key(key, request.clone()));
        async move { client.charge(request).await }
    });
    Ok(charged.await?.transaction_id)
}

async fn refund(channel: &Channel, key: &str, transaction_id: &str) -> Result<(), Retry> {
    let request = RefundRequest { transaction_id: transaction_id.into() };
    undone(PaymentReversalClient::new(channel.clone()).refund(with_key(key, request)).await)
}

/// Sends the parcel.
pub(crate) struct Ship;
impl Transaction for Ship {
    const NAME: &'static str = "ship";
    type Role = Shipping;
    type Input = Of<ShipOrderRequest>;
    type Output = String;
    async fn commit(&self, here: &Local<Shipping>, parcel: &Of<ShipOrderRequest>) -> Result<String, Abort> {
        ship(here.service(), &key_of(here, &parcel.order), &parcel.what).await
    }
    async fn compensate(
        &self,
        here: &Local<Shipping>,
        parcel: &Of<ShipOrderRequest>,
        id: &String,
    ) -> Result<(), Retry> {
        let request = with_key(&key_of(here, &parcel.order), CancelRequest { tracking_id: id.clone() });
        undone(ShippingReversalClient::new(here.service().clone()).cancel(request).await)
    }
}

/// Ships under a key, and gives the tracking id.
///
/// # Errors
/// When that address is not served.
pub async fn ship(channel: &Channel, key: &str, request: &ShipOrderRequest) -> Result<String, Abort> {
    let client = ShippingServiceClient::new(channel.clone());
    let shipped = answered(|| {
        let (mut client, request) = (client.clone(), with_key(key, request.clone()));
        async move { client.ship_order(request).await }
    });
    Ok(shipped.await?.tracking_id)
}

/// Empties the cart: after the parcel is on its way, so it is never refused and never taken back.
pub(crate) struct EmptyCart;
impl Transaction for EmptyCart {
    const NAME: &'static str = "empty cart";
    const KIND: Kind = Kind::Retriable;
    type Role = Cart;
    type Input = Of<String>;
    type Output = ();
    async fn commit(&self, here: &Local<Cart>, user: &Of<String>) -> Result<(), Abort> {
        empty_cart(here.service(), &key_of(here, &user.order), &user.what).await
    }
}

/// Empties a cart under a key.
///
/// # Errors
/// The refusal.
pub async fn empty_cart(channel: &Channel, key: &str, user: &str) -> Result<(), Abort> {
    let client = CartServiceClient::new(channel.clone());
    let emptied = answered(|| {
        let mut client = client.clone();
        let request = with_key(key, EmptyCartRequest { user_id: user.into() });
        async move { client.empty_cart(request).await }
    });
    emptied.await.map(|_| ())
}

/// Sends the confirmation. One that is refused is logged, as the original does: it undoes no order.
pub(crate) struct Confirm;
impl Transaction for Confirm {
    const NAME: &'static str = "confirm";
    const KIND: Kind = Kind::Retriable;
    type Role = Email;
    type Input = Of<SendOrderConfirmationRequest>;
    type Output = ();
    async fn commit(&self, here: &Local<Email>, mail: &Of<SendOrderConfirmationRequest>) -> Result<(), Abort> {
        confirm(here.service(), &key_of(here, &mail.order), &mail.what).await;
        Ok(())
    }
}

/// Sends a confirmation under a key.
pub async fn confirm(channel: &Channel, key: &str, request: &SendOrderConfirmationRequest) {
    let client = EmailServiceClient::new(channel.clone());
    let sent = answered(|| {
        let (mut client, request) = (client.clone(), with_key(key, request.clone()));
        async move { client.send_order_confirmation(request).await }
    });
    if let Err(refusal) = sent.await {
        tracing::warn!(%refusal, "a confirmation is not sent");
    }
}
