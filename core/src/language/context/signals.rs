//! Operations on time, and on the world outside of the choreography.

use std::future::Future;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Context;
use crate::base::abort::Abort;
use crate::base::id::{Path, RoleIndex};
use crate::base::located::At;
use crate::base::message::Message;
use crate::base::role::{Has, Role, RoleSet};
use crate::frame::Operation;
use crate::language::call::{Call, single};
use crate::language::engine::Engine;
use crate::language::value_of::ValueOf;

/// The index, in the scope of a receive, of the operation that records its time limit.
const LIMIT: u32 = 0;

const SLEEP: &str = "sleep";
const TIME_LIMIT: &str = "time limit";

/// Whether a record of this name belongs to a timer. A timer's record changes once, when the time is over.
#[cfg(feature = "testing")]
pub(crate) fn is_timer(name: &str) -> bool {
    [SLEEP, TIME_LIMIT].contains(&name)
}

/// The record of a timer.
#[derive(Serialize, Deserialize)]
struct Timer {
    until_unix_ms: u64,
    /// Whether the time is over. If so, the wait counts as expired even if something arrives later.
    over: bool,
}

impl<Roles: RoleSet> Context<Roles> {
    /// Waits at `role`; the other roles continue at once. The time at which the sleep ends is on disk, so a restart
    /// neither prolongs nor repeats it. The sleep follows the wall clock, which is checked at least once a minute.
    /// [`run_local`](crate::run_local) and tests skip the time.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use accompanist_core::*;
    /// # #[derive(Clone, Copy)] struct Buyer;
    /// # impl Role for Buyer { const NAME: &'static str = "buyer"; type Service = (); }
    /// # #[derive(Clone, Copy)] struct Seller;
    /// # impl Role for Seller { const NAME: &'static str = "seller"; type Service = (); }
    /// # struct Sale;
    /// # impl Choreography for Sale {
    /// #     const NAME: &'static str = "sale"; type Roles = (Buyer, Seller);
    /// #     type Input = At<Buyer, u32>; type Output = At<Buyer, String>;
    /// async fn run(&self, ctx: &Context<Self::Roles>, _books: At<Buyer, u32>) -> Result<At<Buyer, String>, Abort> {
    ///     ctx.sleep(Seller, Duration::from_secs(14 * 24 * 60 * 60)).await?; // The buyer waits for the letter only.
    ///     let letter = ctx.locally(Seller, |_| "please pay".to_owned());
    ///     ctx.comm(Seller, Buyer, &letter).await
    /// }
    /// # }
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// assert_eq!(run_local(Sale, 3, &Services::new()).await, Ok("please pay".to_owned()));
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Context::comm`].
    pub fn sleep<R: Role, I>(
        &self,
        _role: R,
        time: Duration,
    ) -> impl Future<Output = Result<(), Abort>> + Send + use<R, I, Roles>
    where
        Roles: Has<R, I>,
    {
        let (engine, path) = (self.engine.clone(), self.called(Call::own(R::NAME, SLEEP)));
        let role = self.index_of::<R>();
        async move {
            if engine.plays(role) {
                engine.sleep(&path, time).await;
            }
            Ok(())
        }
    }

    /// Like [`Context::comm`], except that the receiver waits at most `time` after reaching the operation, and gets
    /// `None` if the value is late. The result is recorded and stays the same whatever arrives afterwards. To let the
    /// other roles know it, broadcast it; to end the session for all roles, call [`Context::abort`].
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use accompanist_core::*;
    /// # #[derive(Clone, Copy)] struct Buyer;
    /// # impl Role for Buyer { const NAME: &'static str = "buyer"; type Service = (); }
    /// # #[derive(Clone, Copy)] struct Seller;
    /// # impl Role for Seller { const NAME: &'static str = "seller"; type Service = (); }
    /// # const HOUR: Duration = Duration::from_secs(3_600);
    /// /// The seller takes this many hours to make an offer. The buyer waits for one hour.
    /// struct Sale { hours: u32 }
    /// # impl Choreography for Sale {
    /// #     const NAME: &'static str = "sale"; type Roles = (Buyer, Seller);
    /// #     type Input = At<Buyer, ()>; type Output = At<Buyer, u32>;
    /// async fn run(&self, ctx: &Context<Self::Roles>, _: At<Buyer, ()>) -> Result<At<Buyer, u32>, Abort> {
    ///     ctx.sleep(Seller, HOUR * self.hours).await?;
    ///     let price = ctx.locally(Seller, |_| 75);
    ///     let offer: At<Buyer, Option<u32>> = ctx.comm_within(Seller, Buyer, &price, HOUR).await?;
    ///     match ctx.broadcast(Buyer, &offer).await? {
    ///         Some(price) => Ok(ctx.locally(Buyer, |_| price)),
    ///         None => ctx.abort(Abort::new("no-offer", "there was no offer within an hour")).await,
    ///     }
    /// }
    /// # }
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// assert_eq!(run_local(Sale { hours: 0 }, (), &Services::new()).await, Ok(75));
    /// assert_eq!(run_local(Sale { hours: 2 }, (), &Services::new()).await.unwrap_err().code(), "no-offer");
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Context::comm`].
    pub fn comm_within<A: Role, B: Role, T: Message, I, J>(
        &self,
        _from: A,
        _to: B,
        value: &At<A, T>,
        time: Duration,
    ) -> impl Future<Output = Result<At<B, Option<T>>, Abort>> + Send + use<A, B, T, I, J, Roles>
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
                // The value is encoded and read back, so that the role gets the same value that another role would
                // receive.
                let Some(held) = value else { return Ok(At::held(None)) };
                let payload = engine.encoded(&path, &*held.value).await;
                return Ok(At::here(Some(
                    engine.decoded(&path, engine.message_of(Operation::Comm, from), &payload).await,
                )));
            }
            if engine.plays(to) {
                return Ok(At::here(engine.receive_within(&path, from, time).await));
            }
            engine.distribute(&path, Operation::Comm, from, &[to], value).await;
            Ok(At::held(None))
        }
    }

    /// Waits at `role` for a signal of this name from outside (`Node::signal` of the runtime). Signals of one name
    /// are taken in the order of their arrival, each once. A signal that arrives early is stored. The wait has no limit
    /// but the session's deadline. A signal whose value is not a `T` stops the session.
    ///
    /// A test sends signals with `TestSetup::signal` of the feature `testing`:
    ///
    /// ```
    /// use accompanist_core::testing::{TestSetup, check_crashes};
    /// # use accompanist_core::*;
    /// # #[derive(Clone, Copy)] struct Buyer;
    /// # impl Role for Buyer { const NAME: &'static str = "buyer"; type Service = (); }
    /// # #[derive(Clone, Copy)] struct Seller;
    /// # impl Role for Seller { const NAME: &'static str = "seller"; type Service = (); }
    /// # struct Sale;
    /// # impl Choreography for Sale {
    /// #     const NAME: &'static str = "sale"; type Roles = (Buyer, Seller);
    /// #     type Input = At<Buyer, u32>; type Output = At<Buyer, String>;
    /// async fn run(&self, ctx: &Context<Self::Roles>, _books: At<Buyer, u32>) -> Result<At<Buyer, String>, Abort> {
    ///     let by: At<Seller, String> = ctx.signal(Seller, "approved").await?; // A person presses a button.
    ///     ctx.comm(Seller, Buyer, &by).await
    /// }
    /// # }
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// let setup = || {
    ///     TestSetup::new(Services::new())
    ///         .signal(Seller, "approved", "form 17", &"Ada".to_owned())
    ///         .judge(|ended| assert_eq!(*ended.output(), Ok("Ada".to_owned())))
    /// };
    /// check_crashes(Sale, 3, 1, setup).await.unwrap(); // Whoever crashes when, the signal is taken once.
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Context::comm`].
    pub fn signal<R: Role, T: Message, I>(
        &self,
        _role: R,
        name: &'static str,
    ) -> impl Future<Output = Result<At<R, T>, Abort>> + Send + use<R, T, I, Roles>
    where
        Roles: Has<R, I>,
    {
        let (engine, path) = (self.engine.clone(), self.called(Call::Own { role: R::NAME, operation: "signal", name }));
        let role = self.index_of::<R>();
        async move {
            if !engine.plays(role) {
                return Ok(At::held(None));
            }
            let payload = engine.poll(|instance, cx| instance.poll_signal(cx, &path, name)).await;
            Ok(At::held(Some(engine.held(&path, ValueOf::Signal(name), payload).await)))
        }
    }

    /// Like [`Context::signal`], except that it takes all waiting signals of this name once there is at least one. It
    /// takes at most `count_max` signals, whose total size is at most `payload_bytes_max` of
    /// [`Limits`](crate::machine::Limits), so that they can be sent on as one message. The remaining signals wait
    /// for the next call.
    ///
    /// ```
    /// use accompanist_core::testing::{TestSetup, check_crashes};
    /// # use accompanist_core::*;
    /// # #[derive(Clone, Copy)] struct Seller;
    /// # impl Role for Seller { const NAME: &'static str = "seller"; type Service = (); }
    /// # struct Auction;
    /// # impl Choreography for Auction {
    /// #     const NAME: &'static str = "auction"; type Roles = (Seller,);
    /// #     type Input = At<Seller, usize>; type Output = At<Seller, u32>;
    /// /// Takes this many bids, and returns the highest.
    /// async fn run(&self, ctx: &Context<Self::Roles>, wanted: At<Seller, usize>) -> Result<At<Seller, u32>, Abort> {
    ///     let wanted = ctx.broadcast(Seller, &wanted).await?;
    ///     let mut all = Vec::new();
    ///     while all.len() < wanted {
    ///         let bids: At<Seller, Vec<u32>> = ctx.signals(Seller, "bid", wanted - all.len()).await?;
    ///         all.extend(ctx.broadcast(Seller, &bids).await?); // One message, however many bids there are.
    ///     }
    ///     Ok(ctx.locally(Seller, |_| all.iter().copied().max().unwrap_or_default()))
    /// }
    /// # }
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// let setup = || {
    ///     TestSetup::new(Services::new())
    ///         .signal(Seller, "bid", "Ada", &70)
    ///         .signal(Seller, "bid", "Grace", &80)
    ///         .judge(|ended| assert_eq!(*ended.output(), Ok(80)))
    /// };
    /// check_crashes(Auction, 2, 1, setup).await.unwrap();
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Context::comm`].
    pub fn signals<R: Role, T: Message, I>(
        &self,
        _role: R,
        name: &'static str,
        count_max: usize,
    ) -> impl Future<Output = Result<At<R, Vec<T>>, Abort>> + Send + use<R, T, I, Roles>
    where
        Roles: Has<R, I>,
    {
        let (engine, path) =
            (self.engine.clone(), self.called(Call::Own { role: R::NAME, operation: "signals", name }));
        let role = self.index_of::<R>();
        async move {
            if !engine.plays(role) {
                return Ok(At::held(None));
            }
            let payloads = engine.poll(|instance, cx| instance.poll_signals(cx, &path, name, count_max)).await;
            let mut values = Vec::with_capacity(payloads.len());
            for payload in &payloads {
                values.push(engine.decoded(&path, ValueOf::Signal(name), payload).await);
            }
            Ok(At::here(values))
        }
    }

    /// Publishes `view` as the role's progress, for callers of `Node::query` of the runtime, as soon as the results
    /// that the view depends on are durable. The latest view replaces earlier ones. The view is held in memory only;
    /// a replay publishes it again.
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
    ///     let books = ctx.comm(Buyer, Seller, &books).await?;
    ///     ctx.publish(Seller, &ctx.locally(Seller, |seller| format!("packing {} books", seller.get(&books))));
    ///     ctx.comm(Seller, Buyer, &books).await
    /// }
    /// # }
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// // Nobody queries here. With a node, `query::<String>()` on the seller's part returns "packing 3 books".
    /// assert_eq!(run_local(Sale, 3, &Services::new()).await, Ok(3));
    /// # }
    /// ```
    pub fn publish<R: Role, V: Message, I>(&self, _role: R, view: &At<R, V>)
    where
        Roles: Has<R, I>,
    {
        let path = self.called(Call::own(R::NAME, "publish"));
        if let Some(view) = view.share().filter(|_| self.engine.plays(self.index_of::<R>())) {
            self.engine.publish(&path, &*view.value);
        }
    }

    /// Returns the wall clock's time at `role`, in whole milliseconds, recorded. The clocks of two roles may differ.
    ///
    /// ```
    /// # use std::time::{Duration, SystemTime};
    /// # use accompanist_core::*;
    /// # #[derive(Clone, Copy)] struct Buyer;
    /// # impl Role for Buyer { const NAME: &'static str = "buyer"; type Service = (); }
    /// # #[derive(Clone, Copy)] struct Seller;
    /// # impl Role for Seller { const NAME: &'static str = "seller"; type Service = (); }
    /// # struct Sale;
    /// # impl Choreography for Sale {
    /// #     const NAME: &'static str = "sale"; type Roles = (Buyer, Seller);
    /// #     type Input = At<Buyer, u32>; type Output = At<Buyer, SystemTime>;
    /// async fn run(&self, ctx: &Context<Self::Roles>, _books: At<Buyer, u32>) -> Result<Self::Output, Abort> {
    ///     let now = ctx.now(Seller).await?;
    ///     let due = ctx.locally(Seller, |seller| *seller.get(&now) + Duration::from_secs(14 * 24 * 60 * 60));
    ///     ctx.comm(Seller, Buyer, &due).await
    /// }
    /// # }
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// assert!(run_local(Sale, 3, &Services::new()).await.unwrap() > SystemTime::now());
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Context::comm`].
    pub fn now<R: Role, I>(
        &self,
        role: R,
    ) -> impl Future<Output = Result<At<R, SystemTime>, Abort>> + Send + use<R, I, Roles>
    where
        Roles: Has<R, I>,
    {
        self.noted(role, "now", |engine| SystemTime::UNIX_EPOCH + Duration::from_millis(engine.environment().unix_ms()))
    }

    /// Returns a random (version 4) UUID at `role`, recorded.
    ///
    /// ```
    /// # use uuid::Uuid;
    /// # use accompanist_core::*;
    /// # #[derive(Clone, Copy)] struct Buyer;
    /// # impl Role for Buyer { const NAME: &'static str = "buyer"; type Service = (); }
    /// # #[derive(Clone, Copy)] struct Seller;
    /// # impl Role for Seller { const NAME: &'static str = "seller"; type Service = (); }
    /// # struct Sale;
    /// # impl Choreography for Sale {
    /// #     const NAME: &'static str = "sale"; type Roles = (Buyer, Seller);
    /// #     type Input = At<Buyer, u32>; type Output = At<Buyer, Uuid>;
    /// async fn run(&self, ctx: &Context<Self::Roles>, _books: At<Buyer, u32>) -> Result<At<Buyer, Uuid>, Abort> {
    ///     let voucher = ctx.uuid(Seller).await?; // Not to be guessed, and the same after every crash.
    ///     ctx.comm(Seller, Buyer, &voucher).await
    /// }
    /// # }
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// assert_eq!(run_local(Sale, 3, &Services::new()).await.unwrap().get_version_num(), 4);
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Context::comm`].
    pub fn uuid<R: Role, I>(
        &self,
        role: R,
    ) -> impl Future<Output = Result<At<R, Uuid>, Abort>> + Send + use<R, I, Roles>
    where
        Roles: Has<R, I>,
    {
        self.noted(role, "uuid", |engine| {
            uuid::Builder::from_random_bytes(engine.environment().random_u128().to_be_bytes()).into_uuid()
        })
    }

    /// Returns 64 random bits at `role`, recorded.
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
    /// #     type Input = At<Buyer, u64>; type Output = At<Buyer, u64>;
    /// async fn run(&self, ctx: &Context<Self::Roles>, tickets: At<Buyer, u64>) -> Result<At<Buyer, u64>, Abort> {
    ///     let tickets = ctx.comm(Buyer, Seller, &tickets).await?;
    ///     let draw = ctx.random(Seller).await?;
    ///     let winner = ctx.locally(Seller, |seller| seller.get(&draw) % seller.get(&tickets));
    ///     ctx.comm(Seller, Buyer, &winner).await
    /// }
    /// # }
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// assert!(run_local(Sale, 3, &Services::new()).await.unwrap() < 3);
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Context::comm`].
    pub fn random<R: Role, I>(
        &self,
        role: R,
    ) -> impl Future<Output = Result<At<R, u64>, Abort>> + Send + use<R, I, Roles>
    where
        Roles: Has<R, I>,
    {
        self.noted(role, "random", |engine| engine.environment().random())
    }

    fn noted<R: Role, T: Message, I>(
        &self,
        _role: R,
        name: &'static str,
        make: fn(&Engine) -> T,
    ) -> impl Future<Output = Result<At<R, T>, Abort>> + Send + use<R, T, I, Roles>
    where
        Roles: Has<R, I>,
    {
        let (engine, path) = (self.engine.clone(), self.called(Call::own(R::NAME, name)));
        let role = self.index_of::<R>();
        async move {
            if !engine.plays(role) {
                return Ok(At::held(None));
            }
            if let Some(recorded) = engine.observed(&path, name).await {
                return Ok(At::held(Some(recorded)));
            }
            let value = make(&engine);
            Ok(At::held(Some(engine.observe(&path, name, &value).await)))
        }
    }
}

