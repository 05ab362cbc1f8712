//! An inbox that remembers, and how tests wait on it. Next: `contract.rs`.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use accompanist_core::contract::{Inbox, Transport, Wire};
use accompanist_core::id::NodeId;
use tokio::sync::Notify;
use tokio::time::timeout;

/// Ends a test that hangs.
const SAFETY: Duration = Duration::from_mins(1);
/// How long to wait before sending again what may have been lost.
const RESEND: Duration = Duration::from_millis(50);

#[derive(Default)]
pub(crate) struct Recorder {
    packets: Mutex<Vec<(NodeId, Vec<u8>)>>,
    arrival: Notify,
}

impl Inbox for Recorder {
    fn receive(&self, from: &NodeId, packet: &[u8]) {
        self.packets.lock().unwrap().push((from.clone(), packet.to_vec()));
        self.arrival.notify_one();
    }
}

impl Recorder {
    pub(crate) fn packets(&self) -> Vec<Vec<u8>> {
        self.packets.lock().unwrap().iter().map(|(_, packet)| packet.clone()).collect()
    }

    /// Who has sent this packet.
    pub(crate) fn senders(&self, packet: &[u8]) -> BTreeSet<NodeId> {
        let packets = self.packets.lock().unwrap();
        packets.iter().filter(|(_, received)| received == packet).map(|(from, _)| from.clone()).collect()
    }

    pub(crate) fn has(&self, packet: &[u8]) -> bool {
        self.packets.lock().unwrap().iter().any(|(_, received)| received == packet)
    }

    async fn wait_for(&self, packet: &[u8]) {
        while !self.has(packet) {
            self.arrival.notified().await;
        }
    }
}

/// A node attached to a network, and what it has received.
pub(crate) struct Member {
    pub(crate) id: NodeId,
    pub(crate) wire: Arc<dyn Wire>,
    pub(crate) inbox: Arc<Recorder>,
}

impl Member {
    pub(crate) async fn attach(network: &dyn Transport, name: &str) -> Self {
        let (id, inbox) = (node(name), Arc::new(Recorder::default()));
        let wire = network.attach(id.clone(), Arc::clone(&inbox) as Arc<dyn Inbox>).await.expect("the name is free");
        Self { id, wire, inbox }
    }

    /// Sends `packet` to `to` again and again until it has arrived, as whoever uses a lossy wire does.
    pub(crate) async fn send_until_received(&self, to: &Self, packet: &[u8]) {
        repeat_until(|| self.wire.send(&to.id, packet.to_vec()), to, packet).await;
    }

    /// Broadcasts `packet` again and again until `to` has got it.
    pub(crate) async fn broadcast_until_received(&self, to: &Self, packet: &[u8]) {
        repeat_until(|| self.wire.broadcast(packet.to_vec()), to, packet).await;
    }
}

async fn repeat_until(send: impl Fn(), to: &Member, packet: &[u8]) {
    let repeated = async {
        loop {
            send();
            if timeout(RESEND, to.inbox.wait_for(packet)).await.is_ok() {
                break;
            }
        }
    };
    timeout(SAFETY, repeated).await.unwrap_or_else(|_| panic!("{} bytes never reached {}", packet.len(), to.id));
}

pub(crate) fn node(name: &str) -> NodeId {
    NodeId::new(name).expect("a valid name")
}
