//! The choreography, and the same order with one role in the middle.

use accompanist::prelude::*;
use tonic::transport::Channel;

use crate::hipstershop::{
    Address, CartItem, ChargeRequest, CreditCardInfo, Money, OrderItem, OrderResult, SendOrderConfirmationRequest,
    ShipOrderRequest,
};
use crate::messages::{Costs, Of, Wish};
use crate::money;
use crate::steps::{Charge, Confirm, EmptyCart, Ship, cart_of, converted, price_of, quote_of};

macro_rules! roles {
    ($($(#[$doc:meta])* $role:ident $name:literal $service:ty;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy)]
        pub struct $role;
        impl Role for $role {
            const NAME: &'static str = $name;
            type Service = $service;
        }
    )*};
}

roles! {
    /// Wants something.
    Client "client" ();
    /// Has what is wanted.
    Cart "cart" Channel;
    /// Knows what it costs.
    Catalog "catalog" Channel;
    /// Knows what that is in the customer's money.
    Currency "currency" Channel;
    /// Charges.
    Payment "payment" Channel;
    /// Sends it.
    Shipping "shipping" Channel;
    /// Says so.
    Email "email" Channel;
}

/// All of them, in that order.
pub type Roles = (Client, Cart, Catalog, Currency, Payment, Shipping, Email);

/// What a role reads at its service. A refusal is an abort of the session: the role alone knows it, and that is enough.
macro_rules! read {
    ($ctx:expr, $role:ident, $name:literal, async |$here:ident| $ask:expr) => {
        $ctx.conclave(($role,), async |ctx| {
            let answer = ctx.effect($role, $name, async |$here| $ask).await?;
            let answer = ctx.broadcast($role, &answer).await??;
            Ok(ctx.locally($role, |_| answer.clone()))
        })
        .await?
    };
}

async fn prices_of(catalog: &Channel, items: &[CartItem]) -> Result<Vec<Money>, Abort> {
    let mut prices = Vec::new();
    for item in items {
        prices.push(price_of(catalog, &item.product_id).await?);
    }
    Ok(prices)
}

async fn costs_of(
    currency: &Channel,
    items: &[CartItem],
    prices: &[Money],
    quote: &Money,
    to: &str,
) -> Result<Costs, Abort> {
    let mut costs = Vec::new();
    for (item, price) in items.iter().zip(prices) {
        let price = converted(currency, price.clone(), to).await?;
        costs.push(OrderItem { cost: Some(money::times(&price, item.quantity)), item: Some(item.clone()) });
    }
    Ok(Costs::new(costs, converted(currency, quote.clone(), to).await?))
}

fn result(wish: &Wish, costs: &Costs, tracking: &str) -> OrderResult {
    OrderResult {
        order_id: wish.order.clone(),
        shipping_tracking_id: tracking.into(),
        shipping_cost: Some(costs.shipping.clone()),
        shipping_address: Some(wish.address.clone()),
        items: costs.items.clone(),
    }
}

/// An order, in six messages one after the other: the client tells each role its own part of the wish at once (so that
/// the card is known to the payment's sidecar only); then it goes from cart to catalog, currency, payment, shipping,
/// and back.
#[derive(Debug, Clone, Copy)]
pub struct PlaceOrder;

impl Choreography for PlaceOrder {
    const NAME: &'static str = "place-order";
    type Roles = Roles;
    type Input = At<Client, Wish>;
    type Output = At<Client, OrderResult>;

    async fn run(&self, ctx: &Context<Roles>, wish: At<Client, Wish>) -> Result<At<Client, OrderResult>, Abort> {
        let part =
            |of: fn(&Wish) -> String| ctx.locally(Client, |here| Of::new(&here.get(&wish).order, of(here.get(&wish))));
        let user = ctx.comm(Client, Cart, &part(|wish| wish.user.clone())).await?;
        let to = ctx.comm(Client, Currency, &part(|wish| wish.currency.clone())).await?;
        let address = ctx.locally(Client, |here| Of::new(&here.get(&wish).order, here.get(&wish).address.clone()));
        let address = ctx.comm(Client, Shipping, &address).await?;
        let card = ctx.locally(Client, |here| Of::new(&here.get(&wish).order, here.get(&wish).card.clone()));
        let card = ctx.comm(Client, Payment, &card).await?;
        let whom = ctx.locally(Client, |here| Wish { card: CreditCardInfo::default(), ..here.get(&wish).clone() });
        let whom = ctx.comm(Client, Email, &whom).await?;

        let items = read!(ctx, Cart, "cart", async |here| cart_of(here.service(), &here.get(&user).what).await);
        let at_catalog = ctx.comm(Cart, Catalog, &items).await?;
        let at_shipping = ctx.comm(Cart, Shipping, &items).await?;
        let prices =
            read!(ctx, Catalog, "prices", async |here| prices_of(here.service(), here.get(&at_catalog).as_slice())
                .await);
        let goods = ctx.locally(Catalog, |here| (here.get(&at_catalog).clone(), here.get(&prices).clone()));
        let goods = ctx.comm(Catalog, Currency, &goods).await?;
        let quote = read!(ctx, Shipping, "quote", async |here| {
            quote_of(here.service(), &here.get(&address).what, here.get(&at_shipping).as_slice()).await
        });
        let quote = ctx.comm(Shipping, Currency, &quote).await?;
        let costs = read!(ctx, Currency, "costs", async |here| {
            let (items, prices) = here.get(&goods);
            costs_of(here.service(), items, prices, here.get(&quote), &here.get(&to).what).await
        });
        let total = ctx.locally(Currency, |here| here.get(&costs).total.clone());
        let total = ctx.comm(Currency, Payment, &total).await?;
        let at_client = ctx.comm(Currency, Client, &costs).await?;
        let at_email = ctx.comm(Currency, Email, &costs).await?;

        let bill = ctx.locally(Payment, |here| bill(here.get(&card), here.get(&total)));
        let paid = ctx.transact(Charge, &bill).await?;
        ctx.comm(Payment, Shipping, &paid).await?;
        let parcel = ctx.locally(Shipping, |here| parcel(here.get(&address), here.get(&at_shipping).as_slice()));
        let tracking = ctx.transact(Ship, &parcel).await?;
        let answer = ctx.comm(Shipping, Client, &tracking).await?;
        // From here on nothing is refused, and the client waits for nobody.
        ctx.comm(Shipping, Cart, &tracking).await?;
        ctx.transact(EmptyCart, &user).await?;
        let tracking = ctx.comm(Shipping, Email, &tracking).await?;
        let mail = ctx.locally(Email, |here| mail(here.get(&whom), here.get(&at_email), here.get(&tracking).as_str()));
        ctx.transact(Confirm, &mail).await?;
        Ok(ctx.locally(Client, |here| result(here.get(&wish), here.get(&at_client), here.get(&answer).as_str())))
    }
}

fn bill(card: &Of<CreditCardInfo>, total: &Money) -> Of<ChargeRequest> {
    Of::new(&card.order, ChargeRequest { amount: Some(total.clone()), credit_card: Some(card.what.clone()) })
}

fn parcel(address: &Of<Address>, items: &[CartItem]) -> Of<ShipOrderRequest> {
    Of::new(&address.order, ShipOrderRequest { address: Some(address.what.clone()), items: items.to_vec() })
}

fn mail(wish: &Wish, costs: &Costs, tracking: &str) -> Of<SendOrderConfirmationRequest> {
    let order = Some(result(wish, costs, tracking));
    Of::new(&wish.order, SendOrderConfirmationRequest { email: wish.email.clone(), order })
}

/// The same roles, services, steps, stores and network as a durable orchestrator has them work: the client asks one
/// after the other, in the order of the original's checkout service, and waits for each answer.
#[derive(Debug, Clone, Copy)]
pub struct PlaceOrderCentrally;

/// The client asks a role, which asks its service.
macro_rules! ask {
    ($ctx:expr, $role:ident, $name:literal, $question:expr, async |$here:ident, $asked:ident| $ask:expr) => {{
        let $asked = $ctx.comm(Client, $role, &$question).await?;
        let answer = read!($ctx, $role, $name, async |$here| {
            let $asked = $here.get(&$asked);
            $ask
        });
        $ctx.comm($role, Client, &answer).await?
    }};
}

impl Choreography for PlaceOrderCentrally {
    const NAME: &'static str = "place-order-centrally";
    type Roles = Roles;
    type Input = At<Client, Wish>;
    type Output = At<Client, OrderResult>;

    async fn run(&self, ctx: &Context<Roles>, wish: At<Client, Wish>) -> Result<At<Client, OrderResult>, Abort> {
        let user = ctx.locally(Client, |here| here.get(&wish).user.clone());
        let items = ask!(ctx, Cart, "cart", user, async |here, user| cart_of(here.service(), user).await);
        // How often the others are asked. The client does not wait for those whom it tells.
        let known = &ctx.broadcast(Client, &items).await?;
        let mut costs = ctx.locally(Client, |_| Vec::new());
        for item in known {
            let product = ctx.locally(Client, |_| item.product_id.clone());
            let price = ask!(ctx, Catalog, "price", product, async |here, id| price_of(here.service(), id).await);
            let price = ctx.locally(Client, |here| (here.get(&price).clone(), here.get(&wish).currency.clone()));
            let price = ask!(ctx, Currency, "convert", price, async |here, asked| {
                converted(here.service(), asked.0.clone(), &asked.1).await
            });
            costs = ctx.locally(Client, |here| {
                let cost = Some(money::times(here.get(&price), item.quantity));
                let mut costs = here.get(&costs).clone();
                costs.push(OrderItem { item: Some(item.clone()), cost });
                costs
            });
        }
        let address = ctx.locally(Client, |here| Of::new(&here.get(&wish).order, here.get(&wish).address.clone()));
        let quote = ask!(ctx, Shipping, "quote", address, async |here, address| {
            quote_of(here.service(), &address.what, known).await
        });
        let quote = ctx.locally(Client, |here| (here.get(&quote).clone(), here.get(&wish).currency.clone()));
        let quote = ask!(ctx, Currency, "convert", quote, async |here, asked| {
            converted(here.service(), asked.0.clone(), &asked.1).await
        });
        let costs = ctx.locally(Client, |here| Costs::new(here.get(&costs).clone(), here.get(&quote).clone()));

        let asked = ctx.locally(Client, |here| {
            let Wish { order, card, .. } = here.get(&wish);
            bill(&Of::new(order, card.clone()), &here.get(&costs).total)
        });
        let asked = ctx.comm(Client, Payment, &asked).await?;
        let paid = ctx.transact(Charge, &asked).await?;
        ctx.comm(Payment, Client, &paid).await?;
        let asked = ctx.locally(Client, |here| parcel(here.get(&address), known));
        let asked = ctx.comm(Client, Shipping, &asked).await?;
        let tracking = ctx.transact(Ship, &asked).await?;
        let tracking = ctx.comm(Shipping, Client, &tracking).await?;
        let user = ctx.locally(Client, |here| Of::new(&here.get(&wish).order, here.get(&wish).user.clone()));
        let asked = ctx.comm(Client, Cart, &user).await?;
        let emptied = ctx.transact(EmptyCart, &asked).await?;
        ctx.comm(Cart, Client, &emptied).await?;
        let mail = ctx.locally(Client, |here| mail(here.get(&wish), here.get(&costs), here.get(&tracking).as_str()));
        let asked = ctx.comm(Client, Email, &mail).await?;
        let sent = ctx.transact(Confirm, &asked).await?;
        ctx.comm(Email, Client, &sent).await?;
        Ok(ctx.locally(Client, |here| result(here.get(&wish), here.get(&costs), here.get(&tracking).as_str())))
    }
}
