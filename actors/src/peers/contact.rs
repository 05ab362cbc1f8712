//! Whether packets pass in both directions between this node and each other one, as far as is known: new sessions
//! prefer such nodes, and operators see it.
//!
//! A hint and never a verdict: a node that is not received keeps all it has, and when no node is received, all are
//! cast as if they were (decision 0021).

use std::collections::BTreeMap;
use std::time::Duration;

use accompanist_core::NodeId;
use metrics::{counter, gauge};

use super::{Known, Peers};
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

impl Known {
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

    /// Returns which nodes have gone silent and which have returned since the last call.
    fn turns(&mut self, now_ms: u64) -> Vec<(NodeId, Turn)> {
        let others = self.peers.keys().filter(|node| **node != self.node);
        let mut silent = BTreeMap::new();
        for node in others {
            if let Contact::Silent(time) = self.contact(node, now_ms) {
                let for_ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
                silent.insert(node.clone(), now_ms.saturating_sub(for_ms));
            }
        }
        let gone = silent.iter().filter(|(node, _)| !self.silent.contains_key(*node));
        let gone =
            gone.map(|(node, since_ms)| (node.clone(), Turn::Silent { for_ms: now_ms.saturating_sub(*since_ms) }));
        let is_back = |node: &NodeId| !silent.contains_key(node) && self.peers.contains_key(node);
        let back = self.silent.iter().filter(|(node, _)| is_back(node));
        let back =
            back.map(|(node, since_ms)| (node.clone(), Turn::Back { after_ms: now_ms.saturating_sub(*since_ms) }));
        let turns = gone.chain(back).collect();
        self.silent = silent;
        turns
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
        if let Some(at_ms) = known.received_ms.get_mut(node) {
            *at_ms = now_ms;
        }
        if queue_ms == 0 {
            known.queues.remove(node);
        } else if known.peers.contains_key(node) {
            known.queues.insert(node.clone(), (queue_ms, now_ms));
        }
    }

    /// Returns the node with the longest queue delay among these, and that delay, by recent reports.
    pub(crate) fn longest_queue<'a>(
        &self,
        nodes: impl IntoIterator<Item = &'a NodeId>,
        now_ms: u64,
    ) -> Option<(&'a NodeId, Duration)> {
        let known = self.lock();
        let queues = nodes.into_iter().filter_map(|node| Some((node, *known.queues.get(node)?)));
        let lately = queues.filter(|(_, (_, said_ms))| now_ms.saturating_sub(*said_ms) <= QUEUE_AGE_MAX_MS);
        let (node, (queue_ms, _)) = lately.max_by_key(|(_, (queue_ms, _))| *queue_ms)?;
        Some((node, Duration::from_millis(queue_ms)))
    }

    /// Notes since when a peer receives nothing from this node; `None` once it receives again.
    pub(crate) fn note_deaf(&self, node: &NodeId, since_ms: Option<u64>) {
        let mut known = self.lock();
        match since_ms {
            Some(since_ms) => drop(known.deaf.insert(node.clone(), since_ms)),
            None => drop(known.deaf.remove(node)),
        }
    }

    /// Forgets which nodes were deaf: a new link knows of none yet.
    pub(crate) fn begin_link(&self) {
        self.lock().deaf.clear();
    }

    /// Logs which nodes have gone silent and which have returned, once for each change, and counts them.
    pub(crate) fn note_contacts(&self, now_ms: u64) {
        let (turns, silent, deaf, disputed) = {
            let mut known = self.lock();
            let turns = known.turns(now_ms);
            let contacts = known.peers.keys().map(|node| known.contact(node, now_ms));
            let deaf = contacts.filter(|contact| matches!(contact, Contact::Deaf(_))).count();
            (turns, known.silent.len(), deaf, known.openings.disputed(now_ms))
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
                        "nothing is received from a peer: sessions that it is cast in wait, and new ones go to others if they can"
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
pub(super) fn silence_ms(period: Duration) -> u64 {
    u64::try_from(period.as_millis()).unwrap_or(u64::MAX).saturating_mul(SILENT_AFTER)
}

#[expect(clippy::cast_precision_loss, reason = "they are few")]
fn float(peers: usize) -> f64 {
    peers as f64
}
