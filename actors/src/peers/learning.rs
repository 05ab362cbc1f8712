//! What an advertisement of another node changes here.
//!
//! A node is believed about itself, unless its store is not the known one; what it reports of others is a hint. Next:
//! `openings.rs` judges the sender's store, `hints.rs` handles what it reports of others.

use accompanist_core::NodeId;
use accompanist_core::contract::Batch;
use accompanist_core::frame::{Advertisement, Left, Membership};

use super::known::KnownNodes;
use super::openings::Verdict;
use super::peer::Peer;
use super::{PEERS_MAX, PeerStore, Peers};
use crate::store::Halt;

/// The result of an advertisement.
#[derive(Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(crate) struct Learned {
    /// The changes to be stored.
    pub(crate) changes: Batch,
    /// The nodes that have left; other nodes are informed once that is on disk.
    pub(crate) left: Vec<Left>,
    /// The nodes that the sender reports to have left, if that is new here; no more than a hint.
    pub(crate) hints: Vec<NodeId>,
    /// Whether the sender has forgotten this node, which has not left, and that is new here.
    pub(crate) forgets_own: bool,
    /// The sender's membership, if it is not on disk yet: the sender is answered once more when it is.
    pub(crate) unstored: Option<Membership>,
    /// Whether the sender is on disk here in another membership and has not declared that it begins anew: its
    /// advertisement was not accepted, and it must be informed which membership is known.
    pub(crate) is_other: bool,
    /// Whether there is no room to remember the sender.
    pub(crate) is_one_too_many: bool,
    /// Whether the sender has this node on disk in another membership, although no operator declared that this node
    /// begins anew.
    pub(crate) knows_other: bool,
    /// Whether the sender has another store than the known one, or runs twice: it must be informed.
    pub(crate) is_disputed: bool,
    /// Whether the advertisement was not accepted; nothing else from this sender is accepted either.
    pub(crate) is_refused: bool,
    /// The state of the sender's store that the operator must be informed of.
    pub(crate) store: Option<PeerStore>,
    /// Whether an operator has accepted an older copy of the sender's store.
    pub(crate) is_restored: bool,
    /// The reason for which this node has to stop, according to the sender.
    pub(crate) halt: Option<Halt>,
}

impl Peers {
    /// Handles the advertisement of a node, and what it reports of others.
    pub(crate) fn learn(&self, node: &NodeId, mut advertisement: Advertisement, now_ms: u64) -> Learned {
        let mut learned = Learned::default();
        // What a node reports of itself is true; what it reports of others is a hint.
        let left = std::mem::take(&mut advertisement.left);
        let (left, of_others): (Vec<_>, Vec<_>) = left.into_iter().partition(|left| left.node == *node);
        {
            let mut known = self.lock();
            let own = known.own.status();
            learned.is_other = !advertisement.fresh
                && known.stored.get(node).is_some_and(|stored| *stored != advertisement.membership);
            // The sessions of a node that has left continue.
            let has_left = known.left.has(node, advertisement.membership);
            learned.is_refused =
                learned.is_other || (!has_left && !known.judge(node, &advertisement, now_ms, &mut learned));
            if !learned.is_refused && !has_left {
                // Only nodes whose own advertisement is accepted may state what this node is.
                learned.knows_other = !own.fresh && advertisement.knows.is_some_and(|knows| knows != own.membership);
                let (generation, dispute) = (known.opening.generation(), advertisement.dispute.take());
                learned.halt = Self::halt_of(node, generation, own.membership, dispute);
                known.opening.note_accepted(node, advertisement.accepts);
            }
        }
        if learned.is_refused {
            self.changed.notify_waiters();
            return learned;
        }
        learned.changes = self.note_left(&left);
        if !learned.changes.is_empty() {
            learned.left = left;
        }
        {
            let mut known = self.lock();
            known.note_needs(node, &advertisement.needs);
            learned.hints = known.note_hints(node, &of_others, now_ms);
            learned.forgets_own = known.note_own_left(node, &of_others);
            let membership = known.own.status().membership;
            if !known.left.has(node, advertisement.membership) {
                let (mutual, peer) = (advertisement.knows == Some(membership), advertisement.into());
                learned.changes.extend(known.take(node, Peer { mutual, ..peer }, now_ms));
                let taken = known.peers.get(node).map(|peer| peer.membership);
                learned.is_one_too_many = taken.is_none();
                learned.unstored = taken.filter(|taken| known.stored.get(node) != Some(taken));
            }
        }
        self.changed.notify_waiters();
        learned
    }
}

