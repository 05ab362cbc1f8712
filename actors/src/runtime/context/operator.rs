//! What waits for an operator: stopped and troubled instances, here and at the other roles of sessions that were
//! started here, and dead letters; and how far the recovery is. Knows no actors. Next: `trouble.rs`, which tells
//! initiators.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use accompanist_core::contract::Environment;
use accompanist_core::frame::{Delivery, Header};
use accompanist_core::id::{InstanceId, RoleIndex};
use accompanist_core::machine::SessionTrouble;
use accompanist_core::record::StepFailure;
use accompanist_core::{NodeId, Path, SessionId};
use metrics::counter;

use crate::base::gauge_share::GaugeShare;
use crate::base::metric;
use crate::runtime::dead_letters::{DeadLetters, is_letter};
use crate::runtime::directory::Directory;
use crate::runtime::names::log_part;
use crate::writer::{Job, WriterHandle};

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

/// A session that was started here and that continues only with an operator's help elsewhere; see
/// [`Operator::sessions_in_trouble_elsewhere`](crate::Operator::sessions_in_trouble_elsewhere).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionInTrouble {
    /// The session.
    pub session: SessionId,
    /// The roles that need an operator, with their nodes and the problem of each.
    pub troubles: Vec<SessionTrouble>,
}

/// The maximum number of sessions whose troubles at other roles are kept. Those of further sessions are not: their
/// initiators learn them anew when they are loaded and nudge.
const SESSIONS_IN_TROUBLE_MAX: usize = 10_000;

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

/// A list of instances, whose length a gauge shows.
struct Listed<T> {
    entries: BTreeMap<InstanceId, T>,
    gauge: GaugeShare,
}

impl<T> Listed<T> {
    fn new(gauge: &'static str) -> Mutex<Self> {
        Mutex::new(Self { entries: BTreeMap::new(), gauge: GaugeShare::new(gauge) })
    }

    fn insert(&mut self, id: InstanceId, entry: T) {
        self.entries.insert(id, entry);
        self.gauge.set(self.entries.len());
    }

    fn remove(&mut self, id: InstanceId) -> Option<T> {
        let known = self.entries.remove(&id);
        self.gauge.set(self.entries.len());
        known
    }
}

/// The lists for an operator; see the module's documentation.
pub(crate) struct OperatorLists {
    stopped: Mutex<Listed<Stopped>>,
    /// The troubles of other roles that the initiators here know of. Kept while an initiator is passivated.
    elsewhere: Mutex<BTreeMap<InstanceId, Vec<SessionTrouble>>>,
    troubled: Mutex<Listed<Vec<(Path, StepFailure)>>>,
    recovery: Mutex<Recovery>,
    pub(crate) dead_letters: Arc<DeadLetters>,
    /// Those who wait for an instance learn from here that it is stopped.
    directory: Arc<Directory>,
    writer: WriterHandle,
    environment: Arc<dyn Environment>,
    node: NodeId,
}

