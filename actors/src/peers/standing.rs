//! How the own node stands with the others, and how far its draining is.
//!
//! A node that drains is needed as long as an instance is open anywhere whose session has it in its cast: one that has
//! not come to it yet as well as one whose last acknowledgement has been lost. So every node that may have begun such
//! sessions says how many are open there, once it has on its disk that no more begin (decision 0014).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use accompanist_core::NodeId;
use accompanist_core::contract::{Batch, Change, Space};
use accompanist_core::frame::{Left, Membership, NODES_PER_OFFER_MAX, Need};
use accompanist_core::record::value_bytes;
use serde::{Deserialize, Serialize};

use super::{Contact, Known, PeerStore, Peers};
use crate::store::STANDING_KEY;
use crate::writer::Counts;

/// How a node stands with the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It takes new sessions.
    Serving,
    /// It takes no new sessions, and ends those it has.
    Draining,
    /// It has left for good, or an operator has had it forgotten: nobody casts it any more.
    Left,
}

/// Another node, as far as is known; see [`Node::peers`](crate::Node::peers).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownNode {
    /// Its name.
    pub node: NodeId,
    /// How it stands. One that has left is listed as long as that is remembered.
    pub standing: Standing,
    /// The roles that it plays, in order; none for one that has left.
    pub roles: Vec<String>,
    /// How long ago something was last received from it; `None` if not in this life of the own node.
    pub last_heard: Option<Duration>,
    /// Whether packets go to and fro between it and this node.
    pub contact: Contact,
    /// Which store it has, as far as this node can tell.
    pub store: PeerStore,
    /// Whether an operator has barred it from new sessions of this node; see [`Node::cordon`](crate::Node::cordon).
    pub cordoned: bool,
}

/// How far a node's draining is; see [`Node::drain_progress`](crate::Node::drain_progress).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DrainProgress {
    /// How many role instances are open at each node, itself included, whose sessions have the draining node in their
    /// cast; `None` for a node that has not said yet. Sessions with several roles count once for each that is open.
    pub open: BTreeMap<NodeId, Option<u64>>,
}

impl DrainProgress {
    /// Whether nobody needs the node any more.
    pub fn is_over(&self) -> bool {
        self.open.values().all(|open| *open == Some(0))
    }
}

/// The own node's standing, as it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Own {
    pub(super) membership: Membership,
    /// Counts the changes of `draining`, and goes on over memberships.
    pub(super) change: u64,
    pub(super) draining: bool,
    /// Whether it takes the place of another membership under its name knowingly.
    pub(super) fresh: bool,
}

impl Own {
    pub(crate) fn stored(self) -> Batch {
        let stored = |value| Change { space: Space::Meta, key: STANDING_KEY.to_vec(), value: Some(value) };
        value_bytes(&self).into_iter().map(stored).collect()
    }
}

impl Known {
    pub(super) fn standing(&self) -> Standing {
        if self.left.has(&self.node, self.own.membership) {
            Standing::Left
        } else if self.own.draining {
            Standing::Draining
        } else {
            Standing::Serving
        }
    }

    /// So that the own node is cast like any other, or not.
    pub(super) fn note_standing(&mut self) {
        let draining = self.standing() != Standing::Serving;
        if let Some(own) = self.peers.get_mut(&self.node) {
            own.draining = draining;
        }
    }

    /// The nodes that drain, with their memberships and the numbers of their offers; the own one also when it has left.
    fn draining(&self) -> impl Iterator<Item = (&NodeId, Membership, u64)> {
        let others = self.peers.iter().filter(|(node, peer)| peer.draining && **node != self.node);
        let others = others.map(|(node, peer)| (node, peer.membership, peer.change));
        let own = (self.standing() != Standing::Serving).then_some((&self.node, self.own.membership, self.own.change));
        own.into_iter().chain(others)
    }

    /// What is told of those that drain: nothing before it has been counted.
    pub(super) fn needs(&self) -> Vec<Need> {
        let others = self.draining().filter(|(node, ..)| **node != self.node);
        let counted = others.filter_map(|(node, membership, change)| {
            let (of, open) = self.counted.get(node)?;
            (*of == (membership, change)).then(|| Need { node: node.clone(), membership, change, open: *open })
        });
        counted.take(NODES_PER_OFFER_MAX).collect()
    }

