//! Durable actors: ractor-style actors whose mailbox, state and replies are on disk, without a choreography.
//!
//! Nodes find a [`DurableActor`] by its name, on whichever node plays it. A message told to the actor arrives exactly
//! once; the messages of one sending node arrive in the order in which it sent them. The actor handles a message in one
//! atomic batch with its built-in state. A crash of either side, or of the network, changes none of this. Durable
//! actors reuse the machinery of choreographies: each pair of a sending node and an actor has a *channel*, one long
//! session of two roles (see `channel`). Mailbox, replay, deduplication and supervision are therefore those of role
//! instances. The modules `address` and `sends` are the callers' API, `handling` the step in which messages are
//! handled, `outbound` the outbound path, and `replies` the storage of replies for askers that crash.
//!
//! ```
//! use accompanist::actor::{DurableActor, ActorContext};
//! use accompanist::prelude::*;
//! use accompanist::store::MemoryDisk;
//! use accompanist::transport::LocalNetwork;
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize)]
//! enum Count {
//!     Add(u64),
//!     Get,
//! }
//!
//! const SUM: Table<u8, u64> = Table::new("sum");
//!
//! struct Counter;
//! impl DurableActor for Counter {
//!     const NAME: &'static str = "counter";
//!     type Message = Count;
//!     type Reply = u64;
//!
//!     fn handle(&self, _here: &mut ActorContext<'_>, state: &mut State<'_>, message: Count) -> Result<u64, Abort> {
//!         let more = match message {
//!             Count::Add(more) => more,
//!             Count::Get => 0,
//!         };
//!         SUM.update(state, 0, |sum| Ok(sum.unwrap_or_default() + more))
//!     }
//! }
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let network = LocalNetwork::new();
//! // One node plays the actor ..
//! let store = MemoryDisk::default().open()?;
//! let plays = Node::builder(NodeId::new("plays")?).store(store).transport(network.clone());
//! let plays = plays.actor(Counter).start().await?;
//! // .. and any other one that knows of it may tell and ask it.
//! let store = MemoryDisk::default().open()?;
//! let tells =
//!     Node::builder(NodeId::new("tells")?).store(store).transport(network).talks_to::<Counter>().start().await?;
//! let counter = tells.actor::<Counter>();
//! counter.tell(&Count::Add(3)).await?; // On disk here: it will arrive, once.
//! counter.tell(&Count::Add(4)).await?;
//! assert_eq!(counter.ask(&Count::Get).await?, 7);
//! // Under a key of the caller's it is the same question, however often it is asked, also after a crash.
//! assert_eq!(counter.ask(&Count::Add(5)).key("rent of may").await?, 12);
//! assert_eq!(counter.ask(&Count::Add(5)).key("rent of may").await?, 12);
//! # tells.shutdown().await;
//! # plays.shutdown().await;
//! # Ok(())
//! # }
//! ```

mod address;
mod builder;
mod channel;
mod error;
mod handling;
mod outbound;
mod pending_replies;
mod refusals;
mod reopen;
mod replies;
mod sends;
mod skip;
mod tell_queue;

use accompanist_core::message::encode;
use accompanist_core::{Abort, Message, NodeId, State};

pub use self::address::{Address, RefusedMessage};
use self::channel::{Channel, SENDER};
pub use self::error::ActorError;
use self::outbound::{Outbound, OutgoingTell};
pub use self::sends::{Ask, Tell};
pub use self::skip::SkippedMessage;
use self::tell_queue::TellQueue;

/// The largest size, in bytes, of the name of one of an actor's [instances](Address::named).
pub const INSTANCE_NAME_BYTES_MAX: usize = 256;

/// The limit on what one handled message may make its actor tell others: in total, as many bytes as this number of
/// the largest messages.
const TOLD_PAYLOADS_MAX: usize = 8;

