//! The packets that have arrived and wait for the link, bounded in number and in bytes. Further packets are dropped;
//! their senders resend them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use accompanist_core::NodeId;
use accompanist_core::contract::{AdminCall, Environment, Inbox};

use crate::base::dropped::Dropped;
use crate::config::Settings;
use crate::runtime::admin_route::AdminRoute;
use crate::runtime::context::NodeContext;
use crate::runtime::messages::{LinkHandle, LinkMessage};

/// The number and the bytes of the waiting packets.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    packets: AtomicUsize,
    bytes: AtomicUsize,
}

impl Waiting {
    /// Reserves room for a packet, if there is some.
    fn take(&self, bytes: usize, packets_max: usize, bytes_max: usize) -> bool {
        let packets_before = self.packets.fetch_add(1, Ordering::Relaxed);
        let bytes_before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        // A packet larger than all the room is admitted alone: packets have a bound of their own.
        let room = packets_before < packets_max && (bytes_before == 0 || bytes_before + bytes <= bytes_max);
        if !room {
            self.give_back(bytes);
        }
        room
    }

    /// Releases the room of a packet that the link has taken.
    pub(super) fn give_back(&self, bytes: usize) {
        self.packets.fetch_sub(1, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// Passes packets from the network's thread to the link, and drops them when too many wait. The network holds this
/// value, so it holds nothing of the node: otherwise a node that is never stopped would keep itself alive.
pub(super) struct LinkInbox {
    waiting: Arc<Waiting>,
    packets_max: usize,
    bytes_max: usize,
    environment: Arc<dyn Environment>,
    link: LinkHandle,
    admin: Arc<AdminRoute>,
}

impl LinkInbox {
    pub(super) fn new(context: &NodeContext, waiting: Arc<Waiting>, link: LinkHandle) -> Self {
        let Settings { inbox_packets_max: packets_max, inbox_bytes_max: bytes_max, .. } = context.settings;
        let (environment, admin) = (context.environment.clone(), context.routes.admin());
        Self { waiting, packets_max, bytes_max, environment, link, admin }
    }
}

impl Inbox for LinkInbox {
    fn receive(&self, from: &NodeId, packet: &[u8]) {
        if !self.waiting.take(packet.len(), self.packets_max, self.bytes_max) {
            Dropped::count("inbox full");
            return;
        }
        let arrived_ms = self.environment.monotonic_ms();
        if !self.link.tell(LinkMessage::Packet { from: from.clone(), bytes: packet.to_vec(), arrived_ms }) {
            self.waiting.give_back(packet.len());
        }
    }

    fn admin(&self, call: AdminCall) {
        self.admin.pass(call);
    }

    fn closed(&self, reason: &str) {
        self.link.tell(LinkMessage::WireClosed(reason.to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_for_so_many_packets_and_so_many_bytes() {
        let waiting = Waiting::default();
        let taken = |bytes| waiting.take(bytes, 3, 100);
        assert!(taken(60) && taken(40) && !taken(1), "all bytes are taken");
        waiting.give_back(60);
        assert!(taken(10) && taken(10) && !taken(10), "three packets wait");
        let waiting = Waiting::default();
        let taken = |bytes| waiting.take(bytes, 3, 100);
        assert!(taken(500) && !taken(1), "alone");
        waiting.give_back(500);
        assert!(taken(1));
    }
}
