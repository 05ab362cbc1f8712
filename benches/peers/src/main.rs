//! The warehouse saga by Accompanist, and by what one would otherwise take. `README.md` says what and how.
//!
//! Next: [`saga`] for what is done, [`system`] for by whom, [`measure`] for how it is counted.

mod books;
mod dbos;
mod measure;
mod ours;
mod plain;
mod restate;
mod saga;
mod server;
mod system;
mod temporal;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::{Parser, Subcommand};
use serde_json::json;

use crate::measure::{Round, Row};
use crate::ours::{CENTRAL, OURS};
use crate::saga::{Order, Outcome, Services};
use crate::server::Processes;
use crate::system::{Kind, Programs};

/// As our own benches do.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures the warehouse saga of several systems in turns.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Measures.
    Compare(Compare),
    /// The process of a service; `compare` starts it.
    #[command(hide = true)]
    Service {
        /// For whoever looks at the list of processes.
        name: String,
        /// Where it keeps its books; without it, in memory.
        #[arg(long)]
        store: Option<PathBuf>,
    },
}

/// Options.
#[derive(Debug, clap::Args)]
struct Compare {
    #[command(flatten)]
    ours: ours::Arguments,
    #[command(flatten)]
    programs: Programs,
    /// Which systems, beside ours.
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "plain,dbos,restate,restate-nodelay,restate-two,temporal,temporal-tuned"
    )]
    systems: Vec<Kind>,
    /// What the services of the others do before they answer.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "memory,disk")]
    services: Vec<Kept>,
    /// Orders in flight.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 64])]
    in_flight: Vec<usize>,
    /// Rounds of each system, in turns.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// How long each round of another system is, for each number of orders in flight, in seconds.
    #[arg(long, default_value_t = 15)]
    seconds: u64,
    /// Where the stores go, in folders that are removed [default: the folder for temporary files].
    #[arg(long)]
    folder: Option<PathBuf>,
    /// Writes all of it there, as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> Result<()> {
    match Arguments::parse().what {
        What::Compare(arguments) => Box::pin(compare(arguments)).await,
        What::Service { store, .. } => saga::serve(store.as_deref()).await,
    }
}

/// What a service does before it answers. Ours are always on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kept {
    /// It notes it in memory: all durability is the orchestrator's.
    Memory,
    /// It syncs it: as durable as ours.
    Disk,
}

