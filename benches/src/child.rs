//! The other two processes: a node and an echo each, and a few numbers on request. Ends when its input does.

use std::fmt;
use std::io::stdin;
use std::path::PathBuf;
use std::time::Duration;

use accompanist::{Durability, metric};
use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::cluster::{Member, wire};
use crate::counters::Counters;
use crate::probe;
use crate::timed_store::StoreTimes;

/// Said once the node runs.
pub(crate) const READY: &str = "ready";

/// What such a process is given.
#[derive(Debug, clap::Args)]
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
    /// Whether to leave out all syncs.
    #[arg(long)]
    no_sync: bool,
}

/// A line of its input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Request {
    /// Forget what was measured.
    Clear,
    /// Say what was measured.
    Numbers,
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Clear => "clear",
            Self::Numbers => "numbers",
        })
    }
}

/// What a node has measured of itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct NodeNumbers {
    /// How many syncs (with or without effect) its store was asked for.
    pub(crate) group_commits: u64,
    /// Median of the batches.
    pub(crate) apply_p50: Duration,
    /// Median of the syncs.
    pub(crate) sync_p50: Duration,
    /// Frames sent since the process began.
    pub(crate) frames: u64,
    /// Those sent again.
    pub(crate) frames_again: u64,
}

impl NodeNumbers {
    /// From what was counted.
    pub(crate) fn new(times: &StoreTimes, counters: &Counters) -> Self {
        Self {
            group_commits: times.sync.count(),
            apply_p50: times.apply.p50(),
            sync_p50: times.sync.p50(),
            frames: counters.get(metric::FRAMES_SENT),
            frames_again: counters.get(metric::FRAMES_SENT_AGAIN),
        }
    }
}

/// Plays the role until the input ends.
pub(crate) async fn run(arguments: Arguments) -> Result<()> {
    let Arguments { role, folder, port, peers, no_sync } = arguments;
    let counters = Counters::install()?;
    let durability = if no_sync { Durability::Process } else { Durability::Power };
    let member = Member::start(&role, &folder, durability, wire(port, &peers)).await?;
    probe::answer(&member.transport, &role).await?;
    println!("{READY}");
    // Blocks this thread, which has nothing else to do.
    for line in stdin().lines() {
        let line = line?;
        if line == Request::Clear.to_string() {
            member.watch.clear();
            println!("cleared");
        } else if line == Request::Numbers.to_string() {
            println!("{}", serde_json::to_string(&NodeNumbers::new(&member.watch.times(), &counters))?);
        }
    }
    member.end().await;
    Ok(())
}
