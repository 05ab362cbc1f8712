//! What an order costs with few sessions in the stores, and with many: the same nodes twice, in turns.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use accompanist::{Durability, Node};
use anyhow::{Result, ensure};
use tempfile::TempDir;
use tokio::sync::Semaphore;

use crate::cluster::Cluster;
use crate::counters::Counters;
use crate::fill;
use crate::floor::Floor;
use crate::machine;
use crate::orders::OrderTimes;
use crate::race::{HEAD, System, Tally};
use crate::report::Report;
use crate::saga::{Order, ParcelOrder};

/// What kind of sessions is in the stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Kind {
    /// Closed: their tombstones are kept.
    Closed,
    /// Open, and waiting at all three roles. They are in memory.
    Open,
}

/// Options.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Which sessions are in the stores before.
    #[arg(long, value_enum, default_value_t = Kind::Closed)]
    kind: Kind,
    /// How many are few.
    #[arg(long, default_value_t = 1_000)]
    few: u64,
    /// How many are many. Of open ones a node takes no more than half of its `instances_max`.
    #[arg(long, default_value_t = 1_000_000)]
    many: u64,
    /// Orders in flight.
    #[arg(long, default_value_t = 64)]
    in_flight: u64,
    /// Orders of each round.
    #[arg(long, default_value_t = 1_000)]
    orders: u64,
    /// Rounds of each, in turns.
    #[arg(long, default_value_t = 6)]
    rounds: u32,
    /// Where the stores go, in a folder that is removed at the end [default: the folder for temporary files].
    #[arg(long)]
    folder: Option<PathBuf>,
}

/// Runs the bench.
pub(crate) async fn run(arguments: Arguments) -> Result<()> {
    let base = machine::base(arguments.folder.clone());
    let counters = Counters::install()?;
    let mut systems = Vec::new();
    for count in [arguments.few, arguments.many] {
        let ours = ours(&base, arguments.kind, count, &counters).await?;
        systems.push((format!("ours, {count}"), ours, Tally::new()?));
    }
    if arguments.kind == Kind::Closed {
        // What the database itself makes of it.
        for count in [arguments.few, arguments.many] {
            let floor = Floor::start_in(filled(&base, count)?, Durability::Power).await?;
            systems.push((format!("floor, {count}"), System::Floor(Box::new(floor)), Tally::new()?));
        }
    }
    for (_, system, _) in &systems {
        system.run(arguments.orders, arguments.in_flight, &mut OrderTimes::new()?).await?;
    }
    for round in 0..arguments.rounds {
        let mut measure: Vec<_> = systems.iter_mut().collect();
        if round % 2 == 1 {
            measure.reverse();
        }
        for (_, system, tally) in measure {
            tally.round(system, arguments.orders, arguments.in_flight).await?;
        }
    }

    let mut report = Report::default();
    machine::describe(&mut report, &base);
    report.text("durability", "Power: fdatasync before anything is acknowledged");
    report.fact("orders in flight", arguments.in_flight);
    report.print_facts();
    println!("\nsessions in each store {HEAD}");
    let lines: Vec<_> = systems.iter().map(|(name, _, tally)| (name, tally.line())).collect();
    for (name, line) in &lines {
        println!("{name:<22} {}", line.text());
    }
    for pair in lines.chunks(2) {
        if let [(few, of_few), (many, of_many)] = pair {
            println!("cpu per saga, `{many}` by `{few}`: {:.2}", of_many.cpu_us / of_few.cpu_us);
        }
    }
    for (_, system, _) in systems {
        system.end().await;
    }
    Ok(())
}

fn filled(base: &Path, count: u64) -> Result<TempDir> {
    let folder = tempfile::Builder::new().prefix("accompanist-bench-").tempdir_in(base)?;
    fill::closed(folder.path(), count)?;
    Ok(folder)
}

async fn ours(base: &Path, kind: Kind, count: u64, counters: &Counters) -> Result<System> {
    let cluster = match kind {
        Kind::Closed => Cluster::start_in(filled(base, count)?, Durability::Power).await?,
        Kind::Open => Cluster::start(base, Durability::Power).await?,
    };
    let node = cluster.own.node.clone();
    let mut system = System::Ours(Box::new(cluster), counters.clone());
    match kind {
        Kind::Closed => ensure!(counted(&node).await >= count, "the node has not found what is in its store"),
        Kind::Open => park(&node, &mut system, count).await?,
    }
    Ok(system)
}

/// The tombstones that the node has, once it has counted them.
async fn counted(node: &Node) -> u64 {
    loop {
        if let Some(tombstones) = node.operator().tombstones() {
            return tombstones.count;
        }
        tokio::time::sleep(LOOK_PAUSE).await;
    }
}

/// Starts at one time.
const STARTS: usize = 256;
const LOOK_PAUSE: Duration = Duration::from_millis(100);

/// Opens sessions by running them, until all of them wait for their parcels.
async fn park(node: &Node, system: &mut System, count: u64) -> Result<()> {
    let before = system.usage()?;
    let starts = Arc::new(Semaphore::new(STARTS));
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..count {
        let permit = starts.clone().acquire_owned().await?;
        let node = node.clone();
        tasks.spawn(async move {
            node.start(ParcelOrder, Order::new(number)).await?;
            drop(permit);
            anyhow::Ok(())
        });
        while let Some(started) = tasks.try_join_next() {
            started??;
        }
    }
    while let Some(started) = tasks.join_next().await {
        started??;
    }
    // A write and a message of each role at least, and nothing more to say.
    let mut packets = 0;
    loop {
        let now = system.usage()? - before;
        if now.writes >= 3 * count && now.frames >= 3 * count && now.packets == packets {
            return Ok(());
        }
        packets = now.packets;
        tokio::time::sleep(LOOK_PAUSE).await;
    }
}
