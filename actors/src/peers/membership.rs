//! The membership of nodes: this node's own, and that of the others as an operator sees it.
//!
//! A node in a membership serves, drains, or has left. Next: `drain.rs`, which counts what a draining node still has
//! to wait for.

use std::collections::BTreeSet;
use std::time::Duration;

use accompanist_core::NodeId;
use accompanist_core::contract::{Batch, Change, Space};
use accompanist_core::frame::{Left, Membership};
use accompanist_core::record::value_bytes;
use serde::{Deserialize, Serialize};

use super::known::KnownNodes;
use super::{Contact, PeerStore, Peers};
use crate::store::STANDING_KEY;

/// The membership of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum MemberStatus {
    /// The node takes new sessions.
    Serving,
    /// The node takes no new sessions, and completes those it has.
    Draining,
    /// The node has left for good, or an operator has had it forgotten: no node casts it any more.
    Left,
}

/// Another node, as far as is known; see [`Operator::peers`](crate::Operator::peers).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct KnownNode {
    /// The node's name.
    pub node: NodeId,
    /// The node's membership. A node that has left is listed for as long as that is remembered.
    pub status: MemberStatus,
    /// The roles that the node plays, in order; none for a node that has left.
    pub roles: Vec<String>,
    /// How long ago a packet was last received from the node; `None` if there was none since this node's start.
    pub last_heard: Option<Duration>,
    /// Whether packets pass in both directions between the node and this one.
    pub contact: Contact,
    /// The store that the node has, as far as this node can tell.
    pub store: PeerStore,
    /// Whether an operator has barred the node from new sessions of this one; see
    /// [`Operator::cordon`](crate::Operator::cordon).
    pub cordoned: bool,
}

/// This node's membership, as it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OwnStatus {
    pub(super) membership: Membership,
    /// Counts the changes of `draining`, across memberships.
    pub(super) change: u64,
    pub(super) draining: bool,
    /// Whether it knowingly replaces another membership under its name.
    pub(super) fresh: bool,
}

impl OwnStatus {
    pub(crate) fn stored(self) -> Batch {
        let stored = |value| Change { space: Space::Meta, key: STANDING_KEY.to_vec(), value: Some(value) };
        value_bytes(&self).into_iter().map(stored).collect()
    }
}

/// This node's membership, and which others know what of it.
pub(super) struct OwnMembership {
    /// The membership as the others are informed of it.
    status: OwnStatus,
    /// The membership as it will be once it is on disk.
    asked: OwnStatus,
    /// The nodes that have forgotten this one in its present membership.
    forgotten_by: BTreeSet<NodeId>,
    /// The nodes that have on disk that this one has left.
    aware: BTreeSet<NodeId>,
}

impl OwnMembership {
    pub(super) fn new(status: OwnStatus) -> Self {
        Self { status, asked: status, forgotten_by: BTreeSet::new(), aware: BTreeSet::new() }
    }

    /// Returns the membership as the others are informed of it.
    pub(super) fn status(&self) -> OwnStatus {
        self.status
    }

    /// Returns the next state, to be stored. A node that has left in the membership last asked for, or is forgotten
    /// by another one, returns in the given new membership.
    fn ask(&mut self, draining: bool, membership: Membership, has_left: impl Fn(Membership) -> bool) -> OwnStatus {
        let mut next = self.asked;
        let is_gone = has_left(next.membership) || !self.forgotten_by.is_empty();
        if !draining && is_gone {
            next.membership = membership;
            next.fresh = true; // Some nodes may not know yet that the earlier one has left.
        }
        next.draining = draining;
        if next != self.asked {
            next.change = self.asked.change.saturating_add(1);
            self.asked = next;
        }
        next
    }

    /// Drops the note that `node`, which is unknown now, has forgotten this one.
    pub(super) fn not_forgotten_by(&mut self, node: &NodeId) {
        self.forgotten_by.remove(node);
    }

    /// Notes that `node`, whose membership begins anew, cannot be aware any more that this one has left.
    pub(super) fn not_aware(&mut self, node: &NodeId) {
        self.aware.remove(node);
    }

    /// Adopts a state that is on disk.
    fn adopt(&mut self, status: OwnStatus) {
        if status.membership != self.status.membership {
            self.forgotten_by.clear();
        }
        self.status = status;
        self.aware.clear();
    }
}

impl KnownNodes {
    pub(super) fn status(&self) -> MemberStatus {
        let own = self.own.status();
        if self.left.has(&self.node, own.membership) {
            MemberStatus::Left
        } else if own.draining {
            MemberStatus::Draining
        } else {
            MemberStatus::Serving
        }
    }

    /// Updates whether this node may be cast.
    pub(super) fn note_status(&mut self) {
        let draining = self.status() != MemberStatus::Serving;
        if let Some(own) = self.peers.get_mut(&self.node) {
            own.draining = draining;
        }
    }

