//! The step in which an actor handles messages. Its changes of the built-in state, the messages it tells others, its
//! replies and the record that the messages are handled are one batch.
//!
//! If a message fails (or panics) after others in the same step, the step commits those others. The failing message
//! comes first in the next step, and then fails that step alone. This module knows nothing about programs.

use std::sync::Arc;

use accompanist_core::message::{decode, encode};
use accompanist_core::panics;
use accompanist_core::{Abort, Kind, LocalTransaction, NodeId, Payload, SessionId, State, Table};
use metrics::counter;
use serde::{Deserialize, Serialize};

use super::channel::{Answer, Envelope, Played, RefusalDecision, ReplyExpected};
use super::outbound::{Outbound, OutgoingTell};
use super::refusals::{self, Refusal};
use super::{ActorContext, DurableActor, skip};
use crate::base::metric;

/// The code of a refusal because the reply is too large.
const REPLY_TOO_LARGE: &str = "accompanist.reply-too-large";
/// The largest overhead, in bytes, of an answer besides its body.
const ANSWER_BYTES: usize = 64;
/// The name of the step.
pub(super) const HANDLE: &str = "handle";
/// The name under which the runtime's own tables are stored.
pub(super) const ACTOR_TABLES: &str = "accompanist.actors";
/// The code of a refusal because an operator has had the message skipped.
pub(super) const SKIPPED: &str = "accompanist.skipped";
/// The number of the latest handled message, by the instance and version of the actor and the channel that caused the
/// message. It identifies a message that is put into the channel again after a crash, or into the channel that was
/// reopened in its place.
const HANDLED: Table<(String, u32, SessionId), u64> = Table::new("handled");
/// How many messages to others a channel has caused so far.
const CAUSED: Table<SessionId, u64> = Table::new("caused");

/// The messages of a batch that are not handled yet.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Work {
    pub(super) channel: SessionId,
    pub(super) name: String,
    pub(super) sender: NodeId,
    /// The index of the first of them in their batch.
    pub(super) first: u32,
    pub(super) envelopes: Vec<Envelope>,
}

/// The result of the step.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Handled {
    /// The index in the batch of the first message that is not handled.
    pub(super) upto: u32,
    pub(super) answers: Vec<(u32, Answer)>,
    pub(super) told: Vec<OutgoingTell>,
}

/// The result of one message.
struct HandledMessage {
    answer: Option<Answer>,
    told: Vec<OutgoingTell>,
}

impl HandledMessage {
    fn nothing() -> Self {
        Self { answer: None, told: Vec::new() }
    }
}

/// See the module's documentation.
pub(super) struct Handle<A> {
    pub(super) actor: Option<Arc<A>>,
    pub(super) outbound: Arc<Outbound>,
}

/// Returns the role under which the state of an actor's instance is stored: the actor's own role, or one below it.
pub(super) fn state_of(actor: &str, name: &str) -> String {
    if name.is_empty() { actor.to_owned() } else { format!("{actor}\0{name}") }
}

impl<A: DurableActor> LocalTransaction for Handle<A> {
    const NAME: &'static str = HANDLE;
    const KIND: Kind = Kind::Retriable;
    type Role = Played<A>;
    type Input = Work;
    type Output = Handled;

    fn commit(&self, state: &mut State<'_>, work: &Work) -> Result<Handled, Abort> {
        let bytes_max = self.outbound.limits().payload_bytes_max;
        let (mut handled, mut answer_bytes, mut told_bytes) = (Handled::default(), 0, 0);
        for (index, envelope) in (work.first..).zip(&work.envelopes) {
            // Stop here so that all answers fit into one message, and all told messages into one record.
            if answer_bytes >= reply_bytes_max(bytes_max).max(1) || told_bytes >= bytes_max {
                break;
            }
            let one = match panics::catch(|| self.one(state, work, envelope, index == work.first)) {
                Ok(Ok(one)) => one,
                Ok(Err(_)) | Err(_) if index > work.first => break,
                Ok(Err(failure)) => return Err(failure),
                // Resume without the panic hook, which has already printed the panic.
                Err(panic) => std::panic::resume_unwind(Box::new(panic)),
            };
            handled.upto = index + 1;
            told_bytes += one.told.iter().map(|told| told.body.len()).sum::<usize>();
            handled.told.extend(one.told);
            if let Some(answer) = one.answer {
                answer_bytes += bytes_of(&answer);
                handled.answers.push((index, answer));
            }
        }
        counter!(metric::ACTOR_MESSAGES, "actor" => A::NAME).increment(u64::from(handled.upto - work.first));
        Ok(handled)
    }
}

