//! Steps with their types erased: how a typed step and its input become an [`AnyStep`].

use std::sync::Arc;

use super::{AnyStep, BuiltInStep, CommitOutcome, ExternalStep, LocalTransaction, StepPlace, Transaction};
use crate::base::abort::{Abort, Retry};
use crate::base::located::Local;
use crate::base::message::{CodecError, Message, Payload, decode, encode};
use crate::base::role::Role;
use crate::contract::BoxFuture;
use crate::state::State;

/// A [`Transaction`], a [`LocalTransaction`], or a step made of functions ([`step`](crate::step()),
/// [`local_step`](crate::local_step)); the inferred `Marker` tells which.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a saga step",
    label = "implement `Transaction` (a service outside) or `LocalTransaction` (the built-in state) for it, not both",
    note = "functions become a step with `step(Role, \"name\", commit, compensate)`, or `local_step` on the built-in state"
)]
pub trait Step<Marker>: Send + Sync + 'static {
    /// The role at which the step runs.
    type Role: Role;
    /// The input of the step.
    type Input: Message;
    /// The output of the step.
    type Output: Message;
    /// The step's name, checked on replay.
    fn name(&self) -> &'static str;
    #[doc(hidden)]
    fn erase(self, here: Local<Self::Role>, input: Arc<Self::Input>) -> AnyStep;
}

#[doc(hidden)]
#[derive(Debug)]
pub struct External;
#[doc(hidden)]
#[derive(Debug)]
pub struct BuiltIn;

/// A typed step with its input, ready to run at its role.
pub(super) struct Bound<S, R: Role, I> {
    pub(super) step: S,
    pub(super) here: Local<R>,
    pub(super) input: Arc<I>,
}

impl<T: Transaction> Step<External> for T {
    type Role = T::Role;
    type Input = T::Input;
    type Output = T::Output;
    fn name(&self) -> &'static str {
        T::NAME
    }
    fn erase(self, here: Local<T::Role>, input: Arc<T::Input>) -> AnyStep {
        AnyStep { kind: T::KIND, place: StepPlace::External(Arc::new(Bound { step: self, here, input })) }
    }
}

impl<T: LocalTransaction> Step<BuiltIn> for T {
    type Role = T::Role;
    type Input = T::Input;
    type Output = T::Output;
    fn name(&self) -> &'static str {
        T::NAME
    }
    fn erase(self, here: Local<T::Role>, input: Arc<T::Input>) -> AnyStep {
        AnyStep { kind: T::KIND, place: StepPlace::BuiltIn(Arc::new(Bound { step: self, here, input })) }
    }
}

impl<T: Transaction> ExternalStep for Bound<T, T::Role, T::Input> {
    fn commit(self: Arc<Self>) -> BoxFuture<'static, Result<Result<Payload, Abort>, CodecError>> {
        Box::pin(async move { encoded(self.step.commit(&self.here, &self.input).await) })
    }
    fn compensate(self: Arc<Self>, output: Payload) -> BoxFuture<'static, Result<(), Retry>> {
        Box::pin(async move { self.step.compensate(&self.here, &self.input, &decoded(&output)?).await })
    }
    fn outcome(self: Arc<Self>) -> BoxFuture<'static, Result<CommitOutcome<Payload>, Retry>> {
        Box::pin(async move { encoded_outcome(self.step.outcome(&self.here, &self.input).await?) })
    }
}

impl<T: LocalTransaction> BuiltInStep for Bound<T, T::Role, T::Input> {
    fn commit(&self, state: &mut State<'_>) -> Result<Payload, Abort> {
        let output = self.step.commit(state, &self.input);
        committed(state, output)
    }
    fn compensate(&self, state: &mut State<'_>, output: &Payload) -> Result<(), Retry> {
        let result = self.step.compensate(state, &self.input, &decoded(output)?);
        state.unless_failed(result)
    }
}

/// Encodes what a commit on a service returned. The outer error means that it took effect and cannot be encoded.
pub(super) fn encoded<O: Message>(returned: Result<O, Abort>) -> Result<Result<Payload, Abort>, CodecError> {
    match returned {
        Ok(output) => Ok(Ok(encode(&output)?.into())),
        Err(refusal) => Ok(Err(refusal)),
    }
}

/// Encodes what a commit on the built-in state returned. If that fails, its changes are discarded with the failure.
pub(super) fn committed<O: Message>(state: &State<'_>, returned: Result<O, Abort>) -> Result<Payload, Abort> {
    let output = state.unless_failed(returned)?;
    Ok(encode(&output).map_err(|error| Abort::failure(error.to_string()))?.into())
}

/// Decodes a step's output for its compensation.
pub(super) fn decoded<O: Message>(output: &Payload) -> Result<O, Retry> {
    decode(output.as_slice()).map_err(|error| Retry::new(error.to_string()))
}

pub(super) fn encoded_outcome<O: Message>(outcome: CommitOutcome<O>) -> Result<CommitOutcome<Payload>, Retry> {
    Ok(match outcome {
        CommitOutcome::Committed(output) => {
            let bytes = encode(&output).map_err(|error| Retry::new(error.to_string()))?;
            CommitOutcome::Committed(bytes.into())
        }
        CommitOutcome::NotCommitted => CommitOutcome::NotCommitted,
        CommitOutcome::Unknown => CommitOutcome::Unknown,
    })
}
