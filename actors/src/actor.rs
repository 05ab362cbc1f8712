//! Durable actors: ractor-style actors whose mailbox, state and replies are on disk, without a choreography.
//!
//! A [`DurableActor`] is found by its name on whichever node plays it. What is told to it arrives exactly once, in the
//! order of each sending node, and is handled in one atomic batch with the actor's built-in state: a crash of either
//! side, or of the network, changes nothing about that. It is made of what choreographies are made of: each pair of a
//! sending node and an actor has a *channel*, one long session of two roles (see `channel`), so mailbox, replay,
//! deduplication and supervision are those of role instances. `address` has the callers' way in, `handling` the step in
//! which messages are handled, `post` what leaves, `replies` what is kept for an asker that crashes.
//!
//! ```
//! use accompanist::actor::{DurableActor, Here};
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
//!     fn handle(&self, _here: &mut Here<'_>, state: &mut State<'_>, message: Count) -> Result<u64, Abort> {
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
//! let plays = Node::builder(NodeId::new("plays")?).store(store).transport(network.clone()).actor(Counter).start().await?;
//! // .. and any other one that knows of it may tell and ask it.
//! let store = MemoryDisk::default().open()?;
//! let tells =
//!     Node::builder(NodeId::new("tells")?).store(store).transport(network).talks_to::<Counter>().start().await?;
//! let counter = tells.actor::<Counter>();
//! counter.tell(&Count::Add(3)).await?; // On disk here: it will arrive, once.
//! counter.tell(&Count::Add(4)).await?;
//! assert_eq!(counter.ask(&Count::Get).await?, 7);
//! // Under a key of the caller's it is the same question, however often it is asked, also after a crash.
//! assert_eq!(counter.ask_keyed("rent of may", &Count::Add(5)).await?, 12);
//! assert_eq!(counter.ask_keyed("rent of may", &Count::Add(5)).await?, 12);
//! # tells.shutdown().await;
//! # plays.shutdown().await;
//! # Ok(())
//! # }
//! ```

mod address;
mod askers;
mod channel;
mod error;
mod handling;
mod post;
mod refusals;
mod reopen;
mod replies;
mod skip;
mod way;

use accompanist_core::message::encode;
use accompanist_core::{Abort, Message, NodeId, State};

pub use self::address::{Address, RefusedMessage};
pub(crate) use self::channel::{Channel, Played, SENDER, SenderRole, is_channel};
pub use self::error::ActorError;
pub(crate) use self::post::Post;
use self::post::Told;
pub use self::skip::SkippedMessage;
pub(crate) use self::skip::message_in_the_way;
use self::way::Way;

/// The most bytes of the name of one of an actor's [instances](Address::named).
pub const INSTANCE_NAME_BYTES_MAX: usize = 256;

/// What one handled message makes its actor tell others: together as many bytes as this many of the largest messages.
const TOLD_PAYLOADS_MAX: usize = 8;

/// An actor with a durable mailbox and built-in state.
///
/// The node whose builder is given it ([`NodeBuilder::actor`](crate::NodeBuilder::actor)) plays it; a node that only
/// tells or asks it says so with [`NodeBuilder::talks_to`](crate::NodeBuilder::talks_to). One node plays an actor: a
/// sender that knows of two opens no new way to either ([`ActorError::PlayedTwice`]).
///
/// # Supervision
/// A handler that panics is the failure of one role instance: that of the channel from the message's sender. It is
/// restarted after a pause that doubles, and then quarantined, as the policy says for the role [`DurableActor::NAME`] or for
/// the choreography `actor NAME`. Messages before the one that panics are handled; it and those behind it, of that
/// sender, wait on disk until an operator [resumes](crate::InstanceHandle::resume) it, or has it
/// [skipped](crate::InstanceHandle::skip_message). Other senders do not notice.
pub trait DurableActor: Send + Sync + 'static {
    /// The actor's name, by which others find it: unique among the roles of a system, the same in every release.
    const NAME: &'static str;
    /// Raised when [`DurableActor::Message`] or [`DurableActor::Reply`] changes. Messages of one version are not handled
    /// by another: the actor before stays in the binary (under the same name) until nothing waits for it.
    const VERSION: u32 = 1;
    /// What it is told and asked.
    type Message: Message;
    /// What it answers to those who ask. For one that is only told, `()`.
    type Reply: Message;

    /// Handles one message: all changes of `state`, what is told to others through `here`, and that the message is
    /// handled, become durable together, so it takes effect exactly once.
    ///
    /// It runs inside the store's writer: keep it short, wait for nothing, and do nothing but compute and use `state`.
    /// It may run more than once, up to the one time that counts.
    ///
    /// # Errors
    /// An [`Abort`] refuses the message: its changes are thrown away, nothing is told, and it is handled with that. Who
    /// has asked gets [`ActorError::Refused`]; one that was only told is kept with the
    /// refusal, see [`Address::refused`]. Pass errors
    /// of tables on with `?`: a value that cannot be read is no refusal, but stops the channel where it is.
    fn handle(&self, here: &mut Here<'_>, state: &mut State<'_>, message: Self::Message) -> Result<Self::Reply, Abort>;
}

