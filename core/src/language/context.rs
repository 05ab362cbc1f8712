//! The operations of a choreography, as the program calls them.
//!
//! Each operation takes its path when it is called, and then performs the part of this role. This module says what each
//! part is; [`crate::machine`] says how it is recorded and sent. Tuple operations are in [`crate::language::group`];
//! `family` has role families; `scopes` has sagas and loops; `signals` has time, signals and views.

mod family;
mod scopes;
mod signals;

#[cfg(feature = "testing")]
pub(crate) use signals::is_timer;

use std::future::Future;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use smallvec::SmallVec;

use crate::base::abort::Abort;
use crate::base::id::{Path, RoleIndex, SessionId};
use crate::base::located::{Absent, At, Held, Local};
use crate::base::message::Message;
use crate::base::role::{Has, Includes, Role, RoleSet, names_of};
use crate::frame::Operation;
use crate::language::call::{Call, Scope as Scoping, single};
use crate::language::engine::{Engine, Indices};
use crate::language::group::{Gather, Targets};
use crate::step::Step;

/// Counts the operations of one scope.
struct Scope {
    path: Path,
    next: AtomicU32,
}

/// The interface that a choreography runs against. The roles that take part are its type parameter.
///
/// A context is one scope of operations. Operations that run side by side (in `tokio::try_join!`) within `async`
/// blocks take a [`Context::fork`] each. Never `select!` over operations, because which one wins is chance.
///
/// A part of a program is a function that takes the context:
///
/// ```
/// # use accompanist_core::*;
/// # #[derive(Clone, Copy)] struct Buyer;
/// # impl Role for Buyer { const NAME: &'static str = "buyer"; type Service = (); }
/// # #[derive(Clone, Copy)] struct Seller;
/// # impl Role for Seller { const NAME: &'static str = "seller"; type Service = (); }
/// /// Asks the seller for the price of one order.
/// async fn ask(ctx: &Context<(Buyer, Seller)>, books: &At<Buyer, u32>) -> Result<At<Buyer, u32>, Abort> {
///     let books = ctx.comm(Buyer, Seller, books).await?;
///     let price = ctx.locally(Seller, |seller| seller.get(&books) * 25);
///     ctx.comm(Seller, Buyer, &price).await
/// }
///
/// # struct Sale;
/// # impl Choreography for Sale {
/// #     const NAME: &'static str = "sale"; type Roles = (Buyer, Seller);
/// #     type Input = At<Buyer, u32>; type Output = At<Buyer, u32>;
/// async fn run(&self, ctx: &Context<Self::Roles>, books: At<Buyer, u32>) -> Result<At<Buyer, u32>, Abort> {
///     let more = ctx.locally(Buyer, |buyer| buyer.get(&books) + 1);
///     let (price, dearer) = (ask(ctx, &books).await?, ask(ctx, &more).await?);
///     Ok(ctx.locally(Buyer, |buyer| buyer.get(&dearer) - buyer.get(&price)))
/// }
/// # }
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// assert_eq!(run_local(Sale, 3, &Services::new()).await, Ok(25));
/// # }
/// ```
pub struct Context<Roles> {
    engine: Arc<Engine>,
    scope: Scope,
    /// The member of the role family that takes part as a single role, within [`Context::with_member`].
    member: Option<RoleIndex>,
    roles: PhantomData<fn() -> Roles>,
}

impl<Roles> std::fmt::Debug for Context<Roles> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Context({} at {:?})", self.engine.session(), self.scope.path)
    }
}

impl<Roles: RoleSet> Context<Roles> {
    pub(crate) fn new(engine: Arc<Engine>, path: Path) -> Self {
        Self::within(engine, path, None)
    }

    /// Creates the context of a part at `path`.
    fn within(engine: Arc<Engine>, path: Path, member: Option<RoleIndex>) -> Self {
        Self { engine, scope: Scope { path, next: AtomicU32::new(0) }, member, roles: PhantomData }
    }

    /// The index of a single role.
    fn index_of<R: Role>(&self) -> RoleIndex {
        self.engine.index_of(R::NAME, self.member)
    }

    /// The indices of all these roles: the single ones, then the members of the family.
    fn indices_of<Some: RoleSet>(&self) -> Indices {
        self.engine.indices_of(names_of::<Some>(), self.member)
    }

    /// Takes the next path, for the operation that is being called, and notes the call. Every role counts every
    /// operation, so all roles assign the same path.
    fn called(&self, call: Call) -> Path {
        let path = self.scope.path.child(self.scope.next.fetch_add(1, Ordering::Relaxed));
        if path.depth() > Path::DEPTH_MAX {
            self.engine.instance().is_too_deep();
        }
        self.engine.note_call(&path, call);
        path
    }

