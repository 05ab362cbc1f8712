//! The services, the office and the choreography in one process, over HTTP; and the check of the books.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::path::Path;
use std::sync::Arc;

use accompanist::prelude::*;
use accompanist::store::MemoryDisk;
use accompanist::testing::{Diagram, TestSetup, keep_diagram};
use accompanist::transport::LocalNetwork;
use axum::Router;
use fleet::{Book, Effect};
use sidecar::api::Api;
use sidecar::check::{EFFECTS, check};
use sidecar::door;
use sidecar::model::{ISLAND, Noted, Order, Outcome};
use sidecar::office::{Office, Services};
use sidecar::program::{Carrier, Delivery, Depot, DepotServices};
use sidecar::service;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// Serves on a free port until it is dropped.
struct Served {
    address: String,
    task: JoinHandle<()>,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Served {
    async fn bind() -> (TcpListener, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        (listener, address)
    }
    fn on(listener: TcpListener, address: String, router: Router) -> Self {
        Self { address, task: tokio::spawn(async move { axum::serve(listener, router).await.unwrap() }) }
    }
    fn api(&self) -> Api {
        Api::new(&self.address).unwrap()
    }
}

/// All services on one book, which is in the folder.
async fn services(folder: &Path) -> (Served, Book) {
    let book = Book::open(&folder.join("book")).await.unwrap();
    let (listener, address) = Served::bind().await;
    (Served::on(listener, address, service::router(book.clone())), book)
}

/// What the sidecars work with, in a folder: the services, and the office.
async fn beside(folder: &Path) -> (accompanist::Services, [Served; 2]) {
    let (served, _) = services(folder).await;
    let (listener, address) = Served::bind().await;
    // The office itself starts no delivery here.
    let services = Services { billing: served.api(), customs: served.api(), deliveries: served.api() };
    let office = Office::open(&folder.join("journal"), services).await.unwrap();
    let office = Served::on(listener, address, office.router());
    let depot = DepotServices { depot: served.api(), office: office.api() };
    let services = accompanist::Services::new().with(Depot, Arc::new(depot)).with(Carrier, Arc::new(served.api()));
    (services, [served, office])
}

fn order(id: &str, to: &str) -> Order {
    Order { id: id.into(), to: to.into() }
}

fn effects(book: &[Effect], order_id: &str, undone: bool) -> Vec<String> {
    let mut of: Vec<_> = book
        .iter()
        .filter(|effect| effect.subject == order_id && effect.undone == undone)
        .map(|e| e.effect.clone())
        .collect();
    of.sort();
    of
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_across_both_systems_is_committed_or_compensated_on_both_sides() {
    let folder = TempDir::new().unwrap();
    let (served, book) = services(folder.path()).await;
    let (office_listener, office_address) = Served::bind().await;
    let network = LocalNetwork::default();
    let node = |name: &str| {
        let store = MemoryDisk::default().open().unwrap();
        Node::builder(NodeId::new(name).unwrap()).store(store).transport(network.clone()).choreography(Delivery)
    };
    let services = DepotServices { depot: served.api(), office: Api::new(&office_address).unwrap() };
    let depot = node("depot").role(Depot, Arc::new(services)).start().await.unwrap();
    let _carrier = node("carrier").role(Carrier, Arc::new(served.api())).start().await.unwrap();
    let (listener, address) = Served::bind().await;
    let door = Served::on(listener, address, door::router(depot));
    let services = Services { billing: served.api(), customs: served.api(), deliveries: door.api() };
    let office = Office::open(&folder.path().join("journal"), services).await.unwrap();
    let office = Served::on(office_listener, office_address, office.router());

    let (good, bad) = (order("good", "mainland"), order("bad", ISLAND));
    let ask = async |order: &Order| office.api().call::<Outcome>("workflows/order", &order.id, order).await.unwrap();
    let first = ask(&good).await;
    assert!(matches!(first, Outcome::Done(_)), "{first:?}");
    assert_eq!(ask(&good).await, first, "the same key is the same order");
    let refused = ask(&bad).await;
    assert!(matches!(&refused, Outcome::Refused(why) if why.contains("island")), "{refused:?}");

    let book = book.read().await.unwrap();
    let mut all = EFFECTS.map(String::from);
    all.sort();
    assert_eq!(effects(&book, "good", false), all);
    assert!(effects(&book, "bad", false).is_empty(), "{book:?}");
    assert_eq!(effects(&book, "bad", true), ["charge", "declare", "pack", "stamp"]);
    assert!(check(&book, &[(good, first), (bad, refused)]).iter().all(|check| check.faults.is_empty()));
}

#[tokio::test]
async fn the_picture_in_the_readme_is_that_of_the_program() {
    let (mut cases, mut served) = (Vec::new(), Vec::new());
    for (label, to) in [("the carrier goes there", "mainland"), ("it does not", ISLAND)] {
        // Books of its own for each run: the keys of all runs are the same.
        let folder = TempDir::new().unwrap();
        let (services, kept) = beside(folder.path()).await;
        cases.push((label, order("order-7", to), TestSetup::new(services)));
        served.push((kept, folder));
    }
    let diagram = Diagram::of_cases(Delivery, cases).await.unwrap_or_else(|failure| panic!("{failure}"));
    keep_diagram(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md"), "delivery", &diagram);
}

#[tokio::test]
async fn a_key_takes_effect_once_and_never_after_its_compensation() {
    let folder = TempDir::new().unwrap();
    let (served, book) = services(folder.path()).await;
    let (api, order) = (served.api(), order("o", "mainland"));
    let first: Noted = api.call("charge", "a", &order).await.unwrap();
    assert_eq!(api.call::<Noted>("charge", "a", &order).await.unwrap(), first);
    api.undo("charge", "a", &order).await.unwrap();
    api.undo("charge", "a", &order).await.unwrap();
    assert!(api.call::<Noted>("charge", "a", &order).await.is_err());
    api.undo("charge", "never done", &order).await.unwrap();
    assert!(api.call::<Noted>("charge", "never done", &order).await.is_err(), "it comes too late");
    let book = book.read().await.unwrap();
    assert_eq!(effects(&book, "o", true), ["charge", "charge"]);
}

#[tokio::test]
async fn a_workflow_goes_on_after_a_restart_and_asks_for_nothing_twice() {
    let folder = TempDir::new().unwrap();
    let (served, book) = services(folder.path()).await;
    let (deliveries, address) = Served::bind().await;
    let services = Services { billing: served.api(), customs: served.api(), deliveries: Api::new(&address).unwrap() };
    let journal = folder.path().join("journal");
    let first_life = Office::open(&journal, services.clone()).await.unwrap();
    let (listener, at) = Served::bind().await;
    let first_life = Served::on(listener, at, first_life.router());
    let order = order("o", "mainland");
    // Nobody answers at the door: it is charged, and then it waits.
    let asked = tokio::spawn({
        let (api, order) = (first_life.api(), order.clone());
        async move { api.call::<Outcome>("workflows/order", "o", &order).await }
    });
    let is_charged = async || !book.read().await.unwrap().is_empty();
    while !is_charged().await {
        tokio::task::yield_now().await;
    }
    asked.abort();
    drop(first_life);

    let second_life = Office::open(&journal, services).await.unwrap();
    let (listener, at) = Served::bind().await;
    let second_life = Served::on(listener, at, second_life.router());
    let delivered = Router::new().route("/deliveries", axum::routing::post(async || axum::Json(Noted { number: 7 })));
    let _door = Served::on(deliveries, address, delivered);
    let outcome: Outcome = second_life.api().call("workflows/order", "o", &order).await.unwrap();
    assert_eq!(outcome, Outcome::Done(7));
    assert_eq!(effects(&book.read().await.unwrap(), "o", false), ["charge"]);
}

#[test]
fn the_check_finds_what_it_is_for() {
    let effect = |effect: &str, undone| Effect { key: "k".into(), effect: effect.into(), subject: "o".into(), undone };
    let whole: Vec<_> = EFFECTS.map(|name| effect(name, false)).into();
    let done = [(order("o", "mainland"), Outcome::Done(1))];
    let faults = |book: &[Effect], answers: &[(Order, Outcome)]| check(book, answers).map(|check| check.faults.len());
    assert_eq!(faults(&whole, &done), [0, 0, 0]);
    assert_eq!(faults(&whole[1..], &done), [0, 1, 0], "half done");
    assert_eq!(faults(&[whole.clone(), vec![effect("charge", true)]].concat(), &done), [1, 0, 0], "charged twice");
    assert_eq!(faults(&whole, &[(order("o", "mainland"), Outcome::Refused("no".into()))]), [0, 0, 1]);
    assert_eq!(faults(&[effect("charge", false)], &[(order("o", ISLAND), Outcome::Refused("no".into()))]), [0, 1, 0]);
}

/// Where somebody has something sent.
#[test]
fn nothing_of_what_it_works_with_is_logged() {
    let traced = fleet::Traced::run(env!("CARGO_BIN_EXE_sidecar"), &["--orders", "10", "--kills", "1"]).unwrap();
    // That there is something to find it in.
    assert!(traced.of("accompanist") > 0 && traced.of("zenoh") > 0, "nothing was logged");
    let found = traced.with(&["mainland", "Parcel {"], &[]);
    assert!(found.is_empty(), "{found:#?}");
}
