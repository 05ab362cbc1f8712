//! Many sagas open at once in one node that plays all roles: time and memory.

use std::fs::read_to_string;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use accompanist::prelude::*;
use accompanist::transport::LocalNetwork;
use anyhow::{Context as _, Result};

use crate::orders::{self, OrderTimes};
use crate::report::Report;
use crate::saga::{Loyalty, Payment, Warehouse, WarehouseOrder};
use crate::timed_store::{StoreWatch, TimedStore};
use crate::{cluster, machine};

/// The pause between two looks at how many instances there are.
const LOOK_PAUSE: Duration = Duration::from_millis(5);

/// Options.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Sagas, all started at once.
    #[arg(long, default_value_t = 10_000)]
    sessions: u64,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Where the store goes, in a folder that is removed at the end [default: the folder for temporary files].
    #[arg(long)]
    folder: Option<PathBuf>,
}

/// Runs the bench.
pub(crate) async fn run(arguments: Arguments) -> Result<()> {
    let Arguments { sessions, json, folder } = arguments;
    let folder = tempfile::Builder::new().prefix("accompanist-bench-").tempdir_in(machine::base(folder))?;
    let watch = StoreWatch::new()?;
    let store = FjallStore::open(folder.path().join("store"))?.durability(Durability::Power);
    let node = Node::builder(NodeId::new("all")?)
        .store(TimedStore::new(store, watch.clone()))
        .transport(LocalNetwork::new())
        .settings(cluster::settings())
        .role(Warehouse, ().into())
        .role(Payment, ().into())
        .role(Loyalty, ().into())
        .choreography(WarehouseOrder)
        .start()
        .await?;

    let before = memory("VmRSS")?;
    let most_instances = Arc::new(AtomicUsize::new(0));
    let looker = tokio::spawn({
        let (node, most) = (node.clone(), most_instances.clone());
        async move {
            loop {
                most.fetch_max(node.operator().instances(), Ordering::Relaxed);
                tokio::time::sleep(LOOK_PAUSE).await;
            }
        }
    });
    let mut times = OrderTimes::new()?;
    let begun = Instant::now();
    orders::run(&node, sessions, sessions, &mut times).await?;
    let seconds = begun.elapsed().as_secs_f64();
    looker.abort();
    let (peak, after) = (memory("VmHWM")?, memory("VmRSS")?);

    let mut report = Report::default();
    machine::describe(&mut report, folder.path());
    report.text("durability", "Power: fdatasync before anything is acknowledged");
    report.text("nodes", "1 process plays all three roles; all sagas are started at once");
    report.fact("sessions", sessions);
    report.times("saga, start to start durable", &times.started);
    report.times("saga, start to output", &times.output);
    report.times("saga, start to settled", &times.settled);
    report.result("seconds until all are settled", seconds);
    report.result("sagas per second", f64::from(u32::try_from(sessions)?) / seconds);
    report.result_text("most instances at once", most_instances.load(Ordering::Relaxed).to_string());
    report.result_text("instances at the end", node.operator().instances().to_string());
    report.result("resident MiB before", before);
    report.result("resident MiB at the peak", peak);
    report.result("resident MiB after", after);
    let store = watch.times();
    let text = format!(
        "{} group commits, p50 of batch {:.1?}, of sync {:.1?}",
        store.sync.count(),
        store.apply.p50(),
        store.sync.p50()
    );
    report.result_text("store", text);
    report.print(json)?;
    node.shutdown().await;
    Ok(())
}

/// A line of what the kernel says of this process's memory, in MiB.
pub(crate) fn memory(name: &str) -> Result<f64> {
    memory_of(std::process::id(), name)
}

/// As [`memory`], of another process.
pub(crate) fn memory_of(process: u32, name: &str) -> Result<f64> {
    let status =
        read_to_string(format!("/proc/{process}/status")).context("this bench reads /proc, so it needs Linux")?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)).context("the memory of this process")?;
    let kib: u32 = line.split_whitespace().nth(1).context("the memory of this process")?.parse()?;
    Ok(f64::from(kib) / 1024.0)
}
