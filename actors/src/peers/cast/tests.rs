//! Placement of sessions: even, and the same on all nodes that know the same nodes.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use accompanist_core::frame::{Advertisement, Generation, Left, Membership, OfferedChoreography};
use accompanist_core::role_instance::AnyChoreography;
use accompanist_core::{Abort, At, Choreography, Context, NodeId, Role, SessionId};
use proptest::collection::{btree_set, vec};
use proptest::prelude::*;

use crate::peers::{MemberStatus, Peers};
use crate::store::MemoryDisk;

#[derive(Clone, Copy)]
struct Shop;
impl Role for Shop {
    const NAME: &'static str = "shop";
    type Service = ();
}
#[derive(Clone, Copy)]
struct Bank;
impl Role for Bank {
    const NAME: &'static str = "bank";
    type Service = ();
}

struct Sale;
impl Choreography for Sale {
    const NAME: &'static str = "sale";
    type Roles = (Shop, Bank);
    type Input = At<Shop, u32>;
    type Output = At<Shop, u32>;
    async fn run(&self, _: &Context<Self::Roles>, input: At<Shop, u32>) -> Result<At<Shop, u32>, Abort> {
        Ok(input)
    }
}

fn id(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

fn bank(number: u32) -> NodeId {
    id(&format!("bank-{number}"))
}

fn advertisement(role: &str, membership: u64) -> Advertisement {
    let sale = OfferedChoreography { choreography: "sale".into(), version: 1, patches: Vec::new() };
    let (roles, choreographies, knows) = (vec![role.into()], vec![sale], Some(Membership(1)));
    Advertisement { membership: Membership(membership), roles, choreographies, knows, ..Advertisement::default() }
}

/// The peers of a shop that has received these banks.
fn knowing(banks: impl IntoIterator<Item = u32>) -> Peers {
    let peers = Peers::new(id("shop"), advertisement("shop", 1), Duration::ZERO, 0);
    for number in banks {
        peers.learn(&bank(number), advertisement("bank", 2), 0);
    }
    peers
}

fn session(number: u32) -> SessionId {
    SessionId::keyed("sale", &number.to_string())
}

/// Returns the bank of a session.
fn placed(peers: &Peers, session: SessionId) -> Option<NodeId> {
    placed_at(peers, session, 0)
}

fn placed_at(peers: &Peers, session: SessionId, now_ms: u64) -> Option<NodeId> {
    let versions: [Arc<dyn AnyChoreography>; 1] = [Arc::new(Sale)];
    let (_, cast) = peers.choose(session, &versions, 0, now_ms, |_, _| true).ok()?.cast?;
    assert_eq!(cast.nodes[0], id("shop"));
    Some(cast.nodes[1].clone())
}

fn counts(peers: &Peers, sessions: u32) -> BTreeMap<NodeId, u32> {
    let mut counts = BTreeMap::new();
    for number in 0..sessions {
        *counts.entry(placed(peers, session(number)).unwrap()).or_default() += 1;
    }
    counts
}

/// Returns whether `count` of `sessions` is what chance gives to a node with this share: within five standard
/// deviations, so that one in two million fair placements would be called unfair.
fn is_fair(count: u32, sessions: u32, share: f64) -> bool {
    let (count, sessions) = (f64::from(count), f64::from(sessions));
    (count - sessions * share).abs() < 5.0 * (sessions * share * (1.0 - share)).sqrt()
}

#[test]
fn sessions_are_spread_evenly_and_all_replicas_are_used() {
    const SESSIONS: u32 = 4_000;
    for replicas in [1, 2, 3, 5, 8, 13] {
        let counts = counts(&knowing(0..replicas), SESSIONS);
        assert_eq!(counts.len(), replicas as usize);
        let fair = |count: &u32| replicas == 1 || is_fair(*count, SESSIONS, 1.0 / f64::from(replicas));
        assert!(counts.values().all(fair), "{counts:?}");
    }
}

#[test]
fn a_node_that_joins_takes_its_share_and_moves_nothing_else() {
    const SESSIONS: u32 = 4_000;
    for replicas in [1, 2, 5, 9] {
        let (before, after) = (knowing(0..replicas), knowing(0..=replicas));
        let mut taken = 0;
        for session in (0..SESSIONS).map(session) {
            let (was, is) = (placed(&before, session), placed(&after, session).unwrap());
            if is == bank(replicas) { taken += 1 } else { assert_eq!(was, Some(is)) }
        }
        assert!(is_fair(taken, SESSIONS, 1.0 / f64::from(replicas + 1)), "{taken} with {replicas} before");
    }
}

#[test]
fn a_draining_or_departed_node_is_not_cast_until_it_serves_again() {
    let peers = knowing([1, 2]);
    let all = || counts(&peers, 100).into_keys().collect::<Vec<_>>();
    assert_eq!(all(), [bank(1), bank(2)]);
    let stands = |change, draining| Advertisement { change, draining, ..advertisement("bank", 2) };
    peers.learn(&bank(1), stands(1, true), 0);
    assert_eq!(all(), [bank(2)]);
    peers.learn(&bank(1), stands(0, false), 0); // The advertisement is late.
    assert_eq!(all(), [bank(2)]);
    peers.learn(&bank(1), stands(2, false), 0);
    assert_eq!(all(), [bank(1), bank(2)]);
    peers.learn(&bank(1), stands(1, true), 0);
    assert_eq!(all(), [bank(1), bank(2)]);
    // The bank reports that it has left.
    let left = vec![Left { at_unix_ms: 1, node: bank(1), membership: Membership(2) }];
    peers.learn(&bank(1), Advertisement { left, ..advertisement("bank", 2) }, 0);
    assert_eq!(all(), [bank(2)]);
    peers.learn(&bank(1), stands(3, false), 0);
    assert_eq!(all(), [bank(2)]);
    peers.learn(&bank(1), advertisement("bank", 3), 0); // The bank is back over a fresh store.
    assert_eq!(all(), [bank(1), bank(2)]);
}

/// Otherwise the node would leave without knowing which nodes to ask whether it may.
#[test]
fn only_nodes_that_know_this_one_are_cast() {
    let peers = knowing([]);
    let says = |knows| Advertisement { knows, ..advertisement("bank", 2) };
    peers.learn(&bank(1), says(None), 0);
    assert!(!peers.complete(advertisement("shop", 1), Some(&bank(1)), 0, 0).ask, "it is not on disk");
    peers.stored(&bank(1), Membership(2));
    for (knows, cast) in [(None, None), (Some(Membership(7)), None), (Some(Membership(1)), Some(bank(1)))] {
        peers.learn(&bank(1), says(knows), 0);
        assert_eq!(placed(&peers, session(1)), cast);
        assert_eq!(peers.complete(advertisement("shop", 1), Some(&bank(1)), 0, 0).ask, cast.is_none());
    }
    // The statement holds once made; the next node of this name has to make it again.
    peers.learn(&bank(1), says(None), 0);
    assert_eq!(placed(&peers, session(1)), Some(bank(1)));
    peers.learn(&bank(1), Advertisement { membership: Membership(3), fresh: true, ..says(None) }, 0);
    assert_eq!(placed(&peers, session(1)), None);
    // The answer to that node waits for the disk.
    let knows = || peers.complete(advertisement("shop", 1), Some(&bank(1)), 0, 0).knows;
    assert_eq!(knows(), None);
    peers.stored(&bank(1), Membership(2));
    assert_eq!(knows(), None);
    peers.stored(&bank(1), Membership(3));
    assert_eq!(knows(), Some(Membership(3)));
}

/// The peers of a shop whose nodes advertise themselves each second.
fn listening() -> Peers {
    Peers::new(id("shop"), advertisement("shop", 1), Duration::from_secs(1), 0)
}

/// Returns the banks of a hundred sessions.
fn used(peers: &Peers, now_ms: u64) -> Vec<NodeId> {
    let placed = (0..100).filter_map(|number| placed_at(peers, session(number), now_ms));
    placed.collect::<BTreeSet<_>>().into_iter().collect()
}

#[test]
fn nodes_that_were_received_from_lately_come_first() {
    let peers = listening();
    let says = |numbers: &[u32], now_ms| {
        for number in numbers {
            peers.learn(&bank(*number), advertisement("bank", 2), now_ms);
        }
    };
    says(&[1, 2, 3], 0);
    let all = [1, 2, 3].map(bank);
    let before: Vec<_> = (0..100).map(|number| placed_at(&peers, session(number), 2_999)).collect();
    assert_eq!(used(&peers, 2_999), all);
    says(&[1, 2], 2_999);
    assert_eq!(used(&peers, 3_000), [1, 2].map(bank));
    // Sessions at the other banks do not move.
    for (number, before) in (0..).zip(&before).filter(|(_, before)| **before != Some(bank(3))) {
        assert_eq!(&placed_at(&peers, session(number), 3_000), before);
    }
    // Any packet counts.
    peers.note_received(&bank(1), 0, 7_000);
    peers.note_received(&id("stranger"), 0, 7_000);
    assert_eq!(used(&peers, 7_000), [bank(1)]);
    assert_eq!(used(&peers, 10_000), all, "nobody was, so all are cast as ever");
    says(&[3], 10_001);
    assert_eq!(used(&peers, 10_001), [bank(3)]);
    says(&[1, 2], 10_002);
    let after: Vec<_> = (0..100).map(|number| placed_at(&peers, session(number), 10_002)).collect();
    assert_eq!(after, before, "each has its share again");
    // This bank is received, but does not receive.
    peers.note_deaf(&bank(2), Some(10_000));
    assert_eq!(used(&peers, 10_002), [1, 3].map(bank));
    peers.note_deaf(&bank(2), None);
    assert_eq!(used(&peers, 10_002), all);
}

#[test]
fn the_own_node_counts_as_received_from() {
    let both =
        |membership| Advertisement { roles: vec!["shop".into(), "bank".into()], ..advertisement("", membership) };
    let peers = Peers::new(id("shop"), both(1), Duration::from_secs(1), 0);
    peers.learn(&bank(1), advertisement("bank", 2), 0);
    assert_eq!(used(&peers, 0), [bank(1), id("shop")]);
    assert_eq!(used(&peers, 1_000_000), [id("shop")]);
    peers.learn(&bank(1), advertisement("bank", 2), 1_000_000);
    assert_eq!(used(&peers, 1_000_000), [bank(1), id("shop")]);
}

/// The next version of the sale.
struct Sale2;
impl Choreography for Sale2 {
    const NAME: &'static str = "sale";
    const VERSION: u32 = 2;
    type Roles = (Shop, Bank);
    type Input = At<Shop, u32>;
    type Output = At<Shop, u32>;
    async fn run(&self, _: &Context<Self::Roles>, input: At<Shop, u32>) -> Result<At<Shop, u32>, Abort> {
        Ok(input)
    }
}

#[test]
fn a_lower_version_whose_cast_is_there_comes_before_a_higher_one_that_waits() {
    let with = |role: &str, membership, versions: &[u32]| {
        let offered =
            |version: &u32| OfferedChoreography { choreography: "sale".into(), version: *version, patches: Vec::new() };
        Advertisement { choreographies: versions.iter().map(offered).collect(), ..advertisement(role, membership) }
    };
    let peers = Peers::new(id("shop"), with("shop", 1, &[1, 2]), Duration::from_secs(1), 0);
    let versions: [Arc<dyn AnyChoreography>; 2] = [Arc::new(Sale2), Arc::new(Sale)];
    let chosen = |now_ms| {
        let (index, cast) = peers.choose(session(1), &versions, 0, now_ms, |_, _| true).unwrap().cast.unwrap();
        (versions[index].version(), cast.nodes[1].clone())
    };
    peers.learn(&bank(1), with("bank", 2, &[1]), 0);
    peers.learn(&bank(2), with("bank", 2, &[1, 2]), 0);
    assert_eq!(chosen(0), (2, bank(2)));
    peers.note_received(&bank(1), 0, 10_000);
    assert_eq!(chosen(10_000), (1, bank(1)));
    assert_eq!(chosen(20_000), (2, bank(2)), "nobody is there");
}

#[test]
fn a_node_that_is_cordoned_is_not_cast_over_restarts_until_it_is_uncordoned_or_has_left() {
    use accompanist_core::contract::Store;
    let (disk, peers) = (MemoryDisk::default(), knowing([1, 2]));
    let mut store = disk.open().unwrap();
    for number in [1, 2] {
        store.apply(listening().learn(&bank(number), advertisement("bank", 2), 0).changes).unwrap();
    }
    assert!(peers.cordon(&bank(3), true).is_none(), "it is not known");
    store.apply(peers.cordon(&bank(1), true).unwrap()).unwrap();
    assert_eq!(used(&peers, 0), [1, 2].map(bank), "it is not on disk");
    peers.note_cordon(&bank(1), true);
    assert_eq!(used(&peers, 0), [bank(2)]);
    let restored = |store: &mut dyn Store| {
        let peers = Peers::new(id("shop"), advertisement("shop", 1), Duration::ZERO, 0);
        let changes = peers.restore(store, Membership(1), false, Generation::default()).unwrap();
        store.apply(changes).unwrap();
        let cordoned = peers.list(0).into_iter().filter(|known| known.cordoned).map(|known| known.node);
        (used(&peers, 0), cordoned.collect::<Vec<_>>())
    };
    assert_eq!(restored(&mut store), (vec![bank(2)], vec![bank(1)]));
    store.apply(peers.cordon(&bank(2), true).unwrap()).unwrap();
    peers.note_cordon(&bank(2), true);
    assert_eq!(used(&peers, 0), [], "nobody is left, and an operator's word is no hint");
    store.apply(peers.cordon(&bank(2), false).unwrap()).unwrap();
    peers.note_cordon(&bank(2), false);
    assert_eq!(used(&peers, 0), [bank(2)]);
    // The cordon does not hold for a node that joins under the name of one that has left.
    let left = vec![Left { at_unix_ms: 1, node: bank(1), membership: Membership(2) }];
    store.apply(peers.learn(&bank(1), Advertisement { left, ..advertisement("bank", 2) }, 0).changes).unwrap();
    store.apply(peers.learn(&bank(1), advertisement("bank", 3), 0).changes).unwrap();
    assert_eq!(used(&peers, 0), [1, 2].map(bank));
    assert_eq!(restored(&mut store), ([1, 2].map(bank).to_vec(), vec![]));
}

#[test]
fn a_node_with_another_store_is_accepted_only_if_declared_fresh() {
    let peers = knowing([1]);
    peers.stored(&bank(1), Membership(2));
    let other = || Advertisement { membership: Membership(3), ..advertisement("bank", 3) };
    let learned = peers.learn(&bank(1), other(), 0);
    assert!(learned.is_other && learned.changes.is_empty());
    assert_eq!(peers.complete(advertisement("shop", 1), Some(&bank(1)), 0, 0).knows, Some(Membership(2)), "it is told");
    assert!(!peers.learn(&bank(1), advertisement("bank", 2), 0).is_other, "it has its store back");
    let learned = peers.learn(&bank(1), Advertisement { fresh: true, ..other() }, 0);
    assert!(!learned.is_other && learned.unstored == Some(Membership(3)));
    // The name of a node that has left is free.
    let left = vec![Left { at_unix_ms: 1, node: bank(1), membership: Membership(3) }];
    peers.stored(&bank(1), Membership(3));
    peers.learn(&bank(1), Advertisement { left, ..advertisement("bank", 3) }, 0);
    assert!(
        !peers.learn(&bank(1), Advertisement { membership: Membership(4), ..advertisement("bank", 4) }, 0).is_other
    );
}

#[test]
fn a_node_learns_that_another_one_knows_it_with_another_store_unless_declared_fresh() {
    let says = |knows| Advertisement { knows, ..advertisement("bank", 2) };
    let peers = knowing([1]);
    for (knows, knows_other) in [(None, false), (Some(Membership(1)), false), (Some(Membership(7)), true)] {
        assert_eq!(peers.learn(&bank(1), says(knows), 0).knows_other, knows_other, "{knows:?}");
    }
    // The node joined anew after it had left: a node that knows the earlier membership has not learned of that.
    let left = vec![Left { at_unix_ms: 1, node: id("shop"), membership: Membership(1) }];
    peers.learn(&bank(1), Advertisement { left, ..advertisement("bank", 2) }, 0);
    let again = peers.next_status(false, Membership(9));
    peers.stand(again);
    assert!(!peers.learn(&bank(1), says(Some(Membership(1))), 0).knows_other);
    assert!(peers.complete(advertisement("shop", 1), None, 0, 0).fresh);
}

#[test]
fn a_node_that_does_not_serve_begins_nothing() {
    let peers = knowing([1]);
    let other = Membership(9);
    for (draining, placed_at) in [(true, None), (false, Some(bank(1))), (true, None)] {
        let own = peers.next_status(draining, other);
        peers.stand(own);
        assert_eq!(placed(&peers, session(1)), placed_at);
    }
    // The first change is on disk last: the later one stays.
    let (first, second) = (peers.next_status(false, other), peers.next_status(true, other));
    peers.stand(second);
    peers.stand(first);
    assert_eq!(peers.status(), MemberStatus::Draining);
    // The node is forgotten by another one, which holds only there, and returns in another membership.
    let left = vec![Left { at_unix_ms: 1, node: id("shop"), membership: Membership(1) }];
    assert!(peers.learn(&bank(1), Advertisement { left, ..advertisement("bank", 2) }, 0).forgets_own);
    assert_eq!((peers.status(), placed(&peers, session(1))), (MemberStatus::Draining, None));
    let again = peers.next_status(false, other);
    peers.stand(again);
    assert_eq!(
        (peers.status(), placed(&peers, session(1))),
        (MemberStatus::Serving, None),
        "the bank knows another one"
    );
    assert_eq!(peers.complete(advertisement("shop", 1), None, 0, 0).membership, other);
    peers.learn(&bank(1), Advertisement { knows: Some(other), ..advertisement("bank", 2) }, 0);
    assert_eq!(placed(&peers, session(1)), Some(bank(1)));
}

#[test]
fn a_start_under_way_holds_its_cast_until_it_is_released() {
    let peers = knowing([1]);
    let versions: [Arc<dyn AnyChoreography>; 1] = [Arc::new(Sale)];
    let cast = |number| peers.choose(session(number), &versions, 0, 0, |_, _| true).unwrap().cast.unwrap().1;
    let (one, other) = (cast(1), cast(2));
    assert_eq!(peers.placed(), BTreeMap::from([(bank(1), 2), (id("shop"), 2)]));
    let held = one.placed.clone();
    drop(one);
    other.placed.as_ref().unwrap().release();
    other.placed.as_ref().unwrap().release();
    assert_eq!(peers.placed()[&bank(1)], 1);
    drop((held, other));
    assert!(peers.placed().is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// The choice depends on the session and on the nodes that are there, not on when they joined. A session moves
    /// only from nodes that leave or to nodes that join.
    #[test]
    fn a_cast_depends_on_the_present_nodes(
        banks in btree_set(0_u32..1_000, 1..12),
        come in btree_set(1_000_u32..2_000, 0..4),
        order in vec(any::<prop::sample::Index>(), 8),
        go in any::<prop::sample::Index>(),
        sessions in vec(any::<[u8; 16]>(), 1..40),
    ) {
        let peers = knowing(banks.iter().copied());
        let mut shuffled: Vec<u32> = banks.iter().copied().collect();
        for pair in order.chunks(2) {
            let (one, other) = (pair[0].index(shuffled.len()), pair[1].index(shuffled.len()));
            shuffled.swap(one, other);
        }
        let gone = shuffled[go.index(shuffled.len())];
        // After a restart of a node that has learned in another order.
        let (disk, again) = (MemoryDisk::default(), Peers::new(id("shop"), advertisement("shop", 1), Duration::ZERO, 0));
        let mut store = disk.open().unwrap();
        let learner = Peers::new(id("shop"), advertisement("shop", 1), Duration::ZERO, 0);
        for number in &shuffled {
            use accompanist_core::contract::Store;
            store.apply(learner.learn(&bank(*number), advertisement("bank", 2), 0).changes).unwrap();
        }
        again.restore(&store, Membership(1), false, Generation::default()).unwrap();
        let (fewer, more) = (knowing(banks.iter().copied().filter(|number| *number != gone)), knowing(banks.union(&come).copied()));
        let new: BTreeSet<NodeId> = come.iter().map(|number| bank(*number)).collect();
        for session in sessions.into_iter().map(SessionId::from_bytes) {
            let chosen = placed(&peers, session);
            prop_assert_eq!(&placed(&again, session), &chosen);
            let with_more = placed(&more, session);
            prop_assert!(with_more == chosen || new.contains(with_more.as_ref().unwrap()));
            if chosen != Some(bank(gone)) {
                prop_assert_eq!(placed(&fewer, session), chosen);
            }
        }
    }
}
