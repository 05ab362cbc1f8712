//! What a node makes of a store that is damaged, and what is left after a disk has failed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use accompanist::contract::{Batch, Change, Direction, Entry, KeyRange, Space, Store, StoreError};
use accompanist::id::{InstanceId, RoleIndex};
use accompanist::prelude::*;
use accompanist::store::{MemoryDisk, MemoryStore};
use accompanist::transport::LocalNetwork;

use crate::support::{Home, TestNode, all_roles, until, within};
use crate::trade::{KEPT, Outside, Tally, Trade, deal, tally};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_session_stands_still_and_the_others_go_on() {
    let home = Home::new();
    home.outside.set_gate(false);
    let node = TestNode::start(home.builder().choreography(Trade)).await;
    let mut damaged = Vec::new();
    for id in 1..4 {
        damaged.push(within(node.start(Trade, deal(id))).await.unwrap().id());
    }
    let healthy = within(node.start(Trade, deal(4)).key("healthy")).await.unwrap().id();
    within(home.outside.asked_times(4)).await;
    within(node.shutdown()).await;

    // The opening of one, a record of another, and the version of a third, all at the front.
    let mut store = FjallStore::open(home.folder()).unwrap();
    let keys = damaged.iter().map(|session| InstanceId { session: *session, role: RoleIndex(1) }.to_bytes().to_vec());
    let keys: Vec<Vec<u8>> = keys.collect();
    let record = store.scan(Space::Journal, &keys[1], None, 1).unwrap()[0].0.clone();
    let garbage = |space, key, value: &[u8]| Change { space, key, value: Some(value.into()) };
    store
        .apply(vec![
            garbage(Space::Open, keys[0].clone(), b"garbage"),
            garbage(Space::Journal, record, b""),
            garbage(Space::Open, keys[2].clone(), &[9, 9, 9]),
            garbage(Space::Open, b"no instance".to_vec(), b""),
        ])
        .unwrap();
    store.sync().unwrap();
    drop(store);

    home.outside.set_gate(true);
    let node = TestNode::start(home.builder().choreography(Trade)).await;
    let session = within(node.start(Trade, deal(4)).key("healthy")).await.unwrap();
    assert_eq!((session.id(), within(session.settled()).await.unwrap()), (healthy, 404));
    until("three that are stopped", || node.operator().stopped_sessions().len() == 3).await;
    for stopped in node.stopped().await {
        assert!(damaged.contains(&stopped.session) && stopped.role == RoleIndex(1), "{stopped:?}");
        assert!(stopped.reason.contains("cannot be read") && stopped.reason.contains("nothing was changed"));
    }
    let later = within(node.start(Trade, deal(5))).await.unwrap();
    assert_eq!(within(later.settled()).await.unwrap(), 505);
}

/// A disk that fails for good at a sync.
struct Failing {
    store: MemoryStore,
    syncs_left: Arc<AtomicU32>,
}

impl Store for Failing {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.store.get(space, key)
    }
    fn range(
        &self,
        space: Space,
        keys: &KeyRange,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<Entry>, StoreError> {
        self.store.range(space, keys, direction, limit)
    }
    fn apply(&mut self, batch: Batch) -> Result<(), StoreError> {
        self.store.apply(batch)
    }
    fn sync(&mut self) -> Result<(), StoreError> {
        let fewer = self.syncs_left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        fewer.map_err(|_| StoreError::Failed("the disk is gone".into()))?;
        self.store.sync()
    }
    fn commits(&self) -> u64 {
        self.store.commits()
    }
}

/// With the node's store over a disk that takes so many syncs after the node's start.
async fn survives_a_disk_that_fails_after<S: Store>(syncs: u32, syncs_of_opening: u32, over: impl Fn(Failing) -> S) {
    let (disk, outside, network) = (MemoryDisk::default(), Arc::new(Outside::default()), LocalNetwork::new());
    let failing = |syncs| Failing { store: disk.open().unwrap(), syncs_left: Arc::new(AtomicU32::new(syncs)) };
    // One for its start, over a fresh store.
    let store = over(failing(syncs_of_opening + 1 + syncs));
    let node = TestNode::start(all_roles("home", store, network.clone(), &outside).choreography(Trade)).await;
    let failed = node.failed();
    let (mut started, mut settled) = (Vec::new(), Vec::new());
    for id in 1..100 {
        match within(node.start(Trade, deal(id)).key(id.to_string())).await {
            Ok(session) => started.push((id, session.id(), within(session.settled()).await)),
            Err(error) => {
                assert!(matches!(error, StartError::NodeStopped), "{error}");
                break;
            }
        }
    }
    for (id, _, told) in &started {
        match told {
            Ok(_) => settled.push(*id),
            Err(error) => assert!(matches!(error, SessionError::NodeStopped), "{error}"),
        }
    }
    let error = within(failed).await;
    assert!(matches!(&error, NodeError::Store(StoreError::Failed(text)) if text == "the disk is gone"), "{error}");
    assert!(within(node.start(Trade, deal(1))).await.is_err_and(|error| matches!(error, StartError::NodeStopped)));
    within(node.shutdown()).await;
    disk.crash(0);

    let store = over(failing(u32::MAX));
    let node = TestNode::start(all_roles("home", store, network, &outside).choreography(Trade)).await;
    for id in settled {
        assert_eq!(tally(&node, "dispatch", id).await, KEPT, "deal {id} was settled");
    }
    for (id, known, _) in &started {
        let session = within(node.start(Trade, deal(*id)).key(id.to_string())).await.unwrap();
        assert_eq!((session.id(), within(session.settled()).await.unwrap()), (*known, id * 101));
        assert_eq!([tally(&node, "hold", *id).await, tally(&node, "dispatch", *id).await], [KEPT, KEPT]);
    }
    node.is_idle().await;
    assert_eq!(outside.total(), Tally { done: u32::try_from(started.len()).unwrap(), undone: 0 });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_frames_survive_a_failing_disk() {
    for syncs in [0, 1, 2, 3, 5, 8, 21] {
        survives_a_disk_that_fails_after(syncs, 0, |store| store).await;
    }
}

#[cfg(feature = "encryption")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_frames_survive_a_failing_disk_below_an_encrypted_store() {
    use accompanist::store::EncodedStore;
    for syncs in [0, 1, 2, 3, 5, 8, 21] {
        // One for the marker.
        let over = |store| EncodedStore::open(store, crate::encrypted::ring([1])).unwrap();
        survives_a_disk_that_fails_after(syncs, 1, over).await;
    }
}
