//! What a node replies. Names everywhere: of roles, steps, choreographies and nodes. Times are milliseconds since the
//! Unix epoch, by the node's own clock.

use serde::{Deserialize, Serialize};

use super::audit::AuditEntry;
use accompanist_core::timeline::SessionPart;

/// The reply to a [`ReadRequest`](super::ReadRequest), of the same name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ReadReply {
    /// The node itself.
    Node(Box<NodeReply>),
    /// A page of parts.
    Sessions(SessionsReply),
    /// The parts of one session here; none if it is not open here.
    Session(SessionsReply),
    /// The records of one session here.
    Records(RecordsReply),
    /// The messages that could not be handled, the oldest first.
    DeadLetters(Vec<DeadLetterReply>),
    /// A page of the audit trail, the latest entry first.
    Audit(AuditReply),
}

/// A node, as it sees itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct NodeReply {
    /// The node's name.
    pub node: String,
    /// The release of the library.
    pub release: String,
    /// The node's time.
    pub unix_ms: u64,
    /// Its membership: `serving`, `draining` or `left`.
    pub status: String,
    /// The roles that it plays.
    pub roles: Vec<String>,
    /// The choreographies that it knows, each with its versions.
    pub choreographies: Vec<(String, Vec<u32>)>,
    /// How many role instances are open in the store; absent while they are being counted after a start.
    pub open: Option<u64>,
    /// How many role instances are in memory.
    pub in_memory: u64,
    /// Whether everything that was open at the start has been recovered.
    pub recovered: bool,
    /// The parts that are stopped, or need an operator.
    pub troubles: Vec<TroubleReply>,
    /// How many parts `troubles` left out, because they are too many.
    pub troubles_left_out: u64,
    /// How many messages could not be handled.
    pub dead_letters: u64,
    /// The other nodes that it knows.
    pub peers: Vec<PeerReply>,
    /// Its databases, beside its store.
    pub databases: Vec<DatabaseReply>,
}

/// A part that goes on only with an operator's help.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TroubleReply {
    /// The session.
    pub session: String,
    /// The role's index in the session.
    pub role_index: u8,
    /// Whether the part is stopped; otherwise a step of it is in trouble.
    pub stopped: bool,
    /// The reason.
    pub reason: String,
}

/// Another node, as this one sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PeerReply {
    /// The node's name.
    pub node: String,
    /// Its membership: `serving`, `draining` or `left`.
    pub status: String,
    /// The roles that it plays.
    pub roles: Vec<String>,
    /// Whether packets pass: `good`, `silent`, `deaf` or `unknown`.
    pub contact: String,
    /// For how long it has been silent or deaf, in milliseconds.
    pub contact_for_ms: Option<u64>,
    /// Whether its store is the known one; otherwise what is wrong with it.
    pub store: String,
    /// Whether this node gives it no new sessions.
    pub cordoned: bool,
}

/// A database that steps run on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DatabaseReply {
    /// Its name at the node.
    pub name: String,
    /// Whether steps on it run.
    pub ready: bool,
    /// Why not.
    pub reason: Option<String>,
}

/// Parts of sessions.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SessionsReply {
    /// The parts.
    pub parts: Vec<PartReply>,
    /// Where the next page begins; absent at the end. A page may be empty and have a next one.
    pub next: Option<String>,
}

/// The state of one role's part of an open session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum PartState {
    /// Its program runs or waits.
    Running,
    /// Its program has ended; other roles have not.
    Finished,
    /// The session is aborted, and something of this part is to be compensated.
    Compensating,
    /// Everything of this part is compensated; other roles are not done.
    Compensated,
    /// Everything has ended, and the part is about to be closed.
    Closed,
    /// A step needs an operator.
    NeedsOperator,
    /// It has failed too often and is not run.
    Quarantined,
    /// It is stopped until an operator acts.
    Stopped,
    /// The store cannot read it.
    Unreadable,
}

impl PartState {
    /// Whether an operator has to act.
    pub fn needs_help(self) -> bool {
        matches!(self, Self::NeedsOperator | Self::Quarantined | Self::Stopped | Self::Unreadable)
    }

    /// The state's name, as on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Finished => "finished",
            Self::Compensating => "compensating",
            Self::Compensated => "compensated",
            Self::Closed => "closed",
            Self::NeedsOperator => "needs_operator",
            Self::Quarantined => "quarantined",
            Self::Stopped => "stopped",
            Self::Unreadable => "unreadable",
        }
    }
}

