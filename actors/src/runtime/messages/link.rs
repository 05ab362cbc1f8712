//! The messages to the link, and the handle that sends them: messages wait in a separate queue, and the actor is woken
//! once for all of them.
//!
//! A message to an actor costs an allocation and an iteration of its loop. On a busy node several instances send
//! before the link runs; it then handles their messages together, and their frames leave in one packet. Knows
//! no programs and no wire.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use accompanist_core::NodeId;
use accompanist_core::frame::Receipt;
use accompanist_core::id::InstanceId;
use accompanist_core::machine::{Forget, Outgoing};

/// A message to the link, sent by its [`LinkHandle`].
pub(crate) enum LinkMessage {
    /// An instance sends frames or acknowledgements.
    Send { id: InstanceId, frames: Vec<Outgoing>, acks: Vec<Receipt> },
    /// These frames of an instance are not to be sent again.
    Forget { id: InstanceId, what: Forget },
    /// An instance is passivated while these nodes have not acknowledged all of its frames: it is to be reactivated
    /// to resend them.
    Passivated { id: InstanceId, unacknowledged: BTreeSet<NodeId> },
    /// A packet has arrived.
    Packet { from: NodeId, bytes: Vec<u8>, arrived_ms: u64 },
    /// The wire has ended by itself.
    WireClosed(String),
    #[cfg(feature = "testing")]
    Panic,
    /// This node's state has changed: advertise it to all nodes now.
    Announce,
    /// This node is cast in a session that another one starts here, and is unknown: ask it for its advertisement.
    Ask(NodeId),
}

/// Sends messages to one link for as long as it runs. Each link has its own queue, so that nothing is left for the
/// next link.
///
/// The queue holds at most the packets that the inbox admits and the frames of the instances in memory: both are
/// bounded.
#[derive(Clone)]
pub(crate) struct LinkHandle {
    queue: Arc<Mutex<Vec<LinkMessage>>>,
    /// Wakes the link; returns whether it will take the messages.
    wake: Arc<dyn Fn() -> bool + Send + Sync>,
}

impl LinkHandle {
    pub(crate) fn new(wake: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self { queue: Arc::default(), wake: Arc::new(wake) }
    }

    /// Returns whether the link will receive the message; a link that has just failed will not.
    pub(crate) fn tell(&self, message: LinkMessage) -> bool {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.push(message);
        // Wake the link under the lock: the next caller must not rely on a wake-up that fails.
        let heard = queue.len() > 1 || (self.wake)();
        if !heard {
            queue.clear();
        }
        heard
    }

    /// Takes all waiting messages, in the order in which they were sent.
    pub(crate) fn take(&self) -> Vec<LinkMessage> {
        std::mem::take(&mut *self.queue.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
