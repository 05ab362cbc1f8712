//! The callers' API of an actor: tell, ask, and read its state.
//!
//! The channel from this node is opened on first use, and found again afterwards. This module knows nothing about
//! handlers.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use accompanist_core::id::InstanceId;
use accompanist_core::message::{decode, encode_repeatable};
use accompanist_core::{Abort, Message, NodeId, SessionId, State};
use tokio::sync::oneshot;

use super::builder::outbound_of;
use super::channel::{Answer, Channel, ChannelOpen, ENVELOPE_SIGNAL, Envelope, RefusalDecision, ReplyExpected};
use super::outbound::Outbound;
use super::refusals::{self, Refusal};
use super::reopen::{Place, over_because};
use super::sends::{Ask, Tell, callers};
use super::{ActorError, DurableActor, INSTANCE_NAME_BYTES_MAX, handling, replies};
use crate::error::StartError;
use crate::node::Node;
use crate::operator::handle::{AskError, InstanceHandle};
use crate::runtime::context::NodeContext;
use crate::writer::{self, Job};

/// The largest overhead, in bytes, around a message's body and the caller's key: kinds, lengths, a cause, the key of
/// the signal.
const ENVELOPE_BYTES: usize = 256;

/// An actor as one node reaches it; from [`Node::actor`](crate::Node::actor).
///
/// Messages told and asked through one node arrive in the order in which that node accepted them; between nodes there
/// is no order. Clones are the same address.
///
/// ```
/// # use accompanist::prelude::*;
/// # use accompanist::store::MemoryDisk;
/// # use accompanist::transport::LocalNetwork;
/// # const LEFT: Table<u8, u32> = Table::new("left");
/// # struct Shelf;
/// # impl DurableActor for Shelf {
/// #     const NAME: &'static str = "shelf"; type Message = u32; type Reply = u32;
/// #     fn handle(&self, _: &mut ActorContext<'_>, state: &mut State<'_>, books: u32) -> Result<u32, Abort> {
/// #         let sold_out = Abort::new("sold-out", "not enough books on the shelf");
/// #         LEFT.update(state, 0, |left| left.unwrap_or(10).checked_sub(books).ok_or(sold_out))
/// #     }
/// # }
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let node = Node::builder(NodeId::new("shop-1")?)
/// #     .store(MemoryDisk::default().open()?).transport(LocalNetwork::new())
/// #     .actor(Shelf)
/// #     .start().await?;
/// // `Shelf` sells some of its ten books, and says how many are left.
/// let shelf: Address<Shelf> = node.actor();
/// shelf.tell(&3).await?; // On disk here; waits for nobody.
/// assert_eq!(shelf.ask(&2).await?, 5); // After the tell, and on disk there.
/// assert_eq!(shelf.ask(&1).key("order 17").await?, 4);
/// assert_eq!(shelf.ask(&1).key("order 17").await?, 4); // The same question, asked again after a crash.
///
/// assert!(matches!(shelf.ask(&9).await, Err(ActorError::Refused { .. })));
/// shelf.tell(&8).await?; // Refused as well, but nobody waits to hear it.
/// let cellar = shelf.named("cellar"); // Another instance, with ten books of its own.
/// assert_eq!(cellar.ask(&8).await?, 2);
///
/// assert_eq!(shelf.ask(&0).await?, 4);
/// assert_eq!(shelf.read(|state| LEFT.get(state, 0)).await??, Some(4)); // On the node that plays the actor.
/// assert_eq!(shelf.refused().await?[0].message, Some(8));
/// # node.shutdown().await;
/// # Ok(())
/// # }
/// ```
pub struct Address<A> {
    node: Node,
    name: String,
    actor: PhantomData<fn() -> A>,
}

impl<A> Clone for Address<A> {
    fn clone(&self) -> Self {
        Self { node: self.node.clone(), name: self.name.clone(), actor: PhantomData }
    }
}

impl<A: DurableActor> fmt::Debug for Address<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({self})")
    }
}

/// Writes the actor's name, followed by a slash and the instance's name if it has one.
impl<A: DurableActor> fmt::Display for Address<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(A::NAME)?;
        if self.name.is_empty() { Ok(()) } else { write!(f, "/{}", self.name) }
    }
}

impl<A: DurableActor> Address<A> {
    pub(crate) fn new(node: Node) -> Self {
        Self { node, name: String::new(), actor: PhantomData }
    }

