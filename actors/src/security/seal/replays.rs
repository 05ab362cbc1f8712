//! Detects replayed packets. A packet that opens is fresh if it was sealed for the current run of this link, in the
//! latest run of its sender, and has not been accepted before.
//!
//! A recorded packet can be opened for as long as its keys are valid. Each packet therefore names three things: the
//! epoch of its receiver, which is an unpredictable random number; the epoch of its sender; and its number among the
//! packets between the two. Pure.

use std::collections::{BTreeMap, VecDeque};

use accompanist_core::NodeId;
use accompanist_core::frame::Epoch;

/// A packet that is late by this many packets counts as a replay; the link resends what it carries.
const WINDOW: usize = 4_096;
/// The most former epochs that are remembered per peer, within one run of the own link.
const FORMER_MAX: usize = 1_024;
/// Stands for an epoch that is not known yet. A link would draw it with a probability of one in 2^128.
pub(crate) const UNKNOWN: Epoch = Epoch(0);

/// Whether a packet is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Freshness {
    /// Accepted.
    Fresh,
    /// The packet was sealed for another run of this link, or for none: its sender must be sent the current epoch.
    OtherLife,
    /// The packet was accepted before, is too late, or is from a run of its sender that is over.
    Replayed,
}

/// See the module's documentation.
pub(crate) struct Replays {
    own: Epoch,
    peers: BTreeMap<NodeId, Peer>,
}

#[derive(Default)]
struct Peer {
    /// How many packets were sealed for this peer.
    sent: u64,
    epoch: Option<Epoch>,
    former: VecDeque<Epoch>,
    taken: Window,
}

/// Which of the latest numbers were accepted; the last entry is `highest`.
#[derive(Default)]
struct Window {
    highest: u64,
    taken: VecDeque<bool>,
}

impl Window {
    /// Records a number as accepted; returns whether it was not accepted before.
    fn take(&mut self, number: u64) -> bool {
        if number > self.highest {
            let skipped = usize::try_from(number - self.highest - 1).unwrap_or(usize::MAX).min(WINDOW);
            self.taken.extend(std::iter::repeat_n(false, skipped));
            self.taken.push_back(true);
            self.taken.drain(..self.taken.len().saturating_sub(WINDOW));
            self.highest = number;
            return true;
        }
        let back = usize::try_from(self.highest - number).unwrap_or(usize::MAX);
        let at = self.taken.len().checked_sub(back.saturating_add(1));
        match at.and_then(|at| self.taken.get_mut(at)) {
            Some(taken) => !std::mem::replace(taken, true),
            None => false,
        }
    }
}

impl Replays {
    pub(crate) fn new(own: Epoch) -> Self {
        Self { own, peers: BTreeMap::new() }
    }

    /// Returns the known epoch of `to`, and the number of the next packet for it.
    pub(crate) fn next(&mut self, to: &NodeId) -> (Epoch, u64) {
        if !self.peers.contains_key(to) {
            self.peers.insert(to.clone(), Peer::default());
        }
        let Some(peer) = self.peers.get_mut(to) else { return (UNKNOWN, 0) };
        peer.sent += 1;
        (peer.epoch.unwrap_or(UNKNOWN), peer.sent)
    }

