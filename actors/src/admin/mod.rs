//! The administrative interface: what operators' tools ask of a node and tell it to do.
//!
//! One implementation ([`Admin`]) with typed requests and replies, which travel as JSON so that any client can speak
//! them. Every node answers them over its network, unless [`AdminSettings`](crate::AdminSettings) switch that off. A
//! node answers for itself; a tool asks all nodes and puts the answers together. The command line `accompanist` is
//! such a tool. `docs/how-to/admin.md` describes the interface for other clients.
//!
//! Acts through [`Operator`](crate::Operator) and [`InstanceOperator`](crate::InstanceOperator). Knows no actors.

mod actions;
mod audit;
mod authority;
mod error;
mod filter;
#[cfg(feature = "admin-http")]
pub(crate) mod http;
mod inspect;
mod message;
mod network;
mod records;
mod reply;
mod request;
mod service;
mod sessions;
mod text;

pub use self::audit::AuditEntry;
pub use self::error::{AdminError, AdminErrorCode};
pub use self::message::{ADMIN_VERSION, AdminMessage, AdminResponse};
pub(crate) use self::network::answer_network;
pub use self::reply::{
    ActedOn, ActionReply, AuditReply, DatabaseReply, DeadLetterReply, NodeReply, PartReply, PartState, PeerReply,
    ReadReply, RecordsReply, ReportReply, RoleReply, SessionsReply, StepReply, TroubleReply, WaitReply, WriteReply,
};
pub use self::request::{
    ACTIONS_MAX, AuditRequest, NodeAction, PartAction, PartsAction, ReadRequest, SESSIONS_MAX, SessionFilter,
    SessionsRequest, Target, WriteRequest,
};
pub use self::service::Admin;