    /// The session id, the same at every role. All roles know it, so all may branch on it. The call takes no path.
    ///
    /// ```
    /// # use accompanist_core::*;
    /// # #[derive(Clone, Copy)] struct Buyer;
    /// # impl Role for Buyer { const NAME: &'static str = "buyer"; type Service = (); }
    /// # #[derive(Clone, Copy)] struct Seller;
    /// # impl Role for Seller { const NAME: &'static str = "seller"; type Service = (); }
    /// # struct Sale;
    /// # impl Choreography for Sale {
    /// #     const NAME: &'static str = "sale"; type Roles = (Buyer, Seller);
    /// #     type Input = At<Buyer, u32>; type Output = At<Buyer, bool>;
    /// async fn run(&self, ctx: &Context<Self::Roles>, _books: At<Buyer, u32>) -> Result<At<Buyer, bool>, Abort> {
    ///     let order = ctx.session(); // A number for the order that nobody has to send.
    ///     let invoice = ctx.locally(Seller, |_| format!("invoice for order {order}"));
    ///     let invoice = ctx.comm(Seller, Buyer, &invoice).await?;
    ///     Ok(ctx.locally(Buyer, |buyer| buyer.get(&invoice).ends_with(&order.to_string())))
    /// }
    /// # }
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// assert_eq!(run_local(Sale, 3, &Services::new()).await, Ok(true));
    /// # }
    /// ```
    pub fn session(&self) -> SessionId {
        self.engine.session()
    }

    /// Whether this session runs with `patch`, one of [`Choreography::PATCHES`]. A session runs with a patch if every
    /// node of its cast advertised the patch when the session was started, so the answer is the same at every role
    /// and on every replay. The call takes no path: it may be made anywhere, any number of times.
    ///
    /// ```
    /// # use accompanist_core::*;
    /// # #[derive(Clone, Copy)] struct Buyer;
    /// # impl Role for Buyer { const NAME: &'static str = "buyer"; type Service = (); }
    /// # #[derive(Clone, Copy)] struct Seller;
    /// # impl Role for Seller { const NAME: &'static str = "seller"; type Service = (); }
    /// struct Sale;
    /// impl Choreography for Sale {
    ///     const NAME: &'static str = "sale";
    ///     const PATCHES: &'static [&'static str] = &["check-first"];
    /// #   type Roles = (Buyer, Seller);
    /// #   type Input = At<Buyer, u32>;
    /// #   type Output = At<Buyer, u32>;
    ///     // ..
    ///     async fn run(&self, ctx: &Context<Self::Roles>, books: At<Buyer, u32>) -> Result<At<Buyer, u32>, Abort> {
    ///         if ctx.patched("check-first") {
    ///             let few = ctx.locally(Buyer, |buyer| *buyer.get(&books) < 1_000);
    ///             if !ctx.broadcast(Buyer, &few).await? {
    ///                 return ctx.abort(Abort::new("too-many", "1000 or more")).await;
    ///             }
    ///         }
    ///         // ..
    /// #       let books = ctx.comm(Buyer, Seller, &books).await?;
    /// #       let price = ctx.locally(Seller, |seller| seller.get(&books) * 25);
    /// #       ctx.comm(Seller, Buyer, &price).await
    ///     }
    /// }
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// // `run_local` runs with all patches, as a cast does whose nodes all know them.
    /// assert_eq!(run_local(Sale, 3, &Services::new()).await, Ok(75));
    /// assert_eq!(run_local(Sale, 1_000, &Services::new()).await.unwrap_err().code(), "too-many");
    /// # }
    /// ```
    ///
    /// To retire a patch, raise [`Choreography::VERSION`]. The new version has only the new branch, and its PATCHES
    /// are empty again; the old version stays unchanged, with both branches, until its sessions have ended. Removing
    /// a patch from the PATCHES of its own version stops the sessions that run with it.
    ///
    /// Asking for a `patch` that is not among the PATCHES is a mistake, and stops the instance.
    ///
    /// [`Choreography::PATCHES`]: crate::Choreography::PATCHES
    /// [`Choreography::VERSION`]: crate::Choreography::VERSION
    pub fn patched(&self, patch: &str) -> bool {
        self.engine.patched(patch)
    }

