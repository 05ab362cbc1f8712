//! Three nodes in three processes on loopback, each with a store of its own: what is measured.
//!
//! The warehouse is in this process; the other two are this program again, see [`crate::child`].

use std::path::Path;
use std::time::Duration;

use accompanist::prelude::*;
use accompanist::transport::{ZenohConfig, ZenohTransport};
use anyhow::{Result, bail};
use fleet::security::{self, Protection};
use tempfile::TempDir;

use crate::child::{NodeNumbers, Request};
use crate::counters::Counters;
use crate::in_flight::memory_of;
use crate::process::{Plan, Process, endpoint, free_ports};
use crate::saga::{CentralOrder, Checkout, Loyalty, ParcelOrder, Payment, Warehouse, WarehouseOrder};
use crate::timed_store::{StoreWatch, TimedStore};
use crate::usage::Usage;

/// A node of this process with what belongs to it.
pub(crate) struct Member {
    /// The node.
    pub(crate) node: Node,
    /// Its network, which the probe uses, too.
    pub(crate) transport: ZenohTransport,
    /// What its store takes.
    pub(crate) watch: StoreWatch,
}

impl Member {
    /// Starts the node of `role`.
    pub(crate) async fn start(
        role: &str,
        folder: &Path,
        durability: Durability,
        settings: Settings,
        (port, peers): (u16, &[u16]),
        protection: Protection,
    ) -> Result<Self> {
        let watch = StoreWatch::new()?;
        let store = FjallStore::open(folder)?.durability(durability);
        let security = security::folder(folder, role);
        let wire = protection.wire(&security, &endpoint(port), peers.iter().copied().map(endpoint));
        let transport = ZenohTransport::open(wire).await?;
        let builder = Node::builder(NodeId::new(role)?)
            .store(TimedStore::new(store, watch.clone()))
            .transport(transport.clone())
            .settings(settings)
            .choreography(WarehouseOrder)
            .choreography(ParcelOrder)
            .choreography(CentralOrder);
        let builder = protection.node(builder, &security);
        let builder = match role {
            Warehouse::NAME => builder.role(Warehouse, ().into()),
            Payment::NAME => builder.role(Payment, ().into()),
            Loyalty::NAME => builder.role(Loyalty, ().into()),
            Checkout::NAME => builder.role(Checkout, ().into()),
            _ => bail!("there is no role `{role}`"),
        };
        Ok(Self { node: builder.start().await?, transport, watch })
    }

    /// What it has measured of itself. The counters are those of all nodes of this process.
    pub(crate) fn numbers(&self, counters: &Counters) -> Result<NodeNumbers> {
        let process = Usage::of_process()?;
        Ok(NodeNumbers::new(&self.watch, counters.usage() + process))
    }

    /// Stops the node and its network.
    pub(crate) async fn end(&self) {
        self.node.shutdown().await;
        self.transport.close().await;
    }
}

/// See the module's documentation.
pub(crate) struct Cluster {
    /// The node of this process, that starts the sagas.
    pub(crate) own: Member,
    own_role: &'static str,
    others: Vec<Process>,
    /// Removed with the cluster.
    folder: TempDir,
}

/// What is measured is how fast nodes are, and not what they refuse.
pub(crate) fn settings() -> Settings {
    Settings { queue_delay_max: Duration::from_hours(1), ..Settings::default() }
}

impl Cluster {
    /// Starts all three, with their stores below `base`.
    pub(crate) async fn start(base: &Path, durability: Durability) -> Result<Self> {
        Self::start_with(base, durability, settings()).await
    }

    /// As [`Cluster::start`]; of the settings only `instances_max` holds for all three.
    pub(crate) async fn start_with(base: &Path, durability: Durability, settings: Settings) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("accompanist-bench-").tempdir_in(base)?;
        Self::start_over(folder, durability, settings).await
    }

    /// Starts all three over stores that may be there already: each in the subfolder of its role.
    pub(crate) async fn start_in(folder: TempDir, durability: Durability) -> Result<Self> {
        Self::start_over(folder, durability, settings()).await
    }

    async fn start_over(folder: TempDir, durability: Durability, settings: Settings) -> Result<Self> {
        let others = [Payment::NAME, Loyalty::NAME];
        Self::start_roles(folder, durability, settings, &others, Warehouse::NAME, Protection::default()).await
    }

    /// As [`Cluster::start_in`], with what protects the nodes.
    pub(crate) async fn start_protected_in(
        folder: TempDir,
        durability: Durability,
        protection: Protection,
    ) -> Result<Self> {
        let others = [Payment::NAME, Loyalty::NAME];
        security::make(folder.path(), &[Payment::NAME, Loyalty::NAME, Warehouse::NAME], &[])?;
        Self::start_roles(folder, durability, settings(), &others, Warehouse::NAME, protection).await
    }

    /// A coordinator in this process, and the three services in processes of their own.
    pub(crate) async fn start_central_in(folder: TempDir, durability: Durability) -> Result<Self> {
        let services = [Warehouse::NAME, Payment::NAME, Loyalty::NAME];
        Self::start_roles(folder, durability, settings(), &services, Checkout::NAME, Protection::default()).await
    }

    async fn start_roles(
        folder: TempDir,
        durability: Durability,
        settings: Settings,
        roles: &[&'static str],
        own_role: &'static str,
        protection: Protection,
    ) -> Result<Self> {
        let instances_max = settings.instances_max;
        let (mut others, mut peers) = (Vec::new(), Vec::new());
        let [own_port, ports @ ..] = free_ports()?;
        for (role, port) in roles.iter().copied().zip(ports) {
            let folder = folder.path().join(role);
            let plan = Plan {
                role,
                folder: &folder,
                durability,
                port,
                peers: &peers,
                instances_max,
                floor: false,
                protection,
            };
            others.push(Process::start(&plan)?);
            peers.push(port);
        }
        let own = folder.path().join(own_role);
        let own = Member::start(own_role, &own, durability, settings, (own_port, &peers), protection).await?;
        Ok(Self { own, own_role, others, folder })
    }

    /// Where its stores are.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Forgets the times that the nodes have measured.
    pub(crate) fn clear(&mut self) -> Result<()> {
        self.own.watch.clear();
        for process in &mut self.others {
            process.ask(Request::Clear)?;
        }
        Ok(())
    }

    /// What the nodes have measured, by role. The counters of this process are those of all its nodes.
    pub(crate) fn numbers(&mut self, counters: &Counters) -> Result<Vec<(&'static str, NodeNumbers)>> {
        let mut numbers = vec![(self.own_role, self.own.numbers(counters)?)];
        for process in &mut self.others {
            numbers.push((process.role(), process.numbers()?));
        }
        Ok(numbers)
    }

    /// A line of what the kernel says of each process's memory, in MiB.
    pub(crate) fn memory(&self, line: &str) -> Result<Vec<(&'static str, f64)>> {
        let own = std::process::id();
        let ids = [(self.own_role, own)].into_iter().chain(self.others.iter().map(|other| (other.role(), other.id())));
        ids.map(|(role, id)| Ok((role, memory_of(id, line)?))).collect()
    }

    /// Stops all three.
    pub(crate) async fn end(self) {
        self.own.end().await;
    }
}

/// The network of a node that listens on `port`.
pub(crate) fn wire(port: u16, peers: &[u16]) -> ZenohConfig {
    Protection::default().wire(Path::new(""), &endpoint(port), peers.iter().copied().map(endpoint))
}