impl Engine {
    fn publish<V: Message>(&self, path: &Path, view: &V) {
        match crate::base::message::encode(view) {
            Ok(view) => self.instance().publish(view.into()),
            Err(error) => self.instance().refuse_value(path, &error),
        }
    }

    /// Returns the timer at `path`: the recorded one, or a new one that starts now.
    async fn timer(&self, path: &Path, name: &'static str, time: Duration) -> Timer {
        if let Some(recorded) = self.poll(|instance, cx| instance.poll_observed(cx, path, name)).await {
            return self.decoded(path, ValueOf::Effect(name), &recorded).await;
        }
        let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let until_unix_ms = self.environment().unix_ms().saturating_add(millis);
        let timer = Timer { until_unix_ms, over: false };
        // So far only the length of the wait depends on this record. If the record is lost, the wait starts over.
        self.observe_at_leisure(path, name, &timer).await;
        timer
    }

    async fn sleep(&self, path: &Path, time: Duration) {
        let mut timer = self.timer(path, SLEEP, time).await;
        if !timer.over {
            self.poll(|instance, cx| instance.poll_time(cx, path, timer.until_unix_ms)).await;
            timer.over = true;
            // The record precedes all later ones in the journal, so a clock that goes back makes nobody sleep twice.
            self.observe_at_leisure(path, SLEEP, &timer).await;
        }
    }

    async fn receive_within<T: Message>(&self, path: &Path, from: RoleIndex, time: Duration) -> Option<T> {
        let limit = path.child(LIMIT);
        let mut timer = self.timer(&limit, TIME_LIMIT, time).await;
        if timer.over {
            return None;
        }
        let until = timer.until_unix_ms;
        match self.poll(|instance, cx| instance.poll_receive_within(cx, path, from, until)).await {
            Some(payload) => Some(self.decoded(path, self.message_of(Operation::Comm, from), &payload).await),
            None => {
                timer.over = true;
                self.observe(&limit, TIME_LIMIT, &timer).await;
                None
            }
        }
    }

    async fn observe_at_leisure(&self, path: &Path, name: &str, timer: &Timer) {
        let payload = self.encoded(path, timer).await;
        self.instance().observe_at_leisure(path, name, payload);
    }
}
