//! The link's gossip: what it sends about this node and about nodes that join and leave, and how it handles what
//! others send, including reports of a peer that receives nothing from this node.
//!
//! All of it is repeated from time to time, so that a packet lost on the wire only delays it.

use std::collections::BTreeMap;
use std::time::Duration;

use accompanist_core::NodeId;
use accompanist_core::contract::{Batch, Heal, StoreError};
use accompanist_core::frame::{Epoch, Left, Membership, Offer, Packet, Round};
use metrics::counter;
use ractor::ActorRef;

use super::introductions::{Answer, Introduction};
use super::reachability::Change;
use super::{LinkSignal, LinkState};
use crate::dropped::Dropped;
use crate::metric;
use crate::peers::{Learned, OwnHeard, PeerStore};
use crate::store::Halt;
use crate::writer::{Counts, Job, Question};

/// The pause before the second advertisement; it doubles each time.
pub(crate) const OFFER_DELAY_MIN: Duration = Duration::from_millis(50);

/// How many times a node sends the reason for its stop, because the wire may lose some.
const HALT_OFFERS: usize = 3;

/// The count of open instances for nodes that drain.
pub(crate) struct Counted {
    /// The draining nodes, each with its membership and the number of the advertisement that was counted for.
    of: BTreeMap<NodeId, (Membership, u64)>,
    counts: Counts,
}

impl LinkState {
    /// Advertises this node to all, and schedules the next advertisement.
    pub(super) fn offer(&mut self, myself: &ActorRef<LinkSignal>) {
        let peers = &self.shared.peers;
        self.receptions.make_room(|node| peers.knows(node));
        self.introductions.make_room(|node| peers.knows(node));
        for node in self.reachability.begin_round(|node| peers.knows(node)) {
            self.due.entry(node).or_default().probe = true;
        }
        self.shared.peers.note_contacts(self.shared.now_ms());
        self.forget_aged();
        let offer = Offer { received: self.receptions.report(), ..self.shared.offer(None) };
        let round = Round::Broadcast(self.reachability.round());
        let packet = Packet { offer: Some(offer), round, ..self.packet() };
        self.put(None, &packet);
        let round = self.offer_round;
        myself.send_after(self.offer_delay, move || LinkSignal::Offer(round));
        self.offer_delay = (self.offer_delay * 2).min(self.shared.settings.offer_period_max);
        self.count(myself);
    }

    fn forget_aged(&mut self) {
        let _order = self.shared.writer.in_order();
        let changes = self.shared.peers.age(self.shared.now_ms());
        if !changes.is_empty() {
            self.partners.clear();
            self.shared.writer.submit(Job::Change { changes, done: Box::new(|_| ()) });
        }
    }

    /// Advertises a change of this node to all now, and soon again.
    pub(super) fn announce(&mut self, myself: &ActorRef<LinkSignal>) {
        self.offer_round += 1; // Cancels the advertisement that was due later.
        self.offer_delay = OFFER_DELAY_MIN;
        self.offer(myself);
    }

    pub(super) fn offer_to(&mut self, node: NodeId) {
        let offer = self.offer_of(&node);
        self.due.entry(node).or_default().offer = Some(offer);
    }

    pub(super) fn offer_of(&mut self, node: &NodeId) -> Offer {
        Offer { received: self.receptions.report(), ..self.shared.offer(Some(node)) }
    }

    /// Advertises this node to one that is not introduced, and asks for its advertisement.
    pub(super) fn offer_asking(&mut self, node: &NodeId) {
        let offer = Offer { ask: true, ..self.offer_of(node) };
        self.due.entry(node.clone()).or_default().offer = Some(offer);
    }

    /// Returns the advertisement that precedes or accompanies the first frame to a node.
    pub(super) fn greeting(&mut self, node: &NodeId) -> Offer {
        let offer = self.offer_of(node);
        Offer { ask: offer.ask || !self.introductions.has_any(node), ..offer }
    }

    /// Answers a node's request for an advertisement, unless it asks too often.
    fn answer(&mut self, myself: &ActorRef<LinkSignal>, node: &NodeId) {
        let is_known = self.shared.peers.knows(node);
        match self.introductions.answers(node, is_known, self.shared.now_ms()) {
            Answer::Now => self.offer_to(node.clone()),
            Answer::Later(wait_ms) => {
                let node = node.clone();
                myself.send_after(Duration::from_millis(wait_ms), || LinkSignal::OfferTo(node));
            }
            Answer::No => Dropped::count("asks too often"),
        }
    }

