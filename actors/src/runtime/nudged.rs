//! Sessions that a peer's nudge has created here and that have not progressed since, bounded for each peer.
//!
//! A nudge is twenty bytes, and the session that it creates stays open on disk until an operator ends it. An honest
//! peer that nudges sends something soon, or the session was over long ago; a peer that only nudges fills the disk.
//! Nudges that would exceed the bound are dropped, and arrive again by themselves. The counts are in memory: after a
//! restart of the node each peer starts from 0. Knows no actors.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use accompanist_core::NodeId;
use accompanist_core::id::InstanceId;

/// The sessions created by nudges; see the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Nudged {
    sessions: Mutex<Sessions>,
    /// The number of these sessions: usually zero, in which case no caller waits for the lock.
    count: AtomicUsize,
}

/// Whether a nudge may create a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Room {
    /// A nudge has created the session before, and it counts already.
    Had,
    /// The session counts from now on.
    Taken,
    /// The sender's nudges have created enough sessions.
    None,
}

#[derive(Debug, Default)]
struct Sessions {
    begun_by: HashMap<InstanceId, NodeId>,
    of: BTreeMap<NodeId, usize>,
}

impl Nudged {
    fn lock(&self) -> MutexGuard<'_, Sessions> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether nudges of `node` may create no more sessions.
    pub(crate) fn is_full(&self, node: &NodeId, count_max: usize) -> bool {
        let begun = if self.count.load(Ordering::Relaxed) == 0 { None } else { self.lock().of.get(node).copied() };
        begun.unwrap_or_default() >= count_max
    }

    /// Counts a session that a nudge of `node` is about to create. It counts from now on and not only once it is
    /// written, because otherwise any number could be on their way to the disk.
    pub(crate) fn begin(&self, id: InstanceId, node: &NodeId, count_max: usize) -> Room {
        let mut sessions = self.lock();
        if sessions.begun_by.contains_key(&id) {
            return Room::Had;
        }
        let count = sessions.of.get(node).copied().unwrap_or_default();
        if count >= count_max {
            return Room::None;
        }
        sessions.of.insert(node.clone(), count + 1);
        sessions.begun_by.insert(id, node.clone());
        self.count.store(sessions.begun_by.len(), Ordering::Relaxed);
        Room::Taken
    }

    /// Stops counting a session that has progressed or is over.
    pub(crate) fn goes_on(&self, id: InstanceId) {
        if self.count.load(Ordering::Relaxed) == 0 {
            return;
        }
        let mut sessions = self.lock();
        let Some(node) = sessions.begun_by.remove(&id) else { return };
        if let Some(count) = sessions.of.get_mut(&node) {
            *count -= 1;
            if *count == 0 {
                sessions.of.remove(&node);
            }
        }
        self.count.store(sessions.begun_by.len(), Ordering::Relaxed);
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use accompanist_core::SessionId;
    use accompanist_core::id::RoleIndex;

    use super::*;

    #[test]
    fn each_peer_may_begin_so_many_that_do_not_go_on() {
        let nudged = Nudged::default();
        let [shop, bank] = ["shop", "bank"].map(|name| NodeId::new(name).unwrap());
        let id = |number| InstanceId { session: SessionId::fresh(number, 0), role: RoleIndex(0) };
        for number in 0..3 {
            assert!(!nudged.is_full(&shop, 3));
            assert_eq!(nudged.begin(id(number), &shop, 3), Room::Taken);
            assert_eq!(nudged.begin(id(number), &shop, 3), Room::Had);
        }
        assert!(nudged.is_full(&shop, 3) && !nudged.is_full(&bank, 3));
        assert_eq!([nudged.begin(id(1), &shop, 3), nudged.begin(id(7), &shop, 3)], [Room::Had, Room::None]);
        nudged.goes_on(id(9)); // A session that is not counted.
        assert!(nudged.is_full(&shop, 3));
        nudged.goes_on(id(1));
        nudged.goes_on(id(1));
        assert!(!nudged.is_full(&shop, 3) && nudged.is_full(&shop, 2));
        for number in [0, 2] {
            nudged.goes_on(id(number));
        }
        assert!(!nudged.is_full(&shop, 1) && nudged.lock().of.is_empty());
    }
}
