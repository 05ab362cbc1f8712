//! What is brought back into memory by the node itself, and in which order: what has waited long enough, what has
//! something to say to a node that hears again, and, after a start, everything that is open.
//!
//! Pure: decides, loads nothing. Only so many come at a time, so that a million unfinished sessions are no more trouble
//! than a thousand. Frames and questions bring an instance back besides, at once.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use accompanist_core::id::InstanceId;

/// The instances that a [`Roles`](crate::roles::Roles) has to bring back.
#[derive(Default)]
pub(crate) struct Returns {
    timers: BTreeSet<(u64, InstanceId)>,
    /// One time for each: the next.
    times: BTreeMap<InstanceId, u64>,
    unheard: BTreeSet<InstanceId>,
    /// A page of what is open in the store, whose last key `after` is: empty before the first page.
    found: VecDeque<InstanceId>,
    after: Vec<u8>,
    reading: bool,
    read_all: bool,
    /// On their way from the store to their first turn.
    under_way: BTreeSet<InstanceId>,
    recovered: u64,
}

impl Returns {
    /// An instance has left memory, and has something to do at `unix_ms`.
    pub(crate) fn wait_until(&mut self, unix_ms: u64, id: InstanceId) {
        self.forget_time(id);
        self.timers.insert((unix_ms, id));
        self.times.insert(id, unix_ms);
    }

    /// It is in memory again, and looks at the clock itself.
    pub(crate) fn forget_time(&mut self, id: InstanceId) {
        if let Some(unix_ms) = self.times.remove(&id) {
            self.timers.remove(&(unix_ms, id));
        }
    }

    /// These have something to say that may be heard now.
    pub(crate) fn say_again(&mut self, ids: Vec<InstanceId>) {
        self.unheard.extend(ids);
    }

    /// The key after which the store is to be read, if the next page of what is open is wanted: each is asked for once.
    pub(crate) fn next_page(&mut self) -> Option<Vec<u8>> {
        let wanted = !self.reading && !self.read_all && self.found.is_empty();
        self.reading |= wanted;
        wanted.then(|| self.after.clone())
    }

    /// A page has been read; the last one is shorter than `page_max`.
    pub(crate) fn found(&mut self, keys: &[Vec<u8>], page_max: usize) {
        (self.reading, self.read_all) = (false, keys.len() < page_max);
        if let Some(last) = keys.last() {
            self.after.clone_from(last);
        }
        self.found.extend(keys.iter().filter_map(|key| InstanceId::from_bytes(key)));
    }

    /// The next to be brought back, if fewer than `under_way_max` are on their way.
    pub(crate) fn next(&mut self, unix_ms: u64, under_way_max: usize) -> Option<InstanceId> {
        if self.under_way.len() >= under_way_max {
            return None;
        }
        if let Some((due_ms, id)) = self.timers.first().copied()
            && due_ms <= unix_ms
        {
            self.forget_time(id);
            return Some(id);
        }
        self.unheard.pop_first().or_else(|| {
            let id = self.found.pop_front()?;
            self.recovered += 1;
            Some(id)
        })
    }

    /// It has been asked for.
    pub(crate) fn begin(&mut self, id: InstanceId) {
        self.under_way.insert(id);
    }

    /// It has had its first turn, or has ended before; says whether it was on its way.
    pub(crate) fn end(&mut self, id: InstanceId) -> bool {
        self.under_way.remove(&id)
    }

    /// When the next one is due by the wall clock.
    pub(crate) fn next_time_unix_ms(&self) -> Option<u64> {
        self.timers.first().map(|(unix_ms, _)| *unix_ms)
    }

    /// How many of those that were open at the start have been taken up, and whether that is all.
    pub(crate) fn recovered(&self) -> (u64, bool) {
        (self.recovered, self.read_all && self.found.is_empty() && self.under_way.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use accompanist_core::SessionId;
    use accompanist_core::id::RoleIndex;

    use super::*;

    fn id(number: u64) -> InstanceId {
        InstanceId { session: SessionId::fresh(number, 0), role: RoleIndex(0) }
    }

    #[test]
    fn so_many_come_at_a_time_and_what_is_due_comes_first() {
        let mut returns = Returns::default();
        assert_eq!(returns.next_page(), Some(vec![]));
        assert_eq!(returns.next_page(), None, "it is being read");
        let keys: Vec<_> = (0..4).map(|number| id(number).to_bytes().to_vec()).collect();
        returns.found(&keys, 4);
        returns.say_again(vec![id(10)]);
        returns.wait_until(50, id(20));
        returns.wait_until(60, id(20));
        returns.wait_until(500, id(21));
        assert_eq!(returns.next_time_unix_ms(), Some(60));
        let mut order = Vec::new();
        while let Some(next) = returns.next(100, 3) {
            returns.begin(next);
            order.push(next);
        }
        assert_eq!(order, [id(20), id(10), id(0)]);
        assert!(returns.end(id(10)) && !returns.end(id(10)));
        assert_eq!(returns.next(100, 3), Some(id(1)));
        assert_eq!((returns.recovered(), returns.next_page()), ((2, false), None));
        for next in [2, 3].map(id) {
            assert_eq!(returns.next(100, 9), Some(next));
        }
        assert_eq!(returns.next_page(), Some(id(3).to_bytes().to_vec()));
        returns.found(&[], 4);
        assert_eq!((returns.next(100, 9), returns.next_page()), (None, None));
        returns.forget_time(id(21));
        assert_eq!(returns.next(1_000, 9), None);
    }
}
