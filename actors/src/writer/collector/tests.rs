//! The collector alone, over a disk in memory, with a clock that is set by hand.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::atomic::{AtomicU64, Ordering};

use accompanist_core::SessionId;
use accompanist_core::id::RoleIndex;

use super::*;
use crate::store::{MemoryDisk, MemoryStore};

const HOUR_MS: u64 = 3_600_000;
const DAY_MS: u64 = 24 * HOUR_MS;

/// A clock whose wall time and monotonic time are equal.
struct Clock(AtomicU64);

impl Environment for Clock {
    fn unix_ms(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
    fn monotonic_ms(&self) -> u64 {
        self.unix_ms()
    }
    fn random(&self) -> u64 {
        0
    }
}

/// A collector with its store, as the writer has them.
struct Bench {
    clock: Arc<Clock>,
    store: MemoryStore,
    collector: Collector,
    retention: Retention,
    next: u64,
}

impl Bench {
    fn new(retention: Retention) -> Self {
        let clock = Arc::new(Clock(AtomicU64::new(DAY_MS)));
        let collector = Collector::new(retention.clone(), clock.clone());
        let store = MemoryDisk::default().open().unwrap();
        Self { clock, store, collector, retention, next: 0 }
    }

    fn set_clock(&self, unix_ms: u64) {
        self.clock.0.store(unix_ms, Ordering::SeqCst);
    }

    /// Begins another run of the node.
    fn restart(&mut self) {
        self.collector = Collector::new(self.retention.clone(), self.clock.clone());
    }

    fn close(&mut self, value: &[u8]) -> InstanceId {
        self.next += 1;
        let id = InstanceId { session: SessionId::fresh(1, u128::from(self.next) << 64), role: RoleIndex(0) };
        let (space, key) = (Space::Closed, id.to_bytes().to_vec());
        let tombstone = Change { space, key, value: Some(value.to_vec()) };
        let place = self.collector.note_closed(id, &tombstone).unwrap();
        self.store.apply(vec![tombstone, place]).unwrap();
        self.store.sync().unwrap();
        id
    }

    /// Processes one page; returns how many tombstones it removed.
    fn page(&mut self) -> usize {
        let batch = self.collector.page(&self.store).unwrap();
        let collected = batch.iter().filter(|change| change.space == Space::Closed).count();
        self.store.apply(batch).unwrap();
        self.store.sync().unwrap();
        collected
    }

    /// Processes everything that is due; returns how many tombstones were removed.
    fn pages(&mut self) -> usize {
        let mut collected = 0;
        while self.collector.is_due() {
            collected += self.page();
        }
        collected
    }

    fn count(&self) -> u64 {
        let closed = self.store.scan(Space::Closed, &[], None, usize::MAX).unwrap().len();
        assert_eq!(self.store.scan(Space::Ended, &[], None, usize::MAX).unwrap().len(), closed);
        closed as u64
    }

