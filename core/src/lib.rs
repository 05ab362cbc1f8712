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
//! | `base` | identities, roles and names, values at roles, values as bytes, aborts | |
//! | `contract` | what is required of a store, a transport, a clock | `base` |
//! | `frame` | what travels between roles and nodes, as bytes | `base` |
//! | `record` | what is written into the store, as bytes | `base`, `contract`, `frame` |
//! | `state` | the built-in state as a step sees it | `base`, `contract` |
//! | `step` | saga steps: the users' traits, functions as steps, steps type-erased | `base`, `contract`, `state` |
//! | `machine` | the protocol of one role instance, a pure state machine | all of the above |
//! | `language` | choreographies and the operations of their programs | all of the above |
//! | `driver` | what polls a program and gives its machine turns | all of the above |
//! | `drawing` | sequence diagrams as pictures | |
//! | `timeline` | a session's records in causal order | `base`, `contract`, `frame`, `record`, `machine`, `drawing` |
//! | `testing` | harness, crash explorer, invariants, lints, diagrams for users' tests | all of the above |

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

// Frames around parts of a picture are only in diagrams of choreographies.
#[cfg_attr(not(feature = "testing"), allow(dead_code, reason = "timelines have no frames"))]
mod drawing;

pub mod timeline;

pub mod testing;

#[doc(hidden)]
pub use base::error_text;
pub use base::{id, message, panics};
pub use driver::role_instance;

/// The traits that have a derive of the same name, without it: `accompanist` exports derives of its own.
#[doc(hidden)]
pub mod traits {
    pub use crate::base::located::Absent;
    pub use crate::base::role::Role;
}

// The derives, under the names of their traits.
#[cfg(feature = "macros")]
pub use accompanist_macros::{CoreAbsent as Absent, CoreRole as Role};
#[doc(hidden)]
pub use base::abort::Undecided;
pub use base::abort::{Abort, Retry};
pub use base::id::{IdempotencyKey, NodeId, Path, SessionId};
#[doc(hidden)]
pub use base::known::KnownAfterBroadcast;
pub use base::located::{Absent, At, Local, Located, Service};
pub use base::message::{Message, Payload};
#[doc(hidden)]
pub use base::name::JoinedName;
pub use base::role::{Has, Includes, Many, Participant, Role, RoleSet};
pub use base::role_names::{FamilySizeError, MEMBERS_MAX, RoleNames};
pub use driver::local::{Services, run_local};
pub use language::choreography::Choreography;
pub use language::context::Context;
pub use language::family::{Beside, Each, FamilyMember, FamilyMembers};
pub use language::group::{Gather, Targets};
pub use language::loop_state::{Known, LoopState};
pub use state::{State, Table};
pub use step::{CommitOutcome, Compensation, Kind, LocalTransaction, Step, Transaction};
pub use step::{FunctionStep, LocalFunctionStep, local_pivot, local_retriable, local_step, pivot, retriable, step};
