//! How far an instance is on its way into memory, and whether the store has said that it is new. Knows no messages'
//! contents.

use std::pin::Pin;

use accompanist_core::record::Opened;
use accompanist_core::role_instance::RoleInstance;
use tokio::time::Sleep;

use super::request::PendingAnswers;
use super::spans::PartSpans;
use crate::runtime::messages::{InstanceMessage, InstanceProgress};

/// The stage of an instance; see the module's documentation.
pub(super) enum Stage {
    /// Nothing of the instance is in memory.
    Unloaded(Waiting),
    /// A frame has begun the instance, and the store has not said yet whether it knows it.
    Unproven {
        live: LoadedInstance,
        /// The messages that the instance has received, in case it has to be loaded after all.
        early: Vec<InstanceMessage>,
        /// Whether the store has been asked, by the instance's first write.
        is_asked: bool,
    },
    /// The instance goes on from what the store has of it.
    Proven(LoadedInstance),
}

/// What waits for an instance that is not in memory.
#[derive(Default)]
pub(super) struct Waiting {
    /// The action to do before the first message is handled.
    pub(super) first: Option<FirstTurn>,
    /// What the instance begins with if the store does not know it.
    pub(super) opened: Option<Opened>,
    /// The messages that have arrived meanwhile.
    pub(super) early: Vec<InstanceMessage>,
}

/// The action of an instance when it receives its first message, and no earlier: only then is a panic supervised, and
/// an answer of the store might otherwise overtake the message that the actor was started for.
pub(super) enum FirstTurn {
    /// Begin with this; there is nothing to load.
    Begin(Opened),
    Load,
}

pub(super) struct LoadedInstance {
    pub(super) part: RoleInstance,
    pub(super) progress: InstanceProgress,
    pub(super) timer: Option<(u64, Pin<Box<Sleep>>)>,
    pub(super) answers: PendingAnswers,
    pub(super) spans: PartSpans,
    /// The time since which the instance only waits.
    pub(super) idle_since_ms: Option<u64>,
}

impl Default for Stage {
    fn default() -> Self {
        Self::Unloaded(Waiting::default())
    }
}

impl Stage {
    pub(super) fn live(&self) -> Option<&LoadedInstance> {
        match self {
            Self::Unloaded(_) => None,
            Self::Unproven { live, .. } | Self::Proven(live) => Some(live),
        }
    }

    pub(super) fn live_mut(&mut self) -> Option<&mut LoadedInstance> {
        match self {
            Self::Unloaded(_) => None,
            Self::Unproven { live, .. } | Self::Proven(live) => Some(live),
        }
    }

    pub(super) fn is_unproven(&self) -> bool {
        matches!(self, Self::Unproven { .. })
    }

    /// Notes that a write of the instance is durable, so that the store did not know it before.
    pub(super) fn prove(&mut self) {
        // This is called after every write, and the instance moves only after the first one.
        if self.is_unproven()
            && let Self::Unproven { live, .. } = std::mem::take(self)
        {
            *self = Self::Proven(live);
        }
    }

    /// Returns whether the next write is to ask the store if it knows the instance: the first one is.
    pub(super) fn ask(&mut self) -> bool {
        match self {
            Self::Unproven { is_asked, .. } => !std::mem::replace(is_asked, true),
            Self::Unloaded(_) | Self::Proven(_) => false,
        }
    }

    /// Leaves memory, and returns what was there and what waits.
    pub(super) fn unload(&mut self) -> (Option<LoadedInstance>, Waiting) {
        match std::mem::take(self) {
            Self::Unloaded(waiting) => (None, waiting),
            Self::Unproven { live, early, .. } => (Some(live), Waiting { early, ..Waiting::default() }),
            Self::Proven(live) => (Some(live), Waiting::default()),
        }
    }
}
