//! What a caller sends to an actor, a tell or an ask, with its options. Knows keys; `address` carries it out.

use std::fmt;

use accompanist_core::contract::BoxFuture;

use super::channel::ReplyExpected;
use super::{ActorError, Address, DurableActor};

/// The prefix of keys that callers give. It keeps them apart from keys that the runtime generates.
const GIVEN: &str = "given ";

/// Returns the key as the caller gave it.
pub(super) fn callers(key: &str) -> &str {
    key.strip_prefix(GIVEN).unwrap_or(key)
}

/// The key that the caller has given to a message, if any.
#[derive(Debug, Default)]
struct CallersKey {
    key: Option<String>,
    /// Another key that was given first.
    other: Option<String>,
}

impl CallersKey {
    fn set(&mut self, key: String) {
        if let Some(first) = self.key.replace(key).filter(|first| Some(first) != self.key.as_ref()) {
            self.other.get_or_insert(first);
        }
    }

    /// Returns the key with its prefix; `None` if the caller gave none.
    fn checked(self) -> Result<Option<String>, ActorError> {
        match (self.other, self.key) {
            (Some(first), Some(second)) => Err(ActorError::KeyTwice { first, second }),
            (_, key) => Ok(key.map(|key| format!("{GIVEN}{key}"))),
        }
    }
}

/// A message to tell; see [`Address::tell`]. Await it to send the message.
#[must_use = "the message is sent only when this is awaited"]
pub struct Tell<'a, A: DurableActor> {
    address: &'a Address<A>,
    message: &'a A::Message,
    key: CallersKey,
}

impl<'a, A: DurableActor> Tell<'a, A> {
    pub(super) fn new(address: &'a Address<A>, message: &'a A::Message) -> Self {
        Self { address, message, key: CallersKey::default() }
    }

    /// Sends the message under a key; repeat the call until it succeeds. One key is one message, as long as the
    /// message waits or is among the last 1 024 that were taken from this node's mailbox for the actor. Another
    /// message under the same key fails with [`ActorError::KeyReused`].
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key.set(key.into());
        self
    }
}

impl<A: DurableActor> fmt::Debug for Tell<'_, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tell({}, {:?})", self.address, self.key.key)
    }
}

impl<'a, A: DurableActor> IntoFuture for Tell<'a, A> {
    type Output = Result<(), ActorError>;
    type IntoFuture = BoxFuture<'a, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        let Self { address, message, key } = self;
        Box::pin(async move {
            let key = key.checked()?.unwrap_or_else(|| address.drawn_key());
            address.send(ReplyExpected::Nothing, &key, message).await.map(drop)
        })
    }
}

/// A question to an actor; see [`Address::ask`]. Await it to ask.
#[must_use = "the question is asked only when this is awaited"]
pub struct Ask<'a, A: DurableActor> {
    address: &'a Address<A>,
    message: &'a A::Message,
    key: CallersKey,
}

impl<'a, A: DurableActor> Ask<'a, A> {
    pub(super) fn new(address: &'a Address<A>, message: &'a A::Message) -> Self {
        Self { address, message, key: CallersKey::default() }
    }

    /// Asks under a key. Asked again under the same key, even after a time limit or a crash of this node, it is the
    /// same question and gets the same reply. This node stores the replies to the last 1 024 questions under a key,
    /// for each actor; after that, the same key asks a new question. Another question under the same key fails with
    /// [`ActorError::KeyReused`].
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key.set(key.into());
        self
    }
}

impl<A: DurableActor> fmt::Debug for Ask<'_, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ask({}, {:?})", self.address, self.key.key)
    }
}

impl<'a, A: DurableActor> IntoFuture for Ask<'a, A> {
    type Output = Result<A::Reply, ActorError>;
    type IntoFuture = BoxFuture<'a, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        let Self { address, message, key } = self;
        Box::pin(async move {
            match key.checked()? {
                Some(key) => address.ask_for(ReplyExpected::KeptReply, &key, message).await,
                None => address.ask_for(ReplyExpected::Reply, &address.drawn_key(), message).await,
            }
        })
    }
}
