//! The steps of sagas: the traits that users implement, and what the machine knows of a step.
//!
//! This module does not know when a step runs, or how its progress is recorded; that is [`crate::machine`]'s.

mod erased;
mod transaction;

use std::sync::Arc;

use crate::base::abort::{Abort, Retry};
use crate::base::message::{CodecError, Payload};
use crate::contract::BoxFuture;
use crate::state::State;

pub use erased::Step;
pub use transaction::{LocalTransaction, Transaction};

/// The order in which the roles of an aborted session compensate their steps. Within a [`Context::saga`], each role
/// always compensates at its own pace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compensation {
    /// Each role compensates at its own pace, in the reverse order of its own commits. This is the fastest way to
    /// settle the session.
    SideBySide,
    /// Compensation runs strictly backwards along the program, over all roles: a step is compensated only after all
    /// steps that come after it (in the order of [`Path`](crate::Path)s, which is the order of the messages) are
    /// compensated, at whichever role they ran. For every step, each role sends a message to each other role, and a
    /// role in trouble delays all roles whose steps come earlier.
    Backwards,
}

/// The guarantee that a saga step can give (Garcia-Molina and Salem 1987; Richardson, Microservices Patterns, chapter
/// 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The step can refuse, and it can be compensated.
    Compensable,
    /// The point of no return: the step can refuse, and once committed it stays. Every step after it, at every role,
    /// should be [`Kind::Retriable`]; a session that is aborted nevertheless needs an operator.
    Pivot,
    /// The step comes after the point of no return and cannot refuse. After a refusal the commit is retried with
    /// growing pauses, up to `tries_max` of [`Limits`](crate::machine::Limits); after that an operator is needed.
    /// The step is never compensated.
    Retriable,
}

impl Kind {
    /// Whether a step of this kind can be compensated.
    pub const fn is_compensable(self) -> bool {
        matches!(self, Self::Compensable)
    }
}

/// The result of a commit that a crash left in doubt, as far as its service knows it; see [`Transaction::outcome`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommitOutcome<T> {
    /// The commit took effect and returned this output.
    Committed(T),
    /// The commit did not take effect, and can no longer take effect under this key.
    NotCommitted,
    /// The service cannot say.
    Unknown,
}

/// A step together with its input, with the types erased.
#[doc(hidden)]
#[derive(Clone)]
pub struct AnyStep {
    pub(crate) kind: Kind,
    pub(crate) place: StepPlace,
}

/// The place where a step takes effect.
#[derive(Clone)]
pub(crate) enum StepPlace {
    External(Arc<dyn ExternalStep>),
    BuiltIn(Arc<dyn BuiltInStep>),
}

pub(crate) trait ExternalStep: Send + Sync {
    /// Commits the step. The outer error means that the commit took effect but its output cannot be encoded.
    fn commit(self: Arc<Self>) -> BoxFuture<'static, Result<Result<Payload, Abort>, CodecError>>;
    fn compensate(self: Arc<Self>, output: Payload) -> BoxFuture<'static, Result<(), Retry>>;
    fn outcome(self: Arc<Self>) -> BoxFuture<'static, Result<CommitOutcome<Payload>, Retry>>;
}

pub(crate) trait BuiltInStep: Send + Sync {
    fn commit(&self, state: &mut State<'_>) -> Result<Payload, Abort>;
    fn compensate(&self, state: &mut State<'_>, output: &Payload) -> Result<(), Retry>;
}