    /// Handles an advertisement, and introduces its sender if nothing speaks against it.
    pub(super) fn learn(&mut self, myself: &ActorRef<LinkSignal>, from: &NodeId, epoch: Epoch, mut offer: Offer) {
        if let Err(error) = offer.check() {
            return self.shared.note_dropped("offer", || format!("{from}: {error}"));
        }
        let (asks, received) = (offer.ask, std::mem::take(&mut offer.received));
        offer.roles.retain(|role| {
            let may = self.shared.may_play(from, role);
            if !may {
                let detail = || format!("`{from}` offers role `{role}`, which the members file does not let it play");
                self.shared.note_dropped("not allowed", detail);
            }
            may
        });
        let of_others = self.take_word_of_operator(from, &mut offer);
        let learned = self.take_in(myself, from, offer);
        // The nodes that have room among the peers have room among the introduced, too.
        let is_known = self.shared.peers.knows(from);
        if learned.knows_other {
            return self.shared.writer.submit(Job::Fail(StoreError::Replaced { by: from.to_string() }));
        }
        if let Some(halt) = &learned.halt {
            return self.halt(myself, halt);
        }
        self.note_store(from, &learned);
        match self.introductions.accept(from, epoch, &learned, is_known) {
            Introduction::Known => {}
            Introduction::New => self.come_back(from, is_known),
            Introduction::Refused(reason) => {
                self.shared.note_dropped(reason, || format!("{from} in epoch {epoch} is not heard"));
                if learned.is_other || learned.is_disputed {
                    // The answer tells that node what is known of its store, so that it stops.
                    self.answer(myself, from);
                }
                return;
            }
        }
        if learned.is_one_too_many {
            self.shared.note_dropped("too many nodes", || from.to_string());
        }
        if asks || learned.is_disputed {
            self.answer(myself, from);
        }
        if let Some(change) = self.reachability.report(from, &received, self.shared.now_ms()) {
            self.note_reachability(from, &change);
        }
        self.believe(myself, from, of_others);
        for node in &learned.hints {
            tracing::warn!(
                by = %from, %node,
                "a node says that another one has left, which is not received: it is not cast meanwhile; if it is gone for good, `forget` it here, too"
            );
        }
        if learned.forgets_own {
            tracing::error!(
                by = %from,
                "an operator has had this node forgotten there: the two take part in no new session together; `undrain` here joins anew"
            );
        }
    }

    /// Learns from an advertisement, and stores what is new if it is accepted.
    fn take_in(&self, myself: &ActorRef<LinkSignal>, from: &NodeId, offer: Offer) -> Learned {
        let _order = self.shared.writer.in_order();
        let mut learned = self.shared.peers.learn(from, offer, self.shared.now_ms());
        let (changes, left) = (std::mem::take(&mut learned.changes), std::mem::take(&mut learned.left));
        if !learned.is_refused && !learned.knows_other && learned.halt.is_none() {
            self.write_news(myself, from, changes, left, learned.unstored);
        }
        learned
    }

    /// Stores what is new about a node; the node is informed afterwards, so that it may rely on it.
    fn write_news(
        &self,
        myself: &ActorRef<LinkSignal>,
        from: &NodeId,
        changes: Batch,
        left: Vec<Left>,
        unstored: Option<Membership>,
    ) {
        if changes.is_empty() {
            return;
        }
        let (shared, myself, from) = (self.shared.clone(), myself.clone(), from.clone());
        let done = Box::new(move |written: Result<(), _>| {
            if written.is_err() {
                return; // The writer itself reports a failure to the node.
            }
            shared.peers.left_stored(&left);
            if let Some(membership) = unstored {
                shared.peers.stored(&from, membership);
            }
            if unstored.is_some() || !left.is_empty() {
                let _ = myself.cast(LinkSignal::OfferTo(from)); // Fails only when the node is gone.
            }
            let _ = myself.cast(LinkSignal::Count);
        });
        self.shared.writer.submit(Job::Change { changes, done });
    }

    /// Takes from an advertisement the statements that other nodes have left, if the sender is an operator's node
    /// (decision 0031). A statement about this node stays in it: no node makes another one leave.
    fn take_word_of_operator(&self, from: &NodeId, offer: &mut Offer) -> Vec<Left> {
        if !self.shared.is_operator(from) {
            return Vec::new();
        }
        let is_of_other = |left: &Left| left.node != *from && left.node != self.shared.node;
        let (of_others, rest) = std::mem::take(&mut offer.left).into_iter().partition(is_of_other);
        offer.left = rest;
        of_others
    }

    /// Notes nodes that have left, as reported by an operator on the node `by`, which is received.
    fn believe(&self, myself: &ActorRef<LinkSignal>, by: &NodeId, lefts: Vec<Left>) {
        for left in lefts {
            let _order = self.shared.writer.in_order();
            let changes = self.shared.peers.note_left(std::slice::from_ref(&left));
            if !changes.is_empty() {
                tracing::warn!(%by, node = %left.node, "an operator says on another node that a node has left: it is cast no more");
                self.write_news(myself, by, changes, vec![left], None);
            }
        }
    }

