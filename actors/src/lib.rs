//! Accompanist: resilient choreographic programming.
//!
//! One global program says what every role does. Each role's part of it runs beside that role's service as a
//! supervised, durable actor; there is no orchestrator. Start with [`Choreography`] for the program and [`Node`] to
//! run it; [`Operator`] is for those who look after a node. `docs/programming-model.md` shows every operation,
//! `docs/runtime-semantics.md` states the guarantees, and `docs/architecture.md` shows how a message travels.
//!
//! This crate depends on ractor and fjall. Zenoh's types stay inside [`transport`].
//!
//! The modules are the rooms of the crate, lowest first. Each uses only the rooms that are listed for it, which stand
//! above it; `core/tests/it/layers.rs` proves it. `runtime` has a list of its own.
//!
//! | room | what | may use |
//! |---|---|---|
//! | `base` | metrics, a latch, the log of drops, the clock, injected faults | |
//! | `config` | settings and policies as data, their ranges, and the file that has them | |
//! | `security` | the members of a system, and the sealing of packets | |
//! | `store` | the databases that hold all durable data | `config` |
//! | `telemetry` | where spans meet OpenTelemetry, and the way to a collector | |
//! | `supervision` | restarts after failures, and the service's own actors | `config` |
//! | `writer` | the one owner of the store: group commits, tombstones, callers' keys | `base`, `config`, `store` |
//! | `peers` | the known nodes, and the cast of a new session | `base`, `store`, `writer` |
//! | `error` | what callers are told, and what to do about it | `config`, `security`, `writer`, `peers` |
//! | `runtime` | the actors, and what they share | all of the above |
//! | `operator` | what operators see and do; handles on role instances | all of the above |
//! | `admin` | the administrative interface | `base`, `config`, `writer`, `peers`, `error`, `runtime`, `operator` |
//! | `node` | the node and its sessions | all of the above |
//! | `actor` | durable actors | `base`, `config`, `writer`, `error`, `runtime`, `operator`, `node` |
//! | `sql` | steps on a database outside | `writer`, `error`, `runtime`, `node` |
//! | `testing` | simulated worlds | `base`, `store`, `error`, `runtime`, `node` |

// On docs.rs each item says which feature it needs.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod base;
mod config;

mod security;
pub mod store;
pub mod supervision;
pub mod telemetry;

mod writer;

mod peers;

mod error;

mod runtime;

mod operator;

pub mod admin;

mod node;

pub mod actor;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub mod sql;

pub mod testing;

// The language: what a program is written in.
pub use accompanist_core::{
    Abort, At, Choreography, Context, Gather, Has, Includes, Known, Local, Located, LoopState, Message, RoleSet,
    Service, Services, Targets, run_local, traits::Absent, traits::Role,
};
// The derives, under the names of their traits.
#[cfg(feature = "macros")]
pub use accompanist_macros::{AccompanistAbsent as Absent, AccompanistRole as Role};
// Role families: a number of roles of one kind that a start chooses.
pub use accompanist_core::{
    Beside, Each, FamilyMember, FamilyMembers, FamilySizeError, MEMBERS_MAX, Many, Participant, RoleNames,
};
// Steps, and the built-in state that they and durable actors may use.
pub use accompanist_core::{
    CommitOutcome, Compensation, IdempotencyKey, Kind, LocalTransaction, Retry, State, Step, Table, Transaction,
};
// Steps made of functions.
pub use accompanist_core::{
    FunctionStep, LocalFunctionStep, local_pivot, local_retriable, local_step, pivot, retriable, step,
};
// The names of things.
pub use accompanist_core::{NodeId, Path, SessionId, name};
// What a user may implement or look into; `contract` is for stores, transports and environments of one's own. What the
// runtime alone needs of `accompanist-core` (frames, jobs, the state machine) is not exported again.
pub use accompanist_core::{contract, id, message, state, timeline};
pub use accompanist_transport as transport;

/// What is set of, and seen from, the state machine that runs a role's part.
pub mod machine {
    pub use accompanist_core::frame::RoleTrouble;
    pub use accompanist_core::machine::{
        INSPECTED_MAX, InspectedSignal, InspectedStep, InspectedWait, Inspection, SessionRole, SessionTrouble,
        StepState, UnacknowledgedFrames, WaitKind,
    };
    pub use accompanist_core::machine::{Limits, Resolution, SignalError, Status, Stop};
}

/// What a node writes of a session, as far as [histories](crate::testing::History) and operators see it.
pub mod record {
    pub use accompanist_core::record::{Opened, Record, StepFailure, Task};
}

pub use accompanist_core::frame::AdvertisementError;
pub use base::environment::SystemEnvironment;
pub use base::metric;
pub use config::{
    Actors, AdminNetworkAccess, AdminSettings, Config, ConfigError, ConfigMistake, Durability, NodeConfig, Retention,
    Settings, StoreConfig,
};
pub use error::{
    CordonError, DrainError, ForgetError, LeaveError, NodeError, SessionError, SessionLookupError, StartError,
};
pub use node::session::Session;
pub use node::{Node, NodeBuilder, Start};
pub use operator::handle::{AskError, InstanceHandle, InstanceOperator, UncompensatedStep};
pub use operator::{CastSession, Operator, Readiness};
pub use peers::{Contact, DrainProgress, KnownNode, MemberStatus, MissingRole, PeerStore};
pub use ractor;
pub use runtime::attach::DatabaseState;
pub use runtime::context::{Recovery, SessionInTrouble, StoppedSession, TroubledSession};
pub use runtime::dead_letters::DeadLetter;
pub use security::members::{Member, Members, MembersError};
pub use security::seal::{SEAL_KEY_FILE, SEAL_KEYS_MAX, SealError, SealKey, SealSecrets};
pub use writer::Tombstones;

