//! Steps on services that are under way, so that a shutdown can wait for them instead of cutting them off.
//!
//! Counted from before a turn in which one may begin until its result is on disk: once the node ends and the count is zero,
//! none is under way and none begins. Knows no actors.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use accompanist_core::id::InstanceId;
use tokio::sync::Notify;

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct UnderWay {
    /// Turns in which a step may begin, and instances with steps under way.
    count: AtomicUsize,
    is_ending: AtomicBool,
    none: Notify,
    /// Those of the second kind.
    instances: Mutex<BTreeSet<InstanceId>>,
}

/// A turn of an instance, or an instance with steps under way. Counts as long as it is there.
#[derive(Debug)]
pub(crate) struct Counted {
    all: Arc<UnderWay>,
    instance: Option<InstanceId>,
}

impl UnderWay {
    /// Counts a turn in which a step may begin, unless the node ends.
    pub(crate) fn enter(self: &Arc<Self>) -> Counted {
        self.count.fetch_add(1, Ordering::SeqCst);
        Counted { all: self.clone(), instance: None }
    }

    /// Whether no step may begin any more.
    pub(crate) fn is_ending(&self) -> bool {
        self.is_ending.load(Ordering::SeqCst)
    }

    /// No step begins any more. Returns once none is under way.
    pub(crate) async fn end(&self) {
        self.is_ending.store(true, Ordering::SeqCst);
        loop {
            let none = self.none.notified();
            tokio::pin!(none);
            none.as_mut().enable();
            if self.count.load(Ordering::SeqCst) == 0 {
                return;
            }
            none.await;
        }
    }

    /// The instances with steps under way.
    pub(crate) fn instances(&self) -> Vec<InstanceId> {
        self.lock().iter().copied().collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<InstanceId>> {
        self.instances.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counted {
    /// The turn is over, and the instance has a step under way.
    pub(crate) fn keep(&mut self, instance: InstanceId) {
        if self.instance.is_none() {
            self.instance = Some(instance);
            self.all.lock().insert(instance);
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if let Some(instance) = self.instance {
            self.all.lock().remove(&instance);
        }
        if self.all.count.fetch_sub(1, Ordering::SeqCst) == 1 && self.all.is_ending() {
            self.all.none.notify_waiters();
        }
    }
}
