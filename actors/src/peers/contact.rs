//! Whether packets pass in both directions between this node and each other one, as far as is known: new sessions
//! prefer such nodes, and operators see it.
//!
//! A hint and never a verdict: a node that is not received keeps all it has, and when no node is received, all are
//! cast as if they were (decision 0021).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use accompanist_core::NodeId;
use metrics::{counter, gauge};

use super::Peers;
use super::known::KnownNodes;
use crate::base::metric;

/// The number of advertisement periods without a packet from a peer after which it is silent. A peer sends at least
/// one packet in each, so that two may be lost in a row; new sessions go there no longer than that.
const SILENT_AFTER: u64 = 3;

/// The age at which a reported queue delay says nothing about the present.
const QUEUE_AGE_MAX_MS: u64 = 1_000;

/// Whether packets pass in both directions between this node and another one; see
/// [`Operator::peers`](crate::Operator::peers).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Contact {
    /// Nothing was received from the node yet since this node started, which was just now; or the node has left.
    Unknown,
    /// The node was received lately, and does not report that it receives nothing.
    Good,
    /// Nothing was received from the node for this long, or since this node's start: it is down, or cut off. New
    /// sessions go to others, if there are any.
    Silent(Duration),
    /// The node is received, and has reported for this long that it receives nothing from this one. The network
    /// carries nothing in one direction; this node rebuilds the connection, at growing intervals while that does not
    /// help. New sessions go to others, if there are any.
    Deaf(Duration),
}

/// How likely a new session cast to a node continues at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Liveliness {
    /// Packets do not pass in both directions.
    Gone,
    /// The node has not been received yet since this node's start.
    Unheard,
    Heard,
}

/// A change in the contact with a peer.
#[derive(Debug)]
enum Turn {
    Silent { for_ms: u64 },
    Back { after_ms: u64 },
}

/// What is known of the contact with each node; times are of the monotonic clock.
pub(super) struct Contacts {
    /// This node.
    node: NodeId,
    /// When this node began to listen.
    begun_ms: u64,
    /// A node is silent when nothing was received from it for this long.
    silence_ms: u64,
    /// When each node was last received since this node's start; of others it is known what they advertised before.
    received_ms: BTreeMap<NodeId, u64>,
    /// The queue delay of each node, and when it was received, for those that report one.
    queues: BTreeMap<NodeId, (u64, u64)>,
    /// The nodes that are received but receive nothing from this one, and since when.
    deaf: BTreeMap<NodeId, u64>,
    /// The nodes that were reported as silent, and since when.
    silent: BTreeMap<NodeId, u64>,
}

impl Contacts {
    /// Creates the value for a node that begins to listen now; each node advertises itself within `period`.
    pub(super) fn new(node: NodeId, period: Duration, now_ms: u64) -> Self {
        Self {
            begun_ms: now_ms,
            silence_ms: silence_ms(period),
            received_ms: BTreeMap::from([(node.clone(), 0)]),
            node,
            queues: BTreeMap::new(),
            deaf: BTreeMap::new(),
            silent: BTreeMap::new(),
        }
    }

    /// Returns how long nothing is received from a node until it is silent.
    pub(super) fn silence_ms(&self) -> u64 {
        self.silence_ms
    }

    /// Returns the period within which each node advertises itself.
    pub(super) fn period_ms(&self) -> u64 {
        self.silence_ms / SILENT_AFTER
    }

    pub(super) fn contact(&self, node: &NodeId, now_ms: u64) -> Contact {
        let received = self.received_ms.get(node);
        let silent_ms = now_ms.saturating_sub(received.copied().unwrap_or(self.begun_ms));
        if silent_ms >= self.silence_ms {
            return Contact::Silent(Duration::from_millis(silent_ms));
        }
        match (received, self.deaf.get(node)) {
            (None, _) => Contact::Unknown,
            (_, None) => Contact::Good,
            (_, Some(since_ms)) => Contact::Deaf(Duration::from_millis(now_ms.saturating_sub(*since_ms))),
        }
    }