/// An actor with a durable mailbox and built-in state.
///
/// A node plays the actor if its builder is given it ([`NodeBuilder::actor`](crate::NodeBuilder::actor)). A node that
/// only tells or asks the actor declares this with [`NodeBuilder::talks_to`](crate::NodeBuilder::talks_to). One node
/// plays an actor: a sender that knows of two opens no new channel to either ([`ActorError::PlayedTwice`]).
///
/// # Supervision
/// A handler that panics is the failure of one role instance: that of the channel from the message's sender. The
/// supervisor restarts the instance after a pause that doubles, and then quarantines it, according to the policy for
/// the role [`DurableActor::NAME`] or for the choreography `actor NAME`. Messages before the one that panics are
/// handled. The message that panics and the later ones of that sender wait on disk until an operator
/// [resumes](crate::InstanceOperator::resume) the instance, or has the message
/// [skipped](crate::InstanceOperator::skip_message). Other senders are not affected.
///
/// # Example
/// A handler, tested alone. The [module](self) runs one on a node.
///
/// ```
/// use accompanist::prelude::*;
/// use accompanist::state::Writes;
///
/// const LEFT: Table<u8, u32> = Table::new("left");
///
/// /// Sells books while there are any, and has the carrier fetch them.
/// struct Shelf;
/// impl DurableActor for Shelf {
///     const NAME: &'static str = "shelf";
///     type Message = u32; // How many.
///     type Reply = u32; // How many are left.
///     fn handle(&self, here: &mut ActorContext<'_>, state: &mut State<'_>, books: u32) -> Result<u32, Abort> {
///         let sold_out = Abort::new("sold-out", "not enough books on the shelf");
///         let left = LEFT.update(state, 0, |left| left.unwrap_or(10).checked_sub(books).ok_or(sold_out))?;
///         here.tell::<Carrier>("", &books)?; // Leaves once this message is handled.
///         Ok(left)
///     }
/// }
/// # struct Carrier;
/// # impl DurableActor for Carrier {
/// #     const NAME: &'static str = "carrier"; type Message = u32; type Reply = ();
/// #     fn handle(&self, _: &mut ActorContext<'_>, _: &mut State<'_>, _: u32) -> Result<(), Abort> { Ok(()) }
/// # }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (sender, stored) = (NodeId::new("buyer-1")?, Writes::default());
/// let (mut here, mut state) = (ActorContext::alone(&sender, ""), State::new(&stored, Shelf::NAME));
/// assert_eq!(Shelf.handle(&mut here, &mut state, 3)?, 7);
/// assert_eq!(Shelf.handle(&mut here, &mut state, 8).unwrap_err().code(), "sold-out");
/// assert_eq!(here.told_to::<Carrier>(""), [3]);
/// # Ok(())
/// # }
/// ```
pub trait DurableActor: Send + Sync + 'static {
    /// The actor's name, by which other nodes find it: unique among the roles of a system, and the same in every
    /// release.
    const NAME: &'static str;
    /// The version of the actor's types. Raise it when [`DurableActor::Message`] or [`DurableActor::Reply`] changes.
    /// An actor of one version does not handle messages of another: the earlier actor stays in the binary (under the
    /// same name) until nothing waits for it.
    const VERSION: u32 = 1;
    /// The type of the messages that the actor is told and asked.
    type Message: Message;
    /// The type of the actor's replies to asks: `()` for an actor that is only told.
    type Reply: Message;

    /// Handles one message. All changes of `state`, the messages told to others through `here`, and the fact that the
    /// message is handled become durable together, so the message takes effect exactly once.
    ///
    /// The handler runs inside the store's writer: keep it short, wait for nothing, and do nothing except compute and
    /// use `state`. The handler may run more than once, but only one run takes effect.
    ///
    /// # Errors
    /// An [`Abort`] refuses the message: its changes are discarded, nothing is told to others, and the message counts
    /// as handled. A caller that asked gets [`ActorError::Refused`]; a message that was only told is stored with the
    /// refusal, see [`Address::refused`]. Pass errors of tables on with `?`: a value that cannot be read is not a
    /// refusal, and stops the channel at this message.
    fn handle(
        &self,
        here: &mut ActorContext<'_>,
        state: &mut State<'_>,
        message: Self::Message,
    ) -> Result<Self::Reply, Abort>;
}

