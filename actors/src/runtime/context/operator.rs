//! What waits for an operator: stopped and troubled instances, and dead letters; and how far the recovery is. Knows no
//! actors.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use accompanist_core::contract::Environment;
use accompanist_core::frame::Delivery;
use accompanist_core::id::{InstanceId, RoleIndex};
use accompanist_core::record::StepFailure;
use accompanist_core::{NodeId, Path, SessionId};
use metrics::counter;

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

/// The lists for an operator; see the module's documentation.
pub(crate) struct OperatorLists {
    stopped: Mutex<BTreeMap<InstanceId, String>>,
    troubled: Mutex<BTreeMap<InstanceId, Vec<(Path, StepFailure)>>>,
    recovery: Mutex<Recovery>,
    pub(crate) dead_letters: Arc<DeadLetters>,
    /// Those who wait for an instance learn from here that it is stopped.
    directory: Arc<Directory>,
    writer: WriterHandle,
    environment: Arc<dyn Environment>,
    node: NodeId,
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
        let (stopped, troubled, recovery) = (Mutex::default(), Mutex::default(), Mutex::default());
        let dead_letters = Arc::new(dead_letters);
        Self { stopped, troubled, recovery, dead_letters, directory, writer, environment, node }
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
        let known = troubled.remove(&id).unwrap_or_default();
        for (path, trouble) in known.iter().filter(|(path, _)| !steps.iter().any(|(still, _)| still == path)) {
            let (name, step) = (self.directory.name(id), &trouble.step);
            log_part!(info, name, self.node, step, %path, "a step needs no operator any more");
        }
        for (path, trouble) in steps.iter().filter(|step| !known.contains(step)) {
            let name = self.directory.name(id);
            log_part!(error, name, self.node, step = trouble.step, %path, error = %trouble, "a session needs an operator");
            counter!(metric::STEPS_IN_TROUBLE).increment(1);
        }
        if !steps.is_empty() {
            troubled.insert(id, steps);
        }
    }

    /// Removes an instance from the list of stopped ones; returns whether it was on it.
    pub(crate) fn forget_stopped(&self, id: InstanceId) -> bool {
        let known = lock(&self.stopped).remove(&id);
        self.directory.publish(id, |progress| progress.stopped = None);
        known.is_some()
    }

    /// Adds an instance to the list of stopped ones.
    pub(crate) fn note_stopped(&self, id: InstanceId, reason: String) {
        log_part!(error, self.directory.name(id), self.node, error = reason, "a session is stopped");
        counter!(metric::INSTANCES_STOPPED).increment(1);
        self.directory.publish(id, |progress| progress.stopped = Some(reason.clone()));
        lock(&self.stopped).insert(id, reason);
    }

    /// Returns the steps of an instance that need an operator.
    pub(crate) fn troubled_at(&self, id: InstanceId) -> Vec<(Path, StepFailure)> {
        lock(&self.troubled).get(&id).cloned().unwrap_or_default()
    }

    pub(crate) fn stopped_because(&self, id: InstanceId) -> Option<String> {
        lock(&self.stopped).get(&id).cloned()
    }

    /// Returns whether an instance is stopped; if so, publishes it to its watchers.
    pub(crate) fn is_stopped(&self, id: InstanceId) -> bool {
        let Some(reason) = self.stopped_because(id) else { return false };
        self.directory.publish(id, |progress| progress.stopped = Some(reason));
        true
    }

    /// Returns the stopped sessions, with the reason of each.
    pub(crate) fn stopped_sessions(&self) -> Vec<StoppedSession> {
        let listed = |(id, reason): (&InstanceId, &String)| StoppedSession {
            session: id.session,
            role: id.role,
            reason: reason.clone(),
        };
        lock(&self.stopped).iter().map(listed).collect()
    }

    /// Returns the sessions with steps that need an operator.
    pub(crate) fn troubled_sessions(&self) -> Vec<TroubledSession> {
        let listed = |(id, steps): (&InstanceId, &Vec<_>)| TroubledSession {
            session: id.session,
            role: id.role,
            steps: steps.clone(),
        };
        lock(&self.troubled).iter().map(listed).collect()
    }
}
