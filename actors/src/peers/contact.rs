//! Whether packets go to and fro between the own node and each other one, as far as is known: shown to operators.
//!
//! A hint and never a verdict: nothing is taken from a node that is not received.

use std::time::Duration;

use accompanist_core::NodeId;
use metrics::gauge;

use super::{Known, Peers};
use crate::metric;

/// Whether packets go to and fro between this node and another one; see [`Node::peers`](crate::Node::peers).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contact {
    /// Nothing was received from it in this life of this node, or it has left.
    Unknown,
    /// It was received, and does not complain.
    Good,
    /// It is received, and has said for so long that it receives nothing from this node. The network carries nothing in one
    /// direction; this node makes the way there anew, more and more seldom while that does not help.
    Deaf(Duration),
}

impl Known {
    pub(super) fn contact(&self, node: &NodeId, now_ms: u64) -> Contact {
        if let Some(since_ms) = self.deaf.get(node) {
            return Contact::Deaf(Duration::from_millis(now_ms.saturating_sub(*since_ms)));
        }
        if self.heard.contains_key(node) { Contact::Good } else { Contact::Unknown }
    }
}

impl Peers {
    /// Whether this is a node that has said what it offers, and has not left.
    pub(crate) fn knows(&self, node: &NodeId) -> bool {
        self.lock().peers.contains_key(node)
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

    /// Counts those that are not in good contact; from time to time.
    pub(crate) fn note_contacts(&self, now_ms: u64) {
        let known = self.lock();
        let contacts = known.peers.keys().map(|node| known.contact(node, now_ms));
        let deaf = contacts.filter(|contact| matches!(contact, Contact::Deaf(_))).count();
        gauge!(metric::PEERS_DEAF).set(float(deaf));
    }
}

#[expect(clippy::cast_precision_loss, reason = "they are few")]
fn float(peers: usize) -> f64 {
    peers as f64
}
