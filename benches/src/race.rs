//! Several systems that carry out the same orders in turns, so that noise of the machine hits all alike.

use std::time::Instant;

use anyhow::Result;
use serde::Serialize;

use crate::child::NodeNumbers;
use crate::cluster::Cluster;
use crate::counters::Counters;
use crate::floor::Floor;
use crate::orders::{self, Coordinator, OrderTimes};
use crate::usage::Usage;

/// What is measured.
pub(crate) enum System {
    /// The nodes.
    Ours(Box<Cluster>, Counters),
    /// The order written by hand.
    Floor(Box<Floor>),
    /// The same services with a coordinator in the middle.
    Central(Box<Cluster>, Counters),
}

impl System {
    /// Carries out `count` orders, `in_flight` at any time.
    pub(crate) async fn run(&self, count: u64, in_flight: u64, times: &mut OrderTimes) -> Result<()> {
        match self {
            Self::Ours(cluster, _) => orders::run(&cluster.own.node, count, in_flight, times).await,
            Self::Central(cluster, _) => {
                orders::run(&Coordinator(cluster.own.node.clone()), count, in_flight, times).await
            }
            Self::Floor(floor) => orders::run(&floor.orders(), count, in_flight, times).await,
        }
    }

    fn numbers(&mut self) -> Result<Vec<(&'static str, NodeNumbers)>> {
        match self {
            Self::Ours(cluster, counters) | Self::Central(cluster, counters) => cluster.numbers(counters),
            Self::Floor(floor) => floor.numbers(),
        }
    }

    /// What its processes have used.
    pub(crate) fn usage(&mut self) -> Result<Usage> {
        Ok(self.numbers()?.into_iter().fold(Usage::default(), |sum, (_, numbers)| sum + numbers.usage))
    }

    pub(crate) async fn end(self) {
        if let Self::Ours(cluster, _) | Self::Central(cluster, _) = self {
            cluster.end().await;
        }
    }
}

/// What was measured of one system with one number of orders in flight.
pub(crate) struct Tally {
    orders: u64,
    seconds: f64,
    /// Orders per second of each round.
    rates: Vec<f64>,
    times: OrderTimes,
    usage: Usage,
}

impl Tally {
    pub(crate) fn new() -> Result<Self> {
        let (times, usage) = (OrderTimes::new()?, Usage::default());
        Ok(Self { orders: 0, seconds: 0.0, rates: Vec::new(), times, usage })
    }

    /// One round of `system`, until all its orders are settled.
    pub(crate) async fn round(&mut self, system: &mut System, count: u64, in_flight: u64) -> Result<()> {
        let before = system.usage()?;
        let begun = Instant::now();
        system.run(count, in_flight, &mut self.times).await?;
        let seconds = begun.elapsed().as_secs_f64();
        self.usage = self.usage + (system.usage()? - before);
        self.orders += count;
        self.seconds += seconds;
        self.rates.push(number(count) / seconds);
        Ok(())
    }

    /// What is told of it.
    pub(crate) fn line(&self) -> Line {
        let per_saga = |sum: u64| number(sum) / number(self.orders).max(1.0);
        let usage = &self.usage;
        Line {
            sagas_per_second: number(self.orders) / self.seconds,
            p50_ms: self.times.output.millis(0.5),
            p99_ms: self.times.output.millis(0.99),
            cpu_us: per_saga(usage.cpu_us),
            switches: per_saga(usage.switches),
            syncs: per_saga(usage.syncs),
            writes: per_saga(usage.writes),
            rows: per_saga(usage.rows),
            row_bytes: per_saga(usage.row_bytes),
            disk_bytes: per_saga(usage.disk_bytes),
            frames: per_saga(usage.frames),
            frames_again: per_saga(usage.frames_again),
            packets: per_saga(usage.packets),
            packet_bytes: per_saga(usage.packet_bytes),
        }
    }

    /// The least and the greatest ratio of the rates of one round to those of the same round of `other`.
    pub(crate) fn rate_ratios(&self, other: &Self) -> (f64, f64) {
        let ratios = self.rates.iter().zip(&other.rates).map(|(ours, floor)| ours / floor);
        ratios.fold((f64::INFINITY, 0.0), |(least, most), ratio| (ratio.min(least), ratio.max(most)))
    }
}

/// One line of the table: from `cpu_us` on, all is per saga and of all processes of a system.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Line {
    pub(crate) sagas_per_second: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) cpu_us: f64,
    pub(crate) switches: f64,
    pub(crate) syncs: f64,
    pub(crate) writes: f64,
    pub(crate) rows: f64,
    pub(crate) row_bytes: f64,
    pub(crate) disk_bytes: f64,
    pub(crate) frames: f64,
    pub(crate) frames_again: f64,
    pub(crate) packets: f64,
    pub(crate) packet_bytes: f64,
}

/// The head of a table of [`Line`]s.
pub(crate) const HEAD: &str = "  sagas/s   p50 ms   p99 ms   cpu us  switches  syncs  writes  rows  row B  disk B  frames  again  \
                               packets  packet B";

impl Line {
    /// Its columns under [`HEAD`].
    pub(crate) fn text(&self) -> String {
        let Self { sagas_per_second, p50_ms, p99_ms, cpu_us, switches, syncs, writes, rows, row_bytes, .. } = self;
        let Self { disk_bytes, frames, frames_again, packets, packet_bytes, .. } = self;
        format!(
            "{sagas_per_second:>9.0} {p50_ms:>8.2} {p99_ms:>8.2} {cpu_us:>8.0} {switches:>9.1} {syncs:>6.2} {writes:>7.2} \
             {rows:>5.1} {row_bytes:>6.0} {disk_bytes:>7.0} {frames:>7.2} {frames_again:>6.2} {packets:>8.2} \
             {packet_bytes:>9.0}"
        )
    }
}

/// Exact up to 2^53.
#[expect(clippy::cast_precision_loss, reason = "sums of a bench are far below 2^53")]
pub(crate) fn number(number: u64) -> f64 {
    number as f64
}
