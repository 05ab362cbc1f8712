//! An instance together with its program and its running commits: the thing that is polled.
//!
//! A driver (an actor, the simulator, [`crate::run_local`]) tells a part what happened, gives it a turn, and
//! carries out the effects. Knows no driver.

use std::any::TypeId;
use std::collections::BTreeSet;
use std::hash::{Hash, Hasher};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::stream::{FuturesUnordered, Stream};

use crate::abort::Abort;
use crate::choreography::{Choreography, Compensation};
use crate::context::Context as ChoreographyContext;
use crate::contract::{BoxFuture, Change, Environment};
use crate::engine::Engine;
use crate::frame::{Delivery, Header};
use crate::id::{InstanceId, Path, RoleIndex};
#[cfg(feature = "testing")]
use crate::instance::StepSeen;
use crate::instance::{Effects, Idle, Instance, Job, JobResult, LocalResult, OutgoingKey, Remedy, SignalError, Status};
use crate::located::{Located, Service};
use crate::message::{Payload, decode};
use crate::panics;
#[cfg(feature = "testing")]
use crate::requests::{Courier, carried};
use crate::role::{Role, RoleSet};

/// What a choreography is to a caller who starts it. Versions with the same one can stand in for each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interface {
    /// The name of the role that starts it.
    pub initiator: &'static str,
    input: TypeId,
    output: TypeId,
}

impl Interface {
    /// That of `C`.
    pub fn of<C: Choreography>() -> Self {
        Self {
            initiator: <C::Input as Located>::Role::NAME,
            input: TypeId::of::<<C::Input as Located>::Value>(),
            output: TypeId::of::<<C::Output as Located>::Value>(),
        }
    }
}

/// A choreography without its type, as a node keeps it.
pub trait AnyChoreography: Send + Sync {
    /// Its name.
    fn name(&self) -> &'static str;
    /// Its version.
    fn version(&self) -> u32;
    /// Its roles, by index.
    fn roles(&self) -> &'static [&'static str];
    /// The small changes its code knows.
    fn patches(&self) -> &'static [&'static str];
    /// In which order its roles take back their steps.
    fn compensation(&self) -> Compensation;
    /// What a caller who starts it has to do with.
    fn interface(&self) -> Interface;
    /// The part that `instance` is, ready for its first turn.
    fn part(
        self: Arc<Self>,
        instance: Instance,
        input: Option<Payload>,
        service: Service,
        environment: Arc<dyn Environment>,
        alarm: Arc<Alarm>,
    ) -> Part;
}

impl<C: Choreography> AnyChoreography for C {
    fn name(&self) -> &'static str {
        C::NAME
    }
    fn version(&self) -> u32 {
        C::VERSION
    }
    fn roles(&self) -> &'static [&'static str] {
        C::Roles::NAMES
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
        instance: Instance,
        input: Option<Payload>,
        service: Service,
        environment: Arc<dyn Environment>,
        alarm: Arc<Alarm>,
    ) -> Part {
        let role = C::Roles::NAMES.get(usize::from(instance.id().role.0)).copied().unwrap_or_default();
        let instance =
            instance.with_compensation(C::COMPENSATION).standing_still(C::STANDS_STILL).naming(C::Roles::NAMES);
        let engine = Arc::new(Engine::new(role, C::Roles::NAMES, C::PATCHES, service, environment, instance));
        let program = Box::pin(run(self, engine.clone(), input));
        Part::new(engine, Some(program), alarm)
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
        Err(error) => return engine.cannot_read(&Path::root(), &error).await,
    };
    let ctx = ChoreographyContext::<C::Roles>::new(engine.clone(), Path::root());
    let output = choreography.run(&ctx, input).await?;
    match output.bytes() {
        Ok(output) => Ok(output),
        Err(error) => engine.cannot_write(&Path::root(), &error).await,
    }
}

/// Tells a driver that its part wants a turn; silent while the part has one.
pub struct Alarm {
    rung: AtomicBool,
    in_turn: AtomicBool,
    notify: Box<dyn Fn() + Send + Sync>,
}

impl std::fmt::Debug for Alarm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Alarm").field("rung", &self.rung).finish_non_exhaustive()
    }
}

impl Alarm {
    /// An alarm that calls `notify`, from any thread, at most once between two turns.
    pub fn new(notify: impl Fn() + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self { rung: AtomicBool::new(false), in_turn: AtomicBool::new(false), notify: Box::new(notify) })
    }
}

