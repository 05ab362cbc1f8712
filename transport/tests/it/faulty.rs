//! The faulty network: all its faults, and that a seed gives the same ones again. Next: `zenoh.rs`.

use std::sync::Arc;
use std::time::Duration;

use accompanist_core::contract::Heal;
use accompanist_transport::{Counts, Deafness, Faults, FaultyNetwork};

use crate::contract::{Ends, keeps_the_contract};
use crate::recorder::{Member, node};

fn ends() -> Ends {
    let network = Arc::new(FaultyNetwork::new(7, Faults::none()));
    [network.clone(), network.clone(), network]
}

keeps_the_contract!(tokio::test(start_paused = true), ends());

mod rough {
    //! The contract is one of a lossy wire, so it holds on a bad network too.
    use super::*;

    fn ends() -> Ends {
        let network = Arc::new(FaultyNetwork::new(11, Faults::rough()));
        [network.clone(), network.clone(), network]
    }

    keeps_the_contract!(tokio::test(start_paused = true), ends());
}

/// Longer than any packet of these tests travels; paused time makes it no wait at all.
async fn settle() {
    tokio::time::sleep(Duration::from_secs(10)).await;
}

/// Two hundred packets from `a` to `b`; what `b` got, in order.
async fn deliveries(seed: u64) -> (Vec<Vec<u8>>, Counts) {
    let network = FaultyNetwork::new(seed, Faults::rough());
    let a = Member::attach(&network, "a").await;
    let b = Member::attach(&network, "b").await;
    for number in 0..200_u8 {
        a.wire.send(&b.id, vec![number]);
        if number % 10 == 0 {
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
    }
    settle().await;
    (b.inbox.packets(), network.counts())
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_gives_the_same_deliveries() {
    let first = deliveries(42).await;
    assert_eq!(first, deliveries(42).await);
    assert_ne!(first, deliveries(43).await);
}

#[tokio::test(start_paused = true)]
async fn a_rough_network_loses_doubles_and_reorders() {
    let (packets, counts) = deliveries(42).await;
    assert!(counts.lost > 0 && counts.duplicated > 0, "{counts:?}");
    assert_eq!(counts.lost + counts.delivered, 200 + counts.duplicated);
    assert_eq!(counts.delivered, packets.len() as u64);
    assert!(!packets.is_sorted(), "nothing was reordered");
}

#[tokio::test(start_paused = true)]
async fn a_loss_of_one_delivers_nothing() {
    let network = FaultyNetwork::new(1, Faults { loss: 1.0, ..Faults::none() });
    let a = Member::attach(&network, "a").await;
    let b = Member::attach(&network, "b").await;
    for _ in 0..100 {
        a.wire.send(&b.id, b"lost".to_vec());
        a.wire.broadcast(b"lost".to_vec());
    }
    settle().await;
    assert!(b.inbox.packets().is_empty());
    assert_eq!(network.counts(), Counts { lost: 200, ..Counts::default() });
}

#[tokio::test(start_paused = true)]
async fn a_duplication_of_one_delivers_all_twice() {
    let network = FaultyNetwork::new(1, Faults { duplication: 1.0, ..Faults::none() });
    let a = Member::attach(&network, "a").await;
    let b = Member::attach(&network, "b").await;
    a.wire.send(&b.id, b"twice".to_vec());
    settle().await;
    assert_eq!(b.inbox.packets(), [b"twice", b"twice"]);
    assert_eq!(network.counts(), Counts { lost: 0, duplicated: 1, delivered: 2 });
}

#[tokio::test(start_paused = true)]
async fn a_partition_cuts_both_ways_until_it_heals() {
    let network = FaultyNetwork::new(1, Faults::none());
    let a = Member::attach(&network, "a").await;
    let b = Member::attach(&network, "b").await;
    let c = Member::attach(&network, "c").await;
    network.partition(&[a.id.clone(), b.id.clone()], std::slice::from_ref(&c.id));
    for (from, to) in [(&a, &b), (&a, &c), (&c, &b)] {
        from.wire.send(&to.id, b"split".to_vec());
    }
    settle().await;
    assert!(b.inbox.has(b"split") && !c.inbox.has(b"split"));
    assert_eq!(network.counts(), Counts { lost: 2, duplicated: 0, delivered: 1 });

    network.heal();
    for (from, to) in [(&a, &c), (&c, &a)] {
        from.wire.send(&to.id, b"healed".to_vec());
    }
    settle().await;
    assert!(a.inbox.has(b"healed") && c.inbox.has(b"healed"));
}

#[tokio::test(start_paused = true)]
async fn an_isolated_node_is_cut_from_all() {
    let network = FaultyNetwork::new(1, Faults::none());
    let a = Member::attach(&network, "a").await;
    let b = Member::attach(&network, "b").await;
    let c = Member::attach(&network, "c").await;
    network.isolate(&a.id);
    a.wire.broadcast(b"from a".to_vec());
    b.wire.broadcast(b"from b".to_vec());
    settle().await;
    assert!(a.inbox.packets().is_empty() && b.inbox.packets().is_empty());
    assert_eq!(c.inbox.packets(), [b"from b"]);

    network.heal();
    a.wire.broadcast(b"from a".to_vec());
    settle().await;
    assert!(b.inbox.has(b"from a") && c.inbox.has(b"from a"));
}

/// What `b` gets of one packet of `a` to it, and of one to all.
async fn arrives(a: &Member, b: &Member) -> [bool; 2] {
    let before = b.inbox.packets().len();
    a.wire.send(&b.id, b"alone".to_vec());
    a.wire.broadcast(b"all".to_vec());
    settle().await;
    let new = b.inbox.packets().split_off(before);
    [b"alone".to_vec(), b"all".to_vec()].map(|packet| new.contains(&packet))
}

#[tokio::test(start_paused = true)]
async fn deafness_is_one_way_and_lasts_until_the_needed_part_is_rebuilt() {
    let network = FaultyNetwork::new(1, Faults::none());
    let a = Member::attach(&network, "a").await;
    let b = Member::attach(&network, "b").await;
    let c = Member::attach(&network, "c").await;
    for until in [Heal::Publisher, Heal::Session] {
        for broadcasts_arrive in [true, false] {
            network.deafen(&a.id, &b.id, Deafness { until, broadcasts_arrive });
            let deaf = [false, broadcasts_arrive];
            assert_eq!(arrives(&a, &b).await, deaf);
            for (from, to) in [(&b, &a), (&a, &c), (&c, &b)] {
                assert_eq!(arrives(from, to).await, [true; 2]);
            }
            // Neither ends it what ends a partition, nor what is done on another way.
            network.heal();
            a.wire.heal(&c.id, Heal::Publisher);
            b.wire.heal(&a.id, Heal::Publisher);
            c.wire.heal(&b.id, Heal::Session);
            assert_eq!(arrives(&a, &b).await, deaf);
            a.wire.heal(&b.id, Heal::Publisher);
            let ends = until == Heal::Publisher;
            assert_eq!(network.is_deaf(&a.id, &b.id), !ends);
            assert_eq!(arrives(&a, &b).await, [ends, ends || broadcasts_arrive]);
            a.wire.heal(&b.id, Heal::Session);
            assert_eq!(arrives(&a, &b).await, [true; 2]);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn deafness_ends_with_the_session_of_either_end() {
    let network = FaultyNetwork::new(1, Faults::none());
    let a = Member::attach(&network, "a").await;
    let b = Member::attach(&network, "b").await;
    let deafness = Deafness { until: Heal::Session, broadcasts_arrive: false };
    network.deafen(&a.id, &b.id, deafness);
    b.wire.heal(&a.id, Heal::Session);
    assert_eq!(arrives(&a, &b).await, [true; 2]);
    network.deafen(&a.id, &b.id, deafness);
    drop(b);
    let b = Member::attach(&network, "b").await;
    assert_eq!(arrives(&a, &b).await, [true; 2]);
}

#[tokio::test(start_paused = true)]
async fn a_packet_in_flight_over_a_restart_reaches_the_new_inbox() {
    let second = Duration::from_secs(1);
    let network = FaultyNetwork::new(1, Faults { delay_min: second, delay_max: second, ..Faults::none() });
    let a = Member::attach(&network, "a").await;
    let before = Member::attach(&network, "b").await;
    a.wire.send(&node("b"), b"late".to_vec());
    drop(before);
    let after = Member::attach(&network, "b").await;
    settle().await;
    assert!(after.inbox.has(b"late"));
}
