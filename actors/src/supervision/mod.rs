//! Supervision trees: which actors are restarted when one fails, how often, and after which pause.
//!
//! A node's tree contains its own actors, whose children are the role instances, and the [`Group`]s of actors that
//! the service gives it ([`NodeBuilder::supervise`](crate::NodeBuilder::supervise)). The reaction to failures is
//! data: a [`Supervision`], in [`Settings::supervision`](crate::Settings::supervision) or in `accompanist.toml` (see
//! [`Config::load`](crate::Config::load)). Decision 0003 says why this is not `ractor-supervisor`.

mod group;
mod guarded;
mod restarts;

pub use self::group::{Group, Restart};
pub(crate) use self::{
    group::{GroupSupervisor, stop, why_not_started},
    guarded::Guarded,
    restarts::Restarts,
};
pub use crate::config::{Policy, PolicyChange, Strategy, Supervision};
