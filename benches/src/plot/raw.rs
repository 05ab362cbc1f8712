//! The raw files: which plots come of each.

use anyhow::{Result, ensure};
use fleet::Kept;
use serde::Deserialize;
use serde_json::Value;

use super::{Plot, Series, Sheet};
use crate::chain::{Layout, Line, Row};

/// A raw file, by what it has.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Raw {
    /// Of `chain`.
    Chain { facts: Report, rows: Vec<Row> },
    /// Of the `compare` of an example.
    Ways { title: String, facts: Vec<Fact>, lines: Vec<OfWay> },
    /// Of the `compare` of the peers.
    Systems { facts: Vec<Fact>, rows: Vec<OfSystem> },
}

#[derive(Deserialize)]
pub(super) struct Report {
    facts: Vec<Fact>,
}

#[derive(Deserialize)]
pub(super) struct Fact {
    name: String,
    value: Value,
}

#[derive(Deserialize)]
pub(super) struct OfWay {
    delay_ms: u32,
    way: String,
    p50_ms: f64,
}

#[derive(Deserialize)]
pub(super) struct OfSystem {
    system: String,
    /// What its services keep.
    services: String,
    in_flight: u32,
    /// Of all rounds.
    orders: u64,
    sagas_per_second: f64,
    p50_ms: f64,
}

impl Raw {
    pub(super) fn read(text: &str) -> Result<Self> {
        Ok(serde_json::from_str(text)?)
    }

    /// The plots; `name` is that of the file.
    pub(super) fn sheets(&self, name: &str) -> Result<Vec<Sheet>> {
        let sheets = match self {
            Self::Chain { facts, rows } => of_chain(&facts.facts, rows, name),
            Self::Ways { title, facts, lines } => vec![Sheet {
                name: name.to_owned(),
                title: format!("{title}: p50 by the delay on every line"),
                source: source(facts, name),
                plot: Plot::Lines { words: "on every line", series: of_ways(lines) },
            }],
            Self::Systems { facts, rows } => of_systems(facts, rows, name),
        };
        for sheet in &sheets {
            let empty = match &sheet.plot {
                Plot::Lines { series, .. } => series.is_empty() || series.iter().any(|series| series.points.is_empty()),
                Plot::Bars { bars, .. } => bars.is_empty(),
            };
            ensure!(!empty, "it has nothing for `{}`", sheet.title);
        }
        Ok(sheets)
    }
}

fn of_chain(facts: &[Fact], rows: &[Row], name: &str) -> Vec<Sheet> {
    let kinds = [(false, "even", "on every line"), (true, "zones", "between zones")];
    let kinds = kinds.into_iter().flat_map(|kind| [3, 5].map(|services| (kind, services)));
    let sheets = kinds.map(|((zones, kind, words), services)| Sheet {
        name: format!("chain-{services}-{kind}"),
        title: format!("A chain of {services} services: p50 by the delay {words}, durable"),
        source: source(facts, name),
        plot: Plot::Lines { words, series: of_rows(rows, zones, services) },
    });
    sheets.collect()
}

/// The medians of the rows that survive a power cut.
fn of_rows(rows: &[Row], zones: bool, services: usize) -> Vec<Series> {
    let chosen = rows.iter().filter(|row| row.kept == Kept::OverPower && row.services == services);
    let chosen: Vec<_> = chosen
        .filter_map(|row| match row.layout {
            Layout::Even { delay_ms } if !zones => Some((u32::try_from(delay_ms).ok()?, row)),
            Layout::Zones { delay_ms } if zones => Some((u32::try_from(delay_ms).ok()?, row)),
            _ => None,
        })
        .collect();
    let series = |name: &str, line: fn(&Row) -> Line| Series {
        name: name.to_owned(),
        points: chosen.iter().map(|(delay, row)| (f64::from(*delay), line(row).p50_ms)).collect(),
    };
    vec![
        series("choreography", |row| row.choreography),
        series("coordinator, as durable", |row| row.coordinator),
        series("HTTP by hand, in memory", |row| row.http),
    ]
}