/// What a handler knows of the message it handles, and the way to tell other actors.
#[derive(Debug)]
pub struct Here<'a> {
    sender: &'a NodeId,
    name: &'a str,
    way: Way<'a>,
    told: Vec<Told>,
    told_bytes: usize,
    /// The first failure, which is the message's end even if the handler makes something else of it.
    failure: Option<Abort>,
}

impl<'a> Here<'a> {
    fn new(sender: &'a NodeId, name: &'a str, way: Way<'a>) -> Self {
        Self { sender, name, way, told: Vec::new(), told_bytes: 0, failure: None }
    }

    /// For a unit test of a handler: it may tell any actor, and [`Here::told_to`] gives what it has told.
    pub fn alone(sender: &'a NodeId, name: &'a str) -> Self {
        Self::new(sender, name, Way::alone())
    }

    /// The node that has sent the message.
    pub fn sender(&self) -> &NodeId {
        self.sender
    }

    /// Which [instance](Address::named) of the actor this is; empty for the one without a name.
    pub fn name(&self) -> &str {
        self.name
    }

    /// Tells the actor `B` (its instance `name`, or empty), once and only if this message is handled: it leaves after
    /// the handler's changes are durable, and arrives exactly once, in the order of this sender's messages. While its
    /// mailbox is full, this channel waits.
    ///
    /// # Errors
    /// A failure, to be passed on with `?`: this node does not know `B` (see
    /// [`NodeBuilder::talks_to`](crate::NodeBuilder::talks_to)), the message is too large or has no bytes, or there are too
    /// many. It stops the channel until the cause is gone and an operator resumes it; nothing of the message is done.
    pub fn tell<B: DurableActor>(&mut self, name: &str, message: &B::Message) -> Result<(), Abort> {
        let told = self.add::<B>(name, message);
        told.map_err(|reason| {
            let failure = Abort::failure(format!("actor `{}` cannot be told: {reason}", B::NAME));
            self.failure.get_or_insert_with(|| failure.clone());
            failure
        })
    }

    fn add<B: DurableActor>(&mut self, name: &str, message: &B::Message) -> Result<(), String> {
        self.way.check::<B>()?;
        let body = encode(message).map_err(|error| error.to_string())?;
        let limits = self.way.limits();
        address::check_size(name, body.len(), limits.payload_bytes_max).map_err(|error| error.to_string())?;
        self.told_bytes += body.len();
        let bytes_max = limits.payload_bytes_max.saturating_mul(TOLD_PAYLOADS_MAX);
        if self.told.len() >= limits.tells_max || self.told_bytes > bytes_max {
            return Err(format!(
                "one message may make an actor tell {} others with {bytes_max} bytes in all: raise `actors.tells_max`, or \
                 tell less at once",
                limits.tells_max
            ));
        }
        let (actor, version) = (Channel::<B>::NAME.to_owned(), B::VERSION);
        self.told.push(Told { actor, version, name: name.to_owned(), number: 0, body: body.into() });
        Ok(())
    }

    /// What was told to the instance `name` of `B` so far: for unit tests of handlers.
    ///
    /// # Panics
    /// Never with what [`Here::tell`] took.
    pub fn told_to<B: DurableActor>(&self, name: &str) -> Vec<B::Message> {
        let of_it = self.told.iter().filter(|told| told.actor == Channel::<B>::NAME && told.name == name);
        of_it.filter_map(|told| accompanist_core::message::decode(told.body.as_slice()).ok()).collect()
    }
}