/// By name, services, and number in flight.
type Rounds = BTreeMap<(&'static str, Kept, usize), Vec<Round>>;

async fn compare(arguments: Compare) -> Result<()> {
    let base = arguments.folder.clone().unwrap_or_else(std::env::temp_dir);
    let facts = facts(&arguments, &base);
    let mut rounds = Rounds::new();
    // Why a system could not be measured.
    let mut failed = BTreeMap::new();
    for turn in 0..arguments.rounds {
        eprintln!("round {}: {OURS}, {CENTRAL}", turn + 1);
        for ((name, in_flight), round) in ours::round(&arguments.ours, &arguments.in_flight, &base).await? {
            rounds.entry((name, Kept::Disk, in_flight)).or_default().push(round);
        }
        for (kind, kept) in arguments.others() {
            if failed.contains_key(kind.name()) {
                continue;
            }
            eprintln!("round {}: {}, services {kept:?}", turn + 1, kind.name());
            let folder = tempfile::Builder::new().prefix("accompanist-peers-").tempdir_in(&base)?;
            let measured = Box::pin(measure(kind, kept, &arguments, folder.path(), &mut rounds)).await;
            if let Err(error) = measured {
                eprintln!("  {error:#}");
                failed.insert(kind.name(), format!("{error:#}"));
            }
        }
    }
    let ours = [(OURS, Kept::Disk), (CENTRAL, Kept::Disk)];
    let mut rows = Vec::new();
    for (name, kept) in ours.into_iter().chain(arguments.others().map(|(kind, kept)| (kind.name(), kept))) {
        for in_flight in &arguments.in_flight {
            if let Some(rounds) = rounds.remove(&(name, kept, *in_flight)).filter(|_| !failed.contains_key(name)) {
                rows.push(Row::new(name, kept, *in_flight, rounds));
            }
        }
    }
    print(&rows, &failed);
    if let Some(path) = &arguments.json {
        let text = serde_json::to_string_pretty(&json!({ "facts": facts, "rows": rows, "not measured": failed }))?;
        fs::write(path, text + "\n").with_context(|| format!("{} cannot be written", path.display()))?;
    }
    Ok(())
}

impl Compare {
    /// What is measured beside ours, in that order.
    fn others(&self) -> impl Iterator<Item = (Kind, Kept)> {
        self.services.iter().flat_map(|kept| self.systems.iter().map(|kind| (*kind, *kept)))
    }
}

/// One round of one system, over services and a store of its own.
async fn measure(kind: Kind, kept: Kept, arguments: &Compare, folder: &Path, rounds: &mut Rounds) -> Result<()> {
    let stores = tempfile::Builder::new().prefix("accompanist-peers-").tempdir_in(folder.parent().unwrap_or(folder))?;
    let processes = Processes::start((kept == Kept::Disk).then(|| stores.path()))?;
    let services = Services::new(processes.addresses);
    let system = Arc::new(Box::pin(kind.start(services.clone(), folder, &arguments.programs)).await?);
    let next = Arc::new(AtomicU64::new(0));
    for in_flight in &arguments.in_flight {
        measure::run(&system, &next, *in_flight, Duration::from_secs(arguments.seconds) / 5).await?;
        let round = measure::run(&system, &next, *in_flight, Duration::from_secs(arguments.seconds)).await?;
        rounds.entry((kind.name(), kept, *in_flight)).or_default().push(round);
    }
    // It is the same saga: what is refused is compensated, and each step of each other order was done.
    let shipped = next.load(Ordering::Relaxed);
    ensure!(system.order(Order::refused(shipped)).await? == Outcome::Refused, "an order was not refused");
    let done = services.done().await?;
    ensure!(
        done.iter().all(|done| *done as u64 == shipped),
        "{shipped} orders were shipped, but of each step: {done:?}"
    );
    match Arc::try_unwrap(system) {
        Ok(system) => system.end().await,
        Err(_) => anyhow::bail!("a caller is left"),
    }
}

fn print(rows: &[Row], failed: &BTreeMap<&str, String>) {
    println!("{}", measure::HEAD);
    for row in rows {
        let ours = rows.iter().find(|other| other.system == OURS && other.in_flight == row.in_flight);
        if let Some(ours) = ours {
            println!("{}", row.line(ours));
        }
    }
    for (name, why) in failed {
        println!("\n{name}: not measured: {why}");
    }
}

/// Where the numbers come from.
fn facts(arguments: &Compare, folder: &Path) -> serde_json::Value {
    let said = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output().ok().filter(|output| output.status.success());
        output.map_or_else(|| "unknown".to_owned(), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let processors = std::thread::available_parallelism().map_or(0, usize::from);
    let model = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = model.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let model = model.trim_start_matches([' ', '\t', ':']);
    let kind = said("df", &["--output=fstype", &folder.to_string_lossy()]);
    let versions: BTreeMap<_, _> = arguments
        .systems
        .iter()
        .map(|kind| {
            let version = kind.version(&arguments.programs);
            (kind.name(), version.unwrap_or_else(|error| format!("{error:#}")))
        })
        .collect();
    json!([
        { "name": "machine", "value": format!("{processors} processors ({model}), kernel {}", said("uname", &["-r"])) },
        { "name": "file system", "value": kind.lines().last().unwrap_or_default() },
        { "name": "commit", "value": said("git", &["describe", "--always", "--dirty"]) },
        { "name": "versions", "value": versions },
        { "name": "rounds, in turns", "value": arguments.rounds },
        { "name": "seconds of a round", "value": arguments.seconds },
    ])
}
