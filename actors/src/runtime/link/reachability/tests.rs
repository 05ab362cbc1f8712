//! Two nodes and a network between them that is deaf in one way or another, second by second.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use accompanist_core::frame::{Epoch, Round};
use proptest::prelude::*;

use super::*;
use crate::runtime::link::reception::Receptions;

const PERIOD_MS: u64 = 3_000;

/// The parts of one node's link that are under test.
struct End {
    name: NodeId,
    reachability: Reachability,
    receptions: Receptions,
}

impl End {
    fn new(name: &str, epoch: u128) -> Self {
        let name = NodeId::new(name).unwrap();
        let reachability = Reachability::new(name.clone(), Epoch(epoch), PERIOD_MS);
        Self { name, reachability, receptions: Receptions::default() }
    }
}

/// A shop and a bank, and the actions on the shop's wire.
struct Pair {
    shop: End,
    bank: End,
    now_ms: u64,
    changes: Vec<(u64, Change)>,
}

impl Pair {
    fn new() -> Self {
        Self { shop: End::new("shop", 7), bank: End::new("bank", 8), now_ms: 0, changes: Vec::new() }
    }

    /// Simulates one period: the shop advertises itself and sends a packet to the bank alone, and the bank reports.
    /// `arrives` decides which packets arrive.
    fn period(&mut self, arrives: impl Fn(Round) -> bool) {
        self.now_ms += PERIOD_MS;
        let Self { shop, bank, now_ms, changes } = self;
        let mut packets = Vec::new();
        shop.reachability.begin_round(|_| true);
        let round = shop.reachability.round();
        packets.extend([Round::Broadcast(round), Round::Direct(round)]);
        shop.reachability.sent(&bank.name);
        for packet in packets.into_iter().filter(|packet| arrives(*packet)) {
            bank.receptions.note(&shop.name, shop.reachability.epoch, packet);
        }
        let report = bank.receptions.report();
        let change = shop.reachability.report(&bank.name, &report, *now_ms);
        changes.extend(change.map(|change| (*now_ms / PERIOD_MS, change)));
    }

    fn periods(&mut self, periods: u64, arrives: impl Fn(Round) -> bool) -> &mut Self {
        (0..periods).for_each(|_| self.period(&arrives));
        self
    }

    fn changes(&mut self) -> Vec<(u64, Change)> {
        std::mem::take(&mut self.changes)
    }
}

fn all(_: Round) -> bool {
    true
}

fn none(_: Round) -> bool {
    false
}

fn is_broadcast(round: Round) -> bool {
    matches!(round, Round::Broadcast(_))
}

fn deaf(periods: u64, heal: Heal) -> Change {
    Change::Deaf { for_ms: periods * PERIOD_MS, heal }
}

#[test]
fn a_peer_that_receives_changes_nothing() {
    assert_eq!(Pair::new().periods(100, all).changes(), []);
}

#[test]
fn a_deaf_peer_is_healed_by_publishers_first_then_by_sessions_and_ever_more_seldom() {
    let mut pair = Pair::new();
    pair.periods(5, all).periods(900, none);
    let changes = pair.changes();
    let sessions: Vec<u64> = changes.iter().skip(1).map(|(at, _)| *at).collect();
    assert_eq!(changes.first(), Some(&(9, deaf(3, Heal::Publisher))), "{changes:?}");
    assert!(changes.iter().skip(1).all(|(at, change)| *change == deaf(at - 6, Heal::Session)), "{changes:?}");
    let pauses: Vec<u64> = sessions.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(pauses, [10, 10, 12, 24, 48, 96, 192, 200, 200]);
}

#[test]
fn each_of_the_two_ways_may_be_deaf_alone() {
    for direction in [is_broadcast, |round| !is_broadcast(round)] {
        let mut pair = Pair::new();
        assert_eq!(pair.periods(4, all).periods(4, direction).changes(), [(8, deaf(3, Heal::Publisher))]);
        assert_eq!(pair.periods(1, all).changes(), [(9, Change::Receives { after_ms: 4 * PERIOD_MS })]);
        assert_eq!(pair.periods(100, all).changes(), []);
    }
}

#[test]
fn a_rebuilt_session_that_helps_only_briefly_is_not_rebuilt_more_often() {
    let mut pair = Pair::new();
    let mut sessions = Vec::new();
    for _ in 0..1_500 {
        // The network receives for one period after each session, and then no more.
        let is_well = sessions.last().is_some_and(|at| pair.now_ms / PERIOD_MS == *at);
        pair.periods(1, |_| is_well);
        let is_session = |change: &Change| matches!(change, Change::Deaf { heal: Heal::Session, .. });
        sessions.extend(pair.changes().into_iter().filter(|(_, change)| is_session(change)).map(|(at, _)| at));
    }
    let pauses: Vec<u64> = sessions.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(pauses.len() < 16 && pauses.last().is_some_and(|pause| *pause >= 200), "{pauses:?}");
}