    /// Sends a value from `from` to `to`, which waits for it. The other roles go on at once; so does `from`, unless
    /// `unacked_max` of [`Limits`](crate::machine::Limits) messages of it are unacknowledged.
    ///
    /// ```
    /// # use accompanist_core::*;
    /// # #[derive(Clone, Copy)] struct Buyer;
    /// # impl Role for Buyer { const NAME: &'static str = "buyer"; type Service = (); }
    /// # #[derive(Clone, Copy)] struct Seller;
    /// # impl Role for Seller { const NAME: &'static str = "seller"; type Service = (); }
    /// # struct Sale;
    /// # impl Choreography for Sale {
    /// #     const NAME: &'static str = "sale"; type Roles = (Buyer, Seller);
    /// #     type Input = At<Buyer, u32>; type Output = At<Buyer, u32>;
    /// async fn run(&self, ctx: &Context<Self::Roles>, books: At<Buyer, u32>) -> Result<At<Buyer, u32>, Abort> {
    ///     let asked: At<Seller, u32> = ctx.comm(Buyer, Seller, &books).await?;
    ///     let price: At<Seller, u32> = ctx.locally(Seller, |seller| seller.get(&asked) * 25);
    ///     ctx.comm(Seller, Buyer, &price).await
    /// }
    /// # }
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// assert_eq!(run_local(Sale, 3, &Services::new()).await, Ok(75));
    /// # }
    /// ```
    ///
    /// # Errors
    /// Returns an [`Abort`] that a part of the program returned. When the session itself is aborted (by another role,
    /// a refused step, or a message over the size limit), no operation returns any more: the program is dropped where
    /// it waits, and its committed steps are compensated.
    pub fn comm<A: Role, B: Role, T: Message, I, J>(
        &self,
        _from: A,
        _to: B,
        value: &At<A, T>,
    ) -> impl Future<Output = Result<At<B, T>, Abort>> + Send + use<A, B, T, I, J, Roles>
    where
        Roles: Has<A, I> + Has<B, J>,
    {
        let (engine, path, value) = (
            self.engine.clone(),
            self.called(Call::message::<T>(Operation::Comm, single::<A>(), single::<B>())),
            value.share(),
        );
        let (from, to) = (self.index_of::<A>(), self.index_of::<B>());
        async move {
            if from == to {
                return Ok(At::held(value));
            }
            let value = engine.distribute(&path, Operation::Comm, from, &[to], value).await;
            Ok(At::held(value.filter(|_| engine.plays(to))))
        }
    }

