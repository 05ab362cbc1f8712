//! A part: an instance together with its program and its running commits. Parts are what drivers poll.
//!
//! A driver (an actor, the simulator, [`crate::run_local`]) tells a part what happened, gives it a turn, and carries
//! out the effects. This module knows no driver.

mod calls;
mod strays;

use std::any::TypeId;
use std::collections::BTreeSet;
use std::hash::{Hash, Hasher};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::stream::{FuturesUnordered, Stream};

use self::calls::{Calls, FinishedCall, RunningCall};
use crate::base::abort::Abort;
use crate::base::id::{InstanceId, Path, RoleIndex};
use crate::base::located::{Located, Service};
use crate::base::message::{Payload, decode};
use crate::base::panics;
use crate::base::role::{Role, RoleSet, names_of};
use crate::base::role_names::RoleNames;
use crate::contract::{BoxFuture, CallObserver, Change, Environment};
#[cfg(feature = "testing")]
use crate::driver::requests::{Courier, carried};
use crate::frame::{Delivery, Header};
use crate::language::choreography::Choreography;
use crate::language::context::Context as ChoreographyContext;
use crate::language::engine::Engine;
use crate::language::value_of::ValueOf;
#[cfg(feature = "testing")]
use crate::machine::StepSeen;
use crate::machine::{
    Effects, Idle, InspectedWait, Inspection, Job, JobResult, LocalResult, Machine, OutgoingKey, Resolution,
    SessionTrouble, SignalError, Status, followed,
};
use crate::step::Compensation;

/// A choreography's interface for the caller who starts it. Versions with equal interfaces can replace each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interface {
    /// The name of the role that starts the choreography.
    pub initiator: &'static str,
    /// The name of the role family, whose size the caller gives.
    pub family: Option<&'static str>,
    input: TypeId,
    output: TypeId,
}

impl Interface {
    /// Returns the interface of `C`.
    pub fn of<C: Choreography>() -> Self {
        Self {
            initiator: <C::Input as Located>::Role::NAME,
            family: C::Roles::FAMILY,
            input: TypeId::of::<<C::Input as Located>::Value>(),
            output: TypeId::of::<<C::Output as Located>::Value>(),
        }
    }
}

/// A choreography with its type erased, as a node stores it.
pub trait AnyChoreography: Send + Sync {
    /// The name of the choreography.
    fn name(&self) -> &'static str;
    /// The version of the choreography.
    fn version(&self) -> u32;
    /// The names of the roles.
    fn roles(&self) -> RoleNames;
    /// The patches that the code knows.
    fn patches(&self) -> &'static [&'static str];
    /// The order in which the roles compensate their steps.
    fn compensation(&self) -> Compensation;
    /// The interface for the caller who starts it.
    fn interface(&self) -> Interface;
    /// Creates the part for `instance`, ready for its first turn.
    fn part(
        self: Arc<Self>,
        instance: Machine,
        input: Option<Payload>,
        service: Service,
        environment: Arc<dyn Environment>,
        alarm: Arc<TurnWaker>,
    ) -> RoleInstance;
}

impl<C: Choreography> AnyChoreography for C {
    fn name(&self) -> &'static str {
        C::NAME
    }
    fn version(&self) -> u32 {
        C::VERSION
    }
    fn roles(&self) -> RoleNames {
        names_of::<C::Roles>()
    }
    fn patches(&self) -> &'static [&'static str] {
        C::PATCHES
    }
    fn compensation(&self) -> Compensation {
        C::COMPENSATION
    }
    fn interface(&self) -> Interface {
        Interface::of::<C>()
    }
    fn part(
        self: Arc<Self>,
        instance: Machine,
        input: Option<Payload>,
        service: Service,
        environment: Arc<dyn Environment>,
        alarm: Arc<TurnWaker>,
    ) -> RoleInstance {
        let names = names_of::<C::Roles>();
        let instance =
            instance.with_compensation(C::COMPENSATION).stopping_on_oversize(C::STOPS_ON_OVERSIZE).naming(names);
        let engine = Arc::new(Engine::new(names, C::PATCHES, service, environment, instance));
        let program = Box::pin(run(self, engine.clone(), input));
        RoleInstance::new(engine, Some(program), alarm)
    }
}

async fn run<C: Choreography>(
    choreography: Arc<C>,
    engine: Arc<Engine>,
    input: Option<Payload>,
) -> Result<Option<Payload>, Abort> {
    let read = |bytes: Payload| Ok((decode(bytes.as_slice())?, bytes));
    let input = match input.map(read).transpose() {
        Ok(input) => C::Input::place(input),
        Err(error) => return engine.cannot_read(&Path::root(), ValueOf::Input, &error).await,
    };
    let ctx = ChoreographyContext::<C::Roles>::new(engine.clone(), Path::root());
    let output = choreography.run(&ctx, input).await?;
    match output.bytes() {
        Ok(output) => Ok(output),
        Err(error) => engine.cannot_write(&Path::root(), &error).await,
    }
}

