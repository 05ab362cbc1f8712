//! Maps each instance in memory to its actor, and to the watchers of its progress.
//!
//! The maps are ordered, so that a simulated node wakes its callers in the same order every time. Shared by link,
//! supervisor and instances; the locks are held for a look-up only.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use accompanist_core::id::InstanceId;
use ractor::{ActorId, ActorRef, MessagingErr};
use tokio::sync::watch;

use super::messages::{Admission, InstanceMessage, InstanceProgress};
use super::names::{PartName, Played};

struct Entry {
    actor: ActorRef<InstanceMessage>,
    /// The number of messages from outside that it was sent.
    sent: u64,
    /// Known once the instance is loaded.
    played: Option<Played>,
}

/// The directory of instances; see the module's documentation.
#[derive(Default)]
pub(crate) struct Directory {
    actors: Mutex<BTreeMap<InstanceId, Entry>>,
    /// The number of admitted starts whose instances are not in memory yet.
    starting: Arc<AtomicUsize>,
    watched: Mutex<BTreeMap<InstanceId, watch::Sender<InstanceProgress>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that can panic runs under these locks.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Entry {
    #[expect(clippy::result_large_err, reason = "it is given back as it came")]
    fn tell(&mut self, message: InstanceMessage) -> Result<(), InstanceMessage> {
        let counts = message.is_from_outside();
        self.actor.cast(message).map_err(|error| match error {
            MessagingErr::SendErr(message) => message,
            _ => InstanceMessage::Wake,
        })?;
        self.sent += u64::from(counts);
        Ok(())
    }
}

impl Directory {
    pub(crate) fn has(&self, id: InstanceId) -> bool {
        lock(&self.actors).contains_key(&id)
    }

    /// Sends a message to an instance in memory; returns the message if the instance is not.
    #[expect(clippy::result_large_err, reason = "it is given back as it came")]
    pub(crate) fn tell(&self, id: InstanceId, message: InstanceMessage) -> Result<(), InstanceMessage> {
        match lock(&self.actors).get_mut(&id) {
            Some(entry) => entry.tell(message),
            None => Err(message),
        }
    }

    /// Makes an actor, registers it and sends it a message, all under one lock: an acknowledgement of its first frame
    /// must find it here.
    pub(crate) fn insert_new<E>(
        &self,
        id: InstanceId,
        make: impl FnOnce() -> Result<ActorRef<InstanceMessage>, E>,
        message: InstanceMessage,
    ) -> Result<ActorId, E> {
        let mut actors = lock(&self.actors);
        let actor = make()?;
        let number = actor.get_id();
        let mut entry = Entry { actor, sent: 0, played: None };
        let _ = entry.tell(message); // The actor is new; a failure arrives as an event.
        actors.insert(id, entry);
        Ok(number)
    }

    /// Removes an idle actor, unless it was sent more messages than it has `received`. No message is
    /// sent to its instance before `farewell` has returned.
    pub(crate) fn leave(&self, id: InstanceId, actor: ActorId, received: u64, farewell: impl FnOnce()) -> bool {
        let mut actors = lock(&self.actors);
        if !actors.get(&id).is_some_and(|entry| entry.actor.get_id() == actor && entry.sent == received) {
            return false;
        }
        actors.remove(&id);
        farewell();
        let mut watched = lock(&self.watched);
        if watched.get(&id).is_some_and(watch::Sender::is_closed) {
            watched.remove(&id);
        }
        true
    }

    /// Notes what an instance plays.
    pub(crate) fn note_played(&self, id: InstanceId, played: Played) {
        if let Some(entry) = lock(&self.actors).get_mut(&id) {
            entry.played = Some(played);
        }
    }

    /// Returns what logs call an instance. Its names are known while it is in memory.
    pub(crate) fn name(&self, id: InstanceId) -> PartName {
        PartName::new(id, lock(&self.actors).get(&id).and_then(|entry| entry.played))
    }

    /// Returns the actors of all instances that play the same role of the same choreography.
    pub(crate) fn that_play(&self, played: Played) -> Vec<(InstanceId, ActorRef<InstanceMessage>)> {
        let actors = lock(&self.actors);
        let same = actors.iter().filter(|(_, entry)| entry.played == Some(played));
        same.map(|(id, entry)| (*id, entry.actor.clone())).collect()
    }

    /// Removes the actor, unless another one plays the instance by now. Returns what it played.
    pub(crate) fn remove(&self, id: InstanceId, actor: ActorId) -> Option<Played> {
        let mut actors = lock(&self.actors);
        let is_it = actors.get(&id).is_some_and(|known| known.actor.get_id() == actor);
        if is_it { actors.remove(&id)?.played } else { None }
    }

    pub(crate) fn clear(&self) {
        lock(&self.actors).clear();
    }

    /// Admits a start if there are at most `max` instances with its own.
    pub(crate) fn admit(&self, max: usize) -> Option<Admission> {
        let actors = lock(&self.actors);
        let has_room = actors.len() + self.starting.load(Ordering::SeqCst) < max;
        has_room.then(|| Admission::new(&self.starting))
    }

    pub(crate) fn len(&self) -> usize {
        lock(&self.actors).len()
    }

    /// Watches the progress of an instance from now on.
    pub(crate) fn watch(&self, id: InstanceId) -> watch::Receiver<InstanceProgress> {
        lock(&self.watched).entry(id).or_insert_with(|| watch::channel(InstanceProgress::default()).0).subscribe()
    }

    /// Informs the watchers, if there are any. The watch is removed after the final report, or when there are no
    /// watchers left.
    pub(crate) fn publish(&self, id: InstanceId, tell: impl FnOnce(&mut InstanceProgress)) {
        let mut watched = lock(&self.watched);
        let Some(sender) = watched.get(&id) else { return };
        sender.send_modify(tell);
        if sender.is_closed() || sender.borrow().settled.is_some() {
            watched.remove(&id);
        }
    }

    /// Returns whether a caller has asked for an instance and got no answer yet.
    pub(crate) fn is_unanswered(&self, id: InstanceId) -> bool {
        let is_answered =
            |progress: &InstanceProgress| progress.opened || progress.settled.is_some() || progress.stopped.is_some();
        lock(&self.watched).get(&id).is_some_and(|sender| !is_answered(&sender.borrow()))
    }

    /// Closes all watches: waiting callers learn that the node has stopped.
    pub(crate) fn close(&self) {
        lock(&self.watched).clear();
        self.clear();
    }
}