#[test]
fn a_peer_that_is_not_received_or_was_sent_nothing_is_not_deaf() {
    let mut pair = Pair::new();
    pair.periods(5, all);
    let bank = pair.bank.name.clone();
    for _ in 0..100 {
        pair.shop.reachability.begin_round(|_| true);
        pair.shop.reachability.sent(&bank);
    }
    // The shop was paused for this long, and then everything that waited is handled at once.
    pair.now_ms += 100 * PERIOD_MS;
    let report = pair.bank.receptions.report();
    for _ in 0..10 {
        assert_eq!(pair.shop.reachability.report(&bank, &report, pair.now_ms), None);
    }
    // The bank is sent nothing but advertisements, and they arrive.
    let mut pair = Pair::new();
    for round in 1..100 {
        assert!(pair.shop.reachability.begin_round(|_| true).is_empty());
        pair.bank.receptions.note(&pair.shop.name, Epoch(7), Round::Broadcast(round));
        let report = pair.bank.receptions.report();
        assert_eq!(pair.shop.reachability.report(&bank, &report, round * PERIOD_MS), None);
    }
}

/// The shop's process was paused, and then finds everything that has arrived meanwhile.
#[test]
fn a_pause_of_this_node_makes_no_peer_deaf() {
    let mut pair = Pair::new();
    pair.periods(5, all);
    let (bank, report) = (pair.bank.name.clone(), pair.bank.receptions.report());
    pair.shop.reachability.begin_round(|_| true);
    assert_eq!(pair.shop.reachability.report(&bank, &report, pair.now_ms), None, "they cross");
    for _ in 0..50 {
        assert_eq!(pair.shop.reachability.report(&bank, &report, pair.now_ms + 50 * PERIOD_MS), None);
    }
}

#[test]
fn an_unreported_direct_packet_is_probed_in_each_round() {
    let mut pair = Pair::new();
    let bank = pair.bank.name.clone();
    pair.period(all);
    assert!(pair.shop.reachability.begin_round(|_| true).is_empty());
    pair.shop.reachability.sent(&bank);
    for _ in 0..3 {
        assert_eq!(pair.shop.reachability.begin_round(|_| true), BTreeSet::from([bank.clone()]));
    }
    pair.period(all);
    assert!(pair.shop.reachability.begin_round(|_| true).is_empty());
}

#[test]
fn reports_on_an_earlier_epoch_or_from_a_full_list_are_not_misread() {
    let mut pair = Pair::new();
    let bank = pair.bank.name.clone();
    // The bank has received packets of the shop's earlier epoch only.
    pair.bank.receptions.note(&pair.shop.name, Epoch(6), Round::Broadcast(1_000_000));
    assert_eq!(pair.periods(5, none).changes(), [(5, deaf(3, Heal::Publisher))]);
    // A full list that does not contain the shop.
    let reception = |number| Reception {
        node: NodeId::new(format!("node-{number}")).unwrap(),
        epoch: Epoch(1),
        direct: 1,
        broadcast: 1,
    };
    let full: Vec<_> = (0..NODES_PER_ADVERTISEMENT_MAX).map(reception).collect();
    let mut other = Pair::new();
    for round in 1..50 {
        other.shop.reachability.begin_round(|_| true);
        assert_eq!(other.shop.reachability.report(&bank, &full, round * PERIOD_MS), None);
    }
}

#[test]
fn one_session_is_for_all_that_are_deaf() {
    let mut reachability = Reachability::new(NodeId::new("shop").unwrap(), Epoch(1), PERIOD_MS);
    let peers: Vec<NodeId> = (0..20).map(|number| NodeId::new(format!("bank-{number}")).unwrap()).collect();
    let (mut publishers, mut sessions) = (0, Vec::new());
    for period in 1..=1_000 {
        reachability.begin_round(|_| true);
        for peer in &peers {
            match reachability.report(peer, &[], period * PERIOD_MS) {
                Some(Change::Deaf { heal: Heal::Session, .. }) => sessions.push(period),
                Some(Change::Deaf { heal: Heal::Publisher, .. }) => publishers += 1,
                other => assert_eq!(other, None),
            }
        }
    }
    assert_eq!(publishers, peers.len());
    assert!(sessions.len() < 14, "{sessions:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// However the network behaves, a peer that receives again is found to do so, sessions are not rebuilt too often,
    /// and a peer that never receives is healed.
    #[test]
    fn deafness_comes_and_goes(spells in proptest::collection::vec((0_u64..40, any::<bool>(), any::<bool>()), 1..12)) {
        let mut pair = Pair::new();
        for (periods, direct, broadcast) in spells {
            pair.periods(periods, |round| if is_broadcast(round) { broadcast } else { direct });
        }
        pair.periods(2, all);
        let changes = pair.changes();
        let is_receiving = |change: &Change| matches!(change, Change::Receives { .. });
        prop_assert!(changes.last().is_none_or(|(_, change)| is_receiving(change)), "{changes:?}");
        for both in changes.windows(2) {
            prop_assert!(!(is_receiving(&both[0].1) && is_receiving(&both[1].1)), "{changes:?}");
        }
        let is_session = |change: &Change| matches!(change, Change::Deaf { heal: Heal::Session, .. });
        let sessions: Vec<u64> = changes.iter().filter(|(_, change)| is_session(change)).map(|(at, _)| *at).collect();
        prop_assert!(sessions.windows(2).all(|both| both[1] - both[0] >= SESSION_PERIODS_MIN), "{changes:?}");
        pair.periods(SESSION_PERIODS_MAX + 20, none);
        prop_assert!(pair.changes().iter().any(|(_, change)| is_session(change)));
    }
}
