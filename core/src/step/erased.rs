//! Steps with their types erased: how a typed step and its input become an [`AnyStep`].

use std::sync::Arc;

use super::{AnyStep, BuiltInStep, CommitOutcome, ExternalStep, LocalTransaction, StepPlace, Transaction};
use crate::base::abort::{Abort, Retry};
use crate::base::located::Local;
use crate::base::message::{CodecError, Message, Payload, decode, encode};
use crate::base::role::Role;
use crate::contract::BoxFuture;
use crate::state::State;

/// A [`Transaction`] or a [`LocalTransaction`]; the inferred `Marker` tells which.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a saga step",
    label = "implement `Transaction` (a service outside) or `LocalTransaction` (the built-in state) for it, not both"
)]
pub trait Step<Marker>: Send + Sync + 'static {
    /// The step's name.
    const NAME: &'static str;
    /// The role at which the step runs.
    type Role: Role;
    /// The input of the step.
    type Input: Message;
    /// The output of the step.
    type Output: Message;
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
struct Bound<S, R: Role, I> {
    step: S,
    here: Local<R>,
    input: Arc<I>,
}

impl<T: Transaction> Step<External> for T {
    const NAME: &'static str = T::NAME;
    type Role = T::Role;
    type Input = T::Input;
    type Output = T::Output;
    fn erase(self, here: Local<T::Role>, input: Arc<T::Input>) -> AnyStep {
        AnyStep { kind: T::KIND, place: StepPlace::External(Arc::new(Bound { step: self, here, input })) }
    }
}

impl<T: LocalTransaction> Step<BuiltIn> for T {
    const NAME: &'static str = T::NAME;
    type Role = T::Role;
    type Input = T::Input;
    type Output = T::Output;
    fn erase(self, here: Local<T::Role>, input: Arc<T::Input>) -> AnyStep {
        AnyStep { kind: T::KIND, place: StepPlace::BuiltIn(Arc::new(Bound { step: self, here, input })) }
    }
}

impl<T: Transaction> ExternalStep for Bound<T, T::Role, T::Input> {
    fn commit(self: Arc<Self>) -> BoxFuture<'static, Result<Result<Payload, Abort>, CodecError>> {
        Box::pin(async move {
            match self.step.commit(&self.here, &self.input).await {
                Ok(output) => Ok(Ok(encode(&output)?.into())),
                Err(refusal) => Ok(Err(refusal)),
            }
        })
    }
    fn compensate(self: Arc<Self>, output: Payload) -> BoxFuture<'static, Result<(), Retry>> {
        Box::pin(async move {
            let output = decode(output.as_slice()).map_err(|error| Retry::new(error.to_string()))?;
            self.step.compensate(&self.here, &self.input, &output).await
        })
    }
    fn outcome(self: Arc<Self>) -> BoxFuture<'static, Result<CommitOutcome<Payload>, Retry>> {
        Box::pin(async move {
            Ok(match self.step.outcome(&self.here, &self.input).await? {
                CommitOutcome::Committed(output) => {
                    let bytes = encode(&output).map_err(|error| Retry::new(error.to_string()))?;
                    CommitOutcome::Committed(bytes.into())
                }
                CommitOutcome::NotCommitted => CommitOutcome::NotCommitted,
                CommitOutcome::Unknown => CommitOutcome::Unknown,
            })
        })
    }
}

impl<T: LocalTransaction> BuiltInStep for Bound<T, T::Role, T::Input> {
    fn commit(&self, state: &mut State<'_>) -> Result<Payload, Abort> {
        let output = self.step.commit(state, &self.input);
        let output = state.unless_failed(output)?;
        // If the encoding fails, the step's changes are discarded with the failure.
        Ok(encode(&output).map_err(|error| Abort::failure(error.to_string()))?.into())
    }
    fn compensate(&self, state: &mut State<'_>, output: &Payload) -> Result<(), Retry> {
        let output = decode(output.as_slice()).map_err(|error| Retry::new(error.to_string()))?;
        let result = self.step.compensate(state, &self.input, &output);
        state.unless_failed(result)
    }
}
