//! The outbound side of actors on one node: the known channels, the askers that wait, and the step that tells others.
//!
//! There is one `Outbound` per node, and it is the service of both roles of every channel. It holds the node once that
//! has started.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use accompanist_core::contract::BoxFuture;
use accompanist_core::id::InstanceId;
use accompanist_core::machine::SignalError;
use accompanist_core::{Abort, Kind, Local, Payload, SessionId, Transaction};
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex as AsyncMutex, Notify, oneshot};

use super::channel::{Channel, ENVELOPE_SIGNAL, Envelope, Played, ReplyExpected};
use super::pending_replies::PendingReplies;
use super::reopen::over_because;
use super::tell_queue::{Bounds, TellQueue};
use super::{ActorError, DurableActor, address, sends};
use crate::config::Settings;
use crate::node::{Extension, Node, WeakNode};
use crate::operator::handle::{AskError, InstanceHandle};
use crate::writer::Job;

/// How many channels are found without asking the store. When more are used, the cache is cleared and all are looked
/// up again.
const CHANNELS_KNOWN_MAX: usize = 65_536;

/// A message that one actor tells another.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct OutgoingTell {
    /// The name of the other actor's channels, and that actor's version.
    pub(super) actor: String,
    pub(super) version: u32,
    /// The instance of the other actor.
    pub(super) name: String,
    /// The number of this message among all that the channel has caused.
    pub(super) number: u64,
    pub(super) body: Payload,
}

/// Opens channels to actors of one kind, with the actor's type erased.
trait ActorRoute: Send + Sync {
    fn open<'a>(&'a self, node: &'a Node, name: &'a str) -> BoxFuture<'a, Result<InstanceId, ActorError>>;
}

struct Recipient<A>(PhantomData<fn() -> A>);
impl<A: DurableActor> ActorRoute for Recipient<A> {
    fn open<'a>(&'a self, node: &'a Node, name: &'a str) -> BoxFuture<'a, Result<InstanceId, ActorError>> {
        Box::pin(address::open::<A>(node, name))
    }
}