/// Notifies a driver that its part needs a turn. Stays silent during a turn.
pub struct TurnWaker {
    rung: AtomicBool,
    in_turn: AtomicBool,
    notify: Box<dyn Fn() + Send + Sync>,
}

impl std::fmt::Debug for TurnWaker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Alarm").field("rung", &self.rung).finish_non_exhaustive()
    }
}

impl TurnWaker {
    /// Creates an alarm that calls `notify`, from any thread, at most once between two turns.
    pub fn new(notify: impl Fn() + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self { rung: AtomicBool::new(false), in_turn: AtomicBool::new(false), notify: Box::new(notify) })
    }
}

impl Wake for TurnWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }
    fn wake_by_ref(self: &Arc<Self>) {
        if !self.rung.swap(true, Ordering::SeqCst) && !self.in_turn.load(Ordering::SeqCst) {
            (self.notify)();
        }
    }
}

type Program = BoxFuture<'static, Result<Option<Payload>, Abort>>;

/// An instance that can be polled.
pub struct RoleInstance {
    engine: Arc<Engine>,
    program: Option<Program>,
    jobs: FuturesUnordered<RunningCall>,
    calls: Calls,
    holds_steps: bool,
    /// The operation that the program has dropped while it waited.
    dropped: Option<Path>,
    /// Whether the program waits in no operation, as of the latest turn.
    awaits_elsewhere: bool,
    /// The wall-clock time since which it does.
    elsewhere_since_unix_ms: Option<u64>,
    alarm: Arc<TurnWaker>,
    /// Who follows the calls of steps.
    observer: Option<Arc<dyn CallObserver>>,
    #[cfg(feature = "testing")]
    courier: Option<Arc<dyn Courier>>,
}

impl RoleInstance {
    /// Creates the part of an instance that an operator has terminated: without a program. It informs the other roles
    /// and waits for the close. All steps it had committed count as compensated, so neither the choreography nor a
    /// service is needed.
    pub fn terminated(instance: Machine, environment: Arc<dyn Environment>, alarm: Arc<TurnWaker>) -> Self {
        // With backwards compensation, the other roles wait for this role's progress; with the other order they
        // ignore it.
        let instance = instance.with_compensation(Compensation::Backwards);
        let engine = Arc::new(Engine::new(RoleNames::default(), &[], Service::none(), environment, instance));
        Self::new(engine, None, alarm)
    }

    fn new(engine: Arc<Engine>, program: Option<Program>, alarm: Arc<TurnWaker>) -> Self {
        Self {
            engine,
            program,
            jobs: FuturesUnordered::new(),
            calls: Calls::default(),
            holds_steps: false,
            dropped: None,
            awaits_elsewhere: false,
            elsewhere_since_unix_ms: None,
            alarm,
            observer: None,
            #[cfg(feature = "testing")]
            courier: None,
        }
    }

    /// Lets `observer` follow the calls that steps make.
    #[must_use]
    pub fn with_observer(mut self, observer: Option<Arc<dyn CallObserver>>) -> Self {
        self.observer = observer;
        self
    }

    /// Lets `courier` decide how the requests of this part's steps travel.
    #[cfg(feature = "testing")]
    #[must_use]
    pub fn with_courier(mut self, courier: Option<Arc<dyn Courier>>) -> Self {
        self.courier = courier;
        self
    }

    /// The identity of the instance.
    pub fn id(&self) -> InstanceId {
        self.engine.instance().id()
    }

    /// The header of the session.
    pub fn header(&self) -> Arc<Header> {
        self.engine.instance().header().clone()
    }

    /// Delivers a received frame; see [`Machine::deliver`].
    pub fn deliver(&self, delivery: Delivery) -> bool {
        self.engine.instance().deliver(delivery)
    }

    /// Reports that a write is durable; see [`Machine::synced`].
    pub fn synced(&mut self, number: u64, local: Option<(Path, LocalResult)>) {
        let mut instance = self.engine.instance();
        if let Some((path, result)) = &local {
            self.calls.local_ended(number, path.clone(), instance.outcome_of_local(path, result));
        }
        instance.synced(number, local);
    }

    /// Reports that a frame was acknowledged; see [`Machine::acked`].
    pub fn acked(&self, key: &OutgoingKey) {
        self.engine.instance().acked(key);
    }

    /// See [`Machine::digest`].
    #[doc(hidden)]
    pub fn digest(&self, hasher: &mut impl Hasher) {
        self.engine.instance().digest(hasher);
        (self.program.is_some(), self.jobs.len()).hash(hasher);
    }