    /// Sends a value from `from` to each role of `to`. The other roles do not get it, so nobody may branch on it;
    /// for that, see [`Context::broadcast`].
    ///
    /// ```
    /// # use accompanist_core::*;
    /// # #[derive(Clone, Copy)] struct Buyer;
    /// # impl Role for Buyer { const NAME: &'static str = "buyer"; type Service = (); }
    /// # #[derive(Clone, Copy)] struct Seller;
    /// # impl Role for Seller { const NAME: &'static str = "seller"; type Service = (); }
    /// # #[derive(Clone, Copy)] struct Carrier;
    /// # impl Role for Carrier { const NAME: &'static str = "carrier"; type Service = (); }
    /// # struct Sale;
    /// # impl Choreography for Sale {
    /// #     const NAME: &'static str = "sale"; type Roles = (Buyer, Seller, Carrier);
    /// #     type Input = At<Buyer, u32>; type Output = At<Buyer, u32>;
    /// async fn run(&self, ctx: &Context<Self::Roles>, books: At<Buyer, u32>) -> Result<At<Buyer, u32>, Abort> {
    ///     let (to_sell, to_carry) = ctx.multicast(Buyer, (Seller, Carrier), &books).await?;
    ///     let price = ctx.locally(Seller, |seller| seller.get(&to_sell) * 25);
    ///     let fee = ctx.locally(Carrier, |carrier| 4 + carrier.get(&to_carry));
    ///     let offer = ctx.gather((Seller, Carrier), Buyer, (&price, &fee)).await?;
    ///     Ok(ctx.locally(Buyer, |buyer| buyer.get(&offer).0 + buyer.get(&offer).1))
    /// }
    /// # }
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// assert_eq!(run_local(Sale, 3, &Services::new()).await, Ok(75 + 7));
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Context::comm`].
    pub fn multicast<A: Role, To: Targets, T: Message, I, J>(
        &self,
        _from: A,
        _to: To,
        value: &At<A, T>,
    ) -> impl Future<Output = Result<To::Located<T>, Abort>> + Send + use<A, To, T, I, J, Roles>
    where
        Roles: Has<A, I> + Includes<To, J>,
    {
        let (engine, path, value) = (
            self.engine.clone(),
            self.called(Call::message::<T>(Operation::Multicast, single::<A>(), To::NAMES)),
            value.share(),
        );
        let (from, to) = (self.index_of::<A>(), self.indices_of::<To>());
        async move {
            let value = engine.distribute(&path, Operation::Multicast, from, &to, value).await;
            let is_here: SmallVec<[bool; 12]> = to.iter().map(|role| engine.plays(*role)).collect();
            Ok(To::locate(value, &is_here))
        }
    }

    /// Sends a value from `from` to all roles of this context, so that all of them may branch on it.
    ///
    /// ```
    /// # use accompanist_core::*;
    /// # #[derive(Clone, Copy)] struct Buyer;
    /// # impl Role for Buyer { const NAME: &'static str = "buyer"; type Service = (); }
    /// # #[derive(Clone, Copy)] struct Seller;
    /// # impl Role for Seller { const NAME: &'static str = "seller"; type Service = (); }
    /// # struct Sale;
    /// # impl Choreography for Sale {
    /// #     const NAME: &'static str = "sale"; type Roles = (Buyer, Seller);
    /// #     type Input = At<Buyer, u32>; type Output = At<Buyer, String>;
    /// async fn run(&self, ctx: &Context<Self::Roles>, price: At<Buyer, u32>) -> Result<At<Buyer, String>, Abort> {
    ///     let buys = ctx.locally(Buyer, |buyer| *buyer.get(&price) <= 100);
    ///     let buys: bool = ctx.broadcast(Buyer, &buys).await?;
    ///     if !buys {
    ///         return Ok(ctx.locally(Buyer, |_| "no, thanks".to_owned()));
    ///     }
    ///     let parcel = ctx.locally(Seller, |_| "a parcel".to_owned()); // The seller, too, knows that it sells.
    ///     ctx.comm(Seller, Buyer, &parcel).await
    /// }
    /// # }
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// assert_eq!(run_local(Sale, 75, &Services::new()).await, Ok("a parcel".to_owned()));
    /// assert_eq!(run_local(Sale, 125, &Services::new()).await, Ok("no, thanks".to_owned()));
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Context::comm`].
    pub fn broadcast<A: Role, T: Message, I>(
        &self,
        _from: A,
        value: &At<A, T>,
    ) -> impl Future<Output = Result<T, Abort>> + Send + use<A, T, I, Roles>
    where
        Roles: Has<A, I>,
    {
        let (engine, path, value) = (
            self.engine.clone(),
            self.called(Call::message::<T>(Operation::Broadcast, single::<A>(), Roles::NAMES)),
            value.share(),
        );
        let (from, to) = (self.index_of::<A>(), self.indices_of::<Roles>());
        async move { Ok(engine.broadcast(&path, from, &to, value).await) }
    }

    /// Sends the value of each role of `from` to `to`, which receives them in the order of the roles, whatever the
    /// order of arrival.
    ///
    /// ```
    /// # use accompanist_core::*;
    /// # #[derive(Clone, Copy)] struct Buyer;
    /// # impl Role for Buyer { const NAME: &'static str = "buyer"; type Service = (); }
    /// # #[derive(Clone, Copy)] struct Seller;
    /// # impl Role for Seller { const NAME: &'static str = "seller"; type Service = (); }
    /// # #[derive(Clone, Copy)] struct Carrier;
    /// # impl Role for Carrier { const NAME: &'static str = "carrier"; type Service = (); }
    /// # struct Sale;
    /// # impl Choreography for Sale {
    /// #     const NAME: &'static str = "sale"; type Roles = (Buyer, Seller, Carrier);
    /// #     type Input = At<Buyer, ()>; type Output = At<Buyer, u32>;
    /// async fn run(&self, ctx: &Context<Self::Roles>, _: At<Buyer, ()>) -> Result<At<Buyer, u32>, Abort> {
    ///     let price = ctx.locally(Seller, |_| 75_u32);
    ///     let days = ctx.locally(Carrier, |_| 2_u8);
    ///     let offer: At<Buyer, (u32, u8)> = ctx.gather((Seller, Carrier), Buyer, (&price, &days)).await?;
    ///     Ok(ctx.locally(Buyer, |buyer| {
    ///         let (price, days) = buyer.get(&offer);
    ///         price - u32::from(*days) // A rebate for each day of waiting.
    ///     }))
    /// }
    /// # }
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// assert_eq!(run_local(Sale, (), &Services::new()).await, Ok(73));
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Context::comm`].
    pub fn gather<From: RoleSet, C: Role, V: Gather<From>, I, J>(
        &self,
        _from: From,
        _to: C,
        values: V,
    ) -> impl Future<Output = Result<At<C, V::Values>, Abort>> + Send + use<From, C, V, I, J, Roles>
    where
        Roles: Includes<From, I> + Has<C, J>,
    {
        let (engine, path, values) = (
            self.engine.clone(),
            self.called(Call::message::<V::Values>(Operation::Gather, From::NAMES, single::<C>())),
            values.share(),
        );
        let (from, to) = (self.indices_of::<From>(), self.index_of::<C>());
        async move { Ok(At::held(V::gather(&engine, &path, &from, to, values).await.map(Held::new))) }
    }

    /// Computes a value at `role`. Nothing is recorded or sent. The closure runs again on replay, so it must be a pure
    /// function of the values that it reads; for anything else, see [`Context::effect`].
    ///
    /// ```
    /// # use accompanist_core::*;
    /// # #[derive(Clone, Copy)] struct Buyer;
    /// # impl Role for Buyer { const NAME: &'static str = "buyer"; type Service = (); }
    /// # #[derive(Clone, Copy)] struct Seller;
    /// # impl Role for Seller { const NAME: &'static str = "seller"; type Service = (); }
    /// # struct Sale;
    /// # impl Choreography for Sale {
    /// #     const NAME: &'static str = "sale"; type Roles = (Buyer, Seller);
    /// #     type Input = At<Buyer, (u32, u32)>; type Output = At<Buyer, u32>;
    /// async fn run(&self, ctx: &Context<Self::Roles>, order: At<Buyer, (u32, u32)>) -> Result<At<Buyer, u32>, Abort> {
    ///     let total = ctx.locally(Buyer, |buyer| { // Runs at the buyer only; the seller has no order to read.
    ///         let (books, price) = buyer.get(&order);
    ///         books * price
    ///     });
    ///     Ok(total)
    /// }
    /// # }
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// assert_eq!(run_local(Sale, (3, 25), &Services::new()).await, Ok(75));
    /// # }
    /// ```
    pub fn locally<R: Role, T, I>(&self, _role: R, compute: impl Fn(&Local<R>) -> T) -> At<R, T>
    where
        Roles: Has<R, I>,
    {
        let path = self.called(Call::own(R::NAME, "locally"));
        At::held(self.engine.local::<R>(&path, self.index_of::<R>()).map(|here| Held::new(compute(&here))))
    }

