//! Many times more orders than the nodes can do, for a while: what is beyond a bound is refused, memory stays within
//! what was given for it, and what was accepted is done.
//!
//! Orders come at a fixed rate, whatever becomes of those before them, as from customers who know nothing of each
//! other.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use accompanist::prelude::*;
use anyhow::{Result, ensure};
use fleet::Times;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use crate::cluster::Cluster;
use crate::machine;
use crate::orders::{self, OrderTimes};
use crate::race::number;
use crate::report::Report;
use crate::saga::{Order, WarehouseOrder, shipped};

/// Options.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// How long there is too much.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// How many times more than the nodes can do.
    #[arg(long, default_value_t = 10.0)]
    times: f64,
    /// Role instances in memory of each node; half of it is open to starts.
    #[arg(long, default_value_t = 4_000)]
    instances_max: usize,
    /// What each process may take of memory.
    #[arg(long, default_value_t = 512)]
    memory_mib: u32,
    /// Orders from which is known what the nodes can do, 64 at a time.
    #[arg(long, default_value_t = 4_000)]
    orders: u64,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Where the stores go, in a folder that is removed at the end [default: the folder for temporary files].
    #[arg(long)]
    folder: Option<PathBuf>,
}

/// Orders at a time while it is measured what the nodes can do.
const IN_FLIGHT: u64 = 64;
/// Orders, one at a time, before and after.
const ALONE: u64 = 300;
/// Between two handfuls of new orders.
const TICK: Duration = Duration::from_millis(10);

/// What became of the orders that were too many.
struct Flood {
    offered: u64,
    refused: u64,
    times: Times,
    /// Of those that had their output before the flood was over.
    done_meanwhile: u64,
    drained_in: Duration,
}

/// Runs the bench.
pub(crate) async fn run(arguments: Arguments) -> Result<()> {
    let Arguments { seconds, times, instances_max, memory_mib, orders, json, folder } = arguments;
    let base = machine::base(folder);
    let settings = Settings { instances_max, ..Settings::default() };
    let cluster = Cluster::start_with(&base, Durability::Power, settings).await?;
    let node = cluster.own.node.clone();

    let (mut before, mut usual, mut after) = (OrderTimes::new()?, OrderTimes::new()?, OrderTimes::new()?);
    orders::run(&node, orders / 4, IN_FLIGHT, &mut OrderTimes::new()?).await?; // To warm up.
    orders::run(&node, ALONE, 1, &mut before).await?;
    let begun = Instant::now();
    orders::run(&node, orders, IN_FLIGHT, &mut usual).await?;
    let sustainable = number(orders) / begun.elapsed().as_secs_f64();
    let before_flood = shipped(&node).await?;

    let flood = flood(&node, sustainable * times, Duration::from_secs(seconds)).await?;
    let accepted = flood.times.count();
    let lost = i128::from(accepted) - i128::from(shipped(&node).await? - before_flood);
    orders::run(&node, ALONE, 1, &mut after).await?;
    let peaks = cluster.memory("VmHWM")?;

    let mut report = Report::default();
    machine::describe(&mut report, cluster.folder());
    report.text("nodes", "3 in 3 processes on loopback, Zenoh over TCP; fdatasync before anything is acknowledged");
    report.fact("instances_max of each", instances_max);
    report.fact("seconds of too much", seconds);
    report.times("alone, before", &before.output);
    report.times("64 at a time", &usual.output);
    report.times("accepted while there was too much", &flood.times);
    report.times("alone, after", &after.output);
    report.result("sustainable, orders per second", sustainable);
    report.result("offered, orders per second", number(flood.offered) / number(seconds.max(1)));
    report.fact("offered", flood.offered);
    report.fact("refused", flood.refused);
    report.fact("accepted", accepted);
    report.result("done meanwhile, orders per second", number(flood.done_meanwhile) / number(seconds.max(1)));
    report.result("seconds from the last one offered to the last one done", flood.drained_in.as_secs_f64());
    report.result("p50 alone, after / before", after.output.p50().as_secs_f64() / before.output.p50().as_secs_f64());
    report.result_text("accepted and not done", lost.to_string());
    for (role, peak) in &peaks {
        report.result_text("peak of resident memory", format!("{peak:.0} MiB at {role}"));
    }
    report.print(json)?;
    cluster.end().await;
    ensure!(lost == 0, "{lost} orders were accepted and are not done");
    ensure!(flood.refused > 0 || times <= 1.0, "nothing was refused: this was not too much");
    for (role, peak) in peaks {
        ensure!(peak <= f64::from(memory_mib), "the process of `{role}` took {peak:.0} MiB, {memory_mib} were allowed");
    }
    Ok(())
}

async fn flood(node: &Node, rate: f64, length: Duration) -> Result<Flood> {
    let mut flood =
        Flood { offered: 0, refused: 0, times: Times::new()?, done_meanwhile: 0, drained_in: Duration::ZERO };
    let mut under_way = JoinSet::new();
    let begun = Instant::now();
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    while begun.elapsed() < length {
        ticks.tick().await;
        let due = begun.elapsed().as_secs_f64() * rate;
        while number(flood.offered) < due && begun.elapsed() < length {
            let (node, order) = (node.clone(), Order::new(flood.offered));
            under_way.spawn(async move {
                let begun = Instant::now();
                match node.start(WarehouseOrder, order).await {
                    Ok(session) => {
                        session.settled().await?;
                        Ok(Some(begun.elapsed()))
                    }
                    Err(StartError::Overloaded(_) | StartError::QueueTooLong { .. }) => Ok(None),
                    Err(error) => Err(anyhow::Error::from(error)),
                }
            });
            flood.offered += 1;
            if flood.offered.is_multiple_of(64) {
                tokio::task::yield_now().await; // This one must not hold up the nodes.
            }
        }
        while let Some(done) = under_way.try_join_next() {
            flood.note(done??);
        }
    }
    flood.done_meanwhile = flood.times.count();
    let ended = Instant::now();
    while let Some(done) = under_way.join_next().await {
        flood.note(done??);
    }
    flood.drained_in = ended.elapsed();
    Ok(flood)
}

impl Flood {
    fn note(&mut self, done: Option<Duration>) {
        match done {
            Some(time) => self.times.add(time),
            None => self.refused += 1,
        }
    }
}
