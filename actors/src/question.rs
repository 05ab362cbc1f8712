//! What someone outside asks of an instance that is in memory: to cancel, to signal, to look, to mend.
//!
//! Each gets its answer from the instance itself, in the order of its messages. Knows the part, no callers.

use accompanist_core::instance::{Remedy, SignalError, Status};
use accompanist_core::part::Part;
use accompanist_core::{Abort, Path, Payload};
use tokio::sync::oneshot;

/// A question, with the way back. An instance that is not there drops it unanswered.
pub(crate) enum Question {
    /// Abort, if it is still time to; answered once it is durable.
    Cancel(Abort, oneshot::Sender<bool>),
    /// Take this in; answered once it is durable.
    Signal { name: String, key: String, payload: Payload, reply: oneshot::Sender<Result<(), SignalError>> },
    /// An operator has looked: how many steps does that concern? Answered once it is durable.
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
    waiting: Vec<(u64, Box<dyn FnOnce() + Send>)>,
}

impl Answers {
    /// An error of a reply says that nobody wants it any more.
    pub(crate) fn answer(&mut self, part: &Part, question: Question) {
        match question {
            Question::Cancel(abort, reply) => match part.cancel(&abort) {
                Some(after) => self.reply_after(after, reply, true),
                None => drop(reply.send(false)),
            },
            Question::Signal { name, key, payload, reply } => match part.signal(&name, &key, payload) {
                Ok(after) => self.reply_after(after, reply, Ok(())),
                Err(error) => drop(reply.send(Err(error))),
            },
            Question::Remedy(remedy, reply) => {
                let (concerned, after) = part.remedy(remedy);
                self.reply_after(after, reply, concerned);
            }
            Question::View(reply) => drop(reply.send(part.view())),
            Question::Status(reply) => drop(reply.send(part.status())),
            Question::Waits(reply) => drop(reply.send(part.waits_for())),
        }
    }

    fn reply_after<T: Send + 'static>(&mut self, after: u64, reply: oneshot::Sender<T>, answer: T) {
        let reply: Box<dyn FnOnce() + Send> = Box::new(move || drop(reply.send(answer)));
        if after <= self.synced { reply() } else { self.waiting.push((after, reply)) }
    }

    /// Whether nobody waits for one.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The write `number` is durable.
    pub(crate) fn synced(&mut self, number: u64) {
        self.synced = self.synced.max(number);
        for (_, reply) in self.waiting.extract_if(.., |(after, _)| *after <= number) {
            reply();
        }
    }
}
