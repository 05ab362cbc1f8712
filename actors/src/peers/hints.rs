//! The nodes that only others report to have left.
//!
//! Such a report is a hint: these nodes are not cast while it is repeated, and only as long as they are not received
//! themselves. It is neither stored nor passed on (decision 0031).

use std::collections::BTreeMap;

use accompanist_core::NodeId;
use accompanist_core::frame::Left;

use super::Contact;
use super::known::KnownNodes;

/// The hints, each with the time of the last report; see the module's documentation.
pub(super) struct DepartureHints {
    reported_ms: BTreeMap<NodeId, u64>,
    /// A hint that was not repeated for this long is forgotten.
    age_max_ms: u64,
}

impl DepartureHints {
    pub(super) fn new(age_max_ms: u64) -> Self {
        Self { reported_ms: BTreeMap::new(), age_max_ms }
    }

    /// Returns whether `node` is reported to have left.
    pub(super) fn has(&self, node: &NodeId) -> bool {
        self.reported_ms.contains_key(node)
    }

    /// Notes a report on `node`. Returns whether it is the first one.
    fn note(&mut self, node: &NodeId, now_ms: u64) -> bool {
        self.reported_ms.insert(node.clone(), now_ms).is_none()
    }

    /// Drops the hint on `node`: it reports for itself again, or is forgotten.
    pub(super) fn drop_of(&mut self, node: &NodeId) {
        self.reported_ms.remove(node);
    }

    /// Drops the hints that have not been repeated lately.
    pub(super) fn drop_old(&mut self, now_ms: u64) {
        let age_max_ms = self.age_max_ms;
        self.reported_ms.retain(|_, at_ms| now_ms.saturating_sub(*at_ms) < age_max_ms);
    }
}

impl KnownNodes {
    /// Handles what `from` reports of nodes that have left. Returns the nodes of which this is new.
    pub(super) fn note_hints(&mut self, from: &NodeId, lefts: &[Left], now_ms: u64) -> Vec<NodeId> {
        let mut news = Vec::new();
        for left in lefts.iter().filter(|left| left.node != self.node && left.node != *from) {
            let is_it = self.peers.get(&left.node).is_some_and(|peer| peer.membership == left.membership);
            let is_received = matches!(self.contacts.contact(&left.node, now_ms), Contact::Good | Contact::Deaf(_));
            if is_it && !is_received && self.hints.note(&left.node, now_ms) {
                news.push(left.node.clone());
            }
        }
        news
    }
}
