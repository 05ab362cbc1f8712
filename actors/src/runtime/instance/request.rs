//! Answers the questions and requests from outside to an instance in memory.
//!
//! Each is answered by the instance itself, in the order of its messages. Knows the part, no callers.

use accompanist_core::Abort;
use accompanist_core::role_instance::RoleInstance;
use tokio::sync::oneshot;

use crate::runtime::channel::is_channel;
use crate::runtime::messages::{InstanceRequest, NotCancelled};

fn cancel(part: &RoleInstance, abort: &Abort) -> Result<u64, NotCancelled> {
    let header = part.header();
    if is_channel(&header) {
        return Err(NotCancelled::Channel);
    }
    if header.initiator != part.id().role {
        return Err(NotCancelled::Elsewhere(header.initiator, header.node_of(header.initiator).cloned()));
    }
    part.cancel(abort).ok_or_else(|| NotCancelled::TooLate(part.status()))
}

/// The answers that wait for the disk.
#[derive(Default)]
pub(super) struct PendingAnswers {
    synced: u64,
    waiting: Vec<(u64, Box<dyn FnOnce() + Send>)>,
}

impl PendingAnswers {
    /// Answers a question. An error of a reply means that the caller no longer waits.
    pub(super) fn answer(&mut self, part: &RoleInstance, question: InstanceRequest) {
        match question {
            InstanceRequest::Cancel(abort, reply) => match cancel(part, &abort) {
                Ok(after) => self.reply_after(after, reply, Ok(())),
                Err(error) => drop(reply.send(Err(error))),
            },
            InstanceRequest::Signal { name, key, payload, reply } => match part.signal(&name, &key, payload) {
                Ok(after) => self.reply_after(after, reply, Ok(())),
                Err(error) => drop(reply.send(Err(error))),
            },
            InstanceRequest::Resolution(resolution, reply) => {
                let (concerned, after) = part.resolve(resolution);
                self.reply_after(after, reply, concerned);
            }
            InstanceRequest::View(reply) => drop(reply.send(part.view())),
            InstanceRequest::Status(reply) => drop(reply.send(part.status())),
            InstanceRequest::Waits(reply) => drop(reply.send(part.waits_for())),
            InstanceRequest::Inspect(reply) => drop(reply.send(Box::new(part.inspect()))),
            #[cfg(feature = "testing")]
            InstanceRequest::Describe(reply) => drop(reply.send(part.describe())),
        }
    }

    fn reply_after<T: Send + 'static>(&mut self, after: u64, reply: oneshot::Sender<T>, answer: T) {
        let reply: Box<dyn FnOnce() + Send> = Box::new(move || drop(reply.send(answer)));
        if after <= self.synced { reply() } else { self.waiting.push((after, reply)) }
    }

    /// Returns whether no answer is waiting.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Sends the answers that waited for the write `number`, which is durable.
    pub(super) fn synced(&mut self, number: u64) {
        self.synced = self.synced.max(number);
        for (_, reply) in self.waiting.extract_if(.., |(after, _)| *after <= number) {
            reply();
        }
    }
}
