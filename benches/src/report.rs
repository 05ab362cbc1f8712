//! What a bench prints: facts, times and results, for people or as JSON.

use std::time::Duration;

use anyhow::Result;
use fleet::Times;
use serde::Serialize;
use serde_json::Value;

/// Collects what is printed.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    facts: Vec<Fact>,
    times: Vec<Row>,
    results: Vec<Fact>,
}

#[derive(Debug, Serialize)]
struct Fact {
    name: &'static str,
    value: Value,
}

/// In microseconds.
#[derive(Debug, Serialize)]
struct Row {
    name: String,
    n: u64,
    p50_us: f64,
    p90_us: f64,
    p99_us: f64,
}

/// A time in microseconds.
pub(crate) fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

impl Report {
    /// A fact of the run.
    pub(crate) fn fact(&mut self, name: &'static str, value: impl Into<Value>) {
        self.facts.push(Fact { name, value: value.into() });
    }

    /// A fact in words.
    pub(crate) fn text(&mut self, name: &'static str, text: impl Into<String>) {
        self.fact(name, text.into());
    }

    /// A line of the table.
    pub(crate) fn times(&mut self, name: impl Into<String>, times: &Times) {
        let us = |quantile| round(micros(times.quantile(quantile)));
        self.times.push(Row {
            name: name.into(),
            n: times.count(),
            p50_us: us(0.5),
            p90_us: us(0.9),
            p99_us: us(0.99),
        });
    }

    /// A number that was worked out.
    pub(crate) fn result(&mut self, name: &'static str, value: f64) {
        self.results.push(Fact { name, value: ((value * 1e3).round() / 1e3).into() });
    }

    /// A result in words.
    pub(crate) fn result_text(&mut self, name: &'static str, text: impl Into<String>) {
        self.results.push(Fact { name, value: text.into().into() });
    }

    /// Prints the facts of the run for people.
    pub(crate) fn print_facts(&self) {
        print_facts(&self.facts);
    }

    /// Prints all of it.
    pub(crate) fn print(&self, as_json: bool) -> Result<()> {
        if as_json {
            println!("{}", serde_json::to_string_pretty(self)?);
            return Ok(());
        }
        self.print_facts();
        println!("\n{:<40} {:>8} {:>12} {:>12} {:>12}", "time in us", "n", "p50", "p90", "p99");
        for Row { name, n, p50_us, p90_us, p99_us } in &self.times {
            println!("{name:<40} {n:>8} {p50_us:>12.1} {p90_us:>12.1} {p99_us:>12.1}");
        }
        println!();
        print_facts(&self.results);
        Ok(())
    }
}

fn print_facts(facts: &[Fact]) {
    for Fact { name, value } in facts {
        match value {
            Value::String(text) => println!("{name:<40} {text}"),
            value => println!("{name:<40} {value}"),
        }
    }
}

fn round(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}
