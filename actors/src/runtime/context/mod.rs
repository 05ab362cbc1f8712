//! The parts of a node that are not actors, shared by all of its actors. Each part has a purpose and a file; the
//! context is no more than the bundle of them.

mod access;
mod admissions;
mod catalog;
#[cfg(feature = "testing")]
mod faults;
mod lifecycle;
mod operator;
mod routes;
mod trouble;

use std::sync::Arc;

use accompanist_core::NodeId;
use accompanist_core::contract::Environment;
use accompanist_core::frame::{Advertisement, Delivery, Header};
use accompanist_core::machine::Limits;

pub(crate) use self::access::Access;
use self::admissions::Admissions;
pub(crate) use self::admissions::Starting;
pub(crate) use self::catalog::{Catalog, Choreographies, advertisement_of};
#[cfg(feature = "testing")]
pub(crate) use self::faults::Faults;
pub(crate) use self::lifecycle::{End, Lifecycle};
use self::operator::OperatorLists;
pub use self::operator::{Recovery, SessionInTrouble, StoppedSession, TroubledSession};
use self::routes::Routes;
use crate::base::dropped::Dropped;
use crate::config::Settings;
use crate::peers::Peers;
use crate::runtime::dead_letters::DeadLetters;
use crate::runtime::directory::Directory;
use crate::writer::WriterHandle;

/// The parts of a node; see the module's documentation.
pub(crate) struct NodeContext {
    pub(crate) node: NodeId,
    pub(crate) settings: Settings,
    pub(crate) environment: Arc<dyn Environment>,
    pub(crate) writer: WriterHandle,
    pub(crate) peers: Peers,
    pub(crate) access: Access,
    pub(crate) catalog: Catalog,
    pub(crate) directory: Arc<Directory>,
    pub(crate) operator: OperatorLists,
    pub(crate) admissions: Admissions,
    pub(crate) routes: Routes,
    pub(crate) lifecycle: Lifecycle,
    dropped: Dropped,
    #[cfg(feature = "testing")]
    pub(crate) faults: Faults,
}

impl NodeContext {
    /// Bundles the parts of a node that begins its life on the current runtime.
    pub(crate) fn new(
        settings: Settings,
        environment: Arc<dyn Environment>,
        writer: WriterHandle,
        peers: Peers,
        access: Access,
        catalog: Catalog,
        dead_letters: DeadLetters,
    ) -> Self {
        let directory = Arc::<Directory>::default();
        Self {
            node: catalog.node.clone(),
            operator: OperatorLists::new(
                dead_letters,
                directory.clone(),
                writer.clone(),
                environment.clone(),
                catalog.node.clone(),
            ),
            admissions: Admissions::new(&settings),
            routes: Routes::default(),
            lifecycle: Lifecycle::begin(),
            dropped: Dropped::default(),
            #[cfg(feature = "testing")]
            faults: Faults::default(),
            settings,
            environment,
            writer,
            peers,
            access,
            catalog,
            directory,
        }
    }

    /// Injects faults, for a test.
    #[cfg(feature = "testing")]
    pub(crate) fn with_faults(self, faults: Faults) -> Self {
        Self { faults, ..self }
    }

    pub(crate) fn now_ms(&self) -> u64 {
        self.environment.monotonic_ms()
    }

    /// Returns the limits of an instance that is created now.
    pub(crate) fn limits(&self) -> Limits {
        nudge_limits(&self.settings.limits, self.routes.ack_latency_ms())
    }

    /// Returns this node's advertisement: to all nodes, which are asked to answer with theirs, or to one.
    pub(crate) fn advertisement(&self, to: Option<&NodeId>) -> Advertisement {
        let advertisement = advertisement_of(&self.catalog.roles, &self.catalog.choreographies, to.is_none());
        self.peers.complete(advertisement, to, self.writer.batch(), self.now_ms())
    }

    /// Counts a dropped packet or frame, and logs some of them.
    pub(crate) fn note_dropped(&self, reason: &'static str, detail: impl FnOnce() -> String) {
        self.dropped.note(reason, self.now_ms(), detail);
    }

    /// Returns whether the members file allows a session that begins here. In a choreography that is not known here
    /// no node plays a role.
    pub(crate) fn is_allowed(&self, header: &Header) -> bool {
        let refusal = self.access.refusal(header, self.catalog.roles_of(header));
        if let Some(refusal) = &refusal {
            self.note_dropped("not allowed", || format!("by the members file: {refusal}"));
        }
        refusal.is_none()
    }

    /// Counts a frame that a node sent for a role that it does not play in the session.
    pub(crate) fn note_not_of_cast(&self, Delivery { from, frame, .. }: &Delivery) {
        let (id, role) = (frame.receiver(), frame.from.0);
        self.note_dropped("not of the cast", || format!("{id}: {from} speaks for role {role}, which it does not play"));
    }
}

/// A role is nudged no sooner than after this many acknowledgement latencies, because it may itself wait for others.
const NUDGE_ACKNOWLEDGEMENTS: u64 = 4;

/// Delays nudges while the nodes are slow to acknowledge: the role that is waited for is busy, and a nudge would add
/// to its load.
fn nudge_limits(limits: &Limits, ack_latency_ms: u64) -> Limits {
    let usual_ms = ack_latency_ms.saturating_mul(NUDGE_ACKNOWLEDGEMENTS).min(limits.nudge_delay_max_ms);
    Limits { nudge_delay_min_ms: limits.nudge_delay_min_ms.max(usual_ms), ..limits.clone() }
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
