//! An index of the waiting operations, so that an event wakes only the operations that wait for it, at a cost that
//! does not grow with the number of other waits.
//!
//! An operation waits at its path, and at one path at a time. This module does not know the events themselves; next:
//! `waiting`.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::task::Waker;

use super::waiting::{Waiting, WaitingFor, Wanted};
use crate::base::id::{Path, RoleIndex};

/// An event that several operations may wait for together.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Shared {
    /// An acknowledgement, which makes room in the window.
    Room,
    Writes,
    Signal(String),
}

impl Shared {
    fn of(what: &WaitingFor) -> Option<Self> {
        match what {
            WaitingFor::Room(_) => Some(Self::Room),
            WaitingFor::Writes => Some(Self::Writes),
            WaitingFor::Signal(name) => Some(Self::Signal(name.clone())),
            WaitingFor::Message(..)
            | WaitingFor::TurnOver(_)
            | WaitingFor::Time
            | WaitingFor::Step(_)
            | WaitingFor::Effect(_) => None,
        }
    }
}

struct Waiter {
    waiting: Waiting,
    waker: Waker,
    /// The wall-clock time since which the operation waits; see [`Waiters::since_unix_ms`].
    since_unix_ms: u64,
}

/// See the module's documentation.
#[derive(Default)]
pub(super) struct Waiters {
    by_path: BTreeMap<Path, Waiter>,
    shared: BTreeMap<Shared, BTreeSet<Path>>,
    times: BTreeSet<(u64, Path)>,
    /// The number of waits for messages of each role.
    speakers: BTreeMap<RoleIndex, usize>,
    /// The number of waits for events that this role itself causes.
    own: usize,
    /// The wakers that every event wakes.
    of_any: Vec<Waker>,
    /// The path at which the last polled operation waits.
    latest: Option<Path>,
    /// What the woken operations waited for, and since when: an operation that is polled in vain waits on. Operations
    /// that have their result or were dropped are removed.
    woken: BTreeMap<Path, (WaitingFor, u64)>,
}

/// The hash covers what is waited for. The wakers and the indices follow from that, and nothing depends on the times
/// since when.
impl Hash for Waiters {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        hasher.write_usize(self.by_path.len());
        self.iter().for_each(|entry| entry.hash(hasher));
    }
}

impl Waiters {
    pub(super) fn is_empty(&self) -> bool {
        self.by_path.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Path, &Waiting)> {
        self.by_path.iter().map(|(path, waiter)| (path, &waiter.waiting))
    }

    /// The roles whose messages are awaited.
    pub(super) fn speakers(&self) -> impl Iterator<Item = RoleIndex> {
        self.speakers.keys().copied()
    }

    /// The awaited messages of other roles.
    pub(super) fn wanted(&self) -> impl Iterator<Item = Wanted> {
        self.iter().filter_map(|(path, waiting)| match waiting.what {
            WaitingFor::Message(_, from) => Some(Wanted { path: Some(path.clone()), from }),
            WaitingFor::TurnOver(from) => Some(Wanted { path: None, from }),
            _ => None,
        })
    }

    /// Whether an operation waits for something that this role itself causes.
    pub(super) fn has_own(&self) -> bool {
        self.own > 0
    }

    /// The earliest awaited time.
    pub(super) fn first_time_unix_ms(&self) -> Option<u64> {
        self.times.first().map(|(unix_ms, _)| *unix_ms)
    }

    /// Lets the operation at `path` wait, since `unix_ms` if it has not waited for the same before.
    pub(super) fn insert(&mut self, path: Path, waiting: Waiting, waker: Waker, unix_ms: u64) {
        let before = match self.take(&path) {
            Some((_, Waiter { waiting, since_unix_ms, .. })) => Some((waiting.what, since_unix_ms)),
            None if self.woken.is_empty() => None,
            None => self.woken.remove(&path),
        };
        let before = before.filter(|(what, _)| *what == waiting.what);
        let since_unix_ms = before.map_or(unix_ms, |(_, since_unix_ms)| since_unix_ms);
        if let Some(shared) = Shared::of(&waiting.what) {
            self.shared.entry(shared).or_default().insert(path.clone());
        }
        if let Some(unix_ms) = waiting.until_unix_ms {
            self.times.insert((unix_ms, path.clone()));
        }
        if let Some(role) = waiting.what.speaker() {
            *self.speakers.entry(role).or_default() += 1;
        }
        self.own += usize::from(!waiting.what.is_by_others());
        self.latest = Some(path.clone());
        self.by_path.insert(path, Waiter { waiting, waker, since_unix_ms });
    }

