//! The instances that the node itself reactivates, and their order: first those whose time has come, then those with
//! unacknowledged frames to a node that acknowledges again, after a start all open ones, and periodically the open
//! ones, to nudge the roles they wait for.
//!
//! Pure: decides, loads nothing. The number of reactivations at a time is bounded, so that a million unfinished
//! sessions are no more trouble than a thousand. Frames and questions reactivate an instance at once, besides.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use accompanist_core::NodeId;
use accompanist_core::id::InstanceId;

use crate::runtime::messages::{Page, Reading};

/// The open instances in the store, read page by page.
#[derive(Debug, Default)]
struct Pages {
    found: VecDeque<InstanceId>,
    /// The key after which the next page begins.
    after: Vec<u8>,
    reading: bool,
    read_all: bool,
}

impl Pages {
    /// Returns the key after which the next page is to be read, if one is wanted; each page is requested once.
    fn next(&mut self) -> Option<Vec<u8>> {
        let wanted = !self.reading && !self.read_all && self.found.is_empty();
        self.reading |= wanted;
        wanted.then(|| self.after.clone())
    }

    fn found(&mut self, page: Page) {
        (self.reading, self.read_all) = (false, page.is_last);
        self.after = page.last.unwrap_or(std::mem::take(&mut self.after));
        self.found.extend(page.ids);
    }

    fn is_over(&self) -> bool {
        self.read_all && self.found.is_empty()
    }
}

/// The instances that a [`Roles`](super::Roles) has to reactivate.
#[derive(Default)]
pub(crate) struct ReactivationQueue {
    timers: BTreeSet<(u64, InstanceId)>,
    /// The next time of each instance.
    times: BTreeMap<InstanceId, u64>,
    unacknowledged: BTreeSet<InstanceId>,
    recovery: Pages,
    nudges: Pages,
    /// The time at which the next page of `nudges` is due, by the monotonic clock.
    nudges_due_ms: Option<u64>,
    /// The nodes whose sessions are to nudge, one after the other.
    nudges_of: VecDeque<(NodeId, Pages)>,
    /// The instances between the store and their first turn.
    under_way: BTreeSet<InstanceId>,
    recovered: u64,
    has_recovered: bool,
}

impl ReactivationQueue {
    /// Notes that an instance was passivated and has something to do at `unix_ms`.
    pub(crate) fn wait_until(&mut self, unix_ms: u64, id: InstanceId) {
        self.forget_time(id);
        self.timers.insert((unix_ms, id));
        self.times.insert(id, unix_ms);
    }

    /// Forgets the time of an instance that is in memory again and watches the clock itself.
    pub(crate) fn forget_time(&mut self, id: InstanceId) {
        if let Some(unix_ms) = self.times.remove(&id) {
            self.timers.remove(&(unix_ms, id));
        }
    }

    /// Notes instances with unacknowledged frames that may reach their receivers now.
    pub(crate) fn resend(&mut self, ids: Vec<InstanceId>) {
        self.unacknowledged.extend(ids);
    }

    /// Has all instances whose sessions cast `node` reactivated to nudge.
    pub(crate) fn nudge_all_of(&mut self, node: NodeId) {
        // A page that is read already may date from before the reason for this call.
        self.nudges_of.push_back((node, Pages::default()));
    }

    /// Returns what to read next, and after which key; each page is requested once. `pause_ms` is the time between
    /// two pages of the periodic nudges.
    pub(crate) fn next_page(&mut self, now_ms: u64, pause_ms: u64) -> Option<(Reading, Vec<u8>)> {
        while self.nudges_of.front().is_some_and(|(_, pages)| pages.is_over()) {
            self.nudges_of.pop_front();
        }
        if let Some((node, pages)) = self.nudges_of.front_mut()
            && let Some(after) = pages.next()
        {
            return Some((Reading::NudgesOf(node.clone()), after));
        }
        if let Some(after) = self.recovery.next() {
            return Some((Reading::Recovery, after));
        }
        if !self.recovery.is_over() || !self.nudges.found.is_empty() {
            return None; // Each instance nudges as it is recovered.
        }
        let due_ms = *self.nudges_due_ms.get_or_insert(now_ms.saturating_add(pause_ms));
        let after = if due_ms <= now_ms { self.nudges.next() } else { None };
        after.map(|after| (Reading::Nudges, after))
    }

    /// Adds a page that has been read.
    pub(crate) fn found(&mut self, reading: &Reading, page: Page) {
        match reading {
            Reading::Recovery => self.recovery.found(page),
            Reading::Nudges => {
                let is_last = page.is_last;
                self.nudges.found(page);
                self.nudges_due_ms = None;
                if is_last {
                    (self.nudges.after, self.nudges.read_all) = (Vec::new(), false); // Continue from the beginning.
                }
            }
            Reading::NudgesOf(node) => {
                if let Some((_, pages)) = self.nudges_of.front_mut().filter(|(of, _)| of == node) {
                    pages.found(page);
                }
            }
        }
    }

    /// Returns when the next page of the periodic nudges is due.
    pub(crate) fn next_page_ms(&self) -> Option<u64> {
        self.nudges_due_ms.filter(|_| !self.nudges.reading)
    }

    /// Returns the next instance to reactivate, and whether it is to nudge, if fewer than `under_way_max` are on
    /// their way.
    pub(crate) fn next(&mut self, unix_ms: u64, under_way_max: usize) -> Option<(InstanceId, bool)> {
        if self.under_way.len() >= under_way_max {
            return None;
        }
        if let Some((due_ms, id)) = self.timers.first().copied()
            && due_ms <= unix_ms
        {
            self.forget_time(id);
            return Some((id, false));
        }
        if let Some(id) = self.unacknowledged.pop_first() {
            return Some((id, false));
        }
        if let Some(id) = self.nudges_of.front_mut().and_then(|(_, pages)| pages.found.pop_front()) {
            return Some((id, true));
        }
        if let Some(id) = self.recovery.found.pop_front() {
            self.recovered += 1;
            return Some((id, false));
        }
        self.nudges.found.pop_front().map(|id| (id, true))
    }

