//! The choreography beside two orchestrators, with slow lines between all hosts: one order at a time, in turns.
//!
//! A sidecar is on its service's host. What crosses between hosts is delayed: messages between sidecars, and the calls
//! of the orchestrator that has no sidecars.

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use accompanist::Node;
use anyhow::Context as _;
use boutique::call::channel;
use boutique::hipstershop::AddItemRequest;
use boutique::hipstershop::cart_service_client::CartServiceClient;
use boutique::messages::Wish;
use boutique::program::{PlaceOrder, PlaceOrderCentrally};
use boutique::{orchestrator, sample, services};
use fleet::{Comparison, DelayLine, Kept, Sites, Turns};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::play::{ROLES, with_role};

/// How an order is placed.
#[derive(Debug, Clone, Copy)]
enum Way {
    Choreography,
    /// The same services, steps, stores and network, with the client in the middle.
    DurableOrchestrator,
    /// As the original: gRPC calls from one place.
    PlainOrchestrator,
}

const WAYS: [fleet::Way<Way>; 3] = [
    (Way::Choreography, "choreography"),
    (Way::DurableOrchestrator, "durable orchestrator"),
    (Way::PlainOrchestrator, "plain orchestrator"),
];

/// All services, in this process.
struct Services {
    addresses: [String; 6],
    far: [String; 6],
    tasks: Vec<JoinHandle<anyhow::Result<()>>>,
    _lines: Vec<DelayLine>,
}

impl Services {
    async fn start(folder: &Path, delay: Duration) -> anyhow::Result<Self> {
        let (mut addresses, mut far, mut tasks, mut lines) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for name in services::NAMES {
            let folder = folder.join(name);
            std::fs::create_dir_all(&folder)?;
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            let line = DelayLine::start(listener.local_addr()?, delay)?;
            addresses.push(format!("http://{}", listener.local_addr()?));
            far.push(format!("http://{}", line.address()));
            lines.push(line);
            tasks.push(tokio::spawn(async move { services::serve(name, listener, &folder).await }));
        }
        let six = |list: Vec<String>| <[String; 6]>::try_from(list).ok().context("there are six services");
        Ok(Self { addresses: six(addresses)?, far: six(far)?, tasks, _lines: lines })
    }
}

impl Drop for Services {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

pub(crate) async fn run(comparison: Comparison) -> anyhow::Result<ExitCode> {
    comparison.run("Online Boutique: an order of two products", &WAYS, measure).await?;
    Ok(ExitCode::SUCCESS)
}

async fn measure(delay: Duration, folder: &Path, turns: &mut Turns<Way>) -> anyhow::Result<()> {
    let services = Services::start(&folder.join("services"), delay).await?;
    let mut beside = vec![channel("http://127.0.0.1:1")?]; // The client has none.
    for address in &services.addresses {
        beside.push(channel(address)?);
    }
    let play = |builder, place| match beside.get(place) {
        Some(service) => with_role(builder, place, service.clone()),
        None => builder,
    };
    let sites = Sites::start(&ROLES, folder, Kept::OverPower, |_, _| delay, play).await?;
    let plain = orchestrator::Services::new(&services.far)?;
    let [cart, ..] = &services.addresses;
    let mut carts = CartServiceClient::new(channel(cart)?);
    while let Some((round, way)) = turns.next() {
        let wish = Wish { order: format!("{round} {way:?}"), user: format!("{round} {way:?}"), ..sample::wish(1) };
        for item in sample::items(round) {
            carts.add_item(AddItemRequest { user_id: wish.user.clone(), item: Some(item) }).await?;
        }
        let begun = Instant::now();
        place(way, sites.first()?, &plain, wish).await?;
        turns.took(begun.elapsed());
        sites.are_idle().await;
    }
    sites.end().await;
    Ok(())
}

async fn place(way: Way, client: &Node, plain: &orchestrator::Services, wish: Wish) -> anyhow::Result<()> {
    match way {
        Way::Choreography => client.start(PlaceOrder, wish).await?.output().await?,
        Way::DurableOrchestrator => client.start(PlaceOrderCentrally, wish).await?.output().await?,
        Way::PlainOrchestrator => plain.place_order(&wish).await?,
    };
    Ok(())
}