    /// What another node says that it still needs.
    pub(super) fn note_needs(&mut self, from: &NodeId, needs: &[Need]) {
        let Own { membership, change, .. } = self.own;
        let own =
            needs.iter().find(|need| (&need.node, need.membership, need.change) == (&self.node, membership, change));
        if let Some(need) = own {
            self.answers.insert(from.clone(), need.open);
        }
    }

    /// What `from` says of others. It is no more than a hint: they are not cast while it is said, and only as long as they are
    /// not received themselves. Nothing of it is kept or told on. Gives those of whom it is news.
    pub(super) fn note_hints(&mut self, from: &NodeId, lefts: &[Left], now_ms: u64) -> Vec<NodeId> {
        let mut news = Vec::new();
        for left in lefts.iter().filter(|left| left.node != self.node && left.node != *from) {
            let is_it = self.peers.get(&left.node).is_some_and(|peer| peer.membership == left.membership);
            let is_received = matches!(self.contact(&left.node, now_ms), Contact::Good | Contact::Deaf(_));
            if is_it && !is_received && self.hints.insert(left.node.clone(), now_ms).is_none() {
                news.push(left.node.clone());
            }
        }
        news
    }

    /// What nobody has said lately holds no more.
    pub(super) fn forget_hints(&mut self, now_ms: u64) {
        let silence_ms = self.silence_ms;
        self.hints.retain(|_, said_ms| now_ms.saturating_sub(*said_ms) < silence_ms);
    }

    /// `from` says that the own node has left. If it has, `from` is aware of that now. Otherwise an operator has had it
    /// forgotten there: that is the word of `from` for itself, which is not to be cast any more, and leaves the own node as
    /// it is. Gives whether the latter is news.
    pub(super) fn note_own_left(&mut self, from: &NodeId, lefts: &[Left]) -> bool {
        let membership = self.own.membership;
        if !lefts.iter().any(|left| left.node == self.node && left.membership == membership) {
            return false;
        }
        if self.left.has(&self.node, membership) {
            self.aware.insert(from.clone());
            return false;
        }
        if let Some(peer) = self.peers.get_mut(from) {
            peer.mutual = false;
        }
        self.peers.contains_key(from) && self.forgotten_by.insert(from.clone())
    }

    fn progress(&self) -> DrainProgress {
        // One that plays no role begins no session. Nobody answers one that has left.
        let has_left = self.standing() == Standing::Left;
        let asked = |node: &NodeId| !has_left || *node == self.node;
        let known = self.peers.iter().filter(|(node, peer)| asked(node) && !peer.roles.is_empty());
        DrainProgress { open: known.map(|(node, _)| (node.clone(), self.answers.get(node).copied())).collect() }
    }
}

impl Peers {
    pub(crate) fn standing(&self) -> Standing {
        self.lock().standing()
    }

    /// The next standing of the own node, to be stored and then [told](Self::stand). One that has left comes back in the
    /// new membership that is given for it.
    pub(crate) fn next_standing(&self, draining: bool, membership: Membership) -> Own {
        let mut known = self.lock();
        let mut next = known.asked;
        let is_gone = known.left.has(&known.node, next.membership) || !known.forgotten_by.is_empty();
        if !draining && is_gone {
            next.membership = membership;
            next.fresh = true; // Not all may know yet that the one before has left.
        }
        next.draining = draining;
        if next != known.asked {
            next.change = known.asked.change.saturating_add(1);
            known.asked = next;
        }
        next
    }

    /// This standing is on disk.
    pub(crate) fn stand(&self, own: Own) {
        {
            let mut known = self.lock();
            if own.change <= known.own.change {
                return;
            }
            if own.membership != known.own.membership {
                // They know the one before, as one that has left.
                let node = known.node.clone();
                known.peers.iter_mut().filter(|(other, _)| **other != node).for_each(|(_, peer)| peer.mutual = false);
                known.forgotten_by.clear();
            }
            known.own = own;
            known.answers.clear();
            known.aware.clear();
            known.note_standing();
        }
        self.changed.notify_waiters();
    }

    /// The nodes whose sessions are to be counted.
    pub(crate) fn draining(&self) -> BTreeMap<NodeId, (Membership, u64)> {
        let known = self.lock();
        known.draining().map(|(node, membership, change)| (node.clone(), (membership, change))).collect()
    }

