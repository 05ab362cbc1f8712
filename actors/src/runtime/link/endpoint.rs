//! The link's end of the wire, and the room for the packets that arrive there.

use std::sync::{Arc, Weak};

use accompanist_core::contract::{Transport, Wire};
use accompanist_core::frame::ADVERTISEMENT_NODES_BYTES_MAX;
use ractor::ActorProcessingErr;

use super::due_packets::{FRAME_OVERHEAD_BYTES, PACKET_OVERHEAD_BYTES};
use super::inbox::{LinkInbox, Waiting};
use super::sealing;
use crate::runtime::context::NodeContext;
use crate::runtime::messages::LinkHandle;

/// The end of the wire; the node's routes hold the wire itself.
pub(super) struct Endpoint {
    wire: Weak<dyn Wire>,
    packet_bytes_max: usize,
    /// The packets that have arrived and wait for this link.
    waiting: Arc<Waiting>,
}

impl Endpoint {
    /// Attaches this node to the transport, which passes packets to `link` from now on. Returns the wire, too.
    ///
    /// # Errors
    /// That of the transport; or that its packets are too small for the node's settings and advertisement.
    pub(super) async fn attach(
        context: &NodeContext,
        transport: &dyn Transport,
        link: LinkHandle,
    ) -> Result<(Self, Arc<dyn Wire>), ActorProcessingErr> {
        let waiting = Arc::<Waiting>::default();
        let inbox = Arc::new(LinkInbox::new(context, waiting.clone(), link));
        let wire = transport.attach(context.node.clone(), inbox).await?;
        let packet_bytes_max = sealing::packet_bytes_max(context, wire.as_ref());
        check_room(context, packet_bytes_max)?;
        Ok((Self { wire: Arc::downgrade(&wire), packet_bytes_max, waiting }, wire))
    }

    /// Returns the wire; `None` once the node has stopped.
    pub(super) fn wire(&self) -> Option<Arc<dyn Wire>> {
        self.wire.upgrade()
    }

    /// Returns the size of the largest packet, without its seal.
    pub(super) fn packet_bytes_max(&self) -> usize {
        self.packet_bytes_max
    }

    /// Releases the room of a packet that the link has taken.
    pub(super) fn release(&self, bytes: usize) {
        self.waiting.give_back(bytes);
    }
}

/// Checks that packets of up to `packet_max` bytes carry the largest message and this node's advertisement.
fn check_room(context: &NodeContext, packet_max: usize) -> Result<(), ActorProcessingErr> {
    let payload_max = context.settings.limits.payload_bytes_max;
    if payload_max.saturating_add(FRAME_OVERHEAD_BYTES + PACKET_OVERHEAD_BYTES) > packet_max {
        let text = format!(
            "`payload_bytes_max` is {payload_max}, and the transport carries packets of up to {packet_max} bytes: \
             lower the one or raise the other"
        );
        return Err(text.into());
    }
    let advertisement_bytes = context.advertisement(None).size() + ADVERTISEMENT_NODES_BYTES_MAX;
    if advertisement_bytes + PACKET_OVERHEAD_BYTES > packet_max {
        let text = format!(
            "roles and choreographies take {advertisement_bytes} bytes, and the transport carries packets of up to \
             {packet_max} bytes: give it larger ones"
        );
        return Err(text.into());
    }
    Ok(())
}
