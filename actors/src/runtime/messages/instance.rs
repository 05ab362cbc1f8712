//! The messages to an instance.

use accompanist_core::contract::StoreError;
use accompanist_core::frame::Delivery;
use accompanist_core::machine::OutgoingKey;
use accompanist_core::record::Opened;

use super::InstanceRequest;
use crate::writer::{Incarnation, Loaded, Written};

/// A message to an instance.
pub(crate) enum InstanceMessage {
    Deliver(Delivery),
    Acked(OutgoingKey),
    Written(u64, Written),
    Loaded(Loaded),
    /// The writer has refused a write of this actor, or of a state that it has discarded.
    Refused(Incarnation, StoreError),
    StoreFailed(StoreError),
    /// A caller starts the session and watches it: begin if there is nothing yet, and publish the known progress.
    Start(Opened),
    /// A caller asks a question or requests an action.
    Ask(InstanceRequest),
    Wake,
}

impl InstanceMessage {
    /// Returns whether the directory counts the message: an actor that is about to be passivated must not miss it.
    pub(crate) fn is_from_outside(&self) -> bool {
        matches!(self, Self::Deliver(..) | Self::Acked(_) | Self::Start(_) | Self::Ask(_))
    }
}
