//! The network of tests and simulations: it loses, duplicates, delays and reorders packets, and has partitions and
//! deaf nodes, all derived from one seed.
//!
//! With a current-thread runtime and paused time a seed always gives the same deliveries: random numbers are drawn in
//! the order of the calls, and nothing depends on the order of a hash map. This module must not know frames. Next:
//! `tests/it/faulty.rs` for its use.

use std::collections::{BTreeMap, BTreeSet};
use std::future::ready;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use accompanist_core::contract::{BoxFuture, Heal, Inbox, Transport, TransportError, Wire};
use accompanist_core::id::NodeId;
use fastrand::Rng;
use tokio::runtime::Handle;

use crate::registry::Registry;
use crate::{PACKET_BYTES_MAX_DEFAULT, metric};

/// The faults of a [`FaultyNetwork`]. Probabilities are from 0 (never) to 1 (always).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Faults {
    /// The probability that a packet is lost.
    pub loss: f64,
    /// The probability that a packet that was not lost arrives twice.
    pub duplication: f64,
    /// The shortest time that a packet travels.
    pub delay_min: Duration,
    /// The longest time that a packet travels. If it is longer than the shortest, packets overtake each other.
    pub delay_max: Duration,
}

impl Faults {
    /// A perfect network.
    pub const fn none() -> Self {
        Self { loss: 0.0, duplication: 0.0, delay_min: Duration::ZERO, delay_max: Duration::ZERO }
    }

    /// A bad network: every fifth packet lost, every tenth duplicated, delays of up to 50 ms, and the reordering that
    /// they cause.
    pub const fn rough() -> Self {
        Self { loss: 0.2, duplication: 0.1, delay_min: Duration::from_millis(1), delay_max: Duration::from_millis(50) }
    }

    fn delay(&self, chance: f64) -> Duration {
        self.delay_min + self.delay_max.saturating_sub(self.delay_min).mul_f64(chance)
    }
}

/// One-way deafness: packets from one node to another do not arrive, although both are up and the other direction
/// works. The end of a partition does not end it; see [`FaultyNetwork::deafen`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Deafness {
    /// The part of its connection that the sender must recreate until packets arrive again.
    pub until: Heal,
    /// Whether broadcasts still arrive. Real networks identify their receivers differently, so that one of the two
    /// kinds can be lost alone.
    pub broadcasts_arrive: bool,
}

/// The counts of the packets of a [`FaultyNetwork`] so far.
///
/// When nothing is in flight, `lost + delivered` is the number of packets sent plus `duplicated`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Packets that never arrived: lost at random, cut by a partition, or sent to nobody.
    pub lost: u64,
    /// Second copies that were made.
    pub duplicated: u64,
    /// Packets that were passed to an inbox, including second copies.
    pub delivered: u64,
}

/// A network with faults inside this process. Clones are the same network.
///
/// Packets travel in tasks of the tokio runtime on which `send` is called; outside a runtime they arrive at once. The
/// runtime needs its time driver enabled. A packet that is in flight while its receiver is detached and attached
/// again arrives at the new receiver: after a crash and a restart that happens on real networks too.
#[derive(Clone)]
pub struct FaultyNetwork {
    shared: Arc<Shared>,
}

struct Shared {
    registry: Registry,
    state: Mutex<State>,
}

struct State {
    rng: Rng,
    faults: Faults,
    cuts: BTreeSet<(NodeId, NodeId)>,
    isolated: BTreeSet<NodeId>,
    deaf: BTreeMap<(NodeId, NodeId), Deafness>,
    counts: Counts,
}

impl FaultyNetwork {
    /// Creates a network whose random numbers are all drawn from `seed`.
    pub fn new(seed: u64, faults: Faults) -> Self {
        let state = State {
            rng: Rng::with_seed(seed),
            faults,
            cuts: BTreeSet::new(),
            isolated: BTreeSet::new(),
            deaf: BTreeMap::new(),
            counts: Counts::default(),
        };
        Self { shared: Arc::new(Shared { registry: Registry::default(), state: Mutex::new(state) }) }
    }

    /// Changes what happens to the packets sent from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.shared.lock().faults = faults;
    }

    /// Loses every packet sent between a node of `a` and a node of `b` from now on, in both directions.
    pub fn partition(&self, a: &[NodeId], b: &[NodeId]) {
        let mut state = self.shared.lock();
        for one in a {
            for other in b {
                state.cuts.insert((one.clone(), other.clone()));
                state.cuts.insert((other.clone(), one.clone()));
            }
        }
    }

    /// Loses every packet sent from `from` to `to` from now on; packets in the other direction arrive.
    pub fn cut(&self, from: &NodeId, to: &NodeId) {
        self.shared.lock().cuts.insert((from.clone(), to.clone()));
    }

    /// Loses every packet sent from or to `node` from now on.
    pub fn isolate(&self, node: &NodeId) {
        self.shared.lock().isolated.insert(node.clone());
    }

    /// Makes `to` deaf to packets of `from` from now on: until `from` [heals](Wire::heal) its connection to it, or
    /// one of the two is attached again, or recreates its session.
    pub fn deafen(&self, from: &NodeId, to: &NodeId, deafness: Deafness) {
        self.shared.lock().deaf.insert((from.clone(), to.clone()), deafness);
    }

    /// Whether `to` is deaf to `from`.
    pub fn is_deaf(&self, from: &NodeId, to: &NodeId) -> bool {
        self.shared.lock().deaf.contains_key(&(from.clone(), to.clone()))
    }

    /// Ends every partition and isolation. Deaf nodes stay deaf.
    pub fn heal(&self) {
        let mut state = self.shared.lock();
        state.cuts.clear();
        state.isolated.clear();
    }

    /// Delivers a packet to one node, or to all that are attached, as if the node `from` had sent it, whether a node
    /// of that name is attached or not: a stranger, for tests. The packet arrives at once: no faults apply to it, and
    /// it is not counted.
    #[cfg(feature = "testing")]
    pub fn inject(&self, from: &NodeId, to: Option<&NodeId>, packet: &[u8]) {
        self.shared.registry.inject(from, to, packet);
    }

    /// Returns what has happened so far.
    pub fn counts(&self) -> Counts {
        self.shared.lock().counts
    }
}

