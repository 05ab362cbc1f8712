//! Bounds the room for nodes: how much memory a forged name takes here, and for how long.
//!
//! An advertisement is believed and kept, so that a start needs no other node to be up. A name that has never taken
//! part in anything, and is not received, may be forged. Such a node is dropped when there is no room for another
//! one, and after an hour in any case; a real node introduces itself again. Nodes that have acknowledged a frame of a
//! session, at any time, stay until they leave or are forgotten.

use accompanist_core::NodeId;
use accompanist_core::contract::{Batch, Change, Space};

use super::known::KnownNodes;
use super::membership::MemberStatus;
use super::peer::key;
use super::{Contact, Peers};

/// How long a node is remembered that is not received and has taken part in nothing.
const AGE_MAX_MS: u64 = 3_600_000;

impl KnownNodes {
    /// Forgets all that is known of a node, and returns what is to be stored for that.
    pub(super) fn forget(&mut self, node: &NodeId) -> Batch {
        self.peers.remove(node);
        self.contacts.forget(node);
        self.hints.drop_of(node);
        self.stored.remove(node);
        self.drain.forget_answer(node);
        self.own.not_forgotten_by(node);
        let mut changes = vec![Change { space: Space::Meta, key: key(node), value: None }];
        changes.extend(self.openings.forget(node));
        if self.cordoned.remove(node) {
            changes.push(Self::cordon_change(node, false));
        }
        changes
    }

    /// Returns the first node to forget: the one not received for the longest time, of those that have taken part in
    /// nothing.
    fn least(&self, now_ms: u64) -> Option<(NodeId, u64)> {
        let idle = self.peers.iter().filter(|(node, peer)| {
            !peer.partner && **node != self.node && !self.placed.contains_key(*node) && !self.cordoned.contains(*node)
        });
        let silent = idle.filter_map(|(node, _)| match self.contacts.contact(node, now_ms) {
            Contact::Silent(time) => Some((node.clone(), u64::try_from(time.as_millis()).unwrap_or(u64::MAX))),
            Contact::Unknown | Contact::Good | Contact::Deaf(_) => None,
        });
        silent.max_by_key(|(_, silent_ms)| *silent_ms)
    }

    /// Makes room for one more node, if one may be forgotten. Returns what is to be stored.
    pub(super) fn make_room(&mut self, now_ms: u64) -> Option<Batch> {
        let (node, _) = self.least(now_ms)?;
        Some(self.forget(&node))
    }
}

impl Peers {
    /// Forgets nodes that are too old, unless this node drains: any of them may need it.
    pub(crate) fn age(&self, now_ms: u64) -> Batch {
        let mut known = self.lock();
        let mut changes = Batch::new();
        while known.status() == MemberStatus::Serving
            && let Some((node, silent_ms)) = known.least(now_ms)
            && silent_ms >= AGE_MAX_MS
        {
            tracing::info!(peer = %node, "a node that has taken part in nothing is not received any more, and is forgotten");
            changes.extend(known.forget(&node));
        }
        changes
    }

    /// Notes that a node has acknowledged a frame of a session. Returns what is to be stored, if that is new.
    pub(crate) fn note_partner(&self, node: &NodeId) -> Option<Change> {
        let mut known = self.lock();
        let peer = known.peers.get_mut(node).filter(|peer| !peer.partner)?;
        peer.partner = true;
        peer.stored(node)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::time::Duration;

    use accompanist_core::frame::Advertisement;

    use super::*;
    use crate::peers::PEERS_MAX;

    const PERIOD: Duration = Duration::from_secs(3);
    /// The time at which a node that was not received since 0 is silent.
    const LATER_MS: u64 = 9_000;

    fn node(number: usize) -> NodeId {
        NodeId::new(format!("node-{number}")).unwrap()
    }

    fn peers() -> Peers {
        Peers::new(NodeId::new("own").unwrap(), Advertisement::default(), PERIOD, 0)
    }

    fn learn(peers: &Peers, number: usize, now_ms: u64) -> bool {
        !peers.learn(&node(number), Advertisement::default(), now_ms).changes.is_empty()
    }

    #[test]
    fn forged_names_make_room_for_real_nodes() {
        let peers = peers();
        assert!(
            learn(&peers, 0, 0) && peers.note_partner(&node(0)).is_some() && peers.note_partner(&node(0)).is_none()
        );
        let known = (1..2 * PEERS_MAX).filter(|number| learn(&peers, *number, 1)).count();
        assert_eq!(known, PEERS_MAX - 2, "itself is one, and nobody is silent yet");
        assert!(learn(&peers, 5_000, LATER_MS + 1), "the others are silent");
        let left = (1..2 * PEERS_MAX).filter(|number| peers.knows(&node(*number))).count();
        assert_eq!(left, PEERS_MAX - 3, "one of them has gone");
        // Even if more names are forged.
        let more = (10_000..10_000 + 2 * PEERS_MAX).filter(|number| learn(&peers, *number, LATER_MS + 2)).count();
        assert_eq!(more, PEERS_MAX - 3, "all but the own node and two others");
        assert!(peers.knows(&node(0)), "it has taken part in something");
        assert!(peers.knows(&node(5_000)), "it is received");
        assert_eq!(peers.lock().peers.len(), PEERS_MAX);
    }

    #[test]
    fn a_silent_node_without_sessions_is_forgotten_after_an_hour() {
        let peers = peers();
        assert!(learn(&peers, 0, 0) && learn(&peers, 1, 0));
        peers.note_partner(&node(0)).unwrap();
        assert!(peers.age(AGE_MAX_MS - 1).is_empty());
        let changes = peers.age(AGE_MAX_MS);
        assert!(changes.iter().all(|change| change.value.is_none() && change.key.ends_with(b"/node-1")), "{changes:?}");
        assert!(changes.iter().any(|change| change.key == key(&node(1))));
        assert!(peers.knows(&node(0)) && !peers.knows(&node(1)));
        assert!(learn(&peers, 1, AGE_MAX_MS), "it introduces itself anew");
    }
}
