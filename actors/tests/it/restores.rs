//! A node on an older copy of its store: refused on both sides, until an operator accepts it; then its sessions go on.

use std::sync::Arc;

use accompanist::contract::StoreError;
use accompanist::prelude::*;
use accompanist::store::MemoryDisk;
use accompanist::transport::LocalNetwork;
use accompanist::{Durability, PeerStore};

use crate::support::{TestNode, all_roles, on_disk, until, within};
use crate::trade::{Back, Outside, Trade, deal};
use crate::twins::{Place, orders, refusal, store_of};

#[tokio::test]
async fn an_older_copy_is_refused_on_both_sides_and_does_nothing() {
    let place = Place::default();
    let (front, back) = (place.front().await, place.back().await);
    orders(&front, 1..6).await;
    back.is_idle().await;
    let copy = place.back.copy();
    orders(&front, 6..26).await;
    within(back.shutdown()).await;
    let error = refusal(place.back_on(&copy)).await;
    assert!(matches!(&error, StoreError::GoneBack { by, .. } if by == "front"), "{error}");
    let text = error.to_string();
    assert!(text.contains("accept_restore") && text.contains("docs/operators.md") && text.contains("batch"), "{text}");
    assert!(matches!(store_of(&front, "back"), PeerStore::GoneBack { .. }), "{:?}", store_of(&front, "back"));
    place.is_done_once(&front, 1..26).await;
    // It does not start again by itself, also when nobody is there to say why.
    let alone = on_disk("back", &copy, LocalNetwork::new()).role(Back, place.outside.clone()).choreography(Trade);
    assert!(matches!(within(alone.start()).await, Err(NodeError::Store(StoreError::GoneBack { .. }))));
    // The store that is known goes on.
    let back = place.back().await;
    orders(&front, 26..28).await;
    assert_eq!(store_of(&front, "back"), PeerStore::Known);
    place.is_done_once(&front, 1..28).await;
    within(back.shutdown()).await;
}

#[tokio::test]
async fn an_older_copy_is_accepted_once_an_operator_says_so() {
    let place = Place::default();
    let (front, back) = (place.front().await, place.back().await);
    orders(&front, 1..3).await;
    back.is_idle().await;
    let copy = place.back.copy();
    orders(&front, 3..9).await;
    within(back.shutdown()).await;
    // Without being refused first, as one does who knows what he does.
    let back = TestNode::start(place.back_on(&copy).accept_restore()).await;
    orders(&front, 9..12).await;
    place.is_done_once(&front, 1..12).await;
    within(back.shutdown()).await;
    // It is the known one now: without a word in its next life; and the one that was known before is refused.
    let again = place.back_on(&copy);
    let back = TestNode::start(again).await;
    orders(&front, 12..14).await;
    within(back.shutdown()).await;
    assert!(matches!(refusal(place.back_on(&place.back)).await, StoreError::GoneBack { .. }));
    place.is_done_once(&front, 1..14).await;
}

/// What the front knows is on its disk: a fleet that was down as a whole notices, too.
#[tokio::test]
async fn an_older_copy_is_refused_by_peers_that_were_started_again() {
    let place = Place::default();
    let (front, back) = (place.front().await, place.back().await);
    orders(&front, 1..3).await;
    within(back.shutdown()).await;
    let copy = place.back.copy();
    let back = place.back().await;
    orders(&front, 3..6).await;
    within(back.shutdown()).await;
    // Opened once more, which is written down by the front at once.
    let back = place.back().await;
    orders(&front, 6..7).await;
    within(back.shutdown()).await;
    within(front.shutdown()).await;
    let front = place.front().await;
    assert!(matches!(refusal(place.back_on(&copy)).await, StoreError::GoneBack { .. }));
    place.is_done_once(&front, 1..7).await;
}

/// The back is lost in the middle of the third order's step, and started from the copy: the step is done once.
async fn goes_on_from(place: &Place, back: TestNode, copy: &MemoryDisk, session: Session<Trade>) {
    within(back.kill()).await;
    drop(back);
    let back = TestNode::start(place.back_on(copy).accept_restore()).await;
    place.outside.set_gate(true);
    assert_eq!(within(session.settled()).await.unwrap(), 303);
    assert_eq!(place.outside.total().done, 3, "its key is the same");
    within(back.shutdown()).await;
}

/// What the session needs is in the copy: it goes on, and nothing is done twice.
#[tokio::test]
async fn a_session_that_is_open_in_the_copy_goes_on() {
    let place = Place::default();
    let (front, back) = (place.front().await, place.back().await);
    orders(&front, 1..3).await;
    place.outside.set_gate(false);
    let session = within(front.start(Trade, deal(3))).await.unwrap();
    within(place.outside.asked_times(3)).await;
    let copy = place.back.copy();
    // The node goes on for a while.
    goes_on_from(&place, back, &copy, session).await;
}

/// It was begun after the copy, and its first message was acknowledged: that is sent again, and nothing is done twice.
#[tokio::test]
async fn a_session_that_was_begun_after_the_copy_is_begun_anew() {
    let place = Place::default();
    let (front, back) = (place.front().await, place.back().await);
    orders(&front, 1..3).await;
    back.is_idle().await;
    let copy = place.back.copy();
    place.outside.set_gate(false);
    let session = within(front.start(Trade, deal(3))).await.unwrap();
    within(place.outside.asked_times(3)).await;
    goes_on_from(&place, back, &copy, session).await;
}

/// It was closed at all others after the copy: it is lost here, and nobody asks for it.
#[tokio::test]
async fn a_session_that_is_closed_everywhere_is_lost_in_the_copy() {
    let place = Place::default();
    let (front, back) = (place.front().await, place.back().await);
    orders(&front, 1..3).await;
    back.is_idle().await;
    let copy = place.back.copy();
    orders(&front, 3..5).await;
    front.is_idle().await;
    within(back.shutdown()).await;
    let back = TestNode::start(place.back_on(&copy).accept_restore()).await;
    orders(&front, 5..6).await;
    back.is_idle().await;
    front.is_idle().await;
    until("what was closed in the copy", || back.operator().tombstones().is_some()).await;
    assert_eq!(back.operator().tombstones().unwrap().count, 3, "two of the copy, and one of later");
    place.is_done_once(&front, 1..6).await;
    within(back.shutdown()).await;
}

/// On disk, where a power cut is survived and a copy is made of files.
#[tokio::test]
async fn a_store_on_disk_knows_how_far_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let (store, outside) = (folder.path().join("store"), Arc::new(Outside::default()));
    let mut commits = Vec::new();
    for id in 1..4 {
        let opened = FjallStore::open(&store).unwrap().durability(Durability::Power);
        commits.push(opened.commits());
        let node = all_roles("home", opened, LocalNetwork::new(), &outside).choreography(Trade);
        let node = TestNode::start(node).await;
        orders(&node, id..id + 1).await;
        within(node.shutdown()).await;
    }
    assert!(commits.is_sorted_by(|one, other| one < other), "{commits:?}");
    let memory = MemoryDisk::default();
    let store = memory.open().unwrap();
    assert_eq!(accompanist::contract::Store::commits(&store), 1, "its format");
}
