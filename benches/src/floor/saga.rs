//! The order as plain tasks: one at each part, from its first word to its tombstone.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use tokio::task::JoinHandle;

use super::link::{Event, Link, Player, Station};
use super::message::{Body, LOYALTY, ORDER_NAMES_BYTES, PAYMENT, Session, WAREHOUSE};
use super::rows::{self, Place};
use super::store::{Step, Write, Writer};
use crate::orders::{Contender, OrderTime};
use crate::saga::Order;

/// Carries out orders, at the warehouse.
#[derive(Clone)]
pub(crate) struct Orders {
    link: Arc<Link>,
    writer: Writer,
    next: Arc<AtomicU64>,
}

impl Orders {
    pub(super) fn new(link: Arc<Link>, writer: Writer) -> Self {
        Self { link, writer, next: Arc::default() }
    }

    /// Times first, as those of the nodes' sessions.
    fn session(&self) -> Session {
        let now = std::time::UNIX_EPOCH.elapsed().unwrap_or_default().as_millis();
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        ((now << 64) | u128::from(number)).to_be_bytes()
    }
}

impl Contender for Orders {
    async fn order(&self, number: u64) -> Result<JoinHandle<Result<OrderTime>>> {
        let begun = Instant::now();
        let order = Order::new(number);
        let station = self.link.station(self.session());
        let task = Task { station, writer: self.writer.clone(), acks: 0, dones: 0 };
        let (output, is_there) = tokio::sync::oneshot::channel();
        // A task of its own, from which the caller hears twice.
        let task = tokio::spawn(task.at_warehouse(order, begun, output));
        is_there.await?;
        Ok(task)
    }
}

/// What plays the sessions that the warehouse has begun.
pub(super) fn player(role: u8, writer: Writer) -> Player {
    let runtime = tokio::runtime::Handle::current();
    Box::new(move |station| {
        let task = Task { station, writer: writer.clone(), acks: 0, dones: 0 };
        runtime.spawn(async move {
            let (table, to) = if role == PAYMENT { ("charged", LOYALTY) } else { ("points", WAREHOUSE) };
            if let Err(error) = task.elsewhere(table, to).await {
                eprintln!("the floor's order: {error:#}");
            }
        });
    })
}

struct Task {
    station: Station,
    writer: Writer,
    /// What was acknowledged, and how many have said that they are done, so far.
    acks: usize,
    dones: usize,
}

fn add(table: &str, key: &str, difference: i64) -> Step {
    Step { key: rows::state_key(table, key), difference, record: rows::committed }
}

impl Task {
    async fn at_warehouse(
        mut self,
        order: Order,
        begun: Instant,
        output: tokio::sync::oneshot::Sender<()>,
    ) -> Result<OrderTime> {
        let session = self.station.session;
        let quantity = i64::from(order.quantity);
        let step = add("reserved", &order.item, quantity);
        let input = postcard::to_stdvec(&order)?.len() + ORDER_NAMES_BYTES;
        self.writer.urgent(self.write(vec![rows::opened(&session, input)], Some(step))).await?;
        let started = begun.elapsed();
        self.station.say(PAYMENT, Body::Deliver(order), true);

        let (order, receipt) = loop {
            match self.station.event().await? {
                Event::Message(Body::Deliver(order), receipt) => break (order, receipt),
                event => self.note(event)?,
            }
        };
        let step = Step { record: rows::committed_last, ..add("shipped", &order.item, quantity) };
        self.writer.urgent(self.write(vec![rows::received(&session)], Some(step))).await?;
        self.station.acknowledge(&receipt);
        let output_time = begun.elapsed();
        let _ = output.send(()); // A caller that is gone needs none.
        self.settle(begun, started, output_time).await
    }

    async fn settle(mut self, begun: Instant, started: Duration, output: Duration) -> Result<OrderTime> {
        let session = self.station.session;
        self.until(|task| task.acks == 1).await?;
        self.writer.lazy(self.write(vec![rows::ended(&session)], None)).await?;
        self.until(|task| task.dones == 2).await?;
        self.writer.lazy(self.write(vec![rows::closing(&session)], None)).await?;
        self.station.say(PAYMENT, Body::Close, false);
        self.station.say(LOYALTY, Body::Close, true);
        self.until(|task| task.acks == 3).await?;
        let journal = [Place::Received, Place::Committed, Place::CommittedLast, Place::Ended, Place::Closing];
        self.writer.lazy(self.write(rows::closed(&session, &journal), None)).await?;
        Ok(OrderTime { started, output, settled: begun.elapsed() })
    }

    async fn elsewhere(mut self, table: &str, to: u8) -> Result<()> {
        let session = self.station.session;
        let Event::Message(Body::Deliver(order), receipt) = self.station.event().await? else {
            bail!("an order begins with something else")
        };
        let difference = if to == LOYALTY { order.cents } else { order.cents / 100 };
        let step = add(table, &order.customer, difference);
        let rows = vec![rows::opened(&session, 0), rows::received(&session)];
        self.writer.urgent(self.write(rows, Some(step))).await?;
        self.station.acknowledge(&receipt);
        self.station.say(to, Body::Deliver(order), true);

        self.until(|task| task.acks == 1).await?;
        self.writer.lazy(self.write(vec![rows::ended(&session)], None)).await?;
        self.station.say(WAREHOUSE, Body::Done, to != WAREHOUSE);
        let receipt = loop {
            match self.station.event().await? {
                Event::Message(Body::Close, receipt) => break receipt,
                event => self.note(event)?,
            }
        };
        let journal = [Place::Received, Place::Committed, Place::Ended];
        self.writer.lazy(self.write(rows::closed(&session, &journal), None)).await?;
        self.station.acknowledge(&receipt);
        Ok(())
    }

    fn write(&self, rows: Vec<super::store::Row>, step: Option<Step>) -> Write {
        Write { session: self.station.session, rows, step }
    }

    /// Until what it has heard fits.
    async fn until(&mut self, is_enough: impl Fn(&Self) -> bool) -> Result<()> {
        while !is_enough(self) {
            let event = self.station.event().await?;
            self.note(event)?;
        }
        Ok(())
    }

    fn note(&mut self, event: Event) -> Result<()> {
        match event {
            Event::Acked => self.acks += 1,
            Event::Message(Body::Done, receipt) => {
                // Kept in memory only, as at the nodes.
                self.dones += 1;
                self.station.acknowledge(&receipt);
            }
            Event::Message(body, _) => bail!("an order is told {body:?}"),
        }
        Ok(())
    }
}
