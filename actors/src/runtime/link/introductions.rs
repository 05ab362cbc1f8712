//! Decides which nodes are received: only introduced ones, each in one epoch. A node introduces itself by an
//! advertisement. Until its advertisement of that epoch is accepted, nothing else from it is accepted, and it is
//! asked for one.
//!
//! A sender with a forged name or epoch therefore gets no further than an advertisement, and advertisements are
//! judged in one place, [`Introductions::accept`]. This module bounds what an unknown node can make this one send or
//! store: advertisements that are requested and sent, and names. Nodes that are `known` (from the store, or because
//! they took part in something) always have room. Pure: time is an argument.

use std::collections::{BTreeMap, BTreeSet};

use accompanist_core::NodeId;
use accompanist_core::frame::Epoch;

use crate::peers::{Learned, PEERS_MAX};

/// How many requests of a node for an advertisement are answered at once; further ones are answered once in each
/// pause.
const ANSWERS_AT_ONCE: u64 = 8;
/// The pause between these answers.
pub(super) const ANSWER_PAUSE_MS: u64 = 100;

/// The result of an advertisement.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Introduction {
    /// The node is received from now on, in an epoch that is new here: the node or its link has just started.
    New,
    /// The node was received before.
    Known,
    /// The node is not received, for this reason.
    Refused(&'static str),
}

/// When a node's request for an advertisement is answered.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Now,
    /// After this many milliseconds.
    Later(u64),
    /// Not at all: an answer is on its way, or there is no room for another name.
    No,
}

/// The introduced nodes, and the bounds on introductions; see the module's documentation.
pub(super) struct Introductions {
    /// The epoch of each node that is received.
    epochs: BTreeMap<NodeId, Epoch>,
    /// The nodes that were sent an advertisement of this node since their last introduction; other nodes receive it
    /// before their first frame.
    greeted: BTreeSet<NodeId>,
    /// When each node was last asked for an advertisement.
    asked: Paces,
    /// Until when further answers to each node would be too many.
    answered: Paces,
    /// The nodes that are answered later.
    waiting: BTreeSet<NodeId>,
    /// When the waiting frames to each node were last sent early.
    hurried: Paces,
    ask_pause_ms: u64,
    hurry_pause_ms: u64,
}

/// A time for each node, for a bounded number of nodes.
#[derive(Default)]
struct Paces(BTreeMap<NodeId, u64>);

impl Paces {
    /// Returns the time of `node`; `None` if there is no room for its name. When room runs out, times that have
    /// passed by `now_ms` are forgotten.
    fn of(&mut self, node: &NodeId, is_known: bool, now_ms: u64) -> Option<&mut u64> {
        if self.0.len() >= PEERS_MAX && !self.0.contains_key(node) {
            self.0.retain(|_, until_ms| *until_ms > now_ms);
            if self.0.len() >= PEERS_MAX && !is_known {
                return None;
            }
        }
        Some(self.0.entry(node.clone()).or_insert(0))
    }

    /// Returns whether `node` may have something now, which it may have once in each pause.
    fn may(&mut self, node: &NodeId, is_known: bool, now_ms: u64, pause_ms: u64) -> bool {
        match self.of(node, is_known, now_ms) {
            Some(until_ms) if *until_ms <= now_ms => {
                *until_ms = now_ms.saturating_add(pause_ms);
                true
            }
            _ => false,
        }
    }
}

impl Introductions {
    /// Creates a value that asks a node at most once in each `ask_pause_ms`, and hurries its waiting frames at most
    /// once in each `hurry_pause_ms`.
    pub(super) fn new(ask_pause_ms: u64, hurry_pause_ms: u64) -> Self {
        Self {
            epochs: BTreeMap::new(),
            greeted: BTreeSet::new(),
            asked: Paces::default(),
            answered: Paces::default(),
            waiting: BTreeSet::new(),
            hurried: Paces::default(),
            ask_pause_ms: ask_pause_ms.max(1),
            hurry_pause_ms: hurry_pause_ms.max(1),
        }
    }

    /// Decides from the effects of an advertisement of `node` in `epoch` whether the node is received from now on.
    /// All reasons against a node belong here.
    pub(super) fn accept(&mut self, node: &NodeId, epoch: Epoch, learned: &Learned, is_known: bool) -> Introduction {
        if learned.is_other || learned.is_refused {
            // This says nothing about another node of its name, which is received in another epoch.
            if self.epochs.get(node) == Some(&epoch) {
                self.epochs.remove(node);
            }
            return Introduction::Refused(if learned.is_other { "another store" } else { "store gone back" });
        }
        if self.epochs.get(node) == Some(&epoch) {
            return Introduction::Known;
        }
        if self.epochs.len() >= PEERS_MAX && !self.epochs.contains_key(node) && !is_known {
            return Introduction::Refused("too many nodes");
        }
        self.epochs.insert(node.clone(), epoch);
        self.greeted.remove(node);
        Introduction::New
    }

    /// Returns whether packets of `node` in `epoch` are accepted.
    pub(super) fn has(&self, node: &NodeId, epoch: Epoch) -> bool {
        self.epochs.get(node) == Some(&epoch)
    }

    /// Returns whether `node` is received in any epoch.
    pub(super) fn has_any(&self, node: &NodeId) -> bool {
        self.epochs.contains_key(node)
    }

    /// Forgets nodes that are not `known` once names are running out; they introduce themselves again.
    pub(super) fn make_room(&mut self, known: impl Fn(&NodeId) -> bool) {
        if self.epochs.len() >= PEERS_MAX {
            self.epochs.retain(|node, _| known(node));
        }
        if self.greeted.len() >= PEERS_MAX {
            self.greeted.retain(known);
        }
    }

