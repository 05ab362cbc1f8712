//! A network that an attacker listens to: what a node sends is told to a socket as well.
//!
//! Next: [`crate::attack`], which reads it. Lossy, and never in the way: nobody may be there to read.

use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use accompanist::contract::{BoxFuture, Exposure, Heal, Inbox, Transport, TransportError, Wire};
use accompanist::prelude::*;
use accompanist_core::frame::Packet;
use serde::{Deserialize, Serialize};

/// A packet as its sender gave it to the network; without a receiver it was for all.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Overheard {
    pub(crate) from: String,
    pub(crate) to: Option<String>,
    pub(crate) bytes: Vec<u8>,
}

impl Overheard {
    /// The packet, unless it is sealed.
    pub(crate) fn packet(&self) -> Option<Packet> {
        let from = NodeId::new(&self.from).ok()?;
        let to = NodeId::new(self.to.as_ref().unwrap_or(&self.from)).ok()?;
        Packet::from_bytes(&self.bytes, &from, &to).ok()
    }
}

/// See the module's documentation.
pub(crate) struct Tapped<T> {
    transport: T,
    socket: Arc<UnixDatagram>,
    at: PathBuf,
}

impl<T: Transport> Tapped<T> {
    /// Tells the socket at `at`, if somebody has bound one there.
    pub(crate) fn new(transport: T, at: &Path) -> std::io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(Self { transport, socket: Arc::new(socket), at: at.into() })
    }
}

impl<T: Transport> Transport for Tapped<T> {
    fn attach(&self, node: NodeId, inbox: Arc<dyn Inbox>) -> BoxFuture<'_, Result<Arc<dyn Wire>, TransportError>> {
        Box::pin(async move {
            let wire = self.transport.attach(node.clone(), inbox).await?;
            let (socket, at) = (self.socket.clone(), self.at.clone());
            Ok(Arc::new(TappedWire { wire, node, socket, at }) as Arc<dyn Wire>)
        })
    }
    fn system(&self) -> Option<&str> {
        self.transport.system()
    }
    fn exposure(&self) -> Exposure {
        self.transport.exposure()
    }
}

struct TappedWire {
    wire: Arc<dyn Wire>,
    node: NodeId,
    socket: Arc<UnixDatagram>,
    at: PathBuf,
}

impl TappedWire {
    fn tell(&self, to: Option<&NodeId>, bytes: &[u8]) {
        let to = to.map(ToString::to_string);
        let overheard = Overheard { from: self.node.to_string(), to, bytes: bytes.to_vec() };
        if let Ok(told) = postcard::to_stdvec(&overheard) {
            let _ = self.socket.send_to(&told, &self.at); // Nobody may be there, or nobody in time.
        }
    }
}

impl Wire for TappedWire {
    fn send(&self, to: &NodeId, packet: Vec<u8>) {
        self.tell(Some(to), &packet);
        self.wire.send(to, packet);
    }
    fn broadcast(&self, packet: Vec<u8>) {
        self.tell(None, &packet);
        self.wire.broadcast(packet);
    }
    fn packet_bytes_max(&self) -> usize {
        self.wire.packet_bytes_max()
    }
    fn heal(&self, to: &NodeId, level: Heal) {
        self.wire.heal(to, level);
    }
}
