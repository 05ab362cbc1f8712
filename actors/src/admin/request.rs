//! What a tool asks. Fields and variants are only ever added; a node ignores fields that it does not know, and refuses
//! variants that it does not know.

use serde::{Deserialize, Serialize};

use super::reply::PartState;

/// The most sessions' parts in one reply.
pub const SESSIONS_MAX: usize = 200;
/// The most parts that one request acts on; a tool repeats the request from where the reply says.
pub const ACTIONS_MAX: usize = 100;

/// A request that changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ReadRequest {
    /// The node itself: its roles and choreographies, its membership, its peers, its databases, what is wrong.
    Node,
    /// A page of the parts of open sessions.
    Sessions(SessionsRequest),
    /// The parts of one session here, with everything that is known of each, including its journal.
    Session {
        /// The session's id in full.
        session: String,
    },
    /// The records of one session here, from which a timeline is made.
    Records {
        /// The session's id in full.
        session: String,
    },
    /// The messages that could not be handled.
    DeadLetters,
    /// A page of the audit trail.
    Audit(AuditRequest),
}

/// Which parts of open sessions to list, a page at a time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SessionsRequest {
    /// The parts to list.
    pub filter: SessionFilter,
    /// Where the page begins: `next` of the reply before it.
    pub after: Option<String>,
    /// The most parts in the reply; [`SESSIONS_MAX`] if absent.
    pub limit: Option<usize>,
}

/// Which parts are meant: those that every given field fits.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SessionFilter {
    /// The beginning of the session's id.
    pub session: Option<String>,
    /// The choreography.
    pub choreography: Option<String>,
    /// The choreography's version.
    pub version: Option<u32>,
    /// The role whose part it is.
    pub role: Option<String>,
    /// A node of the session's cast.
    pub cast: Option<String>,
    /// The states; none for all.
    pub states: Vec<PartState>,
    /// Only parts that need an operator: their own state is `needs_operator`, `stopped`, `quarantined` or `unreadable`.
    pub in_trouble: bool,
    /// Only the parts of the initiating role.
    pub initiator: bool,
    /// Only sessions that were started at least so long ago, in milliseconds.
    pub older_than_ms: Option<u64>,
    /// Only parts that have waited for the same thing for at least so long, in milliseconds.
    pub waits_longer_than_ms: Option<u64>,
    /// Only parts with a step of this name that is retried or in trouble.
    pub step: Option<String>,
}

/// Which entries of the audit trail to list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AuditRequest {
    /// Entries with a number below this one; the latest ones if absent.
    pub before: Option<u64>,
    /// The most entries in the reply.
    pub limit: Option<usize>,
}

/// A request that changes something. Each is recorded in the node's audit trail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum WriteRequest {
    /// Acts on parts of sessions.
    Parts(PartsAction),
    /// Acts on the node.
    Node(NodeAction),
}

/// An action on parts of sessions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartsAction {
    /// The action.
    pub action: PartAction,
    /// The parts.
    pub target: Target,
    /// Change nothing, and reply with the parts that would be concerned.
    #[serde(default)]
    pub dry_run: bool,
}

/// The parts that an action concerns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// The parts of one session here.
    Session {
        /// The session's id in full.
        session: String,
        /// The role whose part is meant. If absent: the part that the action fits, which must be one.
        #[serde(default)]
        role: Option<String>,
    },
    /// The parts that a filter fits, a page at a time.
    Filter {
        /// The parts.
        filter: Box<SessionFilter>,
        /// Where the page begins: `next` of the reply before it.
        #[serde(default)]
        after: Option<String>,
        /// The most parts to act on; [`ACTIONS_MAX`] if absent.
        #[serde(default)]
        limit: Option<usize>,
    },
}

/// What is to be done with a part: the ways out of `docs/operators.md`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum PartAction {
    /// [`InstanceOperator::cancel`](crate::InstanceOperator::cancel).
    Cancel {
        /// The reason, which becomes part of the abort.
        reason: String,
    },
    /// [`InstanceOperator::abort`](crate::InstanceOperator::abort).
    Abort {
        /// The reason, which becomes part of the abort.
        reason: String,
    },
    /// [`InstanceOperator::terminate`](crate::InstanceOperator::terminate).
    Terminate {
        /// The reason, which becomes part of the abort.
        reason: String,
    },
    /// [`InstanceOperator::resume`](crate::InstanceOperator::resume).
    Resume,
    /// Tries the steps in trouble again.
    Retry,
    /// Counts the steps in trouble as compensated: somebody has done so by hand.
    Resolve,
    /// [`InstanceOperator::skip_message`](crate::InstanceOperator::skip_message).
    SkipMessage,
}

/// What is to be done with a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum NodeAction {
    /// [`Operator::drain`](crate::Operator::drain).
    Drain,
    /// [`Operator::undrain`](crate::Operator::undrain).
    Undrain,
    /// [`Operator::leave`](crate::Operator::leave); fails while the node is needed.
    Leave,
    /// [`Operator::cordon`](crate::Operator::cordon).
    Cordon {
        /// The other node.
        node: String,
    },
    /// [`Operator::uncordon`](crate::Operator::uncordon).
    Uncordon {
        /// The other node.
        node: String,
    },
    /// [`Operator::forget`](crate::Operator::forget).
    Forget {
        /// The other node.
        node: String,
    },
    /// [`Operator::replay_dead_letter`](crate::Operator::replay_dead_letter).
    ReplayDeadLetter {
        /// The letter's number.
        number: u64,
    },
    /// [`Operator::discard_dead_letter`](crate::Operator::discard_dead_letter).
    DiscardDeadLetter {
        /// The letter's number.
        number: u64,
    },
}
