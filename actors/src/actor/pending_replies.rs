//! The callers that wait for replies, in this run of the node. This module identifies channels by their session, and
//! knows nothing about actors.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use accompanist_core::SessionId;
use tokio::sync::oneshot;

use super::channel::Answer;

/// A channel, a key, and a number that distinguishes callers that wait for the same reply.
type Place = (SessionId, String, u64);

#[derive(Default)]
struct WaitingCallers {
    next: u64,
    waiting: BTreeMap<Place, oneshot::Sender<Answer>>,
}

/// See the module's documentation. The number of entries is the number of callers that wait.
#[derive(Default)]
pub(super) struct PendingReplies(Mutex<WaitingCallers>);

impl PendingReplies {
    fn lock(&self) -> MutexGuard<'_, WaitingCallers> {
        // Nothing that can panic runs under this lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the reply under `key`.
    pub(super) fn wait(self: &Arc<Self>, channel: SessionId, key: &str) -> Waiter {
        let (answer, reply) = oneshot::channel();
        let mut places = self.lock();
        places.next += 1;
        let place = (channel, key.to_owned(), places.next);
        places.waiting.insert(place.clone(), answer);
        Waiter { askers: self.clone(), place, reply }
    }

    /// Hands a reply to the callers that wait for it.
    pub(super) fn answer(&self, channel: SessionId, key: &str, answer: &Answer) {
        let mut places = self.lock();
        let at = |number| (channel, key.to_owned(), number);
        let of_key: Vec<_> = places.waiting.range(at(0)..=at(u64::MAX)).map(|(place, _)| place.clone()).collect();
        for asker in of_key.iter().filter_map(|place| places.waiting.remove(place)) {
            let _ = asker.send(answer.clone()); // The caller may just have gone.
        }
    }
}

/// A caller that waits for a reply; removed when dropped.
pub(super) struct Waiter {
    askers: Arc<PendingReplies>,
    place: Place,
    pub(super) reply: oneshot::Receiver<Answer>,
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.askers.lock().waiting.remove(&self.place);
    }
}
