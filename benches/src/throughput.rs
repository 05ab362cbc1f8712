//! Ours beside the floor, and beside a central orchestrator, in turns, with different numbers of orders in flight: one
//! table.

use std::collections::BTreeMap;
use std::path::PathBuf;

use accompanist::Durability;
use anyhow::{Result, ensure};
use fleet::security::Protection;
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
#[expect(clippy::struct_excessive_bools, reason = "switches of a command line")]
pub(crate) struct Arguments {
    /// Orders in flight, one part of the table for each.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 16, 64, 256, 1024])]
    in_flight: Vec<u64>,
    /// Orders of each round; four times those in flight if that is more.
    #[arg(long, default_value_t = 500)]
    orders: u64,
    /// Rounds of each system, in turns.
    #[arg(long, default_value_t = 6)]
    rounds: u32,
    /// Leave the floor out: for a profiler, or for a comparison with others.
    #[arg(long)]
    without_floor: bool,
    /// Measure the same services with one coordinator in the middle, too: a durable orchestrator.
    #[arg(long)]
    central: bool,
    /// Measure the nodes with certificates, access control and members, too.
    #[arg(long)]
    secured: bool,
    /// Measure the nodes with all that they say sealed from node to node, too; with `--secured`, also with both.
    #[arg(long)]
    sealed: bool,
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

/// What is measured first, and compared with the others.
const OURS: &str = "ours";
const FLOOR: &str = "floor";

/// All systems, with one number of orders in flight.
#[derive(Debug, Serialize)]
struct Part {
    in_flight: u64,
    #[serde(flatten)]
    lines: BTreeMap<&'static str, Line>,
    /// Ours by each of the others.
    ratios: BTreeMap<&'static str, Ratio>,
}

#[derive(Debug, Serialize)]
struct Ratio {
    throughput: f64,
    /// The same for the worst and the best round.
    throughput_of_rounds: (f64, f64),
    p50: f64,
    p99: f64,
    cpu: f64,
}

/// Runs the bench.
pub(crate) async fn run(arguments: Arguments) -> Result<()> {
    let Arguments { in_flight, orders, rounds, without_floor, central, secured, sealed, no_sync, json, folder } =
        arguments;
    let durability = if no_sync { Durability::Process } else { Durability::Power };
    let base = machine::base(folder);
    let folder = || tempfile::Builder::new().prefix("accompanist-bench-").tempdir_in(&base);
    let counters = Counters::install()?;
    let ours = Cluster::start_in(folder()?, durability).await?;
    let mut systems = vec![(OURS, System::Ours(Box::new(ours), counters.clone()))];
    if !without_floor {
        systems.push((FLOOR, System::Floor(Box::new(Floor::start_in(folder()?, durability).await?))));
    }
    let protections = [("secured", secured, false), ("sealed", false, sealed), ("both", secured, sealed)];
    let asked = |(name, secured, sealed): &(&str, bool, bool)| {
        if *name == "both" { *secured && *sealed } else { *secured || *sealed }
    };
    for (name, secured, sealed) in protections.into_iter().filter(asked) {
        let protection = Protection { secured, sealed };
        let cluster = Cluster::start_protected_in(folder()?, durability, protection).await?;
        systems.push((name, System::Ours(Box::new(cluster), counters.clone())));
    }
    if central {
        let cluster = Cluster::start_central_in(folder()?, durability).await?;
        systems.push(("central", System::Central(Box::new(cluster), counters)));
    }

    let mut parts = Vec::new();
    for in_flight in in_flight {
        let count = orders.max(4 * in_flight);
        parts.push(measure(&mut systems, count, in_flight, rounds).await?);
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
    for (_, system) in systems {
        system.end().await;
    }
    let fewest = parts.iter().min_by_key(|part| part.in_flight).filter(|part| part.in_flight <= CHECKED_MAX);
    match fewest.map(|part| (part.lines.get(OURS), part.lines.get(FLOOR))) {
        Some((Some(ours), Some(floor))) => check(ours, floor),
        _ => Ok(()),
    }
}

async fn measure(systems: &mut [(&'static str, System)], count: u64, in_flight: u64, rounds: u32) -> Result<Part> {
    let mut warmup = OrderTimes::new()?;
    let mut tallies = Vec::new();
    for (_, system) in systems.iter() {
        system.run(count, in_flight, &mut warmup).await?;
        tallies.push(Tally::new()?);
    }
    for round in 0..rounds {
        let mut turns: Vec<_> = systems.iter_mut().zip(&mut tallies).collect();
        // Each comes first in turn, since who comes second finds a disk that is tired by the first.
        let first = round as usize % turns.len().max(1);
        turns.rotate_left(first);
        for ((_, system), tally) in turns {
            tally.round(system, count, in_flight).await?;
        }
    }
    let mut named = systems.iter().map(|(name, _)| *name).zip(&tallies);
    let lines = named.clone().map(|(name, tally)| (name, tally.line())).collect();
    let ratios = named.next().map(|(_, ours)| named.map(|(name, other)| (name, Ratio::of(ours, other))).collect());
    Ok(Part { in_flight, lines, ratios: ratios.unwrap_or_default() })
}

impl Ratio {
    fn of(ours: &Tally, other: &Tally) -> Self {
        let throughput_of_rounds = ours.rate_ratios(other);
        let (ours, other) = (ours.line(), other.line());
        Self {
            throughput: ours.sagas_per_second / other.sagas_per_second,
            throughput_of_rounds,
            p50: ours.p50_ms / other.p50_ms,
            p99: ours.p99_ms / other.p99_ms,
            cpu: ours.cpu_us / other.cpu_us,
        }
    }
}

fn print(parts: &[Part]) {
    println!("\nin flight        {HEAD}");
    for Part { in_flight, lines, ratios } in parts {
        if let Some(ours) = lines.get(OURS) {
            println!("{in_flight:<9} {OURS:<7}{}", ours.text());
        }
        for (name, Ratio { throughput, throughput_of_rounds: (least, most), p50, p99, cpu }) in ratios {
            if let Some(line) = lines.get(name) {
                println!("          {name:<7}{}", line.text());
            }
            println!(
                "          ratio  {throughput:>9.2} {p50:>8.2} {p99:>8.2} {cpu:>8.2}   \
                 (sagas/s by round: {least:.2} to {most:.2})"
            );
        }
    }
    println!("\nFrom `cpu us` on all is per saga, of all processes of a system. Ratios are ours by the other's.");
}

/// The most that what is written and said may differ between ours and the floor, as a part of the floor's.
const MARGIN: f64 = 0.05;
/// The same for the bytes of packets: what leaves at one time shares a packet and its head, and when that is depends on
/// who was quicker. The number of packets is told, and not looked at, for the same reason.
const PACKETS_MARGIN: f64 = 0.25;
/// With more frames sent again per saga than this, the bytes of packets are not looked at: on a machine that is busy
/// with something else ours sends again what comes late, and acknowledgements travel alone.
const AGAIN_MAX: f64 = 0.02;

/// The most orders in flight with which it is looked at: with more, ours asks and says again what comes late, the floor
/// does not.
const CHECKED_MAX: u64 = 16;

/// The floor is a yardstick only for as long as it does the same work.
fn check(ours: &Line, floor: &Line) -> Result<()> {
    let packets_margin = if ours.frames_again <= AGAIN_MAX { PACKETS_MARGIN } else { f64::INFINITY };
    for (what, ours, floor, margin) in [
        ("frames", ours.frames, floor.frames, MARGIN),
        ("writes", ours.writes, floor.writes, MARGIN),
        ("rows", ours.rows, floor.rows, MARGIN),
        ("bytes of rows", ours.row_bytes, floor.row_bytes, MARGIN),
        ("bytes of packets", ours.packet_bytes, floor.packet_bytes, packets_margin),
    ] {
        ensure!(
            (ours - floor).abs() <= margin * floor,
            "the floor is no yardstick any more: {what} per saga are {ours:.2} of ours and {floor:.2} of the floor, \
             more than {margin} apart; see benches/src/floor"
        );
    }
    Ok(())
}
