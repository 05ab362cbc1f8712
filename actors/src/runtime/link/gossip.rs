//! The link's gossip: what it sends about this node and about nodes that join and leave, and how it handles what
//! others send, including reports of a peer that receives nothing from this node.
//!
//! All of it is repeated from time to time, so that a packet lost on the wire only delays it.

use std::collections::BTreeMap;
use std::time::Duration;

use accompanist_core::NodeId;
use accompanist_core::contract::{Batch, Heal, StoreError};
use accompanist_core::frame::{Advertisement, Epoch, Left, Membership, Packet, Round};
use metrics::counter;
use ractor::ActorRef;

use super::introductions::{Answer, Introduction};
use super::reachability::Change;
use super::{LinkSignal, LinkState};
use crate::base::dropped::Dropped;
use crate::base::metric;
use crate::peers::{Learned, OwnNameUse, PeerStore};
use crate::runtime::messages::SupervisorMessage;
use crate::store::Halt;
use crate::writer::{CensusQuery, Counts, Job};

/// How many times a node sends the reason for its stop, because the wire may lose some.
const HALT_ADVERTISEMENTS: usize = 3;

/// The count of open instances for nodes that drain.
pub(crate) struct Counted {
    /// The draining nodes, each with its membership and the number of the advertisement that was counted for.
    of: BTreeMap<NodeId, (Membership, u64)>,
    counts: Counts,
}

impl LinkState {
    /// Advertises this node to all, and schedules the next advertisement.
    pub(super) fn advertise(&mut self, myself: &ActorRef<LinkSignal>) {
        let peers = &self.context.peers;
        self.introductions.make_room(|node| peers.knows(node));
        for node in self.rounds.begin(|node| peers.knows(node)) {
            self.due.probe(node);
        }
        self.context.peers.note_contacts(self.context.now_ms());
        self.forget_aged();
        let advertisement = Advertisement { received: self.rounds.report(), ..self.context.advertisement(None) };
        let round = Round::Broadcast(self.rounds.number());
        let packet = Packet { advertisement: Some(advertisement), round, ..self.packet() };
        self.put(None, &packet);
        let (delay, series) = self.schedule.plan(self.context.settings.advertisement_period_max);
        myself.send_after(delay, move || LinkSignal::Advertisement(series));
        self.count(myself);
    }

    fn forget_aged(&mut self) {
        let _order = self.context.writer.in_order();
        let changes = self.context.peers.age(self.context.now_ms());
        if !changes.is_empty() {
            self.partners.clear();
            self.context.writer.submit(Job::Change { changes, done: Box::new(|_| ()) });
        }
    }

    /// Advertises a change of this node to all now, and soon again.
    pub(super) fn announce(&mut self, myself: &ActorRef<LinkSignal>) {
        self.schedule.restart();
        self.advertise(myself);
    }

    pub(super) fn advertise_to(&mut self, node: NodeId) {
        let advertisement = self.advertisement_of(&node);
        self.due.advertisement(node, advertisement);
    }

    pub(super) fn advertisement_of(&mut self, node: &NodeId) -> Advertisement {
        Advertisement { received: self.rounds.report(), ..self.context.advertisement(Some(node)) }
    }

    /// Advertises this node to one that is not introduced, and asks for its advertisement.
    pub(super) fn advertise_asking(&mut self, node: &NodeId) {
        let advertisement = Advertisement { ask: true, ..self.advertisement_of(node) };
        self.due.advertisement(node.clone(), advertisement);
    }

    /// Returns the advertisement that precedes or accompanies the first frame to a node.
    pub(super) fn greeting(&mut self, node: &NodeId) -> Advertisement {
        let advertisement = self.advertisement_of(node);
        Advertisement { ask: advertisement.ask || !self.introductions.has_any(node), ..advertisement }
    }

    /// Answers a node's request for an advertisement, unless it asks too often.
    fn answer(&mut self, myself: &ActorRef<LinkSignal>, node: &NodeId) {
        let is_known = self.context.peers.knows(node);
        match self.introductions.answers(node, is_known, self.context.now_ms()) {
            Answer::Now => self.advertise_to(node.clone()),
            Answer::Later(wait_ms) => {
                let node = node.clone();
                myself.send_after(Duration::from_millis(wait_ms), || LinkSignal::AdvertiseTo(node));
            }
            Answer::No => Dropped::count("asks too often"),
        }
    }