    /// Returns whether this node has to introduce itself before it sends anything else to `node`; true once for each
    /// epoch of `node`.
    pub(super) fn greets(&mut self, node: &NodeId) -> bool {
        self.greeted.insert(node.clone())
    }

    /// Returns whether `node`, which is not received, is to be asked for an advertisement now.
    pub(super) fn asks(&mut self, node: &NodeId, is_known: bool, now_ms: u64) -> bool {
        self.asked.may(node, is_known, now_ms, self.ask_pause_ms)
    }

    /// Returns when a request of `node` for an advertisement is answered.
    pub(super) fn answers(&mut self, node: &NodeId, is_known: bool, now_ms: u64) -> Answer {
        if self.waiting.contains(node) {
            return Answer::No;
        }
        let Some(until_ms) = self.answered.of(node, is_known, now_ms) else { return Answer::No };
        *until_ms = (*until_ms).max(now_ms) + ANSWER_PAUSE_MS;
        let wait_ms = until_ms.saturating_sub(now_ms + ANSWERS_AT_ONCE * ANSWER_PAUSE_MS);
        if wait_ms == 0 {
            return Answer::Now;
        }
        self.waiting.insert(node.clone());
        Answer::Later(wait_ms)
    }

    /// Notes that a delayed answer was sent.
    pub(super) fn answered(&mut self, node: &NodeId) {
        self.waiting.remove(node);
    }

    /// Returns whether the waiting frames to `node`, which has just joined or returned, are to be sent at once.
    pub(super) fn hurries(&mut self, node: &NodeId, is_known: bool, now_ms: u64) -> bool {
        self.hurried.may(node, is_known, now_ms, self.hurry_pause_ms)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn node(number: usize) -> NodeId {
        NodeId::new(format!("node-{number}")).unwrap()
    }

    fn fresh() -> Introductions {
        Introductions::new(50, 1_000)
    }

    #[test]
    fn a_node_is_accepted_only_in_the_epoch_of_its_last_advertisement() {
        let (mut introductions, learned) = (fresh(), Learned::default());
        let bank = node(1);
        assert!(!introductions.has(&bank, Epoch(7)) && !introductions.has_any(&bank));
        for (epoch, expected) in [(7, Introduction::New), (7, Introduction::Known), (8, Introduction::New)] {
            assert_eq!(introductions.accept(&bank, Epoch(epoch), &learned, false), expected);
        }
        assert!(introductions.has(&bank, Epoch(8)) && !introductions.has(&bank, Epoch(7)));
        let other = Learned { is_other: true, ..Learned::default() };
        assert_eq!(introductions.accept(&bank, Epoch(9), &other, true), Introduction::Refused("another store"));
        assert!(introductions.has(&bank, Epoch(8)), "another one of its name");
        let refused = Learned { is_refused: true, ..Learned::default() };
        assert_eq!(introductions.accept(&bank, Epoch(8), &refused, true), Introduction::Refused("store gone back"));
        assert!(!introductions.has_any(&bank));
    }

    #[test]
    fn a_node_is_greeted_once_in_each_of_its_epochs() {
        let (mut introductions, learned) = (fresh(), Learned::default());
        assert!(introductions.greets(&node(1)) && !introductions.greets(&node(1)));
        introductions.accept(&node(1), Epoch(1), &learned, true);
        assert!(introductions.greets(&node(1)) && !introductions.greets(&node(1)));
        introductions.accept(&node(1), Epoch(1), &learned, true);
        assert!(!introductions.greets(&node(1)));
        introductions.accept(&node(1), Epoch(2), &learned, true);
        assert!(introductions.greets(&node(1)));
    }

    #[test]
    fn the_cost_of_forged_names_and_epochs_is_bounded() {
        let (mut introductions, learned) = (fresh(), Learned::default());
        let asked = (0..5_000).filter(|number| introductions.asks(&node(*number), false, 0)).count();
        assert_eq!(asked, PEERS_MAX);
        assert!(introductions.asks(&node(9_999), true, 0), "one that is known has room");
        assert!(!introductions.asks(&node(1), false, 49) && introductions.asks(&node(1), false, 50));
        let heard = (0..5_000)
            .filter(|number| introductions.accept(&node(*number), Epoch(1), &learned, false) == Introduction::New);
        assert_eq!(heard.count(), PEERS_MAX);
        assert_eq!(introductions.accept(&node(9_999), Epoch(1), &learned, true), Introduction::New);
        introductions.make_room(|known| *known == node(9_999));
        assert!(introductions.has_any(&node(9_999)) && !introductions.has_any(&node(1)));
        let hurried = (0..10_000).filter(|at_ms| introductions.hurries(&node(1), false, *at_ms)).count();
        assert_eq!(hurried, 10, "once a second, however many epochs there are");
    }

    #[test]
    fn one_that_keeps_asking_is_answered_ten_times_a_second() {
        let mut introductions = fresh();
        let at_once = (0..100).take_while(|_| introductions.answers(&node(1), true, 0) == Answer::Now).count() as u64;
        assert_eq!(at_once, ANSWERS_AT_ONCE);
        assert_eq!(introductions.answers(&node(1), true, 10), Answer::No, "one answer is on its way");
        assert_eq!(introductions.answers(&node(2), true, 10), Answer::Now);
        introductions.answered(&node(1));
        let (mut now_ms, mut answers) = (10, 0);
        while now_ms < 10_010 {
            answers += 1;
            match introductions.answers(&node(1), true, now_ms) {
                Answer::Later(wait_ms) => now_ms += wait_ms,
                answer => assert_eq!(answer, Answer::Now),
            }
            introductions.answered(&node(1));
        }
        assert!((95..=105).contains(&answers), "{answers}");
    }
}
