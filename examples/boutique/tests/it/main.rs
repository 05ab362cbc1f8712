//! Services, sidecars and the three ways to place an order in one process, over gRPC; cards, money, and the check.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::collections::BTreeMap;
use std::sync::Arc;

use accompanist::prelude::*;
use accompanist::store::MemoryDisk;
use accompanist::testing::{Diagram, TestSetup, keep_diagram};
use accompanist::transport::LocalNetwork;
use boutique::call::{channel, with_key};
use boutique::check::{EFFECTS, check};
use boutique::hipstershop::cart_service_client::CartServiceClient;
use boutique::hipstershop::payment_service_client::PaymentServiceClient;
use boutique::hipstershop::{AddItemRequest, ChargeRequest, CreditCardInfo, GetCartRequest, Money, OrderResult};
use boutique::messages::Wish;
use boutique::program::{Cart, Catalog, Client, Currency, Email, Payment, PlaceOrder, PlaceOrderCentrally, Shipping};
use boutique::reversal::RefundRequest;
use boutique::reversal::payment_reversal_client::PaymentReversalClient;
use boutique::services::{self, NAMES};
use boutique::{money, orchestrator, sample, services::payment};
use fleet::{Book, Effect};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tonic::transport::Channel;

/// All services.
struct Town {
    folder: TempDir,
    addresses: [String; 6],
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Town {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Town {
    async fn start() -> Self {
        let (folder, mut addresses, mut tasks) = (TempDir::new().unwrap(), Vec::new(), Vec::new());
        for name in NAMES {
            let own = folder.path().join(name);
            std::fs::create_dir(&own).unwrap();
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            addresses.push(format!("http://{}", listener.local_addr().unwrap()));
            tasks.push(tokio::spawn(async move { services::serve(name, listener, &own).await.unwrap() }));
        }
        Self { folder, addresses: addresses.try_into().unwrap(), tasks }
    }

    fn channel(&self, name: &str) -> Channel {
        channel(&self.addresses[NAMES.iter().position(|known| *known == name).unwrap()]).unwrap()
    }

    async fn fill_cart(&self, wish: &Wish) {
        let mut carts = CartServiceClient::new(self.channel("cart"));
        for item in sample::items(1) {
            carts.add_item(AddItemRequest { user_id: wish.user.clone(), item: Some(item) }).await.unwrap();
        }
    }

    async fn cart(&self, wish: &Wish) -> usize {
        let mut carts = CartServiceClient::new(self.channel("cart"));
        carts.get_cart(GetCartRequest { user_id: wish.user.clone() }).await.unwrap().into_inner().items.len()
    }

    async fn book(&self, name: &str) -> Vec<Effect> {
        let book = Book::open(&self.folder.path().join(name).join(services::BOOK)).await.unwrap();
        book.read().await.unwrap()
    }

    async fn books(&self) -> Vec<Effect> {
        let mut all = Vec::new();
        for name in NAMES {
            all.extend(self.book(name).await);
        }
        all
    }

    /// What the sidecars work with.
    fn sidecars(&self) -> Services {
        let service = |name| Arc::new(self.channel(name));
        let services = Services::new().with(Client, Arc::new(())).with(Cart, service("cart"));
        let services = services.with(Catalog, service("catalog")).with(Currency, service("currency"));
        let services = services.with(Payment, service("payment")).with(Shipping, service("shipping"));
        services.with(Email, service("email"))
    }

    /// A node with all roles.
    async fn node(&self) -> Node {
        let service = |name| Arc::new(self.channel(name));
        let store = MemoryDisk::default().open().unwrap();
        let builder = Node::builder(NodeId::new("all").unwrap()).store(store).transport(LocalNetwork::default());
        let builder = builder.role(Client, Arc::new(())).role(Cart, service("cart")).role(Catalog, service("catalog"));
        let builder = builder.role(Currency, service("currency")).role(Payment, service("payment"));
        let builder = builder.role(Shipping, service("shipping")).role(Email, service("email"));
        builder.choreography(PlaceOrder).choreography(PlaceOrderCentrally).start().await.unwrap()
    }
}

/// What does not hold its order's name.
fn costs(result: &OrderResult) -> (&Option<Money>, Vec<&Option<Money>>) {
    (&result.shipping_cost, result.items.iter().map(|item| &item.cost).collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_is_placed_alike_in_all_three_ways() {
    let town = Town::start().await;
    let node = town.node().await;
    let plain = orchestrator::Services::new(&town.addresses).unwrap();
    let mut results = Vec::new();
    for number in 1..=3 {
        let wish = Wish { order: format!("order-{number}"), user: format!("user-{number}"), ..sample::wish(2) };
        town.fill_cart(&wish).await;
        let result = match number {
            1 => node.start(PlaceOrder, wish.clone()).await.unwrap().settled().await.unwrap(),
            2 => node.start(PlaceOrderCentrally, wish.clone()).await.unwrap().settled().await.unwrap(),
            _ => plain.place_order(&wish).await.unwrap(),
        };
        assert_eq!(result.order_id, wish.order);
        assert_eq!(result.shipping_address, Some(wish.address.clone()));
        assert_eq!(town.cart(&wish).await, 0, "it is empty");
        results.push(result);
    }
    assert_eq!(costs(&results[0]), costs(&results[1]));
    assert_eq!(costs(&results[0]), costs(&results[2]));
    assert_eq!(results[0].items.len(), 2);
    assert_eq!(results[0].shipping_cost.as_ref().unwrap().currency_code, "EUR");
    let faults = check(&town.books().await, &BTreeMap::from([(1, true), (2, true), (3, true)]));
    assert!(faults.iter().all(|check| check.faults.is_empty()), "{faults:?}");
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_refusal_is_compensated() {
    let town = Town::start().await;
    let node = town.node().await;
    let nowhere = sample::wish(7);
    town.fill_cart(&nowhere).await;
    let refused = node.start(PlaceOrder, nowhere.clone()).await.unwrap().settled().await.unwrap_err();
    assert!(refused.to_string().contains(sample::NOWHERE), "{refused}");
    let charges = town.book("payment").await;
    assert!(charges.len() == 1 && charges[0].undone, "charged, and paid back: {charges:?}");
    assert_eq!(town.cart(&nowhere).await, 2, "it is as it was");
    assert!(town.book("shipping").await.is_empty() && town.book("email").await.is_empty());

    let bad_card = sample::wish(5);
    town.fill_cart(&bad_card).await;
    let refused = node.start(PlaceOrder, bad_card).await.unwrap().settled().await.unwrap_err();
    assert!(refused.to_string().contains("number is not right"), "{refused}");
    assert_eq!(town.book("payment").await.len(), 1);
    let refused = node.start(PlaceOrder, sample::wish(8)).await.unwrap().settled().await.unwrap_err();
    assert!(refused.to_string().contains("nothing in the cart"), "{refused}");
    node.shutdown().await;
}

#[tokio::test]
async fn the_picture_in_the_readme_is_that_of_the_program() {
    let (town, mut cases) = (Town::start().await, Vec::new());
    for (label, number) in [("it is sent there", 1), ("it is not", 7), ("the card is not taken", 5)] {
        town.fill_cart(&sample::wish(number)).await;
        cases.push((label, sample::wish(number), TestSetup::new(town.sidecars())));
    }
    let diagram = Diagram::of_cases(PlaceOrder, cases).await.unwrap_or_else(|failure| panic!("{failure}"));
    keep_diagram(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md"), "order", &diagram);
}

#[tokio::test]
async fn a_key_is_charged_once_and_never_after_its_refund() {
    let town = Town::start().await;
    let mut payment = PaymentServiceClient::new(town.channel("payment"));
    let card = sample::wish(1).card;
    let charge = || ChargeRequest { amount: Some(money::dollars(10, 50)), credit_card: Some(card.clone()) };
    let first = payment.charge(with_key("a", charge())).await.unwrap().into_inner();
    assert_eq!(payment.charge(with_key("a", charge())).await.unwrap().into_inner(), first);
    assert_ne!(payment.charge(charge()).await.unwrap().into_inner(), first, "without a key each is another");
    let mut reversal = PaymentReversalClient::new(town.channel("payment"));
    let refund = || with_key("a", RefundRequest { transaction_id: first.transaction_id.clone() });
    reversal.refund(refund()).await.unwrap();
    reversal.refund(refund()).await.unwrap();
    assert!(payment.charge(with_key("a", charge())).await.is_err());
    assert_eq!(town.book("payment").await.iter().filter(|effect| effect.undone).count(), 1);
}

#[test]
fn cards_are_looked_at() {
    let card = sample::wish(1).card;
    let month = 2026 * 12 + 10;
    assert_eq!(payment::check(&card, month), Ok(()));
    let with = |number: &str| CreditCardInfo { credit_card_number: number.into(), ..card.clone() };
    assert_eq!(payment::check(&with("4432-8015-6152-0454"), month), Ok(()));
    assert_eq!(payment::check(&with("5555555555554444"), month), Ok(()));
    assert!(payment::check(&with("4432801561520455"), month).unwrap_err().contains("number"));
    assert!(payment::check(&with("6011111111111117"), month).unwrap_err().contains("VISA"));
    assert!(payment::check(&with(""), month).is_err());
    let expiring = |year, month| CreditCardInfo {
        credit_card_expiration_year: year,
        credit_card_expiration_month: month,
        ..card.clone()
    };
    assert_eq!(payment::check(&expiring(2026, 11), month), Ok(()), "to the end of its month");
    assert!(payment::check(&expiring(2026, 10), month).unwrap_err().contains("out of date"));
}

#[test]
fn money_is_carried_right() {
    let money = |units, nanos| Money { currency_code: "USD".into(), units, nanos };
    assert_eq!(money::sum(&money(1, 999_999_999), &money(0, 1)), money(2, 0));
    assert_eq!(money::sum(&money(-1, -500_000_000), &money(0, 250_000_000)), money(-1, -250_000_000));
    assert_eq!(money::times(&money(0, 500_000_000), 3), money(1, 500_000_000));
    assert_eq!(money::dollars(19, 99), money(19, 990_000_000));
    let euros = money::convert(&money(113, 50_000_000), "EUR").unwrap();
    assert_eq!(euros, Money { currency_code: "EUR".into(), units: 100, nanos: 0 });
    assert_eq!(money::convert(&euros, "XXX"), None);
}

#[test]
fn the_check_finds_what_it_is_for() {
    let effect = |key: &str, effect: &str, undone| Effect {
        key: format!("order-1/{key}"),
        effect: effect.into(),
        subject: String::new(),
        undone,
    };
    let whole: Vec<_> = EFFECTS.map(|name| effect(name, name, false)).into();
    let faults = |book: &[Effect], number: u32, is_placed: bool| {
        check(book, &BTreeMap::from([(number, is_placed)])).map(|check| check.faults.len())
    };
    assert_eq!(faults(&whole, 1, true), [0, 0, 0]);
    assert_eq!(faults(&whole[1..], 1, true), [0, 1, 0], "half done");
    assert_eq!(faults(&[whole.clone(), vec![effect("again", "charge", true)]].concat(), 1, true), [1, 0, 0]);
    assert_eq!(faults(&whole, 1, false), [0, 1, 1]);
    assert_eq!(faults(&[], 5, false), [0, 0, 0]);
    assert_eq!(faults(&[], 5, true), [0, 1, 1]);
}

/// Cards, addresses, and the names of the fields that they are in.
#[test]
fn nothing_of_what_it_works_with_is_logged() {
    let traced = fleet::Traced::run(env!("CARGO_BIN_EXE_boutique"), &["--orders", "14", "--kills", "1"]).unwrap();
    // That there is something to find it in.
    assert!(traced.of("accompanist") > 0 && traced.of("zenoh") > 0, "nothing was logged");
    let found =
        traced.with(&["443280156152045", "someone@example.com", "1600 Amphitheatre", "credit_card_number"], &[]);
    assert!(found.is_empty(), "{found:#?}");
}
