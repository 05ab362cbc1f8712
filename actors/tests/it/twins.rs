//! Two nodes of one name on two copies of one store: everybody who hears both notices, and both stop until one is
//! chosen.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use accompanist::contract::{BoxFuture, Inbox, StoreError, Transport, TransportError, Wire};
use accompanist::prelude::*;
use accompanist::store::MemoryDisk;
use accompanist::{NodeBuilder, PeerStore};

use crate::support::{TestNode, node_id, on_disk, until, within};
use crate::trade::{Back, Front, KEPT, Outside, Trade, deal, tally};

/// Who is attached, under a number of its own.
type Attached = (u64, NodeId, Arc<dyn Inbox>);

/// A network on which a name may be taken several times, as with Zenoh: what is sent to it arrives at all of them.
#[derive(Clone, Default)]
pub struct Commons {
    attached: Arc<Mutex<Vec<Attached>>>,
    /// Pairs that do not hear each other, by the order of their attaching.
    pub apart: Arc<Mutex<BTreeSet<(u64, u64)>>>,
    count: Arc<Mutex<u64>>,
}

struct CommonWire(Commons, u64, NodeId);

impl Transport for Commons {
    fn attach(&self, node: NodeId, inbox: Arc<dyn Inbox>) -> BoxFuture<'_, Result<Arc<dyn Wire>, TransportError>> {
        let number = {
            let mut count = self.count.lock().unwrap();
            *count += 1;
            *count
        };
        self.attached.lock().unwrap().push((number, node.clone(), inbox));
        Box::pin(std::future::ready(Ok(Arc::new(CommonWire(self.clone(), number, node)) as Arc<dyn Wire>)))
    }
}

impl Commons {
    /// The places of all that are attached under a name.
    pub fn places(&self, name: &str) -> Vec<u64> {
        let attached = self.attached.lock().unwrap();
        attached.iter().filter(|(_, node, _)| node.as_str() == name).map(|(number, ..)| *number).collect()
    }

    /// Who is attached at `place` says something in the name `from`.
    fn deliver(&self, place: u64, from: &NodeId, packet: &[u8], is_to: impl Fn(&NodeId) -> bool) {
        let inboxes: Vec<_> = {
            let (attached, apart) = (self.attached.lock().unwrap(), self.apart.lock().unwrap());
            let hears = |number: u64| number != place && !apart.contains(&(number.min(place), number.max(place)));
            let to = attached.iter().filter(|(number, node, _)| hears(*number) && is_to(node));
            to.map(|(_, _, inbox)| inbox.clone()).collect()
        };
        for inbox in &inboxes {
            inbox.receive(from, packet);
        }
    }
}

impl Wire for CommonWire {
    fn send(&self, to: &NodeId, packet: Vec<u8>) {
        self.0.deliver(self.1, &self.2, &packet, |node| node == to);
    }
    fn broadcast(&self, packet: Vec<u8>) {
        self.0.deliver(self.1, &self.2, &packet, |_| true);
    }
    fn packet_bytes_max(&self) -> usize {
        1 << 20
    }
}

impl Drop for CommonWire {
    fn drop(&mut self) {
        self.0.attached.lock().unwrap().retain(|(number, ..)| *number != self.1);
    }
}

/// A front and a back, whose disk may be copied.
#[derive(Default)]
pub struct Place {
    pub network: Commons,
    pub outside: Arc<Outside>,
    pub front: MemoryDisk,
    pub back: MemoryDisk,
}

impl Place {
    pub async fn front(&self) -> TestNode {
        let builder = on_disk("front", &self.front, self.network.clone()).role(Front, Arc::new(()));
        TestNode::start(builder.choreography(Trade)).await
    }

    pub fn back_on(&self, disk: &MemoryDisk) -> NodeBuilder {
        on_disk("back", disk, self.network.clone()).role(Back, self.outside.clone()).choreography(Trade)
    }

    pub async fn back(&self) -> TestNode {
        TestNode::start(self.back_on(&self.back)).await
    }

    /// Whether no order is done twice in the front's books, nor at the service.
    pub async fn is_done_once(&self, front: &Node, ids: std::ops::Range<u32>) {
        for id in ids.clone() {
            assert_eq!(tally(front, "dispatch", id).await, KEPT, "{id}");
        }
        assert_eq!(self.outside.asked(), u32::try_from(ids.len()).unwrap(), "a charge is done twice");
    }
}

pub async fn orders(front: &Node, ids: std::ops::Range<u32>) {
    for id in ids {
        let session = within(front.start(Trade, deal(id))).await.unwrap();
        assert_eq!(within(session.settled()).await.unwrap(), id * 101);
    }
}

/// The error that a node is refused with, at its start or soon after.
pub async fn refusal(builder: NodeBuilder) -> StoreError {
    let error = match within(builder.start()).await {
        Ok(node) => {
            let error = within(node.failed()).await;
            within(node.shutdown()).await;
            error
        }
        Err(error) => error,
    };
    match error {
        NodeError::Store(error) => error,
        error => panic!("{error}"),
    }
}

pub fn store_of(node: &Node, peer: &str) -> PeerStore {
    let peers = node.operator().peers();
    peers.iter().find(|known| known.node.as_str() == peer).map(|known| known.store).unwrap()
}

