//! A loop of many turns and one of few: what is left on disk, and how long a restart takes to be back in it.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use accompanist::id::RoleIndex;
use accompanist::prelude::*;
use accompanist::transport::LocalNetwork;
use accompanist::{InstanceHandle, Known};
use anyhow::Result;

use crate::machine;
use crate::report::Report;

/// The pause between two looks at where the loop is.
const LOOK_PAUSE: Duration = Duration::from_millis(1);
/// Restarts of each store; the median counts.
const RESTARTS: usize = 5;

/// Options.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Turns of the long loop; the short one has a hundredth of it.
    #[arg(long, default_value_t = 100_000)]
    turns: u32,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Where the stores go, in a folder that is removed at the end [default: the folder for temporary files].
    #[arg(long)]
    folder: Option<PathBuf>,
}

#[derive(Clone, Copy)]
struct Meter;
#[derive(Clone, Copy)]
struct Grid;
impl Role for Meter {
    const NAME: &'static str = "meter";
    type Service = ();
}
impl Role for Grid {
    const NAME: &'static str = "grid";
    type Service = ();
}

/// A reading goes to the grid and a price comes back, turn after turn; then it waits for a signal.
#[derive(Clone, Copy)]
struct Readings {
    turns: u32,
}

impl Choreography for Readings {
    const NAME: &'static str = "readings";
    type Roles = (Meter, Grid);
    type Input = At<Meter, u64>;
    type Output = At<Meter, u64>;
    async fn run(&self, ctx: &Context<Self::Roles>, first: At<Meter, u64>) -> Result<At<Meter, u64>, Abort> {
        let goal = self.turns;
        let turn = async |ctx: &Context<(Meter, Grid)>, (Known(turn), reading): (Known<u32>, At<Meter, u64>)| {
            let read = ctx.comm(Meter, Grid, &reading).await?;
            let price = ctx.locally(Grid, |grid| grid.get(&read) + 1);
            let next = ctx.comm(Grid, Meter, &price).await?;
            let state = (Known(turn + 1), next);
            Ok(if turn < goal { ControlFlow::Continue(state) } else { ControlFlow::Break(state.1) })
        };
        let last = ctx.repeat((Known(0), first), turn).await?;
        let more: At<Meter, u64> = ctx.signal(Meter, "end").await?;
        Ok(ctx.locally(Meter, |meter| meter.get(&last) + meter.get(&more)))
    }
}

struct Measured {
    running: Duration,
    /// From the opened store to the program back in its place.
    restart: Duration,
    /// The database's own recovery, before that.
    opening: Duration,
    records: usize,
    disk_mib: f64,
}

/// Runs the bench.
pub(crate) async fn run(arguments: Arguments) -> Result<()> {
    let Arguments { turns, json, folder } = arguments;
    let folder = tempfile::Builder::new().prefix("accompanist-bench-").tempdir_in(machine::base(folder))?;
    let short = measure(&folder.path().join("short"), (turns / 100).max(1)).await?;
    let long = measure(&folder.path().join("long"), turns).await?;
    let mut report = Report::default();
    machine::describe(&mut report, folder.path());
    report.text("durability", "Process: a loop is about its journal, not about syncs");
    report.text("nodes", "1 process plays both roles");
    report.fact("turns", turns);
    report.result("seconds for all turns", long.running.as_secs_f64());
    report.result("turns per second", f64::from(turns) / long.running.as_secs_f64());
    report.result("restart after the long loop, ms", long.restart.as_secs_f64() * 1e3);
    report.result("restart after a hundredth of it, ms", short.restart.as_secs_f64() * 1e3);
    report.result("ratio of the restarts", long.restart.as_secs_f64() / short.restart.as_secs_f64());
    report.result("opening its store before that, ms", long.opening.as_secs_f64() * 1e3);
    report.result("opening the other's store before that, ms", short.opening.as_secs_f64() * 1e3);
    let sizes = |measured: &Measured| format!("{} records, {:.1} MiB", measured.records, measured.disk_mib);
    report.result_text("on disk after the long loop", sizes(&long));
    report.result_text("on disk after a hundredth of it", sizes(&short));
    report.print(json)
}

fn open(folder: &Path) -> Result<FjallStore> {
    Ok(FjallStore::open(folder)?.durability(Durability::Process))
}

async fn node(store: FjallStore, turns: u32) -> Result<Node> {
    let node = Node::builder(NodeId::new("all")?)
        .store(store)
        .transport(LocalNetwork::new())
        .role(Meter, ().into())
        .role(Grid, ().into())
        .choreography(Readings { turns })
        .start();
    Ok(node.await?)
}

async fn measure(folder: &Path, turns: u32) -> Result<Measured> {
    let first = node(open(folder)?, turns).await?;
    let begun = Instant::now();
    let session = first.start(Readings { turns }, 0).await?.id();
    let meter = first.instance(Readings { turns }, session, Meter);
    until_it_waits(&meter).await;
    let running = begun.elapsed();
    let mut records = 0;
    for role in 0..2 {
        records += first.operator().instance(session, RoleIndex(role)).history().await?.records.len();
    }
    first.shutdown().await;
    let (mut restarts, mut openings) = (Vec::new(), Vec::new());
    for _ in 0..RESTARTS {
        let begun = Instant::now();
        let store = open(folder)?;
        openings.push(begun.elapsed());
        let begun = Instant::now();
        let next = node(store, turns).await?;
        until_it_waits(&next.instance(Readings { turns }, session, Meter)).await;
        restarts.push(begun.elapsed());
        next.shutdown().await;
    }
    Ok(Measured { running, restart: median(restarts), opening: median(openings), records, disk_mib: size_mib(folder)? })
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times.get(RESTARTS / 2).copied().unwrap_or_default()
}

/// Until the loop is over, and the program waits for the signal after it.
async fn until_it_waits(meter: &InstanceHandle) {
    let waits = |waits: Vec<(accompanist::Path, String)>| waits.iter().any(|(_, what)| what.contains("`end`"));
    while !meter.waits_for().await.is_ok_and(waits) {
        tokio::time::sleep(LOOK_PAUSE).await;
    }
}

fn size_mib(folder: &Path) -> Result<f64> {
    let mut mib = 0.0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.metadata()?;
        // Blocks, since a database sets space aside that it does not use.
        let used_kib = u32::try_from(std::os::unix::fs::MetadataExt::blocks(&kind) / 2)?;
        mib += if kind.is_dir() { size_mib(&entry.path())? } else { f64::from(used_kib) / 1024.0 };
    }
    Ok(mib)
}
