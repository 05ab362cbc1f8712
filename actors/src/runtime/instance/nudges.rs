//! The bound on what the nudges of a peer create: an instance that only nudges have begun counts against their sender.
//! Next: `nudged.rs` of the runtime, which counts.

use accompanist_core::NodeId;
use accompanist_core::frame::{Body, Delivery};

use super::InstanceState;
use super::stage::Stage;
use crate::runtime::messages::InstanceMessage;
use crate::runtime::nudged::Room;

impl InstanceState {
    /// Returns whether the instance may begin with these messages under the limit on nudges: if only nudges create
    /// it, it counts against the sender of the first one.
    pub(super) fn has_room_for(&mut self, early: &[InstanceMessage]) -> bool {
        let mut deliveries = early.iter().filter_map(|message| match message {
            InstanceMessage::Deliver(delivery) => Some(delivery),
            _ => None,
        });
        if !deliveries.clone().all(is_nudge) {
            return true;
        }
        let Some(Delivery { from, .. }) = deliveries.find(|delivery| delivery.from != self.context.node) else {
            return true;
        };
        let has_room = self.take_room(from);
        if !has_room {
            self.context
                .note_dropped("begun by nudges", || format!("{}: enough was begun by nudges of {from}", self.id));
        }
        has_room
    }

    fn take_room(&mut self, from: &NodeId) -> bool {
        let room = self.context.admissions.nudged.begin(self.id, from, self.context.settings.nudged_sessions_max);
        self.holds_room |= room == Room::Taken;
        room != Room::None
    }

    /// Releases the peer's room, because the instance has not begun here for now.
    pub(super) fn give_room_back(&mut self) {
        if std::mem::take(&mut self.holds_room) {
            self.context.admissions.nudged.goes_on(self.id);
        }
    }

    /// Notes a received frame; returns whether the frame may create the instance, if the instance is not proven to be
    /// new here.
    pub(super) fn note_delivery(&mut self, delivery: &Delivery) -> bool {
        if !is_nudge(delivery) {
            self.holds_room = false;
            self.context.admissions.nudged.goes_on(self.id);
            return true;
        }
        let is_begun = |early: &InstanceMessage| matches!(early, InstanceMessage::Deliver(early) if !is_nudge(early));
        let is_begun = match &self.stage {
            Stage::Unproven { early, .. } => early.iter().any(is_begun),
            Stage::Unloaded(_) | Stage::Proven(_) => true,
        };
        is_begun || delivery.from == self.context.node || self.take_room(&delivery.from)
    }
}

fn is_nudge(delivery: &Delivery) -> bool {
    matches!(delivery.frame.body, Body::Nudge(_))
}