/// The context of a handler: what it knows of the message it handles, and the means to tell other actors.
#[derive(Debug)]
pub struct ActorContext<'a> {
    sender: &'a NodeId,
    name: &'a str,
    tell_queue: TellQueue<'a>,
    told: Vec<OutgoingTell>,
    told_bytes: usize,
    /// The first failure. The message fails with it even if the handler ignores or replaces the error.
    failure: Option<Abort>,
}

impl<'a> ActorContext<'a> {
    fn new(sender: &'a NodeId, name: &'a str, tell_queue: TellQueue<'a>) -> Self {
        Self { sender, name, tell_queue, told: Vec::new(), told_bytes: 0, failure: None }
    }

    /// Creates a context for a unit test of a handler: the handler may tell any actor, and [`ActorContext::told_to`]
    /// returns what it told.
    pub fn alone(sender: &'a NodeId, name: &'a str) -> Self {
        Self::new(sender, name, TellQueue::alone())
    }

    /// The node that sent the message.
    pub fn sender(&self) -> &NodeId {
        self.sender
    }

    /// The name of the [instance](Address::named) of the actor that handles the message; empty for the one without a
    /// name.
    pub fn name(&self) -> &str {
        self.name
    }

    /// Tells the actor `B` (its instance `name`; empty for the one without a name), once and only if this message is
    /// handled. The message leaves after the handler's changes are durable, and arrives exactly once, in the order of
    /// this sender's messages. While the mailbox of `B` is full, this channel waits.
    ///
    /// # Errors
    /// A failure, to be passed on with `?`: this node does not know `B` (see
    /// [`NodeBuilder::talks_to`](crate::NodeBuilder::talks_to)), the message is too large or has no encoding, or
    /// there are too many messages. The failure stops the channel until the cause is gone and an operator resumes it;
    /// nothing of the handled message takes effect.
    pub fn tell<B: DurableActor>(&mut self, name: &str, message: &B::Message) -> Result<(), Abort> {
        let told = self.add::<B>(name, message);
        told.map_err(|reason| {
            let failure = Abort::failure(format!("actor `{}` cannot be told: {reason}", B::NAME));
            self.failure.get_or_insert_with(|| failure.clone());
            failure
        })
    }

    fn add<B: DurableActor>(&mut self, name: &str, message: &B::Message) -> Result<(), String> {
        self.tell_queue.check::<B>()?;
        let body = encode(message).map_err(|error| error.to_string())?;
        let limits = self.tell_queue.limits();
        address::check_size(name, body.len(), limits.payload_bytes_max).map_err(|error| error.to_string())?;
        self.told_bytes += body.len();
        let bytes_max = limits.payload_bytes_max.saturating_mul(TOLD_PAYLOADS_MAX);
        if self.told.len() >= limits.tells_max || self.told_bytes > bytes_max {
            return Err(format!(
                "one message may make an actor tell {} others with {bytes_max} bytes in all: raise `actors.tells_max`, \
                 or tell less at once",
                limits.tells_max
            ));
        }
        let (actor, version) = (Channel::<B>::NAME.to_owned(), B::VERSION);
        self.told.push(OutgoingTell { actor, version, name: name.to_owned(), number: 0, body: body.into() });
        Ok(())
    }

    /// Returns the messages told to the instance `name` of `B` so far: for unit tests of handlers.
    ///
    /// # Panics
    /// Never for messages that [`ActorContext::tell`] accepted.
    pub fn told_to<B: DurableActor>(&self, name: &str) -> Vec<B::Message> {
        let of_it = self.told.iter().filter(|told| told.actor == Channel::<B>::NAME && told.name == name);
        of_it.filter_map(|told| accompanist_core::message::decode(told.body.as_slice()).ok()).collect()
    }
}
