//! A value that is set once, and the tasks that wait for it.
//!
//! The tasks are woken in the order in which they asked. A watch channel wakes in an order that varies, which would
//! make a simulation run differently.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

/// A value that is set once; see the module's documentation. Clones are the same latch.
#[derive(Debug)]
pub(crate) struct Latch<T>(Arc<Inner<T>>);

#[derive(Debug)]
struct Inner<T> {
    value: Mutex<Option<T>>,
    set: Notify,
}

impl<T> Clone for Latch<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Default for Latch<T> {
    fn default() -> Self {
        Self(Arc::new(Inner { value: Mutex::new(None), set: Notify::new() }))
    }
}

impl<T: Clone> Latch<T> {
    /// Sets the value, unless one is set; returns whether none was.
    pub(crate) fn set(&self, value: T) -> bool {
        let mut known = self.0.value.lock().unwrap_or_else(PoisonError::into_inner);
        let is_first = known.is_none();
        known.get_or_insert(value);
        drop(known);
        if is_first {
            self.0.set.notify_waiters();
        }
        is_first
    }

    /// Returns the value, if it is set.
    pub(crate) fn get(&self) -> Option<T> {
        self.0.value.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until the value is set.
    pub(crate) fn wait(&self) -> impl Future<Output = T> + use<T> {
        let inner = self.0.clone();
        async move {
            loop {
                // Subscribed before the check, so that nothing is missed.
                let set = inner.set.notified();
                let known = inner.value.lock().unwrap_or_else(PoisonError::into_inner).clone();
                match known {
                    Some(value) => return value,
                    None => set.await,
                }
            }
        }
    }
}
