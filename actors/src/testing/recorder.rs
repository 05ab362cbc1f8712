//! The observer of a world: it records the trace, runs the watch's checks, and remembers the first failure.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use accompanist_core::contract::{Batch, Space, Store};
use accompanist_core::frame::{Frame, Header, Packet};
use accompanist_core::id::InstanceId;
use accompanist_core::record::{Closed, Opened, read_value};
use accompanist_core::testing::{InvariantMonitor, Violation};
use accompanist_core::{IdempotencyKey, NodeId, RoleNames, SessionId};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::trace::{Event, Trace, What, described, ended};

/// A handle with which a service of a simulated world reports: the effects it has had, and anything else that belongs
/// in the trace.
///
/// Clones report to the same world. Hold a `EventRecorder` in a service, not a [`World`](super::World): the world holds
/// the service, which would be a cycle.
#[derive(Clone)]
pub struct EventRecorder(Arc<Inner>);

struct Inner {
    origin: Instant,
    seen: Mutex<Seen>,
    failed: Notify,
}

#[derive(Default)]
struct Seen {
    watch: InvariantMonitor,
    trace: Trace,
    failure: Option<String>,
}

impl std::fmt::Debug for EventRecorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "EventRecorder({} events)", self.seen().trace.events.len())
    }
}

impl EventRecorder {
    pub(super) fn new() -> Self {
        let (origin, seen, failed) = (Instant::now(), Mutex::default(), Notify::new());
        Self(Arc::new(Inner { origin, seen, failed }))
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        // After a panic in a test, the recorded state is what the failure shows.
        self.0.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn saw(&self, node: Option<&NodeId>, what: What) {
        let event = Event { at: self.0.origin.elapsed(), node: node.cloned(), what };
        self.seen().trace.events.push(event);
    }

    fn judge(&self, node: Option<&NodeId>, judge: impl FnOnce(&mut InvariantMonitor) -> Result<(), Violation>) {
        let verdict = judge(&mut self.seen().watch);
        if let Err(violation) = verdict {
            self.fail(node, &violation.to_string());
        }
    }

    /// Records a failure. The first one is reported.
    pub(super) fn fail(&self, node: Option<&NodeId>, reason: &str) {
        self.saw(node, What::Failed(reason.into()));
        self.seen().failure.get_or_insert_with(|| reason.into());
        self.0.failed.notify_one();
    }

    pub(super) fn failure(&self) -> Option<String> {
        self.seen().failure.clone()
    }

    /// Waits until there is a failure.
    pub(super) async fn failed(&self) {
        while self.failure().is_none() {
            self.0.failed.notified().await;
        }
    }

    pub(super) fn take_trace(&self) -> Trace {
        std::mem::take(&mut self.seen().trace)
    }

    /// Reports that a service has carried out the commit under this key, for the first time as far as it knows. The
    /// world fails if the commit was carried out before, or was not intended: see [`InvariantMonitor::committed`].
    pub fn committed(&self, key: &IdempotencyKey) {
        self.saw(None, What::Noted(format!("a service commits {key}")));
        self.judge(None, |watch| watch.committed(key));
    }

    /// Reports that a service has compensated the commit under this key: see [`InvariantMonitor::compensated`].
    pub fn compensated(&self, key: &IdempotencyKey) {
        self.saw(None, What::Noted(format!("a service compensates {key}")));
        self.judge(None, |watch| watch.compensated(key));
    }

    /// Records that a node treats this frame of its own as acknowledged, and never sends it.
    pub(super) fn forgot(&self, frame: &Frame) {
        self.seen().watch.forgot(frame);
    }

    /// Adds a note to the trace, which is shown when the world fails. The note must be the same in every run of a
    /// seed.
    pub fn note(&self, text: impl Into<String>) {
        self.saw(None, What::Noted(text.into()));
    }

    pub(super) fn applied(&self, node: &NodeId, batch: &Batch) {
        for change in batch {
            let (Some(value), Some(instance)) = (&change.value, InstanceId::from_bytes(&change.key)) else { continue };
            let name = |header: &Header| self.seen().watch.role_name_in(header, instance.role);
            let what = match change.space {
                Space::Open => read_value::<Opened>(Space::Open, value)
                    .map(|opened| What::Opened { instance, role: name(&opened.header) }),
                Space::Closed => read_value::<Closed>(Space::Closed, value).map(|closed| {
                    let (role, outcome) = (name(&closed.header), ended(&closed.outcome));
                    What::Closed { instance, role, outcome }
                }),
                _ => continue,
            };
            match what {
                Ok(what) => self.saw(Some(node), what),
                Err(error) => self.fail(Some(node), &error.to_string()),
            }
        }
        self.judge(Some(node), |watch| watch.applied(node, batch));
    }

    pub(super) fn synced(&self, node: &NodeId, batches: usize) {
        self.saw(Some(node), What::Synced(batches));
        self.seen().watch.synced(node);
    }

    /// Returns the contents of a packet, and whether it is routine; see [`described`].
    pub(super) fn describe(&self, packet: &Packet) -> (String, bool) {
        let seen = self.seen();
        described(packet, |session, role| seen.watch.role_name(session, role))
    }

    pub(super) fn crashed(&self, node: &NodeId, kept: usize, of: usize) {
        self.saw(Some(node), What::Crashed { kept, of });
        self.seen().watch.crashed(node, kept);
    }

    pub(super) fn restarts(&self, node: &NodeId, store: &dyn Store) {
        self.saw(Some(node), What::Starts);
        self.judge(Some(node), |watch| watch.restarted(node, store));
    }

    pub(super) fn sends(&self, node: &NodeId, to: &NodeId, packet: &Packet) {
        self.judge(Some(node), |watch| watch.sent(node, to, packet));
    }

    /// Checks the end of the world: every session must have ended, except the excused ones.
    pub(super) fn ended(&self, excused: impl IntoIterator<Item = SessionId>) {
        self.judge(None, |watch| {
            for session in excused {
                watch.excuse(session);
            }
            watch.ended()
        });
    }

    /// Returns the instances that are open on the disk of each node.
    pub(super) fn open(&self) -> Vec<(NodeId, InstanceId)> {
        self.seen().watch.open().map(|(node, id)| (node.clone(), id)).collect()
    }

    /// Returns a role of a session, in readable form.
    pub(super) fn role_name(&self, id: InstanceId) -> String {
        self.seen().watch.role_name(id.session, id.role)
    }

    pub(super) fn note_roles(&self, choreography: &str, version: u32, roles: RoleNames) {
        self.seen().watch.note_roles(choreography, version, roles);
    }

    pub(super) fn note_backwards(&self, choreography: &str) {
        self.seen().watch.note_backwards(choreography);
    }
}
