//! The demonstration: three processes, many orders, kill -9 again and again, and then the books are checked.
//!
//! [`fleet`] has the processes, [`source`] places the orders and survives the kills, [`tracker`] knows what
//! became of each order, [`report`] prints.

mod fleet;
mod report;
mod source;
mod tracker;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::sync::watch;
use warehouse::model::CARD_DECLINED;
use warehouse::{Book, Check, Order, check};

use self::fleet::Fleet;
use self::report::Report;
use self::source::Source;
use self::tracker::{Outages, Tracker};
use crate::offline::read_book;
use crate::{Ledger, RoleName};

/// The longest pause between the order that triggers a kill and the kill, so that kills hit every phase.
const KILL_DELAY_MAX_MS: u64 = 30;

#[derive(Debug, Clone, Args)]
pub(crate) struct RunArguments {
    /// How many orders to place
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..))]
    orders: u32,
    /// How often to kill each role's process
    #[arg(long, default_value_t = 4)]
    kills: u32,
    /// How many of the orders have a card that is declined
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(0..=100))]
    decline_percent: u32,
    /// Where the services keep their ledgers
    #[arg(long, value_enum, default_value = "built-in")]
    ledger: Ledger,
    /// Orders that are under way at the same time; fewer when there are many kills for few orders
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..))]
    in_flight: u32,
    /// Draws the same orders and the same sequence of kills again
    #[arg(long)]
    seed: Option<u64>,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
    /// Keep the data folder
    #[arg(long)]
    keep: bool,
    /// Where to make the data folder, instead of the system's folder for temporary files
    #[arg(long, value_name = "DIR")]
    data_in: Option<PathBuf>,
    /// Give up when no order settles for so long
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    stall_max: u64,
}

pub(crate) async fn run(arguments: RunArguments) -> anyhow::Result<ExitCode> {
    let folder = tempfile::Builder::new()
        .prefix("warehouse-")
        .tempdir_in(arguments.data_in.clone().unwrap_or_else(std::env::temp_dir));
    let folder = folder.context("a data folder cannot be made")?;
    let run = demonstrate(&arguments, folder.path()).await;
    let holds = run.as_ref().is_ok_and(|report| report.checks.iter().all(Check::holds));
    let kept = (arguments.keep || !holds).then(|| folder.keep());
    let mut report = match (run, &kept) {
        (Ok(report), _) => report,
        (Err(error), Some(kept)) => return Err(error.context(format!("the data is kept in {}", kept.display()))),
        (Err(error), None) => return Err(error),
    };
    report.data = kept;
    if arguments.json {
        report.print_json()?;
    } else {
        report.print();
    }
    Ok(if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn demonstrate(arguments: &RunArguments, data: &Path) -> anyhow::Result<Report> {
    let seed = arguments.seed.unwrap_or_else(|| fastrand::u64(..));
    let mut random = fastrand::Rng::with_seed(seed);
    let orders = orders(arguments, &mut random);
    let plan = kill_plan(arguments, &mut random);
    let outages = Arc::new(Outages::default());
    // Few orders and many kills: place them slowly enough that each kill finds one under way.
    let in_flight = arguments.in_flight.min(arguments.orders / (3 * arguments.kills + 1)).max(1);
    let mut tracker = Tracker::new(orders, in_flight as usize, outages.clone())?;
    let mut fleet = Fleet::new(data, arguments.ledger)?;
    for role in RoleName::ALL {
        fleet.start(role).await?;
    }
    let bar = progress_bar(arguments);
    let (settled, mut progress) = watch::channel(0);
    let started = Instant::now();
    let stall_max = Duration::from_secs(arguments.stall_max);
    let desk = fleet.desk().to_owned();
    let source = Source { desk: &desk, tracker: &mut tracker, settled: &settled, bar: &bar, stall_max };
    let placing = source.place_all();
    let killing = async {
        for (number, (after, role)) in plan.iter().enumerate() {
            reached(&mut fleet, &mut progress, *after).await?;
            tokio::time::sleep(Duration::from_millis(random.u64(0..=KILL_DELAY_MAX_MS))).await;
            outages.down();
            fleet.kill(*role).await?;
            fleet.start(*role).await?;
            outages.ready();
            bar.set_message(format!("{} of {} kills", number + 1, plan.len()));
        }
        reached(&mut fleet, &mut progress, u64::from(arguments.orders)).await
    };
    tokio::try_join!(placing, killing)?;
    let took = started.elapsed();
    bar.finish_and_clear();
    fleet.stop().await;
    let mut book = Book::default();
    for role in RoleName::ALL {
        book.absorb(read_book(arguments.ledger, role, &fleet.data(role)).await?);
    }
    let checks = check(&book, Some(tracker.placed()));
    Ok(Report::new(arguments.ledger, seed, &tracker, &plan, took, checks))
}

/// Waits until so many orders have settled. A process that ends by itself ends the demonstration.
async fn reached(fleet: &mut Fleet, progress: &mut watch::Receiver<u64>, orders: u64) -> anyhow::Result<()> {
    tokio::select! {
        reached = progress.wait_for(|settled| *settled >= orders) => reached.map(|_| ()).context("the order source ended"),
        reason = fleet.ended() => bail!(reason),
    }
}

fn orders(arguments: &RunArguments, random: &mut fastrand::Rng) -> Vec<Order> {
    let orders = (1..=arguments.orders).map(|number| {
        let order = Order::sample(number);
        if random.u32(0..100) < arguments.decline_percent {
            Order { card: CARD_DECLINED.into(), ..order }
        } else {
            order
        }
    });
    orders.collect()
}

/// Who is killed after how many settled orders: spread evenly, in an order drawn by chance.
fn kill_plan(arguments: &RunArguments, random: &mut fastrand::Rng) -> Vec<(u64, RoleName)> {
    let mut roles: Vec<_> = (0..arguments.kills).flat_map(|_| RoleName::ALL).collect();
    random.shuffle(&mut roles);
    let parts = roles.len() as u64 + 1;
    (1..).map(|number| number * u64::from(arguments.orders) / parts).zip(roles).collect()
}

fn progress_bar(arguments: &RunArguments) -> ProgressBar {
    if arguments.json {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(u64::from(arguments.orders));
    let style = ProgressStyle::with_template("{bar:40.green} {pos}/{len} orders, {msg} ({elapsed})");
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar())).with_message("no kill yet")
}
