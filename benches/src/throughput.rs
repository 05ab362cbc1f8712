//! Sagas per second over three processes, with a fixed number of them open.

use std::path::PathBuf;
use std::time::Instant;

use accompanist::Durability;
use anyhow::Result;

use crate::cluster::Cluster;
use crate::counters::Counters;
use crate::machine;
use crate::orders::{self, OrderTimes};
use crate::report::Report;

/// Options.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Orders open at any time.
    #[arg(long, default_value_t = 64)]
    in_flight: u64,
    /// Orders that are measured.
    #[arg(long, default_value_t = 5_000)]
    orders: u64,
    /// Orders before those.
    #[arg(long, default_value_t = 500)]
    warmup: u64,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Where the stores go, in a folder that is removed at the end [default: the folder for temporary files].
    #[arg(long)]
    folder: Option<PathBuf>,
}

/// Runs the bench.
pub(crate) async fn run(arguments: Arguments) -> Result<()> {
    let counters = Counters::install()?;
    let Arguments { in_flight, orders, warmup, json, folder } = arguments;
    let mut cluster = Cluster::start(&machine::base(folder), Durability::Power).await?;
    let mut times = OrderTimes::new()?;
    orders::run(&cluster.warehouse.node, warmup, in_flight, &mut times).await?;
    cluster.clear()?;
    let mut times = OrderTimes::new()?;
    let begun = Instant::now();
    orders::run(&cluster.warehouse.node, orders, in_flight, &mut times).await?;
    let seconds = begun.elapsed().as_secs_f64();

    let mut report = Report::default();
    machine::describe(&mut report, cluster.folder());
    report.text("durability", "Power: fdatasync before anything is acknowledged");
    report.text("nodes", "3 processes on loopback, Zenoh over TCP; an order follows when one has its output");
    report.fact("orders", orders);
    report.fact("orders to warm up", warmup);
    report.fact("orders in flight", in_flight);
    report.times("saga, start to output", &times.output);
    report.times("saga, start to settled", &times.settled);
    report.result("seconds", seconds);
    report.result("sagas per second", f64::from(u32::try_from(orders)?) / seconds);
    for (role, numbers) in cluster.numbers(&counters)? {
        let text = format!(
            "{} group commits, p50 of batch {:.1?}, of sync {:.1?}; {} frames since its start, {} sent again",
            numbers.group_commits, numbers.apply_p50, numbers.sync_p50, numbers.frames, numbers.frames_again
        );
        report.result_text(role, text);
    }
    report.print(json)?;
    cluster.end().await;
    Ok(())
}
