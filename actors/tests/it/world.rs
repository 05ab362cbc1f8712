//! A world of nodes in one thread, with paused time, drawn from one seed: the first simulator.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use accompanist::contract::{BoxFuture, Environment, Inbox, Transport, TransportError, Wire};
use accompanist::prelude::*;
use accompanist::store::MemoryDisk;
use accompanist::transport::{Faults, FaultyNetwork};
use tokio::time::Instant;

use crate::saga::{Bank, Loyalty, Payment, Warehouse, WarehouseOrder};

/// Paused time, and chance from the seed.
pub struct SimulatedEnvironment {
    origin: Instant,
    random: Mutex<fastrand::Rng>,
}

impl SimulatedEnvironment {
    pub fn new(random: fastrand::Rng) -> Self {
        Self { origin: Instant::now(), random: Mutex::new(random) }
    }
}

impl Environment for SimulatedEnvironment {
    fn unix_ms(&self) -> u64 {
        1_700_000_000_000 + self.monotonic_ms()
    }
    fn monotonic_ms(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_millis()).unwrap()
    }
    fn random(&self) -> u64 {
        self.random.lock().unwrap().u64(..)
    }
}

pub const NAMES: [&str; 3] = ["warehouse", "payment", "loyalty"];

struct Site {
    disk: MemoryDisk,
    node: Option<Node>,
}

/// A network that takes a while to be joined, as real ones do: what a node says meanwhile must not be lost.
struct Slow(FaultyNetwork, Duration);

impl Transport for Slow {
    fn attach(&self, node: NodeId, inbox: Arc<dyn Inbox>) -> BoxFuture<'_, Result<Arc<dyn Wire>, TransportError>> {
        Box::pin(async move {
            tokio::time::sleep(self.1).await;
            self.0.attach(node, inbox).await
        })
    }
}

/// Three nodes, one role each, on a network and disks that fail.
pub struct World {
    pub network: FaultyNetwork,
    pub bank: Arc<Bank>,
    environment: Arc<SimulatedEnvironment>,
    /// Whether nodes forget what has closed as soon as no packet can be that old.
    forgetful: bool,
    /// How long a sync takes, on a quick disk or a slow one.
    sync: Duration,
    random: Mutex<fastrand::Rng>,
    sites: Mutex<Vec<Site>>,
    pub crashes: Mutex<u32>,
}

impl World {
    pub async fn new(seed: u64, faults: Faults) -> Arc<Self> {
        let mut random = fastrand::Rng::with_seed(seed);
        let environment = SimulatedEnvironment::new(random.fork());
        let world = Arc::new(Self {
            network: FaultyNetwork::new(random.u64(..), faults),
            bank: Arc::default(),
            environment: Arc::new(environment),
            forgetful: !seed.is_multiple_of(2),
            sync: Duration::from_micros(random.u64(300..15_000)),
            random: Mutex::new(random),
            sites: Mutex::new(NAMES.map(|_| Site { disk: MemoryDisk::default(), node: None }).into()),
            crashes: Mutex::new(0),
        });
        for index in 0..NAMES.len() {
            world.start(index).await;
        }
        world
    }

    pub fn draw(&self, range: std::ops::Range<u64>) -> u64 {
        self.random.lock().unwrap().u64(range)
    }

    pub fn node(&self, index: usize) -> Option<Node> {
        self.sites.lock().unwrap()[index].node.clone()
    }

    pub async fn start(&self, index: usize) {
        let disk = self.sites.lock().unwrap()[index].disk.clone();
        let builder = Node::builder(NodeId::new(NAMES[index]).unwrap())
            .simulated_store(disk.open().unwrap(), self.sync)
            .transport(Slow(self.network.clone(), Duration::from_micros(self.draw(0..20_000))))
            .environment(self.environment.clone())
            .settings(self.settings(index))
            .choreography(WarehouseOrder);
        let builder = match index {
            0 => builder.role(Warehouse, Arc::new(())),
            1 => builder.role(Payment, self.bank.clone()),
            _ => builder.role(Loyalty, Arc::new(())),
        };
        let node = builder.start().await.unwrap();
        self.sites.lock().unwrap()[index].node = Some(node);
    }

    fn settings(&self, index: usize) -> Settings {
        // Longer than any delay of the network; and where orders are placed, longer than it takes to ask again.
        let age_min = Duration::from_millis(if index == 0 { 1_000 } else { 60 });
        let retention = Retention { age_min, count_max: Some(0), ..Retention::default() };
        if self.forgetful { Settings { retention, ..Settings::default() } } else { Settings::default() }
    }

    /// The machine loses power: what is not synced is lost but for a part drawn by chance.
    pub async fn crash(&self, index: usize) {
        let (node, disk) = {
            let mut sites = self.sites.lock().unwrap();
            (sites[index].node.take(), sites[index].disk.clone())
        };
        let unsynced = disk.unsynced() as u64;
        disk.crash(usize::try_from(self.draw(0..unsynced + 1)).unwrap());
        if let Some(node) = node {
            node.kill().await;
        }
        *self.crashes.lock().unwrap() += 1;
    }
}
