//! The limits on a handler: the actors that this node knows, and how much the handler may tell them.

use std::time::Duration;

use super::channel::Channel;
use super::outbound::Outbound;
use super::{ActorError, DurableActor};
use crate::config::Settings;

/// The settings that apply to actors.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(super) payload_bytes_max: usize,
    pub(super) batch_max: usize,
    pub(super) tells_max: usize,
    pub(super) refusals_max: usize,
    pub(super) forward_delay_min: Duration,
    pub(super) forward_delay_max: Duration,
}

impl From<&Settings> for Bounds {
    fn from(settings: &Settings) -> Self {
        let actors = &settings.actors;
        Self {
            payload_bytes_max: settings.limits.payload_bytes_max,
            batch_max: actors.batch_max,
            tells_max: actors.tells_max,
            refusals_max: actors.refusals_max,
            forward_delay_min: actors.forward_delay_min,
            forward_delay_max: actors.forward_delay_max,
        }
    }
}

/// The handler's view of the outbound side.
#[derive(Debug, Clone, Copy)]
pub(super) enum TellQueue<'a> {
    Outbound(&'a Outbound),
    /// In a unit test.
    Alone(Bounds),
}

impl TellQueue<'_> {
    pub(super) fn alone() -> Self {
        Self::Alone(Bounds::from(&Settings::default()))
    }

    pub(super) fn limits(self) -> Bounds {
        match self {
            Self::Outbound(outbound) => outbound.limits(),
            Self::Alone(bounds) => bounds,
        }
    }

    /// Returns an error that says why `B` cannot be told from here, if it cannot.
    pub(super) fn check<B: DurableActor>(self) -> Result<(), String> {
        let known = match self {
            Self::Outbound(outbound) => outbound.knows(Channel::<B>::NAME, B::VERSION),
            Self::Alone(_) => true,
        };
        known
            .then_some(())
            .ok_or_else(|| ActorError::UnknownActor { name: B::NAME.to_owned(), version: B::VERSION }.to_string())
    }
}
