//! Detects other senders that use this node's name: an earlier start of it whose packets are late, or a second owner
//! of the name.
//!
//! Two openings of one store that are both at work are two copies of it. The earlier one knows at once: an opening
//! with a higher number, or with the same number and another id, is not its own. The later one cannot distinguish the
//! earlier one from its own past until that one answers with the later one's id, which is drawn at random when it
//! begins (decision 0034).

use accompanist_core::NodeId;
use accompanist_core::frame::{Advertisement, Dispute, Generation, Membership};

use super::openings::{LIVE_PERIODS, is_at_work};
use super::{Known, Peers};
use crate::store::Halt;

/// The packets received in this node's name.
#[derive(Debug, Clone, Copy)]
pub(super) struct Namesake {
    generation: Generation,
    since_ms: u64,
    last_ms: u64,
    advertisements: u64,
    /// Whether this node has received them itself.
    is_heard: bool,
}

impl Namesake {
    /// Returns whether the namesake was received and did not begin earlier than this node: then both are at work.
    fn is_heard_later(&self, own: Generation) -> bool {
        self.is_heard && self.generation.order() >= own.order()
    }
}

/// The result of an advertisement in this node's name.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum OwnHeard {
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
    pub(crate) fn hear_own(&self, advertisement: &Advertisement, now_ms: u64) -> OwnHeard {
        let mut known = self.lock();
        let (own, offered, membership) = (known.generation, advertisement.generation, known.own.membership);
        if advertisement.membership != membership {
            return OwnHeard::OtherStore;
        }
        if offered.is_same(&own) {
            return OwnHeard::Echo;
        }
        let before = known.namesake.filter(|before| before.generation.is_same(&offered));
        let mut namesake = before.unwrap_or(Namesake {
            generation: offered,
            since_ms: now_ms,
            last_ms: now_ms,
            advertisements: 0,
            is_heard: true,
        });
        (namesake.last_ms, namesake.advertisements) = (now_ms, namesake.advertisements.saturating_add(1));
        known.namesake = Some(namesake);
        let names_own = |dispute: &Dispute| dispute.refused.is_same(&own) || dispute.known.is_same(&own);
        let goes_on = is_at_work(now_ms.saturating_sub(namesake.since_ms), namesake.advertisements, known.period_ms);
        if offered.order() < own.order() && !advertisement.dispute.as_ref().is_some_and(names_own) && !goes_on {
            return OwnHeard::Earlier { is_new: namesake.advertisements == 1 };
        }
        let by = known.node.to_string();
        OwnHeard::Halt(Halt { by, own, other: offered, both_live: true })
    }

    /// Notes why this node stops: all nodes are informed, in particular those that use its name.
    pub(crate) fn note_halt(&self, halt: &Halt, now_ms: u64) {
        let namesake = Namesake {
            generation: halt.other,
            since_ms: now_ms,
            last_ms: now_ms,
            advertisements: 1,
            is_heard: halt.both_live,
        };
        self.lock().namesake = Some(namesake);
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

impl Known {
    /// Returns what all nodes are informed of about another sender that uses this node's name.
    pub(super) fn own_dispute(&self, now_ms: u64) -> Option<Dispute> {
        let (own, membership) = (self.generation, self.own.membership);
        let told_ms = self.period_ms.saturating_mul(LIVE_PERIODS);
        let namesake = self.namesake.filter(|namesake| now_ms.saturating_sub(namesake.last_ms) <= told_ms)?;
        Some(Dispute { membership, refused: namesake.generation, known: own, both_live: namesake.is_heard_later(own) })
    }
}
