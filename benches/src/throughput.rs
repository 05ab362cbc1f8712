//! Ours beside the floor, in turns, with different numbers of orders in flight: one table.

use std::path::PathBuf;

use accompanist::Durability;
use anyhow::{Result, ensure};
use serde::Serialize;

use crate::cluster::Cluster;
use crate::counters::Counters;
use crate::floor::Floor;
use crate::machine;
use crate::orders::OrderTimes;
use crate::race::{HEAD, Line, System, Tally};
use crate::report::Report;

/// Options.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Orders in flight, one part of the table for each.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 16, 64, 256, 1024])]
    in_flight: Vec<u64>,
    /// Orders of each round; four times those in flight if that is more.
    #[arg(long, default_value_t = 500)]
    orders: u64,
    /// Rounds of each of the two, in turns.
    #[arg(long, default_value_t = 6)]
    rounds: u32,
    /// Measure ours alone, for a profiler: no floor, no ratios.
    #[arg(long)]
    without_floor: bool,
    /// Leave out all syncs (`Durability::Process`).
    #[arg(long)]
    no_sync: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Where the stores go, in a folder that is removed at the end [default: the folder for temporary files].
    #[arg(long)]
    folder: Option<PathBuf>,
}

/// Ours and the floor, with one number of orders in flight.
#[derive(Debug, Serialize)]
struct Part {
    in_flight: u64,
    ours: Line,
    floor: Line,
    /// Ours by the floor's.
    throughput_ratio: f64,
    /// The same for the worst and the best round.
    throughput_ratio_of_rounds: (f64, f64),
    p50_ratio: f64,
    p99_ratio: f64,
    cpu_ratio: f64,
}

/// Runs the bench.
pub(crate) async fn run(arguments: Arguments) -> Result<()> {
    let Arguments { in_flight, orders, rounds, without_floor, no_sync, json, folder } = arguments;
    let durability = if no_sync { Durability::Process } else { Durability::Power };
    let base = machine::base(folder);
    let folder = || tempfile::Builder::new().prefix("accompanist-bench-").tempdir_in(&base);
    let counters = Counters::install()?;
    let mut ours = System::Ours(Box::new(Cluster::start_in(folder()?, durability).await?), counters);
    if without_floor {
        let outcome = alone(&mut ours, &in_flight, orders, rounds).await;
        ours.end().await;
        return outcome;
    }
    let mut floor = System::Floor(Box::new(Floor::start_in(folder()?, durability).await?));

    let mut parts = Vec::new();
    for in_flight in in_flight {
        let count = orders.max(4 * in_flight);
        parts.push(measure(&mut ours, &mut floor, count, in_flight, rounds).await?);
    }

    let mut report = Report::default();
    machine::describe(&mut report, &base);
    report.text(
        "durability",
        if no_sync { "Process: no sync" } else { "Power: fdatasync before anything is acknowledged" },
    );
    report.text("nodes", "3 processes on loopback, Zenoh over TCP; an order follows when one has its output");
    report.fact("orders per round, at least", orders);
    report.fact("rounds of each, in turns", rounds);
    if json {
        println!("{}", serde_json::to_string_pretty(&serde_json::json!({ "facts": report, "parts": parts }))?);
    } else {
        report.print_facts();
        print(&parts);
    }
    ours.end().await;
    let fewest = parts.iter().min_by_key(|part| part.in_flight);
    fewest.filter(|part| part.in_flight <= CHECKED_MAX).map_or(Ok(()), |part| check(&part.ours, &part.floor))
}

/// What a profiler is to look at.
async fn alone(ours: &mut System, in_flight: &[u64], orders: u64, rounds: u32) -> Result<()> {
    println!("in flight        {HEAD}");
    for in_flight in in_flight {
        let mut tally = Tally::new()?;
        for _ in 0..rounds {
            tally.round(ours, orders.max(4 * in_flight), *in_flight).await?;
        }
        println!("{in_flight:<9} ours   {}", tally.line().text());
    }
    Ok(())
}

async fn measure(ours: &mut System, floor: &mut System, count: u64, in_flight: u64, rounds: u32) -> Result<Part> {
    let mut warmup = OrderTimes::new()?;
    ours.run(count, in_flight, &mut warmup).await?;
    floor.run(count, in_flight, &mut warmup).await?;
    let (mut our_tally, mut floor_tally) = (Tally::new()?, Tally::new()?);
    for round in 0..rounds {
        // Each comes first in turn, since who comes second finds a disk that is tired by the first.
        if round % 2 == 0 {
            our_tally.round(ours, count, in_flight).await?;
            floor_tally.round(floor, count, in_flight).await?;
        } else {
            floor_tally.round(floor, count, in_flight).await?;
            our_tally.round(ours, count, in_flight).await?;
        }
    }
    let (ours, floor) = (our_tally.line(), floor_tally.line());
    Ok(Part {
        in_flight,
        ours,
        floor,
        throughput_ratio: ours.sagas_per_second / floor.sagas_per_second,
        throughput_ratio_of_rounds: our_tally.rate_ratios(&floor_tally),
        p50_ratio: ours.p50_ms / floor.p50_ms,
        p99_ratio: ours.p99_ms / floor.p99_ms,
        cpu_ratio: ours.cpu_us / floor.cpu_us,
    })
}

fn print(parts: &[Part]) {
    println!("\nin flight        {HEAD}");
    for part in parts {
        let Part { in_flight, ours, floor, throughput_ratio, throughput_ratio_of_rounds, .. } = part;
        let Part { p50_ratio, p99_ratio, cpu_ratio, .. } = part;
        println!("{in_flight:<9} ours   {}", ours.text());
        println!("          floor  {}", floor.text());
        let (least, most) = throughput_ratio_of_rounds;
        println!(
            "          ratio  {throughput_ratio:>9.2} {p50_ratio:>8.2} {p99_ratio:>8.2} {cpu_ratio:>8.2}   \
             (sagas/s by round: {least:.2} to {most:.2})"
        );
    }
    println!("\nFrom `cpu us` on all is per saga, of all three processes. Ratios are ours by the floor's.");
}

/// The most that what is written and said may differ between ours and the floor, as a part of the floor's.
const MARGIN: f64 = 0.05;
/// The same for the bytes of packets: what leaves at one time shares a packet and its head, and when that is depends on
/// who was quicker. The number of packets is told, and not looked at, for the same reason.
const PACKETS_MARGIN: f64 = 0.25;

/// The most orders in flight with which it is looked at: with more, ours asks and says again what comes late, the floor
/// does not.
const CHECKED_MAX: u64 = 16;

/// The floor is a yardstick only for as long as it does the same work.
fn check(ours: &Line, floor: &Line) -> Result<()> {
    for (what, ours, floor, margin) in [
        ("frames", ours.frames, floor.frames, MARGIN),
        ("writes", ours.writes, floor.writes, MARGIN),
        ("rows", ours.rows, floor.rows, MARGIN),
        ("bytes of rows", ours.row_bytes, floor.row_bytes, MARGIN),
        ("bytes of packets", ours.packet_bytes, floor.packet_bytes, PACKETS_MARGIN),
    ] {
        ensure!(
            (ours - floor).abs() <= margin * floor,
            "the floor is no yardstick any more: {what} per saga are {ours:.2} of ours and {floor:.2} of the floor, \
             more than {margin} apart; see benches/src/floor"
        );
    }
    Ok(())
}
