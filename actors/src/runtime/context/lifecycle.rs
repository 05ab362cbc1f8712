//! How long a node runs: until it is told to stop, or cannot go on. Knows no actors. Next: `node/life.rs`.

use std::sync::Arc;

use accompanist_core::contract::StoreError;
use tokio::runtime::Handle;
use tokio::sync::Mutex;

use crate::base::latch::Latch;
use crate::error::NodeError;
use crate::runtime::under_way::UnderWay;

/// How a node has ended.
#[derive(Debug, Clone)]
pub(crate) enum End {
    /// The node was shut down or killed.
    Stopped,
    Failed(NodeError),
}

/// The life of a node; see the module's documentation.
pub(crate) struct Lifecycle {
    /// The runtime that the node was started on.
    pub(crate) runtime: Handle,
    /// The running steps on services.
    pub(crate) under_way: Arc<UnderWay>,
    /// Held while the actors are being stopped.
    pub(crate) stopping: Mutex<()>,
    /// Set when the node no longer runs.
    pub(crate) end: Latch<End>,
}

impl Lifecycle {
    /// Waits for `change`, unless the node stops first.
    pub(crate) async fn unless_stopped(&self, change: impl Future<Output = ()>) -> Result<(), StoreError> {
        tokio::select! {
            biased;
            // Closed also after a shutdown: then there is no further reason to give.
            _ = self.end.wait() => Err(StoreError::Closed),
            () = change => Ok(()),
        }
    }

    /// Begins a life on the current runtime.
    pub(crate) fn begin() -> Self {
        let (under_way, stopping, end) = (Arc::default(), Mutex::default(), Latch::default());
        Self { runtime: Handle::current(), under_way, stopping, end }
    }
}
