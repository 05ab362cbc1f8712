//! The Zenoh network, over explicit TCP addresses of this machine. Next: `zenoh_errors.rs`.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use accompanist_transport::{ZenohConfig, ZenohTransport};

use crate::contract::{Ends, keeps_the_contract};
use crate::recorder::Member;

/// An address that nobody listens on. Below the range from which the system takes ports for
/// outgoing connections, so that none of those takes it before it is used.
pub(crate) fn free_endpoint() -> String {
    static PORT_NEXT: AtomicU16 = AtomicU16::new(0);
    let start = u16::try_from(std::process::id() % 10_000).unwrap();
    loop {
        let port = 20_000 + (start + PORT_NEXT.fetch_add(1, Ordering::Relaxed)) % 10_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return format!("tcp/127.0.0.1:{port}");
        }
    }
}

pub(crate) async fn open(config: ZenohConfig) -> ZenohTransport {
    ZenohTransport::open(config).await.expect("zenoh opens")
}

/// Three sessions; the second and third know only the first, and find each other by gossip.
async fn ends() -> Ends {
    let first = free_endpoint();
    let mut ends: Vec<Arc<dyn accompanist_core::contract::Transport>> = Vec::new();
    ends.push(Arc::new(open(ZenohConfig::new().listen(&first)).await));
    for _ in 0..2 {
        ends.push(Arc::new(open(ZenohConfig::new().listen(free_endpoint()).connect(&first)).await));
    }
    ends.try_into().ok().expect("three ends")
}

keeps_the_contract!(tokio::test(flavor = "multi_thread", worker_threads = 2), ends().await);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_know_only_a_third_find_each_other() {
    let ends = ends().await;
    let b = Member::attach(&*ends[1], "b").await;
    let c = Member::attach(&*ends[2], "c").await;
    b.send_until_received(&c, b"hello").await;
    c.send_until_received(&b, b"hello").await;
}

/// Long after they would have found each other: the third has talked to each of them a hundred times.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_gossip_nodes_are_connected_as_they_were_told() {
    let first = free_endpoint();
    let common = open(ZenohConfig::new().gossip(false).listen(&first)).await;
    let quiet = || ZenohConfig::new().gossip(false).listen(free_endpoint()).connect(&first);
    let (one, other) = (open(quiet()).await, open(quiet()).await);
    let a = Member::attach(&common, "a").await;
    let (b, c) = (Member::attach(&one, "b").await, Member::attach(&other, "c").await);
    for number in 0..100_u8 {
        a.send_until_received(&b, &[b'b', number]).await;
        a.send_until_received(&c, &[b'c', number]).await;
        b.wire.send(&c.id, b"to the third".to_vec());
    }
    assert!(!c.inbox.has(b"to the third"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_nodes_may_share_a_session() {
    let session = open(ZenohConfig::new().listen(free_endpoint())).await;
    let a = Member::attach(&session, "a").await;
    let b = Member::attach(&session, "b").await;
    a.send_until_received(&b, b"for b").await;
    a.broadcast_until_received(&b, b"to all").await;
    assert!(a.inbox.packets().is_empty());
}

/// Two processes, each with a node of the same name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_of_one_name_receive_each_other() {
    let ends = ends().await;
    let [one, other] = [Member::attach(&*ends[0], "a").await, Member::attach(&*ends[1], "a").await];
    one.broadcast_until_received(&other, b"of one").await;
    other.broadcast_until_received(&one, b"of the other").await;
    assert_eq!(one.inbox.senders(b"of the other"), [one.id.clone()].into());
    assert!(!one.inbox.has(b"of one") && !other.inbox.has(b"of the other"), "each hears the other one, not itself");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn namespaces_are_apart() {
    let endpoint = free_endpoint();
    let one = open(ZenohConfig::new().listen(&endpoint).namespace("one")).await;
    let other = open(ZenohConfig::new().listen(free_endpoint()).connect(&endpoint).namespace("other")).await;
    let a = Member::attach(&one, "a").await;
    let here = Member::attach(&one, "b").await;
    let there = Member::attach(&other, "b").await;
    let beside = Member::attach(&other, "c").await;
    a.send_until_received(&here, b"mine").await;
    beside.send_until_received(&there, b"yours").await;
    assert!(!there.inbox.has(b"mine") && !here.inbox.has(b"yours"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_is_not_up_yet_is_reached_when_it_is() {
    let endpoint = free_endpoint();
    let early = open(ZenohConfig::new().listen(free_endpoint()).connect(&endpoint)).await;
    let a = Member::attach(&early, "a").await;
    let late = open(ZenohConfig::new().listen(&endpoint)).await;
    let b = Member::attach(&late, "b").await;
    a.send_until_received(&b, b"hello").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn packets_flow_again_after_the_listening_peer_was_opened_again() {
    let endpoint = free_endpoint();
    let listening = open(ZenohConfig::new().listen(&endpoint)).await;
    let connecting = open(ZenohConfig::new().listen(free_endpoint()).connect(&endpoint)).await;
    let a = Member::attach(&connecting, "a").await;
    let b = Member::attach(&listening, "b").await;
    a.send_until_received(&b, b"before").await;

    drop(b);
    listening.close().await;
    a.wire.send(&a.id, b"to myself, while nobody is there".to_vec());
    let listening = open(ZenohConfig::new().listen(&endpoint)).await;
    let b = Member::attach(&listening, "b").await;
    a.send_until_received(&b, b"after").await;
    b.send_until_received(&a, b"back").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_packets_do_not_stop_small_ones() {
    let ends = ends().await;
    let a = Member::attach(&*ends[0], "a").await;
    let b = Member::attach(&*ends[1], "b").await;
    let large = vec![7; a.wire.packet_bytes_max()];
    // More than the queue takes: the rest is dropped, and nothing blocks.
    for _ in 0..100 {
        a.wire.send(&b.id, large.clone());
    }
    a.send_until_received(&b, b"small").await;
    a.send_until_received(&b, &large).await;
}

/// Zenoh itself would panic here: its blocking calls are kept off the runtime.
#[tokio::test]
async fn a_current_thread_runtime_will_do() {
    let endpoint = free_endpoint();
    let one = open(ZenohConfig::new().listen(&endpoint)).await;
    let other = open(ZenohConfig::new().listen(free_endpoint()).connect(&endpoint)).await;
    let a = Member::attach(&one, "a").await;
    let b = Member::attach(&other, "b").await;
    a.send_until_received(&b, b"hello").await;
    a.send_until_received(&b, &vec![1; 100_000]).await;
    drop((a, b));
    one.close().await;
    // And the other is closed by dropping it.
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_network_takes_packets_in_silence() {
    let session = open(ZenohConfig::new().listen(free_endpoint())).await;
    let a = Member::attach(&session, "a").await;
    session.close().await;
    session.close().await;
    a.wire.send(&a.id, b"lost".to_vec());
    a.wire.broadcast(vec![0; 100_000]);
    assert!(a.inbox.packets().is_empty());
}