    /// Runs something non-deterministic at `role` (reading a clock, an HTTP request) and records the result; a replay
    /// uses the record. The closure may run more than once if a crash comes before the record is written, so it must
    /// change nothing outside. For changes outside, use [`Context::transact`].
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use accompanist_core::*;
    /// # #[derive(Clone, Copy)] struct Buyer;
    /// # impl Role for Buyer { const NAME: &'static str = "buyer"; type Service = (); }
    /// # #[derive(Clone, Copy)] struct Carrier;
    /// # impl Role for Carrier { const NAME: &'static str = "carrier"; type Service = Rates; }
    /// # struct Rates(u32);
    /// # impl Rates { async fn fetch(&self) -> u32 { tokio::task::yield_now().await; self.0 } }
    /// # struct Sale;
    /// # impl Choreography for Sale {
    /// #     const NAME: &'static str = "sale"; type Roles = (Buyer, Carrier);
    /// #     type Input = At<Buyer, u32>; type Output = At<Buyer, u32>;
    /// async fn run(&self, ctx: &Context<Self::Roles>, books: At<Buyer, u32>) -> Result<At<Buyer, u32>, Abort> {
    ///     // The rate of today. After a crash tomorrow it is still the one that the buyer was told.
    ///     let rate = ctx.effect(Carrier, "fetch the rate", async |carrier| carrier.service().fetch().await);
    ///     let rate = ctx.comm(Carrier, Buyer, &rate.await?).await?;
    ///     Ok(ctx.locally(Buyer, |buyer| buyer.get(&books) * buyer.get(&rate)))
    /// }
    /// # }
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// let services = Services::new().with(Carrier, Arc::new(Rates(4)));
    /// assert_eq!(run_local(Sale, 3, &services).await, Ok(12));
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Context::comm`].
    pub fn effect<R: Role, T: Message, F, I>(
        &self,
        _role: R,
        name: &'static str,
        observe: F,
    ) -> impl Future<Output = Result<At<R, T>, Abort>> + use<R, T, F, I, Roles>
    where
        Roles: Has<R, I>,
        F: AsyncFnOnce(&Local<R>) -> T,
    {
        let (engine, path) = (self.engine.clone(), self.called(Call::Own { role: R::NAME, operation: "effect", name }));
        let role = self.index_of::<R>();
        async move {
            let Some(here) = engine.local::<R>(&path, role) else { return Ok(At::held(None)) };
            if let Some(recorded) = engine.observed(&path, name).await {
                return Ok(At::held(Some(recorded)));
            }
            let value = engine.as_effect(observe(&here)).await;
            Ok(At::held(Some(engine.observe(&path, name, &value).await)))
        }
    }

    /// Runs a saga step at its role. A refusal aborts the session, or the [`Context::saga`] around the call.
    ///
    /// ```
    /// # use accompanist_core::*;
    /// # #[derive(Clone, Copy)] struct Buyer;
    /// # impl Role for Buyer { const NAME: &'static str = "buyer"; type Service = (); }
    /// # #[derive(Clone, Copy)] struct Seller;
    /// # impl Role for Seller { const NAME: &'static str = "seller"; type Service = (); }
    /// # struct Reserve;
    /// # impl LocalTransaction for Reserve {
    /// #     const NAME: &'static str = "reserve"; type Role = Seller; type Input = u32; type Output = u32;
    /// #     fn commit(&self, _: &mut State<'_>, books: &u32) -> Result<u32, Abort> {
    /// #         (*books <= 10).then_some(books * 25).ok_or(Abort::new("sold-out", "there are ten"))
    /// #     }
    /// #     fn compensate(&self, _: &mut State<'_>, _: &u32, _: &u32) -> Result<(), Retry> { Ok(()) }
    /// # }
    /// # struct Sale;
    /// # impl Choreography for Sale {
    /// #     const NAME: &'static str = "sale"; type Roles = (Buyer, Seller);
    /// #     type Input = At<Buyer, u32>; type Output = At<Buyer, u32>;
    /// async fn run(&self, ctx: &Context<Self::Roles>, books: At<Buyer, u32>) -> Result<At<Buyer, u32>, Abort> {
    ///     let books = ctx.comm(Buyer, Seller, &books).await?;
    ///     let price = ctx.transact(Reserve, &books).await?; // `Reserve` refuses more than ten books.
    ///     ctx.comm(Seller, Buyer, &price).await
    /// }
    /// # }
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// assert_eq!(run_local(Sale, 3, &Services::new()).await, Ok(75));
    /// assert_eq!(run_local(Sale, 11, &Services::new()).await.unwrap_err().code(), "sold-out");
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Context::comm`].
    pub fn transact<S: Step<M>, M, I>(
        &self,
        step: S,
        input: &At<S::Role, S::Input>,
    ) -> impl Future<Output = Result<At<S::Role, S::Output>, Abort>> + Send + use<S, M, I, Roles>
    where
        Roles: Has<S::Role, I>,
    {
        let (engine, path, input) =
            (self.engine.clone(), self.called(Call::Step { role: S::Role::NAME, name: step.name() }), input.share());
        let role = self.index_of::<S::Role>();
        async move {
            match engine.step(&path, role, step, input).await {
                Some(Err(refusal)) => engine.abort(&path, &refusal).await,
                Some(Ok((output, bytes))) => Ok(At::held(Some(Held::read(output, bytes)))),
                None => Ok(At::held(None)),
            }
        }
    }

    /// Runs a saga step whose refusal is a value. Broadcast that value to branch on it.
    ///
    /// ```
    /// # use accompanist_core::*;
    /// # #[derive(Clone, Copy)] struct Buyer;
    /// # impl Role for Buyer { const NAME: &'static str = "buyer"; type Service = (); }
    /// # #[derive(Clone, Copy)] struct Seller;
    /// # impl Role for Seller { const NAME: &'static str = "seller"; type Service = (); }
    /// # struct Reserve;
    /// # impl LocalTransaction for Reserve {
    /// #     const NAME: &'static str = "reserve"; type Role = Seller; type Input = u32; type Output = u32;
    /// #     fn commit(&self, _: &mut State<'_>, books: &u32) -> Result<u32, Abort> {
    /// #         (*books <= 10).then_some(books * 25).ok_or(Abort::new("sold-out", "there are ten"))
    /// #     }
    /// #     fn compensate(&self, _: &mut State<'_>, _: &u32, _: &u32) -> Result<(), Retry> { Ok(()) }
    /// # }
    /// # struct Sale;
    /// # impl Choreography for Sale {
    /// #     const NAME: &'static str = "sale"; type Roles = (Buyer, Seller);
    /// #     type Input = At<Buyer, u32>; type Output = At<Buyer, u32>;
    /// async fn run(&self, ctx: &Context<Self::Roles>, books: At<Buyer, u32>) -> Result<At<Buyer, u32>, Abort> {
    ///     let books = ctx.comm(Buyer, Seller, &books).await?;
    ///     let all: At<Seller, Result<u32, Abort>> = ctx.try_transact(Reserve, &books).await?;
    ///     let price = ctx.locally(Seller, |seller| seller.get(&all).clone().ok());
    ///     let price = match ctx.broadcast(Seller, &price).await? {
    ///         Some(price) => ctx.locally(Seller, |_| price),
    ///         None => ctx.transact(Reserve, &ctx.locally(Seller, |_| 1)).await?, // At least one.
    ///     };
    ///     ctx.comm(Seller, Buyer, &price).await
    /// }
    /// # }
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// assert_eq!(run_local(Sale, 3, &Services::new()).await, Ok(75));
    /// assert_eq!(run_local(Sale, 11, &Services::new()).await, Ok(25));
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Context::comm`].
    #[expect(clippy::type_complexity, reason = "it is what the step gives, located")]
    pub fn try_transact<S: Step<M>, M, I>(
        &self,
        step: S,
        input: &At<S::Role, S::Input>,
    ) -> impl Future<Output = Result<At<S::Role, Result<S::Output, Abort>>, Abort>> + Send + use<S, M, I, Roles>
    where
        Roles: Has<S::Role, I>,
    {
        let (engine, path, input) =
            (self.engine.clone(), self.called(Call::Step { role: S::Role::NAME, name: step.name() }), input.share());
        let role = self.index_of::<S::Role>();
        async move {
            let Some(ended) = engine.step(&path, role, step, input).await else { return Ok(At::held(None)) };
            // The recorded bytes are those of the output alone, not of the enclosing `Result`, so they are not passed
            // on.
            Ok(At::here(ended.map(|(output, _)| output)))
        }
    }

    /// Runs a part that only some roles take. The other roles continue at once. Inside, [`Context::broadcast`] reaches
    /// only the roles of the conclave, so they may branch without a message to the others. What the conclave returns is
    /// located ([`Absent`]): the others have the same type with nothing in it.
    ///
    /// ```
    /// # use accompanist_core::*;
    /// # #[derive(Clone, Copy)] struct Buyer;
    /// # impl Role for Buyer { const NAME: &'static str = "buyer"; type Service = (); }
    /// # #[derive(Clone, Copy)] struct Seller;
    /// # impl Role for Seller { const NAME: &'static str = "seller"; type Service = (); }
    /// # #[derive(Clone, Copy)] struct Carrier;
    /// # impl Role for Carrier { const NAME: &'static str = "carrier"; type Service = (); }
    /// # struct Sale;
    /// # impl Choreography for Sale {
    /// #     const NAME: &'static str = "sale"; type Roles = (Buyer, Seller, Carrier);
    /// #     type Input = At<Buyer, u32>; type Output = At<Buyer, u32>;
    /// async fn run(&self, ctx: &Context<Self::Roles>, books: At<Buyer, u32>) -> Result<At<Buyer, u32>, Abort> {
    ///     let books = ctx.comm(Buyer, Seller, &books).await?;
    ///     // The buyer takes no part in this, and gets no message of it.
    ///     let fee = ctx.conclave((Seller, Carrier), async |ctx| {
    ///         let heavy = ctx.locally(Seller, |seller| *seller.get(&books) > 10);
    ///         let fee = if ctx.broadcast(Seller, &heavy).await? { 9 } else { 4 };
    ///         Ok(ctx.locally(Carrier, |_| fee))
    ///     });
    ///     ctx.comm(Carrier, Buyer, &fee.await?).await
    /// }
    /// # }
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// assert_eq!(run_local(Sale, 3, &Services::new()).await, Ok(4));
    /// assert_eq!(run_local(Sale, 11, &Services::new()).await, Ok(9));
    /// # }
    /// ```
    ///
    /// # Errors
    /// Whatever `part` returns, at the roles that take it.
    pub fn conclave<Sub: RoleSet, T: Absent, F, I>(
        &self,
        _roles: Sub,
        part: F,
    ) -> impl Future<Output = Result<T, Abort>> + use<Sub, T, F, I, Roles>
    where
        Roles: Includes<Sub, I>,
        F: AsyncFnOnce(&Context<Sub>) -> Result<T, Abort>,
    {
        let (engine, path) = (self.engine.clone(), self.called(Call::scoped::<Sub>(Scoping::Conclave)));
        let (roles, member) = (self.indices_of::<Sub>(), self.member);
        async move {
            if !roles.contains(&engine.role()) {
                return Ok(T::absent());
            }
            let ctx = Context::<Sub>::within(engine, path, member);
            part(&ctx).await
        }
    }

