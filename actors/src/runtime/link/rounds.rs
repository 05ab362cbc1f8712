//! The rounds of advertisements in both directions: what this node reports to the others, and what they report to it.
//!
//! `reception` and `reachability` have the rules of the one and of the other.

use std::collections::BTreeSet;

use accompanist_core::NodeId;
use accompanist_core::frame::{Epoch, Reception, Round};

use super::reachability::{Change, Reachability};
use super::reception::Receptions;

/// The rounds of this node and of the others.
pub(super) struct Rounds {
    receptions: Receptions,
    reachability: Reachability,
}

impl Rounds {
    pub(super) fn new(own: NodeId, epoch: Epoch, period_ms: u64) -> Self {
        Self { receptions: Receptions::default(), reachability: Reachability::new(own, epoch, period_ms) }
    }

    /// Begins a round; see [`Reachability::begin_round`].
    pub(super) fn begin(&mut self, known: impl Fn(&NodeId) -> bool) -> BTreeSet<NodeId> {
        self.receptions.make_room(&known);
        self.reachability.begin_round(known)
    }

    /// Returns the number of the present round.
    pub(super) fn number(&self) -> u64 {
        self.reachability.round()
    }

    /// Notes that a packet is sent to `node` alone.
    pub(super) fn note_sent(&mut self, node: &NodeId) {
        self.reachability.sent(node);
    }

    /// Notes a packet of `from`, which is introduced in this epoch.
    pub(super) fn note_received(&mut self, from: &NodeId, epoch: Epoch, round: Round) {
        self.receptions.note(from, epoch, round);
    }

    /// Returns the report for the next advertisement; see [`Receptions::report`].
    pub(super) fn report(&mut self) -> Vec<Reception> {
        self.receptions.report()
    }

    /// Handles the report of `from`. Returns whether it receives this node, if that has changed.
    pub(super) fn note_report(&mut self, from: &NodeId, received: &[Reception], now_ms: u64) -> Option<Change> {
        self.reachability.report(from, received, now_ms)
    }
}