    /// Logs a problem with a peer's store; if an operator there has accepted an older copy, has the sessions with
    /// that peer ask it anew.
    fn note_store(&mut self, peer: &NodeId, learned: &Learned) {
        if learned.is_disputed {
            counter!(metric::OFFERS_DISPUTED).increment(1);
        }
        match &learned.store {
            Some(PeerStore::GoneBack { refused, known }) => tracing::error!(
                %peer, %refused, %known,
                "a peer has an older copy of its store, or another one: nothing is taken from it. Give it the store that is known; \
                 or start it with `--accept-restore`, if that is lost: what was done since is done again there or listed"
            ),
            Some(PeerStore::TwoOwners { refused, known }) => tracing::error!(
                %peer, %refused, %known,
                "two nodes of one name are at work on two copies of one store, and both have to stop: decide which of them goes on, \
                 and start that one alone, with `--accept-restore`"
            ),
            Some(PeerStore::Known) | None => {}
        }
        if learned.is_restored {
            tracing::warn!(
                %peer,
                "a peer goes on with an older copy of its store, as an operator has accepted there: all sessions here that it is \
                 cast in ask it anew"
            );
            self.shared.ask_anew(peer);
        }
    }

    /// Handles an advertisement that another node has sent in this node's name.
    pub(super) fn hear_own(&mut self, myself: &ActorRef<LinkSignal>, offer: &Offer) {
        match self.shared.peers.hear_own(offer, self.shared.now_ms()) {
            OwnHeard::Echo => {}
            OwnHeard::OtherStore => {
                let detail = || "another node calls itself as this one, with another store".to_owned();
                self.shared.note_dropped("same name", detail);
            }
            OwnHeard::Earlier { is_new } => {
                counter!(metric::DROPPED, "reason" => "earlier life").increment(1);
                if is_new {
                    self.announce(myself);
                }
            }
            OwnHeard::Halt(halt) => self.halt(myself, &halt),
        }
    }

    /// Stops the node, which must not continue with its store: all nodes are informed and the reason is stored first.
    fn halt(&mut self, myself: &ActorRef<LinkSignal>, halt: &Halt) {
        if std::mem::replace(&mut self.is_halted, true) {
            return;
        }
        let error = halt.error();
        tracing::error!(%error, "the node has to stop");
        self.shared.peers.note_halt(halt, self.shared.now_ms());
        for _ in 0..HALT_OFFERS {
            self.announce(myself);
        }
        let writer = self.shared.writer.clone();
        // If the reason could not be stored there is no one to inform: the node stops in any case.
        let done = Box::new(move |_| writer.submit(Job::Fail(error)));
        self.shared.writer.submit(Job::Change { changes: halt.stored(), done });
    }

    /// Handles a node that has just joined or returned: frames that wait for it are sent early.
    fn come_back(&mut self, node: &NodeId, is_known: bool) {
        self.partners.remove(node); // Another node may use the name now.
        let now_ms = self.shared.now_ms();
        if self.introductions.hurries(node, is_known, now_ms) {
            self.outbox.hurry(node, now_ms);
            self.resting.hurry(node, self.shared.settings.returns_max);
        }
    }

    /// Rebuilds the connection to a deaf peer, and lists the peer as deaf or not.
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

    /// Asks the store which draining nodes are needed by open instances. Everything written before is included, and
    /// starts whose opening may not be written yet hold their casts.
    pub(super) fn count(&mut self, myself: &ActorRef<LinkSignal>) {
        let of = self.shared.peers.draining();
        if of.is_empty() && !self.is_counting {
            return;
        }
        self.is_counting = !of.is_empty(); // Counts once more for no node, so that the writer stops counting.
        let placed = self.shared.peers.placed();
        let nodes = of.keys().cloned().collect();
        let (tell, again) = (myself.clone(), myself.clone());
        let done = Box::new(move |counts| {
            let Ok(mut counts): Result<Counts, _> = counts else { return };
            for (node, count) in &mut counts {
                *count = (*count).max(placed.get(node).copied().unwrap_or_default());
            }
            let _ = tell.cast(LinkSignal::Counted(Counted { of, counts })); // Fails only when the node is gone.
        });
        let emptied: Box<dyn Fn() + Send> = Box::new(move || drop(again.cast(LinkSignal::Count)));
        let own = self.shared.node.clone();
        self.shared.writer.submit(Job::Count(Question { nodes, own, done, emptied: Some(emptied) }));
    }

    /// Advertises the new counts to the nodes that wait for them.
    pub(super) fn counted(&mut self, Counted { of, counts }: &Counted) {
        for node in self.shared.peers.counted(of, counts) {
            self.offer_to(node);
        }
    }
}
