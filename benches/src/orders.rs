//! Orders, one after the other or side by side, and how long they take.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use accompanist::Node;
use anyhow::Result;
use tokio::task::{JoinHandle, JoinSet};

use crate::saga::{Order, WarehouseOrder};
use crate::times::Times;

/// The times of orders from their start.
#[derive(Debug, Clone)]
pub(crate) struct OrderTimes {
    /// Until the start is durable.
    pub(crate) started: Times,
    /// Until the output.
    pub(crate) output: Times,
    /// Until the session is closed at all roles.
    pub(crate) settled: Times,
}

impl OrderTimes {
    /// With nothing in it.
    pub(crate) fn new() -> Result<Self> {
        Ok(Self { started: Times::new()?, output: Times::new()?, settled: Times::new()? })
    }

    fn add(&mut self, OrderTime { started, output, settled }: OrderTime) {
        self.started.add(started);
        self.output.add(output);
        self.settled.add(settled);
    }
}

struct OrderTime {
    started: Duration,
    output: Duration,
    settled: Duration,
}

/// Gives its time once it is settled; the outer result is there with the output.
async fn order(node: &Node, number: u64) -> Result<JoinHandle<Result<OrderTime>>> {
    let begun = Instant::now();
    let session = node.start(WarehouseOrder, Order::new(number)).await?;
    let started = begun.elapsed();
    session.output().await?;
    let output = begun.elapsed();
    Ok(tokio::spawn(async move {
        session.settled().await?;
        Ok(OrderTime { started, output, settled: begun.elapsed() })
    }))
}

/// Runs `count` orders with `in_flight` waited for at any time: each follows when one before it has its output. Ends
/// when all are settled.
pub(crate) async fn run(node: &Node, count: u64, in_flight: u64, times: &mut OrderTimes) -> Result<()> {
    let next = Arc::new(AtomicU64::new(0));
    let mut workers = JoinSet::new();
    for _ in 0..in_flight.min(count) {
        let (node, next) = (node.clone(), next.clone());
        // A task of its own, as a service's request would be.
        workers.spawn(async move {
            let mut settling = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    break;
                }
                settling.push(order(&node, number).await?);
            }
            let mut times = Vec::new();
            for settling in settling {
                times.push(settling.await??);
            }
            anyhow::Ok(times)
        });
    }
    while let Some(worker) = workers.join_next().await {
        worker??.into_iter().for_each(|time| times.add(time));
    }
    Ok(())
}
