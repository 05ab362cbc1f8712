//! What someone outside asks of an instance that is in memory: to cancel, to signal, to look, to mend.
//!
//! Each gets its answer from the instance itself, in the order of its messages. Knows the part, no callers.

use accompanist_core::id::RoleIndex;
use accompanist_core::instance::{Remedy, SignalError, Status};
use accompanist_core::part::Part;
use accompanist_core::{Abort, NodeId, Path, Payload};
use tokio::sync::oneshot;

use crate::actor;

/// A question, with the way back. An instance that is not there drops it unanswered.
pub(crate) enum Question {
    /// Abort, if it is still time to; answered once it is durable.
    Cancel(Abort, oneshot::Sender<Result<(), NotCancelled>>),
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
    /// What keeps it from going on, in one sentence.
    #[cfg(feature = "testing")]
    Standing(oneshot::Sender<String>),
}

/// Why a role's part does not cancel the session.
#[derive(Debug)]
pub(crate) enum NotCancelled {
    /// It is a channel to a durable actor, which would throw its messages away.
    Channel,
    /// Its initiating role can, which this node plays.
    Elsewhere(RoleIndex, Option<NodeId>),
    /// It is aborted for another reason, or closing.
    TooLate(Status),
}

fn cancel(part: &Part, abort: &Abort) -> Result<u64, NotCancelled> {
    let header = part.header();
    if actor::is_channel(&header) {
        return Err(NotCancelled::Channel);
    }
    if header.initiator != part.id().role {
        return Err(NotCancelled::Elsewhere(header.initiator, header.node_of(header.initiator).cloned()));
    }
    part.cancel(abort).ok_or_else(|| NotCancelled::TooLate(part.status()))
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
            Question::Cancel(abort, reply) => match cancel(part, &abort) {
                Ok(after) => self.reply_after(after, reply, Ok(())),
                Err(error) => drop(reply.send(Err(error))),
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
            #[cfg(feature = "testing")]
            Question::Standing(reply) => drop(reply.send(part.standing())),
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
