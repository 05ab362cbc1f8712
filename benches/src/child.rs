//! The other two processes: a node and an echo each, or a part of the floor, and a few numbers on request. Ends when
//! its input does.

use std::fmt;
use std::io::stdin;
use std::path::PathBuf;
use std::time::Duration;

use accompanist::{Durability, Settings};
use anyhow::Result;
use fleet::security::Protection;
use serde::{Deserialize, Serialize};

use crate::cluster::Member;
use crate::counters::Counters;
use crate::floor;
use crate::probe;
use crate::timed_store::StoreWatch;
use crate::usage::Usage;

/// Said once the node runs.
pub(crate) const READY: &str = "ready";

/// What such a process is given.
#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is an argument of its own")]
pub(crate) struct Arguments {
    /// The role it plays.
    #[arg(long)]
    role: String,
    /// The folder of its store.
    #[arg(long)]
    folder: PathBuf,
    /// The port of 127.0.0.1 that it listens on.
    #[arg(long)]
    port: u16,
    /// The ports it connects to.
    #[arg(long = "peer")]
    peers: Vec<u16>,
    /// Role instances in memory.
    #[arg(long)]
    instances_max: usize,
    /// Whether to leave out all syncs.
    #[arg(long)]
    no_sync: bool,
    /// Whether to play the floor's part.
    #[arg(long)]
    floor: bool,
    /// Whether to talk with certificates.
    #[arg(long)]
    secured: bool,
    /// Whether to seal what it says.
    #[arg(long)]
    sealed: bool,
}

/// A line of its input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Request {
    /// Forget the times that were measured.
    Clear,
    /// Say what was measured.
    Numbers,
    /// Answer once the others hear it.
    BeHeard,
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Clear => "clear",
            Self::Numbers => "numbers",
            Self::BeHeard => "be heard",
        })
    }
}

/// What a node, or a part of the floor, has measured of itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct NodeNumbers {
    /// How many syncs (with or without effect) its store was asked for since the times were cleared.
    pub(crate) group_commits: u64,
    /// Median of the batches.
    pub(crate) apply_p50: Duration,
    /// Median of the syncs.
    pub(crate) sync_p50: Duration,
    /// What it and its process have used since their start.
    pub(crate) usage: Usage,
}

impl NodeNumbers {
    /// From what a store was given, and what was counted beside it.
    pub(crate) fn new(watch: &StoreWatch, usage: Usage) -> Self {
        let (times, amounts) = (watch.times(), watch.amounts());
        Self {
            group_commits: times.sync.count(),
            apply_p50: times.apply.p50(),
            sync_p50: times.sync.p50(),
            usage: Usage { syncs: amounts.syncs, rows: amounts.rows, row_bytes: amounts.row_bytes, ..usage },
        }
    }
}

/// Plays the role until the input ends.
pub(crate) async fn run(arguments: Arguments) -> Result<()> {
    let Arguments { role, folder, port, peers, instances_max, no_sync, floor, secured, sealed } = arguments;
    let durability = if no_sync { Durability::Process } else { Durability::Power };
    if floor {
        let part = floor::Part::start(&role, &folder, durability, port, &peers).await?;
        println!("{READY}");
        return answer(part.store_watch(), || part.numbers(), || part.is_heard()).await;
    }
    let counters = Counters::install()?;
    let settings = Settings { instances_max, ..Settings::default() };
    let protection = Protection { secured, sealed };
    let member = Member::start(&role, &folder, durability, settings, (port, &peers), protection).await?;
    if !secured {
        // The echo has a name without a certificate.
        probe::answer(&member.transport, &role).await?;
    }
    println!("{READY}");
    // Nodes send again what was not heard.
    answer(&member.watch, || member.numbers(&counters), async || Ok(())).await?;
    member.end().await;
    Ok(())
}

/// Answers requests until there are no more. Blocks this thread, which has nothing else to do.
async fn answer(
    watch: &StoreWatch,
    numbers: impl Fn() -> Result<NodeNumbers>,
    is_heard: impl AsyncFn() -> Result<()>,
) -> Result<()> {
    for line in stdin().lines() {
        let line = line?;
        if line == Request::Clear.to_string() {
            watch.clear();
            println!("cleared");
        } else if line == Request::Numbers.to_string() {
            println!("{}", serde_json::to_string(&numbers()?)?);
        } else if line == Request::BeHeard.to_string() {
            is_heard().await?;
            println!("heard");
        }
    }
    Ok(())
}