    /// The wall-clock time, in milliseconds since 1970, since which the operation at `path` waits, however often it
    /// was polled since then.
    pub(super) fn since_unix_ms(&self, path: &Path) -> Option<u64> {
        self.by_path.get(path).map(|waiter| waiter.since_unix_ms)
    }

    /// Takes the path of the last wait, if it is new.
    pub(super) fn take_latest(&mut self) -> Option<Path> {
        self.latest.take()
    }

    /// Registers a waker that every event wakes.
    pub(super) fn insert_for_any(&mut self, waker: Waker) {
        self.of_any.push(waker);
    }

    /// Removes the wait at `path`, because its operation has its result or was dropped. Returns whether it waited.
    pub(super) fn remove(&mut self, path: &Path) -> bool {
        self.woken.remove(path);
        self.take(path).is_some()
    }

    /// Ends the wait at `path`, whose operation is polled next. Returns its waker.
    fn wake(&mut self, path: &Path) -> Option<Waker> {
        let (path, Waiter { waiting, waker, since_unix_ms }) = self.take(path)?;
        self.woken.insert(path, (waiting.what, since_unix_ms));
        Some(waker)
    }

    fn take(&mut self, path: &Path) -> Option<(Path, Waiter)> {
        let (path, waiter) = self.by_path.remove_entry(path)?;
        let waiting = &waiter.waiting;
        if let Some(shared) = Shared::of(&waiting.what)
            && let Some(paths) = self.shared.get_mut(&shared)
        {
            paths.remove(&path);
            if paths.is_empty() {
                self.shared.remove(&shared);
            }
        }
        if let Some(unix_ms) = waiting.until_unix_ms {
            self.times.remove(&(unix_ms, path.clone()));
        }
        if let Some(role) = waiting.what.speaker()
            && let Some(count) = self.speakers.get_mut(&role)
        {
            *count -= 1;
            if *count == 0 {
                self.speakers.remove(&role);
            }
        }
        self.own -= usize::from(!waiting.what.is_by_others());
        Some((path, waiter))
    }

    /// Wakes the operation that waits at `path`, and the wakers of every event.
    pub(super) fn wake_at(&mut self, path: &Path) {
        self.wake(path).into_iter().for_each(Waker::wake);
        self.wake_any();
    }

    /// Wakes at most `count_max` of the operations that wait for `shared`, and the wakers of every event.
    pub(super) fn wake_shared(&mut self, shared: &Shared, count_max: usize) {
        let paths = self.shared.get(shared).into_iter().flatten().take(count_max);
        let paths: Vec<Path> = paths.cloned().collect();
        paths.iter().filter_map(|path| self.wake(path)).for_each(Waker::wake);
        self.wake_any();
    }

    /// Wakes the operations whose time has come. Returns whether there were any.
    pub(super) fn wake_until(&mut self, unix_ms: u64) -> bool {
        let mut some = false;
        while let Some((_, path)) = self.times.first().filter(|(until, _)| *until <= unix_ms).cloned() {
            some = true;
            self.wake(&path).into_iter().for_each(Waker::wake);
        }
        some
    }

    /// Wakes everything.
    pub(super) fn wake_all(&mut self) {
        let Self { by_path, of_any, woken, .. } = std::mem::take(self);
        self.woken = woken;
        for (path, Waiter { waiting, waker, since_unix_ms }) in by_path {
            self.woken.insert(path, (waiting.what, since_unix_ms));
            waker.wake();
        }
        of_any.into_iter().for_each(Waker::wake);
    }

