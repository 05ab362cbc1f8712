//! A world of nodes in one thread and paused time: the handle that a test's body uses.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use accompanist_core::id::InstanceId;
use accompanist_core::{Abort, Choreography, Compensation, Located, NodeId, SessionId};
use accompanist_transport::{Deafness, FaultyNetwork};
use fastrand::Rng;
use futures_util::FutureExt;
use tokio::task::JoinHandle;

use super::clock::SimulatedClock;
use super::fault_profile::{FaultProfile, between, trouble, up_to};
use super::host::{MonitoredNetwork, MonitoredStore, Power};
use super::late_requests::LateRequests;
use super::recorder::EventRecorder;
use super::trace::{Trace, What};
use crate::error::{SessionError, StartError};
use crate::node::{Node, NodeBuilder};
use crate::runtime::context::{StoppedSession, TroubledSession};
use crate::store::MemoryDisk;

/// How often a condition that is waited for is checked.
const LOOK_PERIOD: Duration = Duration::from_millis(10);
/// The pause before a start is tried again at a node that was down.
const RETRY_PAUSE: Duration = Duration::from_millis(25);

/// The most lines that describe a world that is stuck.
const STANDSTILL_LINES_MAX: usize = 20;
/// How long an instance may take to say what it waits for.
const ANSWER_MAX: Duration = Duration::from_secs(1);

type Describe = Arc<dyn Fn(NodeBuilder) -> NodeBuilder + Send + Sync>;
type Output<C> = <<C as Choreography>::Output as Located>::Value;
type Input<C> = <<C as Choreography>::Input as Located>::Value;

/// One machine: the parts that survive crashes, and its current run.
struct Site {
    disk: MemoryDisk,
    clock: Arc<SimulatedClock>,
    sync: Duration,
    describe: Describe,
    random: Rng,
    power: Power,
    starting: bool,
    node: Option<Node>,
}

struct Inner {
    network: FaultyNetwork,
    rough: FaultProfile,
    recorder: EventRecorder,
    random: Mutex<Rng>,
    /// A separate random generator for which frames are forgotten, so that it affects nothing else, and the most
    /// frames to forget.
    forgetting: Mutex<(Rng, u32)>,
    late_requests: LateRequests,
    sites: Mutex<BTreeMap<NodeId, Site>>,
    trouble: Mutex<Option<JoinHandle<()>>>,
    allows_trouble: Mutex<bool>,
    settled: Mutex<bool>,
}

