//! Steps on services that are values, made of functions: [`step`], [`pivot`] and [`retriable`].
//!
//! They have what an implementation of [`Transaction`](crate::Transaction) has. Steps on the built-in state are in
//! [`crate::local_step`]; this module does not know the state.

use std::fmt;
use std::sync::Arc;

use super::erased::{Bound, Step, decoded, encoded, encoded_outcome};
use super::signatures::{CommitFunction, CompensateFunction, OutcomeFunction};
use super::{AnyStep, CommitOutcome, ExternalStep, Kind, StepPlace};
use crate::base::abort::{Abort, Retry};
use crate::base::located::Local;
use crate::base::message::{CodecError, Message, Payload};
use crate::base::role::Role;
use crate::contract::BoxFuture;

type Commit<R, I, O> = dyn for<'a> CommitFunction<'a, R, I, O>;
type Compensate<R, I, O> = dyn for<'a> CompensateFunction<'a, R, I, O>;
type FindOut<R, I, O> = dyn for<'a> OutcomeFunction<'a, R, I, O>;

/// A saga step on an external service, made of functions: the value of [`step`], [`pivot`] and [`retriable`].
pub struct FunctionStep<R: Role, I: Message, O: Message> {
    name: &'static str,
    kind: Kind,
    commit: Arc<Commit<R, I, O>>,
    /// There is one if the step is compensable.
    compensate: Option<Arc<Compensate<R, I, O>>>,
    outcome: Option<Arc<FindOut<R, I, O>>>,
}