    /// The time at which the next turn is due even if nothing happens, on the clock of [`RoleInstance::turn`].
    pub fn next_wake_ms(&self) -> Option<u64> {
        self.engine.instance().next_wake_ms()
    }

    /// Aborts the session on behalf of the caller; see [`Machine::cancel`].
    pub fn cancel(&self, abort: &Abort) -> Option<u64> {
        self.engine.instance().cancel(abort)
    }

    /// Delivers a signal from outside; see [`Machine::signal`].
    ///
    /// # Errors
    /// As [`Machine::signal`].
    pub fn signal(&self, name: &str, key: &str, payload: Payload) -> Result<u64, SignalError> {
        self.engine.instance().signal(name, key, payload)
    }

    /// Applies an operator's resolution; see [`Machine::resolve`].
    pub fn resolve(&self, resolution: Resolution) -> (usize, u64) {
        self.engine.instance().resolve(resolution)
    }

    /// The view that the program has published; see [`Context::publish`](crate::Context::publish).
    pub fn view(&self) -> Option<Payload> {
        self.engine.instance().view().cloned()
    }

    /// Whether the program has returned, or was dropped because nothing it waits for comes any more.
    pub fn program_has_ended(&self) -> bool {
        self.program.is_none()
    }

    /// The status of the instance; see [`Status`].
    pub fn status(&self) -> Status {
        self.engine.instance().status()
    }

    /// Describes, for people, what the program waits for: operations, and that it awaits something else.
    pub fn waits_for(&self) -> Vec<(Path, String)> {
        let waits = self.engine.instance().waits_for();
        waits.into_iter().chain(self.waits_elsewhere()).collect()
    }

    /// Returns what the part waits for, on whom and since when; see [`Machine::inspect`].
    pub fn inspect(&self) -> Inspection {
        let mut inspection = self.engine.instance().inspect();
        if let Some((path, text)) = self.waits_elsewhere() {
            let since_unix_ms = self.elsewhere_since_unix_ms.unwrap_or(inspection.now_unix_ms);
            inspection.waits.push(InspectedWait::elsewhere(path, text, since_unix_ms));
        }
        inspection
    }

    /// The trouble of the part, and the troubles of the other roles that the initiator knows of; see
    /// [`Machine::named_trouble`] and [`Machine::peer_troubles`].
    pub fn troubles(&self) -> Vec<SessionTrouble> {
        let instance = self.engine.instance();
        instance.named_trouble().into_iter().chain(instance.peer_troubles()).collect()
    }

    /// Describes, for people, what keeps the part from continuing.
    pub fn describe(&self) -> String {
        self.foreign_await_between_turns().unwrap_or_else(|| self.engine.instance().describe())
    }

    /// The time at which the part continues through the passing of time alone; see [`Machine::next_due_ms`].
    pub fn next_due_ms(&self) -> Option<u64> {
        self.engine.instance().next_due_ms()
    }

    /// The steps that the program has reached, for [`crate::testing::lint`].
    #[cfg(feature = "testing")]
    pub(crate) fn steps(&self) -> Vec<StepSeen> {
        self.engine.instance().steps_seen()
    }

    /// Whether the program has drawn a random number or observed anything.
    #[cfg(feature = "testing")]
    pub(crate) fn has_observed(&self) -> bool {
        self.engine.instance().has_observed()
    }

    /// Describes what the program waits for, except waits that have a time limit or end by themselves.
    #[cfg(feature = "testing")]
    pub(crate) fn waits_without_limit(&self) -> Vec<(Path, String)> {
        self.engine.instance().waits_without_limit()
    }

    /// The number of steps whose last call has failed and that are called again.
    pub fn retried_steps(&self) -> usize {
        self.engine.instance().retried_steps()
    }

    /// Whether commits or effects are running, so that something will happen without any message.
    pub fn is_busy(&self) -> bool {
        !self.jobs.is_empty() || self.engine.has_effects()
    }

    /// Starts no further steps on services: no commit, no compensation, no question about an outcome. Running ones
    /// continue. For a driver that is about to stop.
    pub fn hold_steps(&mut self) {
        self.holds_steps = true;
    }

    /// Whether steps on services are running, or have ended without their results being on disk yet.
    pub fn has_steps_under_way(&self) -> bool {
        !self.jobs.is_empty() || self.engine.instance().has_unsynced_results()
    }

    /// Returns what the part waits for, if it may be passivated until then; see [`Machine::idle`].
    pub fn idle(&self) -> Option<Idle> {
        if self.is_busy() { None } else { self.engine.instance().idle() }
    }

    /// Makes the reactivated instance nudge soon; see [`Machine::nudge_soon`].
    pub fn nudge_soon(&self) {
        self.engine.instance().nudge_soon();
    }

    /// Whether the instance has nudged often enough; see [`Machine::has_nudged`].
    pub fn has_nudged(&self) -> bool {
        self.engine.instance().has_nudged()
    }

