//! The ways to a node's actors and to its wire: the references change with each tree of actors. Knows messages, and
//! nothing of those who receive them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use accompanist_core::contract::Wire;
use accompanist_core::panics;
use ractor::ActorRef;
use tokio::task::{JoinError, JoinHandle};

use crate::runtime::admin_route::AdminRoute;
use crate::runtime::messages::{LinkHandle, LinkMessage, SupervisorMessage};

/// The ways to the actors; see the module's documentation.
#[derive(Default)]
pub(crate) struct Routes {
    link: RwLock<Option<LinkHandle>>,
    supervisor: RwLock<Option<ActorRef<SupervisorMessage>>>,
    link_task: Mutex<Option<JoinHandle<()>>>,
    /// The only strong reference: an event for the supervisor may keep the state of a killed actor alive.
    wire: Mutex<Option<Arc<dyn Wire>>>,
    /// How long the nodes take to acknowledge frames at present.
    ack_latency_ms: AtomicU64,
    admin: Arc<AdminRoute>,
}

impl Routes {
    pub(crate) fn set_link(&self, link: Option<LinkHandle>) {
        *self.link.write().unwrap_or_else(PoisonError::into_inner) = link;
    }

    pub(crate) fn set_link_task(&self, task: JoinHandle<()>) {
        *self.link_task.lock().unwrap_or_else(PoisonError::into_inner) = Some(task);
    }

    pub(crate) fn set_wire(&self, wire: Option<Arc<dyn Wire>>) {
        let before = std::mem::replace(&mut *self.wire.lock().unwrap_or_else(PoisonError::into_inner), wire);
        if let Err(panic) = panics::catch(|| drop(before)) {
            tracing::error!(error = panic, "the wire panicked when it was dropped");
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

    pub(crate) fn set_supervisor(&self, supervisor: Option<ActorRef<SupervisorMessage>>) {
        *self.supervisor.write().unwrap_or_else(PoisonError::into_inner) = supervisor;
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
        let supervisor = self.supervisor.read().unwrap_or_else(PoisonError::into_inner).clone();
        supervisor.is_some_and(|supervisor| supervisor.cast(message).is_ok())
    }

    /// Returns the way of operators' requests.
    pub(crate) fn admin(&self) -> Arc<AdminRoute> {
        self.admin.clone()
    }

    /// Returns whether there is a tree of actors: a link and a supervisor of roles.
    pub(crate) fn are_open(&self) -> bool {
        let has_link = self.link.read().unwrap_or_else(PoisonError::into_inner).is_some();
        has_link && self.supervisor.read().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    pub(crate) fn note_ack_latency(&self, ack_latency_ms: u64) {
        self.ack_latency_ms.store(ack_latency_ms, Ordering::Relaxed);
    }

    pub(crate) fn ack_latency_ms(&self) -> u64 {
        self.ack_latency_ms.load(Ordering::Relaxed)
    }
}
