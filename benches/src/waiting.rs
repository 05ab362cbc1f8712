//! Many sagas that wait, in one node which plays all three roles: memory while they wait, the time to go on with one,
//! and a restart with all of them unfinished.
//!
//! Each has done three of its four steps and waits for its parcel. The restart is one of another process, so that its
//! memory is its own.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use accompanist::prelude::*;
use accompanist::transport::LocalNetwork;
use anyhow::{Context as _, Result, ensure};
use fleet::Times;
use tokio::task::JoinSet;

use crate::in_flight::memory;
use crate::machine;
use crate::report::Report;
use crate::saga::{Loyalty, Order, PARCEL, ParcelOrder, Payment, Warehouse, WarehouseOrder};

/// Starts at a time.
const STARTERS: u64 = 256;
/// The pause between two looks at something.
const LOOK_PAUSE: Duration = Duration::from_millis(5);
/// So many get their parcel, one after the other; and so many orders are taken after the restart.
const SAMPLES: usize = 200;
/// Instances in memory: half of it is open to what is started here.
const INSTANCES_MAX: usize = 40_000;

/// Options.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Sagas.
    #[arg(long, default_value_t = 1_000_000)]
    sessions: u64,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Where the store goes, in a folder that is removed at the end [default: the folder for temporary files].
    #[arg(long)]
    folder: Option<PathBuf>,
    /// Restart over this store; the bench starts itself so.
    #[arg(long, hide = true)]
    restart_of: Option<PathBuf>,
}

/// Runs the bench.
pub(crate) async fn run(arguments: Arguments) -> Result<()> {
    let Arguments { sessions, json, folder, restart_of } = arguments;
    if let Some(store) = restart_of {
        return restart(&store, sessions, json).await;
    }
    let folder = tempfile::Builder::new().prefix("accompanist-bench-").tempdir_in(machine::base(folder))?;
    let store = folder.path().join("store");
    wait(&store, folder.path(), sessions, json).await?;

    let mut command = Command::new(std::env::current_exe().context("where this program is")?);
    command.args(["waiting", "--sessions", &sessions.to_string()]).arg("--restart-of").arg(&store);
    if json {
        command.arg("--json");
    }
    ensure!(command.status()?.success(), "the restart failed: its message is above");
    Ok(())
}

async fn node(store: FjallStore) -> Result<Node> {
    let settings = Settings { instances_max: INSTANCES_MAX, ..Settings::default() };
    let builder = Node::builder(NodeId::new("all")?).store(store).transport(LocalNetwork::new()).settings(settings);
    let builder = builder.role(Warehouse, ().into()).role(Payment, ().into()).role(Loyalty, ().into());
    Ok(builder.choreography(WarehouseOrder).choreography(ParcelOrder).start().await?)
}

async fn wait(store: &Path, folder: &Path, sessions: u64, json: bool) -> Result<()> {
    let node = node(FjallStore::open(store)?).await?;
    let before = memory("VmRSS")?;
    let begun = Instant::now();
    let mut ids = start(&node, sessions).await?;
    while node.operator().instances() > 0 {
        tokio::time::sleep(LOOK_PAUSE).await;
    }
    let seconds = begun.elapsed().as_secs_f64();
    let (peak, waiting) = (memory("VmHWM")?, memory("VmRSS")?);
    let mut parcels = Times::new()?;
    fastrand::shuffle(&mut ids);
    for id in ids.into_iter().take(SAMPLES) {
        let begun = Instant::now();
        node.instance(ParcelOrder, id, Warehouse).signal(PARCEL, "once", &()).await?;
        node.session::<ParcelOrder>(id).await?.settled().await?;
        parcels.add(begun.elapsed());
    }

    let mut report = Report::default();
    machine::describe(&mut report, folder);
    report.text("durability", "Power: fdatasync before anything is acknowledged");
    report.text("nodes", "1 process plays all three roles, so there are three instances of each saga");
    report.fact("sessions", sessions);
    report.result("seconds until all wait", seconds);
    report.result("sagas per second until they wait", f64::from(u32::try_from(sessions)?) / seconds);
    report.result("resident MiB before", before);
    report.result("resident MiB at the peak", peak);
    report.result("resident MiB while all wait", waiting);
    report.times("a parcel, signal to settled", &parcels);
    report.print(json)?;
    node.shutdown().await;
    Ok(())
}

/// Starts so many, and gives some of their ids. A node that is full says so, and is asked again.
async fn start(node: &Node, sessions: u64) -> Result<Vec<SessionId>> {
    let next = Arc::new(AtomicU64::new(0));
    let every = (sessions / (4 * SAMPLES as u64)).max(1);
    let mut starters = JoinSet::new();
    for _ in 0..STARTERS {
        let (node, next) = (node.clone(), next.clone());
        starters.spawn(async move {
            let mut ids = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= sessions {
                    return anyhow::Ok(ids);
                }
                let id = loop {
                    match node.start(ParcelOrder, Order::new(number)).await {
                        Ok(session) => break session.id(),
                        Err(StartError::Overloaded(_) | StartError::QueueTooLong { .. }) => {
                            tokio::time::sleep(LOOK_PAUSE).await;
                        }
                        Err(error) => return Err(error.into()),
                    }
                };
                if number.is_multiple_of(every) {
                    ids.push(id);
                }
            }
        });
    }
    let mut ids = Vec::new();
    while let Some(starter) = starters.join_next().await {
        ids.extend(starter??);
    }
    Ok(ids)
}

async fn restart(store: &Path, sessions: u64, json: bool) -> Result<()> {
    let begun = Instant::now();
    let store = FjallStore::open(store)?;
    let opened = begun.elapsed().as_secs_f64();
    let node = node(store).await?;
    let mut first = None;
    let mut orders = Times::new()?;
    for number in 0..SAMPLES as u64 {
        let begun_order = Instant::now();
        node.start(WarehouseOrder, Order::new(number)).await?.settled().await?;
        orders.add(begun_order.elapsed());
        first.get_or_insert(begun.elapsed().as_secs_f64());
    }
    let during = node.operator().recovery();
    while !node.operator().recovery().finished {
        tokio::time::sleep(LOOK_PAUSE).await;
    }
    let recovered = begun.elapsed().as_secs_f64();
    let instances = node.operator().recovery().instances;
    while node.operator().instances() > 0 {
        tokio::time::sleep(LOOK_PAUSE).await;
    }

    let mut report = Report::default();
    report.fact("unfinished sessions at the restart", sessions);
    report.result("seconds to open the store", opened);
    report.result("seconds to the first new order settled", first.unwrap_or_default());
    report.times("a new order, start to settled, at first", &orders);
    report.result_text("instances taken up meanwhile", format!("{} of {instances}", during.instances));
    report.result("seconds until all are taken up", recovered);
    report.result("instances taken up per second", f64::from(u32::try_from(instances)?) / (recovered - opened));
    report.result("resident MiB at the peak", memory("VmHWM")?);
    report.result("resident MiB when all wait again", memory("VmRSS")?);
    report.print(json)?;
    node.shutdown().await;
    Ok(())
}
