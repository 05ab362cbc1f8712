//! Compares the count with a full scan of the store, at arbitrary moments.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::{Arc, Mutex};

use accompanist_core::contract::Batch;
use accompanist_core::frame::Outcome;
use accompanist_core::id::{InstanceId, RoleIndex};
use accompanist_core::record::value_bytes;
use accompanist_core::{Abort, SessionId};

use super::*;
use crate::store::{MemoryDisk, MemoryStore};

fn node(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

fn header(cast: [&str; 2]) -> Arc<Header> {
    Arc::new(Header {
        choreography: "sale".into(),
        version: 1,
        initiator: RoleIndex(0),
        cast: cast.map(node).to_vec(),
        started_unix_ms: 0,
        deadline_unix_ms: None,
        patches: Vec::new(),
        traceparent: None,
    })
}

fn key(number: u128) -> Vec<u8> {
    // Spread over all keys.
    let session = SessionId::fresh(u64::try_from(number * 0x9e37_79b9 % 1_000_000).unwrap(), number << 64);
    InstanceId { session, role: RoleIndex(0) }.to_bytes().to_vec()
}

fn opening(number: u128, header: &Arc<Header>) -> Batch {
    let value = value_bytes(&Opened { header: header.clone(), input: None }).unwrap();
    vec![Change { space: Space::Open, key: key(number), value: Some(value) }]
}

fn closing(number: u128, header: &Arc<Header>) -> Batch {
    let outcome = Outcome::Compensated(Abort::new("why", ""));
    let value = value_bytes(&Closed { header: header.clone(), outcome, output: None }).unwrap();
    vec![
        Change { space: Space::Closed, key: key(number), value: Some(value) },
        Change { space: Space::Open, key: key(number), value: None },
    ]
}

/// Counts by a full scan.
fn all(store: &MemoryStore, nodes: &[&str]) -> Counts {
    let mut counts: Counts = nodes.iter().map(|name| (node(name), 0)).collect();
    for (_, value) in store.scan(Space::Open, &[], None, usize::MAX).unwrap() {
        let Ok(Opened { header, .. }) = read_value(Space::Open, &value) else { continue };
        for (of, count) in &mut counts {
            *count += u64::from(header.cast.contains(of));
        }
    }
    counts
}

struct Rig {
    store: MemoryStore,
    census: Census,
    told: Arc<Mutex<Vec<Counts>>>,
    emptied: Arc<Mutex<u32>>,
}

impl Rig {
    fn new() -> Self {
        let store = MemoryDisk::default().open().unwrap();
        Self { store, census: Census::default(), told: Arc::default(), emptied: Arc::default() }
    }

    fn ask(&mut self, nodes: &[&str]) {
        let (told, emptied) = (self.told.clone(), self.emptied.clone());
        let done = Box::new(move |counts: Result<Counts, StoreError>| told.lock().unwrap().push(counts.unwrap()));
        let nodes = nodes.iter().map(|name| node(name)).collect();
        let emptied: Box<dyn Fn() + Send> = Box::new(move || *emptied.lock().unwrap() += 1);
        self.census.ask(CensusQuery { nodes, own: node("own"), done, emptied: Some(emptied) });
    }

    fn write(&mut self, batch: Batch) {
        self.census.note(&batch);
        self.store.apply(batch).unwrap();
        self.store.sync().unwrap();
        self.census.committed();
    }

    fn count(&mut self) {
        while self.census.is_counting() {
            self.census.page(&self.store).unwrap();
        }
        self.census.committed();
    }

    fn told(&self) -> Vec<Counts> {
        std::mem::take(&mut *self.told.lock().unwrap())
    }
}

#[test]
fn instances_written_during_the_count_are_counted_once() {
    let casts = [["own", "a"], ["own", "b"], ["a", "b"], ["c", "own"]].map(header);
    for seed in 0..40 {
        let (mut rig, mut random) = (Rig::new(), fastrand::Rng::with_seed(seed));
        let mut open = Vec::new();
        let mut next = 0;
        for _ in 0..random.usize(0..900) {
            open.push((next, random.choice(&casts).unwrap().clone()));
            rig.write(opening(next, &open.last().unwrap().1));
            next += 1;
        }
        rig.ask(&["own", "a"]);
        for _ in 0..200 {
            match random.u8(0..6) {
                0 if rig.census.is_counting() => rig.census.page(&rig.store).unwrap(),
                1 | 2 => {
                    open.push((next, random.choice(&casts).unwrap().clone()));
                    rig.write(opening(next, &open.last().unwrap().1));
                    next += 1;
                }
                3 if seed % 2 == 0 => rig.ask(&["own", "a"]),
                _ if !open.is_empty() => {
                    let (number, header) = open.swap_remove(random.usize(0..open.len()));
                    rig.write(closing(number, &header));
                }
                _ => {}
            }
        }
        rig.count();
        rig.told();
        rig.ask(&["own", "a"]);
        rig.census.committed();
        assert_eq!(rig.told(), [all(&rig.store, &["own", "a"])], "seed {seed}");
        // A question about other nodes: everything is counted again.
        rig.ask(&["b"]);
        assert!(rig.told().is_empty());
        rig.count();
        assert_eq!(rig.told(), [all(&rig.store, &["b"])], "seed {seed}");
    }
}

#[test]
fn a_waiter_is_notified_when_the_count_reaches_zero() {
    let (mut rig, cast) = (Rig::new(), header(["own", "a"]));
    rig.ask(&["a"]);
    rig.count();
    assert_eq!(rig.told(), [Counts::from([(node("a"), 0)])]);
    for number in 0..3 {
        rig.write(opening(number, &cast));
    }
    for (number, emptied) in [(0, 0), (1, 0), (2, 1)] {
        rig.write(closing(number, &cast));
        assert_eq!(*rig.emptied.lock().unwrap(), emptied);
    }
    // Nobody asks any more.
    rig.ask(&[]);
    rig.census.committed();
    rig.write(opening(3, &cast));
    rig.write(closing(3, &cast));
    assert_eq!((rig.told(), *rig.emptied.lock().unwrap()), (vec![Counts::new()], 1));
}

#[test]
fn an_opening_that_cannot_be_read_holds_its_own_node_only() {
    let mut rig = Rig::new();
    rig.write(vec![Change { space: Space::Open, key: key(1), value: Some(vec![0xff; 9]) }]);
    rig.ask(&["own", "a"]);
    rig.count();
    assert_eq!(rig.told(), [Counts::from([(node("own"), 1), (node("a"), 0)])]);
    rig.ask(&["a"]);
    rig.count();
    assert_eq!(rig.told(), [Counts::from([(node("a"), 0)])]);
}

#[test]
fn a_count_on_a_failed_writer_is_an_error() {
    let mut census = Census::default();
    let told = Arc::new(Mutex::new(None));
    let tell = told.clone();
    let done = Box::new(move |counts| *tell.lock().unwrap() = Some(counts));
    census.ask(CensusQuery { nodes: [node("a")].into(), own: node("own"), done, emptied: None });
    census.refuse(&StoreError::Closed);
    assert!(matches!(*told.lock().unwrap(), Some(Err(StoreError::Closed))));
}
