//! One run of a simulated machine: its disk and its wire, which report everything to the witness, and stop working
//! when the power is cut.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use accompanist_core::NodeId;
use accompanist_core::contract::{
    Batch, BoxFuture, Direction, Entry, Heal, Inbox, KeyRange, Space, Store, StoreError, Transport, TransportError,
    Wire,
};
use accompanist_core::frame::Packet;
use accompanist_transport::FaultyNetwork;

use super::recorder::EventRecorder;
use super::trace::What;
use crate::store::MemoryStore;

/// Whether a machine has power. Clones belong to the same machine.
#[derive(Debug, Clone, Default)]
pub(super) struct Power(Arc<AtomicBool>);

impl Power {
    pub(super) fn on() -> Self {
        Self(Arc::new(AtomicBool::new(true)))
    }
    pub(super) fn cut(&self) {
        self.0.store(false, Ordering::Relaxed);
    }
    pub(super) fn is_on(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The disk of one run.
pub(super) struct MonitoredStore {
    pub(super) store: MemoryStore,
    pub(super) node: NodeId,
    pub(super) recorder: EventRecorder,
    pub(super) unsynced: usize,
}

impl Store for MonitoredStore {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.store.get(space, key)
    }

    fn range(
        &self,
        space: Space,
        keys: &KeyRange,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<Entry>, StoreError> {
        self.store.range(space, keys, direction, limit)
    }

    fn apply(&mut self, batch: Batch) -> Result<(), StoreError> {
        self.store.apply(batch.clone())?;
        self.unsynced += 1;
        self.recorder.applied(&self.node, &batch);
        Ok(())
    }

    fn sync(&mut self) -> Result<(), StoreError> {
        self.store.sync()?;
        self.recorder.synced(&self.node, std::mem::take(&mut self.unsynced));
        Ok(())
    }

    fn check(&mut self) -> Result<(), StoreError> {
        self.store.check()
    }

    fn commits(&self) -> u64 {
        self.store.commits()
    }
}

/// The network as one run of a machine sees it: joining takes a while, as in real networks.
pub(super) struct MonitoredNetwork {
    pub(super) network: FaultyNetwork,
    pub(super) delay: Duration,
    pub(super) power: Power,
    pub(super) recorder: EventRecorder,
}

impl Transport for MonitoredNetwork {
    fn attach(&self, node: NodeId, inbox: Arc<dyn Inbox>) -> BoxFuture<'_, Result<Arc<dyn Wire>, TransportError>> {
        Box::pin(async move {
            tokio::time::sleep(self.delay).await;
            let inbox = Arc::new(MonitoredInbox { inbox, power: self.power.clone() });
            let wire = self.network.attach(node.clone(), inbox).await?;
            let (network, power, recorder) = (self.network.clone(), self.power.clone(), self.recorder.clone());
            Ok(Arc::new(MonitoredWire { wire, node, network, power, recorder }) as Arc<dyn Wire>)
        })
    }

    fn system(&self) -> Option<&str> {
        self.network.system()
    }
}

struct MonitoredInbox {
    inbox: Arc<dyn Inbox>,
    power: Power,
}

impl Inbox for MonitoredInbox {
    fn receive(&self, from: &NodeId, packet: &[u8]) {
        if self.power.is_on() {
            self.inbox.receive(from, packet);
        }
    }
}

struct MonitoredWire {
    wire: Arc<dyn Wire>,
    node: NodeId,
    network: FaultyNetwork,
    power: Power,
    recorder: EventRecorder,
}

impl MonitoredWire {
    fn put(&self, to: Option<&NodeId>, bytes: Vec<u8>) {
        if !self.power.is_on() {
            return;
        }
        let (says, routine) = match Packet::peek(&bytes) {
            Err(error) => return self.recorder.fail(Some(&self.node), &format!("it sends what is no packet: {error}")),
            Ok(packet) => {
                if let Some(to) = to {
                    self.recorder.sends(&self.node, to, &packet);
                }
                self.recorder.describe(&packet)
            }
        };
        let before = self.network.counts();
        match to {
            Some(to) => self.wire.send(to, bytes),
            None => self.wire.broadcast(bytes),
        }
        let after = self.network.counts();
        let (lost, doubled) = (after.lost - before.lost, after.duplicated - before.duplicated);
        self.recorder.saw(Some(&self.node), What::Sent { to: to.cloned(), says, routine, lost, doubled });
    }
}

impl Wire for MonitoredWire {
    fn send(&self, to: &NodeId, packet: Vec<u8>) {
        self.put(Some(to), packet);
    }

    fn broadcast(&self, packet: Vec<u8>) {
        self.put(None, packet);
    }

    fn packet_bytes_max(&self) -> usize {
        self.wire.packet_bytes_max()
    }

    fn heal(&self, to: &NodeId, level: Heal) {
        if self.power.is_on() {
            self.recorder.saw(Some(&self.node), What::Heals(to.clone(), level));
            self.wire.heal(to, level);
        }
    }
}
