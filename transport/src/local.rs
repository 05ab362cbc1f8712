//! The network inside one process: every packet arrives, at once and in order.
//!
//! For several nodes in one process, examples and tests. This module must not know faults. Next:
//! [`crate::FaultyNetwork`].

use std::future::ready;
use std::sync::Arc;

use accompanist_core::contract::{BoxFuture, Inbox, Transport, TransportError, Wire};
use accompanist_core::id::NodeId;

use crate::registry::Registry;
use crate::{PACKET_BYTES_MAX_DEFAULT, metric};

/// A network inside this process. Clones are the same network.
///
/// Sending calls the receiver's inbox on the sender's thread, before `send` returns.
#[derive(Clone, Default)]
pub struct LocalNetwork {
    registry: Arc<Registry>,
}

impl LocalNetwork {
    /// Creates a network with no node attached.
    pub fn new() -> Self {
        Self::default()
    }

    /// Delivers a packet to one node, or to all that are attached, as if the node `from` had sent it, whether a node
    /// of that name is attached or not: a stranger, for tests.
    #[cfg(feature = "testing")]
    pub fn inject(&self, from: &NodeId, to: Option<&NodeId>, packet: &[u8]) {
        self.registry.inject(from, to, packet);
    }
}

impl Transport for LocalNetwork {
    fn attach(&self, node: NodeId, inbox: Arc<dyn Inbox>) -> BoxFuture<'_, Result<Arc<dyn Wire>, TransportError>> {
        let attached = self.registry.attach(&node, inbox);
        let registry = Arc::clone(&self.registry);
        Box::pin(ready(attached.map(|()| Arc::new(LocalWire { registry, node }) as Arc<dyn Wire>)))
    }
}

/// One node's end of a [`LocalNetwork`].
struct LocalWire {
    registry: Arc<Registry>,
    node: NodeId,
}

impl LocalWire {
    fn deliver(&self, to: &NodeId, packet: &[u8]) {
        if packet.len() > PACKET_BYTES_MAX_DEFAULT {
            metric::dropped(metric::Drop::Oversize);
        } else {
            metric::sent(packet.len());
            self.registry.deliver(&self.node, to, packet);
        }
    }
}

impl Wire for LocalWire {
    fn send(&self, to: &NodeId, packet: Vec<u8>) {
        self.deliver(to, &packet);
    }

    fn broadcast(&self, packet: Vec<u8>) {
        for to in self.registry.others(&self.node) {
            self.deliver(&to, &packet);
        }
    }

    // The same limit as Zenoh's, so that packets that work here are not too large there.
    fn packet_bytes_max(&self) -> usize {
        PACKET_BYTES_MAX_DEFAULT
    }
}

impl Drop for LocalWire {
    fn drop(&mut self) {
        self.registry.detach(&self.node);
    }
}
