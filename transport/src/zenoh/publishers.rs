//! Zenoh's publishers, one for each peer that was sent to lately.
//!
//! Declaring and undeclaring talk to the network and may block, so only the wire's thread does either.
//! Must not know what is sent. Next: [`super::wire`].

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ::zenoh::pubsub::Publisher;
use accompanist_core::id::NodeId;

/// The most publishers kept. When there is one more, that used longest ago is undeclared;
/// sending to a peer without one works too and is only a little slower.
const PUBLISHERS_MAX: usize = 1024;

/// To whom: one node, or all (`None`).
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
    /// The publisher for `to`, if one is declared.
    pub(super) fn get(&self, to: &Addressee) -> Option<Arc<Publisher<'static>>> {
        let used_last = self.uses.fetch_add(1, Ordering::Relaxed);
        let mut declared = self.lock();
        let entry = declared.get_mut(to)?;
        entry.used_last = used_last;
        Some(Arc::clone(&entry.publisher))
    }

    /// Keeps a publisher that was just declared, and gives back one to be dropped instead.
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

    /// Takes the publisher for `to` out, to be dropped by the caller.
    pub(super) fn remove(&self, to: &Addressee) -> Option<Arc<Publisher<'static>>> {
        self.lock().remove(to).map(|entry| entry.publisher)
    }

    /// Takes all publishers out, to be dropped by the caller.
    pub(super) fn take(&self) -> impl Sized + use<> {
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Addressee, Entry>> {
        self.declared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
