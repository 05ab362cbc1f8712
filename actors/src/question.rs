//! What someone outside asks of an instance that is in memory: to cancel, to signal, to look, to mend.
//!
//! Each gets its answer from the instance itself, in the order of its messages. Knows the part, no callers.

use accompanist_core::instance::{Remedy, SignalError, Status};
use accompanist_core::part::Part;
use accompanist_core::{Abort, Path, Payload};
use tokio::sync::oneshot;

/// A question, with the way back. An instance that is not there drops it unanswered.
pub(crate) enum Question {
    /// Abort, if it is still time to.
    Cancel(Abort, oneshot::Sender<bool>),
    /// Take this in; answered once it is durable.
    Signal { name: String, key: String, payload: Payload, reply: oneshot::Sender<Result<(), SignalError>> },
    /// An operator has looked: how many steps does that concern?
    Remedy(Remedy, oneshot::Sender<usize>),
    /// What the program shows of its progress.
    View(oneshot::Sender<Option<Payload>>),
    /// Where it stands.
    Status(oneshot::Sender<Status>),
    /// What the program waits for.
    Waits(oneshot::Sender<Vec<(Path, String)>>),
}

/// The answers that wait for the disk.
#[derive(Default)]
pub(crate) struct Answers {
    synced: u64,
    waiting: Vec<(u64, oneshot::Sender<Result<(), SignalError>>)>,
}

impl Answers {
    /// An error of a reply says that nobody wants it any more.
    pub(crate) fn answer(&mut self, part: &Part, question: Question) {
        match question {
            Question::Cancel(abort, reply) => drop(reply.send(part.cancel(&abort))),
            Question::Remedy(remedy, reply) => drop(reply.send(part.remedy(remedy))),
            Question::View(reply) => drop(reply.send(part.view())),
            Question::Status(reply) => drop(reply.send(part.status())),
            Question::Waits(reply) => drop(reply.send(part.waits_for())),
            Question::Signal { name, key, payload, reply } => match part.signal(&name, &key, payload) {
                Ok(after) if after > self.synced => self.waiting.push((after, reply)),
                taken => drop(reply.send(taken.map(|_| ()))),
            },
        }
    }

    /// The write `number` is durable.
    pub(crate) fn synced(&mut self, number: u64) {
        self.synced = self.synced.max(number);
        let due = self.waiting.extract_if(.., |(after, _)| *after <= number);
        for (_, reply) in due {
            let _ = reply.send(Ok(()));
        }
    }
}
