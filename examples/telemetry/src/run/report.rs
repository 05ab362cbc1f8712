//! What is said meanwhile and at the end.

use std::time::Instant;

use telemetry::{Check, Log, Report};

/// How many columns a curve has.
const COLUMNS: usize = 48;
/// The height of a curve at a column.
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// Violations that are printed of one check.
const VIOLATIONS_PRINTED_MAX: usize = 10;

/// How far all are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) told: u32,
    pub(super) arrived: u32,
}

/// Says when what has happened.
pub(super) struct Timeline(Instant);

impl Timeline {
    pub(super) fn begin() -> Self {
        println!("  {:>7}  {:>6}  {:>7}  {:>9}", "time", "told", "arrived", "on the way");
        Self(Instant::now())
    }

    pub(super) fn say(&mut self, line: Line, what: &str) {
        let Line { told, arrived } = line;
        let waiting = told.saturating_sub(arrived);
        println!("  {:>5.1} s  {told:>6}  {arrived:>7}  {waiting:>9}   {what}", self.0.elapsed().as_secs_f64());
    }
}

/// The curves as the site has them, and what was checked.
pub(super) fn print(log: &Log, checks: &[Check]) {
    println!();
    for (sensor, reports) in log {
        let all = reports.iter().map(|report| report.reading.centidegrees);
        let (low, high) = (all.clone().min().unwrap_or_default(), all.max().unwrap_or_default());
        let [low, high] = [low, high].map(|centidegrees| f64::from(centidegrees) / 100.0);
        println!("  {sensor:<8} {}  {} readings, {low:.1} to {high:.1} °C", curve(reports), reports.len());
    }
    println!();
    for check in checks {
        println!("  {:<30} {}", check.name, if check.holds() { "pass" } else { "FAIL" });
        for violation in check.violations.iter().take(VIOLATIONS_PRINTED_MAX) {
            println!("      {violation}");
        }
        if let Some(more) = check.violations.len().checked_sub(VIOLATIONS_PRINTED_MAX).filter(|more| *more > 0) {
            println!("      and {more} more");
        }
    }
}

/// The smoothed temperatures as a line of bars.
fn curve(reports: &[Report]) -> String {
    let per_column = reports.len().div_ceil(COLUMNS).max(1);
    let means = reports.chunks(per_column).map(|column| {
        let sum: i64 = column.iter().map(|report| i64::from(report.smoothed)).sum();
        sum / i64::try_from(column.len()).unwrap_or(1).max(1)
    });
    let means: Vec<i64> = means.collect();
    let (low, high) =
        (means.iter().min().copied().unwrap_or_default(), means.iter().max().copied().unwrap_or_default());
    let bar = |mean: &i64| {
        let height = (mean - low) * 7 / (high - low).max(1);
        usize::try_from(height).ok().and_then(|height| BARS.get(height)).copied().unwrap_or(' ')
    };
    means.iter().map(bar).collect()
}
