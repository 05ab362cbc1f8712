//! Questions and requests from outside to an instance in memory: cancel, signal, inspect, resolve. Next:
//! `instance/request.rs`, which answers them.

use accompanist_core::id::RoleIndex;
use accompanist_core::machine::{Inspection, Resolution, SignalError, Status};
use accompanist_core::{Abort, NodeId, Path, Payload};
use tokio::sync::oneshot;

/// A question, with the channel for its answer. If there is no instance, the question is dropped unanswered.
pub(crate) enum InstanceRequest {
    /// Abort the session, if there is still time; answered once the abort is durable.
    Cancel(Abort, oneshot::Sender<Result<(), NotCancelled>>),
    /// Accept this signal; answered once it is durable.
    Signal { name: String, key: String, payload: Payload, reply: oneshot::Sender<Result<(), SignalError>> },
    /// Apply an operator's resolution; answered, once it is durable, with the number of steps concerned.
    Resolution(Resolution, oneshot::Sender<usize>),
    /// Return the progress that the program has published.
    View(oneshot::Sender<Option<Payload>>),
    /// Return the status of the instance.
    Status(oneshot::Sender<Status>),
    /// Return what the program waits for.
    Waits(oneshot::Sender<Vec<(Path, String)>>),
    /// Return what the instance waits for, on whom and since when.
    Inspect(oneshot::Sender<Box<Inspection>>),
    /// Return in one sentence what keeps the instance from progressing.
    #[cfg(feature = "testing")]
    Describe(oneshot::Sender<String>),
}

/// The reasons why a role's part does not cancel the session.
#[derive(Debug)]
pub(crate) enum NotCancelled {
    /// The session is a channel to a durable actor, whose messages would be lost.
    Channel,
    /// Only the session's initiating role can cancel it: this role, on this node (if the header names one).
    Elsewhere(RoleIndex, Option<NodeId>),
    /// The session is aborted for another reason, or closing.
    TooLate(Status),
}
