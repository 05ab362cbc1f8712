//! The nodes that are attached to an in-process network.
//!
//! Shared by the local and the faulty network; this module must not know how packets travel. Next:
//! [`crate::LocalNetwork`].

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use accompanist_core::contract::{Inbox, TransportError};
use accompanist_core::id::NodeId;

use crate::metric;

/// The attached nodes, sorted by name so that a broadcast has the same order in every run.
#[derive(Default)]
pub(crate) struct Registry(Mutex<BTreeMap<NodeId, Arc<dyn Inbox>>>);

impl Registry {
    /// Adds `node`, or refuses a name in use.
    pub(crate) fn attach(&self, node: &NodeId, inbox: Arc<dyn Inbox>) -> Result<(), TransportError> {
        let mut nodes = self.lock();
        if nodes.contains_key(node) {
            return Err(TransportError::NameTaken(node.clone()));
        }
        nodes.insert(node.clone(), inbox);
        Ok(())
    }

    /// Removes `node`.
    pub(crate) fn detach(&self, node: &NodeId) {
        // The inbox is dropped after the lock is released: its owner may call the registry while it is dropped.
        let inbox = self.lock().remove(node);
        drop(inbox);
    }

    /// Returns every attached node except `node`, in the order of their names.
    pub(crate) fn others(&self, node: &NodeId) -> Vec<NodeId> {
        self.lock().keys().filter(|other| *other != node).cloned().collect()
    }

    /// Passes `packet` of `from` to the inbox of `to`; returns false if no node of that name is attached.
    pub(crate) fn deliver(&self, from: &NodeId, to: &NodeId, packet: &[u8]) -> bool {
        // The lock is not held while the inbox is called: the inbox may send, attach or detach.
        let inbox = self.lock().get(to).cloned();
        if let Some(inbox) = inbox {
            metric::received(packet.len());
            inbox.receive(from, packet);
            true
        } else {
            metric::dropped(metric::Drop::Unreachable);
            false
        }
    }

    /// Passes `packet` to one node or to all, as if `from` had sent it. A node named `from` receives it too: two
    /// nodes may have the same name.
    #[cfg(feature = "testing")]
    pub(crate) fn inject(&self, from: &NodeId, to: Option<&NodeId>, packet: &[u8]) {
        let all = || self.lock().keys().cloned().collect();
        for to in to.map_or_else(all, |to| vec![to.clone()]) {
            self.deliver(from, &to, packet);
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<NodeId, Arc<dyn Inbox>>> {
        // The map is consistent between any two calls, so a panic of another thread leaves nothing half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
