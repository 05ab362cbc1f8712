//! The demonstration: all processes, many orders, kill -9 again and again, and then the books are checked.

mod town;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use fleet::Book;
use sidecar::api::Api;
use sidecar::check::{Check, check};
use sidecar::model::{ISLAND, Order, Outcome};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use self::town::{SERVICES, Town};

/// Orders that are under way at the same time.
const IN_FLIGHT: usize = 8;
/// One order in so many goes where nothing can be delivered.
const ISLAND_EVERY: u32 = 5;

#[derive(Debug, Clone, Args)]
pub(crate) struct RunArguments {
    /// How many orders to place
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    orders: u32,
    /// How often to kill each process
    #[arg(long, default_value_t = 2)]
    kills: u32,
    /// Draws the same sequence of kills again
    #[arg(long)]
    seed: Option<u64>,
    /// Keep the data folder
    #[arg(long)]
    keep: bool,
    /// Give up when no order is answered for so long
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    stall_max: u64,
}

pub(crate) async fn run(arguments: RunArguments) -> anyhow::Result<ExitCode> {
    let folder = tempfile::Builder::new().prefix("sidecar-").tempdir().context("a data folder cannot be made")?;
    let run = demonstrate(&arguments, folder.path()).await;
    let holds = run.as_ref().is_ok_and(|checks| checks.iter().all(|check| check.faults.is_empty()));
    if arguments.keep || !holds {
        println!("the data is kept in {}", folder.keep().display());
    }
    run?;
    Ok(if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn demonstrate(arguments: &RunArguments, data: &Path) -> anyhow::Result<[Check; 3]> {
    let mut random = fastrand::Rng::with_seed(arguments.seed.unwrap_or_else(|| fastrand::u64(..)));
    let mut town = Town::new(data)?;
    town.start_all().await?;
    let (answered, mut progress) = watch::channel(0);
    let office = Api::new(town.office())?;
    let placing = place(office, arguments.orders, answered);
    let mut victims: Vec<_> = (0..arguments.kills).flat_map(|_| Town::names()).collect();
    random.shuffle(&mut victims);
    let killing = async {
        let parts = u32::try_from(victims.len())? + 1;
        for (number, victim) in (1..).zip(&victims) {
            let after = number * arguments.orders / parts;
            reached(&mut town, &mut progress, after, arguments.stall_max).await?;
            town.kill(victim).await?;
            town.start(victim).await?;
        }
        reached(&mut town, &mut progress, arguments.orders, arguments.stall_max).await
    };
    let (answers, ()) = tokio::try_join!(placing, killing)?;
    town.stop().await;
    let mut effects = Vec::new();
    for service in SERVICES {
        effects.extend(Book::open(&town.book(service)).await?.read().await?);
    }
    let checks = check(&effects, &answers);
    print(effects.len(), &answers, victims.len(), &checks);
    Ok(checks)
}

/// Places all orders at the office, some at a time, and gives its answers.
async fn place(office: Api, orders: u32, answered: watch::Sender<u32>) -> anyhow::Result<Vec<(Order, Outcome)>> {
    let places = Arc::new(Semaphore::new(IN_FLIGHT));
    let mut tasks = JoinSet::new();
    for number in 1..=orders {
        let to = if number % ISLAND_EVERY == 0 { ISLAND } else { "mainland" };
        let order = Order { id: format!("order-{number}"), to: to.into() };
        let (office, answered, place) = (office.clone(), answered.clone(), places.clone().acquire_owned().await?);
        tasks.spawn(async move {
            // The order's name is its key: after a lost connection it is asked for again, and is the same.
            let outcome = office.call("workflows/order", &order.id, &order).await;
            answered.send_modify(|answered| *answered += 1);
            drop(place);
            (order, outcome)
        });
    }
    let mut answers = Vec::new();
    while let Some(answer) = tasks.join_next().await {
        let (order, outcome) = answer?;
        answers.push((order, outcome?));
    }
    Ok(answers)
}

/// Waits until so many orders are answered. A process that ends by itself ends the demonstration, as does a standstill.
async fn reached(
    town: &mut Town,
    progress: &mut watch::Receiver<u32>,
    answered: u32,
    stall_max: u64,
) -> anyhow::Result<()> {
    loop {
        if *progress.borrow_and_update() >= answered {
            return Ok(());
        }
        tokio::select! {
            changed = tokio::time::timeout(Duration::from_secs(stall_max), progress.changed()) => match changed {
                Ok(changed) => changed.context("the orders ended")?,
                Err(_) => bail!("no order was answered for {stall_max} s"),
            },
            reason = town.until_one_ends() => bail!(reason),
        }
    }
}

fn print(effects: usize, answers: &[(Order, Outcome)], kills: usize, checks: &[Check]) {
    let refused = answers.iter().filter(|(_, outcome)| matches!(outcome, Outcome::Refused(_))).count();
    println!("orders      {} delivered, {refused} refused and compensated", answers.len() - refused);
    println!("kills       {kills} (SIGKILL), of services, sidecars and the orchestrator");
    println!("effects     {effects} in the books of {} services\n", SERVICES.len());
    for Check { name, faults } in checks {
        println!("{}  {name}", if faults.is_empty() { "holds" } else { "FAILS" });
        for fault in faults.iter().take(5) {
            println!("       {fault}");
        }
    }
}
