//! The demonstration: six services and seven sidecars, many orders, kill -9 again and again, and then the books are
//! checked.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use accompanist::Role;
use anyhow::{Context, bail};
use boutique::call::channel;
use boutique::check::{Check, check};
use boutique::hipstershop::AddItemRequest;
use boutique::hipstershop::cart_service_client::CartServiceClient;
use boutique::program::Client;
use boutique::{sample, services};
use clap::Args;
use fleet::{Book, Fleet, Ports};
use tokio::process::Command;
use tokio::sync::watch;

use crate::play::ROLES;

#[derive(Debug, Clone, Args)]
pub(crate) struct RunArguments {
    /// How many orders to place
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    orders: u32,
    /// How often to kill each of the thirteen processes
    #[arg(long, default_value_t = 1)]
    kills: u32,
    /// Draws the same sequence of kills again
    #[arg(long)]
    seed: Option<u64>,
    /// Keep the data folder
    #[arg(long)]
    keep: bool,
    /// Give up when nothing is heard of any order for so long
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    stall_max: u64,
}

/// The services and their sidecars.
struct Town {
    fleet: Fleet,
    /// Of the services, in the order of [`services::NAMES`].
    ports: Vec<u16>,
    /// Of the sidecars, in the order of [`ROLES`].
    endpoints: Vec<String>,
    orders: u32,
    /// Whether an order is placed, as the client was told.
    answers: Arc<Mutex<BTreeMap<u32, bool>>>,
    heard: watch::Sender<u32>,
}

/// One of the processes.
#[derive(Debug, Clone, Copy)]
enum Who {
    Service(&'static str),
    Sidecar(&'static str),
}

impl Who {
    fn all() -> impl Iterator<Item = Self> {
        services::NAMES.into_iter().map(Self::Service).chain(ROLES.into_iter().map(Self::Sidecar))
    }

    fn name(self) -> String {
        match self {
            Self::Service(name) => name.into(),
            Self::Sidecar(name) => format!("{name}-sidecar"),
        }
    }
}

impl Town {
    fn new(orders: u32, data: &Path) -> anyhow::Result<Self> {
        let mut free = Ports::default();
        let ports = services::NAMES.iter().map(|_| free.take()).collect::<anyhow::Result<_>>()?;
        let endpoints = ROLES.iter().map(|_| free.endpoint()).collect::<anyhow::Result<_>>()?;
        let (answers, heard) = (Arc::default(), watch::Sender::new(0));
        Ok(Self { fleet: Fleet::new(data), ports, endpoints, orders, answers, heard })
    }

    /// Where a service takes requests.
    fn address(&self, service: &str) -> String {
        let place = services::NAMES.iter().zip(&self.ports).find(|(name, _)| **name == service);
        format!("127.0.0.1:{}", place.map_or(1, |(_, port)| *port))
    }

    async fn start(&mut self, who: Who) -> anyhow::Result<()> {
        let data = self.fleet.data(&who.name());
        let (Who::Service(of) | Who::Sidecar(of)) = who;
        let address = self.address(of);
        let (endpoints, orders) = (&self.endpoints, self.orders.to_string());
        let arguments = |command: &mut Command| {
            match who {
                Who::Service(name) => {
                    command.args(["service", name, "--listen", &address]);
                }
                Who::Sidecar(name) => {
                    command.args(["role", name, "--service", &format!("http://{address}"), "--orders", &orders]);
                    for (other, endpoint) in ROLES.iter().zip(endpoints) {
                        command.args([if *other == name { "--listen" } else { "--connect" }, endpoint]);
                    }
                }
            }
            command.arg("--until-stdin-closes").arg("--data").arg(data);
        };
        let (answers, heard) = (self.answers.clone(), self.heard.clone());
        let hear = move |line: &str| {
            let parsed = line.split_once(' ').and_then(|(number, answer)| Some((number.parse().ok()?, answer)));
            let Some((number, answer)) = parsed else { return };
            let mut answers = answers.lock().unwrap_or_else(PoisonError::into_inner);
            answers.insert(number, answer == "placed");
            heard.send_replace(u32::try_from(answers.len()).unwrap_or(u32::MAX));
        };
        self.fleet.start(&who.name(), arguments, hear).await
    }

    /// Puts things into the carts of all customers.
    async fn fill_carts(&self) -> anyhow::Result<()> {
        let mut carts = CartServiceClient::new(channel(&format!("http://{}", self.address("cart")))?);
        for number in 1..=self.orders {
            for item in sample::items(number) {
                carts.add_item(AddItemRequest { user_id: sample::wish(number).user, item: Some(item) }).await?;
            }
        }
        Ok(())
    }

    /// Waits until so much is heard. A process that ends by itself ends the demonstration, as does a standstill.
    async fn reached(&mut self, orders: u32, stall_max: Duration) -> anyhow::Result<()> {
        let mut heard = self.heard.subscribe();
        while *heard.borrow_and_update() < orders {
            tokio::select! {
                changed = tokio::time::timeout(stall_max, heard.changed()) => match changed {
                    Ok(changed) => changed.context("nobody speaks any more")?,
                    Err(_) => bail!("nothing was heard of any order for {stall_max:?}"),
                },
                reason = self.fleet.until_one_ends() => bail!(reason),
            }
        }
        Ok(())
    }
}

pub(crate) async fn run(arguments: RunArguments) -> anyhow::Result<ExitCode> {
    let folder = tempfile::Builder::new().prefix("boutique-").tempdir().context("a data folder cannot be made")?;
    let run = demonstrate(&arguments, folder.path()).await;
    let holds = run.as_ref().is_ok_and(|checks| checks.iter().all(|check| check.faults.is_empty()));
    if arguments.keep || !holds {
        println!("the data is kept in {}", folder.keep().display());
    }
    run?;
    Ok(if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn demonstrate(arguments: &RunArguments, data: &Path) -> anyhow::Result<[Check; 3]> {
    let RunArguments { orders, kills, seed, .. } = *arguments;
    let mut random = fastrand::Rng::with_seed(seed.unwrap_or_else(|| fastrand::u64(..)));
    let stall_max = Duration::from_secs(arguments.stall_max);
    let mut town = Town::new(orders, data)?;
    for who in Who::all() {
        if let Who::Sidecar(Client::NAME) = who {
            town.fill_carts().await?;
        }
        town.start(who).await?;
    }
    let mut victims: Vec<_> = (0..kills).flat_map(|_| Who::all()).collect();
    random.shuffle(&mut victims);
    let parts = u32::try_from(victims.len())? + 1;
    for (number, victim) in (1..).zip(&victims) {
        town.reached(number * orders / parts, stall_max).await?;
        town.fleet.kill(&victim.name()).await?;
        town.start(*victim).await?;
    }
    town.reached(orders, stall_max).await?;
    town.fleet.stop().await;

    let mut effects = Vec::new();
    for name in services::NAMES {
        effects.extend(Book::open(&town.fleet.data(name).join(services::BOOK)).await?.read().await?);
    }
    let answers = town.answers.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let checks = check(&effects, &answers);
    let placed = answers.values().filter(|is_placed| **is_placed).count();
    println!("orders   {placed} on their way, {} refused and compensated", answers.len() - placed);
    println!("kills    {} (SIGKILL), of services and sidecars\n", victims.len());
    for Check { name, faults } in &checks {
        println!("{}  {name}", if faults.is_empty() { "holds" } else { "FAILS" });
        for fault in faults.iter().take(5) {
            println!("       {fault}");
        }
    }
    Ok(checks)
}
