//! The errors of durable actors: the reasons why an actor was not told, or an asker has no reply. Each error says
//! what to do.

use accompanist_core::contract::StoreError;
use accompanist_core::message::CodecError;
use accompanist_core::{Abort, NodeId};

use super::INSTANCE_NAME_BYTES_MAX;
use crate::error::StartError;
use crate::operator::handle::AskError;

/// An actor that was not told, or has not answered.
#[derive(Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ActorError {
    /// The mailbox on this node is full: the actor, or the way to it, is slower than its senders. The message was not
    /// accepted.
    #[error(
        "{waiting} messages wait for actor `{actor}` on this node, which is the limit (`limits.signals_max`): slow \
         down, and try again"
    )]
    Full {
        /// The actor.
        actor: String,
        /// How many messages wait.
        waiting: usize,
    },
    /// The message is too large. The message was not accepted.
    #[error(
        "the message has {found} bytes, the limit is {limit}: send a reference to it, or raise `payload_bytes_max`"
    )]
    TooLarge {
        /// The message's size in bytes, with its envelope.
        found: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The name of an instance is too long. The message was not accepted.
    #[error(
        "the name of an actor's instance has {0} bytes, the limit is {INSTANCE_NAME_BYTES_MAX}: give a shorter one"
    )]
    NameTooLong(usize),
    /// Another message was sent under this key before. The message was not accepted.
    #[error("key `{key}` was used for another message to actor `{actor}`: give each message a key of its own")]
    KeyReused {
        /// The actor.
        actor: String,
        /// The key.
        key: String,
    },
    /// Two keys were given to one message. The message was not accepted.
    #[error("the message was given two keys, `{first}` and `{second}`: leave one out")]
    KeyTwice {
        /// The first key.
        first: String,
        /// The second.
        second: String,
    },
    /// The builder of this node was not given the actor.
    #[error(
        "actor `{name}` version {version} is not known to this node: give its builder `actor` (to play it) or \
         `talks_to` (to reach it)"
    )]
    UnknownActor {
        /// The actor's name.
        name: String,
        /// The actor's version.
        version: u32,
    },
    /// An actor's state can be read only on the node that plays it.
    #[error("actor `{0}` is not played by this node: read its state where it is played, or ask it")]
    NotPlayedHere(&'static str),
    /// The actor is played by several nodes, so its state would be in two places.
    #[error(
        "actor `{name}` is played by several nodes ({}): let one of them play it, or give one a name of its own",
        .nodes.iter().map(NodeId::as_str).collect::<Vec<_>>().join(", ")
    )]
    PlayedTwice {
        /// The actor's name.
        name: &'static str,
        /// The nodes that advertise that they play the actor.
        nodes: Vec<NodeId>,
    },
    /// No channel to the actor could be opened.
    #[error("actor `{actor}` cannot be reached: {cause}")]
    Unreachable {
        /// The actor.
        actor: String,
        /// Why.
        cause: StartError,
    },
    /// The channel to the actor cannot accept the message. After `NodeStopped` or `NotOpen` the message may have been
    /// accepted all the same: repeat it under a key.
    #[error("the channel to actor `{actor}`: {cause}")]
    Channel {
        /// The actor.
        actor: String,
        /// Why.
        cause: AskError,
    },
    /// The channel to the actor is over, which the runtime itself never causes. The message was not accepted.
    #[error(
        "the channel to actor `{actor}` is over ({reason}), and what it had not handled is lost: find out how that \
         came, and open it anew with `Address::reopen`"
    )]
    ChannelOver {
        /// The actor.
        actor: String,
        /// Why.
        reason: String,
    },
    /// There is a channel to the actor, and it is not over.
    #[error(
        "the channel to actor `{0}` is open, so it is not opened anew: if messages do not get through, look at \
         `stopped_sessions` on both nodes, and `resume` it or `skip_message`"
    )]
    ChannelIsOpen(String),
    /// The actor refused what it was asked.
    #[error("actor `{actor}` refuses: {abort}")]
    Refused {
        /// The actor.
        actor: String,
        /// The actor's refusal.
        abort: Abort,
    },
    /// The message has no encoding, or the reply is of another type.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The node has stopped. A message that was accepted is delivered when the node starts again.
    #[error("the node has stopped: what it has taken in goes on when it starts again")]
    NodeStopped,
}

accompanist_core::debug_as_text!(ActorError);
