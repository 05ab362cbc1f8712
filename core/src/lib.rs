//! The choreography language of Accompanist, and its protocol as pure state machines.
//!
//! This crate does no I/O and knows neither tokio nor any database or network. Services that share choreographies
//! depend on this crate alone; a process that runs them depends on `accompanist`. Where to read next:
//! [`Choreography`] and [`Context`] are what users write, [`machine`] is the state machine that runs a role,
//! [`contract`] is what the state machine needs from its environment.

pub mod contract;
#[doc(hidden)]
pub mod driver;
pub mod frame;
pub mod id;
pub mod machine;
pub mod message;
pub mod panics;
pub mod record;
pub mod role_instance;
pub mod state;
pub mod testing;

mod abort;
mod choreography;
mod context;
mod engine;
mod group;
mod local;
mod located;
mod loop_state;
#[cfg(feature = "testing")]
mod requests;
mod role;
mod uses;
mod value;

#[doc(hidden)]
pub use abort::Undecided;
pub use abort::{Abort, Retry};
pub use choreography::{Choreography, CommitOutcome, Compensation, Kind, LocalTransaction, Step, Transaction};
pub use context::Context;
pub use group::{Gather, Targets};
pub use id::{IdempotencyKey, NodeId, Path, SessionId};
pub use local::{Services, run_local};
pub use located::{Absent, At, Local, Located, Service};
pub use loop_state::{Known, LoopState};
pub use message::{Message, Payload};
pub use role::{Has, Includes, Role, RoleSet};
pub use state::{State, Table};
