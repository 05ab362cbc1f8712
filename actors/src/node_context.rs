//! The parts of a node that are not actors, shared by all of its actors.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};

use accompanist_core::contract::{Environment, Wire};
#[cfg(feature = "testing")]
use accompanist_core::frame::Frame;
use accompanist_core::frame::{Advertisement, Body, Delivery, Header, OfferedChoreography};
use accompanist_core::id::{InstanceId, RoleIndex};
use accompanist_core::machine::Limits;
use accompanist_core::record::StepFailure;
use accompanist_core::role_instance::AnyChoreography;
use accompanist_core::{NodeId, Path, Services, SessionId, panics};
use metrics::counter;
use ractor::ActorRef;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::task::{JoinError, JoinHandle};

use crate::actor::Outbound;
use crate::dead_letters::{DeadLetters, is_letter};
use crate::directory::Directory;
use crate::dropped::Dropped;
use crate::error::StartError;
use crate::instance_supervisor::SupervisorMessage;
use crate::latch::Latch;
use crate::link::{Arrival, LinkHandle, LinkMessage, QueueDelay, Waiting};
use crate::members::watch::CurrentMembers;
use crate::metric;
use crate::node::{Attach, End};
use crate::nudged::Nudged;
use crate::peers::Peers;
use crate::seal::Seal;
use crate::settings::Settings;
use crate::under_way::UnderWay;
use crate::writer::{Incarnation, Job, WriterHandle};

/// A session that is stopped on a node until an operator acts.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoppedSession {
    /// The session.
    pub session: SessionId,
    /// The role whose part is stopped.
    pub role: RoleIndex,
    /// The reason.
    pub reason: String,
}

/// A session that continues only with an operator's help; see
/// [`Operator::troubled_sessions`](crate::Operator::troubled_sessions).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TroubledSession {
    /// The session.
    pub session: SessionId,
    /// The role whose steps are in trouble.
    pub role: RoleIndex,
    /// The steps, with the problem of each.
    pub steps: Vec<(Path, StepFailure)>,
}

/// A node's progress in recovering what was open when it started; see
/// [`Operator::recovery`](crate::Operator::recovery).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Recovery {
    /// The number of role instances recovered so far.
    pub instances: u64,
    /// Whether those are all.
    pub finished: bool,
}

/// The parts of a node that are not actors, and the references to the actors of its current tree.
pub(crate) struct NodeContext {
    pub(crate) node: NodeId,
    pub(crate) settings: Settings,
    pub(crate) environment: Arc<dyn Environment>,
    pub(crate) choreographies: BTreeMap<(String, u32), Arc<dyn AnyChoreography>>,
    pub(crate) services: Services,
    pub(crate) roles: Vec<&'static str>,
    pub(crate) writer: WriterHandle,
    pub(crate) directory: Directory,
    pub(crate) peers: Peers,
    /// The rights of the members; without it everyone may do everything.
    pub(crate) members: Option<CurrentMembers>,
    /// The outbound mailbox of durable actors.
    pub(crate) outbound: Arc<Outbound>,
    pub(crate) dead_letters: DeadLetters,
    dropped: Dropped,
    pub(crate) nudged: Nudged,
    /// A permit for each call on an instance that waits for its answer.
    pub(crate) askers: Semaphore,
    pub(crate) stopped: Mutex<BTreeMap<InstanceId, String>>,
    pub(crate) troubled: Mutex<BTreeMap<InstanceId, Vec<(Path, StepFailure)>>>,
    recovery: Mutex<Recovery>,
    /// The running steps on services.
    pub(crate) under_way: Arc<UnderWay>,
    /// The packets that have arrived and wait for the link.
    pub(crate) waiting: Arc<Waiting>,
    /// The runtime that the node was started on.
    pub(crate) runtime: Handle,
    /// Held while the actors are being stopped.
    pub(crate) stopping: tokio::sync::Mutex<()>,
    /// Set when the node no longer runs.
    pub(crate) end: Latch<End>,
    incarnations: AtomicU64,
    /// The current acknowledgement latency of the nodes; see [`NodeContext::limits`].
    ack_latency_ms: AtomicU64,
    queue_delay: Mutex<QueueDelay>,
    /// The permits for starts that run at the same time; further starts wait for their turn.
    pub(crate) starts: Semaphore,
    link: RwLock<Option<LinkHandle>>,
    supervisor_actor: RwLock<Option<ActorRef<SupervisorMessage>>>,
    link_task: Mutex<Option<JoinHandle<()>>>,
    attached: OnceLock<Vec<Arc<dyn Attach>>>,
    #[cfg(feature = "testing")]
    forgetting: Mutex<Option<crate::testing::Forgetting>>,
    #[cfg(feature = "testing")]
    courier: Mutex<Option<Arc<dyn crate::testing::Courier>>>,
    /// The only strong reference: an event for the supervisor may keep the state of a killed actor alive.
    wire: Mutex<Option<Arc<dyn Wire>>>,
}

