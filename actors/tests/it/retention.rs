//! How long what is left of closed sessions is kept: by count, bytes and age, over restarts and crashes.
//!
//! Next: `actors/src/writer/collector.rs`, with tests of its own, and `forgotten.rs` for what comes too late.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use accompanist::contract::{Space, Store};
use accompanist::prelude::*;
use accompanist::{Tombstones, metric};
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};

use crate::paused::{MINUTE, Parcel, PausedCluster, count, is_unknown, parcel, parcels, unbounded};
use crate::support::{Home, TestNode, quick, until, within};

#[tokio::test(start_paused = true)]
async fn more_than_so_many_are_not_kept() {
    let cluster = PausedCluster::new();
    let node = cluster.home(Retention { count_max: Some(10), ..unbounded() }).await;
    let sessions = parcels(&node, 20, 1).await;
    // Two roles each.
    until("ten tombstones", || count(&node) == 10).await;
    for session in &sessions[..15] {
        assert!(is_unknown(&node, *session).await);
    }
    for session in &sessions[15..] {
        assert_eq!(within(within(node.session::<Parcel>(*session)).await.unwrap().settled()).await.unwrap(), [7]);
    }
    within(node.shutdown()).await;
    let remains = cluster.remains("home");
    assert_eq!(remains.tombstones.count, 10);
    assert_eq!(remains.sessions, sessions[15..].iter().copied().collect());
    assert_eq!(remains.keys, 10, "each key, and whose it is");
}

#[tokio::test(start_paused = true)]
async fn more_than_so_many_bytes_are_not_kept() {
    let cluster = PausedCluster::new();
    let node = cluster.home(Retention { bytes_max: Some(10_000), ..unbounded() }).await;
    let sessions = parcels(&node, 30, 1_000).await;
    until("ten thousand bytes", || node.operator().tombstones().unwrap().bytes <= 10_000).await;
    assert!(is_unknown(&node, sessions[0]).await && !is_unknown(&node, sessions[29]).await);
    let kept = node.operator().tombstones().unwrap();
    within(node.shutdown()).await;
    let remains = cluster.remains("home");
    assert_eq!(remains.tombstones, kept);
    // One more would not have been too much.
    assert!((8_500..=10_000).contains(&kept.bytes), "{kept:?}");
}

#[tokio::test(start_paused = true)]
async fn tombstones_past_their_age_are_collected() {
    let cluster = PausedCluster::new();
    let node = cluster.home(Retention { age_max: Some(60 * MINUTE), ..unbounded() }).await;
    let early = parcels(&node, 3, 1).await;
    tokio::time::sleep(30 * MINUTE).await;
    let late = parcel(&node, "late", 1).await;
    tokio::time::sleep(29 * MINUTE).await;
    assert_eq!(count(&node), 8);
    // By itself: nothing else happens here.
    tokio::time::sleep(2 * MINUTE).await;
    assert_eq!(count(&node), 2);
    assert!(is_unknown(&node, early[2]).await && !is_unknown(&node, late).await);
    // While the node is down, too.
    within(node.shutdown()).await;
    assert_eq!(cluster.remains("home").tombstones.count, 2);
    tokio::time::sleep(30 * MINUTE).await;
    let node = cluster.home(Retention { age_max: Some(60 * MINUTE), ..unbounded() }).await;
    until("nothing left", || count(&node) == 0).await;
    assert!(is_unknown(&node, late).await);
    tokio::time::sleep(MINUTE).await; // It is written lazily.
    within(node.shutdown()).await;
    let remains = cluster.remains("home");
    assert_eq!((remains.tombstones, remains.keys), (Tombstones::default(), 0));
}

/// Counters and gauges of the thread that a test runs on.
#[derive(Default)]
pub struct Numbers(Mutex<BTreeMap<String, Arc<AtomicU64>>>);

impl Numbers {
    fn number(&self, key: &str) -> Arc<AtomicU64> {
        self.0.lock().unwrap().entry(key.into()).or_default().clone()
    }
    pub fn counter(&self, key: &str) -> u64 {
        self.number(key).load(Ordering::SeqCst)
    }
    pub fn gauge(&self, key: &str) -> f64 {
        f64::from_bits(self.counter(key))
    }
}

impl Recorder for Numbers {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.number(key.name()))
    }
    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.number(key.name()))
    }
    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

#[tokio::test(start_paused = true)]
async fn below_the_least_age_everything_is_kept() {
    let numbers = Numbers::default();
    let _recorder = metrics::set_default_local_recorder(&numbers);
    let cluster = PausedCluster::new();
    let nothing =
        Retention { age_min: 10 * MINUTE, age_max: Some(10 * MINUTE), count_max: Some(0), bytes_max: Some(0) };
    let node = cluster.home(nothing).await;
    let sessions = parcels(&node, 20, 1).await;
    tokio::time::sleep(9 * MINUTE).await;
    assert_eq!(count(&node), 40);
    let again = within(node.start(Parcel, 1).key("0")).await.unwrap();
    assert_eq!((again.id(), within(again.settled()).await.unwrap()), (sessions[0], vec![7]));
    assert_eq!(numbers.counter(metric::RETENTION_HELD_BACK), 1, "said once, not for each");
    let kept = node.operator().tombstones().unwrap();
    let gauges = || (numbers.gauge(metric::TOMBSTONES), numbers.gauge(metric::TOMBSTONE_BYTES));
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    let expected = (40.0, kept.bytes as f64);
    assert_eq!(gauges(), expected);
    tokio::time::sleep(2 * MINUTE).await;
    assert_eq!(count(&node), 0);
    assert_eq!((gauges(), numbers.counter(metric::TOMBSTONES_COLLECTED)), ((0.0, 0.0), 40));
    for session in sessions {
        assert!(is_unknown(&node, session).await);
    }
    within(node.shutdown()).await;
    assert_eq!(cluster.remains("home").tombstones.count, 0);
}

