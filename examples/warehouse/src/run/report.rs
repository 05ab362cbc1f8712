//! What is said at the end: a short table, or the same as JSON.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::json;
use warehouse::{Check, Outcome};

use super::tracker::{Latencies, Tracker};
use crate::offline::print_check;
use crate::{Ledger, RoleName};

/// The result of a run.
pub(super) struct Report {
    ledger: Ledger,
    seed: u64,
    orders: usize,
    completed: usize,
    compensated: usize,
    kills: BTreeMap<RoleName, u32>,
    took: Duration,
    reset_after: [Part; 3],
    disturbed: [Part; 3],
    pub(super) checks: Vec<Check>,
    pub(super) data: Option<PathBuf>,
}

/// How long some of the orders took until they were accepted, had their output or were settled, in milliseconds.
struct Part {
    until: &'static str,
    orders: u64,
    p50_ms: f64,
    p99_ms: f64,
}

impl Part {
    fn all_of(Latencies { accepted, output, settled }: &Latencies) -> [Self; 3] {
        [Self::new("accepted", accepted), Self::new("output", output), Self::new("settled", settled)]
    }

    fn new(until: &'static str, histogram: &Histogram<u64>) -> Self {
        let at = |quantile| Duration::from_micros(histogram.value_at_quantile(quantile)).as_secs_f64() * 1e3;
        Self { until, orders: histogram.len(), p50_ms: at(0.5), p99_ms: at(0.99) }
    }
}

fn print_latency(of: &str, parts: &[Part; 3]) {
    let orders = parts.iter().map(|part| part.orders).max().unwrap_or_default();
    println!("  latency of the {orders} orders {of}");
    for Part { until, p50_ms, p99_ms, .. } in parts.iter().filter(|part| part.orders > 0) {
        println!("    {until:<28} p50 {p50_ms:>8.1} ms, p99 {p99_ms:>8.1} ms");
    }
}

fn latency_json(parts: &[Part; 3]) -> serde_json::Value {
    let part = |Part { until, orders, p50_ms, p99_ms }: &Part| {
        ((*until).to_owned(), json!({ "orders": orders, "p50_ms": p50_ms, "p99_ms": p99_ms }))
    };
    parts.iter().map(part).collect::<serde_json::Map<_, _>>().into()
}

impl Report {
    pub(super) fn new(
        ledger: Ledger,
        seed: u64,
        tracker: &Tracker,
        kill_plan: &[(u64, RoleName)],
        took: Duration,
        checks: Vec<Check>,
    ) -> Self {
        let ended = |outcome| tracker.placed().values().filter(|placed| placed.answered == Some(outcome)).count();
        let mut kills: BTreeMap<_, u32> = BTreeMap::new();
        for (_, role) in kill_plan {
            *kills.entry(*role).or_default() += 1;
        }
        let (reset_after, disturbed) = tracker.latencies();
        Self {
            ledger,
            seed,
            orders: tracker.placed().len(),
            completed: ended(Outcome::Completed),
            compensated: ended(Outcome::Compensated),
            kills,
            took,
            reset_after: Part::all_of(reset_after),
            disturbed: Part::all_of(disturbed),
            checks,
            data: None,
        }
    }

    pub(super) fn print(&self) {
        let kills: Vec<_> = self.kills.iter().map(|(role, times)| format!("{} {times}", role.name())).collect();
        let kills_total: u32 = self.kills.values().sum();
        let line = |name: &str, value: String| println!("  {name:<30} {value}");
        println!("warehouse, {} ledger, seed {}", self.ledger.name(), self.seed);
        line("orders", format!("{} in {:.1} s", self.orders, self.took.as_secs_f64()));
        line("completed", self.completed.to_string());
        line("compensated", self.compensated.to_string());
        let kills = if kills.is_empty() { String::new() } else { format!(" ({})", kills.join(", ")) };
        line("kills (SIGKILL)", format!("{kills_total}{kills}"));
        print_latency("without kills", &self.reset_after);
        print_latency("with kills", &self.disturbed);
        self.checks.iter().for_each(print_check);
        if let Some(data) = &self.data {
            println!("  the data is kept in {}", data.display());
        }
    }

    pub(super) fn print_json(&self) -> anyhow::Result<()> {
        let kills: BTreeMap<_, _> = self.kills.iter().map(|(role, times)| (role.name(), times)).collect();
        let checks = self
            .checks
            .iter()
            .map(|check| json!({ "name": check.name, "holds": check.holds(), "violations": check.violations }));
        let report = json!({
            "ledger": self.ledger.name(),
            "seed": self.seed,
            "orders": self.orders,
            "completed": self.completed,
            "compensated": self.compensated,
            "kills": kills,
            "seconds": self.took.as_secs_f64(),
            "latency_without_kills": latency_json(&self.reset_after),
            "latency_with_kills": latency_json(&self.disturbed),
            "checks": checks.collect::<Vec<_>>(),
            "data": self.data,
        });
        println!("{}", serde_json::to_string_pretty(&report)?);
        Ok(())
    }
}
