//! The traits that users implement: choreographies and the steps of their sagas.
//!
//! This module contains types and closures only; it does not know how they are run. Programs run against
//! [`crate::Context`].

use std::future::Future;
use std::sync::Arc;

use crate::abort::{Abort, Retry};
use crate::context::Context;
use crate::contract::BoxFuture;
use crate::located::{Local, Located};
use crate::message::{CodecError, Message, Payload, decode, encode};
use crate::role::{Role, RoleSet};
use crate::state::State;

/// A choreography: one program for all roles.
///
/// Every role runs [`Choreography::run`], and each operation on the context performs that role's part of the
/// operation. The program must be deterministic: its behaviour may depend on its input, on messages and on recorded
/// results (`effect`, `now`, `random`, ..), never on a clock, on chance or on a global.
///
/// ```
/// use accompanist_core::{Abort, At, Choreography, Context, Role, Services, run_local};
/// # #[derive(Clone, Copy)] struct Buyer;
/// # impl Role for Buyer { const NAME: &'static str = "buyer"; type Service = (); }
/// # #[derive(Clone, Copy)] struct Seller;
/// # impl Role for Seller { const NAME: &'static str = "seller"; type Service = (); }
///
/// /// The buyer asks what its books cost.
/// struct Quote;
/// impl Choreography for Quote {
///     const NAME: &'static str = "quote";
///     type Roles = (Buyer, Seller);
///     type Input = At<Buyer, u32>; // The buyer starts the session ..
///     type Output = At<Buyer, u32>; // .. and has its output.
///     async fn run(&self, ctx: &Context<Self::Roles>, books: At<Buyer, u32>) -> Result<At<Buyer, u32>, Abort> {
///         let books = ctx.comm(Buyer, Seller, &books).await?;
///         let price = ctx.locally(Seller, |seller| seller.get(&books) * 25);
///         ctx.comm(Seller, Buyer, &price).await
///     }
/// }
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// assert_eq!(run_local(Quote, 3, &Services::new()).await, Ok(75));
/// # }
/// ```
pub trait Choreography: Send + Sync + 'static {
    /// The name of the choreography, unique in a system.
    const NAME: &'static str;
    /// The version of the program. Raise it when a change would make open sessions replay differently. Keep the
    /// previous version in the binary until its sessions have ended, together with the types of the messages it
    /// sends: open sessions are decoded with the types they were written with.
    const VERSION: u32 = 1;
    /// The patches (small changes) that the code of this version knows, in addition to its first form; see
    /// [`Context::patched`].
    const PATCHES: &'static [&'static str] = &[];
    /// The roles, as a tuple such as `(Buyer, Seller)`.
    type Roles: RoleSet;
    /// The input of a session, located at the role that starts it.
    type Input: Located;
    /// The output of a session, located at the same role.
    type Output: Located<Role = <Self::Input as Located>::Role>;
    /// The order in which the roles compensate their steps when the session is aborted.
    const COMPENSATION: Compensation = Compensation::SideBySide;
    /// Whether the session holds messages that exist nowhere else. If so, a message over the size limit stops the
    /// session instead of aborting it.
    #[doc(hidden)]
    const STOPS_ON_OVERSIZE: bool = false;

    /// Runs the program.
    ///
    /// # Errors
    /// Returning an [`Abort`] ends the session for all roles and compensates the committed steps.
    fn run(
        &self,
        ctx: &Context<Self::Roles>,
        input: Self::Input,
    ) -> impl Future<Output = Result<Self::Output, Abort>> + Send;
}

/// The order in which the roles of an aborted session compensate their steps. Within a [`Context::saga`], each role
/// always compensates at its own pace.
///
/// ```
/// # use std::sync::{Arc, Mutex};
/// use accompanist_core::Compensation;
/// # use accompanist_core::*;
/// # type Log = Mutex<Vec<&'static str>>;
/// # #[derive(Clone, Copy)] struct Seller;
/// # impl Role for Seller { const NAME: &'static str = "seller"; type Service = Log; }
/// # #[derive(Clone, Copy)] struct Carrier;
/// # impl Role for Carrier { const NAME: &'static str = "carrier"; type Service = Log; }
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
/// # #[derive(Clone, Copy)] struct Seller;
/// # impl Role for Seller { const NAME: &'static str = "seller"; type Service = (); }
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