    /// Handles the report of `from` that this node has left. If it has, `from` is aware of that now. Otherwise an
    /// operator has had it forgotten there. That holds only for `from`, which is not to be cast any more, and leaves
    /// this node as it is. Returns whether the latter is new.
    pub(super) fn note_own_left(&mut self, from: &NodeId, lefts: &[Left]) -> bool {
        let membership = self.own.status().membership;
        if !lefts.iter().any(|left| left.node == self.node && left.membership == membership) {
            return false;
        }
        if self.left.has(&self.node, membership) {
            self.own.aware.insert(from.clone());
            return false;
        }
        if let Some(peer) = self.peers.get_mut(from) {
            peer.mutual = false;
        }
        self.peers.contains_key(from) && self.own.forgotten_by.insert(from.clone())
    }
}

impl Peers {
    pub(crate) fn status(&self) -> MemberStatus {
        self.lock().status()
    }

    /// Returns the next membership state of this node, to be stored and then [announced](Self::stand). A node that
    /// has left returns in the given new membership.
    pub(crate) fn next_status(&self, draining: bool, membership: Membership) -> OwnStatus {
        let mut known = self.lock();
        let KnownNodes { node, own, left, .. } = &mut *known;
        own.ask(draining, membership, |membership| left.has(node, membership))
    }

    /// Adopts a membership state that is on disk.
    pub(crate) fn stand(&self, own: OwnStatus) {
        {
            let mut known = self.lock();
            let before = known.own.status();
            if own.change <= before.change {
                return;
            }
            if own.membership != before.membership {
                // The others know the earlier membership, as one that has left.
                let node = known.node.clone();
                known.peers.iter_mut().filter(|(other, _)| **other != node).for_each(|(_, peer)| peer.mutual = false);
            }
            known.own.adopt(own);
            known.drain.forget_answers();
            known.note_status();
        }
        self.changed.notify_waiters();
    }

    /// Returns the nodes that do not know yet that this one has left. A node that others report to have left itself,
    /// and that is not received, is left out: it may have left while this node was down, and cannot be informed any
    /// more. If the report is wrong, that node still learns from the others that this one is not to be cast.
    pub(crate) fn unaware(&self, now_ms: u64) -> Vec<NodeId> {
        let mut known = self.lock();
        known.hints.drop_old(now_ms);
        let others = known.peers.iter().filter(|(node, peer)| **node != known.node && !peer.roles.is_empty());
        let is_unaware = |node: &NodeId| !known.own.aware.contains(node) && !known.hints.has(node);
        others.map(|(node, _)| node.clone()).filter(is_unaware).collect()
    }

    /// Notes that another node has left, at this time, as decided on this node. Returns what is to be stored; `None`
    /// for an unknown node. The node may also be this one.
    pub(crate) fn forget(&self, node: &NodeId, at_unix_ms: u64) -> Option<(Batch, Left)> {
        let known = self.lock();
        let own = (*node == known.node).then_some(known.own.status().membership);
        let membership = own.or_else(|| Some(known.peers.get(node)?.membership))?;
        drop(known);
        let left = Left { at_unix_ms, node: node.clone(), membership };
        let changes = self.note_left(std::slice::from_ref(&left));
        Some((changes, left))
    }

    /// Notes that these nodes have left, as reported by themselves or by an operator, here or on an operator's node.
    /// Returns what is to be stored, if anything is new.
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
            known.note_status();
        }
        self.changed.notify_waiters();
        changes
    }

    /// Notes that these are on disk, so that others may be informed.
    pub(crate) fn left_stored(&self, lefts: &[Left]) {
        self.lock().left.stored(lefts);
        self.changed.notify_waiters();
    }

    /// Returns the known nodes, except this one.
    pub(crate) fn list(&self, now_ms: u64) -> Vec<KnownNode> {
        let known = self.lock();
        let others = known.peers.iter().filter(|(node, _)| **node != known.node);
        let others = others.map(|(node, peer)| KnownNode {
            node: node.clone(),
            status: if peer.draining { MemberStatus::Draining } else { MemberStatus::Serving },
            roles: peer.roles.iter().cloned().collect(),
            last_heard: known.contacts.last_received(node, now_ms),
            contact: known.contacts.contact(node, now_ms),
            store: known.openings.store_of(node, now_ms),
            cordoned: known.cordoned.contains(node),
        });
        // A node that has returned under its name has not left.
        let gone: BTreeSet<_> = known.left.names().filter(|node| !known.peers.contains_key(*node)).collect();
        let gone = gone.into_iter().map(|node| KnownNode {
            node: node.clone(),
            status: MemberStatus::Left,
            roles: Vec::new(),
            last_heard: None,
            contact: Contact::Unknown,
            store: PeerStore::Known,
            cordoned: false,
        });
        others.chain(gone).collect()
    }
}
