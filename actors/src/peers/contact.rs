//! Whether packets go to and fro between the own node and each other one, as far as is known: new sessions prefer those, and
//! operators see it.
//!
//! A hint and never a verdict: nothing is taken from a node that is not received, and when nobody is, all are cast as if
//! they were (decision 0021).

use std::collections::BTreeMap;
use std::time::Duration;

use accompanist_core::NodeId;
use metrics::{counter, gauge};

use super::{Known, Peers};
use crate::metric;

/// After so many periods of the offers in which nothing was received from a peer it is silent. A peer sends at least one
/// packet in each, so that two may be lost in a row; and new sessions go there no longer than that.
const SILENT_AFTER: u64 = 3;

/// What a node has said so long ago of its queue says nothing of now.
const QUEUE_AGE_MAX_MS: u64 = 1_000;

/// Whether packets go to and fro between this node and another one; see [`Node::peers`](crate::Node::peers).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contact {
    /// Nothing was received from it yet in this life of this node, which has just begun; or it has left.
    Unknown,
    /// Something was received from it lately, and it does not complain.
    Good,
    /// Nothing was received from it for so long, or at all in this life of this node: it is down, or cut off. New sessions
    /// go to others, if there are any.
    Silent(Duration),
    /// It is received, and has said for so long that it receives nothing from this node. The network carries nothing in one
    /// direction; this node makes the way there anew, more and more seldom while that does not help. New sessions go to
    /// others, if there are any.
    Deaf(Duration),
}

/// How likely a new session that is cast to a node goes on at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Liveliness {
    /// Nothing goes to and fro.
    Gone,
    /// It is still to be heard in this life of the own node.
    Unheard,
    Heard,
}

/// What has become of a peer.
#[derive(Debug)]
enum Turn {
    Silent { for_ms: u64 },
    Back { after_ms: u64 },
}

impl Known {
    pub(super) fn contact(&self, node: &NodeId, now_ms: u64) -> Contact {
        let received = self.heard.get(node);
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

    /// Whether a new session that is cast there is likely to go on at once. While this node has just begun
    /// (`is_hearing`), those that are still to be heard get the benefit of the doubt, but come behind those that are heard:
    /// what is known of them is from an earlier life, and whoever said it then may never have been there.
    pub(super) fn liveliness(&self, node: &NodeId, now_ms: u64, is_hearing: bool) -> Liveliness {
        match self.contact(node, now_ms) {
            _ if *node == self.node => Liveliness::Heard,
            Contact::Good => Liveliness::Heard,
            Contact::Unknown if is_hearing => Liveliness::Unheard,
            Contact::Unknown | Contact::Silent(_) | Contact::Deaf(_) => Liveliness::Gone,
        }
    }

    /// Notes who has gone silent and who has come back since the last time.
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
    /// Whether this is a node that has said what it offers, and has not left.
    pub(crate) fn knows(&self, node: &NodeId) -> bool {
        self.lock().peers.contains_key(node)
    }

    /// The first of these nodes of which nothing is known: it has never said what it offers, and has not left.
    pub(crate) fn unknown_of(&self, cast: &[NodeId]) -> Option<NodeId> {
        let known = self.lock();
        let is_known = |node: &NodeId| known.peers.contains_key(node) || known.left.names().any(|left| left == node);
        cast.iter().find(|node| !is_known(node)).cloned()
    }

    /// Something was received from a node, where what arrives takes so long. What it offers is taken by [`Peers::learn`].
    pub(crate) fn note_received(&self, node: &NodeId, queue_ms: u64, now_ms: u64) {
        let mut known = self.lock();
        if let Some(at_ms) = known.heard.get_mut(node) {
            *at_ms = now_ms;
        }
        if queue_ms == 0 {
            known.queues.remove(node);
        } else if known.peers.contains_key(node) {
            known.queues.insert(node.clone(), (queue_ms, now_ms));
        }
    }

    /// Where, of these nodes, what arrives takes longest, and how long, as they have said lately.
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

    /// Since when a peer receives nothing from the own node; `None` once it receives again.
    pub(crate) fn note_deaf(&self, node: &NodeId, since_ms: Option<u64>) {
        let mut known = self.lock();
        match since_ms {
            Some(since_ms) => drop(known.deaf.insert(node.clone(), since_ms)),
            None => drop(known.deaf.remove(node)),
        }
    }

    /// A new link knows of nobody yet who receives nothing.
    pub(crate) fn begin_link(&self) {
        self.lock().deaf.clear();
    }

    /// Says who has gone silent and who has come back, once for each change, and counts them.
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

/// How long nothing is received from a node that is silent, where offers have this period.
pub(super) fn silence_ms(period: Duration) -> u64 {
    u64::try_from(period.as_millis()).unwrap_or(u64::MAX).saturating_mul(SILENT_AFTER)
}

#[expect(clippy::cast_precision_loss, reason = "they are few")]
fn float(peers: usize) -> f64 {
    peers as f64
}