impl Wake for Alarm {
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
pub struct Part {
    engine: Arc<Engine>,
    program: Option<Program>,
    jobs: FuturesUnordered<BoxFuture<'static, (Path, JobResult)>>,
    holds_steps: bool,
    alarm: Arc<Alarm>,
    #[cfg(feature = "testing")]
    courier: Option<Arc<dyn Courier>>,
}

impl Part {
    /// The part of an instance that an operator has ended without its program: it tells the others, and waits for the
    /// close. All that it had committed counts as taken back, so neither the choreography nor a service is needed.
    pub fn terminated(instance: Instance, environment: Arc<dyn Environment>, alarm: Arc<Alarm>) -> Self {
        // Roles that go backwards wait for its word; to others it means nothing.
        let instance = instance.with_compensation(Compensation::Backwards);
        let engine = Arc::new(Engine::new("", &[], &[], Service::none(), environment, instance));
        Self::new(engine, None, alarm)
    }

    fn new(engine: Arc<Engine>, program: Option<Program>, alarm: Arc<Alarm>) -> Self {
        Self {
            engine,
            program,
            jobs: FuturesUnordered::new(),
            holds_steps: false,
            alarm,
            #[cfg(feature = "testing")]
            courier: None,
        }
    }

    /// The requests of its steps travel as `courier` decides.
    #[cfg(feature = "testing")]
    #[must_use]
    pub fn with_courier(mut self, courier: Option<Arc<dyn Courier>>) -> Self {
        self.courier = courier;
        self
    }

    /// Which instance this is.
    pub fn id(&self) -> InstanceId {
        self.engine.instance().id()
    }

    /// The header of its session.
    pub fn header(&self) -> Arc<Header> {
        self.engine.instance().header().clone()
    }

    /// A frame has arrived; see [`Instance::deliver`].
    pub fn deliver(&self, delivery: Delivery) -> bool {
        self.engine.instance().deliver(delivery)
    }

    /// A write is durable; see [`Instance::synced`].
    pub fn synced(&self, number: u64, local: Option<(Path, LocalResult)>) {
        self.engine.instance().synced(number, local);
    }

    /// A frame was acknowledged; see [`Instance::acked`].
    pub fn acked(&self, key: &OutgoingKey) {
        self.engine.instance().acked(key);
    }

    /// See [`Instance::digest`].
    #[doc(hidden)]
    pub fn digest(&self, hasher: &mut impl Hasher) {
        self.engine.instance().digest(hasher);
        (self.program.is_some(), self.jobs.len()).hash(hasher);
    }

    /// When the next turn is due though nothing happens, on the clock of [`Part::turn`].
    pub fn next_wake_ms(&self) -> Option<u64> {
        self.engine.instance().next_wake_ms()
    }

    /// The caller aborts the session; see [`Instance::cancel`].
    pub fn cancel(&self, abort: &Abort) -> Option<u64> {
        self.engine.instance().cancel(abort)
    }

    /// Someone outside says something to this role; see [`Instance::signal`].
    ///
    /// # Errors
    /// As there.
    pub fn signal(&self, name: &str, key: &str, payload: Payload) -> Result<u64, SignalError> {
        self.engine.instance().signal(name, key, payload)
    }

    /// An operator has looked; see [`Instance::remedy`].
    pub fn remedy(&self, remedy: Remedy) -> (usize, u64) {
        self.engine.instance().remedy(remedy)
    }

    /// What the program shows of its progress; see [`Context::publish`](crate::Context::publish).
    pub fn view(&self) -> Option<Payload> {
        self.engine.instance().view().cloned()
    }

    /// Whether the program has come to its end, or was dropped where nothing more comes.
    pub fn program_has_ended(&self) -> bool {
        self.program.is_none()
    }

    /// Where it stands; see [`Status`].
    pub fn status(&self) -> Status {
        self.engine.instance().status()
    }

    /// What the program waits for, for people.
    pub fn waits_for(&self) -> Vec<(Path, String)> {
        self.engine.instance().waits_for()
    }

    /// What keeps it from going on, for people.
    pub fn standing(&self) -> String {
        self.engine.instance().standing()
    }

    /// Whether its program waits for something that is no operation, of which nobody here knows whether it comes.
    pub(crate) fn waits_for_something_else(&self) -> bool {
        self.program.is_some() && self.engine.instance().waits_for().is_empty()
    }

    /// When time alone brings it on; see [`Instance::next_due_ms`].
    pub fn next_due_ms(&self) -> Option<u64> {
        self.engine.instance().next_due_ms()
    }

