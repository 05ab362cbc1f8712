//! Where sessions are placed: evenly, and the same for all that know the same nodes.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use accompanist_core::frame::{Left, Membership, Offer, Offered};
use accompanist_core::part::AnyChoreography;
use accompanist_core::{Abort, At, Choreography, Context, NodeId, Role, SessionId};
use proptest::collection::{btree_set, vec};
use proptest::prelude::*;

use crate::peers::{Peers, Standing};
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

fn offer(role: &str, membership: u64) -> Offer {
    let sale = Offered { choreography: "sale".into(), version: 1, patches: Vec::new() };
    let (roles, choreographies, knows) = (vec![role.into()], vec![sale], Some(Membership(1)));
    Offer { membership: Membership(membership), roles, choreographies, knows, ..Offer::default() }
}

/// What a shop knows that has heard of these banks.
fn knowing(banks: impl IntoIterator<Item = u32>) -> Peers {
    let peers = Peers::new(id("shop"), offer("shop", 1), Duration::ZERO);
    for number in banks {
        peers.learn(&bank(number), offer("bank", 2), 0);
    }
    peers
}

fn session(number: u32) -> SessionId {
    SessionId::keyed("sale", &number.to_string())
}

/// The bank of a session.
fn placed(peers: &Peers, session: SessionId) -> Option<NodeId> {
    let versions: [Arc<dyn AnyChoreography>; 1] = [Arc::new(Sale)];
    let (_, cast) = peers.choose(session, &versions).ok()?.cast?;
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

/// Whether so many of `sessions` is what chance gives to a node with this share: within five standard deviations, so that
/// one in two million fair placements would be called unfair.
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
fn a_node_that_drains_or_has_left_is_not_cast_until_it_is_back() {
    let peers = knowing([1, 2]);
    let all = || counts(&peers, 100).into_keys().collect::<Vec<_>>();
    assert_eq!(all(), [bank(1), bank(2)]);
    let stands = |change, draining| Offer { change, draining, ..offer("bank", 2) };
    peers.learn(&bank(1), stands(1, true), 0);
    assert_eq!(all(), [bank(2)]);
    peers.learn(&bank(1), stands(0, false), 0); // It comes late.
    assert_eq!(all(), [bank(2)]);
    peers.learn(&bank(1), stands(2, false), 0);
    assert_eq!(all(), [bank(1), bank(2)]);
    peers.learn(&bank(1), stands(1, true), 0);
    assert_eq!(all(), [bank(1), bank(2)]);
    // Another one says that it has left.
    let left = vec![Left { at_unix_ms: 1, node: bank(1), membership: Membership(2) }];
    peers.learn(&bank(2), Offer { left, ..offer("bank", 2) }, 0);
    assert_eq!(all(), [bank(2)]);
    peers.learn(&bank(1), stands(3, false), 0);
    assert_eq!(all(), [bank(2)]);
    peers.learn(&bank(1), offer("bank", 3), 0); // Over a fresh store.
    assert_eq!(all(), [bank(1), bank(2)]);
}

/// Otherwise it would leave, and not know whom to ask whether it may.
#[test]
fn only_who_knows_of_this_node_is_cast() {
    let peers = knowing([]);
    let says = |knows| Offer { knows, ..offer("bank", 2) };
    peers.learn(&bank(1), says(None), 0);
    assert!(!peers.complete(offer("shop", 1), Some(&bank(1))).ask, "it is not on disk");
    peers.stored(&bank(1), Membership(2));
    for (knows, cast) in [(None, None), (Some(Membership(7)), None), (Some(Membership(1)), Some(bank(1)))] {
        peers.learn(&bank(1), says(knows), 0);
        assert_eq!(placed(&peers, session(1)), cast);
        assert_eq!(peers.complete(offer("shop", 1), Some(&bank(1))).ask, cast.is_none());
    }
    // Said once; and anew by the next one of its name.
    peers.learn(&bank(1), says(None), 0);
    assert_eq!(placed(&peers, session(1)), Some(bank(1)));
    peers.learn(&bank(1), Offer { membership: Membership(3), ..says(None) }, 0);
    assert_eq!(placed(&peers, session(1)), None);
    // What is said to it in turn waits for the disk.
    let knows = || peers.complete(offer("shop", 1), Some(&bank(1))).knows;
    assert_eq!(knows(), None);
    peers.stored(&bank(1), Membership(2));
    assert_eq!(knows(), None);
    peers.stored(&bank(1), Membership(3));
    assert_eq!(knows(), Some(Membership(3)));
}

#[test]
fn a_node_that_does_not_serve_begins_nothing() {
    let peers = knowing([1]);
    let other = Membership(9);
    for (draining, placed_at) in [(true, None), (false, Some(bank(1))), (true, None)] {
        let own = peers.next_standing(draining, other);
        peers.stand(own);
        assert_eq!(placed(&peers, session(1)), placed_at);
    }
    // It is on disk last, and was asked for first: the later one stays.
    let (first, second) = (peers.next_standing(false, other), peers.next_standing(true, other));
    peers.stand(second);
    peers.stand(first);
    assert_eq!(peers.standing(), Standing::Draining);
    // Forgotten by another one, and back in another membership.
    let left = vec![Left { at_unix_ms: 1, node: id("shop"), membership: Membership(1) }];
    peers.learn(&bank(1), Offer { left, ..offer("bank", 2) }, 0);
    assert_eq!((peers.standing(), placed(&peers, session(1))), (Standing::Left, None));
    let again = peers.next_standing(false, other);
    peers.stand(again);
    assert_eq!((peers.standing(), placed(&peers, session(1))), (Standing::Serving, None), "the bank knows another one");
    assert_eq!(peers.complete(offer("shop", 1), None).membership, other);
    peers.learn(&bank(1), Offer { knows: Some(other), ..offer("bank", 2) }, 0);
    assert_eq!(placed(&peers, session(1)), Some(bank(1)));
}

#[test]
fn a_start_under_way_holds_its_cast_until_it_is_released() {
    let peers = knowing([1]);
    let versions: [Arc<dyn AnyChoreography>; 1] = [Arc::new(Sale)];
    let cast = |number| peers.choose(session(number), &versions).unwrap().cast.unwrap().1;
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

    /// Who is chosen depends on the session and on who is there, not on when they came, and moves only from those that go
    /// or to those that come.
    #[test]
    fn a_choice_depends_on_who_is_there(
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
        let (disk, again) = (MemoryDisk::default(), Peers::new(id("shop"), offer("shop", 1), Duration::ZERO));
        let mut store = disk.open().unwrap();
        let learner = Peers::new(id("shop"), offer("shop", 1), Duration::ZERO);
        for number in &shuffled {
            use accompanist_core::contract::Store;
            store.apply(learner.learn(&bank(*number), offer("bank", 2), 0).changes).unwrap();
        }
        again.restore(&mut store, Membership(1)).unwrap();
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