impl<A: DurableActor> Handle<A> {
    /// Handles one message, unless it is the `first` of its step and is to be skipped.
    fn one(
        &self,
        state: &mut State<'_>,
        work: &Work,
        envelope: &Envelope,
        first: bool,
    ) -> Result<HandledMessage, Abort> {
        let actor = self.actor.as_ref().ok_or_else(|| Abort::failure("the actor is not played here"))?;
        let name = state_of(A::NAME, &work.name);
        state.within(ACTOR_TABLES, |books| {
            if let Some((cause, number)) = envelope.cause {
                let known = HANDLED.get(books, (name.as_str(), A::VERSION, cause))?;
                if known.is_some_and(|known| known >= number) {
                    return Ok(HandledMessage::nothing());
                }
                HANDLED.put(books, (name.as_str(), A::VERSION, cause), &number)?;
            }
            let skipped = first && skip::take(books, work.channel, envelope)?;
            let (sender, body) = match envelope.refused {
                None => (work.sender.clone(), envelope.body.clone()),
                Some(RefusalDecision::Handle(number) | RefusalDecision::Discard(number)) => {
                    let Some(refusal) = refusals::take(books, &name, number)? else {
                        return Ok(HandledMessage::nothing());
                    };
                    if matches!(envelope.refused, Some(RefusalDecision::Discard(_))) {
                        return Ok(HandledMessage::nothing());
                    }
                    if !skipped && decode::<A::Message>(refusal.body.as_slice()).is_err() {
                        refusals::put(books, &name, number, &refusal)?; // The message type has changed since.
                        return Ok(HandledMessage::nothing());
                    }
                    (refusal.sender, refusal.body)
                }
            };
            let mut here = ActorContext::new(&sender, &work.name, self.outbound.tell_queue());
            let handled = if skipped {
                Err(Abort::new(SKIPPED, "an operator has had the message skipped, since it was in the way of others"))
            } else {
                let message = Self::decoded(work, &name, &body)?;
                books.within(&name, |state| {
                    let reply = actor.handle(&mut here, state, message)?;
                    self.encoded(&reply, envelope.wants)
                })
            };
            if let Some(failure) = here.failure.take() {
                return Err(failure);
            }
            match handled {
                Ok(answer) => {
                    let told = numbered(books, work.channel, here.told)?;
                    Ok(HandledMessage {
                        answer: (envelope.wants != ReplyExpected::Nothing).then_some(Ok(answer)),
                        told,
                    })
                }
                Err(failure) if failure.is_failure() => Err(failure),
                Err(abort) if envelope.wants == ReplyExpected::Nothing => {
                    counter!(metric::ACTOR_REFUSALS, "actor" => A::NAME).increment(1);
                    tracing::warn!(actor = %name, peer = %sender, error = %abort, "an actor refuses what it was told");
                    let refusal = Refusal { sender, body, abort };
                    match envelope.refused {
                        Some(RefusalDecision::Handle(number)) => refusals::put(books, &name, number, &refusal)?,
                        _ => refusals::keep(books, &name, &refusal, self.outbound.limits().refusals_max)?,
                    }
                    Ok(HandledMessage::nothing())
                }
                Err(abort) => Ok(HandledMessage { answer: Some(self.refused(abort)), told: Vec::new() }),
            }
        })
    }

    fn decoded(work: &Work, name: &str, body: &Payload) -> Result<A::Message, Abort> {
        decode(body.as_slice()).map_err(|error| {
            Abort::failure(format!(
                "a message from node `{}` to actor `{name}` version {} is of another type: raise VERSION when a type \
                 changes, and let the version before handle what waits ({error})",
                work.sender,
                A::VERSION
            ))
        })
    }

    fn encoded(&self, reply: &A::Reply, wants: ReplyExpected) -> Result<Payload, Abort> {
        if wants == ReplyExpected::Nothing {
            return Ok(Vec::new().into());
        }
        let reply = encode(reply).map_err(|error| Abort::failure(error.to_string()))?;
        let limit = reply_bytes_max(self.outbound.limits().payload_bytes_max);
        if reply.len() > limit {
            let found = reply.len();
            let reason = format!(
                "the reply has {found} bytes, the limit is {limit}: give a reference to it, or raise \
                 `payload_bytes_max`"
            );
            return Err(Abort::new(REPLY_TOO_LARGE, reason));
        }
        Ok(reply.into())
    }

