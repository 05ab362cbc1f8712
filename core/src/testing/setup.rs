//! The surroundings of a run of a choreography, besides its input: services, signals, a deadline, and a judge.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::base::abort::Abort;
use crate::base::located::Located;
use crate::base::message::{Message, Payload, encode};
use crate::base::role::{Role, names_of};
use crate::driver::local::Services;
use crate::language::choreography::Choreography;
use crate::state::State;

use super::disk::Disk;

/// The result of a session for its caller.
pub type Output<C> = Result<<<C as Choreography>::Output as Located>::Value, Abort>;

/// A session that has ended for all its roles.
pub struct Ended<C: Choreography> {
    pub(super) output: Output<C>,
    pub(super) disks: BTreeMap<String, Disk>,
}

impl<C: Choreography> Ended<C> {
    /// The result for the caller.
    pub fn output(&self) -> &Output<C> {
        &self.output
    }

    /// Reads the built-in state of `role`; [`check_crashes`](super::check_crashes) has an example.
    pub fn read_state<R: Role, T>(&self, _role: R, read: impl FnOnce(&State<'_>) -> T) -> T {
        self.read_state_of(R::NAME, R::NAME, read)
    }

    /// Reads the built-in state of one member of a role family, by its number from 0. In a test, each member is on a
    /// node of its own.
    pub fn read_member_state<R: Role, T>(&self, _role: R, number: u8, read: impl FnOnce(&State<'_>) -> T) -> T {
        self.read_state_of(&format!("{}/{number}", R::NAME), R::NAME, read)
    }

    fn read_state_of<T>(&self, name: &str, role: &'static str, read: impl FnOnce(&State<'_>) -> T) -> T {
        let empty = Disk::default();
        read(&State::new(self.disks.get(name).unwrap_or(&empty), role))
    }
}

impl<C: Choreography> fmt::Debug for Ended<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = self.output.as_ref().map_or("compensated", |_| "finished");
        write!(f, "a session of `{}` that has {how}", C::NAME)
    }
}

type Judge<C> = Box<dyn FnOnce(&Ended<C>) + Send>;

/// The surroundings of one run. Each run gets a new scene, so that nothing is left over from the previous one.
///
/// [`check_crashes`](super::check_crashes) shows one with a judge.
pub struct TestSetup<C: Choreography> {
    pub(super) services: Services,
    pub(super) signals: Vec<Signal>,
    pub(super) deadline: Option<Duration>,
    pub(super) has_late_requests: bool,
    pub(super) judge: Option<Judge<C>>,
}

/// A signal that a role receives once nothing else happens, again after each crash.
#[derive(Debug, Clone)]
pub(super) struct Signal {
    pub(super) role: &'static str,
    pub(super) name: String,
    pub(super) key: String,
    pub(super) payload: Payload,
}

impl<C: Choreography> fmt::Debug for TestSetup<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TestSetup of `{}` with {:?}", C::NAME, self.services)
    }
}

impl<C: Choreography> TestSetup<C> {
    /// Creates a scene with these services.
    pub fn new(services: Services) -> Self {
        Self { services, signals: Vec::new(), deadline: None, has_late_requests: false, judge: None }
    }

    /// Lets `role` receive this signal; [`Context::signal`](crate::Context::signal) has an example.
    ///
    /// # Panics
    /// If the value cannot be encoded.
    #[must_use]
    #[expect(clippy::panic, reason = "fails the test that asks for it")]
    pub fn signal<R: Role, T: Message>(mut self, _role: R, name: &str, key: &str, value: &T) -> Self {
        let payload = encode(value).unwrap_or_else(|error| panic!("signal `{name}` cannot be given: {error}"));
        let (name, key) = (name.to_owned(), key.to_owned());
        self.signals.push(Signal { role: R::NAME, name, key, payload: payload.into() });
        self
    }

    /// The names for people of the roles of a session with these services, by index.
    pub(super) fn roles(&self) -> Vec<String> {
        let names = names_of::<C::Roles>();
        names.names(self.services.cast_len(names).unwrap_or_default())
    }

    /// Everything that a run depends on besides its services, for a fingerprint.
    pub(super) fn fingerprinted(&self, input: &Payload, signals: &[Signal]) -> String {
        let Self { deadline, has_late_requests, .. } = self;
        format!("{:?} {deadline:?} {has_late_requests} {signals:?} {:?}", self.roles(), input.as_slice())
    }