/// The room that a start occupies until its instance is in memory and counted there.
pub(crate) struct Admission(Arc<NodeContext>);

impl Drop for Admission {
    fn drop(&mut self) {
        self.0.directory.started();
    }
}

impl NodeContext {
    #[expect(clippy::too_many_arguments, reason = "called once, by the builder")]
    pub(crate) fn new(
        node: NodeId,
        settings: Settings,
        environment: Arc<dyn Environment>,
        choreographies: BTreeMap<(String, u32), Arc<dyn AnyChoreography>>,
        services: Services,
        roles: Vec<&'static str>,
        writer: WriterHandle,
        peers: Peers,
        members: Option<CurrentMembers>,
        outbound: Arc<Outbound>,
        dead_letters: DeadLetters,
    ) -> Self {
        let askers = Semaphore::new(settings.callers_max.min(Semaphore::MAX_PERMITS));
        Self {
            node,
            settings,
            environment,
            choreographies,
            services,
            roles,
            writer,
            directory: Directory::default(),
            peers,
            members,
            outbound,
            dead_letters,
            dropped: Dropped::default(),
            nudged: Nudged::default(),
            askers,
            stopped: Mutex::default(),
            troubled: Mutex::default(),
            recovery: Mutex::default(),
            under_way: Arc::default(),
            waiting: Arc::default(),
            runtime: Handle::current(),
            stopping: tokio::sync::Mutex::default(),
            end: Latch::default(),
            attached: OnceLock::new(),
            incarnations: AtomicU64::new(0),
            ack_latency_ms: AtomicU64::new(0),
            queue_delay: Mutex::default(),
            starts: Semaphore::new(STARTS_AT_ONCE),
            link: RwLock::default(),
            supervisor_actor: RwLock::default(),
            link_task: Mutex::default(),
            #[cfg(feature = "testing")]
            forgetting: Mutex::default(),
            #[cfg(feature = "testing")]
            courier: Mutex::default(),
            wire: Mutex::default(),
        }
    }

    /// Admits a start if there is room in memory and on disk.
    pub(crate) fn admit(self: &Arc<Self>) -> Result<Admission, StartError> {
        let Settings { open_max, instances_max, .. } = self.settings;
        if self.under_way.is_ending() {
            return Err(StartError::NodeStopped);
        }
        if self.is_disk_full() {
            return Err(StartError::TooManyOpen(open_max));
        }
        // A limit of one instance admits that one.
        let limit = instances_max.div_ceil(2);
        if self.directory.admit(limit) { Ok(Admission(self.clone())) } else { Err(StartError::Overloaded(limit)) }
    }

    /// Returns whether the limit of open instances in the store is reached.
    pub(crate) fn is_disk_full(&self) -> bool {
        self.writer.open().count >= self.settings.open_max
    }

    pub(crate) fn set_attached(&self, attached: Vec<Arc<dyn Attach>>) {
        let _ = self.attached.set(attached); // Set once, by the start.
    }

    pub(crate) fn attached(&self) -> &[Arc<dyn Attach>] {
        self.attached.get().map_or(&[], Vec::as_slice)
    }