    /// Returns the address of one of many instances of the actor. Each has its own state and channels, which are
    /// created when the instance is first told something; all are on the node that plays the actor. The name has at
    /// most [`INSTANCE_NAME_BYTES_MAX`] bytes; an empty name is the instance without a name.
    #[must_use]
    pub fn named(&self, name: impl Into<String>) -> Self {
        Self { name: name.into(), ..self.clone() }
    }

    /// Tells the actor something once the returned value is awaited, perhaps under a [key](Tell::key). When the await
    /// returns, the message is on disk on this node, and the actor will handle it exactly once, after everything that
    /// was told or asked through this node before. The call waits for no other node, except the first time: then this
    /// node needs to know which node plays the actor, and waits for that up to `cast_wait_max`.
    ///
    /// # Errors
    /// [`ActorError`]; a full mailbox is one. After [`ActorError::Channel`] and [`ActorError::NodeStopped`] the
    /// message may have been accepted all the same; a tell with a key can be repeated safely. Cancel-safe in the same
    /// sense: a cancelled call may have sent the message.
    pub fn tell<'a>(&'a self, message: &'a A::Message) -> Tell<'a, A> {
        Tell::new(self, message)
    }

    /// Asks the actor something once the returned value is awaited, perhaps under a [key](Ask::key), and waits for the
    /// reply, without a time limit: the caller adds one if needed (`tokio::time::timeout`). A caller that stops
    /// waiting, or crashes, does not receive the reply; the question is still handled once.
    ///
    /// # Errors
    /// [`ActorError`]: the actor's refusal, or why it could not be asked.
    pub fn ask<'a>(&'a self, message: &'a A::Message) -> Ask<'a, A> {
        Ask::new(self, message)
    }

