//! Who else speaks in the name of the own node: an earlier life of it whose packets are late, or a second owner of the name.
//!
//! Two openings of one store that are both at work are two copies of it. The earlier one knows at once: an opening that counts
//! more, or as much with another id, is not its own. The later one cannot tell the earlier one from its own past, until that
//! answers: with the id of the later one, which is drawn at random when it begins (decision 0034).

use accompanist_core::NodeId;
use accompanist_core::frame::{Dispute, Generation, Membership, Offer};

use super::openings::{LIVE_PERIODS, is_at_work};
use super::{Known, Peers};
use crate::store::Halt;

/// What was heard in the own name.
#[derive(Debug, Clone, Copy)]
pub(super) struct Namesake {
    generation: Generation,
    since_ms: u64,
    last_ms: u64,
    offers: u64,
    /// Whether this node has heard it itself.
    is_heard: bool,
}

impl Namesake {
    /// Whether it was heard, and began no sooner than the own one: then both are at work.
    fn is_heard_later(&self, own: Generation) -> bool {
        self.is_heard && self.generation.order() >= own.order()
    }
}

/// What follows of an offer in the own name.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum OwnHeard {
    /// Nothing: it is the own one.
    Echo,
    /// Another store under the own name: who knows the name tells the newcomer.
    OtherStore,
    /// It may be a late word of an earlier life. With `is_new` all have to be told, so that one that is alive answers.
    Earlier { is_new: bool },
    /// There are two owners.
    Halt(Halt),
}

impl Peers {
    /// Another node has spoken in the own name.
    pub(crate) fn hear_own(&self, offer: &Offer, now_ms: u64) -> OwnHeard {
        let mut known = self.lock();
        let (own, offered, membership) = (known.generation, offer.generation, known.own.membership);
        if offer.membership != membership {
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
            offers: 0,
            is_heard: true,
        });
        (namesake.last_ms, namesake.offers) = (now_ms, namesake.offers.saturating_add(1));
        known.namesake = Some(namesake);
        let names_own = |dispute: &Dispute| dispute.refused.is_same(&own) || dispute.known.is_same(&own);
        let goes_on = is_at_work(now_ms.saturating_sub(namesake.since_ms), namesake.offers, known.period_ms);
        if offered.order() < own.order() && !offer.dispute.as_ref().is_some_and(names_own) && !goes_on {
            return OwnHeard::Earlier { is_new: namesake.offers == 1 };
        }
        let by = known.node.to_string();
        OwnHeard::Halt(Halt { by, own, other: offered, both_live: true })
    }

    /// The own node stops for this reason: all are told, above all those that speak in its name.
    pub(crate) fn note_halt(&self, halt: &Halt, now_ms: u64) {
        let namesake =
            Namesake { generation: halt.other, since_ms: now_ms, last_ms: now_ms, offers: 1, is_heard: halt.both_live };
        self.lock().namesake = Some(namesake);
    }

    /// What another node, whose own offer was taken, says of the store of this one: why it has to stop, if it has.
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
    /// What all are told of who speaks in the own name.
    pub(super) fn own_dispute(&self, now_ms: u64) -> Option<Dispute> {
        let (own, membership) = (self.generation, self.own.membership);
        let told_ms = self.period_ms.saturating_mul(LIVE_PERIODS);
        let namesake = self.namesake.filter(|namesake| now_ms.saturating_sub(namesake.last_ms) <= told_ms)?;
        Some(Dispute { membership, refused: namesake.generation, known: own, both_live: namesake.is_heard_later(own) })
    }
}