#[tokio::test(start_paused = true)]
async fn a_store_is_bounded_over_many_sessions() {
    let cluster = PausedCluster::new();
    let node = cluster.home(Retention { count_max: Some(100), ..unbounded() }).await;
    let mut most = 0;
    for round in 0..50 {
        let starts = (0..100).map(|key| node_start(&node, round * 100 + key));
        for session in futures_util::future::join_all(starts).await {
            within(session.settled()).await.unwrap();
        }
        most = most.max(count(&node));
        tokio::time::sleep(unbounded().age_min).await;
    }
    node.is_idle().await;
    until("a hundred tombstones", || count(&node) == 100).await;
    // It comes behind a little.
    assert!(most < 1_000, "{most} were kept at a time");
    within(node.shutdown()).await;
    let remains = cluster.remains("home");
    assert_eq!(remains.tombstones.count, 100);
    assert!(remains.keys <= 2 * remains.sessions.len(), "{} entries of keys", remains.keys);
}

async fn node_start(node: &TestNode, key: usize) -> Session<Parcel> {
    within(node.start(Parcel, 1).key(key.to_string())).await.unwrap()
}

/// On a real disk, in real time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_on_disk_is_bounded_over_restarts() {
    let home = Home::new();
    let settings = || Settings { retention: Retention { count_max: Some(10), ..unbounded() }, ..quick() };
    let mut last = None;
    for life in 0..3 {
        let node = TestNode::start(home.builder().settings(settings()).choreography(Parcel)).await;
        for key in 0..20 {
            last = Some(parcel(&node, &format!("{life}/{key}"), 1).await);
        }
        until("ten tombstones", || count(&node) == 10).await;
        within(node.shutdown()).await;
    }
    let node = TestNode::start(home.builder().settings(settings()).choreography(Parcel)).await;
    assert!(!is_unknown(&node, last.unwrap()).await);
    within(node.shutdown()).await;
    let store = FjallStore::open(home.folder()).unwrap();
    let left = [Space::Closed, Space::Ended, Space::Keys].map(|space| store.scan(space, &[], None, 99).unwrap().len());
    assert_eq!(left, [10, 10, 10]);
}

#[tokio::test(start_paused = true)]
async fn retained_tombstones_are_counted_after_a_restart() {
    let cluster = PausedCluster::new();
    let node = cluster.home(unbounded()).await;
    parcels(&node, 30, 100).await;
    let kept = node.operator().tombstones().unwrap();
    assert_eq!(kept.count, 60);
    within(node.shutdown()).await;
    assert_eq!(cluster.remains("home").tombstones, kept);
    let node = cluster.home(Retention { count_max: Some(40), ..unbounded() }).await;
    until("forty tombstones", || count(&node) == 40).await;
    parcels(&node, 1, 100).await;
    // Now they count as before: the next one drives the first out.
    parcel(&node, "one more", 100).await;
    until("forty tombstones", || count(&node) == 40).await;
    let kept = node.operator().tombstones().unwrap();
    within(node.shutdown()).await;
    assert_eq!(cluster.remains("home").tombstones, kept);
}

#[tokio::test(start_paused = true)]
async fn a_crash_amid_a_collection_loses_nothing_and_counts_nothing_twice() {
    let cluster = PausedCluster::new();
    let node = cluster.home(unbounded()).await;
    let mut sessions = Vec::new();
    for key in 0..1_300 {
        let session = node_start(&node, key).await;
        within(session.settled()).await.unwrap();
        sessions.push(session.id());
    }
    node.is_idle().await;
    within(node.shutdown()).await;
    let mut left = cluster.remains("home").tombstones.count;
    assert_eq!(left, 2_600);
    // Each life gets as far as one page, which a crash undoes or not.
    for kept in [0, 1, 0, 1] {
        let node = cluster.home(Retention { count_max: Some(500), ..unbounded() }).await;
        until("a page on its way to the disk", || cluster.disks["home"].unsynced() > 0).await;
        cluster.disks["home"].crash(kept);
        within(node.kill()).await;
        let remains = cluster.remains("home");
        left -= if kept == 0 { 0 } else { 1_024 };
        assert_eq!(remains.tombstones.count, left.max(500));
        left = remains.tombstones.count;
        let latest = sessions.iter().rev().take(250);
        assert!(latest.clone().all(|session| remains.sessions.contains(session)), "collected before its time");
    }
    let node = cluster.home(Retention { count_max: Some(500), ..unbounded() }).await;
    until("five hundred tombstones", || count(&node) == 500).await;
    let kept = node.operator().tombstones().unwrap();
    within(node.shutdown()).await;
    let remains = cluster.remains("home");
    assert_eq!(remains.tombstones, kept);
    assert_eq!(remains.sessions, sessions[1_050..].iter().copied().collect());
    assert_eq!(remains.keys, 500);
}
