//! Versions and patches: what a start takes, what an open session stays with, and what waits for another release.

use std::sync::Arc;
use std::time::Duration;

use accompanist::SessionLookupError;
use accompanist::contract::{BoxFuture, Change, Inbox, Space, Store, Transport};
use accompanist::id::{InstanceId, RoleIndex};
use accompanist::message::{Fingerprint, encode};
use accompanist::prelude::*;
use accompanist::transport::LocalNetwork;
use accompanist_core::frame::Packet;
use tokio::sync::watch;

use crate::releases::Release::{All, Both, One, Patched as WithPatch, Plain as WithoutPatch, Two};
use crate::releases::{
    First, Fourth, Patched, Plain, Release, Second, Sites, Third, all_marks, open_everywhere, open_orders,
};
use crate::rogue::{Recorder, Sent};
use crate::support::{TestNode, node_id, quick, until, within};
use crate::trade::{Front, KEPT, Tally, deal};

type Local = Sites<LocalNetwork>;

fn refs(nodes: &[TestNode; 3]) -> [&Node; 3] {
    [&nodes[0], &nodes[1], &nodes[2]]
}

async fn stop(nodes: [TestNode; 3]) {
    for node in &nodes {
        within(node.shutdown()).await;
    }
}

/// Starts an order with the latest version, waits for its end, and says which version it ran, the same at all roles.
async fn order(nodes: &[TestNode; 3], id: u32) -> u32 {
    let session = within(nodes[1].start(Second, deal(id))).await.unwrap();
    let version = within(session.settled()).await.unwrap();
    assert_eq!(all_marks(refs(nodes), id).await, [version]);
    version
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_session_stays_on_its_version_while_others_run_the_next() {
    let sites = Local::default();
    let nodes = sites.start_all([One; 3]).await;
    sites.outside.set_gate(false);
    let first = within(nodes[1].start(First, deal(1)).key("k")).await.unwrap().id();
    within(sites.outside.asked_times(1)).await;
    stop(nodes).await;

    let nodes = sites.start_all([Both; 3]).await;
    let second = within(nodes[1].start(Second, deal(2))).await.unwrap();
    within(sites.outside.asked_times(3)).await; // The first one's back has asked again.
    open_everywhere(&nodes, |open| *open == [[1, 1]; 3]).await;
    sites.outside.set_gate(true);
    let again = within(nodes[1].start(Second, deal(1)).key("k")).await.unwrap();
    assert_eq!((again.id(), within(again.settled()).await.unwrap()), (first, 1));
    assert_eq!(within(second.settled()).await.unwrap(), 2);
    assert_eq!([all_marks(refs(&nodes), 1).await, all_marks(refs(&nodes), 2).await], [[1], [2]]);
    assert_eq!(sites.outside.total(), Tally { done: 2, undone: 0 });
    for node in &nodes {
        node.is_idle().await;
        assert_eq!(within(open_orders(node)).await, [0, 0]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_takes_the_highest_version_of_all_its_cast() {
    for (releases, version) in [
        ([One, Both, Both], 1),
        ([Both, Both, One], 1),
        ([Both, Both, Both], 2),
        ([Two, Both, Both], 2),
        ([Both, Two, Two], 2),
    ] {
        let sites = Local::default();
        let nodes = sites.start_all(releases).await;
        for id in 1..5 {
            assert_eq!(order(&nodes, id).await, version, "{releases:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_of_other_types_or_from_another_role_is_passed_over() {
    let sites = Local::default();
    let nodes = sites.start_all([All; 3]).await;
    assert_eq!(order(&nodes, 1).await, 2);
    let third = within(nodes[1].start(Third, deal(2)).key("k")).await.unwrap();
    assert_eq!(within(third.settled()).await.unwrap(), "three");
    let fourth = within(nodes[2].start(Fourth, deal(3))).await.unwrap();
    assert_eq!(within(fourth.settled()).await.unwrap(), 4);
    let elsewhere = within(nodes[1].start(Fourth, deal(3))).await.unwrap_err();
    assert!(matches!(elsewhere, StartError::NotPlayedHere { role: "side" }), "{elsewhere}");
    // A key that names a session of other types, while it is open and after.
    let other = within(nodes[1].start(Second, deal(2)).key("k")).await.unwrap_err();
    assert!(matches!(other, StartError::OtherVersion { version: 2, found: 3, .. }), "{other}");
    let other = within(nodes[1].session::<Second>(third.id())).await.unwrap_err();
    assert!(matches!(other, SessionLookupError::OtherVersion { found: 3, asked: 2, .. }), "{other}");
    let known = within(nodes[1].session::<Third>(third.id())).await.unwrap();
    assert_eq!((within(known.settled()).await.unwrap(), known.version()), ("three".to_owned(), Some(3)));
}

/// Between the claim and the opening of a session a node may lose power, and come back with another release.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_was_claimed_for_another_version_begins_with_one_like_it() {
    let sites = Local::default();
    let name = SessionId::keyed("order", "k");
    // As the first version's start claims it: its initiator has the place 1, the second's the place 0.
    let id = InstanceId { session: name.under_key(7), role: RoleIndex(1) };
    let (by_key, by_instance) = ([b"k", &name.as_bytes()[..]].concat(), [b"s", &id.to_bytes()[..]].concat());
    let input = Fingerprint::of(&encode(&deal(1)).unwrap().into());
    let claim = |key, value| Change { space: Space::Keys, key, value: Some(value) };
    let mut store = sites.disks[1].open().unwrap();
    store
        .apply(vec![
            claim(by_key.clone(), [&id.to_bytes()[..], &input.0.to_be_bytes()].concat()),
            claim(by_instance, by_key),
        ])
        .unwrap();
    store.sync().unwrap();
    drop(store);

    let nodes = sites.start_all([Both; 3]).await;
    let session = within(nodes[1].start(Second, deal(1)).key("k")).await.unwrap();
    assert_eq!((session.id(), within(session.settled()).await.unwrap()), (id.session, 1));
    assert_eq!(all_marks(refs(&nodes), 1).await, [1]);
    let next = within(nodes[1].start(Second, deal(2)).key("l")).await.unwrap();
    assert_eq!(within(next.settled()).await.unwrap(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_without_a_common_version_lists_the_versions_of_each_node() {
    let sites = Local::default();
    let back = sites.start(0, Two).await;
    let hasty = Settings { cast_wait_max: Duration::from_millis(20), ..quick() };
    let front = TestNode::start(sites.builder(1, Both).settings(hasty)).await;
    let told = within(async {
        loop {
            match front.start(Second, deal(1)).await.unwrap_err() {
                StartError::NobodyPlays { .. } => {} // It has not heard of the back yet.
                told => return told,
            }
        }
    })
    .await;
    let text = "version 2: no node is known that plays role `side` and takes new sessions; \
                version 1: role `back` is played by node `back`, which offers version 2";
    assert!(told.to_string().contains(text), "{told}");
    let StartError::NoCommonVersion { name: "order", missing } = told else { panic!("{told}") };
    assert_eq!([missing[0].version, missing[1].version], [2, 1]);
    within(front.shutdown()).await;

    // Somebody comes while a start waits.
    let front = sites.start(1, Both).await;
    let starting = {
        let front = Node::clone(&front);
        tokio::spawn(async move { front.start(Second, deal(1)).await.unwrap().settled().await })
    };
    let side = sites.start(2, Two).await;
    assert_eq!(within(starting).await.unwrap().unwrap(), 2);
    for node in [&back, &side] {
        node.is_idle().await;
    }
}

/// Runs an invoice with the latest patches, and says which branch it took, the same at all roles.
async fn invoice(nodes: [&Node; 3], id: u32) -> u32 {
    let session = within(nodes[1].start(Patched, deal(id))).await.unwrap();
    let version = within(session.settled()).await.unwrap();
    assert_eq!(all_marks(nodes, id).await, [version]);
    version
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_runs_with_the_patches_that_all_its_cast_knew_when_it_began() {
    let sites = Local::default();
    let nodes = sites.start_all([WithoutPatch; 3]).await;
    sites.outside.set_gate(false);
    within(nodes[1].start(Plain, deal(1)).key("before")).await.unwrap();
    within(sites.outside.asked_times(1)).await;
    stop(nodes).await;

    // Some have it: the session is begun without.
    let nodes = sites.start_all([WithPatch, WithPatch, WithoutPatch]).await;
    within(nodes[1].start(Patched, deal(2)).key("mixed")).await.unwrap();
    within(sites.outside.asked_times(3)).await;
    stop(nodes).await;

    let nodes = sites.start_all([WithPatch; 3]).await;
    sites.outside.set_gate(true);
    for (key, id) in [("before", 1), ("mixed", 2)] {
        let session = within(nodes[1].start(Patched, deal(id)).key(key)).await.unwrap();
        assert_eq!(within(session.settled()).await.unwrap(), 1, "{key}");
        assert_eq!(all_marks(refs(&nodes), id).await, [1]);
    }
    // What the side offered in its life before is known; what it offers now comes soon.
    let mut id = 3;
    while invoice(refs(&nodes), id).await != 2 {
        id += 1;
        assert!(id < 10_000, "the side's patch never came");
    }
    assert_eq!(invoice(refs(&nodes), id + 1).await, 2);
    assert_eq!(sites.outside.total(), Tally { done: id + 1, undone: 0 });
}

/// One session is open at all three nodes; the node `index` goes back to `earlier`, and comes again with `later`.
async fn waits_at(index: usize, later: Release, earlier: Release, missing: &str) {
    let sites = Local::default();
    let mut nodes = sites.start_all([later; 3]).await;
    sites.outside.set_gate(false);
    let patched = later == WithPatch;
    let start = async |front: &Node| {
        if patched {
            front.start(Patched, deal(1)).key("k").await.map(settling)
        } else {
            front.start(Second, deal(1)).key("k").await.map(settling)
        }
    };
    let session = within(start(&nodes[1])).await.unwrap();
    within(sites.outside.asked_times(1)).await;
    within(async {
        for node in &nodes {
            while node.operator().open_versions().await.unwrap().is_empty() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    })
    .await;
    within(nodes[index].shutdown()).await;

    nodes[index] = sites.start(index, earlier).await;
    let stopped = nodes[index].stopped().await;
    assert_eq!((stopped.len(), stopped[0].session), (1, session.0));
    let reason = format!("{missing} is not known here: it waits for a release that has it");
    assert!(stopped[0].reason.contains(&reason), "{stopped:?}");
    sites.outside.set_gate(true);
    if index == 1 {
        let told = match earlier {
            One => within(within(nodes[1].start(First, deal(1)).key("k")).await.unwrap().settled()).await,
            _ => within(within(nodes[1].start(Plain, deal(1)).key("k")).await.unwrap().settled()).await,
        };
        assert!(matches!(&told, Err(SessionError::Stopped { reason: told, .. }) if told.contains(&reason)), "{told:?}");
    }
    within(nodes[index].shutdown()).await;

    nodes[index] = sites.start(index, later).await;
    let again = within(start(&nodes[1])).await.unwrap();
    assert_eq!((again.0, within(again.1).await.unwrap()), (session.0, 2));
    assert_eq!((all_marks(refs(&nodes), 1).await, sites.outside.total()), (vec![2], KEPT));
    for node in &nodes {
        node.is_idle().await;
    }
}

type Settling = (SessionId, BoxFuture<'static, Result<u32, SessionError>>);

fn settling<C: Choreography<Output = At<Front, u32>>>(session: Session<C>) -> Settling {
    (session.id(), Box::pin(async move { session.settled().await }))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_of_a_version_that_a_node_has_no_more_is_listed_and_waits() {
    for index in 0..3 {
        waits_at(index, Both, One, "choreography `order` version 2").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_with_a_patch_that_a_node_has_no_more_is_listed_and_waits() {
    for index in 0..3 {
        waits_at(index, WithPatch, WithoutPatch, "patch `older` of `invoice` version 1").await;
    }
}

/// How many packets with frames were sent to a node.
fn with_frames(recorder: &Recorder, to: &str) -> usize {
    let packets = recorder.packets.lock().unwrap();
    let sent = packets.iter().filter(|sent| sent.to.as_str() == to);
    sent.filter(|sent| !Packet::peek(&sent.bytes).unwrap().frames.is_empty()).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_a_node_cannot_begin_is_kept_for_it_by_the_others() {
    let sites = Sites::<Recorder>::default();
    let [back, front, side] = sites.start_all([Both; 3]).await;
    assert_eq!(within(within(front.start(Second, deal(1))).await.unwrap().settled()).await.unwrap(), 2);
    within(side.shutdown()).await;
    let session = within(front.start(Second, deal(2))).await.unwrap();
    within(sites.outside.asked_times(2)).await; // The back is in it.

    let side = sites.start(2, One).await;
    let before = with_frames(&sites.network, "side");
    until("some tries", || with_frames(&sites.network, "side") > before + 10).await;
    side.is_idle().await;
    assert_eq!((within(open_orders(&side)).await, side.operator().stopped_sessions().len()), ([0, 0], 0));
    // It plays others meanwhile.
    within(async {
        while front.start(Second, deal(3)).await.unwrap().version() != Some(1) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    within(side.shutdown()).await;

    let side = sites.start(2, Both).await;
    assert_eq!(within(session.settled()).await.unwrap(), 2);
    assert_eq!(all_marks([&back, &front, &side], 2).await, [2]);
    for node in [&back, &front, &side] {
        node.is_idle().await;
    }
}

/// Notes what is acknowledged.
struct Acks(watch::Sender<Vec<u64>>);

impl Inbox for Acks {
    fn receive(&self, _: &NodeId, packet: &[u8]) {
        let acks = Packet::peek(packet).unwrap().acks;
        self.0.send_modify(|known| known.extend(acks.into_iter().flat_map(|(_, numbers)| numbers)));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn late_frames_of_a_version_that_was_given_up_are_acknowledged() {
    let sites = Sites::<Recorder>::default();
    let nodes = sites.start_all([One; 3]).await;
    let session = within(nodes[1].start(First, deal(1))).await.unwrap();
    assert_eq!(within(session.settled()).await.unwrap(), 1);
    for node in &nodes {
        node.is_idle().await;
    }
    stop(nodes).await;

    let side = sites.start(2, Two).await;
    let (sender, mut acks) = watch::channel(Vec::new());
    let wire = sites.network.network.attach(node_id("front"), Arc::new(Acks(sender))).await.unwrap();
    let packets = sites.network.packets.lock().unwrap().clone();
    let mut late = Vec::new();
    for Sent { bytes, .. } in packets.iter().filter(|sent| sent.from.as_str() == "front" && sent.to.as_str() == "side")
    {
        let Packet { frames, .. } = Packet::peek(bytes).unwrap();
        if frames.iter().any(|(_, frame)| frame.header.is_some()) {
            late.extend(frames.iter().map(|(number, _)| *number).filter(|number| *number > 0));
        } else if !frames.is_empty() {
            continue;
        }
        // What introduces the front, too.
        wire.send(&node_id("side"), bytes.clone());
    }
    assert!(!late.is_empty());
    within(acks.wait_for(|acks| late.iter().all(|number| acks.contains(number)))).await.unwrap();
    side.is_idle().await;
}