/// A saga step on an external service: how to commit it and how to compensate it.
///
/// # What the service must guarantee
/// The service honours [`Local::key`]: a second commit (or compensation) under the same key has no further effect and
/// returns the answer of the first. The runtime repeats the request after a crash, because it cannot know how far the
/// request got. The service keeps what it has committed as long as a session may live, and refuses a commit that
/// arrives after its compensation. See `docs/programming-model.md`.
///
/// ```
/// # use std::collections::BTreeMap;
/// # use std::sync::{Arc, Mutex};
/// # use accompanist_core::*;
/// # #[derive(Clone, Copy)] struct Buyer;
/// # impl Role for Buyer { const NAME: &'static str = "buyer"; type Service = (); }
/// # #[derive(Clone, Copy)] struct Seller;
/// # impl Role for Seller { const NAME: &'static str = "seller"; type Service = Stock; }
/// /// A service that honours keys: the first answer under a key stays. `None` is a reservation that was taken back.
/// #[derive(Default)]
/// struct Stock(Mutex<BTreeMap<IdempotencyKey, Option<u32>>>);
///
/// struct Reserve;
/// impl Transaction for Reserve {
///     const NAME: &'static str = "reserve";
///     type Role = Seller;
///     type Input = u32;
///     type Output = u32;
///     async fn commit(&self, here: &Local<Seller>, books: &u32) -> Result<u32, Abort> {
///         let mut reserved = here.service().0.lock().unwrap();
///         let answer = reserved.entry(here.key().clone()).or_insert(Some(*books));
///         answer.ok_or(Abort::new("too-late", "this reservation was taken back before"))
///     }
///     async fn compensate(&self, here: &Local<Seller>, _: &u32, _reserved: &u32) -> Result<(), Retry> {
///         here.service().0.lock().unwrap().insert(here.key().clone(), None);
///         Ok(())
///     }
/// }
///
/// # struct Sale;
/// # impl Choreography for Sale {
/// #     const NAME: &'static str = "sale"; type Roles = (Buyer, Seller);
/// #     type Input = At<Buyer, u32>; type Output = At<Buyer, u32>;
/// # async fn run(&self, ctx: &Context<Self::Roles>, books: At<Buyer, u32>) -> Result<At<Buyer, u32>, Abort> {
/// #     let books = ctx.comm(Buyer, Seller, &books).await?;
/// #     let reserved = ctx.comm(Seller, Buyer, &ctx.transact(Reserve, &books).await?).await?;
/// #     let pays = ctx.locally(Buyer, |buyer| *buyer.get(&reserved) <= 4);
/// #     if ctx.broadcast(Buyer, &pays).await? { Ok(reserved) } else { ctx.abort(Abort::new("too-dear", "")).await }
/// # }
/// # }
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// // `Sale` runs `Reserve`, and aborts if the buyer does not pay. It pays for four books at most.
/// let stock = Arc::new(Stock::default());
/// let services = Services::new().with(Seller, stock.clone());
/// assert_eq!(run_local(Sale, 3, &services).await, Ok(3));
/// assert_eq!(run_local(Sale, 5, &services).await.unwrap_err().code(), "too-dear");
/// assert_eq!(stock.0.lock().unwrap().values().flatten().sum::<u32>(), 3);
/// # }
/// ```
pub trait Transaction: Send + Sync + 'static {
    /// The name of the step, checked on replay.
    const NAME: &'static str;
    /// The guarantee that the step gives.
    const KIND: Kind = Kind::Compensable;
    /// The role at which the step runs.
    type Role: Role;
    /// The input of the step.
    type Input: Message;
    /// The output of the step, stored until the session is closed because the compensation needs it. An output that
    /// cannot be encoded is only detected after the effect, and then needs an operator
    /// ([`Task::Record`](crate::record::Task::Record)).
    type Output: Message;

    /// Commits the step.
    ///
    /// # Errors
    /// An [`Abort`] is the service's refusal, which is a decision: the step had no effect. Handle transient trouble
    /// (no connection, a time-out) by retrying inside this method, because only the service knows how. The runtime
    /// sets no time limit, and an abort of the session waits until this method returns.
    fn commit(
        &self,
        here: &Local<Self::Role>,
        input: &Self::Input,
    ) -> impl Future<Output = Result<Self::Output, Abort>> + Send;

    /// Compensates the step. Runs only after `commit` returned `output`. A step that is not [`Kind::Compensable`]
    /// omits this method; a compensable step without it does not compile.
    ///
    /// # Errors
    /// After a [`Retry`] the compensation is retried with growing pauses, up to `tries_max` of
    /// [`Limits`](crate::machine::Limits); after that an operator is needed.
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

    /// Returns whether the commit under [`Local::key`] took effect. The runtime calls this for a [`Kind::Pivot`] that
    /// was running at a crash and whose session has been aborted since, so that the step must not be run again. See
    /// [`CommitOutcome`] for a service that can answer.
    ///
    /// # Errors
    /// After a [`Retry`] the call is repeated, as for `compensate`.
    fn outcome(
        &self,
        here: &Local<Self::Role>,
        input: &Self::Input,
    ) -> impl Future<Output = Result<CommitOutcome<Self::Output>, Retry>> + Send {
        let _ = (here, input);
        async { Ok(CommitOutcome::Unknown) }
    }
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

