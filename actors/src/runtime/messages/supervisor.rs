//! The messages to the supervisor of role instances.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use accompanist_core::NodeId;
use accompanist_core::frame::{Delivery, Header};
use accompanist_core::id::InstanceId;
use accompanist_core::record::Opened;

use super::InstanceRequest;
use crate::peers::CastReservation;

/// A message to the supervisor of roles.
pub(crate) enum SupervisorMessage {
    /// A frame for an instance that is not in memory.
    Deliver(Delivery),
    /// A session is started here. The cast of a new session is held until its instance is gone from memory.
    Start {
        id: InstanceId,
        opened: Opened,
        fresh: bool,
        placed: Option<Arc<CastReservation>>,
        admission: Option<Admission>,
    },
    /// A page of instances that are open in the store.
    Found(Reading, Page),
    /// All instances of sessions that cast this node are to nudge.
    NudgeAllOf(NodeId),
    /// An instance is passivated until this time.
    Wait(InstanceId, u64),
    /// Passivated instances with unacknowledged frames whose receivers may be reachable now.
    Resend(Vec<InstanceId>),
    /// An instance that the node reactivated has had its first turn.
    Returned(InstanceId),
    /// Check which instances are to be reactivated.
    Look,
    /// The pause of a failed instance is over.
    Restart(InstanceId),
    /// An instance of the session with this header is quarantined with this reason, and the quarantine is on disk.
    Quarantined(InstanceId, String, Option<Arc<Header>>),
    /// A caller asks an instance a question.
    Ask(InstanceId, InstanceRequest),
    /// An operator lets a stopped instance try again.
    Resume(InstanceId),
    #[cfg(feature = "testing")]
    Panic,
}

/// The reason why open instances are read from the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reading {
    /// All open instances are recovered after a start.
    Recovery,
    /// Each instance is periodically reactivated to nudge, a page at a time.
    Nudges,
    /// The instances whose sessions cast this node are reactivated to nudge it.
    NudgesOf(NodeId),
}

/// A page of open instances.
#[derive(Debug, Default)]
pub(crate) struct Page {
    /// The wanted instances of the page.
    pub(crate) ids: Vec<InstanceId>,
    /// The page's last key, wanted or not.
    pub(crate) last: Option<Vec<u8>>,
    /// Whether nothing follows this page.
    pub(crate) is_last: bool,
}

/// The room that a start occupies until its instance is in memory and counted there.
pub(crate) struct Admission(Arc<AtomicUsize>);

impl Admission {
    /// Counts one more start in `starting`, until this value is dropped.
    pub(crate) fn new(starting: &Arc<AtomicUsize>) -> Self {
        starting.fetch_add(1, Ordering::SeqCst);
        Self(starting.clone())
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
