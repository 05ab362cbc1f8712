//! Runs a whole choreography in one process, with no store and no network, for unit tests, doc-tests and learning.
//!
//! The instances are the same as in the runtime; only their surroundings are missing. Nothing survives the call.
//! Next: `standstill`, which says why nothing can continue.

mod standstill;

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Poll;
use std::time::SystemTime;

use crate::base::abort::Abort;
use crate::base::id::{InstanceId, NodeId, RoleIndex, SessionId};
use crate::base::located::{Located, Service};
use crate::base::message::{Payload, decode, encode};
use crate::base::role::{Role, names_of};
use crate::base::role_names::{FamilySizeError, RoleNames, role_name};
use crate::contract::Environment;
use crate::driver::RoleDriver;
use crate::driver::role_instance::{AnyChoreography, RoleInstance, TurnWaker};
use crate::frame::{Delivery, Header};
use crate::language::choreography::Choreography;
use crate::machine::{Effects, Limits, LocalJob, Machine, Outgoing, Stop};
use crate::record::Opened;
use crate::state::Writes;

use self::standstill::Patience;

/// The services of the roles, by role, and the number of members of the role family of a session that runs with them.
#[derive(Debug, Default, Clone)]
pub struct Services {
    by_role: BTreeMap<&'static str, Service>,
    /// The services of members that have one of their own, by family and number.
    by_member: BTreeMap<(&'static str, usize), Service>,
    members: Option<usize>,
}

impl Services {
    /// Creates an empty set of services. Roles whose service is `()` need none.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the service of `role`. If it is a role family ([`Many`](crate::Many)), all members share the service.
    #[must_use]
    pub fn with<R: Role>(mut self, _role: R, service: Arc<R::Service>) -> Self {
        self.by_role.insert(R::NAME, Service::of::<R>(service));
        self
    }

    /// Sets the number of members of the role family in a session that [`run_local`] or a test runs: at most
    /// [`MEMBERS_MAX`](crate::MEMBERS_MAX). On nodes, the number is an option of the start.
    #[must_use]
    pub fn members<R: Role>(mut self, _role: R, count: usize) -> Self {
        self.members = Some(count);
        self
    }

    /// Adds the service of one member of a role family, by its number from 0, as if it were on a node of its own.
    #[must_use]
    pub fn with_member<R: Role>(mut self, _role: R, number: usize, service: Arc<R::Service>) -> Self {
        self.by_member.insert((R::NAME, number), Service::of::<R>(service));
        self
    }

    /// Returns the service of the role, or role family, with this name.
    pub fn get(&self, role: &str) -> Option<&Service> {
        self.by_role.get(role)
    }

    /// The number of entries of the cast of a session with these roles.
    pub(crate) fn cast_len(&self, names: RoleNames) -> Result<usize, FamilySizeError> {
        names.cast_len(self.members.filter(|_| names.family().is_some()))
    }

