//! What bounds the work that a node takes on: the permits of starts and callers, the delay of what arrives, and the
//! sessions that nudges create.

use std::sync::{Mutex, MutexGuard, PoisonError};

use accompanist_core::frame::{Body, Delivery};
use accompanist_core::id::InstanceId;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::NodeContext;
use crate::config::Settings;
use crate::error::StartError;
use crate::runtime::messages::Admission;
use crate::runtime::nudged::Nudged;
use crate::runtime::queue_delay::{Arrival, QueueDelay};

/// The number of starts that run at the same time. A few are as fast as many, since the writer syncs them together,
/// and new sessions do not hold up open ones, which may have any number of messages in progress.
const STARTS_AT_ONCE: usize = 64;

/// The bounds of a node's work; see the module's documentation.
pub(crate) struct Admissions {
    /// The permits for starts that run at the same time; further starts wait for their turn.
    pub(crate) starts: Semaphore,
    /// A permit for each call on an instance that waits for its answer.
    pub(crate) askers: Semaphore,
    pub(crate) nudged: Nudged,
    /// Held while an entry of the audit trail gets its number.
    pub(crate) audit: tokio::sync::Mutex<()>,
    queue_delay: Mutex<QueueDelay>,
}

impl Admissions {
    pub(crate) fn new(settings: &Settings) -> Self {
        Self {
            starts: Semaphore::new(STARTS_AT_ONCE),
            askers: Semaphore::new(settings.callers_max.min(Semaphore::MAX_PERMITS)),
            nudged: Nudged::default(),
            audit: tokio::sync::Mutex::default(),
            queue_delay: Mutex::default(),
        }
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
}

impl NodeContext {
    /// Admits a start if there is room in memory and on disk.
    pub(crate) fn admit(&self) -> Result<Admission, StartError> {
        let Settings { open_max, instances_max, .. } = self.settings;
        if self.lifecycle.under_way.is_ending() {
            return Err(StartError::NodeStopped);
        }
        if self.is_disk_full() {
            return Err(StartError::TooManyOpen(open_max));
        }
        // A limit of one instance admits that one.
        let limit = instances_max.div_ceil(2);
        self.directory.admit(limit).ok_or(StartError::Overloaded(limit))
    }

    /// Returns whether the limit of open instances in the store is reached.
    pub(crate) fn is_disk_full(&self) -> bool {
        self.writer.open().count >= self.settings.open_max
    }

    /// Returns whether this is a nudge of a peer whose nudges may create no more sessions.
    pub(crate) fn is_nudge_too_many(&self, delivery: &Delivery) -> bool {
        let is_nudge = matches!(delivery.frame.body, Body::Nudge(_)) && delivery.from != self.node;
        is_nudge && self.admissions.nudged.is_full(&delivery.from, self.settings.nudged_sessions_max)
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
        context.admissions.queue_delay().arrived(Arrival::Start(id), now_ms, now_ms);
        Self { context, id, _turn: turn }
    }
}

impl Drop for Starting<'_> {
    fn drop(&mut self) {
        self.context.admissions.queue_delay().end_start(self.id);
    }
}
