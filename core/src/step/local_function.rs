//! Steps on the built-in state that are values, made of functions: [`local_step`], [`local_pivot`] and
//! [`local_retriable`].
//!
//! They have what an implementation of [`LocalTransaction`](crate::LocalTransaction) has. This module does not know
//! services.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use super::erased::{Bound, Step, committed, decoded};
use super::{AnyStep, BuiltInStep, Kind, StepPlace};
use crate::base::abort::{Abort, Retry};
use crate::base::located::Local;
use crate::base::message::{Message, Payload};
use crate::base::role::Role;
use crate::state::State;

type Commit<I, O> = dyn Fn(&mut State<'_>, &I) -> Result<O, Abort> + Send + Sync;
type Compensate<I, O> = dyn Fn(&mut State<'_>, &I, &O) -> Result<(), Retry> + Send + Sync;

/// A saga step on the built-in state, made of functions: the value of [`local_step`], [`local_pivot`] and
/// [`local_retriable`].
pub struct LocalFunctionStep<R, I, O> {
    name: &'static str,
    kind: Kind,
    commit: Arc<Commit<I, O>>,
    /// There is one if the step is compensable.
    compensate: Option<Arc<Compensate<I, O>>>,
    role: PhantomData<fn() -> R>,
}

/// Makes a compensable step on the built-in state of `role`, out of two functions.
///
/// The step is the same as an implementation of [`LocalTransaction`](crate::LocalTransaction) with this name. The
/// `name` is checked on replay, so it stays the same in every release. Keep the functions short: they run inside the
/// store's writer, and only compute and use the state. A step that has no compensation is a [`local_pivot`] or
/// [`local_retriable`].
///
/// ```
/// use accompanist_core::{Abort, Retry, Role, State, Table, local_step};
/// # use accompanist_core::*;
/// # #[derive(Role)] struct Seller;
///
/// const SHELF: Table<String, u32> = Table::new("shelf");
///
/// /// Takes books off the shelf, and returns their price.
/// fn reserve(shelf: &mut State<'_>, books: &u32) -> Result<u32, Abort> {
///     let sold_out = Abort::new("sold-out", "not enough books on the shelf");
///     SHELF.update(shelf, "books", |left| left.unwrap_or(10).checked_sub(*books).ok_or(sold_out))?;
///     Ok(books * 25)
/// }
///
/// fn put_back(shelf: &mut State<'_>, books: &u32, _price: &u32) -> Result<(), Retry> {
///     SHELF.update(shelf, "books", |left| Ok(left.unwrap_or_default() + books))?;
///     Ok(())
/// }
///
/// # struct Sale;
/// # impl Choreography for Sale {
/// #     const NAME: &'static str = "sale"; type Roles = (Seller,);
/// #     type Input = At<Seller, u32>; type Output = At<Seller, u32>;
/// async fn run(&self, ctx: &Context<Self::Roles>, books: At<Seller, u32>) -> Result<At<Seller, u32>, Abort> {
///     ctx.transact(local_step(Seller, "reserve", reserve, put_back), &books).await
/// }
/// # }
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// assert_eq!(run_local(Sale, 3, &Services::new()).await, Ok(75));
/// assert_eq!(run_local(Sale, 11, &Services::new()).await.unwrap_err().code(), "sold-out");
/// # }
/// ```
///
/// Closures do as well, also those that own what they capture.
pub fn local_step<R: Role, I: Message, O: Message>(
    role: R,
    name: &'static str,
    commit: impl Fn(&mut State<'_>, &I) -> Result<O, Abort> + Send + Sync + 'static,
    compensate: impl Fn(&mut State<'_>, &I, &O) -> Result<(), Retry> + Send + Sync + 'static,
) -> LocalFunctionStep<R, I, O> {
    let compensate: Arc<Compensate<I, O>> = Arc::new(compensate);
    LocalFunctionStep { compensate: Some(compensate), ..uncompensated(role, name, Kind::Compensable, commit) }
}

/// Makes a step of [`Kind::Pivot`] on the built-in state of `role`: it can refuse, and once committed it stays.
///
/// ```
/// use accompanist_core::{Abort, Role, Table, local_pivot};
/// # use accompanist_core::*;
/// # #[derive(Role)] struct Seller;
/// # struct Sale;
/// # impl Choreography for Sale {
/// #     const NAME: &'static str = "sale"; type Roles = (Seller,);
/// #     type Input = At<Seller, u32>; type Output = At<Seller, ()>;
/// # async fn run(&self, ctx: &Context<Self::Roles>, invoice: At<Seller, u32>) -> Result<At<Seller, ()>, Abort> {
/// const ISSUED: Table<u32, ()> = Table::new("issued");
/// let issue = local_pivot(Seller, "issue", |state, invoice| ISSUED.put(state, invoice, &()));
/// ctx.transact(issue, &invoice).await
/// # }
/// # }
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// # assert_eq!(run_local(Sale, 3, &Services::new()).await, Ok(()));
/// # }
/// ```
pub fn local_pivot<R: Role, I: Message, O: Message>(
    role: R,
    name: &'static str,
    commit: impl Fn(&mut State<'_>, &I) -> Result<O, Abort> + Send + Sync + 'static,
) -> LocalFunctionStep<R, I, O> {
    uncompensated(role, name, Kind::Pivot, commit)
}

/// Makes a step of [`Kind::Retriable`] on the built-in state of `role`: it comes after the point of no return and
/// cannot refuse. It is written as a [`local_pivot`] is.
pub fn local_retriable<R: Role, I: Message, O: Message>(
    role: R,
    name: &'static str,
    commit: impl Fn(&mut State<'_>, &I) -> Result<O, Abort> + Send + Sync + 'static,
) -> LocalFunctionStep<R, I, O> {
    uncompensated(role, name, Kind::Retriable, commit)
}

fn uncompensated<R: Role, I: Message, O: Message>(
    _role: R,
    name: &'static str,
    kind: Kind,
    commit: impl Fn(&mut State<'_>, &I) -> Result<O, Abort> + Send + Sync + 'static,
) -> LocalFunctionStep<R, I, O> {
    LocalFunctionStep { name, kind, commit: Arc::new(commit), compensate: None, role: PhantomData }
}

impl<R, I, O> Clone for LocalFunctionStep<R, I, O> {
    fn clone(&self) -> Self {
        let Self { name, kind, commit, compensate, role } = self;
        Self { name, kind: *kind, commit: commit.clone(), compensate: compensate.clone(), role: *role }
    }
}

impl<R: Role, I, O> fmt::Debug for LocalFunctionStep<R, I, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LocalFunctionStep({} at {}, {:?})", self.name, R::NAME, self.kind)
    }
}

/// The marker of [`LocalFunctionStep`]s among the implementations of [`Step`].
#[doc(hidden)]
#[derive(Debug)]
pub struct FromLocalFunctions;

#[diagnostic::do_not_recommend]
impl<R: Role, I: Message, O: Message> Step<FromLocalFunctions> for LocalFunctionStep<R, I, O> {
    type Role = R;
    type Input = I;
    type Output = O;
    fn name(&self) -> &'static str {
        self.name
    }
    fn erase(self, here: Local<R>, input: Arc<I>) -> AnyStep {
        AnyStep { kind: self.kind, place: StepPlace::BuiltIn(Arc::new(Bound { step: self, here, input })) }
    }
}

impl<R: Role, I: Message, O: Message> BuiltInStep for Bound<LocalFunctionStep<R, I, O>, R, I> {
    fn commit(&self, state: &mut State<'_>) -> Result<Payload, Abort> {
        let output = (self.step.commit)(state, &self.input);
        committed(state, output)
    }
    fn compensate(&self, state: &mut State<'_>, output: &Payload) -> Result<(), Retry> {
        let Some(compensate) = &self.step.compensate else { return Ok(()) };
        let result = compensate(state, &self.input, &decoded(output)?);
        state.unless_failed(result)
    }
}
