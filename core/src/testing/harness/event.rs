//! What can happen in a run, one thing at a time.
//!
//! This module knows no role's state. Next: the harness, which lets events happen, and `plan`, which chooses some.

/// An event. Roles are named by their index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::testing) enum Event {
    /// A role's program and its steps run as far as they can.
    Turn(usize),
    /// The next write of a role becomes durable.
    Sync(usize),
    /// A frame arrives.
    Arrive { from: usize, to: usize, number: u64 },
    /// An acknowledgement arrives at the role that sent the frame.
    Acknowledge { from: usize, to: usize },
    /// A role receives the signals of the scene.
    Signal(usize),
    /// A frame is lost, but acknowledged.
    Forget { from: usize, to: usize, number: u64 },
    /// Nothing else happens, so the clock advances.
    Time,
    /// A role loses its memory and its unsynced writes, and recovers.
    Crash(usize),
    /// The request of this number to a service arrives, once more or belatedly.
    Request(usize),
}

impl Event {
    /// The roles that the event concerns.
    pub(in crate::testing) fn roles(self) -> impl Iterator<Item = usize> {
        let (one, other) = match self {
            Self::Turn(role) | Self::Sync(role) | Self::Signal(role) | Self::Crash(role) => (Some(role), None),
            Self::Arrive { from, to, .. } | Self::Acknowledge { from, to } | Self::Forget { from, to, .. } => {
                (Some(from), Some(to))
            }
            Self::Time | Self::Request(_) => (None, None),
        };
        one.into_iter().chain(other)
    }
}

/// The event that happens first when several are possible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::testing) enum DeliveryOrder {
    /// Writes are synced at once.
    Disk,
    /// Frames arrive before anything is synced.
    Network,
}