/// The actors that this node may tell, by the name of their channels and their version.
type Reachable = BTreeMap<(&'static str, u32), Arc<dyn ActorRoute>>;

/// The name of an actor's channels, its version, and the name of its instance.
type ChannelKey = (String, u32, String);

/// See the module's documentation.
pub(crate) struct Outbound {
    bounds: OnceLock<Bounds>,
    node: OnceLock<WeakNode>,
    /// Wakes waiters in the order in which they began to wait. A watch channel does not, which would make simulation
    /// runs differ.
    runs: Notify,
    known: Mutex<Reachable>,
    channels: Mutex<BTreeMap<ChannelKey, InstanceId>>,
    /// The channels that are being opened: each by one caller at a time, in the order of asking.
    opening: Mutex<BTreeMap<ChannelKey, Arc<AsyncMutex<()>>>>,
    pub(super) askers: Arc<PendingReplies>,
}

impl Default for Outbound {
    fn default() -> Self {
        Self {
            bounds: OnceLock::new(),
            node: OnceLock::new(),
            runs: Notify::new(),
            known: Mutex::default(),
            channels: Mutex::default(),
            opening: Mutex::default(),
            askers: Arc::default(),
        }
    }
}

impl std::fmt::Debug for Outbound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Post")
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that can panic runs under these locks.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Extension for Outbound {
    fn configure(&self, settings: &Settings) {
        let _ = self.bounds.set(Bounds::from(settings)); // Called once, by the builder.
    }

    fn started(&self, node: WeakNode) {
        let _ = self.node.set(node); // Called once, by the builder.
        self.runs.notify_waiters();
    }
}

impl Outbound {
    /// Registers that this node may tell `A`.
    pub(crate) fn learn<A: DurableActor>(&self) {
        lock(&self.known).insert((Channel::<A>::NAME, A::VERSION), Arc::new(Recipient::<A>(PhantomData)));
    }

    pub(super) fn limits(&self) -> Bounds {
        *self.bounds.get_or_init(|| Bounds::from(&Settings::default()))
    }

    pub(super) fn tell_queue(&self) -> TellQueue<'_> {
        TellQueue::Outbound(self)
    }

    pub(super) fn knows(&self, actor: &'static str, version: u32) -> bool {
        lock(&self.known).contains_key(&(actor, version))
    }

    /// Returns the channel `key`: the known one, or else the result of `open`.
    pub(super) async fn channel(
        &self,
        key: &ChannelKey,
        open: impl Future<Output = Result<InstanceId, ActorError>>,
    ) -> Result<InstanceId, ActorError> {
        let known = || lock(&self.channels).get(key).copied();
        if let Some(channel) = known() {
            return Ok(channel);
        }
        let turn = lock(&self.opening).entry(key.clone()).or_default().clone();
        let opened = {
            let _turn = turn.lock().await;
            match known() {
                Some(channel) => Ok(channel),
                None => open.await,
            }
        };
        if let Ok(channel) = &opened {
            let mut channels = lock(&self.channels);
            if channels.len() >= CHANNELS_KNOWN_MAX {
                channels.clear();
            }
            channels.insert(key.clone(), *channel);
        }
        drop(turn);
        // Callers that still wait for the lock hold a reference to it.
        lock(&self.opening).retain(|_, turn| Arc::strong_count(turn) > 1);
        opened
    }

    /// Forgets the channel, so that its next use looks it up again.
    pub(super) fn forget(&self, channel: InstanceId) {
        lock(&self.channels).retain(|_, id| *id != channel);
    }

    /// Puts an envelope into a channel. The envelope is on disk when this returns.
    pub(super) async fn put(
        &self,
        node: &Node,
        (channel, actor): (InstanceId, &str),
        key: &str,
        envelope: &Envelope,
    ) -> Result<(), ActorError> {
        let handle = InstanceHandle::new(channel, node.context().clone());
        let Err(error) = handle.signal(ENVELOPE_SIGNAL, key, envelope).await else { return Ok(()) };
        let actor = actor.to_owned();
        Err(match error {
            AskError::Signal(SignalError::Full(waiting)) => ActorError::Full { actor, waiting },
            AskError::Signal(SignalError::TooLarge { found, limit }) => ActorError::TooLarge { found, limit },
            AskError::Signal(SignalError::KeyReused { key, .. }) => {
                ActorError::KeyReused { actor, key: sends::callers(&key).to_owned() }
            }
            AskError::NodeStopped => ActorError::NodeStopped,
            cause => {
                // The next use looks the channel up again.
                self.forget(channel);
                if matches!(cause, AskError::Signal(SignalError::Over)) {
                    // The channel's abort may still be on its way to the disk.
                    let (reply, written) = oneshot::channel();
                    let done = Box::new(move |written: Result<(), _>| {
                        let _ = reply.send(written.is_ok());
                    });
                    node.context().writer.submit(Job::Change { changes: Vec::new(), done });
                    let _ = written.await; // If the writer has ended, the read below fails.
                }
                let over = node.context().writer.read(move |store| over_because(store, channel)).await;
                match over {
                    Ok(Some(reason)) => ActorError::ChannelOver { actor, reason },
                    Ok(None) | Err(_) => ActorError::Channel { actor, cause },
                }
            }
        })
    }

    /// Returns the node, once it runs. Pending forever if the node is gone.
    async fn node(&self) -> Node {
        loop {
            let runs = self.runs.notified();
            match self.node.get().map(WeakNode::upgrade) {
                Some(Some(node)) => return node,
                Some(None) => return std::future::pending().await,
                None => runs.await,
            }
        }
    }

    /// Delivers what a handler told another actor, however long that takes.
    async fn forward(&self, cause: SessionId, told: &OutgoingTell) {
        let cause = (cause, told.number);
        let body = told.body.clone();
        let envelope =
            Envelope { refused: None, wants: ReplyExpected::Nothing, key: String::new(), cause: Some(cause), body };
        let key = format!("from {} {}", cause.0, cause.1);
        let mut delay = self.limits().forward_delay_min;
        loop {
            let node = self.node().await;
            match self.forward_once(&node, told, &key, &envelope).await {
                Ok(()) => return,
                Err(ActorError::Full { actor, .. }) => tracing::debug!(actor, "a full mailbox makes an actor wait"),
                Err(error) => tracing::warn!(%error, "what an actor tells another one waits"),
            }
            drop(node);
            tokio::time::sleep(delay).await;
            delay = (delay * 2).min(self.limits().forward_delay_max);
        }
    }

    async fn forward_once(
        &self,
        node: &Node,
        told: &OutgoingTell,
        key: &str,
        envelope: &Envelope,
    ) -> Result<(), ActorError> {
        let OutgoingTell { actor, version, name, .. } = told;
        let known = lock(&self.known)
            .iter()
            .find(|((known, of), _)| known == actor && of == version)
            .map(|(_, tell_queue)| tell_queue.clone());
        let Some(tell_queue) = known else {
            // An earlier release knew the actor; the message waits for a release that does.
            return Err(ActorError::UnknownActor { name: actor.clone(), version: *version });
        };
        let channel = tell_queue.open(node, name).await?;
        self.put(node, (channel, actor), key, envelope).await
    }
}

/// Tells others what the messages of a channel have made the actor tell them. The numbers deduplicate retries.
pub(super) struct ForwardTells<A>(PhantomData<fn() -> A>);
impl<A> ForwardTells<A> {
    pub(super) const fn new() -> Self {
        Self(PhantomData)
    }
}

impl<A: DurableActor> Transaction for ForwardTells<A> {
    const NAME: &'static str = "tell others";
    const KIND: Kind = Kind::Retriable;
    type Role = Played<A>;
    type Input = Vec<OutgoingTell>;
    type Output = ();

    async fn commit(&self, here: &Local<Played<A>>, told: &Vec<OutgoingTell>) -> Result<(), Abort> {
        for told in told {
            here.service().forward(here.key().session, told).await;
        }
        Ok(())
    }
}
