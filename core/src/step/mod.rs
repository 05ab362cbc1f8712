//! The steps of sagas: the traits that users implement, and what the machine knows of a step.
//!
//! This module does not know when a step runs, or how its progress is recorded; that is [`crate::machine`]'s.

mod erased;
mod function;
mod local_function;
mod signatures;
mod transaction;

use std::sync::Arc;

use crate::base::abort::{Abort, Retry};
use crate::base::message::{CodecError, Payload};
use crate::contract::BoxFuture;
use crate::state::State;

pub use erased::Step;
pub use function::{FunctionStep, pivot, retriable, step};
pub use local_function::{LocalFunctionStep, local_pivot, local_retriable, local_step};
pub use transaction::{LocalTransaction, Transaction};

/// The order in which the roles of an aborted session compensate their steps. Within a
/// [`Context::saga`](crate::Context::saga), each role always compensates at its own pace.
///
/// ```
/// # use std::sync::{Arc, Mutex};
/// use accompanist_core::Compensation;
/// # use accompanist_core::*;
/// # type Log = Mutex<Vec<&'static str>>;
/// # #[derive(Role)] #[role(service = Log)] struct Seller;
/// # #[derive(Role)] #[role(service = Log)] struct Carrier;
/// # struct Step<R>(R);
/// # impl<R: Role<Service = Log>> Transaction for Step<R> {
/// #     const NAME: &'static str = R::NAME; type Role = R; type Input = (); type Output = ();
/// #     async fn commit(&self, _: &Local<R>, (): &()) -> Result<(), Abort> { Ok(()) }
/// #     async fn compensate(&self, here: &Local<R>, (): &(), (): &()) -> Result<(), Retry> {
/// #         here.service().lock().unwrap().push(R::NAME);
/// #         Ok(())
/// #     }
/// # }
/// struct Sale;
/// impl Choreography for Sale {
///     const NAME: &'static str = "sale";
///     const COMPENSATION: Compensation = Compensation::Backwards; // The parcel comes back before the book.
///     // ..
/// #     type Roles = (Seller, Carrier); type Input = At<Seller, ()>; type Output = At<Seller, ()>;
///     async fn run(&self, ctx: &Context<Self::Roles>, order: At<Seller, ()>) -> Result<At<Seller, ()>, Abort> {
///         let reserved = ctx.transact(Step(Seller), &order).await?;
///         let shipped = ctx.transact(Step(Carrier), &ctx.comm(Seller, Carrier, &reserved).await?).await?;
///         ctx.comm(Carrier, Seller, &shipped).await?;
///         ctx.abort(Abort::new("recalled", "the book must not be sold")).await
///     }
/// }
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let log = Arc::new(Mutex::new(Vec::new())); // Who compensates.
/// let services = Services::new().with(Seller, log.clone()).with(Carrier, log.clone());
/// run_local(Sale, (), &services).await.unwrap_err();
/// assert_eq!(*log.lock().unwrap(), ["carrier", "seller"]);
/// # }
/// ```
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
///
/// ```
/// use accompanist_core::Kind;
/// # use accompanist_core::*;
/// # #[derive(Role)] struct Seller;
/// /// Charges the buyer's card. Nobody can undo that, so there is no `compensate`.
/// struct Charge;
/// impl Transaction for Charge {
///     const NAME: &'static str = "charge";
///     const KIND: Kind = Kind::Pivot;
///     type Role = Seller;
///     type Input = u32;
///     type Output = u32;
///     async fn commit(&self, _seller: &Local<Seller>, price: &u32) -> Result<u32, Abort> {
///         if *price > 100 { Err(Abort::new("no-cover", "the bank refuses")) } else { Ok(*price) }
///     }
/// }
///
/// # struct Sale;
/// # impl Choreography for Sale {
/// #     const NAME: &'static str = "sale"; type Roles = (Seller,);
/// #     type Input = At<Seller, u32>; type Output = At<Seller, u32>;
/// async fn run(&self, ctx: &Context<Self::Roles>, price: At<Seller, u32>) -> Result<At<Seller, u32>, Abort> {
///     ctx.transact(Charge, &price).await // Whatever comes after this has to be retriable.
/// }
/// # }
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// assert_eq!(run_local(Sale, 75, &Services::new()).await, Ok(75));
/// assert_eq!(run_local(Sale, 125, &Services::new()).await.unwrap_err().code(), "no-cover");
/// # }
/// ```
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
    ///
    /// ```
    /// # use accompanist_core::Kind;
    /// assert!(Kind::Compensable.is_compensable());
    /// assert!(!Kind::Pivot.is_compensable() && !Kind::Retriable.is_compensable());
    /// ```
    pub const fn is_compensable(self) -> bool {
        matches!(self, Self::Compensable)
    }
}

/// The result of a commit that a crash left in doubt, as far as its service knows it; see [`Transaction::outcome`].
///
/// A service that can answer keeps what it did under each key, and bars the keys that it was asked about in vain:
///
/// ```
/// use std::collections::BTreeMap;
/// use accompanist_core::{Abort, CommitOutcome, IdempotencyKey, Path, SessionId};
///
/// /// The charges by key; `None` for a key under which nothing may be charged any more.
/// #[derive(Default)]
/// struct Till(BTreeMap<IdempotencyKey, Option<u32>>);
///
/// impl Till {
///     /// What `commit` calls.
///     fn charge(&mut self, key: &IdempotencyKey, price: u32) -> Result<u32, Abort> {
///         self.0.entry(key.clone()).or_insert(Some(price)).ok_or(Abort::new("barred", "too late for this charge"))
///     }
///     /// What `outcome` calls.
///     fn outcome(&mut self, key: &IdempotencyKey) -> CommitOutcome<u32> {
///         self.0.entry(key.clone()).or_insert(None).map_or(CommitOutcome::NotCommitted, CommitOutcome::Committed)
///     }
/// }
///
/// # let session = SessionId::fresh(0, 0);
/// # let [one, other] = [1, 2].map(|step| IdempotencyKey { session, path: Path::root().child(step) });
/// let mut till = Till::default();
/// till.charge(&one, 75)?;
/// assert_eq!(till.outcome(&one), CommitOutcome::Committed(75));
/// assert_eq!(till.outcome(&other), CommitOutcome::NotCommitted);
/// assert!(till.charge(&other, 75).is_err());
/// # Ok::<(), Abort>(())
/// ```
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
