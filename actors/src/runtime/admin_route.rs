//! The way of operators' requests from the network to what answers them. Bounded: when too many wait, a request is
//! dropped, and its caller learns of it as of a node that is away. Knows no requests.

use std::sync::OnceLock;

use accompanist_core::contract::AdminCall;
use tokio::sync::mpsc;

use crate::base::dropped::Dropped;

/// The way of operators' requests; see the module's documentation.
#[derive(Default)]
pub(crate) struct AdminRoute(OnceLock<mpsc::Sender<AdminCall>>);

impl AdminRoute {
    /// Passes requests to the returned queue of `calls_max` from now on; `None` if another queue has them.
    pub(crate) fn open(&self, calls_max: usize) -> Option<mpsc::Receiver<AdminCall>> {
        let (sender, receiver) = mpsc::channel(calls_max);
        self.0.set(sender).ok().map(|()| receiver)
    }

    pub(crate) fn pass(&self, call: AdminCall) {
        let passed = self.0.get().is_some_and(|queue| queue.try_send(call).is_ok());
        if !passed {
            Dropped::count("operator's request");
        }
    }
}
