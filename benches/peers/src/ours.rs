//! Ours and our own orchestrator, by the bench that measures them: it prints JSON.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use tokio::process::Command;

use crate::measure::Round;

/// Options.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Arguments {
    /// The program `accompanist-benches`, built with `--release`.
    #[arg(long)]
    ours: PathBuf,
    /// Orders of a round of ours and of our own orchestrator.
    #[arg(long, default_value_t = 2_000)]
    orders: u64,
}

/// What `throughput --json` prints.
#[derive(Deserialize)]
struct Printed {
    parts: Vec<Part>,
}

#[derive(Deserialize)]
struct Part {
    in_flight: usize,
    ours: Line,
    central: Line,
}

#[derive(Deserialize)]
struct Line {
    sagas_per_second: f64,
    p50_ms: f64,
    p99_ms: f64,
}

/// The names of the two in the table.
pub(crate) const OURS: &str = "ours";
pub(crate) const CENTRAL: &str = "our own orchestrator, as durable";

/// One round of both: by name and number in flight.
pub(crate) async fn round(
    arguments: &Arguments,
    in_flight: &[usize],
    folder: &Path,
) -> Result<BTreeMap<(&'static str, usize), Round>> {
    let Arguments { ours, orders } = arguments;
    let numbers: Vec<_> = in_flight.iter().map(usize::to_string).collect();
    let mut command = Command::new(ours);
    command.args(["throughput", "--central", "--without-floor", "--rounds", "1", "--json", "--in-flight"]);
    command.arg(numbers.join(",")).args(["--orders", &orders.to_string()]).arg("--folder").arg(folder);
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).kill_on_drop(true).output().await;
    let output = output.with_context(|| format!("{} cannot be run", ours.display()))?;
    ensure!(output.status.success(), "{} has failed", ours.display());
    let printed: Printed =
        serde_json::from_slice(&output.stdout).context("the bench did not print what was expected")?;
    let mut rounds = BTreeMap::new();
    for Part { in_flight, ours, central } in printed.parts {
        for (name, Line { sagas_per_second, p50_ms, p99_ms }) in [(OURS, ours), (CENTRAL, central)] {
            rounds.insert((name, in_flight), Round { orders: *orders, sagas_per_second, p50_ms, p99_ms });
        }
    }
    Ok(rounds)
}
