//! What is required of one who follows the calls that steps make, to draw traces of them.
//!
//! Calls happen only when something is done: a replay answers from the journal and makes none.

use crate::base::id::Path;

/// The method of a step that is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CallKind {
    /// The step is committed.
    Commit,
    /// A committed step is compensated.
    Compensate,
    /// The service is asked whether a commit took effect.
    FindOut,
}

/// A call that is about to be made.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct StepCall<'a> {
    /// The name of the step.
    pub step: &'a str,
    /// The path of the step.
    pub path: &'a Path,
    /// The method that is called.
    pub kind: CallKind,
}

/// How a call has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum CallEnd {
    /// The commit or the compensation took effect.
    Done,
    /// The step has refused, with this reason: nothing took effect, and that is an answer.
    Refused(String),
    /// The call did not succeed, for this reason: it is made again, or an operator has to act.
    Failed(String),
}

/// Follows the calls of one role instance.
pub trait CallObserver: Send + Sync {
    /// Notes that a call is about to be made; `None` if it is of no interest.
    fn begin(&self, call: &StepCall<'_>) -> Option<Box<dyn ObservedCall>>;
}

/// A call that is followed, until it is dropped.
pub trait ObservedCall: Send + Sync {
    /// Runs a part of the call's work: all of it, or one poll. What it notes of itself belongs to the call.
    fn within(&self, work: &mut dyn FnMut());
    /// Notes how the call has ended. A call that panics, or that is cut off, is dropped without an end.
    fn ended(&self, end: CallEnd);
}
