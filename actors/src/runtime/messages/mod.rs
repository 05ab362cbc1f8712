//! What the actors of a node tell each other, and what instances tell those who wait for them. No behaviour: each actor
//! is known to the others by its messages alone.

mod instance;
mod link;
mod progress;
mod request;
mod supervisor;

pub(crate) use self::instance::InstanceMessage;
pub(crate) use self::link::{LinkHandle, LinkMessage};
pub(crate) use self::progress::InstanceProgress;
pub(crate) use self::request::{InstanceRequest, NotCancelled};
pub(crate) use self::supervisor::{Admission, Page, Reading, SupervisorMessage};