    /// The steps its program has come to, for [`crate::testing::lint`].
    #[cfg(feature = "testing")]
    pub(crate) fn steps(&self) -> Vec<StepSeen> {
        self.engine.instance().steps_seen()
    }

    /// Whether its program has drawn or observed anything.
    #[cfg(feature = "testing")]
    pub(crate) fn has_observed(&self) -> bool {
        self.engine.instance().has_observed()
    }

    /// What the program waits for, but for what has a time limit or comes about by itself.
    #[cfg(feature = "testing")]
    pub(crate) fn waits_without_limit(&self) -> Vec<(Path, String)> {
        self.engine.instance().waits_without_limit()
    }

    /// Whether commits or effects are under way, so that something happens though nobody says anything.
    pub fn is_busy(&self) -> bool {
        !self.jobs.is_empty() || self.engine.has_effects()
    }

    /// From now on no step on a service begins: no commit, no compensation, no question what became of one. Those under way
    /// go on. For a driver that is about to stop.
    pub fn hold_steps(&mut self) {
        self.holds_steps = true;
    }

    /// Whether steps on services are under way, or have ended and their results are not on disk yet.
    pub fn has_steps_under_way(&self) -> bool {
        !self.jobs.is_empty() || self.engine.instance().has_unsynced_results()
    }

    /// What it waits for, if it may leave memory until then; see [`Instance::idle`].
    pub fn idle(&self) -> Option<Idle> {
        if self.is_busy() { None } else { self.engine.instance().idle() }
    }

    /// It has come back to nudge; see [`Instance::nudge_soon`].
    pub fn nudge_soon(&self) {
        self.engine.instance().nudge_soon();
    }

    /// See [`Instance::has_nudged`].
    pub fn has_nudged(&self) -> bool {
        self.engine.instance().has_nudged()
    }

    /// See [`Instance::rest`].
    pub fn rest(&self) -> Option<Change> {
        self.engine.instance().rest()
    }

    /// See [`Instance::rest_without`].
    pub fn rest_without(&self, lacking: &BTreeSet<(Path, RoleIndex)>) -> Option<Change> {
        self.engine.instance().rest_without(lacking)
    }

    /// A waker that rings the alarm: for the driver's own timer.
    pub fn waker(&self) -> Waker {
        self.alarm.clone().into()
    }

    /// Lets the program and its commits go as far as they can, and says what is to be done. A panic in a user's
    /// code comes out here, with a text that names role, step and path; the part is then of no more use.
    pub fn turn(&mut self, now_ms: u64) -> Effects {
        let waker = self.waker();
        let mut cx = Context::from_waker(&waker);
        self.alarm.in_turn.store(true, Ordering::SeqCst);
        loop {
            self.alarm.rung.store(false, Ordering::SeqCst);
            self.poll_program(&mut cx);
            let unix_ms = self.engine.environment().unix_ms();
            self.engine.instance().settle(now_ms, unix_ms);
            self.poll_jobs(&mut cx);
            if !self.alarm.rung.load(Ordering::SeqCst) {
                break;
            }
        }
        self.alarm.in_turn.store(false, Ordering::SeqCst);
        if self.alarm.rung.load(Ordering::SeqCst) {
            (self.alarm.notify)(); // It rang between the last look and now.
        }
        self.engine.instance().take_effects()
    }

    /// Drops it piece by piece, so that a value of a user's whose drop panics takes nothing else with it. Gives what the
    /// panics said.
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
                self.engine.instance().program_ended(result);
            }
            Poll::Pending if self.alarm.rung.load(Ordering::SeqCst) => {}
            // What it waits for now, none of its own tasks brings about.
            Poll::Pending => {
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

    fn begun(&self, job: Job) -> BoxFuture<'static, (Path, JobResult)> {
        #[cfg(feature = "testing")]
        if let Some(courier) = &self.courier {
            return carried(courier.as_ref(), self.id(), job);
        }
        let _ = self;
        job.run()
    }

    fn poll_jobs(&mut self, cx: &mut Context<'_>) {
        let ready = if self.holds_steps { Vec::new() } else { self.engine.instance().take_jobs() };
        for job in ready {
            self.jobs.push(self.begun(job));
        }
        while let Poll::Ready(Some((path, result))) = Pin::new(&mut self.jobs).poll_next(cx) {
            self.engine.instance().job_ended(&path, result);
            // What ended may let the program, or the saga, go on.
            self.alarm.rung.store(true, Ordering::SeqCst);
        }
    }
}
