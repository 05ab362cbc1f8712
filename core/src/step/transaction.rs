//! The two traits of saga steps: on a service, and on the built-in state.

use std::future::Future;

use super::{CommitOutcome, Kind};
use crate::base::abort::{Abort, Retry};
use crate::base::located::Local;
use crate::base::message::Message;
use crate::base::role::Role;
use crate::state::State;

/// A saga step on an external service: how to commit it and how to compensate it.
///
/// # What the service must guarantee
/// The service honours [`Local::key`]: a second commit (or compensation) under the same key has no further effect and
/// returns the answer of the first. The runtime repeats the request after a crash, because it cannot know how far the
/// request got. The service keeps what it has committed as long as a session may live, and refuses a commit that
/// arrives after its compensation. See `docs/how-to/services.md`.
///
/// ```
/// # use std::collections::BTreeMap;
/// # use std::sync::{Arc, Mutex};
/// # use accompanist_core::*;
/// # #[derive(Role)] struct Buyer;
/// # #[derive(Role)] #[role(service = Stock)] struct Seller;
/// /// A service that honours keys: the first answer under a key stays. `None` is a reservation that was compensated.
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
///         answer.ok_or(Abort::new("too-late", "this reservation was compensated before"))
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

/// A saga step on the built-in state. Takes effect exactly once, with one sync, and requires no idempotency from the
/// user.
///
/// The step runs inside the store's writer: keep it short, and only compute and use `state`.
///
/// A unit test needs no session, only a [`State`] over nothing:
///
/// ```
/// use accompanist_core::{Abort, LocalTransaction, Retry, State, Table, state::Writes};
/// # #[derive(accompanist_core::Role)] struct Seller;
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
