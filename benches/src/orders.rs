//! Orders, one after the other or side by side, and how long they take.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use accompanist::{Choreography, Node, Session};
use anyhow::Result;
use fleet::Times;
use tokio::task::{JoinHandle, JoinSet};

use crate::saga::{CentralOrder, Order, WarehouseOrder};

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

/// The times of one order from its start, as those of [`OrderTimes`].
pub(crate) struct OrderTime {
    pub(crate) started: Duration,
    pub(crate) output: Duration,
    pub(crate) settled: Duration,
}

/// What carries out orders.
pub(crate) trait Contender: Clone + Send + Sync + 'static {
    /// The order `number`. Gives its times once it is settled; the outer result is there with the output.
    fn order(&self, number: u64) -> impl Future<Output = Result<JoinHandle<Result<OrderTime>>>> + Send;
}

impl Contender for Node {
    async fn order(&self, number: u64) -> Result<JoinHandle<Result<OrderTime>>> {
        let begun = Instant::now();
        follow(self.start(WarehouseOrder, Order::new(number)).await?, begun).await
    }
}

/// The node of a coordinator in the middle.
#[derive(Clone)]
pub(crate) struct Coordinator(pub(crate) Node);

impl Contender for Coordinator {
    async fn order(&self, number: u64) -> Result<JoinHandle<Result<OrderTime>>> {
        let begun = Instant::now();
        follow(self.0.start(CentralOrder, Order::new(number)).await?, begun).await
    }
}

/// Waits for the output of what has just been started.
async fn follow<C: Choreography>(session: Session<C>, begun: Instant) -> Result<JoinHandle<Result<OrderTime>>> {
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
pub(crate) async fn run(contender: &impl Contender, count: u64, in_flight: u64, times: &mut OrderTimes) -> Result<()> {
    let next = Arc::new(AtomicU64::new(0));
    let mut workers = JoinSet::new();
    for _ in 0..in_flight.min(count) {
        let (contender, next) = (contender.clone(), next.clone());
        // A task of its own, as a service's request would be.
        workers.spawn(async move {
            let mut settling = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    break;
                }
                settling.push(contender.order(number).await?);
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
