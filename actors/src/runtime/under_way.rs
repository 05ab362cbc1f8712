//! Counts running steps on services, so that a shutdown can wait for them instead of cutting them off.
//!
//! A step counts from before the turn in which it may begin until its result is on disk: once the node ends and the
//! count is zero, no step runs and none begins. Knows no actors.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use accompanist_core::id::InstanceId;
use tokio::sync::Notify;

/// The running steps of a node; see the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct UnderWay {
    /// The number of turns in which a step may begin, plus that of instances with running steps.
    count: AtomicUsize,
    is_ending: AtomicBool,
    none: Notify,
    /// The instances with running steps.
    instances: Mutex<BTreeSet<InstanceId>>,
}

/// A turn of an instance, or an instance with running steps. Counts until it is dropped.
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

    /// Returns whether no step may begin any more.
    pub(crate) fn is_ending(&self) -> bool {
        self.is_ending.load(Ordering::SeqCst)
    }

    /// Prevents further steps, and returns once none is running.
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

    /// Returns the instances with running steps.
    pub(crate) fn instances(&self) -> Vec<InstanceId> {
        self.lock().iter().copied().collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<InstanceId>> {
        self.instances.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counted {
    /// Notes that the turn is over and that the instance has a running step.
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