impl Transport for FaultyNetwork {
    fn attach(&self, node: NodeId, inbox: Arc<dyn Inbox>) -> BoxFuture<'_, Result<Arc<dyn Wire>, TransportError>> {
        let attached = self.shared.registry.attach(&node, inbox);
        let shared = Arc::clone(&self.shared);
        Box::pin(ready(attached.map(|()| Arc::new(FaultyWire { shared, node }) as Arc<dyn Wire>)))
    }
}

impl State {
    /// Draws the delays of the copies of a packet: none, one or two.
    fn fate(&mut self, from: &NodeId, to: &NodeId, is_broadcast: bool) -> [Option<Duration>; 2] {
        // Four draws for every packet, whatever they decide: a changed fault or a healed partition does not shift the
        // draws for later packets, so a failing seed stays similar while it is studied.
        let [loss, duplication, first, second] = [(); 4].map(|()| self.rng.f64());
        let way = (from.clone(), to.clone());
        let is_cut = self.isolated.contains(from) || self.isolated.contains(to) || self.cuts.contains(&way);
        let is_deaf = self.deaf.get(&way).is_some_and(|deafness| !(is_broadcast && deafness.broadcasts_arrive));
        if is_cut || is_deaf || loss < self.faults.loss {
            self.counts.lost += 1;
            return [None, None];
        }
        let is_doubled = duplication < self.faults.duplication;
        self.counts.duplicated += u64::from(is_doubled);
        [Some(self.faults.delay(first)), is_doubled.then(|| self.faults.delay(second))]
    }

    /// Gives `node` a new session, which ends its deafness in both directions.
    fn renew_session(&mut self, node: &NodeId) {
        self.deaf.retain(|(from, to), _| from != node && to != node);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn deliver(&self, from: &NodeId, to: &NodeId, packet: &[u8]) {
        let has_arrived = self.registry.deliver(from, to, packet);
        let mut state = self.lock();
        if has_arrived {
            state.counts.delivered += 1;
        } else {
            state.counts.lost += 1;
        }
    }
}

/// One node's end of a [`FaultyNetwork`].
struct FaultyWire {
    shared: Arc<Shared>,
    node: NodeId,
}

impl FaultyWire {
    fn travel(&self, to: &NodeId, packet: &Arc<[u8]>, is_broadcast: bool) {
        if packet.len() > PACKET_BYTES_MAX_DEFAULT {
            metric::dropped(metric::Drop::Oversize);
            return;
        }
        metric::sent(packet.len());
        let fate = self.shared.lock().fate(&self.node, to, is_broadcast);
        if fate == [None, None] {
            metric::dropped(metric::Drop::Fault);
        }
        for delay in fate.into_iter().flatten() {
            let Ok(runtime) = Handle::try_current() else {
                self.shared.deliver(&self.node, to, packet);
                continue;
            };
            let (shared, from, to) = (Arc::clone(&self.shared), self.node.clone(), to.clone());
            let packet = Arc::clone(packet);
            // The timer starts now and not when the task first runs, so that the scheduler has no influence on it.
            let arrival = tokio::time::sleep(delay);
            runtime.spawn(async move {
                arrival.await;
                shared.deliver(&from, &to, &packet);
            });
        }
    }
}

impl Wire for FaultyWire {
    fn send(&self, to: &NodeId, packet: Vec<u8>) {
        self.travel(to, &packet.into(), false);
    }

    fn broadcast(&self, packet: Vec<u8>) {
        let packet = packet.into();
        for to in self.shared.registry.others(&self.node) {
            self.travel(&to, &packet, true);
        }
    }

    fn packet_bytes_max(&self) -> usize {
        PACKET_BYTES_MAX_DEFAULT
    }

    fn heal(&self, to: &NodeId, level: Heal) {
        let mut state = self.shared.lock();
        match level {
            Heal::Publisher => {
                let way = (self.node.clone(), to.clone());
                if state.deaf.get(&way).is_some_and(|deafness| deafness.until == Heal::Publisher) {
                    state.deaf.remove(&way);
                }
            }
            Heal::Session => state.renew_session(&self.node),
        }
    }
}

impl Drop for FaultyWire {
    fn drop(&mut self) {
        self.shared.lock().renew_session(&self.node);
        self.shared.registry.detach(&self.node);
    }
}
