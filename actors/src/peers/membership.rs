//! This node's membership, and the progress of its draining.
//!
//! A draining node is needed as long as an instance is open anywhere whose session casts it: a session that has not
//! reached it yet as well as one whose last acknowledgement was lost. Every node that may have started such sessions
//! therefore reports how many are open there, once it has on its disk that no more will start (decision 0014).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use accompanist_core::NodeId;
use accompanist_core::contract::{Batch, Change, Space};
use accompanist_core::frame::{DrainBlocker, Left, Membership, NODES_PER_ADVERTISEMENT_MAX};
use accompanist_core::record::value_bytes;
use serde::{Deserialize, Serialize};

use super::{Contact, Known, PeerStore, Peers};
use crate::store::STANDING_KEY;
use crate::writer::Counts;

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

/// The progress of a node's draining; see [`Operator::drain_progress`](crate::Operator::drain_progress).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DrainProgress {
    /// The number of open role instances at each node, itself included, whose sessions cast the draining node; `None`
    /// for a node that has not reported yet. Sessions with several roles count once for each that is open.
    pub open: BTreeMap<NodeId, Option<u64>>,
}

impl DrainProgress {
    /// Returns whether no node needs the draining one any more.
    pub fn is_over(&self) -> bool {
        self.open.values().all(|open| *open == Some(0))
    }
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

impl Known {
    pub(super) fn status(&self) -> MemberStatus {
        if self.left.has(&self.node, self.own.membership) {
            MemberStatus::Left
        } else if self.own.draining {
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

    /// Returns the draining nodes, with their memberships and the numbers of their advertisements; this one also when
    /// it has left.
    fn draining(&self) -> impl Iterator<Item = (&NodeId, Membership, u64)> {
        let others = self.peers.iter().filter(|(node, peer)| peer.draining && **node != self.node);
        let others = others.map(|(node, peer)| (node, peer.membership, peer.change));
        let own =
            (self.status() != MemberStatus::Serving).then_some((&self.node, self.own.membership, self.own.change));
        own.into_iter().chain(others)
    }

    /// Returns the counts for draining nodes that are sent to others: none before it has been counted.
    pub(super) fn needs(&self) -> Vec<DrainBlocker> {
        let others = self.draining().filter(|(node, ..)| **node != self.node);
        let counted = others.filter_map(|(node, membership, change)| {
            let (of, open) = self.counted.get(node)?;
            (*of == (membership, change)).then(|| DrainBlocker { node: node.clone(), membership, change, open: *open })
        });
        counted.take(NODES_PER_ADVERTISEMENT_MAX).collect()
    }

    /// Notes how many sessions of another node still need this one.
    pub(super) fn note_needs(&mut self, from: &NodeId, needs: &[DrainBlocker]) {
        let OwnStatus { membership, change, .. } = self.own;
        let own =
            needs.iter().find(|need| (&need.node, need.membership, need.change) == (&self.node, membership, change));
        if let Some(need) = own {
            self.answers.insert(from.clone(), need.open);
        }
    }

    /// Handles what `from` reports of nodes that have left. The report is only a hint: they are not cast while it is
    /// repeated, and only as long as they are not received themselves. It is neither stored nor passed on. Returns
    /// the nodes of which this is new.
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

    /// Forgets hints that have not been repeated lately.
    pub(super) fn forget_hints(&mut self, now_ms: u64) {
        let silence_ms = self.silence_ms;
        self.hints.retain(|_, said_ms| now_ms.saturating_sub(*said_ms) < silence_ms);
    }

    /// Handles the report of `from` that this node has left. If it has, `from` is aware of that now. Otherwise an
    /// operator has had it forgotten there. That holds only for `from`, which is not to be cast any more, and leaves
    /// this node as it is. Returns whether the latter is new.
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
        // A node that plays no role starts no session. A node that has left gets no answers.
        let has_left = self.status() == MemberStatus::Left;
        let asked = |node: &NodeId| !has_left || *node == self.node;
        let known = self.peers.iter().filter(|(node, peer)| asked(node) && !peer.roles.is_empty());
        DrainProgress { open: known.map(|(node, _)| (node.clone(), self.answers.get(node).copied())).collect() }
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
        let mut next = known.asked;
        let is_gone = known.left.has(&known.node, next.membership) || !known.forgotten_by.is_empty();
        if !draining && is_gone {
            next.membership = membership;
            next.fresh = true; // Some nodes may not know yet that the earlier one has left.
        }
        next.draining = draining;
        if next != known.asked {
            next.change = known.asked.change.saturating_add(1);
            known.asked = next;
        }
        next
    }

    /// Adopts a membership state that is on disk.
    pub(crate) fn stand(&self, own: OwnStatus) {
        {
            let mut known = self.lock();
            if own.change <= known.own.change {
                return;
            }
            if own.membership != known.own.membership {
                // The others know the earlier membership, as one that has left.
                let node = known.node.clone();
                known.peers.iter_mut().filter(|(other, _)| **other != node).for_each(|(_, peer)| peer.mutual = false);
                known.forgotten_by.clear();
            }
            known.own = own;
            known.answers.clear();
            known.aware.clear();
            known.note_status();
        }
        self.changed.notify_waiters();
    }

    /// Returns the nodes whose sessions are to be counted.
    pub(crate) fn draining(&self) -> BTreeMap<NodeId, (Membership, u64)> {
        let known = self.lock();
        known.draining().map(|(node, membership, change)| (node.clone(), (membership, change))).collect()
    }

    /// Notes the counts for these nodes, from the store and the starts under way. Returns the nodes that have to be
    /// informed now.
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

    /// Returns the progress of this node's draining; `None` if it does not drain. For a node that has left, the
    /// progress has only what is open here.
    pub(crate) fn drain_progress(&self) -> Option<DrainProgress> {
        let known = self.lock();
        (known.status() != MemberStatus::Serving).then(|| known.progress())
    }

    /// Returns the nodes that do not know yet that this one has left. A node that others report to have left itself,
    /// and that is not received, is left out: it may have left while this node was down, and cannot be informed any
    /// more. If the report is wrong, that node still learns from the others that this one is not to be cast.
    pub(crate) fn unaware(&self, now_ms: u64) -> Vec<NodeId> {
        let mut known = self.lock();
        known.forget_hints(now_ms);
        let others = known.peers.iter().filter(|(node, peer)| **node != known.node && !peer.roles.is_empty());
        let is_unaware = |node: &NodeId| !known.aware.contains(node) && !known.hints.contains_key(node);
        others.map(|(node, _)| node.clone()).filter(is_unaware).collect()
    }

    /// Notes that another node has left, at this time, as decided on this node. Returns what is to be stored; `None`
    /// for an unknown node. The node may also be this one.
    pub(crate) fn forget(&self, node: &NodeId, at_unix_ms: u64) -> Option<(Batch, Left)> {
        let known = self.lock();
        let own = (*node == known.node).then_some(known.own.membership);
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
            last_heard: known.received_ms.get(node).map(|at_ms| Duration::from_millis(now_ms.saturating_sub(*at_ms))),
            contact: known.contact(node, now_ms),
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
