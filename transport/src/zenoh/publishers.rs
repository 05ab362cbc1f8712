//! Zenoh's publishers, one for each recent receiver.
//!
//! Declaring and undeclaring use the network and may block, so only the wire's thread does either. This module must
//! not know what is sent. Next: [`super::wire`].

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ::zenoh::pubsub::Publisher;
use accompanist_core::id::NodeId;

/// The most publishers held. When there is one more, the least recently used is undeclared; sending to a peer without
/// a publisher works too and is only a little slower.
const PUBLISHERS_MAX: usize = 1024;

/// The receiver: one node, or all (`None`).
pub(super) type Addressee = Option<NodeId>;

/// The publishers declared by one wire.
#[derive(Default)]
pub(super) struct Publishers {
    declared: Mutex<BTreeMap<Addressee, Entry>>,
    uses: AtomicU64,
}

struct Entry {
    publisher: Arc<Publisher<'static>>,
    used_last: u64,
}

impl Publishers {
    /// Returns the publisher for `to`, if one is declared.
    pub(super) fn get(&self, to: &Addressee) -> Option<Arc<Publisher<'static>>> {
        let used_last = self.uses.fetch_add(1, Ordering::Relaxed);
        let mut declared = self.lock();
        let entry = declared.get_mut(to)?;
        entry.used_last = used_last;
        Some(Arc::clone(&entry.publisher))
    }

    /// Stores a publisher that was just declared, and returns one to be dropped instead, if there are too many.
    pub(super) fn insert(&self, to: Addressee, publisher: Publisher<'static>) -> Option<Arc<Publisher<'static>>> {
        let used_last = self.uses.fetch_add(1, Ordering::Relaxed);
        let mut declared = self.lock();
        declared.insert(to, Entry { publisher: Arc::new(publisher), used_last });
        if declared.len() <= PUBLISHERS_MAX {
            return None;
        }
        let oldest = declared.iter().min_by_key(|(_, entry)| entry.used_last).map(|(to, _)| to.clone())?;
        declared.remove(&oldest).map(|entry| entry.publisher)
    }

    /// Removes the publisher for `to`, to be dropped by the caller.
    pub(super) fn remove(&self, to: &Addressee) -> Option<Arc<Publisher<'static>>> {
        self.lock().remove(to).map(|entry| entry.publisher)
    }

    /// Removes all publishers, to be dropped by the caller.
    pub(super) fn take(&self) -> impl Sized + use<> {
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Addressee, Entry>> {
        self.declared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