    /// Decides about a packet of `from` that has opened.
    pub(crate) fn check(&mut self, from: &NodeId, to_epoch: Epoch, from_epoch: Epoch, number: u64) -> Freshness {
        if to_epoch != self.own {
            return Freshness::OtherLife;
        }
        let peer = self.peers.entry(from.clone()).or_default();
        if peer.epoch != Some(from_epoch) {
            if peer.former.contains(&from_epoch) {
                return Freshness::Replayed;
            }
            if let Some(former) = peer.epoch.replace(from_epoch) {
                peer.former.push_back(former);
                peer.former.drain(..peer.former.len().saturating_sub(FORMER_MAX));
            }
            peer.taken = Window::default();
        }
        if peer.taken.take(number) { Freshness::Fresh } else { Freshness::Replayed }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const OWN: Epoch = Epoch(7);

    fn bank() -> NodeId {
        NodeId::new("bank").unwrap()
    }

    #[test]
    fn each_packet_is_accepted_once() {
        let mut replays = Replays::new(OWN);
        for (number, expected) in [
            (1, Freshness::Fresh),
            (1, Freshness::Replayed),
            (5, Freshness::Fresh),
            (3, Freshness::Fresh),
            (3, Freshness::Replayed),
            (5, Freshness::Replayed),
            (2, Freshness::Fresh),
            (1, Freshness::Replayed),
            (0, Freshness::Replayed),
        ] {
            assert_eq!(replays.check(&bank(), OWN, Epoch(1), number), expected, "{number}");
        }
        let shop = NodeId::new("shop").unwrap();
        assert_eq!(replays.check(&shop, OWN, Epoch(1), 1), Freshness::Fresh, "each peer has numbers of its own");
    }

    #[test]
    fn packets_of_an_ended_epoch_are_refused() {
        let mut replays = Replays::new(OWN);
        for (epoch, number, expected) in [
            (1, 1, Freshness::Fresh),
            (2, 1, Freshness::Fresh),
            (1, 2, Freshness::Replayed),
            (2, 2, Freshness::Fresh),
            (3, 9, Freshness::Fresh),
            (2, 3, Freshness::Replayed),
            (1, 1, Freshness::Replayed),
            (3, 8, Freshness::Fresh),
            (3, 8, Freshness::Replayed),
            (3, 10, Freshness::Fresh),
        ] {
            assert_eq!(replays.check(&bank(), OWN, Epoch(epoch), number), expected, "{epoch} {number}");
        }
        assert_eq!(replays.next(&bank()), (Epoch(3), 1));
    }

    #[test]
    fn a_packet_sealed_for_another_epoch_changes_nothing() {
        let mut replays = Replays::new(OWN);
        assert_eq!(replays.next(&bank()), (UNKNOWN, 1));
        for to_epoch in [UNKNOWN, Epoch(8)] {
            assert_eq!(replays.check(&bank(), to_epoch, Epoch(1), 1), Freshness::OtherLife);
        }
        assert_eq!(replays.next(&bank()), (UNKNOWN, 2));
        assert_eq!(replays.check(&bank(), OWN, Epoch(2), 1), Freshness::Fresh);
        assert_eq!(replays.check(&bank(), UNKNOWN, Epoch(3), 1), Freshness::OtherLife);
        assert_eq!(replays.next(&bank()), (Epoch(2), 3));
    }

    #[test]
    fn the_replay_window_is_bounded() {
        let mut replays = Replays::new(OWN);
        for epoch in 1..3_000 {
            replays.check(&bank(), OWN, Epoch(epoch), u64::MAX - 1);
        }
        replays.check(&bank(), OWN, Epoch(2_999), u64::MAX);
        let peer = &replays.peers[&bank()];
        assert_eq!((peer.former.len(), peer.taken.taken.len()), (FORMER_MAX, WINDOW));
        assert_eq!(replays.check(&bank(), OWN, Epoch(2_999), u64::MAX - WINDOW as u64), Freshness::Replayed);
        assert_eq!(replays.check(&bank(), OWN, Epoch(2_999), u64::MAX - 9), Freshness::Fresh);
    }

    proptest! {
        /// Compares with a set of all accepted numbers: none is accepted twice, and every number that is not too late
        /// is accepted.
        #[test]
        fn numbers_in_any_order_are_accepted_once(numbers in proptest::collection::vec(1_u64..10_000, 0..200)) {
            let (mut replays, mut taken, mut highest) = (Replays::new(OWN), BTreeSet::new(), 0);
            for number in numbers {
                let is_late = highest >= number + WINDOW as u64;
                let is_fresh = replays.check(&bank(), OWN, Epoch(1), number) == Freshness::Fresh;
                prop_assert_eq!(is_fresh, !is_late && taken.insert(number));
                highest = highest.max(number);
            }
        }
    }
}