    /// Reads the actor's built-in state after the last group commit, on the node that plays the actor.
    ///
    /// # Errors
    /// [`ActorError::NotPlayedHere`], or that the store is closed.
    pub async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&State<'_>) -> T + Send + 'static,
    ) -> Result<T, ActorError> {
        if !self.context().catalog.roles.contains(&A::NAME) {
            return Err(ActorError::NotPlayedHere(A::NAME));
        }
        self.read_as(handling::state_of(A::NAME, &self.name), read).await
    }

    /// Returns the messages that the actor was told and refused, the oldest first, after the last group commit, on
    /// the node that plays the actor. At most `actors.refusals_max` are stored. A refused ask is not stored, since
    /// its caller receives the refusal.
    ///
    /// # Errors
    /// As [`Address::read`].
    pub async fn refused(&self) -> Result<Vec<RefusedMessage<A::Message>>, ActorError> {
        if !self.context().catalog.roles.contains(&A::NAME) {
            return Err(ActorError::NotPlayedHere(A::NAME));
        }
        let instance = handling::state_of(A::NAME, &self.name);
        let list =
            self.read_as(handling::ACTOR_TABLES.to_owned(), move |books| refusals::list(books, &instance)).await?;
        let list = list.map_err(|abort| ActorError::Refused { actor: self.to_string(), abort })?;
        Ok(list.into_iter().map(RefusedMessage::from).collect())
    }

    /// Has a refused message handled again: exactly once, after everything that was told through this node before. A
    /// message that is refused again has the same number; a number that no longer exists changes nothing.
    ///
    /// # Errors
    /// As [`Address::tell`].
    pub async fn handle_refused(&self, number: u64) -> Result<(), ActorError> {
        self.say_of_refused(RefusalDecision::Handle(number)).await
    }

    /// Discards a refused message.
    ///
    /// # Errors
    /// As [`Address::tell`].
    pub async fn discard_refused(&self, number: u64) -> Result<(), ActorError> {
        self.say_of_refused(RefusalDecision::Discard(number)).await
    }

    async fn say_of_refused(&self, refused: RefusalDecision) -> Result<(), ActorError> {
        let (key, body) = (String::new(), Vec::new().into());
        let envelope = Envelope { refused: Some(refused), wants: ReplyExpected::Nothing, key, cause: None, body };
        check_size(&self.name, 0, self.context().settings.limits.payload_bytes_max)?;
        self.put(&self.drawn_key(), &envelope).await.map(drop)
    }

    fn outbound(&self) -> Arc<Outbound> {
        outbound_of(&self.context().catalog.services)
    }

    fn context(&self) -> &NodeContext {
        self.node.context()
    }

    async fn read_as<T: Send + 'static>(
        &self,
        role: String,
        read: impl FnOnce(&State<'_>) -> T + Send + 'static,
    ) -> Result<T, ActorError> {
        Ok(self.context().writer.read(move |store| Ok(read(&State::new(&store, &role)))).await?)
    }

    pub(super) fn drawn_key(&self) -> String {
        let environment = &self.context().environment;
        format!("{:016x}{:016x}", environment.random(), environment.random())
    }

    fn envelope(&self, wants: ReplyExpected, key: &str, message: &A::Message) -> Result<Envelope, ActorError> {
        let body = encode_repeatable(message)?;
        check_size(&self.name, body.len() + 2 * key.len(), self.context().settings.limits.payload_bytes_max)?;
        let key = if wants == ReplyExpected::Nothing { String::new() } else { key.to_owned() };
        Ok(Envelope { refused: None, wants, key, cause: None, body: body.into() })
    }

    pub(super) async fn send(
        &self,
        wants: ReplyExpected,
        key: &str,
        message: &A::Message,
    ) -> Result<InstanceId, ActorError> {
        self.put(key, &self.envelope(wants, key, message)?).await
    }

    async fn put(&self, key: &str, envelope: &Envelope) -> Result<InstanceId, ActorError> {
        let channel = open::<A>(&self.node, &self.name).await?;
        self.outbound().put(&self.node, (channel, &self.to_string()), key, envelope).await?;
        Ok(channel)
    }

    pub(super) async fn ask_for(
        &self,
        wants: ReplyExpected,
        key: &str,
        message: &A::Message,
    ) -> Result<A::Reply, ActorError> {
        let envelope = self.envelope(wants, key, message)?;
        let channel = open::<A>(&self.node, &self.name).await?;
        // Register the waiter before checking for a stored reply, so that no reply is missed.
        let mut waiter = self.outbound().askers.wait(channel.session, key);
        if wants == ReplyExpected::KeptReply
            && let Some(answer) = self.kept(channel, key, &envelope).await?
        {
            return self.reply(answer);
        }
        let mut progress = self.context().directory.watch(channel);
        self.outbound().put(&self.node, (channel, &self.to_string()), key, &envelope).await?;
        tokio::select! {
            biased;
            answer = &mut waiter.reply => self.reply(answer.map_err(|_| ActorError::NodeStopped)?),
            over = progress.wait_for(|progress| progress.stopped.is_some() || progress.output.is_some()) => {
                let actor = self.to_string();
                Err(match over.map(|progress| (progress.stopped.clone(), progress.output.clone())) {
                    Err(_) => ActorError::NodeStopped,
                    Ok((_, Some(Err(abort)))) => ActorError::ChannelOver { actor, reason: abort.to_string() },
                    Ok((Some(reason), _)) => {
                        ActorError::Channel { actor, cause: AskError::Stopped { session: channel.session, reason } }
                    }
                    Ok(_) => ActorError::Channel { actor, cause: AskError::NotOpen(channel) },
                })
            }
        }
    }

    fn reply(&self, answer: Answer) -> Result<A::Reply, ActorError> {
        let reply = answer.map_err(|abort| ActorError::Refused { actor: self.to_string(), abort })?;
        Ok(decode(reply.as_slice())?)
    }

    /// Returns the reply that this question got before.
    async fn kept(&self, channel: InstanceId, key: &str, envelope: &Envelope) -> Result<Option<Answer>, ActorError> {
        let (session, key) = (channel.session, key.to_owned());
        let asked = key.clone();
        let kept = self.read_as(super::SENDER.to_owned(), move |state| replies::kept(state, session, &key)).await?;
        match kept {
            Ok(None) => Ok(None),
            Ok(Some(kept)) if kept.question == replies::fingerprint(envelope) => Ok(Some(kept.answer)),
            Ok(Some(_)) => Err(ActorError::KeyReused { actor: self.to_string(), key: callers(&asked).to_owned() }),
            Err(abort) => Err(ActorError::Refused { actor: self.to_string(), abort }),
        }
    }

    /// Reopens the channel from this node to the actor once it is over ([`ActorError::ChannelOver`]). Messages that
    /// the old channel had not handled stay lost; messages told from now on arrive as usual. The new channel is
    /// durable when this returns.
    ///
    /// The runtime ends no channel, and refuses operations that would (`cancel`, `abort`, `terminate`). A node of an
    /// earlier release, or one that lies, can end one.
    ///
    /// # Errors
    /// [`ActorError::ChannelIsOpen`], or as [`Address::tell`].
    pub async fn reopen(&self) -> Result<(), ActorError> {
        let (name, context) = (self.name.clone(), self.context());
        let known = self.context().writer.read(move |store| {
            let place = place::<A>(&name);
            let times = place.times(store)?;
            let key = SessionId::keyed(Channel::<A>::NAME, &place.session_key(times));
            let Some(channel) = writer::claimed_by(store, key)? else { return Ok(None) };
            Ok(over_because(store, channel)?.map(|_| (channel, times)))
        });
        let Some((over, times)) = known.await? else { return Err(ActorError::ChannelIsOpen(self.to_string())) };
        let changes = vec![place::<A>(&self.name).count(times.saturating_add(1))?];
        let (reply, answer) = oneshot::channel();
        context.writer.submit(Job::Change { changes, done: Box::new(move |written| drop(reply.send(written))) });
        answer.await.map_err(|_| ActorError::NodeStopped)??;
        self.outbound().forget(over);
        open::<A>(&self.node, &self.name).await.map(drop)
    }

    /// Returns this node's end of the channel, for tools: to inspect what it waits for. An operator resumes it by its
    /// id ([`Operator::instance`](crate::Operator::instance)).
    ///
    /// # Errors
    /// As [`Address::tell`].
    pub async fn channel(&self) -> Result<InstanceHandle, ActorError> {
        let id = open::<A>(&self.node, &self.name).await?;
        Ok(InstanceHandle::new(id, self.node.context().clone()))
    }
}

