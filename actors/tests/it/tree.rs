//! The tree of a node: a link that fails takes the roles down with it, and both come back, or the node says it is over.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use accompanist::contract::{BoxFuture, Inbox, Transport, TransportError, Wire};
use accompanist::prelude::*;
use accompanist::store::MemoryDisk;
use accompanist::transport::LocalNetwork;
use accompanist_core::frame::{Epoch, Packet};

use crate::support::{TestNode, on_disk, within};
use crate::trade::{Back, Front, Outside, Trade, deal};

/// A network whose wires panic, and that refuses to be attached to again.
#[derive(Clone, Default)]
struct Broken {
    network: LocalNetwork,
    /// How many packets still panic.
    panics_left: Arc<AtomicU32>,
    refuses: Arc<AtomicU32>,
    /// The epochs that its packets had.
    epochs: Arc<Mutex<BTreeSet<Epoch>>>,
}

struct BrokenWire(Arc<dyn Wire>, Broken);

fn takes_one(left: &AtomicU32) -> bool {
    left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
}

impl Transport for Broken {
    fn attach(&self, node: NodeId, inbox: Arc<dyn Inbox>) -> BoxFuture<'_, Result<Arc<dyn Wire>, TransportError>> {
        Box::pin(async move {
            if takes_one(&self.refuses) {
                return Err(TransportError::Open("the cable is cut".into()));
            }
            let wire = self.network.attach(node, inbox).await?;
            Ok(Arc::new(BrokenWire(wire, self.clone())) as Arc<dyn Wire>)
        })
    }
}

impl Wire for BrokenWire {
    fn send(&self, to: &NodeId, packet: Vec<u8>) {
        self.1.epochs.lock().unwrap().insert(Packet::peek(&packet).unwrap().epoch);
        assert!(!takes_one(&self.1.panics_left), "the wire panics, as the test wants");
        self.0.send(to, packet);
    }
    fn broadcast(&self, packet: Vec<u8>) {
        self.0.broadcast(packet);
    }
    fn packet_bytes_max(&self) -> usize {
        self.0.packet_bytes_max()
    }
}

struct Pair {
    outside: Arc<Outside>,
    broken: Broken,
    front: TestNode,
    back: TestNode,
}

/// A front on a broken network, with a session in the middle at the back.
async fn in_the_middle() -> (Pair, Session<Trade>) {
    let (outside, broken) = (Arc::new(Outside::default()), Broken::default());
    outside.set_gate(false);
    let back = on_disk("back", &MemoryDisk::default(), broken.network.clone()).role(Back, outside.clone());
    let back = TestNode::start(back.choreography(Trade)).await;
    let front = on_disk("front", &MemoryDisk::default(), broken.clone()).role(Front, Arc::new(()));
    let front = TestNode::start(front.choreography(Trade)).await;
    let session = within(front.start(Trade, deal(1))).await.unwrap();
    within(outside.asked_times(1)).await;
    (Pair { outside, broken, front, back }, session)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_link_is_restarted_with_its_sessions() {
    let (pair, session) = in_the_middle().await;
    pair.broken.panics_left.store(3, Ordering::SeqCst);
    pair.outside.set_gate(true);
    assert_eq!(within(session.settled()).await.unwrap(), 101);
    for id in 2..20 {
        let session = within(pair.front.start(Trade, deal(id))).await.unwrap();
        assert_eq!(within(session.settled()).await.unwrap(), id * 101);
    }
    assert_eq!(pair.broken.panics_left.load(Ordering::SeqCst), 0);
    // Each link counts its frames from 1: what is acknowledged of an earlier one must not be taken for its own.
    assert_eq!(pair.broken.epochs.lock().unwrap().len(), 4);
    pair.front.is_idle().await;
    pair.back.is_idle().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_keeps_failing_ends_the_node() {
    let (pair, session) = in_the_middle().await;
    pair.broken.panics_left.store(u32::MAX, Ordering::SeqCst);
    pair.outside.set_gate(true);
    let error = within(pair.front.failed()).await;
    let NodeError::RestartedTooOften { part, times, .. } = &error else { panic!("{error}") };
    assert_eq!((part.as_str(), *times), ("link", 6), "{error}");
    assert!(matches!(within(session.settled()).await, Err(SessionError::NodeStopped)));
    assert!(matches!(within(pair.front.start(Trade, deal(2))).await, Err(StartError::NodeStopped)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_that_does_not_return_ends_the_node() {
    let (pair, session) = in_the_middle().await;
    pair.broken.refuses.store(u32::MAX, Ordering::SeqCst);
    pair.broken.panics_left.store(1, Ordering::SeqCst);
    pair.outside.set_gate(true);
    let error = within(pair.front.failed()).await;
    assert!(error.to_string().contains("the cable is cut"), "{error}");
    assert!(matches!(within(session.settled()).await, Err(SessionError::NodeStopped)));
    assert!(matches!(within(pair.front.start(Trade, deal(2))).await, Err(StartError::NodeStopped)));
}
