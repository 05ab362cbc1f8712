//! How orders are given to a system, and what is told of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use crate::Kept;
use crate::saga::{Order, Outcome};
use crate::system::System;

/// What one round found.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Round {
    pub(crate) orders: u64,
    pub(crate) sagas_per_second: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
}

/// Gives orders for that long, `in_flight` at any time: each follows when one before it is done.
/// Ends when all are done.
pub(crate) async fn run(
    system: &Arc<System>,
    next: &Arc<AtomicU64>,
    in_flight: usize,
    time: Duration,
) -> Result<Round> {
    let begun = Instant::now();
    let mut callers = JoinSet::new();
    for _ in 0..in_flight {
        let (system, next) = (system.clone(), next.clone());
        callers.spawn(async move {
            let mut times = Histogram::<u64>::new(3)?;
            while begun.elapsed() < time {
                let order = Order::new(next.fetch_add(1, Ordering::Relaxed));
                let asked = Instant::now();
                let outcome = system.order(order).await?;
                times.record(u64::try_from(asked.elapsed().as_micros())?)?;
                ensure!(outcome == Outcome::Shipped, "an order was refused");
            }
            anyhow::Ok(times)
        });
    }
    let mut times = Histogram::<u64>::new(3)?;
    while let Some(caller) = callers.join_next().await {
        times.add(caller??)?;
    }
    let millis = |quantile| number(times.value_at_quantile(quantile)) / 1e3;
    let (p50_ms, p99_ms) = (millis(0.5), millis(0.99));
    Ok(Round {
        orders: times.len(),
        sagas_per_second: number(times.len()) / begun.elapsed().as_secs_f64(),
        p50_ms,
        p99_ms,
    })
}

/// The rounds of one system with one number of orders in flight.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) system: &'static str,
    services: Kept,
    pub(crate) in_flight: usize,
    /// Of all rounds.
    orders: u64,
    /// The medians over the rounds.
    pub(crate) sagas_per_second: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    rounds: Vec<Round>,
}

impl Row {
    pub(crate) fn new(system: &'static str, services: Kept, in_flight: usize, rounds: Vec<Round>) -> Self {
        let middle = |value: fn(&Round) -> f64| median(rounds.iter().map(value).collect());
        Self {
            system,
            services,
            in_flight,
            orders: rounds.iter().map(|round| round.orders).sum(),
            sagas_per_second: middle(|round| round.sagas_per_second),
            p50_ms: middle(|round| round.p50_ms),
            p99_ms: middle(|round| round.p99_ms),
            rounds,
        }
    }

    /// A line of the table, with ratios of `ours` to it.
    pub(crate) fn line(&self, ours: &Self) -> String {
        let Self { system, services, in_flight, orders, sagas_per_second, p50_ms, p99_ms, .. } = self;
        let (throughput, p50, p99) =
            (ours.sagas_per_second / sagas_per_second, ours.p50_ms / p50_ms, ours.p99_ms / p99_ms);
        format!(
            "| {system} | {services:?} | {in_flight} | {sagas_per_second:.0} | {p50_ms:.2} | {p99_ms:.2} | {orders} | {throughput:.2} | \
             {p50:.3} | {p99:.3} |"
        )
    }
}

/// The head of a table of lines.
pub(crate) const HEAD: &str = "| system | services | in flight | sagas/s | p50, ms | p99, ms | n | ours: times the throughput | \
                               ours: p50 by its | ours: p99 by its |\n|---|---|--:|--:|--:|--:|--:|--:|--:|--:|";

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Exact up to 2^53.
#[expect(clippy::cast_precision_loss, reason = "counts and times of a bench are far below 2^53")]
fn number(number: u64) -> f64 {
    number as f64
}