    /// Returns the service of a role of a session, or one for roles that need nothing.
    pub(crate) fn of(&self, names: RoleNames, role: RoleIndex) -> Service {
        let own = names.family().zip(names.number_of(role));
        let own = own.and_then(|(family, number)| self.by_member.get(&(family, usize::from(number))));
        own.or_else(|| self.get(names.provided_as(role)?)).cloned().unwrap_or_else(Service::none)
    }
}

/// Runs `choreography` with all its roles in this process. Returns the output once the session has ended for all
/// roles, and, if it was aborted, once everything is compensated.
///
/// ```
/// use accompanist_core::{Abort, At, Choreography, Context, Role, Services, run_local};
///
/// #[derive(Clone, Copy)] struct Asker;
/// #[derive(Clone, Copy)] struct Doubler;
/// impl Role for Asker { const NAME: &'static str = "asker"; type Service = (); }
/// impl Role for Doubler { const NAME: &'static str = "doubler"; type Service = (); }
///
/// struct Double;
/// impl Choreography for Double {
///     const NAME: &'static str = "double";
///     type Roles = (Asker, Doubler);
///     type Input = At<Asker, u32>;
///     type Output = At<Asker, u32>;
///     async fn run(&self, ctx: &Context<Self::Roles>, n: At<Asker, u32>) -> Result<At<Asker, u32>, Abort> {
///         let n = ctx.comm(Asker, Doubler, &n).await?;
///         let doubled = ctx.locally(Doubler, |here| here.get(&n) * 2);
///         ctx.comm(Doubler, Asker, &doubled).await
///     }
/// }
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// assert_eq!(run_local(Double, 21, &Services::new()).await, Ok(42));
/// # });
/// ```
///
/// # Errors
/// The [`Abort`] that ended the session. If the session cannot continue, an abort that says why, with the roles and
/// their operations. Its code is
/// - [`Abort::DEADLOCK`] if no role can go on: it says what each role waits for. Waits for time alone, such as
///   [`Context::sleep`](crate::Context::sleep), end at once, however long they are. A signal never arrives, so a wait
///   for one without a limit is such an end.
/// - [`Abort::FOREIGN_AWAIT`] if a program awaits something that is no operation (a timer, a channel, a task), and is
///   not woken at once. It says which operation came before. Effects and steps may await anything.
/// - [`Abort::DROPPED_OPERATION`] if a program drops an operation that waits and goes on without it, as `select!` does.
/// - `accompanist.stopped` for a missing service, a program that is not deterministic, a value that cannot be decoded.
/// - `accompanist.needs-operator` for a step that does not succeed.
///
/// # Panics
/// If the program or a step panics, with a text that names role, step and path.
pub async fn run_local<C: Choreography>(
    choreography: C,
    input: <C::Input as Located>::Value,
    services: &Services,
) -> Result<<C::Output as Located>::Value, Abort> {
    let stopped = |reason: String| Abort::new("accompanist.stopped", reason);
    let input: Payload = encode(&input).map_err(|error| stopped(error.to_string()))?.into();
    let mut stage = LocalSession::set(&Arc::new(choreography), &input, services, <C::Input as Located>::Role::NAME)?;
    let output = poll_fn(|cx| {
        stage.caller.replace(cx.waker().clone());
        stage.play()
    })
    .await?;
    decode(output.as_slice()).map_err(|error| stopped(error.to_string()))
}

/// The waker of the task that waits for the session.
#[derive(Default)]
struct Caller(std::sync::Mutex<Option<std::task::Waker>>);

impl Caller {
    fn replace(&self, waker: std::task::Waker) {
        *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(waker);
    }
    fn wake(&self) {
        let waker = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// A time that never comes.
const NEVER_MS: u64 = u64::MAX;

/// All roles of one session, and the replacements of store and network.
struct LocalSession {
    names: RoleNames,
    roles: Vec<RoleDriver>,
    /// By role.
    patience: Vec<Patience>,
    environment: Arc<LocalEnvironment>,
    caller: Arc<Caller>,
    /// The built-in state of each role, as if each were on a node of its own.
    states: Vec<Writes>,
    now_ms: u64,
    output: Option<Result<Payload, Abort>>,
}

impl LocalSession {
    fn set<C: Choreography>(
        choreography: &Arc<C>,
        input: &Payload,
        services: &Services,
        initiator: &str,
    ) -> Result<Self, Abort> {
        let failed = |reason: String| Abort::new("accompanist.stopped", reason);
        let environment = Arc::new(LocalEnvironment::default());
        let names = names_of::<C::Roles>();
        let cast_len = services.cast_len(names).map_err(|error| failed(error.to_string()))?;
        let node = NodeId::new("local").map_err(|error| failed(error.to_string()))?;
        let initiator = starter(names, initiator).map_err(failed)?;
        let header = Arc::new(Header {
            choreography: C::NAME.into(),
            version: C::VERSION,
            initiator,
            cast: vec![node; cast_len],
            started_unix_ms: environment.unix_ms(),
            deadline_unix_ms: None,
            patches: C::PATCHES.iter().map(ToString::to_string).collect(),
            traceparent: None,
        });
        let session = SessionId::fresh(environment.unix_ms(), environment.random_u128());
        let caller = Arc::new(Caller::default());
        let (mut drivers, mut patience) = (Vec::new(), Vec::new());
        for index in header.roles() {
            let (name, service) = (names.provided_as(index).unwrap_or_default(), services.of(names, index));
            let input = (index == initiator).then(|| input.clone());
            let opened = Opened { header: header.clone(), input: input.clone() };
            // No frame is lost here, so nudges are not needed.
            let limits = Limits { nudge_delay_min_ms: NEVER_MS, nudge_delay_max_ms: NEVER_MS, ..Limits::default() };
            let instance = Machine::begin(InstanceId { session, role: index }, name, &opened, limits);
            let woken = Arc::new(AtomicBool::new(false));
            patience.push(Patience::new(woken.clone()));
            let alarm = TurnWaker::new({
                let caller = caller.clone();
                move || {
                    woken.store(true, Ordering::SeqCst);
                    caller.wake();
                }
            });
            let mut driver = RoleDriver::default();
            driver.begin(choreography.clone().part(instance, input, service, environment.clone(), alarm));
            drivers.push(driver);
        }
        let states = drivers.iter().map(|_| Writes::default()).collect();
        Ok(Self { names, roles: drivers, patience, environment, caller, states, now_ms: 0, output: None })
    }

    /// Gives turns until nothing changes any more.
    fn play(&mut self) -> Poll<Result<Payload, Abort>> {
        loop {
            let mut moved = false;
            for index in 0..self.roles.len() {
                moved |= self.turn(index)?;
            }
            if self.instances().next().is_none() {
                let gone = || Err(Abort::new("accompanist.stopped", "the session ended without an output"));
                return Poll::Ready(self.output.take().unwrap_or_else(gone));
            }
            if moved {
                continue;
            }
            return self.pass_time();
        }
    }

    /// Skips to the next time at which a part continues, because here nothing else can happen once all parts wait.
    /// Without such a time the run ends. Other tasks run first, because a step to be retried may wait for one of them.
    fn pass_time(&mut self) -> Poll<Result<Payload, Abort>> {
        if let Some(awaits) = self.foreign_await() {
            return awaits;
        }
        if self.instances().any(RoleInstance::is_busy) {
            return Poll::Pending;
        }
        let Some(due_ms) = self.instances().filter_map(RoleInstance::next_due_ms).min() else {
            return Poll::Ready(Err(self.deadlock()));
        };
        self.environment.skip(due_ms.saturating_sub(self.now_ms));
        self.now_ms = due_ms;
        self.caller.wake();
        Poll::Pending
    }

    /// The instances of the roles that have not closed the session.
    fn instances(&self) -> impl Iterator<Item = &RoleInstance> {
        self.roles.iter().filter_map(RoleDriver::instance)
    }

    /// Gives a role a turn. Its writes are durable, and its frames arrive, at once. Returns whether there were any.
    fn turn(&mut self, index: usize) -> Result<bool, Abort> {
        let Some(role) = self.roles.get_mut(index) else { return Ok(false) };
        let Some(mut effects) = role.turn(self.now_ms) else { return Ok(false) };
        let names = self.names;
        let name = || role_name(names, RoleIndex(u8::try_from(index).unwrap_or(u8::MAX)));
        check(&name, &effects)?;
        standstill::check_dropped(name, role)?;
        let moved = !effects.writes.is_empty() || !effects.frames.is_empty();
        self.output = effects.output.take().or(self.output.take());
        let added = role.carry_out(&mut effects);
        let Some(state) = self.states.get_mut(index) else { return Ok(moved) };
        let mut store = |job: LocalJob| {
            let (writes, _, result) = job.run(state);
            state.absorb(writes);
            (job.path().clone(), result)
        };
        while role.sync(|write| write.local.map(&mut store)).is_some() {}
        let frames: Vec<Outgoing> = added.map_while(|number| role.acked(number)).collect();
        for Outgoing { frame, .. } in frames {
            if let Some(receiver) = self.roles.get(usize::from(frame.to.0)).and_then(RoleDriver::instance)
                && let Some(delivery) = Delivery::of_cast(&receiver.header(), frame, None)
            {
                receiver.deliver(delivery);
            }
        }
        Ok(moved)
    }
}

/// Returns the index of the role that starts a session, or the reason why it cannot.
pub(crate) fn starter(names: RoleNames, role: &str) -> Result<RoleIndex, String> {
    names.index_of(role).ok_or_else(|| {
        format!("role `{role}` starts the session and is none of its single roles: locate the input at one of them")
    })
}

/// Returns the reason why a role cannot continue, if there is one.
fn check(role: &impl Fn() -> String, effects: &Effects) -> Result<(), Abort> {
    match &effects.stopped {
        // This text names the role.
        Some(stop @ Stop::NoService { .. }) => return Err(Abort::new("accompanist.stopped", stop.to_string())),
        Some(stop) => return Err(Abort::new("accompanist.stopped", format!("at role {}: {stop}", role()))),
        None => {}
    }
    match effects.troubles.iter().flatten().next() {
        Some((path, trouble)) => {
            Err(Abort::new("accompanist.needs-operator", format!("at role {}, {path}: {trouble}", role())))
        }
        None => Ok(()),
    }
}

/// The machine's clock, advanced by the skipped time, and random numbers sufficient for a test.
struct LocalEnvironment {
    chance: AtomicU64,
    skipped_ms: AtomicU64,
}

impl Default for LocalEnvironment {
    fn default() -> Self {
        use std::hash::{BuildHasher, RandomState};
        Self { chance: AtomicU64::new(RandomState::new().hash_one(0)), skipped_ms: AtomicU64::new(0) }
    }
}

impl LocalEnvironment {
    fn skip(&self, ms: u64) {
        let skipped_ms = self.skipped_ms.load(Ordering::Relaxed);
        self.skipped_ms.store(skipped_ms.saturating_add(ms), Ordering::Relaxed);
    }
}

impl Environment for LocalEnvironment {
    fn unix_ms(&self) -> u64 {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let now_ms = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        now_ms.saturating_add(self.skipped_ms.load(Ordering::Relaxed))
    }
    fn monotonic_ms(&self) -> u64 {
        self.unix_ms()
    }
    fn random(&self) -> u64 {
        // SplitMix64 (Steele, Lea, Flood 2014).
        let mut z = self.chance.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}
