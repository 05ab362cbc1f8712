//! Whether what is sent to a peer arrives there, and what is to be done when it does not although the peer is received.
//!
//! A wire may be up and carry nothing in one direction, for ever: no counter of the sender shows it. So each node says in its
//! offers which rounds it received last from each other one (`reception`), to it alone and to all, since the two go different
//! ways through a network. A peer that keeps saying that it received nothing newer, although packets were sent to it in
//! several rounds since, is *deaf* to this node. Acknowledgements take no part in that: they may be late for good reasons.
//!
//! What is asked of the wire then is bounded: the publishers first, the session when that has not helped, and again with a
//! back-off; see `docs/decisions/0020`. Pure: time comes in, what is to be done goes out.

use std::collections::{BTreeMap, BTreeSet};

use accompanist_core::NodeId;
use accompanist_core::contract::Heal;
use accompanist_core::frame::{Epoch, NODES_PER_OFFER_MAX, Reception};

use crate::peers::PEERS_MAX;

/// For so many periods of the offers, and in so many of its reports, and over so many rounds of the own node, a peer has to
/// say that it received nothing: a lost packet or two, a report that crosses a packet, or a pause of one of the two
/// processes is no deafness.
const DEAF_AFTER: u64 = 3;
/// After so many periods at the soonest a session is made anew once more: it takes all other peers with it.
const SESSION_PERIODS_MIN: u64 = 10;
/// The longest pause between two sessions for the same peer, in periods: ten minutes with the usual ones. What no session
/// heals (a firewall, a rule for access) must not cost the others more.
const SESSION_PERIODS_MAX: u64 = 200;

/// What has become of a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    /// It is received, and does not receive what is sent to it: since so long. The wire is to be asked for this.
    Deaf { for_ms: u64, heal: Heal },
    /// It receives again, after so long.
    Receives { after_ms: u64 },
}

/// See the module's documentation.
pub(super) struct Reachability {
    own: NodeId,
    /// Of this life of the link.
    epoch: Epoch,
    period_ms: u64,
    round: u64,
    peers: BTreeMap<NodeId, Peer>,
    /// No session is made anew before.
    session_at_ms: u64,
}

#[derive(Default)]
struct Peer {
    direct: Way,
    broadcast: Way,
    /// Since when it receives nothing.
    deaf_since_ms: Option<u64>,
    /// The pause after the next session that is made anew for it, and when that may be.
    pause_ms: u64,
    session_at_ms: u64,
    /// When something was made anew for it last.
    healed_ms: Option<u64>,
}

/// One of the two ways to a peer.
#[derive(Default)]
struct Way {
    /// The first round, since the last one that is known to have arrived, in which something was sent.
    open: Option<u64>,
    doubt: Option<Doubt>,
    is_deaf: bool,
}

/// Reports that nothing has arrived.
struct Doubt {
    since_ms: u64,
    since_round: u64,
    reports: u64,
}

impl Way {
    fn sent(&mut self, round: u64) {
        self.open.get_or_insert(round);
    }

    /// The peer says which round it received last. Returns since when it has received nothing, once that is no chance.
    fn report(&mut self, received: u64, round: u64, now_ms: u64, period_ms: u64) -> Option<u64> {
        let open = self.open?;
        if received >= open {
            *self = Self::default();
            return None;
        }
        let doubt = self.doubt.get_or_insert(Doubt { since_ms: now_ms, since_round: round, reports: 0 });
        doubt.reports += 1;
        let is_long = now_ms.saturating_sub(doubt.since_ms) >= DEAF_AFTER * period_ms;
        let are_many = doubt.reports >= DEAF_AFTER && round.saturating_sub(doubt.since_round) >= DEAF_AFTER;
        (is_long && are_many).then_some(doubt.since_ms)
    }
}

impl Peer {
    /// What has been made anew gets its time to show whether it has helped.
    fn begins_anew(&mut self) {
        (self.direct.doubt, self.broadcast.doubt) = (None, None);
    }
}

impl Reachability {
    pub(super) fn new(own: NodeId, epoch: Epoch, period_ms: u64) -> Self {
        Self { own, epoch, period_ms, round: 0, peers: BTreeMap::new(), session_at_ms: 0 }
    }