    /// Notes that an instance is being loaded.
    pub(crate) fn begin(&mut self, id: InstanceId) {
        self.under_way.insert(id);
    }

    /// Notes that an instance has had its first turn, or has ended before it; returns whether it was on its way.
    pub(crate) fn end(&mut self, id: InstanceId) -> bool {
        self.under_way.remove(&id)
    }

    /// Returns when the next instance is due by the wall clock.
    pub(crate) fn next_time_unix_ms(&self) -> Option<u64> {
        self.timers.first().map(|(unix_ms, _)| *unix_ms)
    }

    /// Returns how many of the instances that were open at the start are recovered, and whether those are all.
    pub(crate) fn recovered(&mut self) -> (u64, bool) {
        // Nudging instances may be under way at any time, so `under_way` has to be empty only once.
        let finished = self.recovery.is_over() && (self.has_recovered || self.under_way.is_empty());
        self.has_recovered |= finished;
        (self.recovered, finished)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use accompanist_core::SessionId;
    use accompanist_core::id::RoleIndex;

    use super::*;

    fn id(number: u64) -> InstanceId {
        InstanceId { session: SessionId::fresh(number, 0), role: RoleIndex(0) }
    }

    /// Returns a page of these instances; it is the last one if it has fewer than four.
    fn page(numbers: &[u64]) -> Page {
        let ids: Vec<_> = numbers.iter().map(|number| id(*number)).collect();
        Page { last: ids.last().map(|id| id.to_bytes().to_vec()), is_last: ids.len() < 4, ids }
    }

    fn after(number: u64) -> Vec<u8> {
        id(number).to_bytes().to_vec()
    }

    #[test]
    fn reactivations_are_bounded_and_due_timers_come_first() {
        let mut queue = ReactivationQueue::default();
        assert_eq!(queue.next_page(0, 100), Some((Reading::Recovery, vec![])));
        assert_eq!(queue.next_page(0, 100), None, "it is being read");
        queue.found(&Reading::Recovery, page(&[0, 1, 2, 3]));
        queue.resend(vec![id(10)]);
        queue.wait_until(50, id(20));
        queue.wait_until(60, id(20));
        queue.wait_until(500, id(21));
        assert_eq!(queue.next_time_unix_ms(), Some(60));
        let mut order = Vec::new();
        while let Some((next, nudges)) = queue.next(100, 3) {
            assert!(!nudges);
            queue.begin(next);
            order.push(next);
        }
        assert_eq!(order, [id(20), id(10), id(0)]);
        assert!(queue.end(id(10)) && !queue.end(id(10)));
        assert_eq!(queue.next(100, 3), Some((id(1), false)));
        assert_eq!((queue.recovered(), queue.next_page(0, 100)), ((2, false), None));
        for next in [2, 3].map(id) {
            assert_eq!(queue.next(100, 9), Some((next, false)));
        }
        assert_eq!(queue.next_page(0, 100), Some((Reading::Recovery, after(3))));
        queue.found(&Reading::Recovery, page(&[]));
        assert_eq!((queue.next(100, 9), queue.next_page(0, 100)), (None, None));
        queue.forget_time(id(21));
        assert_eq!(queue.next(1_000, 9), None);
    }

    #[test]
    fn open_instances_are_reactivated_to_nudge_page_by_page() {
        let mut queue = ReactivationQueue::default();
        queue.next_page(0, 100);
        queue.found(&Reading::Recovery, page(&[]));
        for round in 0..2 {
            let now_ms = round * 1_000;
            assert_eq!(queue.next_page(now_ms, 100), None, "it has just been recovered");
            assert_eq!(queue.next_page_ms(), Some(now_ms + 100));
            assert_eq!(queue.next_page(now_ms + 100, 100), Some((Reading::Nudges, vec![])));
            assert_eq!((queue.next_page(now_ms + 500, 100), queue.next_page_ms()), (None, None), "it is being read");
            queue.found(&Reading::Nudges, page(&[0, 1, 2, 3]));
            let ids: Vec<_> = std::iter::from_fn(|| queue.next(0, 9)).collect();
            assert_eq!(ids, [0, 1, 2, 3].map(|number| (id(number), true)));
            assert_eq!(queue.next_page(now_ms + 500, 100), None, "the next page is due later");
            assert_eq!(queue.next_page(now_ms + 600, 100), Some((Reading::Nudges, after(3))));
            queue.found(&Reading::Nudges, page(&[]));
        }
    }

    #[test]
    fn the_sessions_of_a_node_nudge_at_once() {
        let mut queue = ReactivationQueue::default();
        let [one, other] = ["one", "other"].map(|name| NodeId::new(name).unwrap());
        queue.nudge_all_of(one.clone());
        queue.nudge_all_of(other.clone());
        let of = Reading::NudgesOf(one);
        assert_eq!(queue.next_page(0, 100), Some((of.clone(), vec![])));
        // Not all instances on the page belong to sessions of the node.
        queue.found(&of, Page { is_last: false, last: Some(after(7)), ids: vec![id(5)] });
        assert_eq!(queue.next(0, 9), Some((id(5), true)));
        assert_eq!(queue.next_page(0, 100), Some((of.clone(), after(7))));
        queue.found(&of, page(&[]));
        assert_eq!(queue.next_page(0, 100), Some((Reading::NudgesOf(other), vec![])));
    }
}