async fn two_owners(error: impl Future<Output = NodeError>) {
    let error = within(error).await;
    assert!(matches!(&error, NodeError::Store(StoreError::TwoOwners { .. })), "{error}");
    assert!(error.to_string().contains("accept_restore"), "{error}");
}

#[tokio::test]
async fn two_owners_on_copies_both_stop_until_one_is_chosen() {
    let place = Place::default();
    let (front, back) = (place.front().await, place.back().await);
    orders(&front, 1..6).await;
    back.is_idle().await;
    let copy = place.back.copy();
    // Both are as far: nothing but the number of the opening tells them apart.
    let failed = back.failed();
    let error = refusal(place.back_on(&copy)).await;
    assert!(matches!(&error, StoreError::TwoOwners { .. } | StoreError::GoneBack { .. }), "{error}");
    two_owners(failed).await;
    until("the front has noticed", || matches!(store_of(&front, "back"), PeerStore::TwoOwners { .. })).await;
    place.is_done_once(&front, 1..6).await;
    // Neither starts again by itself.
    for disk in [&place.back, &copy] {
        let error = match within(place.back_on(disk).start()).await {
            Err(NodeError::Store(error)) => error,
            other => panic!("{other:?}"),
        };
        assert!(matches!(&error, StoreError::TwoOwners { .. } | StoreError::GoneBack { .. }), "{error}");
    }
    let back = TestNode::start(place.back_on(&place.back).accept_restore()).await;
    orders(&front, 6..9).await;
    place.is_done_once(&front, 1..9).await;
    assert_eq!(store_of(&front, "back"), PeerStore::Known);
    // The other one is refused for good.
    assert!(matches!(refusal(place.back_on(&copy)).await, StoreError::TwoOwners { .. } | StoreError::GoneBack { .. }));
    orders(&front, 9..10).await;
    within(back.shutdown()).await;
}

/// Neither hears the other one, and the front hears both.
#[tokio::test]
async fn two_owners_cut_off_from_each_other_are_stopped_by_common_peers() {
    let place = Place::default();
    let (front, back) = (place.front().await, place.back().await);
    orders(&front, 1..6).await;
    back.is_idle().await;
    let copy = place.back.copy();
    let first = place.network.places("back")[0];
    // The next one to be attached.
    let second = *place.network.count.lock().unwrap() + 1;
    place.network.apart.lock().unwrap().insert((first, second));
    let failed = back.failed();
    let started = within(place.back_on(&copy).start()).await;
    let both = async {
        let one = within(failed).await;
        let other = match started {
            Ok(node) => within(node.failed()).await,
            Err(error) => error,
        };
        [one, other]
    };
    for error in both.await {
        let is_it = matches!(&error, NodeError::Store(StoreError::TwoOwners { .. } | StoreError::GoneBack { .. }));
        assert!(is_it, "{error}");
    }
    until("the front has noticed", || store_of(&front, "back") != PeerStore::Known).await;
    place.is_done_once(&front, 1..6).await;
}

/// Two that were started from one copy each: their openings have the same number.
#[tokio::test]
async fn a_fork_is_noticed_by_both() {
    let place = Place::default();
    let front = place.front().await;
    let back = place.back().await;
    orders(&front, 1..3).await;
    back.is_idle().await;
    within(back.shutdown()).await;
    let copy = place.back.copy();
    let back = place.back().await;
    let failed = back.failed();
    let error = refusal(place.back_on(&copy)).await;
    assert!(matches!(&error, StoreError::TwoOwners { .. } | StoreError::GoneBack { .. }), "{error}");
    two_owners(failed).await;
    assert_ne!(store_of(&front, "back"), PeerStore::Known);
    place.is_done_once(&front, 1..3).await;
    let back = place.back_on(&copy).accept_restore();
    let _back = TestNode::start(back).await;
    orders(&front, 3..5).await;
    place.is_done_once(&front, 1..5).await;
}

/// A life that has ended may still be heard for a while, and is no second owner.
#[tokio::test]
async fn late_packets_of_an_earlier_opening_stop_no_node() {
    let place = Place::default();
    let front = place.front().await;
    let back = place.back().await;
    orders(&front, 1..3).await;
    // All that the first life has said is kept on the wire.
    let listener = Arc::new(Heard::default());
    let _ear = within(place.network.attach(node_id("ear"), listener.clone())).await.unwrap();
    until("offers of the back", || listener.of("back").len() > 2).await;
    within(back.shutdown()).await;
    let back = place.back().await;
    for packet in listener.of("back") {
        place.network.deliver(0, &node_id("back"), &packet, |_| true);
    }
    orders(&front, 3..6).await;
    assert_eq!(store_of(&front, "back"), PeerStore::Known);
    assert!(matches!(place.network.places("back")[..], [_]));
    place.is_done_once(&front, 1..6).await;
    within(back.shutdown()).await;
}

/// Packets, with the names of their senders.
#[derive(Default)]
struct Heard(Mutex<Vec<(NodeId, Vec<u8>)>>);

impl Inbox for Heard {
    fn receive(&self, from: &NodeId, packet: &[u8]) {
        self.0.lock().unwrap().push((from.clone(), packet.to_vec()));
    }
}

impl Heard {
    fn of(&self, name: &str) -> Vec<Vec<u8>> {
        let heard = self.0.lock().unwrap();
        heard.iter().filter(|(from, _)| from.as_str() == name).map(|(_, packet)| packet.clone()).collect()
    }
}