    fn keeps(&self, id: InstanceId) -> bool {
        self.store.get(Space::Closed, &id.to_bytes()).unwrap().is_some()
    }
}

fn retention(count_max: Option<u64>, age_max_h: Option<u64>) -> Retention {
    let age_max = age_max_h.map(Duration::from_hours);
    Retention { age_min: Duration::ZERO, age_max, count_max, bytes_max: None }
}

#[test]
fn a_page_is_bounded() {
    let mut bench = Bench::new(retention(Some(100), None));
    bench.pages();
    for _ in 0..2_500 {
        bench.close(&[1]);
    }
    assert_eq!([bench.page(), bench.page(), bench.page()], [PAGE, PAGE, 2_400 - 2 * PAGE]);
    assert!(!bench.collector.is_due());
    assert_eq!((bench.count(), bench.collector.kept.count), (100, 100));
}

#[test]
fn tombstones_written_during_the_count_are_counted_once() {
    let mut bench = Bench::new(retention(None, None));
    for _ in 0..2_500 {
        bench.close(&[1]);
    }
    bench.set_clock(2 * DAY_MS);
    bench.restart();
    assert_eq!(*bench.collector.watch().borrow(), None);
    bench.page();
    // One after what is counted, and one before it: the clock was set back.
    bench.close(&[1, 2]);
    bench.set_clock(1);
    bench.close(&[1, 2, 3]);
    bench.pages();
    assert_eq!((bench.count(), bench.collector.kept.count), (2_502, 2_502));
    assert_eq!(bench.collector.kept.bytes, 2_502 * 42 + 2_500 + 2 + 3);
    assert_eq!(*bench.collector.watch().borrow(), Some(bench.collector.kept));
}

#[test]
fn a_clock_that_is_set_back_keeps_nothing_for_ever() {
    let mut bench = Bench::new(retention(None, Some(1)));
    bench.pages();
    bench.close(&[1]);
    bench.set_clock(DAY_MS + HOUR_MS);
    assert_eq!(bench.pages(), 1);
    bench.set_clock(DAY_MS - HOUR_MS);
    let early = bench.close(&[1]);
    assert_eq!((bench.pages(), bench.collector.pause()), (0, Some(LOOK_PERIOD_MAX)));
    bench.set_clock(DAY_MS);
    assert_eq!((bench.pages(), bench.keeps(early)), (1, false));
    assert_eq!(bench.collector.pause(), None, "nothing is there");
}

/// Both bounds on age use the same clock, and more than one reading of it.
#[test]
fn one_look_at_a_clock_that_is_ahead_collects_nothing() {
    struct Preallocation(AtomicU64);
    impl Environment for Preallocation {
        fn unix_ms(&self) -> u64 {
            DAY_MS + self.0.load(Ordering::SeqCst)
        }
        fn monotonic_ms(&self) -> u64 {
            0
        }
        fn random(&self) -> u64 {
            0
        }
    }
    let age_min = Duration::from_hours(1);
    for retention in [retention(Some(0), None), retention(None, Some(1))] {
        let clock = Arc::new(Preallocation(AtomicU64::new(0)));
        let mut bench = Bench::new(Retention { age_min, ..retention });
        bench.collector = Collector::new(bench.retention.clone(), clock.clone());
        bench.pages();
        let closed = bench.close(&[1]);
        assert_eq!(bench.pages(), 0);
        clock.0.store(1_000 * DAY_MS, Ordering::SeqCst);
        assert_eq!((bench.pages(), bench.keeps(closed)), (0, true), "ahead");
        // The next run of the node does not collect it either.
        bench.collector = Collector::new(bench.retention.clone(), clock.clone());
        assert_eq!((bench.pages(), bench.keeps(closed)), (0, true), "after a restart");
    }
}

#[test]
fn the_oldest_tombstones_are_collected_first_and_young_ones_stay() {
    let age_min = Duration::from_hours(2);
    let mut bench = Bench::new(Retention { age_min, ..retention(Some(1), Some(1)) });
    bench.pages();
    let mut ids = Vec::new();
    for hour in 0..4 {
        bench.set_clock(DAY_MS + hour * HOUR_MS);
        ids.push(bench.close(&[1]));
        // After two hours there is one that is two hours old.
        assert_eq!(bench.pages(), usize::from(hour >= 2));
    }
    assert_eq!(ids.iter().map(|id| bench.keeps(*id)).collect::<Vec<_>>(), [false, false, true, true]);
    assert!(bench.collector.held_back);
    bench.set_clock(DAY_MS + 5 * HOUR_MS);
    assert_eq!((bench.pages(), bench.collector.held_back), (2, false));
}

#[test]
fn a_place_that_cannot_be_read_is_passed_by() {
    let mut bench = Bench::new(retention(Some(0), None));
    let place = |key: &[u8]| Change { space: Space::Ended, key: key.into(), value: Some(vec![9]) };
    bench.store.apply(vec![place(&[0; 25]), place(&[0; 3])]).unwrap();
    bench.close(&[1]);
    assert_eq!((bench.pages(), bench.count()), (1, 0));
}
