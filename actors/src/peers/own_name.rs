//! Detects other senders that use this node's name: an earlier start of it whose packets are late, or a second owner
//! of the name.
//!
//! Two openings of one store that are both at work are two copies of it. The earlier one knows at once: an opening
//! with a higher number, or with the same number and another id, is not its own. The later one cannot distinguish the
//! earlier one from its own past until that one answers with the later one's id, which is drawn at random when it
//! begins (decision 0034).

use std::collections::BTreeSet;

use accompanist_core::NodeId;
use accompanist_core::frame::{Advertisement, Dispute, Generation, Membership};

use super::Peers;
use super::known::KnownNodes;
use super::openings::{LIVE_PERIODS, is_at_work};
use crate::store::Halt;

/// The packets received in this node's name.
#[derive(Debug, Clone, Copy)]
struct Namesake {
    generation: Generation,
    since_ms: u64,
    last_ms: u64,
    advertisements: u64,
    /// Whether this node has received them itself.
    was_received: bool,
}

impl Namesake {
    fn new(generation: Generation, was_received: bool, now_ms: u64) -> Self {
        Self { generation, since_ms: now_ms, last_ms: now_ms, advertisements: 0, was_received }
    }

    /// Returns whether the namesake was received and did not begin earlier than this node: then both are at work.
    fn was_received_later(&self, own: Generation) -> bool {
        self.was_received && self.generation.order() >= own.order()
    }
}

/// The opening of this node's store, and whether it is the only one of its name.
pub(super) struct OwnOpening {
    /// The opening, as of the start.
    generation: Generation,
    /// Another node that sends in this node's name.
    namesake: Option<Namesake>,
    /// The nodes that were known at the start and have not confirmed yet that they know this opening.
    unvouched: BTreeSet<NodeId>,
    /// Each node advertises itself within this period.
    period_ms: u64,
}

impl OwnOpening {
    pub(super) fn new(period_ms: u64) -> Self {
        Self { generation: Generation::default(), namesake: None, unvouched: BTreeSet::new(), period_ms }
    }

    /// Begins with this opening, which the `others` have to confirm.
    pub(super) fn begin(&mut self, generation: Generation, others: BTreeSet<NodeId>) {
        (self.generation, self.unvouched) = (generation, others);
    }

    pub(super) fn generation(&self) -> Generation {
        self.generation
    }

    /// Notes which opening `node` accepts as the known one of this node.
    pub(super) fn note_accepted(&mut self, node: &NodeId, accepts: Option<u128>) {
        if accepts == Some(self.generation.id) {
            self.unvouched.remove(node);
        }
    }

    /// Returns whether all nodes that were known at the start have confirmed this opening.
    pub(super) fn is_vouched(&self) -> bool {
        self.unvouched.is_empty()
    }

    /// Waits no longer for nodes that have not confirmed this opening.
    pub(super) fn stop_waiting(&mut self) {
        self.unvouched.clear();
    }

    /// Notes an advertisement of another opening in this node's name, and returns that namesake.
    fn note_namesake(&mut self, offered: Generation, now_ms: u64) -> Namesake {
        let before = self.namesake.filter(|before| before.generation.is_same(&offered));
        let mut namesake = before.unwrap_or(Namesake::new(offered, true, now_ms));
        (namesake.last_ms, namesake.advertisements) = (now_ms, namesake.advertisements.saturating_add(1));
        self.namesake = Some(namesake);
        namesake
    }

    /// Returns what all nodes are informed of about another sender that uses this node's name.
    fn dispute(&self, membership: Membership, now_ms: u64) -> Option<Dispute> {
        let own = self.generation;
        let told_ms = self.period_ms.saturating_mul(LIVE_PERIODS);
        let namesake = self.namesake.filter(|namesake| now_ms.saturating_sub(namesake.last_ms) <= told_ms)?;
        Some(Dispute {
            membership,
            refused: namesake.generation,
            known: own,
            both_live: namesake.was_received_later(own),
        })
    }
}

/// The result of an advertisement in this node's name.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum OwnNameUse {
    /// The advertisement is this node's own.
    Echo,
    /// The advertisement is from another store under this node's name: a node that knows the name informs the newcomer.
    OtherStore,
    /// The advertisement may be a late packet of an earlier start. With `is_new` all nodes have to be informed, so that
    /// a sender that is alive answers.
    Earlier { is_new: bool },
    /// There are two owners.
    Halt(Halt),
}

impl Peers {
    /// Handles an advertisement that another node has sent in this node's name.
    pub(crate) fn handle_own_name(&self, advertisement: &Advertisement, now_ms: u64) -> OwnNameUse {
        let mut known = self.lock();
        let by = known.node.to_string();
        let membership = known.own.status().membership;
        let opening = &mut known.opening;
        let (own, offered) = (opening.generation, advertisement.generation);
        if advertisement.membership != membership {
            return OwnNameUse::OtherStore;
        }
        if offered.is_same(&own) {
            return OwnNameUse::Echo;
        }
        let namesake = opening.note_namesake(offered, now_ms);
        let names_own = |dispute: &Dispute| dispute.refused.is_same(&own) || dispute.known.is_same(&own);
        let goes_on = is_at_work(now_ms.saturating_sub(namesake.since_ms), namesake.advertisements, opening.period_ms);
        if offered.order() < own.order() && !advertisement.dispute.as_ref().is_some_and(names_own) && !goes_on {
            return OwnNameUse::Earlier { is_new: namesake.advertisements == 1 };
        }
        OwnNameUse::Halt(Halt { by, own, other: offered, both_live: true })
    }

    /// Notes why this node stops: all nodes are informed, in particular those that use its name.
    pub(crate) fn note_halt(&self, halt: &Halt, now_ms: u64) {
        let namesake = Namesake { advertisements: 1, ..Namesake::new(halt.other, halt.both_live, now_ms) };
        self.lock().opening.namesake = Some(namesake);
    }

    /// Returns the reason why this node has to stop, if there is one, from the report of another node (whose own
    /// advertisement was accepted) on this one's store.
    pub(super) fn halt_of(
        by: &NodeId,
        own: Generation,
        membership: Membership,
        dispute: Option<Dispute>,
    ) -> Option<Halt> {
        let Dispute { refused, known, both_live, .. } = dispute.filter(|dispute| dispute.membership == membership)?;
        let other = if refused.is_same(&own) {
            known
        } else if both_live && known.is_same(&own) {
            refused
        } else {
            return None;
        };
        Some(Halt { by: by.to_string(), own, other, both_live })
    }
}

impl KnownNodes {
    /// Returns what all nodes are informed of about another sender that uses this node's name.
    pub(super) fn own_dispute(&self, now_ms: u64) -> Option<Dispute> {
        self.opening.dispute(self.own.status().membership, now_ms)
    }
}
