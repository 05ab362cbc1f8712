//! The forms of the functions that a step on a service is made of, as traits.
//!
//! Every async function of the form implements its trait. The lifetime is a parameter of the trait, because only so
//! can a bound say that the function's future is `Send`, which `AsyncFn` cannot.

use std::future::Future;

use super::CommitOutcome;
use crate::base::abort::{Abort, Retry};
use crate::base::located::Local;
use crate::base::message::Message;
use crate::base::role::Role;
use crate::contract::BoxFuture;

/// A function that commits a step. Implemented by every `async fn(&Local<R>, &I) -> Result<O, Abort>`, and by
/// closures of that form.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not commit a step at `{R}`",
    label = "expected an `async fn(&Local<{R}>, &Input) -> Result<Output, Abort>`"
)]
pub trait CommitFunction<'a, R: Role, I: Message, O: Message>: Send + Sync + 'static {
    fn call(&self, here: &'a Local<R>, input: &'a I) -> BoxFuture<'a, Result<O, Abort>>;
}

impl<'a, R, I, O, F, Done> CommitFunction<'a, R, I, O> for F
where
    R: Role,
    I: Message,
    O: Message,
    F: Fn(&'a Local<R>, &'a I) -> Done + Send + Sync + 'static,
    Done: Future<Output = Result<O, Abort>> + Send + 'a,
{
    fn call(&self, here: &'a Local<R>, input: &'a I) -> BoxFuture<'a, Result<O, Abort>> {
        Box::pin(self(here, input))
    }
}

/// A function that compensates a step: `async fn(&Local<R>, &I, &O) -> Result<(), Retry>`.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not compensate a step at `{R}`",
    label = "expected an `async fn(&Local<{R}>, &{I}, &{O}) -> Result<(), Retry>`"
)]
pub trait CompensateFunction<'a, R: Role, I: Message, O: Message>: Send + Sync + 'static {
    fn call(&self, here: &'a Local<R>, input: &'a I, output: &'a O) -> BoxFuture<'a, Result<(), Retry>>;
}

impl<'a, R, I, O, F, Done> CompensateFunction<'a, R, I, O> for F
where
    R: Role,
    I: Message,
    O: Message,
    F: Fn(&'a Local<R>, &'a I, &'a O) -> Done + Send + Sync + 'static,
    Done: Future<Output = Result<(), Retry>> + Send + 'a,
{
    fn call(&self, here: &'a Local<R>, input: &'a I, output: &'a O) -> BoxFuture<'a, Result<(), Retry>> {
        Box::pin(self(here, input, output))
    }
}

/// A function that finds out what became of a commit: `async fn(&Local<R>, &I) -> Result<CommitOutcome<O>, Retry>`.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not find out what became of a commit at `{R}`",
    label = "expected an `async fn(&Local<{R}>, &{I}) -> Result<CommitOutcome<{O}>, Retry>`"
)]
pub trait OutcomeFunction<'a, R: Role, I: Message, O: Message>: Send + Sync + 'static {
    fn call(&self, here: &'a Local<R>, input: &'a I) -> BoxFuture<'a, Result<CommitOutcome<O>, Retry>>;
}

impl<'a, R, I, O, F, Done> OutcomeFunction<'a, R, I, O> for F
where
    R: Role,
    I: Message,
    O: Message,
    F: Fn(&'a Local<R>, &'a I) -> Done + Send + Sync + 'static,
    Done: Future<Output = Result<CommitOutcome<O>, Retry>> + Send + 'a,
{
    fn call(&self, here: &'a Local<R>, input: &'a I) -> BoxFuture<'a, Result<CommitOutcome<O>, Retry>> {
        Box::pin(self(here, input))
    }
}