    /// Starts the session with this deadline.
    ///
    /// ```
    /// use std::time::Duration;
    /// use accompanist_core::testing::{TestSetup, check_crashes};
    /// # use accompanist_core::*;
    /// # #[derive(Clone, Copy)] struct Buyer;
    /// # impl Role for Buyer { const NAME: &'static str = "buyer"; type Service = (); }
    /// # #[derive(Clone, Copy)] struct Seller;
    /// # impl Role for Seller { const NAME: &'static str = "seller"; type Service = (); }
    /// # struct Sale;
    /// # impl Choreography for Sale {
    /// #     const NAME: &'static str = "sale"; type Roles = (Buyer, Seller);
    /// #     type Input = At<Buyer, u32>; type Output = At<Buyer, u32>;
    /// async fn run(&self, ctx: &Context<Self::Roles>, _books: At<Buyer, u32>) -> Result<At<Buyer, u32>, Abort> {
    ///     let price: At<Seller, u32> = ctx.signal(Seller, "price").await?; // Nobody sends it.
    ///     ctx.comm(Seller, Buyer, &price).await
    /// }
    /// # }
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// let setup = || {
    ///     TestSetup::new(Services::new())
    ///         .deadline(Duration::from_secs(3_600))
    ///         .judge(|ended| assert_eq!(ended.output().as_ref().unwrap_err().code(), Abort::DEADLINE))
    /// };
    /// check_crashes(Sale, 3, 1, setup).await.unwrap();
    /// # }
    /// ```
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Lets requests to services linger, arrive twice, or arrive after their caller's death:
    /// [`check_crashes`](super::check_crashes) then has more runs. In some runs, a call of `commit` or `compensate`
    /// that was carried out is carried out once more, at each later point, including the end. In others, the call is
    /// not carried out when it is made, its caller crashes, and the call is carried out at each later point. The
    /// result of a late call is discarded.
    ///
    /// These runs show whether a service fulfils its [third duty](crate::Transaction), to refuse a commit that
    /// arrives after its compensation (or after the service has reported that there was none). They show it in scenes
    /// whose session is aborted. A service that panics at a late request fails the run.
    ///
    /// ```
    /// # use std::collections::BTreeMap;
    /// # use std::sync::{Arc, Mutex};
    /// use accompanist_core::testing::{TestSetup, check_crashes};
    /// # use accompanist_core::*;
    /// # #[derive(Clone, Copy)] struct Seller;
    /// # impl Role for Seller { const NAME: &'static str = "seller"; type Service = Stock; }
    /// /// Honours keys, and forgets what was compensated: too early, as a commit under that key may still arrive.
    /// #[derive(Default)]
    /// struct Stock(Mutex<BTreeMap<IdempotencyKey, u32>>);
    ///
    /// struct Reserve;
    /// impl Transaction for Reserve {
    ///     // ..
    /// #     const NAME: &'static str = "reserve"; type Role = Seller; type Input = u32; type Output = u32;
    ///     async fn commit(&self, here: &Local<Seller>, books: &u32) -> Result<u32, Abort> {
    ///         Ok(*here.service().0.lock().unwrap().entry(here.key().clone()).or_insert(*books))
    ///     }
    ///     async fn compensate(&self, here: &Local<Seller>, _: &u32, _: &u32) -> Result<(), Retry> {
    ///         here.service().0.lock().unwrap().remove(here.key());
    ///         Ok(())
    ///     }
    /// }
    /// # struct Sale;
    /// # impl Choreography for Sale {
    /// #     const NAME: &'static str = "sale"; type Roles = (Seller,);
    /// #     type Input = At<Seller, u32>; type Output = At<Seller, u32>;
    /// #     async fn run(&self, ctx: &Context<Self::Roles>, books: At<Seller, u32>) -> Result<Self::Output, Abort> {
    /// #         ctx.transact(Reserve, &books).await?;
    /// #         ctx.abort(Abort::new("recalled", "the book must not be sold")).await
    /// #     }
    /// # }
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// let setup = || {
    ///     let stock = Arc::new(Stock::default());
    ///     TestSetup::new(Services::new().with(Seller, stock.clone()))
    ///         .judge(move |_| assert!(stock.0.lock().unwrap().is_empty(), "books are reserved for nobody"))
    /// };
    /// // `Sale` reserves, and aborts.
    /// assert!(check_crashes(Sale, 3, 1, setup).await.is_ok());
    /// let failure = check_crashes(Sale, 3, 1, || setup().late_requests()).await.unwrap_err();
    /// assert!(failure.what.contains("books are reserved for nobody"));
    /// # }
    /// ```
    #[must_use]
    pub fn late_requests(mut self) -> Self {
        self.has_late_requests = true;
        self
    }

    /// Lets `judge` inspect the services once all roles have ended. The judge panics (`assert!`) if something is
    /// wrong with them; [`check_crashes`](super::check_crashes) has an example.
    #[must_use]
    pub fn judge(mut self, judge: impl FnOnce(&Ended<C>) + Send + 'static) -> Self {
        self.judge = Some(Box::new(judge));
        self
    }
}
