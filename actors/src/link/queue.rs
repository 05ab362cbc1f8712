//! The way to the link: what it is told waits in a queue of its own, and the actor is woken once for all of it.
//!
//! A message of an actor costs an allocation and a turn of its loop. On a busy node several instances speak before the
//! link comes to it; so it hears them together, and what they say leaves in one packet. Knows no frames.

use std::sync::{Arc, Mutex, PoisonError};

use ractor::ActorRef;

use super::{LinkMessage, LinkSignal};

/// Tells one link, as long as it lives. Each link has a queue of its own, so that nothing is left for the next one.
///
/// The queue holds at most the packets that the inbox lets in, and what the instances in memory say: both are bounded.
#[derive(Clone)]
pub(crate) struct LinkHandle {
    queue: Arc<Mutex<Vec<LinkMessage>>>,
    link: ActorRef<LinkSignal>,
}

impl LinkHandle {
    pub(super) fn new(link: ActorRef<LinkSignal>) -> Self {
        Self { queue: Arc::default(), link }
    }

    /// Says whether the link will hear of it; one that has just failed does not.
    pub(crate) fn tell(&self, message: LinkMessage) -> bool {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.push(message);
        // Under the lock: the next one must not rely on a wake-up that fails.
        let heard = queue.len() > 1 || self.link.cast(LinkSignal::Told).is_ok();
        if !heard {
            queue.clear();
        }
        heard
    }

    /// All that waits, in the order in which it was told.
    pub(super) fn take(&self) -> Vec<LinkMessage> {
        std::mem::take(&mut *self.queue.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
