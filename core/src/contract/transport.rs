//! The network interface that the runtime requires: a fast wire that may lose, duplicate, reorder and delay packets.
//!
//! The contract is deliberately weak. Reliability is the task of the link (acknowledge, resend, deduplicate), so that
//! a transport is small and the faulty transport of the tests is realistic. This module does not know frames.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crate::base::error_text::debug_as_text;
use crate::base::id::NodeId;

/// A boxed future, as the contracts return it so that they can be used as `dyn`.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A network that nodes can be attached to.
pub trait Transport: Send + Sync + 'static {
    /// Makes `node` reachable. `inbox` receives every packet sent to the node or broadcast by others, together with
    /// the name under which the sender attached. The packet itself does not name its sender, so nothing can
    /// contradict the network.
    ///
    /// The node is reachable until the returned wire is dropped. A network that cannot refuse a name already in use
    /// (in another process, say) also delivers the broadcasts of the other node of that name; only the broadcasts of
    /// this very wire are not delivered back to it.
    ///
    /// # Errors
    /// [`TransportError`] if the network cannot be used, with what to do about it.
    fn attach(&self, node: NodeId, inbox: Arc<dyn Inbox>) -> BoxFuture<'_, Result<Arc<dyn Wire>, TransportError>>;

    /// The name of the system whose nodes this transport connects, if it has one. A node's store is pinned to that
    /// name. A transport that wraps others passes the call on.
    fn system(&self) -> Option<&str> {
        None
    }

    /// The set of parties that can reach the attached nodes. A node that can be reached from outside must know its
    /// members, and does not start otherwise.
    fn exposure(&self) -> Exposure {
        Exposure::Local
    }
}

/// The parties that can reach a node through a transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Exposure {
    /// Only processes of this machine.
    Local,
    /// Every holder of a certificate, but only in the name of that certificate.
    Authenticated,
    /// Anybody, in any name. This must be allowed explicitly, and is meant for development and for networks that
    /// nobody else reaches.
    Anybody,
}

/// One node's end of a network.
///
/// Both sending methods return at once. They may drop a packet silently (full queue, unknown peer, no connection); a
/// sender that needs the packet to arrive resends it.
pub trait Wire: Send + Sync + 'static {
    /// Sends one packet to one node.
    fn send(&self, to: &NodeId, packet: Vec<u8>);

    /// Sends one packet to every other node that is currently attached.
    fn broadcast(&self, packet: Vec<u8>);

    /// The maximum size of a packet in bytes on this network.
    fn packet_bytes_max(&self) -> usize;

    /// Rebuilds the sending path to `to`, because the peer is up but does not receive packets from this node.
    ///
    /// The link calls this when `to` reports, in packets that do arrive here, that it receives nothing of what this
    /// node sends to it alone, or of what it broadcasts (decision 0020). Calls are rare and follow a back-off,
    /// starting with [`Heal::Publisher`]. The method returns at once and must not block: the network does the work in
    /// its own time. Packets may be lost meanwhile, including those of other nodes. A call made while an earlier one
    /// is carried out may be ignored. The default does nothing: a network without per-peer state has nothing to
    /// rebuild.
    fn heal(&self, to: &NodeId, level: Heal) {
        let _ = (to, level);
    }
}

/// The part of the path to a peer that [`Wire::heal`] rebuilds. A greater level includes the smaller ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Heal {
    /// The declarations made at the network in order to send to this peer, such as its publishers, including the
    /// broadcast publisher. Other peers are not affected.
    Publisher,
    /// The transport session as well: it is closed and opened again, if necessary with all peers.
    Session,
}

/// What a request of an operator's tool may do, so that networks can permit the one and not the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AdminAccess {
    /// Read what the node knows.
    Read,
    /// Change something.
    Write,
}

impl AdminAccess {
    /// The word for it in keys and addresses.
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
        }
    }
}

/// A request of an operator's tool to a node, which arrived over the network.
pub struct AdminCall {
    /// The name in which it was sent, as the network knows it.
    pub caller: NodeId,
    /// What the network lets the caller do.
    pub access: AdminAccess,
    /// The request.
    pub request: Vec<u8>,
    /// Sends the response. Must be called at most once, and returns at once; without it the caller waits in vain.
    pub respond: Box<dyn FnOnce(Vec<u8>) + Send>,
}

impl fmt::Debug for AdminCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { caller, access, request, .. } = self;
        write!(f, "AdminCall({caller}, {}, {} bytes)", access.name(), request.len())
    }
}

/// The receiver of a node's packets.
pub trait Inbox: Send + Sync + 'static {
    /// Receives one packet from node `from`. Must not block: it is called on the network's own thread.
    fn receive(&self, from: &NodeId, packet: &[u8]);

    /// Receives a request of an operator's tool. Must not block: it is called on the network's own thread. The default
    /// leaves it without a response.
    fn admin(&self, call: AdminCall) {
        drop(call);
    }

    /// Called when the wire has ended by itself (because its thread has ended, say) and carries nothing any more, so
    /// that the node is not silent for ever. The node then attaches again. A wire that was dropped does not report
    /// this. Must not block.
    fn closed(&self, reason: &str) {
        let _ = reason;
    }
}

/// The error of a network that cannot be used.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum TransportError {
    /// The configuration is refused.
    #[error("the transport's configuration is refused: {0}")]
    Config(String),
    /// The network cannot be opened, for instance because an address is in use.
    #[error("the transport cannot be opened: {0}")]
    Open(String),
    /// Another node of the same name is already attached.
    #[error("a node named `{0}` is attached already: give each node its own name")]
    NameTaken(NodeId),
}

debug_as_text!(TransportError);
