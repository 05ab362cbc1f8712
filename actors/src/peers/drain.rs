//! The progress of draining: how many open instances need a draining node, here and at the others.
//!
//! A draining node is needed as long as an instance is open anywhere whose session casts it: a session that has not
//! reached it yet as well as one whose last acknowledgement was lost. Every node that may have started such sessions
//! therefore reports how many are open there, once it has on its disk that no more will start (decision 0014).

use std::collections::{BTreeMap, BTreeSet};

use accompanist_core::NodeId;
use accompanist_core::frame::{DrainBlocker, Membership, NODES_PER_ADVERTISEMENT_MAX};

use super::known::KnownNodes;
use super::membership::OwnStatus;
use super::{MemberStatus, Peers};
use crate::writer::Counts;

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

/// A count of open instances for a draining node, with the membership and the number of the advertisement that it was
/// counted for.
type Count = ((Membership, u64), u64);

/// The counts of open instances that need draining nodes.
#[derive(Default)]
pub(super) struct DrainCounts {
    /// While this node drains: the number of open instances at each node that still need it.
    answers: BTreeMap<NodeId, u64>,
    /// The counts made here for other nodes that drain.
    made: BTreeMap<NodeId, Count>,
}

impl DrainCounts {
    /// Notes that `open` instances at the node `at` need this one.
    fn note_answer(&mut self, at: &NodeId, open: u64) {
        self.answers.insert(at.clone(), open);
    }

    /// Returns how many open instances at the node `at` need this one; `None` if it has not reported yet.
    fn answer(&self, at: &NodeId) -> Option<u64> {
        self.answers.get(at).copied()
    }

    /// Forgets the answer of a node, which has left or begun anew.
    pub(super) fn forget_answer(&mut self, at: &NodeId) {
        self.answers.remove(at);
    }

    /// Forgets all answers: they are for an earlier state of this node.
    pub(super) fn forget_answers(&mut self) {
        self.answers.clear();
    }

    /// Notes a count made here for `node`. Returns whether it is new.
    fn note_made(&mut self, node: &NodeId, count: Count) -> bool {
        self.made.insert(node.clone(), count).is_none_or(|before| before != count)
    }

    /// Returns the count made here for a state of `node`; `None` before it is made.
    fn made(&self, node: &NodeId, of: (Membership, u64)) -> Option<u64> {
        self.made.get(node).filter(|(made_for, _)| *made_for == of).map(|(_, open)| *open)
    }

    /// Forgets the counts made here for nodes that do not drain any more.
    fn retain_made(&mut self, draining: &BTreeSet<NodeId>) {
        self.made.retain(|node, _| draining.contains(node));
    }
}

impl KnownNodes {
    /// Returns the draining nodes, with their memberships and the numbers of their advertisements; this one also when
    /// it has left.
    fn draining(&self) -> impl Iterator<Item = (&NodeId, Membership, u64)> {
        let others = self.peers.iter().filter(|(node, peer)| peer.draining && **node != self.node);
        let others = others.map(|(node, peer)| (node, peer.membership, peer.change));
        let OwnStatus { membership, change, .. } = self.own.status();
        let own = (self.status() != MemberStatus::Serving).then_some((&self.node, membership, change));
        own.into_iter().chain(others)
    }

    /// Returns the counts for draining nodes that are sent to others: none before it has been counted.
    pub(super) fn needs(&self) -> Vec<DrainBlocker> {
        let others = self.draining().filter(|(node, ..)| **node != self.node);
        let counted = others.filter_map(|(node, membership, change)| {
            let open = self.drain.made(node, (membership, change))?;
            Some(DrainBlocker { node: node.clone(), membership, change, open })
        });
        counted.take(NODES_PER_ADVERTISEMENT_MAX).collect()
    }

    /// Notes how many sessions of another node still need this one.
    pub(super) fn note_needs(&mut self, from: &NodeId, needs: &[DrainBlocker]) {
        let OwnStatus { membership, change, .. } = self.own.status();
        let own =
            needs.iter().find(|need| (&need.node, need.membership, need.change) == (&self.node, membership, change));
        if let Some(need) = own {
            self.drain.note_answer(from, need.open);
        }
    }

    fn progress(&self) -> DrainProgress {
        // A node that plays no role starts no session. A node that has left gets no answers.
        let has_left = self.status() == MemberStatus::Left;
        let asked = |node: &NodeId| !has_left || *node == self.node;
        let known = self.peers.iter().filter(|(node, peer)| asked(node) && !peer.roles.is_empty());
        DrainProgress { open: known.map(|(node, _)| (node.clone(), self.drain.answer(node))).collect() }
    }
}

impl Peers {
    /// Returns the nodes whose sessions are to be counted.
    pub(crate) fn draining(&self) -> BTreeMap<NodeId, (Membership, u64)> {
        let known = self.lock();
        known.draining().map(|(node, membership, change)| (node.clone(), (membership, change))).collect()
    }

    /// Notes the counts for these nodes, from the store and the starts under way. Returns the nodes that have to be
    /// informed now.
    pub(crate) fn counted(&self, of: &BTreeMap<NodeId, (Membership, u64)>, counts: &Counts) -> Vec<NodeId> {
        let mut informed = Vec::new();
        {
            let mut known = self.lock();
            let now: BTreeSet<_> = known.draining().map(|(node, ..)| node.clone()).collect();
            known.drain.retain_made(&now);
            let OwnStatus { membership, change, .. } = known.own.status();
            for (node, id) in of {
                let open = counts.get(node).copied().unwrap_or_default();
                if *node == known.node {
                    if *id == (membership, change) {
                        known.drain.note_answer(node, open);
                    }
                } else if known.drain.note_made(node, (*id, open)) {
                    informed.push(node.clone());
                }
            }
        }
        self.changed.notify_waiters();
        informed
    }

    /// Returns the progress of this node's draining; `None` if it does not drain. For a node that has left, the
    /// progress has only what is open here.
    pub(crate) fn drain_progress(&self) -> Option<DrainProgress> {
        let known = self.lock();
        (known.status() != MemberStatus::Serving).then(|| known.progress())
    }
}
