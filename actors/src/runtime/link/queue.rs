//! The handle on the link: messages wait in a separate queue, and the actor is woken once for all of them.
//!
//! A message to an actor costs an allocation and an iteration of its loop. On a busy node several instances send
//! before the link runs; it then handles their messages together, and their frames leave in one packet. Knows no
//! frames.

use std::sync::{Arc, Mutex, PoisonError};

use ractor::ActorRef;

use super::{LinkMessage, LinkSignal};

/// Sends messages to one link for as long as it runs. Each link has its own queue, so that nothing is left for the
/// next link.
///
/// The queue holds at most the packets that the inbox admits and the frames of the instances in memory: both are
/// bounded.
#[derive(Clone)]
pub(crate) struct LinkHandle {
    queue: Arc<Mutex<Vec<LinkMessage>>>,
    link: ActorRef<LinkSignal>,
}

impl LinkHandle {
    pub(super) fn new(link: ActorRef<LinkSignal>) -> Self {
        Self { queue: Arc::default(), link }
    }

    /// Returns whether the link will receive the message; a link that has just failed will not.
    pub(crate) fn tell(&self, message: LinkMessage) -> bool {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.push(message);
        // Wake the link under the lock: the next caller must not rely on a wake-up that fails.
        let heard = queue.len() > 1 || self.link.cast(LinkSignal::Told).is_ok();
        if !heard {
            queue.clear();
        }
        heard
    }

    /// Takes all waiting messages, in the order in which they were sent.
    pub(super) fn take(&self) -> Vec<LinkMessage> {
        std::mem::take(&mut *self.queue.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