    pub(crate) fn recovery(&self) -> Recovery {
        *self.recovery.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn note_recovery(&self, recovery: Recovery) {
        *self.recovery.lock().unwrap_or_else(PoisonError::into_inner) = recovery;
    }

    pub(crate) fn next_incarnation(&self) -> Incarnation {
        Incarnation(self.incarnations.fetch_add(1, Ordering::SeqCst))
    }

    pub(crate) fn queue_delay(&self) -> MutexGuard<'_, QueueDelay> {
        self.queue_delay.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a frame has reached its instance, or was found to have no receiver.
    pub(crate) fn note_taken(&self, delivery: &Delivery) {
        if let Some(receipt) = &delivery.receipt {
            self.queue_delay().taken(&Arrival::Frame(receipt.clone()));
        }
    }

    pub(crate) fn note_patience(&self, ack_latency_ms: u64) {
        self.ack_latency_ms.store(ack_latency_ms, Ordering::Relaxed);
    }

    /// Returns the limits of an instance that is created now.
    pub(crate) fn limits(&self) -> Limits {
        nudge_limits(&self.settings.limits, self.ack_latency_ms.load(Ordering::Relaxed))
    }

    pub(crate) fn now_ms(&self) -> u64 {
        self.environment.monotonic_ms()
    }

    pub(crate) fn set_link(&self, link: Option<LinkHandle>) {
        *self.link.write().unwrap_or_else(PoisonError::into_inner) = link;
    }

    pub(crate) fn set_link_task(&self, task: JoinHandle<()>) {
        *self.link_task.lock().unwrap_or_else(PoisonError::into_inner) = Some(task);
    }

    pub(crate) fn set_wire(&self, wire: Option<Arc<dyn Wire>>) {
        let before = std::mem::replace(&mut *self.wire.lock().unwrap_or_else(PoisonError::into_inner), wire);
        if let Err(panic) = panics::catch(|| drop(before)) {
            tracing::error!(reason = panic, "the wire panicked when it was dropped");
        }
    }

    /// Waits until the stopped link has ended, then leaves the network, so that another node of the same name can
    /// join.
    pub(crate) async fn link_left(&self) {
        let task = self.link_task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task {
            // An error means that the task panicked; it has ended, too.
            if let Err(Ok(panic)) = task.await.map_err(JoinError::try_into_panic) {
                drop(panics::text(panic));
            }
        }
        self.set_wire(None);
    }

    pub(crate) fn set_roles(&self, roles: Option<ActorRef<SupervisorMessage>>) {
        *self.supervisor_actor.write().unwrap_or_else(PoisonError::into_inner) = roles;
    }

    /// Sends a message to the link. Without a link (between two trees) the message is lost, as on the wire.
    pub(crate) fn to_link(&self, message: LinkMessage) {
        let link = self.link.read().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(link) = link {
            link.tell(message); // A link that has just failed loses the message, as the wire would.
        }
    }

    /// Sends a message to the supervisor of roles; returns whether there is one.
    pub(crate) fn to_supervisor(&self, message: SupervisorMessage) -> bool {
        let roles = self.supervisor_actor.read().unwrap_or_else(PoisonError::into_inner).clone();
        roles.is_some_and(|roles| roles.cast(message).is_ok())
    }

    #[cfg(feature = "testing")]
    pub(crate) fn set_faults(
        &self,
        forgetting: Option<crate::testing::Forgetting>,
        courier: Option<Arc<dyn crate::testing::Courier>>,
    ) {
        *self.forgetting.lock().unwrap_or_else(PoisonError::into_inner) = forgetting;
        *self.courier.lock().unwrap_or_else(PoisonError::into_inner) = courier;
    }

    /// Returns the courier that decides how the requests of steps travel.
    #[cfg(feature = "testing")]
    pub(crate) fn courier(&self) -> Option<Arc<dyn crate::testing::Courier>> {
        self.courier.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns whether this frame counts as acknowledged and is never sent.
    #[cfg(feature = "testing")]
    pub(crate) fn forgets(&self, frame: &Frame) -> bool {
        let mut forgetting = self.forgetting.lock().unwrap_or_else(PoisonError::into_inner);
        forgetting.as_mut().is_some_and(|forgetting| forgetting.strikes(frame))
    }

    /// Returns this node's advertisement: to all nodes, which are asked to answer with theirs, or to one.
    pub(crate) fn advertisement(&self, to: Option<&NodeId>) -> Advertisement {
        let advertisement = advertisement_of(&self.roles, &self.choreographies, to.is_none());
        self.peers.complete(advertisement, to, self.writer.batch(), self.now_ms())
    }

    /// Returns the choreography of this header, if it is known and fits, and the name of the role.
    pub(crate) fn choreography_of(
        &self,
        header: &Header,
        role: RoleIndex,
    ) -> Result<(Arc<dyn AnyChoreography>, &'static str), String> {
        let Header { choreography: name, version, cast, .. } = header;
        let known = self.choreographies.get(&(name.clone(), *version));
        let choreography = known.ok_or_else(|| {
            format!("choreography `{name}` version {version} is not known here: it waits for a release that has it")
        })?;
        if let Some(patch) = header.patches.iter().find(|patch| !choreography.patches().contains(&patch.as_str())) {
            return Err(format!(
                "patch `{patch}` of `{name}` version {version} is not known here: it waits for a release that has it"
            ));
        }
        let roles = choreography.roles();
        if roles.len() != cast.len() || header.initiator.0 as usize >= cast.len() {
            return Err(format!("`{name}` version {version} has {} roles here, {} there", roles.len(), cast.len()));
        }
        let role_name = roles.get(usize::from(role.0)).copied();
        let role_name = role_name.ok_or_else(|| format!("`{name}` version {version} has no role {}", role.0))?;
        if header.node_of(role) != Some(&self.node) || !self.roles.contains(&role_name) {
            return Err(format!("role `{role_name}` of `{name}` is not played by node `{}`", self.node));
        }
        Ok((choreography.clone(), role_name))
    }

    /// Counts a dropped packet or frame, and logs some of them.
    pub(crate) fn note_dropped(&self, reason: &'static str, detail: impl FnOnce() -> String) {
        self.dropped.note(reason, self.now_ms(), detail);
    }

    /// Returns whether the members file allows a session that begins here. In a choreography that is not known here
    /// no node plays a role.
    pub(crate) fn is_allowed(&self, header: &Header) -> bool {
        let Some(members) = &self.members else { return true };
        let known = self.choreographies.get(&(header.choreography.clone(), header.version));
        let roles = known.map(|choreography| choreography.roles()).unwrap_or_default();
        let refusal = members.get().refusal(header, roles);
        if let Some(refusal) = &refusal {
            self.note_dropped("not allowed", || format!("by the members file: {refusal}"));
        }
        refusal.is_none()
    }

    /// Returns whether `node` belongs to the system; true without a members file.
    pub(crate) fn is_member(&self, node: &NodeId) -> bool {
        self.members.as_ref().is_none_or(|members| members.get().has(node))
    }

    /// Returns the keys that packets are sealed with, if this node seals.
    pub(crate) fn seal(&self) -> Option<Arc<Seal>> {
        self.members.as_ref().and_then(CurrentMembers::seal)
    }

    /// Returns whether `node` may play `role`; true without a members file.
    pub(crate) fn may_play(&self, node: &NodeId, role: &str) -> bool {
        self.members.as_ref().is_none_or(|members| members.get().may_play(node, role))
    }

    /// Returns whether `node` is an operator's, so that its statements about other nodes are believed; false without
    /// a members file.
    pub(crate) fn is_operator(&self, node: &NodeId) -> bool {
        self.members.as_ref().is_some_and(|members| members.get().is_operator(node))
    }

    /// Counts a frame that a node sent for a role that it does not play in the session.
    pub(crate) fn note_not_of_cast(&self, Delivery { from, frame, .. }: &Delivery) {
        let (id, role) = (frame.receiver(), frame.from.0);
        self.note_dropped("not of the cast", || format!("{id}: {from} speaks for role {role}, which it does not play"));
    }

    /// Returns whether this is a nudge of a peer whose nudges may create no more sessions.
    pub(crate) fn is_nudge_too_many(&self, delivery: &Delivery) -> bool {
        let is_nudge = matches!(delivery.frame.body, Body::Nudge(_)) && delivery.from != self.node;
        is_nudge && self.nudged.is_full(&delivery.from, self.settings.nudged_sessions_max)
    }

    /// Keeps a frame that could not be handled as a dead letter; its sender resends it, too.
    pub(crate) fn note_dead(self: &Arc<Self>, delivery: &Delivery, reason: &str) {
        if !is_letter(&delivery.frame) {
            return;
        }
        let _order = self.writer.in_order();
        if let Some(changes) = self.dead_letters.note(delivery, reason, self.environment.unix_ms()) {
            let context = self.clone();
            let done = Box::new(move |_| context.dead_letters.written()); // The writer reports a failure itself.
            self.writer.submit(Job::Change { changes, done });
        }
    }

    /// Removes dead letters that have been handled.
    pub(crate) fn forget_dead(&self, numbers: impl IntoIterator<Item = u64>) {
        let _order = self.writer.in_order();
        let changes = self.dead_letters.remove(numbers);
        if !changes.is_empty() {
            self.writer.submit(Job::Change { changes, done: Box::new(|_| ()) });
        }
    }

    /// Updates the list of steps that need an operator.
    pub(crate) fn note_troubled(&self, id: InstanceId, steps: Vec<(Path, StepFailure)>) {
        let mut troubled = self.troubled.lock().unwrap_or_else(PoisonError::into_inner);
        let known = troubled.remove(&id).unwrap_or_default();
        for (path, trouble) in steps.iter().filter(|step| !known.contains(step)) {
            tracing::error!(%id, %path, %trouble, "a session needs an operator");
            counter!(metric::STEPS_IN_TROUBLE).increment(1);
        }
        if !steps.is_empty() {
            troubled.insert(id, steps);
        }
    }

    /// Removes an instance from the list of stopped ones; returns whether it was on it.
    pub(crate) fn forget_stopped(&self, id: InstanceId) -> bool {
        let known = self.stopped.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        self.directory.publish(id, |progress| progress.stopped = None);
        known.is_some()
    }

    /// Adds an instance to the list of stopped ones.
    pub(crate) fn note_stopped(&self, id: InstanceId, reason: String) {
        tracing::error!(%id, reason, "a session is stopped");
        counter!(metric::INSTANCES_STOPPED).increment(1);
        self.directory.publish(id, |progress| progress.stopped = Some(reason.clone()));
        self.stopped.lock().unwrap_or_else(PoisonError::into_inner).insert(id, reason);
    }

    /// Returns the steps of an instance that need an operator.
    pub(crate) fn troubled_at(&self, id: InstanceId) -> Vec<(Path, StepFailure)> {
        self.troubled.lock().unwrap_or_else(PoisonError::into_inner).get(&id).cloned().unwrap_or_default()
    }

    pub(crate) fn stopped_because(&self, id: InstanceId) -> Option<String> {
        self.stopped.lock().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    /// Returns whether an instance is stopped; if so, publishes it to its watchers.
    pub(crate) fn is_stopped(&self, id: InstanceId) -> bool {
        let Some(reason) = self.stopped_because(id) else { return false };
        self.directory.publish(id, |progress| progress.stopped = Some(reason));
        true
    }
}

/// A session whose start has its turn, until it is on disk or its caller no longer waits.
pub(crate) struct Starting<'a> {
    context: &'a NodeContext,
    id: InstanceId,
    _turn: SemaphorePermit<'a>,
}

impl<'a> Starting<'a> {
    pub(crate) fn new(context: &'a NodeContext, id: InstanceId, turn: SemaphorePermit<'a>) -> Self {
        let now_ms = context.now_ms();
        context.queue_delay().arrived(Arrival::Start(id), now_ms, now_ms);
        Self { context, id, _turn: turn }
    }
}

impl Drop for Starting<'_> {
    fn drop(&mut self) {
        self.context.queue_delay().end_start(self.id);
    }
}

/// The number of starts that run at the same time. A few are as fast as many, since the writer syncs them together,
/// and new sessions do not hold up open ones, which may have any number of messages in progress.
const STARTS_AT_ONCE: usize = 64;

/// A role is nudged no sooner than after this many acknowledgement latencies, because it may itself wait for others.
const NUDGE_ACKNOWLEDGEMENTS: u64 = 4;

/// Delays nudges while the nodes are slow to acknowledge: the role that is waited for is busy, and a nudge would add
/// to its load.
fn nudge_limits(limits: &Limits, ack_latency_ms: u64) -> Limits {
    let usual_ms = ack_latency_ms.saturating_mul(NUDGE_ACKNOWLEDGEMENTS).min(limits.nudge_delay_max_ms);
    Limits { nudge_delay_min_ms: limits.nudge_delay_min_ms.max(usual_ms), ..limits.clone() }
}

/// Returns the advertisement of a node that plays these roles and has these choreographies, without its
/// [membership](Peers::complete).
pub(crate) fn advertisement_of(
    roles: &[&'static str],
    choreographies: &BTreeMap<(String, u32), Arc<dyn AnyChoreography>>,
    ask: bool,
) -> Advertisement {
    let offered = choreographies.values().map(|choreography| OfferedChoreography {
        choreography: choreography.name().into(),
        version: choreography.version(),
        patches: choreography.patches().iter().map(ToString::to_string).collect(),
    });
    let roles = roles.iter().map(ToString::to_string).collect();
    Advertisement { roles, ask, choreographies: offered.collect(), ..Advertisement::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_waited_for_is_nudged_later_while_nodes_acknowledge_late() {
        let limits = || Limits { nudge_delay_min_ms: 50, nudge_delay_max_ms: 5_000, ..Limits::default() };
        for (ack_latency_ms, delay_ms) in [(0, 50), (5, 50), (100, 400), (60_000, 5_000)] {
            assert_eq!(nudge_limits(&limits(), ack_latency_ms), Limits { nudge_delay_min_ms: delay_ms, ..limits() });
        }
    }
}
