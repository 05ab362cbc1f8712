//! What users write: choreographies, and the steps of their sagas.
//!
//! Knows types and closures, nothing of how they are run; [`crate::Context`] is what they run against.

use std::future::Future;
use std::sync::Arc;

use crate::abort::{Abort, Retry};
use crate::context::Context;
use crate::contract::BoxFuture;
use crate::located::{Local, Located};
use crate::message::{CodecError, Message, Payload, decode, encode};
use crate::role::{Role, RoleSet};
use crate::state::State;

/// One program for all roles.
///
/// Every role runs [`Choreography::run`]; each operation on the context does that role's part of it. The
/// program must be deterministic: what it does may depend on its input, on messages and on recorded results
/// (`effect`, `now`, `random`, ..), never on a clock, chance or a global.
pub trait Choreography: Send + Sync + 'static {
    /// The name, unique among the choreographies of a system.
    const NAME: &'static str;
    /// Raised when a change would replay open sessions differently. The version before stays in the binary until its
    /// sessions have ended, with the types of the messages it sends: what is open is read as it was written.
    const VERSION: u32 = 1;
    /// The small changes that this version's code knows, besides its first form; see [`Context::patched`].
    const PATCHES: &'static [&'static str] = &[];
    /// The roles, such as `(Buyer, Seller)`.
    type Roles: RoleSet;
    /// What it starts from, at the role that starts it.
    type Input: Located;
    /// What it gives, at the same role.
    type Output: Located<Role = <Self::Input as Located>::Role>;

    /// The program.
    ///
    /// # Errors
    /// An [`Abort`] ends the session for all roles and compensates what was committed.
    fn run(
        &self,
        ctx: &Context<Self::Roles>,
        input: Self::Input,
    ) -> impl Future<Output = Result<Self::Output, Abort>> + Send;
}

/// A saga step against a service outside: how to commit, and how to take it back.
///
/// # What the service owes
/// It honours [`Local::key`]: a second commit (or compensation) under the same key has no further effect and
/// gives the first one's answer. The runtime asks again after a crash, since it cannot know how far it got.
pub trait Transaction: Send + Sync + 'static {
    /// The name, checked on replay.
    const NAME: &'static str;
    /// Where it runs.
    type Role: Role;
    /// What it needs.
    type Input: Message;
    /// What it gives; kept until the session is closed, for the compensation.
    type Output: Message;

    /// Does it.
    ///
    /// # Errors
    /// An [`Abort`] is the service's refusal, a decision: the step had no effect. For trouble on the way
    /// (no connection, a time-out) try again inside: only the service knows how.
    fn commit(
        &self,
        here: &Local<Self::Role>,
        input: &Self::Input,
    ) -> impl Future<Output = Result<Self::Output, Abort>> + Send;

    /// Takes it back. Runs only after `commit` gave `output`.
    ///
    /// # Errors
    /// With [`Retry`] it is tried again, with growing pauses, until it succeeds.
    fn compensate(
        &self,
        here: &Local<Self::Role>,
        input: &Self::Input,
        output: &Self::Output,
    ) -> impl Future<Output = Result<(), Retry>> + Send;
}

/// A saga step on the built-in state: exactly once, with one sync, with no duty on the user's side.
///
/// It runs inside the store's writer: keep it short, and do nothing but compute and use `state`.
pub trait LocalTransaction: Send + Sync + 'static {
    /// The name, checked on replay.
    const NAME: &'static str;
    /// Where it runs.
    type Role: Role;
    /// What it needs.
    type Input: Message;
    /// What it gives; kept until the session is closed, for the compensation.
    type Output: Message;

    /// Does it. All changes of `state` and the step's record become durable together.
    ///
    /// # Errors
    /// An [`Abort`] refuses the step: its changes are thrown away.
    fn commit(&self, state: &mut State<'_>, input: &Self::Input) -> Result<Self::Output, Abort>;

    /// Takes it back.
    ///
    /// # Errors
    /// With [`Retry`] its changes are thrown away and it is tried again, with growing pauses.
    fn compensate(&self, state: &mut State<'_>, input: &Self::Input, output: &Self::Output) -> Result<(), Retry>;
}

/// A [`Transaction`] or a [`LocalTransaction`]; `Marker` says which and is inferred.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a saga step",
    label = "implement `Transaction` (a service outside) or `LocalTransaction` (the built-in state) for it, not both"
)]
pub trait Step<Marker>: Send + Sync + 'static {
    /// The step's name.
    const NAME: &'static str;
    /// Where it runs.
    type Role: Role;
    /// What it needs.
    type Input: Message;
    /// What it gives.
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

/// A step with its input, without its types.
#[doc(hidden)]
#[derive(Clone)]
pub enum AnyStep {
    External(Arc<dyn ExternalStep>),
    BuiltIn(Arc<dyn BuiltInStep>),
}

#[doc(hidden)]
pub trait ExternalStep: Send + Sync {
    fn commit(self: Arc<Self>) -> BoxFuture<'static, Result<Payload, Abort>>;
    fn compensate(self: Arc<Self>, output: Payload) -> BoxFuture<'static, Result<(), Retry>>;
}

#[doc(hidden)]
pub trait BuiltInStep: Send + Sync {
    fn commit(&self, state: &mut State<'_>) -> Result<Payload, Abort>;
    fn compensate(&self, state: &mut State<'_>, output: &Payload) -> Result<(), Retry>;
}

/// A typed step, ready to run at its role.
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
        AnyStep::External(Arc::new(Bound { step: self, here, input }))
    }
}

impl<T: LocalTransaction> Step<BuiltIn> for T {
    const NAME: &'static str = T::NAME;
    type Role = T::Role;
    type Input = T::Input;
    type Output = T::Output;
    fn erase(self, here: Local<T::Role>, input: Arc<T::Input>) -> AnyStep {
        AnyStep::BuiltIn(Arc::new(Bound { step: self, here, input }))
    }
}

impl<T: Transaction> ExternalStep for Bound<T, T::Role, T::Input> {
    fn commit(self: Arc<Self>) -> BoxFuture<'static, Result<Payload, Abort>> {
        Box::pin(async move {
            let output = self.step.commit(&self.here, &self.input).await?;
            Ok(encode(&output).map_err(unencodable)?.into())
        })
    }
    fn compensate(self: Arc<Self>, output: Payload) -> BoxFuture<'static, Result<(), Retry>> {
        Box::pin(async move {
            let output = decode(output.as_slice()).map_err(|error| Retry::new(error.to_string()))?;
            self.step.compensate(&self.here, &self.input, &output).await
        })
    }
}

impl<T: LocalTransaction> BuiltInStep for Bound<T, T::Role, T::Input> {
    fn commit(&self, state: &mut State<'_>) -> Result<Payload, Abort> {
        let output = self.step.commit(state, &self.input)?;
        Ok(encode(&output).map_err(unencodable)?.into())
    }
    fn compensate(&self, state: &mut State<'_>, output: &Payload) -> Result<(), Retry> {
        let output = decode(output.as_slice()).map_err(|error| Retry::new(error.to_string()))?;
        self.step.compensate(state, &self.input, &output)
    }
}

#[expect(clippy::needless_pass_by_value, reason = "used as a function for map_err")]
fn unencodable(error: CodecError) -> Abort {
    Abort::failure(error.to_string())
}