    /// Handles an advertisement, and introduces its sender if nothing speaks against it.
    pub(super) fn learn(
        &mut self,
        myself: &ActorRef<LinkSignal>,
        from: &NodeId,
        epoch: Epoch,
        mut advertisement: Advertisement,
    ) {
        if let Err(error) = advertisement.check() {
            return self.context.note_dropped("offer", || format!("{from}: {error}"));
        }
        let (asks, received) = (advertisement.ask, std::mem::take(&mut advertisement.received));
        advertisement.roles.retain(|role| {
            let may = self.context.access.may_play(from, role);
            if !may {
                let detail = || format!("`{from}` offers role `{role}`, which the members file does not let it play");
                self.context.note_dropped("not allowed", detail);
            }
            may
        });
        let of_others = self.take_word_of_operator(from, &mut advertisement);
        let learned = self.take_in(myself, from, advertisement);
        // The nodes that have room among the peers have room among the introduced, too.
        let is_known = self.context.peers.knows(from);
        if learned.knows_other {
            return self.context.writer.submit(Job::Fail(StoreError::Replaced { by: from.to_string() }));
        }
        if let Some(halt) = &learned.halt {
            return self.halt(myself, halt);
        }
        self.note_store(from, &learned);
        match self.introductions.accept(from, epoch, &learned, is_known) {
            Introduction::Known => {}
            Introduction::New => self.note_return(from, is_known),
            Introduction::Refused(reason) => {
                self.context.note_dropped(reason, || format!("{from} in epoch {epoch} is not heard"));
                if learned.is_other || learned.is_disputed {
                    // The answer tells that node what is known of its store, so that it stops.
                    self.answer(myself, from);
                }
                return;
            }
        }
        if learned.is_one_too_many {
            self.context.note_dropped("too many nodes", || from.to_string());
        }
        if asks || learned.is_disputed {
            self.answer(myself, from);
        }
        if let Some(change) = self.rounds.note_report(from, &received, self.context.now_ms()) {
            self.note_reachability(from, &change);
        }
        self.believe(myself, from, of_others);
        for node in &learned.hints {
            tracing::warn!(
                node = %self.context.node, by = %from, peer = %node,
                "a node says that another one has left, which is not received: it is not cast meanwhile; if it is gone \
                 for good, `forget` it here, too"
            );
        }
        if learned.forgets_own {
            tracing::error!(
                node = %self.context.node, by = %from,
                "an operator has had this node forgotten there: the two take part in no new session together; \
                 `undrain` here joins anew"
            );
        }
    }

    /// Learns from an advertisement, and stores what is new if it is accepted.
    fn take_in(&self, myself: &ActorRef<LinkSignal>, from: &NodeId, advertisement: Advertisement) -> Learned {
        let _order = self.context.writer.in_order();
        let mut learned = self.context.peers.learn(from, advertisement, self.context.now_ms());
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
        let (context, myself, from) = (self.context.clone(), myself.clone(), from.clone());
        let done = Box::new(move |written: Result<(), _>| {
            if written.is_err() {
                return; // The writer itself reports a failure to the node.
            }
            for Left { node: peer, .. } in &left {
                tracing::info!(node = %context.node, %peer, "a peer has left for good: it is cast no more");
            }
            context.peers.left_stored(&left);
            if let Some(membership) = unstored {
                context.peers.stored(&from, membership);
            }
            if unstored.is_some() || !left.is_empty() {
                let _ = myself.cast(LinkSignal::AdvertiseTo(from)); // Fails only when the node is gone.
            }
            let _ = myself.cast(LinkSignal::Count);
        });
        self.context.writer.submit(Job::Change { changes, done });
    }

    /// Takes from an advertisement the statements that other nodes have left, if the sender is an operator's node
    /// (decision 0031). A statement about this node stays in it: no node makes another one leave.
    fn take_word_of_operator(&self, from: &NodeId, advertisement: &mut Advertisement) -> Vec<Left> {
        if !self.context.access.is_operator(from) {
            return Vec::new();
        }
        let is_of_other = |left: &Left| left.node != *from && left.node != self.context.node;
        let (of_others, rest) = std::mem::take(&mut advertisement.left).into_iter().partition(is_of_other);
        advertisement.left = rest;
        of_others
    }

    /// Notes nodes that have left, as reported by an operator on the node `by`, which is received.
    fn believe(&self, myself: &ActorRef<LinkSignal>, by: &NodeId, lefts: Vec<Left>) {
        for left in lefts {
            let _order = self.context.writer.in_order();
            let changes = self.context.peers.note_left(std::slice::from_ref(&left));
            if !changes.is_empty() {
                tracing::warn!(
                    node = %self.context.node, %by, peer = %left.node,
                    "an operator says on another node that a node has left: it is cast no more"
                );
                self.write_news(myself, by, changes, vec![left], None);
            }
        }
    }

