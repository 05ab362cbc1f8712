//! What every network has to keep, as functions over three ends of one network. Next: `local.rs` for its use.
//!
//! The absence of a packet is never shown by waiting: a later one has to arrive first.

use std::sync::Arc;

use accompanist_core::contract::{Inbox, Transport, TransportError};

use crate::recorder::{Member, Recorder, node};

/// Three ends of one network: three sessions, or three times the same network in one process.
pub(crate) type Ends = [Arc<dyn Transport>; 3];

async fn members(ends: &Ends) -> [Member; 3] {
    [Member::attach(&*ends[0], "a").await, Member::attach(&*ends[1], "b").await, Member::attach(&*ends[2], "c").await]
}

pub(crate) async fn a_packet_reaches_only_the_node_it_is_for(ends: Ends) {
    let [a, b, c] = members(&ends).await;
    a.send_until_received(&b, b"for b").await;
    b.send_until_received(&a, b"for a").await;
    a.send_until_received(&c, b"for c").await;
    assert!(a.inbox.packets().iter().all(|packet| packet == b"for a"));
    assert!(b.inbox.packets().iter().all(|packet| packet == b"for b"));
    assert!(c.inbox.packets().iter().all(|packet| packet == b"for c"));
}

pub(crate) async fn a_broadcast_reaches_all_others(ends: Ends) {
    let [a, b, c] = members(&ends).await;
    a.broadcast_until_received(&b, b"to all").await;
    a.broadcast_until_received(&c, b"to all").await;
    b.send_until_received(&a, b"after").await;
    assert!(!a.inbox.has(b"to all"), "a broadcast came back to its sender");
}

pub(crate) async fn a_packet_comes_with_the_name_of_its_sender(ends: Ends) {
    let [a, b, c] = members(&ends).await;
    a.send_until_received(&c, b"of a").await;
    b.send_until_received(&c, b"of b").await;
    b.broadcast_until_received(&c, b"of b to all").await;
    // Small ones and large ones go different ways.
    let large = vec![7; 100_000];
    a.send_until_received(&c, &large).await;
    let senders = |packet: &[u8]| c.inbox.senders(packet).into_iter().collect::<Vec<_>>();
    assert_eq!([senders(b"of a"), senders(&large)], [[node("a")], [node("a")]]);
    assert_eq!([senders(b"of b"), senders(b"of b to all")], [[node("b")], [node("b")]]);
}

pub(crate) async fn sending_to_nobody_is_silent(ends: Ends) {
    let [a, b, c] = members(&ends).await;
    a.wire.send(&node("nobody"), b"lost".to_vec());
    let gone = b.id.clone();
    drop(b);
    a.wire.send(&gone, b"lost".to_vec());
    a.send_until_received(&c, b"after").await;
    assert!(!c.inbox.has(b"lost"));
}

pub(crate) async fn a_packet_of_the_largest_size_arrives(ends: Ends) {
    let [a, b, _c] = members(&ends).await;
    let packet: Vec<u8> = (0..a.wire.packet_bytes_max()).map(|at| u8::try_from(at % 251).unwrap()).collect();
    a.send_until_received(&b, &packet).await;
    a.broadcast_until_received(&b, &packet[1..]).await;
}

pub(crate) async fn a_packet_too_large_is_dropped(ends: Ends) {
    let [a, b, _c] = members(&ends).await;
    a.wire.send(&b.id, vec![1; a.wire.packet_bytes_max() + 1]);
    a.send_until_received(&b, b"after").await;
    assert!(b.inbox.packets().iter().all(|packet| packet == b"after"));
}

pub(crate) async fn detaching_stops_delivery_and_a_node_may_come_back(ends: Ends) {
    let [a, b, c] = members(&ends).await;
    a.send_until_received(&b, b"first").await;
    let (before, gone) = (Arc::clone(&b.inbox), b.id.clone());
    drop(b);
    a.wire.send(&gone, b"while away".to_vec());
    a.send_until_received(&c, b"after").await;

    let b = Member::attach(&*ends[1], "b").await;
    a.send_until_received(&b, b"second").await;
    assert!(!before.has(b"while away"), "a detached node got a packet");
    assert!(!before.has(b"second"), "a packet reached the inbox of before");
}

/// Only for one end: two processes that use one name cannot notice it.
pub(crate) async fn a_name_in_use_is_refused(ends: Ends) {
    let first = Member::attach(&*ends[0], "a").await;
    let again = ends[0].attach(node("a"), Arc::new(Recorder::default()) as Arc<dyn Inbox>).await;
    let error = again.err().expect("the name is taken");
    assert!(matches!(&error, TransportError::NameTaken(name) if *name == first.id), "{error}");

    drop(first);
    Member::attach(&*ends[0], "a").await;
}

/// Makes each function of the contract a test of the network that `$ends` opens.
macro_rules! keeps_the_contract {
    ($attribute:meta, $ends:expr) => {
        $crate::contract::keeps_the_contract! { $attribute, $ends,
            a_packet_reaches_only_the_node_it_is_for,
            a_broadcast_reaches_all_others,
            a_packet_comes_with_the_name_of_its_sender,
            sending_to_nobody_is_silent,
            a_packet_of_the_largest_size_arrives,
            a_packet_too_large_is_dropped,
            detaching_stops_delivery_and_a_node_may_come_back,
            a_name_in_use_is_refused,
        }
    };
    ($attribute:meta, $ends:expr, $($test:ident,)+) => {
        mod contract {
            use super::*;
            $(
                #[$attribute]
                async fn $test() {
                    $crate::contract::$test($ends).await;
                }
            )+
        }
    };
}
pub(crate) use keeps_the_contract;
