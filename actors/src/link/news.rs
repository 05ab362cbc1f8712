//! What the link tells of the own node and of those that come and go, and what it makes of what others tell: of a peer that
//! does not receive what is sent to it, too.
//!
//! All of it is said again from time to time: what is lost on the wire is only late.

use std::collections::BTreeMap;
use std::time::Duration;

use accompanist_core::NodeId;
use accompanist_core::contract::{Heal, StoreError};
use accompanist_core::frame::{Membership, Offer, Packet, Round};
use metrics::counter;
use ractor::ActorRef;

use super::reachability::Change;
use super::{LinkSignal, LinkState};
use crate::metric;
use crate::shared::note_dropped;
use crate::writer::{Counts, Job, Question};

/// The pause before the second offer; it doubles from one to the next.
pub(crate) const OFFER_DELAY_MIN: Duration = Duration::from_millis(50);

/// What has been counted for nodes that drain.
pub(crate) struct Counted {
    /// Which ones, at which of their offers.
    of: BTreeMap<NodeId, (Membership, u64)>,
    counts: Counts,
}

impl LinkState {
    /// Tells all, and again later.
    pub(super) fn offer(&mut self, myself: &ActorRef<LinkSignal>) {
        let peers = &self.shared.peers;
        self.receptions.make_room(|node| peers.knows(node));
        for node in self.reachability.begin_round(|node| peers.knows(node)) {
            self.due.entry(node).or_default().probe = true;
        }
        self.shared.peers.note_contacts(self.shared.now_ms());
        let offer = Offer { received: self.receptions.report(), ..self.shared.offer(None) };
        let round = Round::Broadcast(self.reachability.round());
        self.put(None, &Packet { offer: Some(offer), round, ..self.packet() });
        let round = self.offer_round;
        myself.send_after(self.offer_delay, move || LinkSignal::Offer(round));
        self.offer_delay = (self.offer_delay * 2).min(self.shared.settings.offer_period_max);
        self.count(myself);
    }

    /// Something has changed here: tells all now, and soon again.
    pub(super) fn announce(&mut self, myself: &ActorRef<LinkSignal>) {
        self.offer_round += 1; // What was due later is not said twice.
        self.offer_delay = OFFER_DELAY_MIN;
        self.offer(myself);
    }

    pub(super) fn offer_to(&mut self, node: NodeId) {
        let offer = Offer { received: self.receptions.report(), ..self.shared.offer(Some(&node)) };
        self.due.entry(node).or_default().offer = Some(offer);
    }

    pub(super) fn learn(&mut self, myself: &ActorRef<LinkSignal>, from: &NodeId, mut offer: Offer) {
        if let Err(error) = offer.check() {
            return note_dropped("offer", &format!("{from}: {error}"));
        }
        let (asks, received) = (offer.ask, std::mem::take(&mut offer.received));
        let standing = self.shared.peers.standing();
        let learned = self.shared.peers.learn(from, offer, self.shared.now_ms());
        if learned.knows_other {
            return self.shared.writer.submit(Job::Fail(StoreError::Replaced { by: from.to_string() }));
        }
        if learned.is_other {
            note_dropped(
                "another store",
                &format!("{from} has another store than it is known with: it is told to stop"),
            );
        }
        if asks || learned.is_other {
            self.offer_to(from.clone());
        }
        if let Some(change) = self.reachability.report(from, &received, self.shared.now_ms()) {
            self.note_reachability(from, &change);
        }
        if self.shared.peers.standing() != standing {
            tracing::error!(by = %from, "this node was forgotten, and takes no new sessions: `undrain` joins anew");
        }
        if learned.changes.is_empty() {
            return;
        }
        let (shared, myself, from) = (self.shared.clone(), myself.clone(), from.clone());
        let done = Box::new(move |written: Result<(), _>| {
            if written.is_err() {
                return; // The writer itself tells the node of a failure.
            }
            // Only now: who has been told may rely on it.
            shared.peers.left_stored(&learned.left);
            if let Some(membership) = learned.unstored {
                shared.peers.stored(&from, membership);
            }
            if learned.unstored.is_some() || !learned.left.is_empty() {
                let _ = myself.cast(LinkSignal::OfferTo(from)); // Gone with its node.
            }
            let _ = myself.cast(LinkSignal::Count);
        });
        self.shared.writer.submit(Job::Change { changes: learned.changes, done });
    }

    /// Makes anew what a deaf peer is sent to with, and shows how it stands.
    fn note_reachability(&self, peer: &NodeId, change: &Change) {
        match *change {
            Change::Deaf { for_ms, heal } => {
                let level = match heal {
                    Heal::Publisher => "publisher",
                    Heal::Session => "session",
                };
                counter!(metric::HEALS, "level" => level).increment(1);
                tracing::warn!(
                    %peer, for_ms, level,
                    "a peer says that it receives nothing from this node, which receives it: the way to it is made anew"
                );
                self.shared.peers.note_deaf(peer, Some(self.shared.now_ms().saturating_sub(for_ms)));
                if let Some(wire) = self.wire.upgrade() {
                    wire.heal(peer, heal);
                }
            }
            Change::Receives { after_ms } => {
                tracing::info!(%peer, after_ms, "a peer receives again what this node sends");
                self.shared.peers.note_deaf(peer, None);
            }
        }
    }

    /// Asks the store for whom of those that drain there are open instances. What was written before that is in it, and
    /// starts whose opening may not have been written yet hold their casts.
    pub(super) fn count(&mut self, myself: &ActorRef<LinkSignal>) {
        let of = self.shared.peers.draining();
        if of.is_empty() && !self.is_counting {
            return;
        }
        self.is_counting = !of.is_empty(); // Asked for nobody once more, so that the writer stops.
        let placed = self.shared.peers.placed();
        let nodes = of.keys().cloned().collect();
        let (tell, again) = (myself.clone(), myself.clone());
        let done = Box::new(move |counts| {
            let Ok(mut counts): Result<Counts, _> = counts else { return };
            for (node, count) in &mut counts {
                *count = (*count).max(placed.get(node).copied().unwrap_or_default());
            }
            let _ = tell.cast(LinkSignal::Counted(Counted { of, counts })); // Gone with its node.
        });
        let emptied: Box<dyn Fn() + Send> = Box::new(move || drop(again.cast(LinkSignal::Count)));
        let own = self.shared.node.clone();
        self.shared.writer.submit(Job::Count(Question { nodes, own, done, emptied: Some(emptied) }));
    }

    /// Tells those that wait for it.
    pub(super) fn counted(&mut self, Counted { of, counts }: &Counted) {
        for node in self.shared.peers.counted(of, counts) {
            self.offer_to(node);
        }
    }
}