    fn wake_any(&mut self) {
        self.of_any.drain(..).for_each(Waker::wake);
    }
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "tests")]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;
    use crate::frame::Operation;

    #[derive(Default)]
    struct Count(AtomicUsize);
    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn path(number: u32) -> Path {
        Path::root().child(number)
    }

    /// One wait of each kind, and a counter of its wake-ups.
    fn waiters() -> (Waiters, Vec<Arc<Count>>) {
        let mut waiters = Waiters::default();
        let all = [
            Waiting::for_message(Operation::Comm, RoleIndex(1)),
            Waiting::for_message(Operation::Comm, RoleIndex(1)).until(50),
            Waiting::for_room(RoleIndex(1)),
            Waiting::for_room(RoleIndex(2)),
            Waiting::for_signal("s"),
            Waiting::for_signal("t"),
            Waiting::for_writes(),
            Waiting::for_time(70),
            Waiting::for_step("step"),
            Waiting::for_turn_over(RoleIndex(3)),
        ];
        let counts: Vec<Arc<Count>> = all.iter().map(|_| Arc::default()).collect();
        for (number, waiting) in (0..).zip(all) {
            waiters.insert(path(number), waiting, counts[number as usize].clone().into(), 0);
        }
        (waiters, counts)
    }

    fn woken(counts: &[Arc<Count>]) -> Vec<usize> {
        let woken = counts.iter().enumerate().filter(|(_, count)| count.0.load(Ordering::SeqCst) > 0);
        woken.map(|(number, _)| number).collect()
    }

    type Event = fn(&mut Waiters);

    #[test]
    fn each_event_wakes_those_that_wait_for_it() {
        let cases: [(Event, &[usize]); 8] = [
            (|waiters| waiters.wake_at(&path(0)), &[0]),
            (|waiters| waiters.wake_shared(&Shared::Room, 1), &[2]),
            (|waiters| waiters.wake_shared(&Shared::Room, usize::MAX), &[2, 3]),
            (|waiters| waiters.wake_shared(&Shared::Signal("t".into()), usize::MAX), &[5]),
            (|waiters| waiters.wake_shared(&Shared::Writes, usize::MAX), &[6]),
            (|waiters| assert!(waiters.wake_until(50)), &[1]),
            (|waiters| assert!(waiters.wake_until(70)), &[1, 7]),
            (Waiters::wake_all, &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
        ];
        for (event, expected) in cases {
            let (mut waiters, counts) = waiters();
            event(&mut waiters);
            assert_eq!(woken(&counts), expected);
            assert_eq!(waiters.iter().count(), 10 - expected.len());
        }
    }

    #[test]
    fn a_waiter_for_every_event_is_woken_by_each() {
        let events: [Event; 3] = [
            |waiters| waiters.wake_at(&path(99)),
            |waiters| waiters.wake_shared(&Shared::Signal("none".into()), 1),
            Waiters::wake_all,
        ];
        for event in events {
            let (mut waiters, count) = (Waiters::default(), Arc::<Count>::default());
            waiters.insert_for_any(count.clone().into());
            event(&mut waiters);
            assert_eq!(woken(&[count]), [0]);
        }
    }

    /// An operation that is woken for nothing waits on, and one that begins to wait for something else does not.
    #[test]
    fn an_operation_that_is_woken_in_vain_waits_since_the_first_time() {
        type Case = (Event, Waiting, u64);
        let cases: [Case; 4] = [
            (|waiters| waiters.wake_at(&path(0)), Waiting::for_signal("s"), 100),
            (Waiters::wake_all, Waiting::for_signal("s"), 100),
            (Waiters::wake_all, Waiting::for_signal("t"), 200),
            (|waiters| assert!(waiters.remove(&path(0))), Waiting::for_signal("s"), 200),
        ];
        for (event, waiting, since_unix_ms) in cases {
            let mut waiters = Waiters::default();
            let waker = || Arc::<Count>::default().into();
            waiters.insert(path(0), Waiting::for_signal("s"), waker(), 100);
            event(&mut waiters);
            assert_eq!(waiters.since_unix_ms(&path(0)), None);
            waiters.insert(path(0), waiting, waker(), 200);
            assert_eq!(waiters.since_unix_ms(&path(0)), Some(since_unix_ms));
            assert!(waiters.woken.is_empty());
        }
    }

    /// All indices are empty after all waits were removed, whatever the order.
    #[test]
    fn nothing_is_left_of_those_that_wait_no_more() {
        let (mut waiters, counts) = waiters();
        assert!(waiters.has_own());
        assert_eq!(waiters.speakers().collect::<Vec<_>>(), [RoleIndex(1), RoleIndex(3)]);
        assert_eq!(waiters.first_time_unix_ms(), Some(50));
        // A second wait at the same path replaces the first.
        waiters.insert(path(1), Waiting::for_time(60), counts[0].clone().into(), 0);
        assert_eq!(waiters.first_time_unix_ms(), Some(60));
        for number in [3, 1, 9, 0, 7, 2, 8, 6, 5, 4] {
            assert!(waiters.remove(&path(number)));
        }
        assert!(waiters.is_empty() && !waiters.has_own() && waiters.first_time_unix_ms().is_none());
        assert_eq!(waiters.speakers().count(), 0);
        assert!(waiters.shared.is_empty() && waiters.times.is_empty() && waiters.woken.is_empty());
        assert_eq!(woken(&counts), Vec::<usize>::new());
    }
}
