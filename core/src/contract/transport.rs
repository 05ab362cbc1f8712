//! What the runtime asks of a network: a fast wire that may lose, double, reorder and delay.
//!
//! Deliberately weak: reliability is the link's work (acknowledge, retransmit, deduplicate), so that a
//! transport is small and the faulty one of the tests is an honest one. Knows nothing of frames.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crate::id::NodeId;

/// A future in a box, as the contracts return it (they have to be usable as `dyn`).
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A network that nodes can be attached to.
pub trait Transport: Send + Sync + 'static {
    /// Makes `node` reachable; `inbox` gets every packet sent to it or broadcast by others, with the name of the node that sent
    /// it: the name that one attached with. A packet does not say who sent it, so nothing contradicts the network.
    ///
    /// The node is reachable until the returned wire is dropped. A network that cannot refuse a name which is in use (in
    /// another process, say) delivers what the other node of that name broadcasts, too: only what this very wire
    /// broadcasts does not come back to it.
    ///
    /// # Errors
    /// [`TransportError`] when the network cannot be used, with what to do about it.
    fn attach(&self, node: NodeId, inbox: Arc<dyn Inbox>) -> BoxFuture<'_, Result<Arc<dyn Wire>, TransportError>>;

    /// The name of the system whose nodes it connects, if it has one: a node's store is pinned to it. A transport made of others
    /// passes it on.
    fn system(&self) -> Option<&str> {
        None
    }

    /// Who can reach the nodes that are attached here. A node that others reach needs to know its members, and does not
    /// start without them.
    fn exposure(&self) -> Exposure {
        Exposure::Local
    }
}

/// Who can reach a node through a transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Exposure {
    /// Processes of this machine alone.
    Local,
    /// Whoever has a certificate, and in the name of that certificate alone.
    Authenticated,
    /// Anybody, in any name: allowed explicitly, for development and for networks that nobody else reaches.
    Anybody,
}

/// One node's end of a network.
///
/// Both sending methods return at once. They may drop a packet without a word (a full queue, an
/// unknown peer, no connection): who needs it to arrive sends it again.
pub trait Wire: Send + Sync + 'static {
    /// Sends one packet to one node.
    fn send(&self, to: &NodeId, packet: Vec<u8>);

    /// Sends one packet to every other node that is attached now.
    fn broadcast(&self, packet: Vec<u8>);

    /// The largest packet, in bytes, that this network carries.
    fn packet_bytes_max(&self) -> usize;

    /// Makes anew what packets to `to` are sent with: it is up, and what is sent to it does not arrive.
    ///
    /// The link asks for it when `to` itself reports, in packets that do arrive here, that it receives nothing of what
    /// this node sends to it alone, or to all (decision 0020). It asks seldom, with a back-off, [`Heal::Publisher`] first.
    /// Returns at once and must not block: the work is the network's own, in its own time. Packets may be lost meanwhile,
    /// also those of other nodes. A request that comes while an earlier one is carried out may be dropped. Does nothing by
    /// default: a network that keeps no state for a peer has nothing to make anew.
    fn heal(&self, to: &NodeId, level: Heal) {
        let _ = (to, level);
    }
}

/// How much of the way to a peer is made anew by [`Wire::heal`]. A greater level includes the lesser ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Heal {
    /// What was declared at the network to send to this peer, such as its publishers, that to all
    /// included. Costs the other peers nothing.
    Publisher,
    /// The transport session as well: closed and opened anew, if need be with all peers.
    Session,
}

/// Where packets arrive.
pub trait Inbox: Send + Sync + 'static {
    /// Takes one packet of the node `from`. Must not block: it is called on the network's own thread.
    fn receive(&self, from: &NodeId, packet: &[u8]);

    /// The wire has ended by itself (its thread has, say), and carries nothing any more: to be told instead of being silent for
    /// ever. Whoever is attached attaches anew. Nothing has to be told of a wire that was dropped. Must not block.
    fn closed(&self, reason: &str) {
        let _ = reason;
    }
}

/// A network that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// The configuration is refused.
    #[error("the transport's configuration is refused: {0}")]
    Config(String),
    /// The network cannot be opened, for instance because an address is in use.
    #[error("the transport cannot be opened: {0}")]
    Open(String),
    /// Another node of the same name is attached.
    #[error("a node named `{0}` is attached already: give each node its own name")]
    NameTaken(NodeId),
}