fn of_ways(lines: &[OfWay]) -> Vec<Series> {
    let mut all: Vec<Series> = Vec::new();
    for OfWay { delay_ms, way, p50_ms } in lines {
        let point = (f64::from(*delay_ms), *p50_ms);
        match all.iter_mut().find(|series| series.name == *way) {
            Some(series) => series.points.push(point),
            None => all.push(Series { name: way.clone(), points: vec![point] }),
        }
    }
    all
}

fn of_systems(facts: &[Fact], rows: &[OfSystem], name: &str) -> Vec<Sheet> {
    let bars = |in_flight, value: fn(&OfSystem) -> f64| {
        let rows = rows.iter().filter(|row| row.in_flight == in_flight);
        let named = |row: &OfSystem| format!("{}; services: {}; n = {}", row.system, row.services, row.orders);
        rows.map(|row| (named(row), value(row))).collect()
    };
    let sheet = |kind: &str, title: &str, unit, bars| Sheet {
        name: format!("{name}-{kind}"),
        title: format!("A warehouse saga of four steps: {title}"),
        source: format!(
            "{}; medians of {} rounds in turns; synced as benches/peers says; {name}.json",
            origin(facts),
            fact(facts, "rounds")
        ),
        plot: Plot::Bars { unit, bars },
    };
    vec![
        sheet("alone", "p50 of one at a time", "ms", bars(1, |row| row.p50_ms)),
        sheet("throughput", "64 in flight", "sagas per second", bars(64, |row| row.sagas_per_second)),
    ]
}

/// Where the numbers come from, in a line.
fn source(facts: &[Fact], name: &str) -> String {
    let n = told(facts, "requests").unwrap_or_else(|| fact(facts, "rounds"));
    format!("{}; fdatasync before each acknowledgement; n = {n} each; {name}.json", origin(facts))
}

fn origin(facts: &[Fact]) -> String {
    format!("{}; commit {}", fact(facts, "machine"), fact(facts, "commit"))
}

/// The fact whose name begins so, or that it is not told.
fn fact(facts: &[Fact], begin: &str) -> String {
    told(facts, begin).unwrap_or_else(|| "unknown".into())
}

fn told(facts: &[Fact], begin: &str) -> Option<String> {
    let value = facts.iter().find(|fact| fact.name.starts_with(begin)).map(|fact| &fact.value)?;
    Some(value.as_str().map_or_else(|| value.to_string(), String::from))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn each_way_is_a_series_and_the_source_is_told() {
        let raw = r#"{"title": "A trip", "facts": [{"name": "machine", "value": "two processors"}, {"name": "commit", "value": "abc"},
            {"name": "rounds of each way, in turns", "value": 7}], "lines": [
            {"delay_ms": 0, "way": "a", "n": 7, "p50_ms": 1.5, "p99_ms": 2.0},
            {"delay_ms": 5, "way": "a", "n": 7, "p50_ms": 6.5, "p99_ms": 7.0}]}"#;
        let sheets = Raw::read(raw).unwrap().sheets("trip").unwrap();
        let [Sheet { name, source, plot: Plot::Lines { series, .. }, .. }] = &*sheets else {
            panic!("one plot of lines")
        };
        assert_eq!((name.as_str(), series.len()), ("trip", 1));
        assert_eq!(series[0].points, [(0.0, 1.5), (5.0, 6.5)]);
        assert_eq!(source, "two processors; commit abc; fdatasync before each acknowledgement; n = 7 each; trip.json");
    }

    #[test]
    fn a_file_with_nothing_to_draw_is_refused() {
        assert!(Raw::read("{}").is_err());
        let raw = Raw::read(r#"{"facts": [], "rows": []}"#).unwrap();
        assert!(raw.sheets("peers").is_err());
    }
}
