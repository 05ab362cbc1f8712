//! What is said at the end: a short table, or the same as JSON.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::json;
use warehouse::{Check, Outcome};

use super::tracker::Tracker;
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
    calm: Latency,
    disturbed: Latency,
    pub(super) checks: Vec<Check>,
    pub(super) data: Option<PathBuf>,
}

/// Latencies of some of the orders, in milliseconds.
struct Latency {
    orders: u64,
    p50_ms: f64,
    p99_ms: f64,
}

impl Latency {
    fn of(histogram: &Histogram<u64>) -> Self {
        let at = |quantile| Duration::from_micros(histogram.value_at_quantile(quantile)).as_secs_f64() * 1e3;
        Self { orders: histogram.len(), p50_ms: at(0.5), p99_ms: at(0.99) }
    }

    fn line(&self) -> String {
        if self.orders == 0 {
            return "no such order".into();
        }
        format!("{:>8.1} ms {:>8.1} ms  ({} orders)", self.p50_ms, self.p99_ms, self.orders)
    }

    fn json(&self) -> serde_json::Value {
        json!({ "orders": self.orders, "p50_ms": self.p50_ms, "p99_ms": self.p99_ms })
    }
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
        let (calm, disturbed) = tracker.latencies();
        Self {
            ledger,
            seed,
            orders: tracker.placed().len(),
            completed: ended(Outcome::Completed),
            compensated: ended(Outcome::Compensated),
            kills,
            took,
            calm: Latency::of(calm),
            disturbed: Latency::of(disturbed),
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
        line("latency p50, p99 without kills", self.calm.line());
        line("latency p50, p99 with kills", self.disturbed.line());
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
            "latency_without_kills": self.calm.json(),
            "latency_with_kills": self.disturbed.json(),
            "checks": checks.collect::<Vec<_>>(),
            "data": self.data,
        });
        println!("{}", serde_json::to_string_pretty(&report)?);
        Ok(())
    }
}