    /// Returns a separate scope, for operations that run side by side. Concurrent `async` blocks need one each, taken
    /// before they begin, because chance decides in which order the blocks call their operations.
    ///
    /// ```
    /// # use accompanist_core::*;
    /// # #[derive(Clone, Copy)] struct Buyer;
    /// # impl Role for Buyer { const NAME: &'static str = "buyer"; type Service = (); }
    /// # #[derive(Clone, Copy)] struct Seller;
    /// # impl Role for Seller { const NAME: &'static str = "seller"; type Service = (); }
    /// # #[derive(Clone, Copy)] struct Carrier;
    /// # impl Role for Carrier { const NAME: &'static str = "carrier"; type Service = (); }
    /// # struct Sale;
    /// # impl Choreography for Sale {
    /// #     const NAME: &'static str = "sale"; type Roles = (Buyer, Seller, Carrier);
    /// #     type Input = At<Buyer, u32>; type Output = At<Buyer, u32>;
    /// async fn run(&self, ctx: &Context<Self::Roles>, books: At<Buyer, u32>) -> Result<At<Buyer, u32>, Abort> {
    ///     let (first, second) = (ctx.fork(), ctx.fork());
    ///     let (price, fee) = tokio::try_join!(
    ///         async {
    ///             let books = first.comm(Buyer, Seller, &books).await?;
    ///             first.comm(Seller, Buyer, &first.locally(Seller, |seller| seller.get(&books) * 25)).await
    ///         },
    ///         async {
    ///             let books = second.comm(Buyer, Carrier, &books).await?;
    ///             second.comm(Carrier, Buyer, &second.locally(Carrier, |carrier| carrier.get(&books) + 4)).await
    ///         },
    ///     )?;
    ///     Ok(ctx.locally(Buyer, |buyer| buyer.get(&price) + buyer.get(&fee)))
    /// }
    /// # }
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// assert_eq!(run_local(Sale, 3, &Services::new()).await, Ok(75 + 7));
    /// # }
    /// ```
    #[must_use]
    pub fn fork(&self) -> Self {
        let call = Call::scoped::<Roles>(Scoping::Fork);
        Self::within(self.engine.clone(), self.called(call), self.member)
    }