    /// Returns how likely a new session that is cast to the node continues at once. While this node has just started
    /// (`is_hearing`), nodes that have not been received yet get the benefit of the doubt, but come after those that
    /// have: what is known of them dates from before the start, and its sender may have been forged.
    pub(super) fn liveliness(&self, node: &NodeId, now_ms: u64, is_hearing: bool) -> Liveliness {
        match self.contact(node, now_ms) {
            _ if *node == self.node => Liveliness::Heard,
            Contact::Good => Liveliness::Heard,
            Contact::Unknown if is_hearing => Liveliness::Unheard,
            Contact::Unknown | Contact::Silent(_) | Contact::Deaf(_) => Liveliness::Gone,
        }
    }

    /// Returns whether the node was received since this node's start.
    pub(super) fn was_received(&self, node: &NodeId) -> bool {
        self.received_ms.contains_key(node)
    }

    /// Returns how long ago the node was last received; `None` if it was not since this node's start.
    pub(super) fn last_received(&self, node: &NodeId, now_ms: u64) -> Option<Duration> {
        let at_ms = self.received_ms.get(node)?;
        Some(Duration::from_millis(now_ms.saturating_sub(*at_ms)))
    }

    /// Notes that an advertisement of the node was accepted.
    pub(super) fn note_advertisement(&mut self, node: &NodeId, now_ms: u64) {
        self.received_ms.insert(node.clone(), now_ms);
    }

    /// Notes that a packet of the node was received, with its queue delay, which is kept for a node that `is_known`.
    fn note_packet(&mut self, node: &NodeId, queue_ms: u64, is_known: bool, now_ms: u64) {
        if let Some(at_ms) = self.received_ms.get_mut(node) {
            *at_ms = now_ms;
        }
        if queue_ms == 0 {
            self.queues.remove(node);
        } else if is_known {
            self.queues.insert(node.clone(), (queue_ms, now_ms));
        }
    }

    /// Returns the queue delay that the node has reported lately.
    fn queue_ms(&self, node: &NodeId, now_ms: u64) -> Option<u64> {
        let (queue_ms, reported_ms) = self.queues.get(node)?;
        (now_ms.saturating_sub(*reported_ms) <= QUEUE_AGE_MAX_MS).then_some(*queue_ms)
    }

    /// Forgets all that is known of the contact with the node.
    pub(super) fn forget(&mut self, node: &NodeId) {
        self.received_ms.remove(node);
        self.queues.remove(node);
        self.deaf.remove(node);
    }

    /// Returns which of the `known` nodes have gone silent and which have returned since the last call.
    fn turns<'a>(&mut self, known: impl Iterator<Item = &'a NodeId>, now_ms: u64) -> Vec<(NodeId, Turn)> {
        let (mut silent, mut received) = (BTreeMap::new(), BTreeSet::new());
        for node in known.filter(|node| **node != self.node) {
            if let Contact::Silent(time) = self.contact(node, now_ms) {
                let for_ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
                silent.insert(node.clone(), now_ms.saturating_sub(for_ms));
            } else {
                received.insert(node);
            }
        }
        let passed_ms = |since_ms: &u64| now_ms.saturating_sub(*since_ms);
        let gone = silent.iter().filter(|(node, _)| !self.silent.contains_key(*node));
        let gone = gone.map(|(node, since_ms)| (node.clone(), Turn::Silent { for_ms: passed_ms(since_ms) }));
        let back = self.silent.iter().filter(|(node, _)| received.contains(*node));
        let back = back.map(|(node, since_ms)| (node.clone(), Turn::Back { after_ms: passed_ms(since_ms) }));
        let turns = gone.chain(back).collect();
        self.silent = silent;
        turns
    }

    /// Returns how many nodes are remembered as received.
    #[cfg(test)]
    pub(super) fn received(&self) -> usize {
        self.received_ms.len()
    }
}

