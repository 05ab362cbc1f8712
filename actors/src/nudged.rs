//! Sessions that a peer's nudge has begun here, and in which nothing has happened since: so many for each peer.
//!
//! A nudge is twenty bytes, and what it begins stays open on disk until somebody ends it. An honest peer that nudges has
//! something to say soon, or the session was over for long; a peer that only nudges fills the disk. What it begins beyond the
//! bound is dropped, and comes again by itself. In memory: after a restart of the node each peer counts from 0. Knows no actors.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use accompanist_core::NodeId;
use accompanist_core::id::InstanceId;

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Nudged {
    sessions: Mutex<Sessions>,
    /// How many there are: usually none, and then nobody waits for the lock.
    count: AtomicUsize,
}

/// Whether a nudge may begin a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Room {
    /// It has begun it before, and that counts already.
    Had,
    /// It counts from now on.
    Taken,
    /// Its sender's nudges have begun enough.
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

    /// Whether nudges of `node` may begin no more.
    pub(crate) fn is_full(&self, node: &NodeId, count_max: usize) -> bool {
        let begun = if self.count.load(Ordering::Relaxed) == 0 { None } else { self.lock().of.get(node).copied() };
        begun.unwrap_or_default() >= count_max
    }

    /// A nudge of `node` is about to begin this one: it counts from now on, not once it is written, or any number could be
    /// on their way to the disk.
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

    /// Something has happened in this one, or it is over.
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
        nudged.goes_on(id(9)); // Of another one.
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