    /// Returns the answer to a question that the actor refuses.
    fn refused(&self, refusal: Abort) -> Answer {
        let limit = reply_bytes_max(self.outbound.limits().payload_bytes_max);
        let answer = Err(refusal);
        let fits = bytes_of(&answer) <= limit;
        if fits { answer } else { Err(Abort::new(REPLY_TOO_LARGE, "the reason does not fit into a reply")) }
    }
}

/// Returns half the size of a message, since the answers to several messages travel together.
fn reply_bytes_max(payload_bytes_max: usize) -> usize {
    (payload_bytes_max / 2).saturating_sub(2 * ANSWER_BYTES)
}

fn bytes_of(answer: &Answer) -> usize {
    ANSWER_BYTES + answer.as_ref().map_or_else(|abort| abort.code().len() + abort.message().len(), Payload::len)
}

/// Numbers the told messages, continuing from what this channel has caused so far.
fn numbered(
    books: &mut State<'_>,
    channel: SessionId,
    mut told: Vec<OutgoingTell>,
) -> Result<Vec<OutgoingTell>, Abort> {
    if told.is_empty() {
        return Ok(told);
    }
    let mut number = CAUSED.get(books, channel)?.unwrap_or_default();
    for told in &mut told {
        number += 1;
        told.number = number;
    }
    CAUSED.put(books, channel, &number)?;
    Ok(told)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use accompanist_core::state::Writes;

    /// An actor that writes down what it is told.
    struct Diary;
    const LINES: Table<u32, u32> = Table::new("lines");
    impl DurableActor for Diary {
        const NAME: &'static str = "diary";
        type Message = u32;
        type Reply = u32;
        fn handle(&self, _: &mut ActorContext<'_>, state: &mut State<'_>, line: u32) -> Result<u32, Abort> {
            let last = LINES.last(state, ..)?.map_or(0, |(number, _)| number + 1);
            LINES.put(state, last, &line)?;
            assert_ne!(line, 13, "an unlucky number");
            Ok(last)
        }
    }

    fn envelope(cause: Option<(u8, u64)>, line: u32) -> Envelope {
        let cause = cause.map(|(channel, number)| (SessionId::from_bytes([channel; 16]), number));
        let (key, body) = (String::new(), encode(&line).unwrap().into());
        Envelope { refused: None, wants: ReplyExpected::Nothing, key, cause, body }
    }

    /// Has `envelopes` from `channel` handled, and returns how many are handled and the diary's lines after that.
    fn handle(stored: &mut Writes, channel: u8, envelopes: &[Envelope]) -> (u32, Vec<u32>) {
        let step = Handle { actor: Some(Arc::new(Diary)), outbound: Arc::default() };
        let channel = SessionId::from_bytes([channel; 16]);
        let (name, sender) = (String::new(), NodeId::new("edge").unwrap());
        let work = Work { channel, name, sender, first: 0, envelopes: envelopes.to_vec() };
        let mut state = State::new(stored, "diary");
        let upto = step.commit(&mut state, &work).unwrap().upto;
        let writes = state.into_writes();
        stored.absorb(writes);
        let lines = LINES.range(&State::new(stored, "diary"), ..).map(|row| row.unwrap().1).collect();
        (upto, lines)
    }

    #[test]
    fn a_duplicate_is_recognised_by_its_cause_after_any_number_of_messages() {
        let mut stored = Writes::default();
        let [one, two, three] = [1, 2, 3].map(|number| envelope(Some((7, number)), u32::try_from(number).unwrap()));
        assert_eq!(handle(&mut stored, 1, &[one.clone(), two.clone()]), (2, vec![1, 2]));
        // Messages with another cause, or with none, are new.
        assert_eq!(handle(&mut stored, 1, &[envelope(Some((8, 1)), 4), envelope(None, 5)]), (2, vec![1, 2, 4, 5]));
        assert_eq!(handle(&mut stored, 1, &[one.clone(), two, three]), (3, vec![1, 2, 4, 5, 3]));
        // The cause is also recognised when it arrives through another channel, reopened in place of the first.
        assert_eq!(handle(&mut stored, 2, &[one]), (1, vec![1, 2, 4, 5, 3]));
    }

    #[test]
    fn a_panic_keeps_earlier_messages_handled_and_discards_its_own_changes() {
        let mut stored = Writes::default();
        let envelopes = [envelope(None, 1), envelope(None, 13), envelope(None, 2)];
        assert_eq!(handle(&mut stored, 1, &envelopes), (1, vec![1]));
        let alone = panics::catch(|| handle(&mut stored, 1, envelopes.get(1..).unwrap_or_default()));
        assert!(alone.is_err(), "it comes first, and is its step's failure");
    }
}