/// Nodes on machines and a network that fail, all derived from one seed. Clones are the same world.
///
/// The [module](super) describes how worlds are made.
#[derive(Clone)]
pub struct World(Arc<Inner>);

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "World({:?})", self.names())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic in a test's code is reported separately.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl World {
    /// Creates an empty world, in which trouble has begun.
    pub(super) fn new(seed: u64, rough: FaultProfile) -> Self {
        let mut random = Rng::with_seed(seed);
        let rough = rough.drawn(&mut random);
        let network = FaultyNetwork::new(random.u64(..), rough.faults);
        let mut chaos = random.fork();
        let mut forgetting = Rng::with_seed(!seed);
        let forgotten_max = if forgetting.u8(0..4) > 0 { rough.frames_forgotten_max } else { 0 };
        let recorder = EventRecorder::new();
        let (late_max, delay_max) = (rough.late_requests_max, rough.late_request_delay_max);
        let late_requests = LateRequests::new(seed.rotate_left(32), late_max, delay_max, recorder.clone());
        let world = Self(Arc::new(Inner {
            network,
            rough,
            recorder,
            late_requests,
            random: Mutex::new(random),
            forgetting: Mutex::new((forgetting, forgotten_max)),
            sites: Mutex::default(),
            trouble: Mutex::default(),
            allows_trouble: Mutex::new(false),
            settled: Mutex::new(false),
        }));
        *lock(&world.0.trouble) = Some(tokio::spawn(trouble(world.clone(), rough, &mut chaos)));
        world
    }

    fn site<T>(&self, node: &NodeId, with: impl FnOnce(&mut Site) -> T) -> Option<T> {
        lock(&self.0.sites).get_mut(node).map(with)
    }

    /// Fails the test, with the trace up to here.
    #[expect(clippy::panic, reason = "that is how a test fails")]
    fn fail(&self, node: Option<&NodeId>, reason: &dyn Display) -> ! {
        self.0.recorder.fail(node, &reason.to_string());
        panic!("{reason}")
    }

    fn id(&self, name: &str) -> NodeId {
        NodeId::new(name).unwrap_or_else(|error| self.fail(None, &error))
    }

    /// Adds a machine and starts the node on it. `describe` is called at each start: it gives the node its
    /// choreographies, its roles with their services, and settings. Store, network and clock are the world's.
    /// Services that `describe` shares survive all crashes, as external services do.
    ///
    /// # Panics
    /// For an invalid or duplicate name; and when the node cannot be started, with the reason.
    pub async fn add_node(&self, name: &str, describe: impl Fn(NodeBuilder) -> NodeBuilder + Send + Sync + 'static) {
        let (id, rough) = (self.id(name), self.0.rough);
        let site = {
            let mut random = lock(&self.0.random).fork();
            let drift = i32::try_from(rough.drift_ppm_max).unwrap_or(i32::MAX);
            let clock = SimulatedClock::new(random.u64(..)).drifting(random.i32(-drift..=drift));
            clock.set_by(between(&mut random, rough.clock_error_max));
            let sync = up_to(&mut random, rough.sync_max);
            let (disk, clock, describe) = (MemoryDisk::default(), Arc::new(clock), Arc::new(describe));
            Site { disk, clock, sync, describe, random, power: Power::default(), starting: false, node: None }
        };
        if lock(&self.0.sites).insert(id.clone(), site).is_some() {
            self.fail(Some(&id), &"two nodes have this name");
        }
        self.start(&id).await;
    }

    /// Returns the handle with which services report what they have done, if they want to be checked.
    pub fn recorder(&self) -> EventRecorder {
        self.0.recorder.clone()
    }

    /// Returns a number drawn from the seed.
    pub fn draw(&self, range: std::ops::Range<u64>) -> u64 {
        lock(&self.0.random).u64(range)
    }

    /// Returns the nodes' names, in order.
    pub fn names(&self) -> Vec<NodeId> {
        lock(&self.0.sites).keys().cloned().collect()
    }

    /// Returns the node with this name, unless it is down.
    pub fn node(&self, name: &str) -> Option<Node> {
        self.site(&self.id(name), |site| site.node.clone()).flatten()
    }

    /// Returns the node with this name, once it is up.
    pub async fn running(&self, name: &str) -> Node {
        loop {
            if let Some(node) = self.node(name) {
                return node;
            }
            tokio::time::sleep(LOOK_PERIOD).await;
        }
    }

    /// Starts the node of a machine that is down. Waits for a start that is in progress.
    ///
    /// # Panics
    /// When the node cannot be started, with the reason.
    pub async fn start(&self, node: &NodeId) {
        while self.site(node, |site| site.starting) == Some(true) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let power = Power::on();
        let Some(builder) = self.build(node, &power) else { return };
        let started = builder.start().await;
        self.site(node, |site| site.starting = false);
        match started {
            Ok(node) if !power.is_on() => node.kill().await,
            Ok(running) => {
                self.0.recorder.saw(Some(node), What::Runs);
                self.site(node, |site| site.node = Some(running));
            }
            Err(_) if !power.is_on() => {} // The machine has crashed meanwhile.
            Err(error) => self.fail(Some(node), &error),
        }
    }

    /// Returns the builder for the next run of a node; `None` if the node is running.
    fn build(&self, node: &NodeId, power: &Power) -> Option<NodeBuilder> {
        let recorder = &self.0.recorder;
        let mut sites = lock(&self.0.sites);
        let site = sites.get_mut(node).filter(|site| site.node.is_none() && !site.starting)?;
        let store = site.disk.open().unwrap_or_else(|error| self.fail(Some(node), &error));
        recorder.restarts(node, &store);
        let store = MonitoredStore { store, node: node.clone(), recorder: recorder.clone(), unsynced: 0 };
        let delay = up_to(&mut site.random, self.0.rough.join_max);
        let (network, power) = (self.0.network.clone(), power.clone());
        (site.starting, site.power) = (true, power.clone());
        let transport = MonitoredNetwork { network, delay, power, recorder: recorder.clone() };
        let builder = Node::builder(node.clone()).simulated_store(store, site.sync).transport(transport);
        let builder = builder.courier(Arc::new(self.0.late_requests.clone()));
        let mut builder = (site.describe)(builder.environment(site.clock.clone()));
        let (forgetting, frames_max) = &mut *lock(&self.0.forgetting);
        // Otherwise a tombstone could be collected, and then nothing could confirm that all have ended.
        if *frames_max > 0 && builder.keeps_tombstones(Duration::from_mins(1)) {
            let (seed, recorder) = (forgetting.u64(..), Some(recorder.clone()));
            builder = builder.forgetting(seed, *frames_max, recorder).nudging_within(Duration::from_secs(1));
        }
        for choreography in builder.choreographies() {
            recorder.note_roles(choreography.name(), choreography.version(), choreography.roles());
            if choreography.compensation() == Compensation::Backwards {
                recorder.note_backwards(choreography.name());
            }
        }
        Some(builder)
    }

    /// Simulates a power cut: what is not synced is lost, except for a random part. Whole batches survive or are
    /// lost, according to the contract of stores. Does nothing to a machine that is down.
    pub async fn crash(&self, node: &NodeId) {
        let running = self.site(node, |site| {
            if site.power.is_on() {
                let of = site.disk.unsynced();
                let kept = site.random.usize(0..=of);
                site.power.cut();
                site.disk.crash(kept);
                self.0.recorder.crashed(node, kept, of);
            }
            site.node.take()
        });
        if let Some(node) = running.flatten() {
            node.kill().await;
        }
    }

    /// Removes a machine for good, by a power cut: for a node that has [left](crate::Operator::leave). Instances that
    /// were open on its disk are lost, and fail the world at its end. The name cannot be used again.
    ///
    /// # Panics
    /// For a name that no node has.
    pub async fn remove_node(&self, name: &str) {
        let id = self.id(name);
        loop {
            self.crash(&id).await;
            // A start in progress finds that the power is gone.
            match self.site(&id, |site| site.starting) {
                Some(true) => tokio::time::sleep(Duration::from_millis(1)).await,
                Some(false) => break,
                None => self.fail(Some(&id), &"no node has this name"),
            }
        }
        lock(&self.0.sites).remove(&id);
        self.0.recorder.saw(Some(&id), What::Removed);
    }

    /// Loses everything that `from` sends to `to` from now on.
    pub fn cut(&self, from: &NodeId, to: &NodeId) {
        if from != to {
            self.0.recorder.saw(Some(from), What::Cut(to.clone()));
            self.0.network.cut(from, to);
        }
    }

    /// Makes `to` deaf to `from` from now on. That lasts until `from` detects it, or one of the two restarts;
    /// [healing](World::heal) the network does not end it.
    pub fn deafen(&self, from: &NodeId, to: &NodeId, deafness: Deafness) {
        if from != to {
            self.0.recorder.saw(Some(from), What::Deafened(to.clone(), deafness));
            self.0.network.deafen(from, to, deafness);
        }
    }

    /// Ends all cuts.
    pub fn heal(&self) {
        self.0.recorder.saw(None, What::Healed);
        self.0.network.heal();
    }

    /// Sets the wall clock of a node forward or back.
    pub fn set_clock(&self, node: &NodeId, by_ms: i64) {
        self.0.recorder.saw(Some(node), What::ClockSet(by_ms));
        self.site(node, |site| site.clock.set_by(by_ms));
    }

    /// Allows sessions that are stopped or in trouble: they need not end, and do not fail the test.
    pub fn allow_trouble(&self) {
        *lock(&self.0.allows_trouble) = true;
    }

    /// Starts a session under `key` at a node, retrying over all of its crashes, until the session is settled.
    ///
    /// # Errors
    /// The abort, when everything is compensated.
    ///
    /// # Panics
    /// When the session is stopped, or its start is refused for good.
    pub async fn settled<C: Choreography>(&self, node: &str, key: &str, input: Input<C>) -> Result<Output<C>, Abort>
    where
        Input<C>: Clone,
    {
        let name = self.id(node);
        loop {
            match self.running(node).await.start_as::<C>(input.clone()).key(key).await {
                Ok(session) => match self.unless_in_trouble(session.id(), session.settled()).await {
                    Ok(output) => return Ok(output),
                    Err(SessionError::Aborted(abort)) => return Err(abort),
                    Err(SessionError::NodeStopped) => {}
                    Err(error) => self.fail(Some(&name), &format!("the session under key `{key}`: {error}")),
                },
                Err(
                    StartError::NodeStopped
                    | StartError::NobodyPlays { .. }
                    | StartError::NoCommonVersion { .. }
                    | StartError::Overloaded(_)
                    | StartError::QueueTooLong { .. },
                ) => {}
                Err(error) => self.fail(Some(&name), &format!("the session under key `{key}`: {error}")),
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }

    /// Waits for `ended`, unless the session needs an operator at any role: then the test fails, if that is not
    /// allowed.
    async fn unless_in_trouble<T>(&self, session: SessionId, ended: impl Future<Output = T>) -> T {
        let mut ended = std::pin::pin!(ended);
        loop {
            if let Ok(ended) = tokio::time::timeout(LOOK_PERIOD, &mut ended).await {
                return ended;
            }
            if let Some(reason) = self.stuck().get(&session).filter(|_| !*lock(&self.0.allows_trouble)) {
                self.fail(None, reason);
            }
        }
    }

    /// Lets the rest of the trouble happen, repairs everything, and waits until every session has ended at all its
    /// roles; then all invariants are checked. A test makes its own checks after this.
    ///
    /// # Panics
    /// When a session is stopped or in trouble (see [`World::allow_trouble`]).
    pub async fn settle(&self) {
        self.mend().await;
        while !self.is_idle() {
            tokio::time::sleep(LOOK_PERIOD).await;
        }
        self.0.recorder.ended(self.stuck().into_keys());
        *lock(&self.0.settled) = true;
    }

    /// Settles the world as [`World::settle`] does, but waits until `done` returns true: for sessions that never end
    /// by themselves, such as the channels of durable actors. Sessions that are open then need not end.
    ///
    /// # Panics
    /// As [`World::settle`].
    pub async fn settle_when(&self, done: impl AsyncFn() -> bool) {
        self.mend().await;
        while !done().await {
            self.check_trouble();
            tokio::time::sleep(LOOK_PERIOD).await;
        }
        self.check_trouble();
        let open = self.0.recorder.open().into_iter().map(|(_, id)| id.session);
        self.0.recorder.ended(open.chain(self.stuck().into_keys()));
        *lock(&self.0.settled) = true;
    }

    /// Lets the rest of the trouble happen, and repairs everything.
    async fn mend(&self) {
        let trouble = lock(&self.0.trouble).take();
        if let Some(Err(error)) = match trouble {
            Some(trouble) => Some(trouble.await),
            None => None,
        } {
            self.fail(None, &error);
        }
        self.0.network.set_faults(accompanist_transport::Faults { loss: 0.0, ..self.0.rough.faults });
        self.heal();
        for node in self.names() {
            self.start(&node).await;
        }
        self.0.late_requests.end();
        while self.0.late_requests.are_under_way() {
            tokio::time::sleep(LOOK_PERIOD).await;
        }
    }

    /// Fails the test if a session needs an operator, unless that is allowed.
    fn check_trouble(&self) {
        if let Some(reason) = self.stuck().values().next().filter(|_| !*lock(&self.0.allows_trouble)) {
            self.fail(None, reason);
        }
    }

    /// Whether everything that can end has ended, in memory and on the disks.
    fn is_idle(&self) -> bool {
        self.check_trouble();
        let stuck = self.stuck();
        let open = self.0.recorder.open();
        let stuck_at =
            |node: &NodeId| open.iter().filter(|(at, id)| at == node && stuck.contains_key(&id.session)).count();
        // Other roles of a session that needs an operator wait with it.
        let in_memory = lock(&self.0.sites)
            .values()
            .filter_map(|site| site.node.as_ref())
            .any(|node| node.operator().instances() > stuck_at(node.name()));
        !in_memory && open.iter().all(|(_, id)| stuck.contains_key(&id.session))
    }

    /// Returns the sessions that need an operator, with the reasons.
    fn stuck(&self) -> BTreeMap<SessionId, String> {
        let mut stuck = BTreeMap::new();
        for node in lock(&self.0.sites).values().filter_map(|site| site.node.as_ref()) {
            let place = |session, role| {
                let role = self.0.recorder.role_name(InstanceId { session, role });
                format!("role {role} on node `{}`, of session {session},", node.name())
            };
            for StoppedSession { session, role, reason } in node.operator().stopped_sessions() {
                stuck.insert(session, format!("{} is stopped: {reason}", place(session, role)));
            }
            for TroubledSession { session, role, steps } in node.operator().troubled_sessions() {
                let steps: Vec<String> = steps.iter().map(|(path, trouble)| format!("{path}: {trouble}")).collect();
                stuck.insert(session, format!("{} needs an operator at {}", place(session, role), steps.join("; ")));
            }
        }
        stuck
    }

    /// Describes, for all nodes, which instances wait for what, and which nodes are down. At most
    /// [`STANDSTILL_LINES_MAX`] lines.
    pub(super) async fn standstill(&self) -> String {
        let mut lines = Vec::new();
        for name in self.names() {
            let Some(node) = self.site(&name, |site| site.node.clone()).flatten() else {
                lines.push(format!("node `{name}` is down"));
                continue;
            };
            if let Some(error) = node.failed().now_or_never() {
                lines.push(format!("node `{name}` has failed: {error}"));
                continue;
            }
            let open = self.0.recorder.open().into_iter().filter(|(at, _)| *at == name);
            for (_, id) in open.take(STANDSTILL_LINES_MAX + 1) {
                let standing =
                    tokio::time::timeout(ANSWER_MAX, node.operator().instance(id.session, id.role).handle().describe())
                        .await;
                let standing = match standing {
                    Ok(Ok(standing)) => standing,
                    Ok(Err(error)) => format!("gives no answer: {error}"),
                    Err(_) => "gives no answer".into(),
                };
                let role = self.0.recorder.role_name(id);
                lines.push(format!("role {role} on node `{name}`, of session {}, {standing}", id.session));
            }
        }
        let left_out = lines.len().saturating_sub(STANDSTILL_LINES_MAX);
        lines.truncate(STANDSTILL_LINES_MAX);
        match (lines.is_empty(), left_out) {
            (true, _) => "no session is open, so the test itself waits for something".into(),
            (false, 0) => lines.join("\n"),
            (false, left_out) => format!("{}\nand {left_out} more", lines.join("\n")),
        }
    }

    /// Settles, unless the test has done so, and shuts all nodes down.
    pub(super) async fn end(&self) {
        if !*lock(&self.0.settled) {
            self.settle().await;
        }
        let nodes: Vec<Node> = lock(&self.0.sites).values_mut().filter_map(|site| site.node.take()).collect();
        for node in nodes {
            node.shutdown().await;
        }
    }

    /// Takes the trace, and drops the machines of the world, which may hold services that hold the world.
    pub(super) fn take_trace(&self) -> Trace {
        drop(std::mem::take(&mut *lock(&self.0.sites)));
        self.0.recorder.take_trace()
    }
}