impl Peers {
    /// Returns whether this node has advertised itself and has not left.
    pub(crate) fn knows(&self, node: &NodeId) -> bool {
        self.lock().peers.contains_key(node)
    }

    /// Returns the first of these nodes that is unknown: it has never advertised itself, and has not left.
    pub(crate) fn unknown_of(&self, cast: &[NodeId]) -> Option<NodeId> {
        let known = self.lock();
        let is_known = |node: &NodeId| known.peers.contains_key(node) || known.left.names().any(|left| left == node);
        cast.iter().find(|node| !is_known(node)).cloned()
    }

    /// Notes that a packet was received from a node with this queue delay. Advertisements are handled by
    /// [`Peers::learn`].
    pub(crate) fn note_received(&self, node: &NodeId, queue_ms: u64, now_ms: u64) {
        let mut known = self.lock();
        let is_known = known.peers.contains_key(node);
        known.contacts.note_packet(node, queue_ms, is_known, now_ms);
    }

    /// Returns the node with the longest queue delay among these, and that delay, by recent reports.
    pub(crate) fn longest_queue<'a>(
        &self,
        nodes: impl IntoIterator<Item = &'a NodeId>,
        now_ms: u64,
    ) -> Option<(&'a NodeId, Duration)> {
        let known = self.lock();
        let queues = nodes.into_iter().filter_map(|node| Some((node, known.contacts.queue_ms(node, now_ms)?)));
        let (node, queue_ms) = queues.max_by_key(|(_, queue_ms)| *queue_ms)?;
        Some((node, Duration::from_millis(queue_ms)))
    }

    /// Notes since when a peer receives nothing from this node; `None` once it receives again.
    pub(crate) fn note_deaf(&self, node: &NodeId, since_ms: Option<u64>) {
        let mut known = self.lock();
        match since_ms {
            Some(since_ms) => drop(known.contacts.deaf.insert(node.clone(), since_ms)),
            None => drop(known.contacts.deaf.remove(node)),
        }
    }

    /// Forgets which nodes were deaf: a new link knows of none yet.
    pub(crate) fn begin_link(&self) {
        self.lock().contacts.deaf.clear();
    }

    /// Logs which nodes have gone silent and which have returned, once for each change, and counts them.
    pub(crate) fn note_contacts(&self, now_ms: u64) {
        let (turns, silent, deaf, disputed) = {
            let mut known = self.lock();
            let KnownNodes { peers, contacts, openings, .. } = &mut *known;
            let turns = contacts.turns(peers.keys(), now_ms);
            let deaf = peers.keys().filter(|node| matches!(contacts.contact(node, now_ms), Contact::Deaf(_)));
            (turns, contacts.silent.len(), deaf.count(), openings.disputed(now_ms))
        };
        gauge!(metric::PEERS_SILENT).set(float(silent));
        gauge!(metric::PEERS_DEAF).set(float(deaf));
        gauge!(metric::PEERS_DISPUTED).set(float(disputed));
        for (peer, turn) in turns {
            match turn {
                Turn::Silent { for_ms } => {
                    counter!(metric::PEERS_WENT_SILENT).increment(1);
                    tracing::warn!(
                        %peer, for_ms,
                        "nothing is received from a peer: sessions that it is cast in wait, and new ones go to others \
                         if they can"
                    );
                }
                Turn::Back { after_ms } => {
                    counter!(metric::PEERS_CAME_BACK).increment(1);
                    tracing::info!(%peer, after_ms, "a peer that was silent is received again");
                }
            }
        }
    }
}

/// Returns how long nothing is received from a node until it is silent, where advertisements have this period.
fn silence_ms(period: Duration) -> u64 {
    u64::try_from(period.as_millis()).unwrap_or(u64::MAX).saturating_mul(SILENT_AFTER)
}

#[expect(clippy::cast_precision_loss, reason = "they are few")]
fn float(peers: usize) -> f64 {
    peers as f64
}