    /// The record to write before passivation; see [`Machine::passivation`].
    pub fn passivation(&self) -> Option<Change> {
        self.engine.instance().passivation()
    }

    /// The record to write before passivation in order to resend `lacking`; see [`Machine::passivation_without`].
    pub fn passivation_without(&self, lacking: &BTreeSet<(Path, RoleIndex)>) -> Option<Change> {
        self.engine.instance().passivation_without(lacking)
    }

    /// A waker that rings the alarm, for the driver's own timer.
    pub fn waker(&self) -> Waker {
        self.alarm.clone().into()
    }

    /// Runs the program and its commits as far as they can go, and returns what must be done. A panic in a user's
    /// code propagates from here, with a text that names role, step and path; the part must not be used afterwards.
    pub fn turn(&mut self, now_ms: u64) -> Effects {
        let waker = self.waker();
        let mut cx = Context::from_waker(&waker);
        self.alarm.in_turn.store(true, Ordering::SeqCst);
        loop {
            self.alarm.rung.store(false, Ordering::SeqCst);
            self.poll_program(&mut cx);
            let unix_ms = self.engine.environment().unix_ms();
            self.engine.instance().settle(now_ms, unix_ms);
            self.poll_jobs(&mut cx, now_ms);
            if !self.alarm.rung.load(Ordering::SeqCst) {
                break;
            }
        }
        self.note_foreign_await();
        self.alarm.in_turn.store(false, Ordering::SeqCst);
        if self.alarm.rung.load(Ordering::SeqCst) {
            (self.alarm.notify)(); // The alarm rang after the last check.
        }
        let mut effects = self.engine.instance().take_effects();
        effects.calls = self.calls.take(now_ms, &effects.writes);
        if let Some(observer) = &self.observer {
            let locals = effects.writes.iter_mut().filter_map(|write| write.local.as_mut());
            locals.for_each(|local| local.observe(observer));
        }
        effects
    }

    /// Drops the part piece by piece, so that a user's value that panics when dropped affects nothing else. Returns
    /// the messages of such panics.
    pub fn discard(self) -> Vec<String> {
        let Self { engine, program, jobs, .. } = self;
        let mut panics = Vec::new();
        panics.extend(panics::catch(|| drop(program)).err());
        panics.extend(jobs.into_iter().filter_map(|job| panics::catch(|| drop(job)).err()));
        panics.extend(panics::catch(|| drop(engine)).err());
        panics
    }

    fn poll_program(&mut self, cx: &mut Context<'_>) {
        let Some(program) = &mut self.program else { return };
        let polled = panics::named(|| program.as_mut().poll(cx), |panic| self.engine.program_panicked(panic));
        match polled {
            Poll::Ready(result) => {
                self.program = None;
                if result.is_ok() {
                    self.note_dropped_operation();
                }
                self.engine.instance().program_ended(result);
            }
            Poll::Pending if self.alarm.rung.load(Ordering::SeqCst) => self.note_dropped_operation(),
            // None of the program's own tasks can complete what it waits for now.
            Poll::Pending => {
                self.note_dropped_operation();
                let mut instance = self.engine.instance();
                instance.check_replay();
                if instance.program_is_spent() {
                    instance.program_dropped();
                    drop(instance);
                    self.program = None;
                } else {
                    instance.spend_sagas();
                }
            }
        }
    }

    fn begun(&self, job: Job, since_ms: u64) -> RunningCall {
        let step = job.name.clone();
        let observed = self.observer.as_ref().and_then(|observer| job.observed(observer.as_ref()));
        let work = self.carried_out(job);
        let call = match observed {
            Some(observed) => followed(observed, work),
            None => work,
        };
        RunningCall { call, step, since_ms }
    }

    fn carried_out(&self, job: Job) -> BoxFuture<'static, (Path, JobResult)> {
        #[cfg(feature = "testing")]
        if let Some(courier) = &self.courier {
            return carried(courier.as_ref(), self.id(), job);
        }
        let _ = self;
        job.run()
    }

    fn poll_jobs(&mut self, cx: &mut Context<'_>, now_ms: u64) {
        let ready = if self.holds_steps { Vec::new() } else { self.engine.instance().take_jobs() };
        for job in ready {
            self.jobs.push(self.begun(job, now_ms));
        }
        while let Poll::Ready(Some(ended)) = Pin::new(&mut self.jobs).poll_next(cx) {
            let FinishedCall { path, result, step, since_ms } = ended;
            let mut instance = self.engine.instance();
            let outcome = instance.outcome_of(&path, &result);
            instance.job_ended(&path, result);
            drop(instance);
            self.calls.ended(path, step, outcome, now_ms.saturating_sub(since_ms));
            // The result may let the program, or the saga, continue.
            self.alarm.rung.store(true, Ordering::SeqCst);
        }
    }
}
