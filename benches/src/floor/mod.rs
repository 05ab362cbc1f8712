//! The floor: what the warehouse order costs when it is written by hand, for this order alone.
//!
//! Three processes as those of [`crate::cluster`], with plain tokio tasks over Zenoh and fjall, and nothing of ours
//! between: no machine, no journal, no actors, no replay, no deduplication, no sending again. What it does per order is
//! what the nodes do when all goes well:
//!
//! - seven frames: the order from warehouse to payment, to loyalty, and back; two "done" to the warehouse; two "close"
//!   from there. Each is acknowledged once what it brought is durable. What is due to one peer at one time shares a
//!   packet. The bytes are those of the nodes' packets ([`message`]);
//! - eleven writes: at the warehouse the start with its step, the second step with what has arrived, the end, the
//!   closing
//!   and the tombstone; at the others the step with what has arrived, the end and the tombstone. The rows are those of
//!   the nodes' journals ([`rows`]), and steps read and add to the same numbers;
//! - one thread writes: all that waits becomes one batch and one sync. The steps are urgent, the rest may wait for
//!   company
//!   for as long as a node's lazy writes ([`store`]).
//!
//! So it is fair: nobody who wants the same guarantees on the same disk and wire can write less, or say less, by the
//! same protocol. It is what is left when the runtime costs nothing. That frames, bytes and writes agree is checked in
//! every run ([`crate::throughput`]).
//!
//! Must not use anything of `accompanist` but the names of its spaces and of its durabilities.

mod link;
mod message;
mod rows;
mod saga;
mod store;

use std::path::Path;
use std::sync::Arc;

use accompanist::{Durability, Role, Settings};
use anyhow::{Context, Result};
use fleet::security::Protection;
use tempfile::TempDir;

use self::link::Link;
use self::message::{LOYALTY, PAYMENT, WAREHOUSE};
pub(crate) use self::saga::Orders;
use self::store::Writer;
use crate::child::{NodeNumbers, Request};
use crate::process::{Plan, Process, free_ports};
use crate::saga::{Loyalty, Payment, Warehouse};
use crate::timed_store::StoreWatch;
use crate::usage::Usage;

/// One role's part of the floor, in this process.
pub(crate) struct Part {
    link: Arc<Link>,
    writer: Writer,
    watch: StoreWatch,
}

impl Part {
    /// Opens its store and its network; the orders that others begin are played from now on.
    pub(crate) async fn start(
        role: &str,
        folder: &Path,
        durability: Durability,
        port: u16,
        peers: &[u16],
    ) -> Result<Self> {
        let role = [(WAREHOUSE, Warehouse::NAME), (PAYMENT, Payment::NAME), (LOYALTY, Loyalty::NAME)]
            .into_iter()
            .find_map(|(index, name)| (name == role).then_some(index))
            .with_context(|| format!("there is no role `{role}`"))?;
        let watch = StoreWatch::new()?;
        let writer = Writer::start(folder, durability, watch.clone())?;
        let link = Link::open(role, port, peers, saga::player(role, writer.clone())).await?;
        Ok(Self { link, writer, watch })
    }

    /// Returns once the other parts hear this one: what is said before is lost.
    pub(crate) async fn is_heard(&self) -> Result<()> {
        self.link.is_heard().await
    }

    /// What its store takes.
    pub(crate) fn store_watch(&self) -> &StoreWatch {
        &self.watch
    }

    /// What it has measured of itself.
    pub(crate) fn numbers(&self) -> Result<NodeNumbers> {
        let usage = self.link.usage() + self.writer.usage() + Usage::of_process()?;
        Ok(NodeNumbers::new(&self.watch, usage))
    }
}

/// All three parts: the warehouse in this process, the others in two more.
pub(crate) struct Floor {
    warehouse: Part,
    others: Vec<Process>,
    /// Removed with the floor.
    _folder: TempDir,
}

impl Floor {
    /// Starts all three over stores that may be there already: each in the subfolder of its role.
    pub(crate) async fn start_in(folder: TempDir, durability: Durability) -> Result<Self> {
        let [warehouse, payment, loyalty, _] = free_ports()?;
        let instances_max = Settings::default().instances_max; // It has none.
        let start = |role, port, peers: &[u16]| {
            let folder = folder.path().join(role);
            Process::start(&Plan {
                role,
                folder: &folder,
                durability,
                port,
                peers,
                instances_max,
                floor: true,
                protection: Protection::default(),
            })
        };
        let mut others = vec![start(Payment::NAME, payment, &[])?, start(Loyalty::NAME, loyalty, &[payment])?];
        let own = folder.path().join(Warehouse::NAME);
        let warehouse = Part::start(Warehouse::NAME, &own, durability, warehouse, &[payment, loyalty]).await?;
        warehouse.is_heard().await?;
        for process in &mut others {
            process.ask(Request::BeHeard)?;
        }
        Ok(Self { warehouse, others, _folder: folder })
    }

    /// What carries out orders.
    pub(crate) fn orders(&self) -> Orders {
        Orders::new(self.warehouse.link.clone(), self.warehouse.writer.clone())
    }

    /// What the parts have measured, by role.
    pub(crate) fn numbers(&mut self) -> Result<Vec<(&'static str, NodeNumbers)>> {
        let mut numbers = vec![(Warehouse::NAME, self.warehouse.numbers()?)];
        for process in &mut self.others {
            numbers.push((process.role(), process.numbers()?));
        }
        Ok(numbers)
    }
}