/// An instance that is stopped.
struct Stopped {
    reason: String,
    /// The header of its session, as far as it can be read: it names who has to be told.
    header: Option<Arc<Header>>,
    /// When the session's initiator was told last, by the clock that never goes back.
    told_ms: u64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that can panic runs under these locks.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl OperatorLists {
    pub(crate) fn new(
        dead_letters: DeadLetters,
        directory: Arc<Directory>,
        writer: WriterHandle,
        environment: Arc<dyn Environment>,
        node: NodeId,
    ) -> Self {
        Self {
            stopped: Listed::new(metric::INSTANCES_STOPPED_NOW),
            elsewhere: Mutex::default(),
            troubled: Listed::new(metric::INSTANCES_IN_TROUBLE_NOW),
            recovery: Mutex::default(),
            dead_letters: Arc::new(dead_letters),
            directory,
            writer,
            environment,
            node,
        }
    }

    pub(crate) fn recovery(&self) -> Recovery {
        *lock(&self.recovery)
    }

    pub(crate) fn note_recovery(&self, recovery: Recovery) {
        *lock(&self.recovery) = recovery;
    }

    /// Keeps a frame that could not be handled as a dead letter; its sender resends it, too.
    pub(crate) fn note_dead(&self, delivery: &Delivery, reason: &str) {
        if !is_letter(&delivery.frame) {
            return;
        }
        let _order = self.writer.in_order();
        if let Some(changes) = self.dead_letters.note(delivery, reason, self.environment.unix_ms()) {
            let dead_letters = self.dead_letters.clone();
            let done = Box::new(move |_| dead_letters.written()); // The writer reports a failure itself.
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
        let mut troubled = lock(&self.troubled);
        let known = troubled.entries.get(&id).cloned().unwrap_or_default();
        for (path, trouble) in known.iter().filter(|(path, _)| !steps.iter().any(|(still, _)| still == path)) {
            let (name, step) = (self.directory.name(id), &trouble.step);
            log_part!(info, name, self.node, step, %path, "a step needs no operator any more");
        }
        for (path, trouble) in steps.iter().filter(|step| !known.contains(step)) {
            let name = self.directory.name(id);
            log_part!(error, name, self.node, step = trouble.step, %path, error = %trouble, "a session needs an operator");
            counter!(metric::STEPS_IN_TROUBLE).increment(1);
        }
        if steps.is_empty() {
            troubled.remove(id);
        } else {
            troubled.insert(id, steps);
        }
    }

    /// Updates the troubles of other roles that an initiator here knows of.
    pub(crate) fn note_elsewhere(&self, id: InstanceId, troubles: Vec<SessionTrouble>) {
        let mut elsewhere = lock(&self.elsewhere);
        let known = elsewhere.remove(&id).unwrap_or_default();
        for SessionTrouble { role, trouble, .. } in troubles.iter().filter(|trouble| !known.contains(trouble)) {
            tracing::warn!(session = %id.session, %role, %trouble, "another role of a session needs an operator");
        }
        if !troubles.is_empty() && elsewhere.len() < SESSIONS_IN_TROUBLE_MAX {
            elsewhere.insert(id, troubles);
        }
    }

    /// Returns the troubles of other roles that an initiator here knew of when it was last in memory.
    pub(crate) fn elsewhere(&self, id: InstanceId) -> Vec<SessionTrouble> {
        lock(&self.elsewhere).get(&id).cloned().unwrap_or_default()
    }

    /// Returns the sessions that were started here and in which other roles need an operator.
    pub(crate) fn sessions_in_trouble_elsewhere(&self) -> Vec<SessionInTrouble> {
        let listed = |(id, troubles): (&InstanceId, &Vec<_>)| SessionInTrouble {
            session: id.session,
            troubles: troubles.clone(),
        };
        lock(&self.elsewhere).iter().map(listed).collect()
    }

    /// Removes an instance from the list of stopped ones. Returns the header of its session, if that is known.
    pub(super) fn remove_stopped(&self, id: InstanceId) -> Option<Arc<Header>> {
        let known = lock(&self.stopped).remove(id);
        self.directory.publish(id, |progress| progress.stopped = None);
        known?.header
    }

    /// Adds an instance to the list of stopped ones.
    pub(super) fn add_stopped(&self, id: InstanceId, reason: String, header: Option<Arc<Header>>) {
        log_part!(error, self.directory.name(id), self.node, error = reason, "a session is stopped");
        counter!(metric::INSTANCES_STOPPED).increment(1);
        self.directory.publish(id, |progress| progress.stopped = Some(reason.clone()));
        let told_ms = self.environment.monotonic_ms();
        lock(&self.stopped).insert(id, Stopped { reason, header, told_ms });
    }

    /// Notes the header of a stopped instance's session. Returns whether the instance is still stopped.
    pub(super) fn note_header(&self, id: InstanceId, header: &Arc<Header>) -> bool {
        let mut stopped = lock(&self.stopped);
        stopped.entries.get_mut(&id).is_some_and(|stopped| {
            stopped.header = Some(header.clone());
            true
        })
    }

    /// Returns the header of a stopped instance's session, if that is known.
    pub(super) fn header_of_stopped(&self, id: InstanceId) -> Option<Arc<Header>> {
        lock(&self.stopped).entries.get(&id)?.header.clone()
    }

    /// Returns the reason of a stopped instance whose initiator was not told for `pause_ms`, and notes that it is told
    /// now.
    pub(super) fn take_due(&self, id: InstanceId, pause_ms: u64) -> Option<String> {
        let now_ms = self.environment.monotonic_ms();
        let mut stopped = lock(&self.stopped);
        let stopped =
            stopped.entries.get_mut(&id).filter(|stopped| stopped.told_ms.saturating_add(pause_ms) <= now_ms)?;
        stopped.told_ms = now_ms;
        Some(stopped.reason.clone())
    }

    /// Returns the steps of an instance that need an operator.
    pub(crate) fn troubled_at(&self, id: InstanceId) -> Vec<(Path, StepFailure)> {
        lock(&self.troubled).entries.get(&id).cloned().unwrap_or_default()
    }

    pub(crate) fn stopped_because(&self, id: InstanceId) -> Option<String> {
        lock(&self.stopped).entries.get(&id).map(|stopped| stopped.reason.clone())
    }

    /// Returns whether an instance is stopped; if so, publishes it to its watchers.
    pub(crate) fn is_stopped(&self, id: InstanceId) -> bool {
        let Some(reason) = self.stopped_because(id) else { return false };
        self.directory.publish(id, |progress| progress.stopped = Some(reason));
        true
    }

    /// Returns the stopped sessions, with the reason of each.
    pub(crate) fn stopped_sessions(&self) -> Vec<StoppedSession> {
        let listed = |(id, stopped): (&InstanceId, &Stopped)| StoppedSession {
            session: id.session,
            role: id.role,
            reason: stopped.reason.clone(),
        };
        lock(&self.stopped).entries.iter().map(listed).collect()
    }

    /// Returns the sessions with steps that need an operator.
    pub(crate) fn troubled_sessions(&self) -> Vec<TroubledSession> {
        let listed = |(id, steps): (&InstanceId, &Vec<_>)| TroubledSession {
            session: id.session,
            role: id.role,
            steps: steps.clone(),
        };
        lock(&self.troubled).entries.iter().map(listed).collect()
    }
}
