//! Which actor plays which instance now, and who watches its progress.
//!
//! Ordered maps, so that a simulated node wakes its callers in the same order every time.
//! Shared by link, supervisor and instances. Its locks are held for a look-up only.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use accompanist_core::id::InstanceId;
use ractor::{ActorId, ActorRef, MessagingErr};
use tokio::sync::watch;

use crate::instance_actor::InstanceMessage;
use crate::session::Progress;

/// What an instance plays: names, of a choreography and of one of its roles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Played {
    pub(crate) choreography: &'static str,
    pub(crate) role: &'static str,
}

struct Entry {
    actor: ActorRef<InstanceMessage>,
    /// How much it has been told from outside.
    told: u64,
    /// Known once it is loaded.
    played: Option<Played>,
}

/// See the module's documentation.
#[derive(Default)]
pub(crate) struct Directory {
    actors: Mutex<BTreeMap<InstanceId, Entry>>,
    /// Starts that were let in, and whose instances are not there yet.
    starting: Mutex<usize>,
    watched: Mutex<BTreeMap<InstanceId, watch::Sender<Progress>>>,
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
        self.told += u64::from(counts);
        Ok(())
    }
}

impl Directory {
    pub(crate) fn has(&self, id: InstanceId) -> bool {
        lock(&self.actors).contains_key(&id)
    }

    /// Tells an instance that is in memory; gives the message back if it is not.
    #[expect(clippy::result_large_err, reason = "it is given back as it came")]
    pub(crate) fn tell(&self, id: InstanceId, message: InstanceMessage) -> Result<(), InstanceMessage> {
        match lock(&self.actors).get_mut(&id) {
            Some(entry) => entry.tell(message),
            None => Err(message),
        }
    }

    /// Makes an actor, notes it and tells it something, in one go: an acknowledgement of its first word must find it
    /// here.
    pub(crate) fn insert_new<E>(
        &self,
        id: InstanceId,
        make: impl FnOnce() -> Result<ActorRef<InstanceMessage>, E>,
        message: InstanceMessage,
    ) -> Result<ActorId, E> {
        let mut actors = lock(&self.actors);
        let actor = make()?;
        let number = actor.get_id();
        let mut entry = Entry { actor, told: 0, played: None };
        let _ = entry.tell(message); // It has just been made; a failure comes as an event.
        actors.insert(id, entry);
        Ok(number)
    }

    /// An actor that waits leaves memory, unless it has been told more than the `told` that it has come by. Nobody is
    /// told anything of its instance before `farewell` is over.
    pub(crate) fn leave(&self, id: InstanceId, actor: ActorId, told: u64, farewell: impl FnOnce()) -> bool {
        let mut actors = lock(&self.actors);
        if !actors.get(&id).is_some_and(|entry| entry.actor.get_id() == actor && entry.told == told) {
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

    /// Says what an instance plays.
    pub(crate) fn note_played(&self, id: InstanceId, played: Played) {
        if let Some(entry) = lock(&self.actors).get_mut(&id) {
            entry.played = Some(played);
        }
    }

    /// The actors of all instances that play the same.
    pub(crate) fn that_play(&self, played: Played) -> Vec<(InstanceId, ActorRef<InstanceMessage>)> {
        let actors = lock(&self.actors);
        let same = actors.iter().filter(|(_, entry)| entry.played == Some(played));
        same.map(|(id, entry)| (*id, entry.actor.clone())).collect()
    }

    /// Forgets the actor, unless another one plays the instance by now. Gives what it played.
    pub(crate) fn remove(&self, id: InstanceId, actor: ActorId) -> Option<Played> {
        let mut actors = lock(&self.actors);
        let is_it = actors.get(&id).is_some_and(|known| known.actor.get_id() == actor);
        if is_it { actors.remove(&id)?.played } else { None }
    }

    pub(crate) fn clear(&self) {
        lock(&self.actors).clear();
    }

    /// Lets a start in, if with its instance there are at most `max`. It counts until [`Directory::started`].
    pub(crate) fn admit(&self, max: usize) -> bool {
        let actors = lock(&self.actors);
        let mut starting = lock(&self.starting);
        let room = actors.len() + *starting < max;
        *starting += usize::from(room);
        room
    }

    /// A start that was let in has its instance, or will have none.
    pub(crate) fn started(&self) {
        *lock(&self.starting) -= 1;
    }

    pub(crate) fn len(&self) -> usize {
        lock(&self.actors).len()
    }

    /// Follows the progress of an instance from now on.
    pub(crate) fn watch(&self, id: InstanceId) -> watch::Receiver<Progress> {
        lock(&self.watched).entry(id).or_insert_with(|| watch::channel(Progress::default()).0).subscribe()
    }

    /// Tells those who watch, if any do. After the last word, and with nobody left, the watch is forgotten.
    pub(crate) fn publish(&self, id: InstanceId, tell: impl FnOnce(&mut Progress)) {
        let mut watched = lock(&self.watched);
        let Some(sender) = watched.get(&id) else { return };
        sender.send_modify(tell);
        if sender.is_closed() || sender.borrow().settled.is_some() {
            watched.remove(&id);
        }
    }

    /// Whether someone has asked for an instance, and was told nothing yet.
    pub(crate) fn is_unanswered(&self, id: InstanceId) -> bool {
        let told = |progress: &Progress| progress.opened || progress.settled.is_some() || progress.stopped.is_some();
        lock(&self.watched).get(&id).is_some_and(|sender| !told(&sender.borrow()))
    }

    /// Nobody will hear of anything any more: those who wait learn that the node has stopped.
    pub(crate) fn close(&self) {
        lock(&self.watched).clear();
        self.clear();
    }
}
