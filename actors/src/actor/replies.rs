//! The replies stored at the node that asked, so that a question under a caller's key has one answer, even after a
//! crash.
//!
//! Each channel stores the replies to the last [`REPLIES_KEPT_MAX`] questions under a key. This module knows nothing
//! about actors.

use accompanist_core::machine::TAKEN_SIGNALS_MAX;
use accompanist_core::message::Fingerprint;
use accompanist_core::state::Under;
use accompanist_core::{Abort, Kind, LocalTransaction, SessionId, State, Table};
use serde::{Deserialize, Serialize};

use super::channel::{Answer, Envelope, SenderRole};

/// The most replies stored for a channel; the oldest is removed first. The bound equals the number of keys by which
/// signals are deduplicated: a question that is not sent again because its key is known must find its reply here.
pub(super) const REPLIES_KEPT_MAX: u64 = TAKEN_SIGNALS_MAX as u64;

/// The replies, by the channel and the caller's key.
const REPLIES: Table<(SessionId, String), Kept> = Table::new("replies");
/// The keys in the order of their replies.
const ORDER: Table<(SessionId, u64), String> = Table::new("order");

/// A reply, with a fingerprint of its question.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Kept {
    number: u64,
    pub(super) question: Fingerprint,
    pub(super) answer: Answer,
}

/// Returns what distinguishes one question from another under the same key.
pub(super) fn fingerprint(envelope: &Envelope) -> Fingerprint {
    Fingerprint::of(&envelope.body)
}

/// Returns the reply stored under `key`.
pub(super) fn kept(state: &State<'_>, channel: SessionId, key: &str) -> Result<Option<Kept>, Abort> {
    REPLIES.get(state, (channel, key))
}

/// A step that stores replies.
pub(super) struct KeepReplies;
impl LocalTransaction for KeepReplies {
    const NAME: &'static str = "keep replies";
    const KIND: Kind = Kind::Retriable;
    type Role = SenderRole;
    type Input = (SessionId, Vec<(Envelope, Answer)>);
    type Output = ();

    fn commit(&self, state: &mut State<'_>, (channel, answers): &Self::Input) -> Result<(), Abort> {
        for (envelope, answer) in answers {
            let newest = ORDER.last(state, Under((*channel,)))?;
            let number = newest.map_or(0, |((_, number), _)| number + 1);
            let kept = Kept { number, question: fingerprint(envelope), answer: answer.clone() };
            if let Some(before) = REPLIES.get(state, (*channel, envelope.key.as_str()))? {
                ORDER.remove(state, (*channel, before.number))?;
            }
            REPLIES.put(state, (*channel, envelope.key.as_str()), &kept)?;
            ORDER.put(state, (*channel, number), &envelope.key)?;
            let Some(oldest) = number.checked_sub(REPLIES_KEPT_MAX) else { continue };
            if let Some(key) = ORDER.take(state, (*channel, oldest))? {
                REPLIES.remove(state, (*channel, key.as_str()))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actor::channel::ReplyExpected;
    use accompanist_core::message::encode;
    use accompanist_core::state::Writes;

    #[test]
    fn the_oldest_replies_go() {
        let base = Writes::default();
        let mut state = State::new(&base, "sender");
        let channel = SessionId::from_bytes([7; 16]);
        for number in 0..REPLIES_KEPT_MAX + 10 {
            let body = encode(&number).map_or_else(|_| Vec::new().into(), Into::into);
            let envelope = Envelope {
                refused: None,
                wants: ReplyExpected::KeptReply,
                key: format!("key {number}"),
                cause: None,
                body,
            };
            let reply = Ok(envelope.body.clone());
            assert_eq!(KeepReplies.commit(&mut state, &(channel, vec![(envelope, reply)])), Ok(()));
        }
        let is_kept = |number: u64| kept(&state, channel, &format!("key {number}")).is_ok_and(|kept| kept.is_some());
        assert!(!is_kept(9));
        assert!(is_kept(10));
        assert!(is_kept(REPLIES_KEPT_MAX + 9));
    }
}
