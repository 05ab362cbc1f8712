//! Tells initiators that a part of their session is stopped on this node: when it stops, when a frame arrives for it,
//! and when an operator lets it run again. A part in memory tells by itself when its steps need an operator. Knows no
//! actors.

use std::sync::Arc;

use accompanist_core::contract::Space;
use accompanist_core::frame::{Delivery, Frame, Header, RoleTrouble};
use accompanist_core::id::InstanceId;
use accompanist_core::machine::{Outgoing, OutgoingKey};
use accompanist_core::record::{Opened, read_value};

use super::NodeContext;
use crate::runtime::messages::LinkMessage;
use crate::writer::Job;

impl NodeContext {
    /// Lists an instance as stopped, and tells the initiator of its session.
    pub(crate) fn note_stopped(&self, id: InstanceId, reason: String, header: Option<Arc<Header>>) {
        if let Some(header) = &header {
            self.tell_initiator(id, header, Some(RoleTrouble::stopped(reason.clone())));
        }
        self.operator.add_stopped(id, reason, header);
    }

    /// Lists an instance as stopped whose records cannot be read. Its opening may be readable: then the initiator of
    /// its session is told.
    pub(crate) fn note_unreadable(self: &Arc<Self>, id: InstanceId, reason: String) {
        self.operator.add_stopped(id, reason.clone(), None);
        let context = self.clone();
        self.writer.submit(Job::Read(Box::new(move |store| {
            let opening = store.and_then(|store| store.get(Space::Open, &id.to_bytes())).ok().flatten();
            let opened = opening.and_then(|opening| read_value::<Opened>(Space::Open, &opening).ok());
            if let Some(Opened { header, .. }) = opened
                && context.operator.note_header(id, &header)
            {
                context.tell_initiator(id, &header, Some(RoleTrouble::stopped(reason)));
            }
        })));
    }

    /// Takes an instance off the list of stopped ones, and tells the initiator of its session.
    pub(crate) fn forget_stopped(&self, id: InstanceId) {
        if let Some(header) = self.operator.remove_stopped(id) {
            self.tell_initiator(id, &header, None);
        }
    }

    /// Handles a frame for a stopped instance: its sender may wait for that, so the initiator is told once more, unless
    /// it was told within the shortest pause between two nudges.
    pub(crate) fn tell_stopped_again(&self, delivery: &Delivery) {
        let id = delivery.frame.receiver();
        let Some(header) = self.operator.header_of_stopped(id) else { return };
        if !delivery.is_of_cast(&header) {
            return self.note_not_of_cast(delivery);
        }
        if let Some(reason) = self.operator.take_due(id, self.settings.limits.nudge_delay_min_ms) {
            self.tell_initiator(id, &header, Some(RoleTrouble::stopped(reason)));
        }
    }

    /// Sends the initiator of a session what is the trouble of the instance `id`, which is not in memory.
    fn tell_initiator(&self, id: InstanceId, header: &Header, trouble: Option<RoleTrouble>) {
        if let Some((node, frame)) = Frame::about_trouble(id, header, trouble) {
            // Like the answer to a nudge, it asks for no acknowledgement.
            let frames = vec![Outgoing { key: OutgoingKey::Nudge(frame.to), node, frame }];
            self.routes.to_link(LinkMessage::Send { id, frames, acks: Vec::new() });
        }
    }
}