/// One role's part of an open session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PartReply {
    /// The session.
    pub session: String,
    /// The choreography; empty if the part cannot be read.
    pub choreography: String,
    /// The choreography's version.
    pub version: u32,
    /// The role.
    pub role: String,
    /// The role's index in the session.
    pub role_index: u8,
    /// The node that plays it.
    pub node: String,
    /// The role that has started the session.
    pub initiator: String,
    /// The node that has started the session, where it can be cancelled.
    pub initiator_node: String,
    /// The roles of the session, with the node of each.
    pub cast: Vec<(String, String)>,
    /// When the session was started, by the initiator's clock.
    pub started_unix_ms: u64,
    /// When the session is aborted if it has not ended.
    pub deadline_unix_ms: Option<u64>,
    /// The state.
    pub state: PartState,
    /// Why it is stopped, or what its first step in trouble says.
    pub reason: Option<String>,
    /// Whether it is in memory. A part that only waits may have been passivated.
    pub in_memory: bool,
    /// What its program waits for; empty for a part that is not in memory.
    pub waits: Vec<WaitReply>,
    /// Its steps that run, are retried or are in trouble.
    pub steps: Vec<StepReply>,
    /// Its records on disk, one line each: only in the reply to a request for one session.
    pub journal: Vec<String>,
    /// Why the session is aborted, if it is.
    pub abort: Option<String>,
    /// The roles that have reported to this one, which started the session, that they need an operator.
    pub reported: Vec<ReportReply>,
}

/// What a role has reported to the one that started the session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ReportReply {
    /// The role that needs an operator.
    pub role: String,
    /// The node that plays it.
    pub node: String,
    /// Why.
    pub reason: String,
}

/// What a program waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct WaitReply {
    /// The position in the program.
    pub path: String,
    /// What is awaited.
    pub what: String,
    /// The role that is waited for.
    pub role: Option<String>,
    /// The node that plays that role.
    pub node: Option<String>,
    /// Since when, as far as is known since the part was last loaded.
    pub since_unix_ms: Option<u64>,
    /// Until when at most.
    pub until_unix_ms: Option<u64>,
}

/// A step that runs, is retried, or is in trouble.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StepReply {
    /// The position in the program.
    pub path: String,
    /// The step's name.
    pub step: String,
    /// What is being tried: `commit` or `compensate`, for instance.
    pub task: String,
    /// Whether it needs an operator.
    pub needs_operator: bool,
    /// How often it was tried.
    pub tries: u64,
    /// What the last try failed with.
    pub last_error: Option<String>,
    /// Since when it is tried, as far as is known since the part was last loaded.
    pub since_unix_ms: Option<u64>,
    /// When it is tried again.
    pub next_try_unix_ms: Option<u64>,
}

/// The records of one session at a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RecordsReply {
    /// The parts that are open here, or closed and not forgotten.
    pub parts: Vec<SessionPart>,
    /// All roles of the session, as far as a part here says: for those that are elsewhere.
    pub roles: Vec<RoleReply>,
}

/// A role of a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RoleReply {
    /// The role's index in the session.
    pub index: u8,
    /// The role's name.
    pub name: String,
    /// The node that plays it.
    pub node: String,
}

/// A message that could not be handled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DeadLetterReply {
    /// Its number at this node.
    pub number: u64,
    /// The session.
    pub session: String,
    /// The choreography, if the message names it.
    pub choreography: Option<String>,
    /// The choreography's version.
    pub version: Option<u32>,
    /// The index of the receiving role.
    pub role_index: u8,
    /// The node that sent it.
    pub from: String,
    /// Why it could not be handled.
    pub reason: String,
    /// When it first arrived.
    pub first_unix_ms: u64,
    /// When it last arrived.
    pub last_unix_ms: u64,
    /// How often it has arrived since the node's start.
    pub times: u64,
}

/// A page of the audit trail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AuditReply {
    /// The entries, the latest first.
    pub entries: Vec<AuditEntry>,
}

/// The reply to a [`WriteRequest`](super::WriteRequest), of the same name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum WriteReply {
    /// The parts that were concerned.
    Parts(ActionReply),
    /// The node has done it; durable.
    Node,
}

/// The parts that an action concerned.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ActionReply {
    /// The parts, each with its result. In a dry run nothing was done.
    pub parts: Vec<ActedOn>,
    /// Where the next page begins; absent at the end. A page may be empty and have a next one.
    pub next: Option<String>,
}

/// The result of an action on one part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ActedOn {
    /// The session.
    pub session: String,
    /// The role.
    pub role: String,
    /// The state before.
    pub state: PartState,
    /// What was done, in a sentence; absent if it was refused.
    pub done: Option<String>,
    /// Why it was refused.
    pub refused: Option<String>,
}