/// A message that an actor was told and refused; see [`Address::refused`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RefusedMessage<M> {
    /// The message's number among those that this instance has refused.
    pub number: u64,
    /// The node that sent the message.
    pub sender: NodeId,
    /// The message; `None` if its type has changed since.
    pub message: Option<M>,
    /// Why the actor refused the message.
    pub abort: Abort,
}

impl<M: Message> From<(u64, Refusal)> for RefusedMessage<M> {
    fn from((number, Refusal { sender, body, abort }): (u64, Refusal)) -> Self {
        Self { number, sender, message: decode(body.as_slice()).ok(), abort }
    }
}

/// Checks that a message of `bytes` to the instance `name` can be sent.
pub(super) fn check_size(name: &str, bytes: usize, limit: usize) -> Result<(), ActorError> {
    let found = bytes + ENVELOPE_BYTES + ENVELOPE_SIGNAL.len();
    if name.len() > INSTANCE_NAME_BYTES_MAX {
        return Err(ActorError::NameTooLong(name.len()));
    }
    if found > limit { Err(ActorError::TooLarge { found, limit }) } else { Ok(()) }
}

/// Returns the channel from this node to the instance `name` of `A`: the existing one, or a new one.
pub(super) async fn open<A: DurableActor>(node: &Node, name: &str) -> Result<InstanceId, ActorError> {
    let context = node.context();
    let known_as = (Channel::<A>::NAME.to_owned(), A::VERSION, name.to_owned());
    outbound_of(&context.catalog.services).channel(&known_as, open_anew::<A>(node, name)).await
}

fn place<A: DurableActor>(name: &str) -> Place<'_> {
    Place { choreography: Channel::<A>::NAME, version: A::VERSION, name }
}

async fn open_anew<A: DurableActor>(node: &Node, name: &str) -> Result<InstanceId, ActorError> {
    let context = node.context();
    let instance = name.to_owned();
    let times = context.writer.read(move |store| place::<A>(&instance).times(store)).await?;
    let key = place::<A>(name).session_key(times);
    let nodes = context.peers.players(A::NAME, Channel::<A>::NAME);
    if nodes.len() > 1 && !is_open::<A>(context, &key).await? {
        return Err(ActorError::PlayedTwice { name: A::NAME, nodes });
    }
    let opening = ChannelOpen::new(name.to_owned(), context.node.clone());
    match node.start_as::<Channel<A>>(opening).key(key).await {
        Ok(session) => Ok(session.initiator().id()),
        Err(StartError::UnknownChoreography { .. }) => {
            Err(ActorError::UnknownActor { name: A::NAME.to_owned(), version: A::VERSION })
        }
        Err(StartError::NodeStopped) => Err(ActorError::NodeStopped),
        Err(cause) => Err(ActorError::Unreachable { actor: A::NAME.to_owned(), cause }),
    }
}

/// Whether the channel under this key was opened before.
async fn is_open<A: DurableActor>(context: &NodeContext, key: &str) -> Result<bool, ActorError> {
    let key = SessionId::keyed(Channel::<A>::NAME, key);
    Ok(context.writer.read(move |store| Ok(writer::claimed_by(store, key)?.is_some())).await?)
}
