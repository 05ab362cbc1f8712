//! The choreography beside the orchestrator, with slow lines between all roles: one trip at a time, in turns.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Args;
use fleet::{Kept, Sites};
use hdrhistogram::Histogram;
use serde::Serialize;
use travel::atlas::{Atlas, SEED};
use travel::program::{BookTrip, BookTripCentrally};

use crate::play::{ROLES, with_role};

/// Trips before those that are measured.
const WARMUP: u32 = 5;

#[derive(Debug, Clone, Args)]
pub(crate) struct CompareArguments {
    /// Delays of a line, one way, in milliseconds
    #[arg(long, value_delimiter = ',', default_values_t = [0, 2, 5])]
    delay_ms: Vec<u64>,
    /// Trips of each way, in turns
    #[arg(long, default_value_t = 100)]
    trips: u32,
    /// Write the numbers to this file, too
    #[arg(long)]
    json: Option<PathBuf>,
    /// Where the stores go, instead of the system's folder for temporary files
    #[arg(long, value_name = "DIR")]
    data_in: Option<PathBuf>,
}

/// How a trip is booked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Way {
    Choreography,
    Orchestrator,
    ParallelOrchestrator,
}

const WAYS: [Way; 3] = [Way::Choreography, Way::Orchestrator, Way::ParallelOrchestrator];

/// What was measured of one way with one delay.
#[derive(Debug, Serialize)]
struct Line {
    delay_ms: u64,
    way: Way,
    n: u64,
    p50_ms: f64,
    p99_ms: f64,
    /// The choreography's median by this one's.
    ratio: f64,
}

pub(crate) async fn run(arguments: CompareArguments) -> anyhow::Result<ExitCode> {
    let CompareArguments { delay_ms, trips, json, data_in } = arguments;
    let mut lines = Vec::new();
    for delay_ms in delay_ms {
        let base = data_in.clone().unwrap_or_else(std::env::temp_dir);
        let folder = tempfile::Builder::new().prefix("travel-").tempdir_in(base)?;
        let atlas = Arc::new(Atlas::new(SEED));
        let delay = |_, _| Duration::from_millis(delay_ms);
        let play = |builder, place| with_role(builder, place, &atlas);
        let sites = Sites::start(&ROLES, folder.path(), Kept::OverPower, delay, play).await?;
        lines.extend(measure(&sites, &atlas, delay_ms, trips).await?);
        sites.end().await;
    }
    println!("{:<9} {:<24} {:>6} {:>9} {:>9}  choreography by it", "delay ms", "", "n", "p50 ms", "p99 ms");
    for Line { delay_ms, way, n, p50_ms, p99_ms, ratio } in &lines {
        let way = format!("{way:?}");
        println!("{delay_ms:<9} {way:<24} {n:>6} {p50_ms:>9.2} {p99_ms:>9.2}  {ratio:.2}");
    }
    println!("\nOne trip at a time, from the wish to the itinerary; fdatasync before anything is acknowledged.");
    if let Some(file) = json {
        let processors = std::thread::available_parallelism().map_or(0, usize::from);
        let commit = std::process::Command::new("git").args(["describe", "--always", "--dirty"]).output();
        let commit = commit.map_or_else(|_| String::new(), |said| String::from_utf8_lossy(&said.stdout).trim().into());
        let raw = serde_json::json!({
            "machine": format!("{processors} processors"), "commit": commit,
            "durability": "Power: fdatasync before anything is acknowledged", "lines": lines,
        });
        std::fs::write(&file, serde_json::to_string_pretty(&raw)?)
            .with_context(|| format!("{} cannot be written", file.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn measure(sites: &Sites, atlas: &Atlas, delay_ms: u64, trips: u32) -> anyhow::Result<Vec<Line>> {
    let client = sites.first()?;
    let mut times = [Histogram::<u64>::new(3)?, Histogram::new(3)?, Histogram::new(3)?];
    // Trips with flights, to places and on days that differ, so that nothing is full.
    let wishes = (1..).map(|number| atlas.wish(number)).filter(|wish| !atlas.route(wish).is_local());
    let mut days = 0;
    for ((round, mut wish), first) in (0..WARMUP + trips).zip(wishes).zip((0..WAYS.len()).cycle()) {
        let mut turns: Vec<_> = WAYS.into_iter().zip(&mut times).collect();
        turns.rotate_left(first);
        for (way, times) in turns {
            days += 10;
            (wish.leaves, wish.returns) = (days, days + 3);
            wish.trip = format!("{round} {way:?}");
            let begun = Instant::now();
            match way {
                Way::Choreography => client.start(BookTrip, wish.clone()).await?.output().await?,
                Way::Orchestrator => client.start(BookTripCentrally::<false>, wish.clone()).await?.output().await?,
                Way::ParallelOrchestrator => {
                    client.start(BookTripCentrally::<true>, wish.clone()).await?.output().await?
                }
            };
            let took = begun.elapsed();
            if round >= WARMUP {
                times.record(u64::try_from(took.as_micros())?)?;
            }
            sites.are_idle().await;
        }
    }
    let ms =
        |times: &Histogram<u64>, quantile| Duration::from_micros(times.value_at_quantile(quantile)).as_secs_f64() * 1e3;
    let ours = times.first().map_or(0.0, |times| ms(times, 0.5));
    let lines = WAYS.into_iter().zip(&times).map(|(way, times)| {
        let (p50_ms, p99_ms) = (ms(times, 0.5), ms(times, 0.99));
        Line { delay_ms, way, n: times.len(), p50_ms, p99_ms, ratio: ours / p50_ms }
    });
    Ok(lines.collect())
}