impl KnownNodes {
    /// Returns whether an advertisement comes from the known store of its sender, as far as that can be determined.
    fn judge(&mut self, node: &NodeId, advertisement: &Advertisement, now_ms: u64, learned: &mut Learned) -> bool {
        let verdict = self.openings.judge(node, advertisement.membership, advertisement.generation, now_ms);
        if let Some(dispute) = &advertisement.dispute {
            self.openings.note_dispute(node, advertisement.generation, dispute, now_ms);
        }
        learned.is_disputed = self.openings.dispute(node, now_ms).is_some();
        learned.store = self.openings.say(node, now_ms);
        learned.is_restored = verdict == Verdict::Taken { restored: true };
        verdict != Verdict::Refused
    }

    /// Takes over the advertisement of a node. Returns what has to be stored, if anything is new.
    fn take(&mut self, node: &NodeId, mut peer: Peer, now_ms: u64) -> Batch {
        let mut changes = Batch::new();
        if !self.peers.contains_key(node) && self.peers.len() >= PEERS_MAX {
            let Some(room) = self.make_room(now_ms) else { return Batch::new() };
            changes = room;
        }
        let before = self.peers.get(node);
        if let Some(before) = before {
            peer.partner = before.partner && before.membership == peer.membership;
            peer.mutual |= before.mutual && before.membership == peer.membership;
            if before.membership == peer.membership && before.change > peer.change {
                return Batch::new(); // The advertisement is late.
            }
            if before.membership != peer.membership {
                tracing::warn!(peer = %node, "a node begins anew under its name with another store");
                self.drain.forget_answer(node);
                self.own.not_aware(node);
                self.stored.remove(node);
            }
        }
        let is_news = before != Some(&peer);
        self.contacts.note_advertisement(node, now_ms);
        changes.extend(self.openings.due_change(node, now_ms));
        self.hints.drop_of(node); // The node reports for itself again.
        if is_news {
            changes.extend(peer.stored(node));
            self.peers.insert(node.clone(), peer);
        }
        changes
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::time::Duration;

    use accompanist_core::frame::{Generation, OfferedChoreography};

    use super::*;
    use crate::peers::membership::OwnStatus;

    #[test]
    fn unknown_nodes_are_bounded() {
        let advertisement = |role: &str| Advertisement { roles: vec![role.into()], ..Advertisement::default() };
        let is_stored = |learned: Learned| !learned.changes.is_empty();
        let node = |number: usize| NodeId::new(format!("node-{number}")).unwrap();
        // No node is silent yet, so no node makes room.
        let peers = Peers::new(NodeId::new("own").unwrap(), advertisement("shop"), Duration::from_secs(3), 0);
        let stored =
            (0..2 * PEERS_MAX).filter(|number| is_stored(peers.learn(&node(*number), advertisement("bank"), 0)));
        assert_eq!(stored.count() + 1, PEERS_MAX); // This node itself is not stored.
        let kept = {
            let known = peers.lock();
            [known.peers.len(), known.contacts.received()]
        };
        assert_eq!(kept, [PEERS_MAX, PEERS_MAX]);
        // A known node may still change.
        assert!(!is_stored(peers.learn(&node(1), advertisement("bank"), 0)));
        assert!(is_stored(peers.learn(&node(1), advertisement("shop"), 0)));
    }

    /// Later releases read these bytes from stores.
    #[test]
    fn the_stored_bytes_of_peers_are_stable() {
        let offered = OfferedChoreography { choreography: "sale".into(), version: 2, patches: vec!["p".into()] };
        let roles = vec!["bank".into()];
        let generation = Generation { restores: 1, number: 2, id: 3, opened: 4, batch: 5 };
        let advertisement = Advertisement {
            membership: Membership(300),
            change: 3,
            draining: true,
            roles,
            generation,
            ..Advertisement::default()
        };
        let peers = Peers::new(NodeId::new("own").unwrap(), Advertisement::default(), Duration::ZERO, 0);
        let left = Left { at_unix_ms: 1_000, node: NodeId::new("n2").unwrap(), membership: Membership(299) };
        let knows = Some(Membership(0));
        let news = Advertisement { choreographies: vec![offered], knows, left: vec![left], ..advertisement };
        let mut changes = peers.learn(&NodeId::new("n2").unwrap(), news, 0).changes;
        changes.extend(OwnStatus { membership: Membership(300), change: 3, draining: true, fresh: false }.stored());
        let stored = changes.into_iter().map(|change| (change.key, change.value.unwrap()));
        let expected: [(&[u8], &[u8]); 4] = [
            (b"left/n2/\0\0\0\0\0\0\x01\x2b", b"\x01\xe8\x07\x02n2\xab\x02"),
            (b"opening/n2", b"\x01\xac\x02\x01\x02\x03\x04\x05"),
            (b"node/n2", b"\x01\xac\x02\x03\x01\x01\x01\x04bank\x01\x04sale\x02\x01\x01p\0"),
            (b"standing", b"\x01\xac\x02\x03\x01\0"),
        ];
        assert_eq!(stored.collect::<Vec<_>>(), expected.map(|(key, value)| (key.to_vec(), value.to_vec())));
    }
}
