//! Whether packets to a peer arrive there, and what to do when they do not although the peer is received.
//!
//! A wire may be up and carry nothing in one direction, for ever, and no counter of the sender shows it. Each node
//! therefore reports in its advertisements which rounds it last received from each other node (`reception`),
//! separately for packets to it alone and for packets to all, because the two take different ways through a network.
//! A peer is *deaf* to this node when it keeps reporting that it received nothing newer, although packets were sent
//! to it in several rounds since. Acknowledgements do not count here: they may be late for good reasons.
//!
//! The actions on the wire are bounded: first the publishers are rebuilt, then the session if that has not helped,
//! and then again with a back-off; see `docs/decisions/0020`. Pure: time is an argument, actions are results.

use std::collections::{BTreeMap, BTreeSet};

use accompanist_core::NodeId;
use accompanist_core::contract::Heal;
use accompanist_core::frame::{Epoch, NODES_PER_ADVERTISEMENT_MAX, Reception};

use crate::peers::PEERS_MAX;

/// A peer counts as deaf after it has reported for this many advertisement periods, in this many reports, and over
/// this many of this node's rounds that it received nothing. A lost packet or two, a report that crosses a packet, or
/// a pause of either process is no deafness.
const DEAF_AFTER: u64 = 3;
/// The least number of periods between two rebuilt sessions: rebuilding a session interrupts all other peers, too.
const SESSION_PERIODS_MIN: u64 = 10;
/// The longest pause between two rebuilt sessions for the same peer, in periods: ten minutes with the usual period. A
/// problem that no session heals (a firewall, a rule for access) must not cost the others more.
const SESSION_PERIODS_MAX: u64 = 200;

/// A change of a peer's reachability.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    /// The peer is received, and has not received this node for this long. The wire is asked for `heal`.
    Deaf { for_ms: u64, heal: Heal },
    /// The peer receives this node again, after this long.
    Receives { after_ms: u64 },
}

/// The reachability of all peers; see the module's documentation.
pub(super) struct Reachability {
    own: NodeId,
    /// The epoch of this link.
    epoch: Epoch,
    period_ms: u64,
    round: u64,
    peers: BTreeMap<NodeId, Peer>,
    /// No session is rebuilt before this time.
    session_at_ms: u64,
}

#[derive(Default)]
struct Peer {
    direct: Direction,
    broadcast: Direction,
    /// The time since which the peer receives nothing.
    deaf_since_ms: Option<u64>,
    /// The pause after the next session that is rebuilt for the peer, and the time when that may happen.
    pause_ms: u64,
    session_at_ms: u64,
    /// When a publisher or session was last rebuilt for the peer.
    healed_ms: Option<u64>,
}

/// One of the two ways to a peer.
#[derive(Default)]
struct Direction {
    /// The first round, since the last one known to have arrived, in which a packet was sent.
    open: Option<u64>,
    doubt: Option<SilenceReports>,
    is_deaf: bool,
}

/// Reports that nothing has arrived.
struct SilenceReports {
    since_ms: u64,
    since_round: u64,
    reports: u64,
}

impl Direction {
    fn sent(&mut self, round: u64) {
        self.open.get_or_insert(round);
    }

    /// Handles the peer's report of the last round that it received. Returns since when it has received nothing, once
    /// that is no coincidence.
    fn report(&mut self, received: u64, round: u64, now_ms: u64, period_ms: u64) -> Option<u64> {
        let open = self.open?;
        if received >= open {
            *self = Self::default();
            return None;
        }
        let doubt = self.doubt.get_or_insert(SilenceReports { since_ms: now_ms, since_round: round, reports: 0 });
        doubt.reports += 1;
        let is_long = now_ms.saturating_sub(doubt.since_ms) >= DEAF_AFTER * period_ms;
        let are_many = doubt.reports >= DEAF_AFTER && round.saturating_sub(doubt.since_round) >= DEAF_AFTER;
        (is_long && are_many).then_some(doubt.since_ms)
    }
}

impl Peer {
    /// Gives a rebuilt publisher or session time to show whether it has helped.
    fn begins_anew(&mut self) {
        (self.direct.doubt, self.broadcast.doubt) = (None, None);
    }
}

impl Reachability {
    pub(super) fn new(own: NodeId, epoch: Epoch, period_ms: u64) -> Self {
        Self { own, epoch, period_ms, round: 0, peers: BTreeMap::new(), session_at_ms: 0 }
    }

    /// Begins a round: a packet is sent to all now. Returns the peers that must be sent a packet alone, so that they
    /// can report whether it arrives.
    ///
    /// A node that has left is among them as long as it sends something: it may have sessions to end. Peers that are
    /// not `known` are forgotten once there are too many.
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

    /// Notes that a packet is sent to `node` alone.
    pub(super) fn sent(&mut self, node: &NodeId) {
        if let Some(peer) = self.peers.get_mut(node) {
            peer.direct.sent(self.round);
        }
    }

    /// Handles the report of `node` about what it has received from others. Returns what has changed.
    pub(super) fn report(&mut self, node: &NodeId, received: &[Reception], now_ms: u64) -> Option<Change> {
        if !self.peers.contains_key(node) && self.peers.len() >= PEERS_MAX {
            return None;
        }
        let peer = self.peers.entry(node.clone()).or_default();
        let (direct, broadcast) = match received.iter().find(|reception| reception.node == self.own) {
            Some(reception) if reception.epoch == self.epoch => (reception.direct, reception.broadcast),
            // From an earlier epoch of this node: nothing of this one was received.
            Some(_) => (0, 0),
            None if received.len() < NODES_PER_ADVERTISEMENT_MAX => (0, 0),
            None => return None, // This node's entry follows in a later report.
        };
        let mut deaf_since_ms = None;
        for (direction, received) in [(&mut peer.direct, direct), (&mut peer.broadcast, broadcast)] {
            let since_ms = direction.report(received, self.round, now_ms, self.period_ms);
            direction.is_deaf |= since_ms.is_some();
            deaf_since_ms = deaf_since_ms.or(since_ms);
        }
        if let Some(since_ms) = deaf_since_ms {
            return self.heal(node, since_ms, now_ms);
        }
        let still_deaf = peer.direct.is_deaf || peer.broadcast.is_deaf;
        let since_ms = if still_deaf { None } else { peer.deaf_since_ms.take() };
        since_ms.map(|since_ms| Change::Receives { after_ms: now_ms.saturating_sub(since_ms) })
    }

    /// Returns what to rebuild for a deaf peer, if it is time.
    fn heal(&mut self, node: &NodeId, since_ms: u64, now_ms: u64) -> Option<Change> {
        let peer = self.peers.get_mut(node)?;
        let Some(since_ms) = peer.deaf_since_ms else {
            peer.deaf_since_ms = Some(since_ms);
            // A peer that was reachable for long is healed as quickly as the first time.
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

    /// Notes a rebuilt session, which serves all deaf peers at once.
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
