//! The two traits of saga steps: on a service, and on the built-in state.

use std::future::Future;

use super::{CommitOutcome, Kind};
use crate::base::abort::{Abort, Retry};
use crate::base::located::Local;
use crate::base::message::Message;
use crate::base::role::Role;
use crate::state::State;

/// A saga step on an external service: how to commit it and how to compensate it.
///
/// # What the service must guarantee
/// The service honours [`Local::key`]: a second commit (or compensation) under the same key has no further effect and
/// returns the answer of the first. The runtime repeats the request after a crash, because it cannot know how far the
/// request got. The service keeps what it has committed as long as a session may live, and refuses a commit that
/// arrives after its compensation. See `docs/programming-model.md`.
pub trait Transaction: Send + Sync + 'static {
    /// The name of the step, checked on replay.
    const NAME: &'static str;
    /// The guarantee that the step gives.
    const KIND: Kind = Kind::Compensable;
    /// The role at which the step runs.
    type Role: Role;
    /// The input of the step.
    type Input: Message;
    /// The output of the step, stored until the session is closed because the compensation needs it. An output that
    /// cannot be encoded is only detected after the effect, and then needs an operator
    /// ([`Task::Record`](crate::record::Task::Record)).
    type Output: Message;

    /// Commits the step.
    ///
    /// # Errors
    /// An [`Abort`] is the service's refusal, which is a decision: the step had no effect. Handle transient trouble
    /// (no connection, a time-out) by retrying inside this method, because only the service knows how. The runtime
    /// sets no time limit, and an abort of the session waits until this method returns.
    fn commit(
        &self,
        here: &Local<Self::Role>,
        input: &Self::Input,
    ) -> impl Future<Output = Result<Self::Output, Abort>> + Send;

    /// Compensates the step. Runs only after `commit` returned `output`. A step that is not [`Kind::Compensable`]
    /// omits this method; a compensable step without it does not compile.
    ///
    /// # Errors
    /// After a [`Retry`] the compensation is retried with growing pauses, up to `tries_max` of
    /// [`Limits`](crate::machine::Limits); after that an operator is needed.
    fn compensate(
        &self,
        here: &Local<Self::Role>,
        input: &Self::Input,
        output: &Self::Output,
    ) -> impl Future<Output = Result<(), Retry>> + Send {
        const { assert!(!Self::KIND.is_compensable(), "a step of `Kind::Compensable` needs a `compensate`") };
        let _ = (here, input, output);
        async { Ok(()) }
    }

    /// Returns whether the commit under [`Local::key`] took effect. The runtime calls this for a [`Kind::Pivot`] that
    /// was running at a crash and whose session has been aborted since, so that the step must not be run again.
    ///
    /// # Errors
    /// After a [`Retry`] the call is repeated, as for `compensate`.
    fn outcome(
        &self,
        here: &Local<Self::Role>,
        input: &Self::Input,
    ) -> impl Future<Output = Result<CommitOutcome<Self::Output>, Retry>> + Send {
        let _ = (here, input);
        async { Ok(CommitOutcome::Unknown) }
    }
}

/// A saga step on the built-in state. Takes effect exactly once, with one sync, and requires no idempotency from the
/// user.
///
/// The step runs inside the store's writer: keep it short, and only compute and use `state`.
pub trait LocalTransaction: Send + Sync + 'static {
    /// The name of the step, checked on replay.
    const NAME: &'static str;
    /// The guarantee that the step gives.
    const KIND: Kind = Kind::Compensable;
    /// The role at which the step runs.
    type Role: Role;
    /// The input of the step.
    type Input: Message;
    /// The output of the step, stored until the session is closed because the compensation needs it.
    type Output: Message;

    /// Commits the step. All changes of `state` and the step's record become durable together.
    ///
    /// # Errors
    /// An [`Abort`] refuses the step and discards its changes.
    fn commit(&self, state: &mut State<'_>, input: &Self::Input) -> Result<Self::Output, Abort>;

    /// Compensates the step. A step that is not [`Kind::Compensable`] omits this method; a compensable step without
    /// it does not compile.
    ///
    /// # Errors
    /// After a [`Retry`] the changes are discarded and the compensation is retried with growing pauses, up to
    /// `tries_max` of [`Limits`](crate::machine::Limits); after that an operator is needed.
    fn compensate(&self, state: &mut State<'_>, input: &Self::Input, output: &Self::Output) -> Result<(), Retry> {
        const { assert!(!Self::KIND.is_compensable(), "a step of `Kind::Compensable` needs a `compensate`") };
        let _ = (state, input, output);
        Ok(())
    }
}