/// Makes a compensable step at `role` on an external service, out of two functions.
///
/// The step is the same as an implementation of [`Transaction`](crate::Transaction) with this name, and what that trait
/// says of the service holds here: it has to honour [`Local::key`]. The `name` is checked on replay, so it stays the
/// same in every release. A step that has no compensation is a [`pivot`] or [`retriable`].
///
/// ```
/// # use std::collections::BTreeMap;
/// # use std::sync::{Arc, Mutex};
/// use accompanist_core::{Abort, Local, Retry, Role, step};
/// # use accompanist_core::*;
/// # #[derive(Role)] #[role(service = Stock)] struct Seller;
/// # #[derive(Default)] struct Stock(Mutex<BTreeMap<IdempotencyKey, Option<u32>>>);
///
/// async fn reserve(seller: &Local<Seller>, books: &u32) -> Result<u32, Abort> {
///     let mut reserved = seller.service().0.lock().unwrap();
///     let answer = reserved.entry(seller.key().clone()).or_insert(Some(*books));
///     answer.ok_or(Abort::new("too-late", "this reservation was compensated before"))
/// }
///
/// async fn release(seller: &Local<Seller>, _books: &u32, _reserved: &u32) -> Result<(), Retry> {
///     seller.service().0.lock().unwrap().insert(seller.key().clone(), None);
///     Ok(())
/// }
///
/// # struct Sale;
/// # impl Choreography for Sale {
/// #     const NAME: &'static str = "sale"; type Roles = (Seller,);
/// #     type Input = At<Seller, u32>; type Output = At<Seller, u32>;
/// async fn run(&self, ctx: &Context<Self::Roles>, books: At<Seller, u32>) -> Result<At<Seller, u32>, Abort> {
///     let reserved = ctx.transact(step(Seller, "reserve", reserve, release), &books).await?;
///     let few = ctx.locally(Seller, |seller| *seller.get(&reserved) <= 4);
///     if ctx.broadcast(Seller, &few).await? { Ok(reserved) } else { ctx.abort(Abort::new("too-many", "")).await }
/// }
/// # }
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let stock = Arc::new(Stock::default());
/// let services = Services::new().with(Seller, stock.clone());
/// assert_eq!(run_local(Sale, 3, &services).await, Ok(3));
/// assert_eq!(run_local(Sale, 5, &services).await.unwrap_err().code(), "too-many");
/// assert_eq!(stock.0.lock().unwrap().values().flatten().sum::<u32>(), 3); // The five were released.
/// # }
/// ```
///
/// Closures do as well, if the types of their parameters are written out:
/// `async |seller: &Local<Seller>, books: &u32| ..`. An async closure captures nothing: what a step needs to know
/// belongs into its input, which is recorded.
pub fn step<R, I, O, C, U>(role: R, name: &'static str, commit: C, compensate: U) -> FunctionStep<R, I, O>
where
    R: Role,
    I: Message,
    O: Message,
    C: for<'a> CommitFunction<'a, R, I, O>,
    U: for<'a> CompensateFunction<'a, R, I, O>,
{
    let compensate: Arc<Compensate<R, I, O>> = Arc::new(compensate);
    FunctionStep { compensate: Some(compensate), ..uncompensated(role, name, Kind::Compensable, commit) }
}

/// Makes a step of [`Kind::Pivot`] at `role` on an external service: it can refuse, and once committed it stays.
///
/// ```
/// use accompanist_core::{Abort, CommitOutcome, Local, Retry, Role, pivot};
/// # use accompanist_core::*;
/// # #[derive(Role)] #[role(service = Bank)] struct Seller;
/// # struct Bank;
/// # impl Bank {
/// #     async fn charge(&self, _: &IdempotencyKey, cents: u32) -> bool { cents <= 100 }
/// #     async fn has(&self, _: &IdempotencyKey) -> bool { true }
/// # }
///
/// async fn charge(seller: &Local<Seller>, cents: &u32) -> Result<u32, Abort> {
///     let paid = seller.service().charge(seller.key(), *cents).await;
///     if paid { Ok(*cents) } else { Err(Abort::new("no-cover", "the bank refuses")) }
/// }
///
/// /// Asked after a crash, if the session has been aborted since.
/// async fn find_charge(seller: &Local<Seller>, cents: &u32) -> Result<CommitOutcome<u32>, Retry> {
///     let found = seller.service().has(seller.key()).await;
///     Ok(if found { CommitOutcome::Committed(*cents) } else { CommitOutcome::Unknown })
/// }
///
/// # struct Sale;
/// # impl Choreography for Sale {
/// #     const NAME: &'static str = "sale"; type Roles = (Seller,);
/// #     type Input = At<Seller, u32>; type Output = At<Seller, u32>;
/// async fn run(&self, ctx: &Context<Self::Roles>, cents: At<Seller, u32>) -> Result<At<Seller, u32>, Abort> {
///     ctx.transact(pivot(Seller, "charge", charge).outcome(find_charge), &cents).await
/// }
/// # }
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let services = Services::new().with(Seller, std::sync::Arc::new(Bank));
/// assert_eq!(run_local(Sale, 75, &services).await, Ok(75));
/// assert_eq!(run_local(Sale, 125, &services).await.unwrap_err().code(), "no-cover");
/// # }
/// ```
pub fn pivot<R, I, O, C>(role: R, name: &'static str, commit: C) -> FunctionStep<R, I, O>
where
    R: Role,
    I: Message,
    O: Message,
    C: for<'a> CommitFunction<'a, R, I, O>,
{
    uncompensated(role, name, Kind::Pivot, commit)
}

/// Makes a step of [`Kind::Retriable`] at `role` on an external service: it comes after the point of no return and
/// cannot refuse. `retriable(Carrier, "ship", ship)`, where `ship` is an `async fn(&Local<Carrier>, &Parcel) ->
/// Result<Receipt, Abort>` as for [`step`], is tried until it succeeds.
pub fn retriable<R, I, O, C>(role: R, name: &'static str, commit: C) -> FunctionStep<R, I, O>
where
    R: Role,
    I: Message,
    O: Message,
    C: for<'a> CommitFunction<'a, R, I, O>,
{
    uncompensated(role, name, Kind::Retriable, commit)
}

fn uncompensated<R, I, O, C>(_role: R, name: &'static str, kind: Kind, commit: C) -> FunctionStep<R, I, O>
where
    R: Role,
    I: Message,
    O: Message,
    C: for<'a> CommitFunction<'a, R, I, O>,
{
    FunctionStep { name, kind, commit: Arc::new(commit), compensate: None, outcome: None }
}

impl<R: Role, I: Message, O: Message> FunctionStep<R, I, O> {
    /// Sets the function that finds out whether a commit took effect, as
    /// [`Transaction::outcome`](crate::Transaction::outcome) does. [`pivot`] has an example.
    #[must_use]
    pub fn outcome<F: for<'a> OutcomeFunction<'a, R, I, O>>(mut self, outcome: F) -> Self {
        self.outcome = Some(Arc::new(outcome));
        self
    }
}

impl<R: Role, I: Message, O: Message> Clone for FunctionStep<R, I, O> {
    fn clone(&self) -> Self {
        let Self { name, kind, commit, compensate, outcome } = self;
        Self { name, kind: *kind, commit: commit.clone(), compensate: compensate.clone(), outcome: outcome.clone() }
    }
}

impl<R: Role, I: Message, O: Message> fmt::Debug for FunctionStep<R, I, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FunctionStep({} at {}, {:?})", self.name, R::NAME, self.kind)
    }
}

/// The marker of [`FunctionStep`]s among the implementations of [`Step`].
#[doc(hidden)]
#[derive(Debug)]
pub struct FromFunctions;

#[diagnostic::do_not_recommend]
impl<R: Role, I: Message, O: Message> Step<FromFunctions> for FunctionStep<R, I, O> {
    type Role = R;
    type Input = I;
    type Output = O;
    fn name(&self) -> &'static str {
        self.name
    }
    fn erase(self, here: Local<R>, input: Arc<I>) -> AnyStep {
        AnyStep { kind: self.kind, place: StepPlace::External(Arc::new(Bound { step: self, here, input })) }
    }
}

impl<R: Role, I: Message, O: Message> ExternalStep for Bound<FunctionStep<R, I, O>, R, I> {
    fn commit(self: Arc<Self>) -> BoxFuture<'static, Result<Result<Payload, Abort>, CodecError>> {
        Box::pin(async move { encoded(self.step.commit.call(&self.here, &self.input).await) })
    }
    fn compensate(self: Arc<Self>, output: Payload) -> BoxFuture<'static, Result<(), Retry>> {
        Box::pin(async move {
            let Some(compensate) = &self.step.compensate else { return Ok(()) };
            compensate.call(&self.here, &self.input, &decoded(&output)?).await
        })
    }
    fn outcome(self: Arc<Self>) -> BoxFuture<'static, Result<CommitOutcome<Payload>, Retry>> {
        Box::pin(async move {
            let Some(outcome) = &self.step.outcome else { return Ok(CommitOutcome::Unknown) };
            encoded_outcome(outcome.call(&self.here, &self.input).await?)
        })
    }
}