    /// Aborts the session for all roles, or the [`Context::saga`] that the call is made in. The committed steps are
    /// compensated. Every role that reaches the call aborts, so branch on a broadcast value first.
    ///
    /// ```
    /// # use accompanist_core::*;
    /// # #[derive(Clone, Copy)] struct Buyer;
    /// # impl Role for Buyer { const NAME: &'static str = "buyer"; type Service = (); }
    /// # #[derive(Clone, Copy)] struct Seller;
    /// # impl Role for Seller { const NAME: &'static str = "seller"; type Service = (); }
    /// # struct Reserve;
    /// # impl LocalTransaction for Reserve {
    /// #     const NAME: &'static str = "reserve"; type Role = Seller; type Input = u32; type Output = u32;
    /// #     fn commit(&self, _: &mut State<'_>, books: &u32) -> Result<u32, Abort> {
    /// #         (*books <= 10).then_some(books * 25).ok_or(Abort::new("sold-out", "there are ten"))
    /// #     }
    /// #     fn compensate(&self, _: &mut State<'_>, _: &u32, _: &u32) -> Result<(), Retry> { Ok(()) }
    /// # }
    /// # struct Sale;
    /// # impl Choreography for Sale {
    /// #     const NAME: &'static str = "sale"; type Roles = (Buyer, Seller);
    /// #     type Input = At<Seller, u32>; type Output = At<Seller, u32>;
    /// async fn run(&self, ctx: &Context<Self::Roles>, books: At<Seller, u32>) -> Result<At<Seller, u32>, Abort> {
    ///     let price = ctx.transact(Reserve, &books).await?;
    ///     let told = ctx.comm(Seller, Buyer, &price).await?;
    ///     let pays = ctx.locally(Buyer, |buyer| *buyer.get(&told) <= 100);
    ///     if !ctx.broadcast(Buyer, &pays).await? {
    ///         return ctx.abort(Abort::new("too-dear", "the buyer pays 100 at most")).await; // Compensates `Reserve`.
    ///     }
    ///     Ok(price)
    /// }
    /// # }
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// assert_eq!(run_local(Sale, 3, &Services::new()).await, Ok(75));
    /// assert_eq!(run_local(Sale, 5, &Services::new()).await.unwrap_err().code(), "too-dear");
    /// # }
    /// ```
    ///
    /// # Errors
    /// The returned future never completes, so that chance does not decide where branches that run beside it are cut
    /// off; the program is dropped where it waits. The result type allows `return ctx.abort(..).await`.
    pub fn abort<T>(&self, abort: Abort) -> impl Future<Output = Result<T, Abort>> + Send + use<T, Roles> {
        let (engine, path) = (self.engine.clone(), self.called(Call::Abort));
        async move { engine.abort(&path, &abort).await }
    }
}