    /// Begins a round: something is sent to all now. Returns the peers to which something must be sent alone, so that
    /// they can tell whether it arrives.
    ///
    /// A node that has left is one of them as long as it says something: it may have sessions to end. Those that are not
    /// `known` are forgotten once there are too many.
    pub(super) fn begin_round(&mut self, known: impl Fn(&NodeId) -> bool) -> BTreeSet<NodeId> {
        self.round += 1;
        if self.peers.len() >= PEERS_MAX {
            self.peers.retain(|node, _| known(node));
        }
        self.peers.values_mut().for_each(|peer| peer.broadcast.sent(self.round));
        let open = self.peers.iter().filter(|(_, peer)| peer.direct.open.is_some());
        open.map(|(node, _)| node.clone()).collect()
    }

    pub(super) fn round(&self) -> u64 {
        self.round
    }

    /// A packet is sent to `node` alone.
    pub(super) fn sent(&mut self, node: &NodeId) {
        if let Some(peer) = self.peers.get_mut(node) {
            peer.direct.sent(self.round);
        }
    }

    /// `node` says what it has received from others. Returns what is new in that.
    pub(super) fn report(&mut self, node: &NodeId, received: &[Reception], now_ms: u64) -> Option<Change> {
        if !self.peers.contains_key(node) && self.peers.len() >= PEERS_MAX {
            return None;
        }
        let peer = self.peers.entry(node.clone()).or_default();
        let (direct, broadcast) = match received.iter().find(|reception| reception.node == self.own) {
            Some(reception) if reception.epoch == self.epoch => (reception.direct, reception.broadcast),
            // Of an earlier life: nothing of this one.
            Some(_) => (0, 0),
            None if received.len() < NODES_PER_OFFER_MAX => (0, 0),
            None => return None, // Its turn is to come.
        };
        let mut deaf_since_ms = None;
        for (way, received) in [(&mut peer.direct, direct), (&mut peer.broadcast, broadcast)] {
            let since_ms = way.report(received, self.round, now_ms, self.period_ms);
            way.is_deaf |= since_ms.is_some();
            deaf_since_ms = deaf_since_ms.or(since_ms);
        }
        if let Some(since_ms) = deaf_since_ms {
            return self.heal(node, since_ms, now_ms);
        }
        let still_deaf = peer.direct.is_deaf || peer.broadcast.is_deaf;
        let since_ms = if still_deaf { None } else { peer.deaf_since_ms.take() };
        since_ms.map(|since_ms| Change::Receives { after_ms: now_ms.saturating_sub(since_ms) })
    }

    /// What is to be made anew for a peer that is deaf, if it is time.
    fn heal(&mut self, node: &NodeId, since_ms: u64, now_ms: u64) -> Option<Change> {
        let peer = self.peers.get_mut(node)?;
        let Some(since_ms) = peer.deaf_since_ms else {
            peer.deaf_since_ms = Some(since_ms);
            // One that was well for long is healed as quickly as at the first time.
            let pause_max_ms = SESSION_PERIODS_MAX * self.period_ms;
            if peer.healed_ms.is_none_or(|healed_ms| now_ms.saturating_sub(healed_ms) > 2 * pause_max_ms) {
                (peer.pause_ms, peer.session_at_ms) = (DEAF_AFTER * self.period_ms, 0);
            }
            peer.healed_ms = Some(now_ms);
            peer.begins_anew();
            return Some(Change::Deaf { for_ms: now_ms.saturating_sub(since_ms), heal: Heal::Publisher });
        };
        if now_ms < peer.session_at_ms.max(self.session_at_ms) {
            return None;
        }
        self.session_made_anew(now_ms);
        Some(Change::Deaf { for_ms: now_ms.saturating_sub(since_ms), heal: Heal::Session })
    }

    /// All that are deaf get it at once.
    fn session_made_anew(&mut self, now_ms: u64) {
        self.session_at_ms = now_ms.saturating_add(SESSION_PERIODS_MIN * self.period_ms);
        for peer in self.peers.values_mut() {
            peer.begins_anew();
            if peer.deaf_since_ms.is_some() {
                peer.healed_ms = Some(now_ms);
                peer.session_at_ms = now_ms.saturating_add(peer.pause_ms);
                peer.pause_ms = (peer.pause_ms * 2).min(SESSION_PERIODS_MAX * self.period_ms);
            }
        }
    }
}

#[cfg(test)]
mod tests;