    /// What has been counted of these nodes, in the store and of starts under way. Gives those that have to hear of it
    /// now.
    pub(crate) fn counted(&self, of: &BTreeMap<NodeId, (Membership, u64)>, counts: &Counts) -> Vec<NodeId> {
        let mut told = Vec::new();
        {
            let mut known = self.lock();
            let now: BTreeSet<_> = known.draining().map(|(node, ..)| node.clone()).collect();
            known.counted.retain(|node, _| now.contains(node));
            for (node, id) in of {
                let open = counts.get(node).copied().unwrap_or_default();
                if *node == known.node {
                    if *id == (known.own.membership, known.own.change) {
                        known.answers.insert(node.clone(), open);
                    }
                } else if known.counted.insert(node.clone(), (*id, open)).is_none_or(|before| before != (*id, open)) {
                    told.push(node.clone());
                }
            }
        }
        self.changed.notify_waiters();
        told
    }

    /// How far the draining of the own node is; `None` if it does not drain. Of one that has left, what is open here.
    pub(crate) fn drain_progress(&self) -> Option<DrainProgress> {
        let known = self.lock();
        (known.standing() != Standing::Serving).then(|| known.progress())
    }

    /// The nodes that do not know yet that the own node has left. One of which others say that it has left itself, and which is
    /// not received, is not waited for: it may have gone while the own node was down, and be told of nothing any more. If that
    /// is not so, it still hears from the others that the own node is not to be cast.
    pub(crate) fn unaware(&self, now_ms: u64) -> Vec<NodeId> {
        let mut known = self.lock();
        known.forget_hints(now_ms);
        let others = known.peers.iter().filter(|(node, peer)| **node != known.node && !peer.roles.is_empty());
        let is_unaware = |node: &NodeId| !known.aware.contains(node) && !known.hints.contains_key(node);
        others.map(|(node, _)| node.clone()).filter(is_unaware).collect()
    }

    /// As the own node has it: the other one has left, at this time. Gives what is to be stored; `None` for one that is
    /// not known. The own node may be meant, too.
    pub(crate) fn forget(&self, node: &NodeId, at_unix_ms: u64) -> Option<(Batch, Left)> {
        let known = self.lock();
        let own = (*node == known.node).then_some(known.own.membership);
        let membership = own.or_else(|| Some(known.peers.get(node)?.membership))?;
        drop(known);
        let left = Left { at_unix_ms, node: node.clone(), membership };
        let changes = self.note_left(std::slice::from_ref(&left));
        Some((changes, left))
    }

    /// These have left, as they say themselves, or as an operator says, here or on an operator's node. Gives what is to be stored,
    /// if that is news.
    pub(crate) fn note_left(&self, lefts: &[Left]) -> Batch {
        let mut changes = Batch::new();
        {
            let mut known = self.lock();
            for left in lefts {
                changes.extend(known.left.add(left));
                let is_it = known.peers.get(&left.node).is_some_and(|peer| peer.membership == left.membership);
                if is_it && left.node != known.node {
                    changes.extend(known.forget(&left.node));
                }
            }
            known.note_standing();
        }
        self.changed.notify_waiters();
        changes
    }

    /// These are on disk, and may be told.
    pub(crate) fn left_stored(&self, lefts: &[Left]) {
        self.lock().left.stored(lefts);
        self.changed.notify_waiters();
    }

    /// The nodes known, but for the own one.
    pub(crate) fn list(&self, now_ms: u64) -> Vec<KnownNode> {
        let known = self.lock();
        let others = known.peers.iter().filter(|(node, _)| **node != known.node);
        let others = others.map(|(node, peer)| KnownNode {
            node: node.clone(),
            standing: if peer.draining { Standing::Draining } else { Standing::Serving },
            roles: peer.roles.iter().cloned().collect(),
            last_heard: known.heard.get(node).map(|at_ms| Duration::from_millis(now_ms.saturating_sub(*at_ms))),
            contact: known.contact(node, now_ms),
            store: known.openings.store_of(node, now_ms),
            cordoned: known.cordoned.contains(node),
        });
        // One that has come back under its name has not left.
        let gone: BTreeSet<_> = known.left.names().filter(|node| !known.peers.contains_key(*node)).collect();
        let gone = gone.into_iter().map(|node| KnownNode {
            node: node.clone(),
            standing: Standing::Left,
            roles: Vec::new(),
            last_heard: None,
            contact: Contact::Unknown,
            store: PeerStore::Known,
            cordoned: false,
        });
        others.chain(gone).collect()
    }
}