/// A saga step on the built-in state. Takes effect exactly once, with one sync, and requires no idempotency from the
/// user.
///
/// The step runs inside the store's writer: keep it short, and only compute and use `state`.
///
/// A unit test needs no session, only a [`State`] over nothing:
///
/// ```
/// use accompanist_core::{Abort, LocalTransaction, Retry, State, Table, state::Writes};
/// # #[derive(Clone, Copy)] struct Seller;
/// # impl accompanist_core::Role for Seller { const NAME: &'static str = "seller"; type Service = (); }
/// const SHELF: Table<String, u32> = Table::new("shelf");
///
/// /// Takes books off the shelf, and returns their price.
/// struct Reserve;
/// impl LocalTransaction for Reserve {
///     const NAME: &'static str = "reserve";
///     type Role = Seller;
///     type Input = u32;
///     type Output = u32;
///     fn commit(&self, state: &mut State<'_>, books: &u32) -> Result<u32, Abort> {
///         SHELF.update(state, "books", |left| {
///             left.unwrap_or(10).checked_sub(*books).ok_or(Abort::new("sold-out", "not enough books on the shelf"))
///         })?;
///         Ok(books * 25)
///     }
///     fn compensate(&self, state: &mut State<'_>, books: &u32, _price: &u32) -> Result<(), Retry> {
///         SHELF.update(state, "books", |left| Ok(left.unwrap_or_default() + books))?;
///         Ok(())
///     }
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let nothing = Writes::default();
/// let mut state = State::new(&nothing, "seller");
/// let price = Reserve.commit(&mut state, &3)?;
/// assert_eq!((price, SHELF.get(&state, "books")?), (75, Some(7)));
/// Reserve.compensate(&mut state, &3, &price)?;
/// assert_eq!(SHELF.get(&state, "books")?, Some(10));
/// assert_eq!(Reserve.commit(&mut state, &11).unwrap_err().code(), "sold-out");
/// # Ok(())
/// # }
/// ```
pub trait LocalTransaction: Send + Sync + 'static {
    /// The name of the step, checked on replay.
    const NAME: &'static str;
    /// The guarantee that the step gives.
    const KIND: Kind = Kind::Compensable;
    /// The role at which the step runs.
    type Role: Role;
    /// The input of the step.
    type Input: Message;
    /// The output of the step, stored until the session is closed because the compensation needs it.
    type Output: Message;

    /// Commits the step. All changes of `state` and the step's record become durable together.
    ///
    /// # Errors
    /// An [`Abort`] refuses the step and discards its changes.
    fn commit(&self, state: &mut State<'_>, input: &Self::Input) -> Result<Self::Output, Abort>;

    /// Compensates the step. A step that is not [`Kind::Compensable`] omits this method; a compensable step without
    /// it does not compile.
    ///
    /// # Errors
    /// After a [`Retry`] the changes are discarded and the compensation is retried with growing pauses, up to
    /// `tries_max` of [`Limits`](crate::machine::Limits); after that an operator is needed.
    fn compensate(&self, state: &mut State<'_>, input: &Self::Input, output: &Self::Output) -> Result<(), Retry> {
        const { assert!(!Self::KIND.is_compensable(), "a step of `Kind::Compensable` needs a `compensate`") };
        let _ = (state, input, output);
        Ok(())
    }
}

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
