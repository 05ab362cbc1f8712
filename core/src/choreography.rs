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
    /// In which order the roles take back their steps when the session is aborted.
    const COMPENSATION: Compensation = Compensation::SideBySide;
    /// Messages wait in it that nobody else has, so what would abort it makes it stand still instead.
    #[doc(hidden)]
    const STANDS_STILL: bool = false;

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

/// In which order the roles of an aborted session take back their steps. A [`Context::saga`] is taken back by each role
/// at its own pace in either case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compensation {
    /// Each role at its own pace, in the reverse order of its own commits: the quickest way to an end.
    SideBySide,
    /// Strictly backwards along the program, over all roles: a step is taken back once all steps that come after it
    /// (in the order of [`Path`](crate::Path)s, which is that of the messages) are taken back, wherever they ran.
    /// Costs a message from each role to each other one for every step, and one role in trouble holds up those
    /// before it.
    Backwards,
}

/// What a saga step can promise (Garcia-Molina and Salem 1987; Richardson, Microservices Patterns, chapter 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It can refuse, and it can be taken back.
    Compensable,
    /// The point of no return: it can refuse, and once committed it stays. What comes after it should be
    /// [`Kind::Retriable`], at every role: a session that is aborted all the same needs an operator.
    Pivot,
    /// It comes after the point of no return and cannot refuse: a refusal is tried again with growing pauses, up to
    /// `tries_max` of [`Limits`](crate::instance::Limits), then an operator is needed. It is never taken back.
    Retriable,
}

/// What became of a commit that a crash left in doubt, as its service knows; see [`Transaction::outcome`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Doubt<T> {
    /// It took effect, and gave this.
    Committed(T),
    /// It did not take effect, and will not any more under this key.
    NotCommitted,
    /// The service cannot say.
    Unknown,
}

/// A saga step against a service outside: how to commit, and how to take it back.
///
/// # What the service owes
/// It honours [`Local::key`]: a second commit (or compensation) under the same key has no further effect and
/// gives the first one's answer. The runtime asks again after a crash, since it cannot know how far it got.
pub trait Transaction: Send + Sync + 'static {
    /// The name, checked on replay.
    const NAME: &'static str;
    /// What it can promise.
    const KIND: Kind = Kind::Compensable;
    /// Where it runs.
    type Role: Role;
    /// What it needs.
    type Input: Message;
    /// What it gives; kept until the session is closed, for the compensation. One that cannot be encoded is found out after
    /// the effect, and needs an operator ([`Task::Record`](crate::record::Task::Record)).
    type Output: Message;

    /// Does it.
    ///
    /// # Errors
    /// An [`Abort`] is the service's refusal, a decision: the step had no effect. For trouble on the way
    /// (no connection, a time-out) try again inside: only the service knows how. It has no time limit but its own, and
    /// an abort of the session waits for its end.
    fn commit(
        &self,
        here: &Local<Self::Role>,
        input: &Self::Input,
    ) -> impl Future<Output = Result<Self::Output, Abort>> + Send;

    /// Takes it back. Runs only after `commit` gave `output`. A step that is not [`Kind::Compensable`] leaves it out;
    /// one that is and has none does not build.
    ///
    /// # Errors
    /// With [`Retry`] it is tried again, with growing pauses, up to `tries_max` of
    /// [`Limits`](crate::instance::Limits); then an operator is needed.
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

    /// Whether the commit under [`Local::key`] took effect: asked of a [`Kind::Pivot`] that was running at a crash,
    /// on a session that has been aborted since, so that it may not be run again.
    ///
    /// # Errors
    /// With [`Retry`] it is asked again, as for `compensate`.
    fn outcome(
        &self,
        here: &Local<Self::Role>,
        input: &Self::Input,
    ) -> impl Future<Output = Result<Doubt<Self::Output>, Retry>> + Send {
        let _ = (here, input);
        async { Ok(Doubt::Unknown) }
    }
}

impl Kind {
    /// Whether it can be taken back.
    pub const fn is_compensable(self) -> bool {
        matches!(self, Self::Compensable)
    }
}

/// A saga step on the built-in state: exactly once, with one sync, with no duty on the user's side.
///
/// It runs inside the store's writer: keep it short, and do nothing but compute and use `state`.
pub trait LocalTransaction: Send + Sync + 'static {
    /// The name, checked on replay.
    const NAME: &'static str;
    /// What it can promise.
    const KIND: Kind = Kind::Compensable;
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

    /// Takes it back. A step that is not [`Kind::Compensable`] leaves it out; one that is and has none does not
    /// build.
    ///
    /// # Errors
    /// With [`Retry`] its changes are thrown away and it is tried again, with growing pauses, up to `tries_max` of
    /// [`Limits`](crate::instance::Limits); then an operator is needed.
    fn compensate(&self, state: &mut State<'_>, input: &Self::Input, output: &Self::Output) -> Result<(), Retry> {
        const { assert!(!Self::KIND.is_compensable(), "a step of `Kind::Compensable` needs a `compensate`") };
        let _ = (state, input, output);
        Ok(())
    }
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
pub struct AnyStep {
    pub(crate) kind: Kind,
    pub(crate) place: StepPlace,
}

/// Where a step takes effect.
#[derive(Clone)]
pub(crate) enum StepPlace {
    External(Arc<dyn ExternalStep>),
    BuiltIn(Arc<dyn BuiltInStep>),
}

pub(crate) trait ExternalStep: Send + Sync {
    /// The outer error is of a commit that has taken effect, and whose output has no bytes.
    fn commit(self: Arc<Self>) -> BoxFuture<'static, Result<Result<Payload, Abort>, CodecError>>;
    fn compensate(self: Arc<Self>, output: Payload) -> BoxFuture<'static, Result<(), Retry>>;
    fn outcome(self: Arc<Self>) -> BoxFuture<'static, Result<Doubt<Payload>, Retry>>;
}

pub(crate) trait BuiltInStep: Send + Sync {
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
    fn outcome(self: Arc<Self>) -> BoxFuture<'static, Result<Doubt<Payload>, Retry>> {
        Box::pin(async move {
            Ok(match self.step.outcome(&self.here, &self.input).await? {
                Doubt::Committed(output) => {
                    let bytes = encode(&output).map_err(|error| Retry::new(error.to_string()))?;
                    Doubt::Committed(bytes.into())
                }
                Doubt::NotCommitted => Doubt::NotCommitted,
                Doubt::Unknown => Doubt::Unknown,
            })
        })
    }
}

impl<T: LocalTransaction> BuiltInStep for Bound<T, T::Role, T::Input> {
    fn commit(&self, state: &mut State<'_>) -> Result<Payload, Abort> {
        let output = self.step.commit(state, &self.input);
        let output = state.unless_failed(output)?;
        // Its changes are thrown away with it.
        Ok(encode(&output).map_err(|error| Abort::failure(error.to_string()))?.into())
    }
    fn compensate(&self, state: &mut State<'_>, output: &Payload) -> Result<(), Retry> {
        let output = decode(output.as_slice()).map_err(|error| Retry::new(error.to_string()))?;
        let result = self.step.compensate(state, &self.input, &output);
        state.unless_failed(result)
    }
}
