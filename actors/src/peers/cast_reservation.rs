//! The casts of starts under way, until their sessions are in the store. Knows names, no sessions.

use std::sync::{Arc, Mutex};

use accompanist_core::NodeId;

use super::known::KnownNodes;
use super::lock;

/// Holds the nodes of a start's cast until its session is in the store: a draining one among them is still needed.
pub(crate) struct CastReservation {
    nodes: Mutex<Vec<NodeId>>,
    known: Arc<Mutex<KnownNodes>>,
}

impl CastReservation {
    pub(super) fn new(nodes: Vec<NodeId>, known: Arc<Mutex<KnownNodes>>) -> Arc<Self> {
        Arc::new(Self { nodes: Mutex::new(nodes), known })
    }

    /// Releases the nodes: the session is in the store, or never will be.
    pub(crate) fn release(&self) {
        let nodes = std::mem::take(&mut *lock(&self.nodes));
        if nodes.is_empty() {
            return;
        }
        let mut known = lock(&self.known);
        for node in nodes {
            if let Some(placed) = known.placed.get_mut(&node) {
                *placed -= 1;
                if *placed == 0 {
                    known.placed.remove(&node);
                }
            }
        }
    }
}

impl Drop for CastReservation {
    fn drop(&mut self) {
        self.release();
    }
}