    /// Logs a problem with a peer's store; if an operator there has accepted an older copy, has the sessions with
    /// that peer ask it anew.
    fn note_store(&mut self, peer: &NodeId, learned: &Learned) {
        if learned.is_disputed {
            counter!(metric::ADVERTISEMENTS_DISPUTED).increment(1);
        }
        match &learned.store {
            Some(PeerStore::GoneBack { refused, known }) => tracing::error!(
                node = %self.context.node, %peer, %refused, %known,
                "a peer has an older copy of its store, or another one: nothing is taken from it. Give it the store \
                 that is known; or start it with `--accept-restore`, if that is lost: what was done since is done \
                 again there or listed"
            ),
            Some(PeerStore::TwoOwners { refused, known }) => tracing::error!(
                node = %self.context.node, %peer, %refused, %known,
                "two nodes of one name are at work on two copies of one store, and both have to stop: decide which of \
                 them goes on, and start that one alone, with `--accept-restore`"
            ),
            Some(PeerStore::Known) | None => {}
        }
        if learned.is_restored {
            tracing::warn!(
                node = %self.context.node, %peer,
                "a peer goes on with an older copy of its store, as an operator has accepted there: all sessions here \
                 that it is cast in ask it anew"
            );
            // Between two trees of actors all instances are reactivated anyway.
            let _ = self.context.routes.to_supervisor(SupervisorMessage::NudgeAllOf(peer.clone()));
        }
    }

    /// Handles an advertisement that another node has sent in this node's name.
    pub(super) fn handle_own_name(&mut self, myself: &ActorRef<LinkSignal>, advertisement: &Advertisement) {
        match self.context.peers.handle_own_name(advertisement, self.context.now_ms()) {
            OwnNameUse::Echo => {}
            OwnNameUse::OtherStore => {
                let detail = || "another node calls itself as this one, with another store".to_owned();
                self.context.note_dropped("same name", detail);
            }
            OwnNameUse::Earlier { is_new } => {
                counter!(metric::DROPPED, "reason" => "earlier life").increment(1);
                if is_new {
                    self.announce(myself);
                }
            }
            OwnNameUse::Halt(halt) => self.halt(myself, &halt),
        }
    }

    /// Stops the node, which must not continue with its store: all nodes are informed and the reason is stored first.
    fn halt(&mut self, myself: &ActorRef<LinkSignal>, halt: &Halt) {
        if std::mem::replace(&mut self.is_halted, true) {
            return;
        }
        let error = halt.error();
        tracing::error!(node = %self.context.node, %error, "the node has to stop");
        self.context.peers.note_halt(halt, self.context.now_ms());
        for _ in 0..HALT_ADVERTISEMENTS {
            self.announce(myself);
        }
        let writer = self.context.writer.clone();
        // If the reason could not be stored there is no one to inform: the node stops in any case.
        let done = Box::new(move |_| writer.submit(Job::Fail(error)));
        self.context.writer.submit(Job::Change { changes: halt.stored(), done });
    }

    /// Handles a node that has just joined or returned: frames that wait for it are sent early.
    fn note_return(&mut self, node: &NodeId, is_known: bool) {
        self.partners.remove(node); // Another node may use the name now.
        let now_ms = self.context.now_ms();
        if self.introductions.hurries(node, is_known, now_ms) {
            tracing::info!(node = %self.context.node, peer = %node, is_known, "a peer has appeared, or has started anew");
            self.outbox.hurry(node, now_ms);
            self.passivated.hurry(node, self.context.settings.reactivations_max);
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
                    node = %self.context.node, %peer, for_ms, level,
                    "a peer says that it receives nothing from this node, which receives it: the way to it is made anew"
                );
                self.context.peers.note_deaf(peer, Some(self.context.now_ms().saturating_sub(for_ms)));
                if let Some(wire) = self.endpoint.wire() {
                    wire.heal(peer, heal);
                }
            }
            Change::Receives { after_ms } => {
                tracing::info!(node = %self.context.node, %peer, after_ms, "a peer receives again what this node sends");
                self.context.peers.note_deaf(peer, None);
            }
        }
    }

    /// Asks the store which draining nodes are needed by open instances. Everything written before is included, and
    /// starts whose opening may not be written yet hold their casts.
    pub(super) fn count(&mut self, myself: &ActorRef<LinkSignal>) {
        let of = self.context.peers.draining();
        if of.is_empty() && !self.is_counting {
            return;
        }
        self.is_counting = !of.is_empty(); // Counts once more for no node, so that the writer stops counting.
        let placed = self.context.peers.placed();
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
        let own = self.context.node.clone();
        self.context.writer.submit(Job::Count(CensusQuery { nodes, own, done, emptied: Some(emptied) }));
    }

    /// Advertises the new counts to the nodes that wait for them.
    pub(super) fn counted(&mut self, Counted { of, counts }: &Counted) {
        for node in self.context.peers.counted(of, counts) {
            self.advertise_to(node);
        }
    }
}
