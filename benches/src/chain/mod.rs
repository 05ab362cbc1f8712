//! A chain of services: handed on from one to the next, or called one after the other from a place in the middle.
//!
//! The latency study of the paper, with delays on the lines between all. Next: [`program`] for what is run, [`layout`]
//! for the delays.

mod layout;
mod plain;
mod program;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use fleet::{Kept, Sites, Times};
use serde::{Deserialize, Serialize};

pub(crate) use self::layout::Layout;
use self::plain::Plain;
use crate::machine;
use crate::report::Report;

/// Requests before those that are measured: connections are made, and Zenoh's routes.
const WARMUP: u64 = 10;

/// Options.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Services of a chain: 1, 3 or 5.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 3, 5])]
    services: Vec<usize>,
    /// Delays of a line, one way, in milliseconds.
    #[arg(long, value_delimiter = ',', default_values_t = [0, 1, 2, 5, 9])]
    delay_ms: Vec<u64>,
    /// Requests of each kind, in turns.
    #[arg(long, default_value_t = 100)]
    requests: u64,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Where the stores go, in a folder that is removed at the end [default: the folder for temporary files].
    #[arg(long)]
    folder: Option<PathBuf>,
}

/// How a request goes its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// From service to service.
    Choreography,
    /// The same programs, stores and network, with the client in the middle.
    Coordinator,
    /// HTTP by hand, with the client in the middle; nothing is durable.
    Http,
}

const WAYS: [Way; 3] = [Way::Choreography, Way::Coordinator, Way::Http];

/// What was measured of one way.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Line {
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
}

impl Line {
    fn of(times: &Times) -> Self {
        Self { p50_ms: times.millis(0.5), p99_ms: times.millis(0.99) }
    }
}

/// One line of the table.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Row {
    /// What our nodes keep; the plain HTTP services keep nothing.
    pub(crate) kept: Kept,
    pub(crate) layout: Layout,
    pub(crate) services: usize,
    n: u64,
    pub(crate) choreography: Line,
    pub(crate) coordinator: Line,
    pub(crate) http: Line,
    /// The choreography's median by the coordinator's.
    ratio: f64,
    /// The same if only the delays took time.
    limit: Option<f64>,
}

/// Runs the bench.
pub(crate) async fn run(arguments: Arguments) -> Result<()> {
    let Arguments { services, delay_ms, requests, json, folder } = arguments;
    let base = machine::base(folder);
    let even = delay_ms.iter().map(|delay_ms| Layout::Even { delay_ms: *delay_ms });
    let zones = delay_ms.iter().filter(|delay_ms| **delay_ms > 0).map(|delay_ms| Layout::Zones { delay_ms: *delay_ms });
    let layouts: Vec<_> = even.chain(zones).collect();
    let mut rows = Vec::new();
    for kept in Kept::ALL {
        for layout in &layouts {
            let folder = tempfile::Builder::new().prefix("accompanist-bench-").tempdir_in(&base)?;
            let delay = |one, other| layout.delay(one, other);
            let sites = Sites::start(&program::ROLES, folder.path(), kept, delay, program::play).await?;
            let plain = Plain::start(*layout).await?;
            for services in &services {
                rows.push(measure(&sites, &plain, kept, *layout, *services, requests).await?);
            }
            sites.end().await;
        }
    }
    let mut report = Report::default();
    machine::describe(&mut report, &base);
    report
        .text("durability", "as each line says: Power (fdatasync before anything is acknowledged), or Process (none)");
    report.text(
        "nodes",
        "a node for the client and each service, in one process; Zenoh over TCP through lines with a delay",
    );
    report.fact("requests of each way, in turns", requests);
    if json {
        println!("{}", serde_json::to_string_pretty(&serde_json::json!({ "facts": report, "rows": rows }))?);
    } else {
        report.print_facts();
        print(&rows);
    }
    Ok(())
}

async fn measure(
    sites: &Sites,
    plain: &Plain,
    kept: Kept,
    layout: Layout,
    services: usize,
    requests: u64,
) -> Result<Row> {
    let client = sites.first()?;
    let [mut choreography, mut coordinator, mut http] = [Times::new()?, Times::new()?, Times::new()?];
    for (number, first) in (0..WARMUP + requests).zip((0..WAYS.len()).cycle()) {
        let mut turns = WAYS;
        turns.rotate_left(first);
        for way in turns {
            let begun = Instant::now();
            let answer = match way {
                Way::Choreography => program::run(client, services, false, number).await?,
                Way::Coordinator => program::run(client, services, true, number).await?,
                Way::Http => plain.run(services, number).await?,
            };
            let took = begun.elapsed();
            ensure!(answer == number + services as u64, "{way:?} has lost a step: {answer} came of {number}");
            let times = match way {
                Way::Choreography => &mut choreography,
                Way::Coordinator => &mut coordinator,
                Way::Http => &mut http,
            };
            if number >= WARMUP {
                times.add(took);
            }
            sites.are_idle().await;
        }
    }
    let seconds = |time: Duration| time.as_secs_f64();
    let limit = seconds(layout.of_chain(services)) / seconds(layout.of_coordinator(services));
    Ok(Row {
        kept,
        layout,
        services,
        n: requests,
        choreography: Line::of(&choreography),
        coordinator: Line::of(&coordinator),
        http: Line::of(&http),
        ratio: seconds(choreography.p50()) / seconds(coordinator.p50()),
        limit: limit.is_finite().then_some(limit),
    })
}

/// Tables in Markdown: one for what is kept, and where the delay is.
pub(crate) fn print(rows: &[Row]) {
    for kept in Kept::ALL.into_iter().rev() {
        for (zones, words) in [(false, "the delay on every line"), (true, "the delay between zones only")] {
            let is_in = |row: &&Row| row.kept == kept && matches!(row.layout, Layout::Zones { .. }) == zones;
            let mut rows = rows.iter().filter(is_in).peekable();
            if rows.peek().is_some() {
                let survives = match kept {
                    Kept::OverPower => "All synced",
                    Kept::OverKill => "On disk, not synced",
                    Kept::InMemory => "In memory",
                };
                println!("\n{survives}, {words}:\n\n{HEAD}");
                rows.for_each(|row| println!("{}", row.line()));
            }
        }
    }
    println!(
        "\nMilliseconds, p50 / p99. The ratio is that of the choreography's median to the coordinator's; the limit is that of the \
         delays alone."
    );
}

/// The head of a table.
const HEAD: &str = "| delay, ms | services | choreography | coordinator | HTTP, in memory | ratio | limit |\n\
                    |--:|--:|--:|--:|--:|--:|--:|";

impl Row {
    /// A line of it.
    fn line(&self) -> String {
        let Self { layout, services, choreography, coordinator, http, ratio, limit, .. } = self;
        let (Layout::Even { delay_ms } | Layout::Zones { delay_ms }) = layout;
        let times = |Line { p50_ms, p99_ms }: &Line| format!("{p50_ms:.2} / {p99_ms:.2}");
        let limit = limit.map_or_else(String::new, |limit| format!("{limit:.2}"));
        let (choreography, coordinator, http) = (times(choreography), times(coordinator), times(http));
        format!("| {delay_ms} | {services} | {choreography} | {coordinator} | {http} | {ratio:.2} | {limit} |")
    }
}
