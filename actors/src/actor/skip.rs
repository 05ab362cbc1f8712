//! Skipping a message that blocks a channel, at an operator's request: the next step refuses the message instead of
//! handling it, so that it is stored with the refused ones and the messages behind it continue.
//!
//! The journal of the actor's end determines which message that is. This module knows nothing about handlers.

use accompanist_core::contract::{Change, StoreError};
use accompanist_core::frame::Operation;
use accompanist_core::id::{InstanceId, RoleIndex};
use accompanist_core::message::{Fingerprint, decode, encode};
use accompanist_core::record::Record;
use accompanist_core::state::Writes;
use accompanist_core::{Abort, NodeId, Path, Payload, SessionId, State, Table};

use super::channel::{Envelope, ReplyExpected};
use super::handling::{ACTOR_TABLES, HANDLE, Handled};
use crate::operator::handle::{AskError, InstanceOperator};
use crate::runtime::channel::is_channel;

/// The message to skip when it comes next, by channel.
const SKIPS: Table<SessionId, Fingerprint> = Table::new("skips");
/// The role of the sender in a channel.
const SENDER: RoleIndex = RoleIndex(0);

/// A message that blocked others, and that an operator has skipped; see
/// [`InstanceOperator::skip_message`](crate::InstanceOperator::skip_message).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SkippedMessage {
    /// The name of the actor's instance to which the message was sent; empty for the one without a name.
    pub instance: String,
    /// The node that sent the message.
    pub sender: NodeId,
    /// The message's size in bytes.
    pub bytes: usize,
    /// Whether the sender waits for a reply, and so receives the refusal. Otherwise the message is stored among the
    /// refused ones.
    pub asks: bool,
}

impl InstanceOperator {
    /// Skips the message that blocks a channel to a durable actor which is stopped at the actor's node (see
    /// [`Operator::stopped_sessions`](crate::Operator::stopped_sessions)). The skipped message is kept among those that
    /// the actor has [refused](crate::actor::Address::refused), to be handled again or discarded later; if it was an
    /// ask, its sender receives a refusal. The messages behind it are handled in order. Durable when it returns.
    ///
    /// # Errors
    /// Returns [`AskError`]; [`AskError::DoesNotFit`] if the instance is not stopped, is no channel, or is blocked by
    /// no message.
    pub async fn skip_message(&self) -> Result<SkippedMessage, AskError> {
        const WAY: &str = "skip_message";
        let still = self.still(WAY).await?;
        if !is_channel(still.header()) {
            let instead = "`resume`, `abort` or `terminate` it";
            return Err(self.does_not_fit(WAY, "is no channel to a durable actor", instead));
        }
        if let Some(reason) = &still.unplayable {
            return Err(self.unplayable(WAY, reason));
        }
        let in_the_way = message_in_the_way(self.id(), &still.readable.records);
        let Some((message, skip)) = in_the_way.filter(|_| !still.initiates).transpose()? else {
            let instead = "`resume` it when what was in its way is gone";
            return Err(self.does_not_fit(WAY, "is stopped with no message in its way", instead));
        };
        tracing::warn!(session = %self.id().session, ?message, "an operator has a message skipped");
        self.try_again(skip).await?;
        Ok(message)
    }
}

/// Finds, in its journal, the message that the actor's end of the channel `id` handles next, and returns it with the
/// changes that have it skipped. Returns `None` if no message has arrived.
fn message_in_the_way(id: InstanceId, records: &[Record]) -> Option<Result<(SkippedMessage, Vec<Change>), StoreError>> {
    let broadcast = |record: &'_ Record| match record {
        Record::Received { path, from: SENDER, operation: Operation::Broadcast, payload } => {
            Some((path.clone(), payload.clone()))
        }
        _ => None,
    };
    let mut broadcasts: Vec<(Path, Payload)> = records.iter().filter_map(broadcast).collect();
    broadcasts.sort_by(|one, other| one.0.cmp(&other.0));
    // The first broadcast has the instance and sender of the channel; the last one has the messages of the current
    // turn.
    let [(_, ends), .., (path, envelopes)] = broadcasts.as_slice() else { return None };
    let (instance, sender): (String, NodeId) = decode(ends.as_slice()).ok()?;
    let envelopes: Vec<Envelope> = decode(envelopes.as_slice()).ok()?;
    let handled = records.iter().filter_map(|record| match record {
        Record::Committed { path: at, name, result: Ok(handled), .. } if name == HANDLE && at > path => {
            decode::<Handled>(handled.as_slice()).ok()
        }
        _ => None,
    });
    let next = handled.map(|handled| handled.upto).max().unwrap_or_default();
    let envelope = envelopes.get(usize::try_from(next).ok()?)?;
    let asks = envelope.wants != ReplyExpected::Nothing;
    let message = SkippedMessage { instance, sender, bytes: envelope.body.len(), asks };
    Some(skip(id.session, envelope).map(|change| (message, change)))
}

/// The changes that have the message skipped: the request, and, as it may be the table's first row, the type of its
/// keys.
fn skip(channel: SessionId, envelope: &Envelope) -> Result<Vec<Change>, StoreError> {
    let base = Writes::default();
    let mut books = State::new(&base, ACTOR_TABLES);
    let put = fingerprint(envelope).and_then(|envelope| SKIPS.put(&mut books, channel, &envelope));
    let failed = |reason: String| StoreError::Failed(format!("a message cannot be skipped: {reason}"));
    put.map_err(|abort| failed(abort.message().to_owned()))?;
    Ok(books.into_writes().into_batch())
}

fn fingerprint(envelope: &Envelope) -> Result<Fingerprint, Abort> {
    let envelope: Payload = encode(envelope).map_err(|error| Abort::failure(error.to_string()))?.into();
    Ok(Fingerprint::of(&envelope))
}

/// Whether the message is to be skipped; the request is then removed. Call it only for the first message of a step: a
/// message that blocks a channel is never behind another one.
pub(super) fn take(books: &mut State<'_>, channel: SessionId, envelope: &Envelope) -> Result<bool, Abort> {
    let Some(skipped) = SKIPS.take(books, channel)? else { return Ok(false) };
    Ok(skipped == fingerprint(envelope)?)
}