/// The items that a service usually needs, for a glob import.
pub mod prelude {
    pub use crate::actor::{ActorContext, ActorError, Address, DurableActor};
    pub use crate::store::FjallStore;
    pub use crate::{
        Absent, AskError, Config, Durability, InstanceHandle, Node, NodeError, Retention, Role, Session, SessionError,
        SessionLookupError, Settings, StartError,
    };
    pub use accompanist_core::machine::Resolution;
    pub use accompanist_core::{
        Abort, At, Choreography, CommitOutcome, Compensation, Context, Each, FamilyMember, Has, IdempotencyKey,
        Includes, Kind, Known, Local, LocalTransaction, Many, NodeId, Retry, RoleSet, Services, SessionId, State,
        Table, Transaction, local_pivot, local_retriable, local_step, name, pivot, retriable, run_local, step,
    };
}

/// The README's examples as doc tests. One of them opens a Zenoh session.
#[cfg(all(doctest, feature = "zenoh"))]
#[doc = include_str!("../../README.md")]
mod readme {}

#[cfg(doctest)]
#[doc = include_str!("../../docs/language/roles.md")]
mod roles_page {}

#[cfg(doctest)]
#[doc = include_str!("../../docs/language/operations.md")]
mod operations_page {}

#[cfg(doctest)]
#[doc = include_str!("../../docs/language/parts.md")]
mod parts_page {}

#[cfg(all(doctest, feature = "testing"))]
#[doc = include_str!("../../docs/language/families.md")]
mod families_page {}

#[cfg(doctest)]
#[doc = include_str!("../../docs/language/steps.md")]
mod steps_page {}

#[cfg(doctest)]
#[doc = include_str!("../../docs/language/state.md")]
mod state_page {}

#[cfg(doctest)]
#[doc = include_str!("../../docs/how-to/sql.md")]
mod sql_page {}

#[cfg(doctest)]
#[doc = include_str!("../../docs/language/aborts.md")]
mod aborts_page {}

#[cfg(doctest)]
#[doc = include_str!("../../docs/language/loops.md")]
mod loops_page {}

#[cfg(doctest)]
#[doc = include_str!("../../docs/language/time.md")]
mod time_page {}

#[cfg(doctest)]
#[doc = include_str!("../../docs/language/outside.md")]
mod outside_page {}

#[cfg(doctest)]
#[doc = include_str!("../../docs/language/actors.md")]
mod actors_page {}

#[cfg(doctest)]
#[doc = include_str!("../../docs/language/determinism.md")]
mod determinism_page {}

#[cfg(doctest)]
#[doc = include_str!("../../docs/how-to/evolution.md")]
mod evolution_page {}

#[cfg(doctest)]
#[doc = include_str!("../../docs/language/results.md")]
mod results_page {}

#[cfg(doctest)]
#[doc = include_str!("../../docs/how-to/timeline.md")]
mod timeline_page {}

#[cfg(doctest)]
#[doc = include_str!("../../docs/how-to/run-local.md")]
mod run_local_page {}

#[cfg(doctest)]
#[doc = include_str!("../../docs/language/supervision.md")]
mod supervision_page {}

#[cfg(doctest)]
#[doc = include_str!("../../docs/how-to/traces.md")]
mod traces_page {}

#[cfg(doctest)]
#[doc = include_str!("../../docs/how-to/replicas.md")]
mod replicas_page {}

#[cfg(doctest)]
#[doc = include_str!("../../docs/observability.md")]
mod observability_page {}

#[cfg(all(doctest, feature = "macros", unix))]
#[doc = include_str!("../../docs/how-to/service.md")]
mod service_page {}

#[cfg(doctest)]
#[doc = include_str!("../../docs/runtime-semantics.md")]
mod runtime_semantics {}

#[cfg(doctest)]
#[doc = include_str!("../../docs/sidecars.md")]
mod sidecars {}

#[cfg(doctest)]
#[doc = include_str!("../../docs/explanation/orchestrators.md")]
mod orchestrators {}

#[cfg(all(doctest, feature = "zenoh"))]
#[doc = include_str!("../../docs/how-to/zenoh.md")]
mod zenoh_topologies {}

#[cfg(all(doctest, feature = "zenoh", feature = "encryption"))]
#[doc = include_str!("../../docs/security.md")]
mod security_documents {}

#[cfg(all(doctest, feature = "testing"))]
#[doc = include_str!("../../docs/how-to/idempotency.md")]
mod idempotency_page {}

#[cfg(all(doctest, feature = "testing"))]
#[doc = include_str!("../../docs/testing.md")]
mod testing_documents {}
