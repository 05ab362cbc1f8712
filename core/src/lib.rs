//! The choreography language of Accompanist, and its protocol as pure state machines.
//!
//! This crate does no I/O and knows neither tokio nor any database or network. Services that share choreographies
//! depend on this crate alone; a process that runs them depends on `accompanist`. Where to read next:
//! [`Choreography`] and [`Context`] are what users write, [`machine`] is the state machine that runs a role,
//! [`contract`] is what the state machine needs from its environment.
//!
//! The modules are the rooms of the crate, lowest first. Each uses only rooms above it in this list;
//! `tests/it/layers.rs` proves it.
//!
//! | room | what it holds | may use |
//! |---|---|---|
//! | `base` | identities, roles, values at roles, values as bytes, aborts | |
//! | `contract` | what is required of a store, a transport, a clock | `base` |
//! | `frame` | what travels between roles and nodes, as bytes | `base` |
//! | `record` | what is written into the store, as bytes | `base`, `contract`, `frame` |
//! | `state` | the built-in state as a step sees it | `base`, `contract` |
//! | `step` | saga steps: the users' traits, and steps with their types erased | `base`, `contract`, `state` |
//! | `machine` | the protocol of one role instance, a pure state machine | all of the above |
//! | `language` | choreographies and the operations of their programs | all of the above |
//! | `driver` | what polls a program and gives its machine turns | all of the above |
//! | `testing` | harness, crash explorer, invariants, lints for users' tests | all of the above |

// On docs.rs each item says which feature it needs.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod base;
pub mod contract;
pub mod frame;
pub mod record;
pub mod state;

mod step;

pub mod machine;

mod language;

#[doc(hidden)]
pub mod driver;

pub mod testing;

pub use base::{id, message, panics};
pub use driver::role_instance;

#[doc(hidden)]
pub use base::abort::Undecided;
pub use base::abort::{Abort, Retry};
pub use base::id::{IdempotencyKey, NodeId, Path, SessionId};
pub use base::located::{Absent, At, Local, Located, Service};
pub use base::message::{Message, Payload};
pub use base::role::{Has, Includes, Role, RoleSet};
pub use driver::local::{Services, run_local};
pub use language::choreography::Choreography;
pub use language::context::Context;
pub use language::group::{Gather, Targets};
pub use language::loop_state::{Known, LoopState};
pub use state::{State, Table};
pub use step::{CommitOutcome, Compensation, Kind, LocalTransaction, Step, Transaction};
