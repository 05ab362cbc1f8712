//! Several ways to the same end, in turns, with slow lines between the hosts: what the examples' `compare` does.

use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use serde_json::json;

use crate::{Times, machine};

/// Rounds before those that are measured: connections are made, and routes.
const WARMUP: u32 = 5;

/// The options of a comparison.
#[derive(Debug, Clone, Args)]
pub struct Comparison {
    /// Delays of a line, one way, in milliseconds
    #[arg(long, value_delimiter = ',', default_values_t = [0, 2, 5])]
    delay_ms: Vec<u64>,
    /// Rounds: in each, every way is gone once
    #[arg(long, default_value_t = 100)]
    rounds: u32,
    /// Write the numbers to this file, too: `accompanist-benches plot` draws them
    #[arg(long)]
    json: Option<PathBuf>,
    /// Where the stores go, instead of the system's folder for temporary files
    #[arg(long, value_name = "DIR")]
    data_in: Option<PathBuf>,
}

/// A way, and its name in tables.
pub type Way<W> = (W, &'static str);

impl Comparison {
    /// Measures `ways` with each delay, by `measure`: it is given the delay and a folder, goes through all [`Turns`],
    /// and says of each how long it took. Prints a table with the ratios of the first way to the others.
    ///
    /// # Errors
    /// Those of `measure`; and when the file cannot be written.
    pub async fn run<W: Copy>(
        &self,
        title: &str,
        ways: &[Way<W>],
        measure: impl AsyncFn(Duration, &Path, &mut Turns<W>) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let base = self.data_in.clone().unwrap_or_else(std::env::temp_dir);
        let (mut table, mut lines) = (Table::new(ways), Vec::new());
        for delay_ms in &self.delay_ms {
            let folder = tempfile::Builder::new().prefix("compare-").tempdir_in(&base)?;
            let mut turns = Turns::new(ways, self.rounds)?;
            measure(Duration::from_millis(*delay_ms), folder.path(), &mut turns).await?;
            let medians: Vec<_> = turns.times.iter().map(|times| (times.millis(0.5), times.millis(0.99))).collect();
            table.add(*delay_ms, &medians);
            lines.extend(ways.iter().zip(medians).map(|((_, way), (p50_ms, p99_ms))| {
                json!({ "delay_ms": delay_ms, "way": way, "n": self.rounds, "p50_ms": p50_ms, "p99_ms": p99_ms })
            }));
        }
        println!("{}", table.text());
        println!(
            "\nOne at a time, p50 / p99 in ms, n = {} each; all is synced before it is acknowledged.",
            self.rounds
        );
        let Some(file) = &self.json else { return Ok(()) };
        let raw = json!({
            "title": title,
            "facts": [
                { "name": "machine", "value": machine::machine() },
                { "name": "file system", "value": machine::file_system(&base) },
                { "name": "commit", "value": machine::commit() },
                { "name": "durability", "value": "Power: fdatasync before anything is acknowledged" },
                { "name": "rounds of each way, in turns", "value": self.rounds },
            ],
            "lines": lines,
        });
        let text = serde_json::to_string_pretty(&raw)? + "\n";
        std::fs::write(file, text).with_context(|| format!("{} cannot be written", file.display()))
    }
}

/// The ways in turns, so that noise of the machine hits all alike; another one comes first in each round.
#[derive(Debug)]
pub struct Turns<W> {
    ways: Vec<W>,
    rounds: u32,
    times: Vec<Times>,
    /// How many turns were begun.
    begun: usize,
}

impl<W: Copy> Turns<W> {
    fn new(ways: &[Way<W>], rounds: u32) -> anyhow::Result<Self> {
        let times = ways.iter().map(|_| Times::new()).collect::<anyhow::Result<_>>()?;
        Ok(Self { ways: ways.iter().map(|(way, _)| *way).collect(), rounds: rounds + WARMUP, times, begun: 0 })
    }

    /// The round and the way of the next turn, until all have had theirs.
    #[expect(clippy::should_implement_trait, reason = "what a turn took is told between two calls")]
    pub fn next(&mut self) -> Option<(u32, W)> {
        self.begun += 1;
        let (round, place) = self.turn()?;
        let way = self.ways.get(place).filter(|_| round < self.rounds)?;
        Some((round, *way))
    }

    /// How long that turn took.
    pub fn took(&mut self, time: Duration) {
        if let Some((WARMUP.., place)) = self.turn()
            && let Some(times) = self.times.get_mut(place)
        {
            times.add(time);
        }
    }

    /// The round of the turn that was begun last, and the place of its way.
    fn turn(&self) -> Option<(u32, usize)> {
        let (turn, ways) = (self.begun.checked_sub(1)?, self.ways.len());
        let (round, step) = (turn.checked_div(ways)?, turn.checked_rem(ways)?);
        Some((u32::try_from(round).ok()?, (round + step) % ways))
    }
}

/// A table in Markdown.
struct Table(Vec<String>);

impl Table {
    fn new<W>(ways: &[Way<W>]) -> Self {
        let names = ways.iter().map(|(_, name)| format!(" {name} |"));
        let ratios = ways.iter().skip(1).map(|(_, name)| format!(" ratio to {name} |"));
        let head = format!("| delay, ms |{}", names.chain(ratios).collect::<String>());
        let rule = format!("|--:|{}", "--:|".repeat((ways.len() * 2).saturating_sub(1)));
        Self(vec![head, rule])
    }

    /// A line of p50 and p99 of each way.
    fn add(&mut self, delay_ms: u64, medians: &[(f64, f64)]) {
        let times = medians.iter().map(|(p50, p99)| format!(" {p50:.2} / {p99:.2} |"));
        let first = medians.first().map_or(f64::NAN, |(p50, _)| *p50);
        let ratios = medians.iter().skip(1).map(|(p50, _)| format!(" {:.2} |", first / p50));
        self.0.push(format!("| {delay_ms} |{}", times.chain(ratios).collect::<String>()));
    }

    fn text(&self) -> String {
        self.0.join("\n")
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn each_way_has_a_turn_in_each_round_and_another_one_comes_first() {
        let mut turns = Turns::new(&[('a', "a"), ('b', "b"), ('c', "c")], 1).unwrap();
        let mut seen = String::new();
        while let Some((round, way)) = turns.next() {
            turns.took(Duration::from_millis(if round < WARMUP { 1_000 } else { u64::from(u32::from(way) - 96) }));
            seen.push(way);
        }
        assert_eq!(seen, "abcbcacababcbcacab");
        // Three digits are kept.
        let medians: Vec<_> = turns.times.iter().map(|times| times.millis(0.5).round()).collect();
        assert_eq!(medians, [1.0, 2.0, 3.0], "the first rounds do not count");
    }

    #[test]
    fn the_table_has_the_ratios_of_the_first_to_the_others() {
        let mut table = Table::new(&[((), "one"), ((), "other")]);
        table.add(5, &[(10.0, 11.0), (20.0, 21.0)]);
        assert_eq!(
            table.text(),
            "| delay, ms | one | other | ratio to other |\n|--:|--:|--:|--:|\n| 5 | 10.00 / 11.00 | 20.00 / 21.00 | 0.50 |"
        );
    }
}
