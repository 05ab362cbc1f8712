//! What comes late, when a role has closed or has forgotten the session already: it begins nothing, and holds nothing
//! up.

use std::collections::BTreeSet;
use std::time::Duration;

use accompanist::id::RoleIndex;
use accompanist::prelude::*;
use accompanist_core::frame::{Body, Frame, Outcome, Packet};

use crate::paused::{MINUTE, Parcel, PausedCluster, Round, SYNC, count, none, parcel_once, short};
use crate::support::{node_id, until, within};
use crate::trade::{Tally, deal};

#[tokio::test(start_paused = true)]
async fn late_duplicates_begin_nothing_below_the_least_age() {
    let cluster = PausedCluster::new();
    let (front, back, side) = (cluster.front(short()).await, cluster.back(short()).await, cluster.side(short()).await);
    let session = within(front.start(Round, deal(1))).await.unwrap();
    assert_eq!(within(session.settled()).await.unwrap(), 100);
    for node in [&front, &back, &side] {
        node.is_idle().await;
    }
    for _ in 0..9 {
        tokio::time::sleep(MINUTE).await;
        cluster.tap.repeat();
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!((cluster.outside.asked(), back.operator().instances()), (1, 0));
    tokio::time::sleep(2 * MINUTE).await;
    assert_eq!([count(&front), count(&back), count(&side)], [0, 0, 0]);
}

/// One role has not heard the close when another one has closed and forgotten: the initiator may not ask that one
/// again.
#[tokio::test(start_paused = true)]
async fn a_role_that_has_forgotten_is_not_asked_again() {
    let cluster = PausedCluster::new();
    let (front, back, side) = (cluster.front(none()).await, cluster.back(none()).await, cluster.side(none()).await);
    cluster.tap.closes_lost.lock().unwrap().insert("side");
    let session = within(front.start(Round, deal(1)).key("k")).await.unwrap();
    assert_eq!(within(session.output()).await.unwrap(), 100);
    back.is_idle().await;
    until("nothing left at the back", || count(&back) == 0).await;
    assert_eq!((front.open().await, side.open().await), (1, 1));
    // Not by a life that has forgotten what it heard, either.
    cluster.disks["front"].crash(0);
    within(front.kill()).await;
    let front = cluster.front(none()).await;
    tokio::time::sleep(MINUTE).await;
    assert_eq!((cluster.outside.asked(), back.operator().instances()), (1, 0), "the back plays its part again");
    cluster.tap.closes_lost.lock().unwrap().clear();
    for node in [&front, &back, &side] {
        node.is_idle().await;
    }
    assert_eq!((cluster.outside.asked(), cluster.outside.total()), (1, Tally { done: 1, undone: 0 }));
    until("nothing left at all", || [&front, &back, &side].iter().all(|node| count(node) == 0)).await;
}

/// A close for what is forgotten is acknowledged: otherwise its sender could never close.
#[tokio::test(start_paused = true)]
async fn a_close_that_is_repeated_to_a_role_that_has_forgotten_ends_the_session() {
    let cluster = PausedCluster::new();
    let (front, back, side) = (cluster.front(none()).await, cluster.back(none()).await, cluster.side(none()).await);
    cluster.tap.closes_lost.lock().unwrap().insert("side");
    let session = within(front.start(Round, deal(1))).await.unwrap();
    within(session.output()).await.unwrap();
    until("nothing left at the back", || back.operator().instances() == 0 && count(&back) == 0).await;
    cluster.disks["front"].crash(0);
    within(front.kill()).await;
    cluster.tap.closes_lost.lock().unwrap().clear();
    let front = cluster.front(none()).await;
    let again = within(front.session::<Round>(session.id())).await.unwrap();
    assert_eq!(within(again.settled()).await.unwrap(), 100);
    side.is_idle().await;
    assert_eq!(cluster.outside.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn messages_of_an_aborted_session_are_not_sent_again() {
    let cluster = PausedCluster::new();
    let (front, back) = (cluster.front(none()).await, cluster.back(none()).await);
    assert_eq!(parcel_once(&front).await, [7]);
    within(back.shutdown()).await;
    let session = within(front.start(Parcel, 1)).await.unwrap();
    let delivers = |body: &Body| matches!(body, Body::Deliver { .. });
    until("a message", || cluster.tap.sent(delivers) > 3).await;
    assert!(within(session.cancel("as the test wants")).await.unwrap());
    until("the abort", || cluster.tap.sent(|body| matches!(body, Body::Abort(_))) > 0).await;
    cluster.tap.clear();
    until("the abort again", || cluster.tap.sent(|body| matches!(body, Body::Abort(_))) > 3).await;
    assert_eq!(cluster.tap.sent(delivers), 0);
    let _back = cluster.back(none()).await;
    assert!(matches!(within(session.settled()).await, Err(SessionError::Aborted(_))));
}

#[tokio::test(start_paused = true)]
async fn a_closed_role_does_not_resend_its_last_frame() {
    let cluster = PausedCluster::new();
    let (front, back) = (cluster.front(none()).await, cluster.back(none()).await);
    *cluster.tap.dones_unheard.lock().unwrap() = Some(BTreeSet::new());
    assert_eq!(parcel_once(&front).await, [7]);
    front.is_idle().await;
    back.is_idle().await;
    assert!(cluster.tap.sent(|body| matches!(body, Body::Done(_))) > 0);
    tokio::time::sleep(SYNC).await;
    cluster.tap.clear();
    tokio::time::sleep(MINUTE).await;
    assert_eq!(cluster.tap.sent(|_| true), 0);
}

#[tokio::test(start_paused = true)]
async fn frames_of_an_end_begin_nothing() {
    let cluster = PausedCluster::new();
    let (front, back) = (cluster.front(none()).await, cluster.back(none()).await);
    assert_eq!(parcel_once(&front).await, [7]);
    front.is_idle().await;
    until("nothing left at the back", || back.operator().instances() == 0 && count(&back) == 0).await;
    let sent = cluster.tap.sent.lock().unwrap().clone();
    let epoch = sent.iter().find(|sent| sent.from.as_str() == "front").unwrap().packet.epoch;
    let mut frames = sent.iter().flat_map(|sent| &sent.packet.frames).map(|(_, frame)| frame);
    let first = frames.find(|frame| frame.header.is_some()).unwrap();
    let (session, header) = (first.session, first.header.clone());
    let finished = Outcome::Finished;
    let turns = Body::Turns { finals: vec![], aborted: true };
    for (number, body) in
        (1..).zip([Body::Close(finished.clone()), Body::Done(finished), turns, Body::Compensating(None)])
    {
        let (from, to) = (RoleIndex(1), RoleIndex(0));
        let frame = Frame { session, from, to, header: header.clone(), body };
        let packet = Packet { frames: vec![(number << 40, frame)], ..Packet::new(epoch) };
        let [from, to] = ["front", "back"].map(node_id);
        cluster.tap.network.inject(&from, Some(&to), &packet.to_bytes(&from, Some(&to)).unwrap());
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!((back.operator().instances(), count(&back)), (0, 0));
    }
}
