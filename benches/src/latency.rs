//! The time of one saga over three processes, as a ratio to what disk and wire take for its parts.

use std::path::PathBuf;

use accompanist::{Durability, Role};
use anyhow::Result;
use fleet::Times;

use crate::child::NodeNumbers;
use crate::cluster::Cluster;
use crate::counters::Counters;
use crate::disk::{APPEND_BYTES, Disk};
use crate::handover::Handover;
use crate::machine;
use crate::orders::{self, OrderTimes};
use crate::probe::{FRAME_BYTES, Probe};
use crate::report::{Report, micros};
use crate::saga::{Loyalty, Payment};
use crate::usage::Usage;

/// Syncs that the saga cannot do without: one per step.
const STEPS: f64 = 4.0;
/// Messages that the saga cannot do without.
const HOPS: f64 = 3.0;
/// Orders between two samplings of disk and wire.
const ROUND_ORDERS: u64 = 50;
/// Samples of each, between.
const ROUND_SAMPLES: u64 = 25;

/// Options.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Orders that are measured.
    #[arg(long, default_value_t = 2_000)]
    orders: u64,
    /// Orders before those.
    #[arg(long, default_value_t = 200)]
    warmup: u64,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Where the stores go, in a folder that is removed at the end [default: the folder for temporary files].
    #[arg(long)]
    folder: Option<PathBuf>,
}

/// What one run measures.
struct Measured {
    synced: OrderTimes,
    unsynced: OrderTimes,
    disk: Times,
    frame: Times,
    handover: Times,
}

/// What is measured beside the orders.
struct Samplers {
    disk: Disk,
    probe: Probe,
    handover: Handover,
}

/// Runs the bench.
pub(crate) async fn run(arguments: Arguments) -> Result<()> {
    let counters = Counters::install()?;
    let base = machine::base(arguments.folder);
    let mut power = Cluster::start(&base, Durability::Power).await?;
    let mut process = Cluster::start(&base, Durability::Process).await?;
    let mut samplers = Samplers {
        disk: Disk::new(power.folder())?,
        probe: Probe::new(&power.own.transport, &[Payment::NAME, Loyalty::NAME]).await?,
        handover: Handover::new()?,
    };

    let mut measured = Measured::new()?;
    measured.rounds(arguments.warmup, &power, &process, &mut samplers).await?;
    power.clear()?;
    process.clear()?;
    measured = Measured::new()?;
    measured.rounds(arguments.orders, &power, &process, &mut samplers).await?;

    let mut report = Report::default();
    machine::describe(&mut report, power.folder());
    report.text("durability", "Power: fdatasync before anything is acknowledged; and Process, where it says so");
    report.text(
        "nodes",
        "3 processes on loopback, Zenoh over TCP; one order at a time, the next when one has its output",
    );
    report.fact("orders", arguments.orders);
    report.fact("orders to warm up", arguments.warmup);
    report.text("fdatasync", format!("a write of {APPEND_BYTES} bytes, appended to a growing file, and its fdatasync"));
    report.text("frame", format!("half a round trip of {FRAME_BYTES} bytes over the nodes' own connections"));
    measured.describe(&mut report, &power.numbers(&counters)?);
    report.print(arguments.json)?;
    drop(samplers);
    power.end().await;
    process.end().await;
    Ok(())
}

impl Measured {
    fn new() -> Result<Self> {
        let orders = OrderTimes::new()?;
        Ok(Self {
            synced: orders.clone(),
            unsynced: orders,
            disk: Times::new()?,
            frame: Times::new()?,
            handover: Times::new()?,
        })
    }

    /// Orders with and without syncs, and samples of disk and wire, a few of each at a time: noise hits all alike.
    async fn rounds(&mut self, orders: u64, power: &Cluster, process: &Cluster, samplers: &mut Samplers) -> Result<()> {
        let mut left = orders;
        while left > 0 {
            let count = left.min(ROUND_ORDERS);
            left -= count;
            orders::run(&power.own.node, count, 1, &mut self.synced).await?;
            for _ in 0..ROUND_SAMPLES {
                // In turn, as disk and wire are used in a saga.
                self.disk.add(samplers.disk.append()?);
                self.frame.add(samplers.probe.frame()?);
                self.handover.add(samplers.handover.round_trip().await?);
            }
            orders::run(&process.own.node, count, 1, &mut self.unsynced).await?;
        }
        Ok(())
    }

    fn describe(&self, report: &mut Report, nodes: &[(&'static str, NodeNumbers)]) {
        report.times("saga, start to output", &self.synced.output);
        report.times("saga, start to start durable", &self.synced.started);
        report.times("saga, start to settled", &self.synced.settled);
        report.times("fdatasync", &self.disk);
        report.times("frame, one way", &self.frame);
        report.times("hand-over to a thread and back", &self.handover);
        report.times("saga without syncs, start to output", &self.unsynced.output);
        report.times("saga without syncs, start to settled", &self.unsynced.settled);

        let saga = micros(self.synced.output.p50());
        let (disk, frame) = (micros(self.disk.p50()), micros(self.frame.p50()));
        report.result("ratio: saga / (4 fdatasync + 3 frames)", saga / (STEPS * disk + HOPS * frame));
        report.result("us: 4 fdatasync + 3 frames", STEPS * disk + HOPS * frame);
        // The warehouse has two of the four steps.
        let mut steps: Vec<&NodeNumbers> = nodes.iter().map(|(_, numbers)| numbers).collect();
        steps.extend(nodes.first().map(|(_, numbers)| numbers));
        let sync: f64 = steps.iter().map(|numbers| micros(numbers.sync_p50)).sum();
        let apply: f64 = steps.iter().map(|numbers| micros(numbers.apply_p50)).sum();
        report.result("us: 4 syncs as the stores see them", sync);
        report.result("us: 4 batches as the stores see them", apply);
        report.result("us: the rest of the saga", saga - sync - apply - HOPS * frame);
        for (role, numbers) in nodes {
            let count = |count: u64| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
            let per_order = count(numbers.group_commits) / count(self.synced.output.count()).max(1.0);
            let NodeNumbers { apply_p50, sync_p50, usage: Usage { frames, frames_again, .. }, .. } = numbers;
            let text = format!(
                "{per_order:.2} group commits per order, p50 of batch {apply_p50:.1?}, of sync {sync_p50:.1?}; \
                 {frames} frames since its start, {frames_again} sent again"
            );
            report.result_text(role, text);
        }
    }
}
