//! Errors for the caller. Each says what to do.

use std::time::Duration;

use accompanist_core::contract::{StoreError, TransportError};
use accompanist_core::frame::AdvertisementError;
use accompanist_core::machine::SessionTrouble;
use accompanist_core::message::{CodecError, Fingerprint};
use accompanist_core::{Abort, FamilySizeError, NodeId, SessionId};

use crate::config::ConfigError;
use crate::peers::{DrainProgress, MemberStatus, MissingRole};
use crate::security::SecurityError;
use crate::security::members::MembersError;
use crate::security::seal::SealError;
use crate::writer::WriterFailure;

/// The reasons why a node cannot start or cannot go on.
#[derive(Clone, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// The builder lacks a required part.
    #[error("the node lacks {0}")]
    Incomplete(&'static str),
    /// Two choreographies have the same name and version.
    #[error("choreography `{name}` version {version} is given twice: raise its VERSION or leave one out")]
    ChoreographyTwice {
        /// The name.
        name: &'static str,
        /// The version.
        version: u32,
    },
    /// A member of a role family would start the choreography.
    #[error(
        "choreography `{name}` is started by role `{role}`, of which it has a family: locate its input at a single role"
    )]
    StartedByFamily {
        /// The choreography.
        name: &'static str,
        /// The role.
        role: &'static str,
    },
    /// A single-valued part was given twice, or in two ways that contradict each other.
    #[error("the node was given two {what}, {first} and {second}: leave one out")]
    GivenTwice {
        /// The kind of part, in the plural: "stores", "transports".
        what: &'static str,
        /// The first value.
        first: String,
        /// The second value.
        second: String,
    },
    /// One role was given two services.
    #[error(
        "role `{0}` is given twice, each time with a service: leave one out, or give one of the roles another NAME"
    )]
    RoleTwice(&'static str),
    /// Two databases have the same name.
    #[error("two databases are named `{0}`: give each a name of its own, since the node's store knows them by it")]
    DatabaseTwice(String),
    /// A choreography's role names are empty or not distinct.
    #[error("choreography `{name}` has a role name twice or an empty one: each role needs a NAME of its own")]
    RoleNames {
        /// The choreography.
        name: &'static str,
    },
    /// An actor and a role have the same name.
    #[error("an actor and a role are named `{0}`: give one of them another NAME")]
    ActorAndRole(&'static str),
    /// The roles and choreographies cannot be advertised to other nodes.
    #[error(transparent)]
    Advertisement(#[from] AdvertisementError),
    /// The process aborts on a panic, so that no supervisor could restart anything.
    #[error(
        "this binary is built with `panic = \"abort\"`, which takes supervision away: build it with `panic = \
         \"unwind\"`"
    )]
    PanicAborts,
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The markers of steps on a database cannot be used, or are not those that the node has used before.
    #[error("the markers of steps on database `{name}`: {reason}")]
    Markers {
        /// The database's name in the builder.
        name: String,
        /// The reason, and what to do.
        reason: String,
    },
    /// The administrative interface cannot be served over HTTP.
    #[error("the administrative interface over HTTP at `{address}` (`admin.http_listen`): {reason}")]
    AdminHttp {
        /// The address in the settings.
        address: String,
        /// The reason, and what to do.
        reason: String,
    },
    /// The members file cannot be used, or does not allow this node.
    #[error(transparent)]
    Members(#[from] MembersError),
    /// Packets cannot be sealed.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The transport cannot be used.
    #[error("{0}")]
    Transport(String),
    /// A group of the service's own actors cannot be started.
    #[error("group `{name}` cannot be started: {reason}")]
    Group {
        /// The group's name.
        name: String,
        /// The reason.
        reason: String,
    },
    /// Two groups have the same name.
    #[error("two groups are named `{0}`: give each a name of its own")]
    GroupTwice(String),
    /// The settings are invalid.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A part that the node cannot run without has ended: the thread or task of its writer, the supervisor of all its
    /// actors, or the tokio runtime that they run on.
    #[error("the node's {part} has ended ({reason}): start the node again; what was acknowledged is kept")]
    Ended {
        /// The part that has ended.
        part: &'static str,
        /// The reason.
        reason: String,
    },
    /// The actors of the node failed again and again.
    #[error("the node's {part} failed {times} times in {period_s} s, the last time with: {reason}")]
    RestartedTooOften {
        /// The failing part or group.
        part: String,
        /// The number of failures.
        times: u32,
        /// The period in which they happened, in seconds.
        period_s: u64,
        /// The last failure.
        reason: String,
    },
}

accompanist_core::debug_as_text!(NodeError);

impl From<WriterFailure> for NodeError {
    fn from(failure: WriterFailure) -> Self {
        match failure {
            WriterFailure::Store(error) => Self::Store(error),
            WriterFailure::Ended(reason) => Self::Ended { part: "writer", reason },
        }
    }
}

impl From<SecurityError> for NodeError {
    fn from(error: SecurityError) -> Self {
        match error {
            SecurityError::Members(error) => Self::Members(error),
            SecurityError::Seal(error) => Self::Seal(error),
        }
    }
}

impl From<TransportError> for NodeError {
    fn from(error: TransportError) -> Self {
        Self::Transport(error.to_string())
    }
}

/// The reasons why a session cannot be started. No session was started.
#[derive(Clone, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The choreography was not given to the builder.
    #[error("choreography `{name}` version {version} is not known to this node: give it to the builder")]
    UnknownChoreography {
        /// The name.
        name: &'static str,
        /// The version.
        version: u32,
    },
    /// The members file does not let this node start the choreography.
    #[error("the members file does not let `{node}` start `{name}`: add it to `starts` of the node there")]
    NotAllowed {
        /// This node.
        node: NodeId,
        /// The choreography.
        name: &'static str,
    },
    /// Another node plays the initiating role.
    #[error("role `{role}` starts this choreography and is not played by this node: start it on a node that plays it")]
    NotPlayedHere {
        /// The role.
        role: &'static str,
    },
    /// This node drains and takes no new sessions.
    #[error(
        "this node drains, and takes no new sessions: start it on another node that plays the role, or `undrain` this \
         one"
    )]
    Draining,
    /// This node has left for good, or an operator has had it forgotten.
    #[error(
        "this node has left, and takes no new sessions: start it on another node, or let this one join anew with \
         `undrain`"
    )]
    HasLeft,
    /// No known node plays a role.
    #[error(
        "no node is known that plays role `{role}` and takes new sessions: is one running, connected to this one in \
         both directions, not draining, and not cordoned here?"
    )]
    NobodyPlays {
        /// The role.
        role: &'static str,
    },
    /// Each version lacks, for some role, a node that plays the role with that version.
    #[error(
        "no version of `{name}` has a node for each of its roles ({}): upgrade nodes until they have one in common",
        gaps_text(.missing)
    )]
    NoCommonVersion {
        /// The choreography.
        name: &'static str,
        /// The missing roles of each version, the highest version first.
        missing: Vec<MissingRole>,
    },
    /// The key names a session that was started with a version whose types differ.
    #[error(
        "session {session} runs version {found} of `{name}`, which is started by another role than version {version}, \
         or with values of other types: follow it with a choreography that has those of version {found}"
    )]
    OtherVersion {
        /// The session.
        session: SessionId,
        /// The choreography.
        name: &'static str,
        /// The version that was asked for.
        version: u32,
        /// The version that the session runs.
        found: u32,
    },
    /// Two values were given to one option of the start.
    #[error("the start was given two values of its {option}, `{first}` and `{second}`: leave one out")]
    OptionTwice {
        /// Which option of the [`Start`](crate::Start).
        option: String,
        /// The first value.
        first: String,
        /// The second.
        second: String,
    },
    /// The input is too large.
    #[error("the input has {found} bytes, the limit is {limit}: send a reference to it, or raise `payload_bytes_max`")]
    InputTooLarge {
        /// The input's size in bytes.
        found: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The role family cannot have the number of members that was given, or none was given.
    #[error(transparent)]
    Family(#[from] FamilySizeError),
    /// The key stands for a session that was started with another input, or another number of members of the role
    /// family.
    #[error(
        "the key stands for session {session} of `{name}`, which was started with another input (fingerprint {first}, \
         this one is {input}): use another key, or follow that session with `Node::session`"
    )]
    OtherInput {
        /// The choreography's name.
        name: &'static str,
        /// The session that the key stands for.
        session: SessionId,
        /// The fingerprint of that session's input.
        first: Fingerprint,
        /// The fingerprint of the input of this call.
        input: Fingerprint,
    },
    /// The input cannot be encoded.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// Too many sessions are in memory.
    #[error(
        "{0} sessions are at work here, which is the limit: try again when some have ended, or raise `instances_max`"
    )]
    Overloaded(usize),
    /// Messages wait too long at a node that would be cast, or this start has waited too long for its turn. No
    /// session was started.
    #[error(
        "what arrives at node `{node}` takes {delay:?} until it is on disk, so that a session would wait for longer \
         than `queue_delay_max`: try again later"
    )]
    QueueTooLong {
        /// The node, which may be this one.
        node: NodeId,
        /// The time that a message takes there at present.
        delay: Duration,
    },
    /// Too many role instances are open on disk.
    #[error(
        "{0} role instances are open in the store, which is the limit: try again when some have ended, or raise \
         `open_max`"
    )]
    TooManyOpen(u64),
    /// The node has stopped.
    #[error("the node has stopped")]
    NodeStopped,
}

accompanist_core::debug_as_text!(StartError);

impl StartError {
    /// Returns the error for a node of this membership that takes no new sessions.
    pub(crate) fn not_serving(standing: MemberStatus) -> Self {
        if standing == MemberStatus::Left { Self::HasLeft } else { Self::Draining }
    }

    pub(crate) fn nobody_plays(name: &'static str, missing: Vec<MissingRole>) -> Self {
        match missing.first() {
            Some(MissingRole { role, .. }) if missing.iter().all(|gap| gap.player.is_none()) => {
                Self::NobodyPlays { role }
            }
            _ => Self::NoCommonVersion { name, missing },
        }
    }
}

/// The reasons why draining cannot be waited for.
#[derive(Clone, thiserror::Error)]
#[non_exhaustive]
pub enum DrainError {
    /// The node does not drain.
    #[error("the node does not drain: call `drain` first")]
    NotDraining,
    /// The node has stopped, or its store has failed. The node still drains when it starts again.
    #[error(transparent)]
    Store(#[from] StoreError),
}

accompanist_core::debug_as_text!(DrainError);

/// The reasons why a node cannot leave.
#[derive(Clone, thiserror::Error)]
#[non_exhaustive]
pub enum LeaveError {
    /// The node does not drain.
    #[error("the node does not drain: call `drain` and wait for `drained` first")]
    NotDraining,
    /// Open sessions still need the node.
    #[error("the node is still needed ({}): wait for `drained` first", needed_text(.0))]
    Needed(DrainProgress),
    /// The node was made to join anew meanwhile.
    #[error("the node has joined anew meanwhile: it was told to `undrain`")]
    JoinedAnew,
    /// The node has stopped, or its store has failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

accompanist_core::debug_as_text!(LeaveError);

impl From<DrainError> for LeaveError {
    fn from(error: DrainError) -> Self {
        match error {
            DrainError::NotDraining => Self::NotDraining,
            DrainError::Store(error) => Self::Store(error),
        }
    }
}

fn needed_text(progress: &DrainProgress) -> String {
    let open = progress.open.iter().filter(|(_, open)| **open != Some(0));
    let texts = open.map(|(node, open)| match open {
        Some(open) => format!("{open} instances are open at `{node}`"),
        None => format!("`{node}` has not said yet"),
    });
    texts.collect::<Vec<_>>().join(", ")
}

/// The reasons why a node cannot be forgotten.
#[derive(Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ForgetError {
    /// The node is this one.
    #[error("a node cannot forget itself: call `drain`, `drained` and `leave` on it")]
    Own,
    /// No such node is known here, or the node has left already.
    #[error("no node `{0}` is known here: see `peers` for those that are")]
    Unknown(NodeId),
    /// The node that was asked has stopped, or its store has failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

accompanist_core::debug_as_text!(ForgetError);

/// The reasons why a node cannot be cordoned or uncordoned.
#[derive(Clone, thiserror::Error)]
#[non_exhaustive]
pub enum CordonError {
    /// The node is this one.
    #[error("a node cannot cordon itself: call `drain` on it")]
    Own,
    /// No such node is known here.
    #[error("no node `{0}` is known here: see `peers` for those that are")]
    Unknown(NodeId),
    /// The node that was asked has stopped, or its store has failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

accompanist_core::debug_as_text!(CordonError);

fn gaps_text(missing: &[MissingRole]) -> String {
    missing.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// The reasons why a session cannot be followed.
#[derive(Clone, thiserror::Error)]
#[non_exhaustive]
pub enum SessionLookupError {
    /// The session was not started here, or nothing of it is retained any more: once its retention has ended, the two
    /// cases cannot be told apart.
    #[error(
        "session {session} is not known here, or no longer: was it started on this node, and less than `retention` ago?"
    )]
    Unknown {
        /// The session.
        session: SessionId,
    },
    /// The session runs, or ran, another choreography.
    #[error("session {session} is one of `{found}`, not of `{asked}`: ask for it as what it was started as")]
    OtherChoreography {
        /// The session.
        session: SessionId,
        /// The name of the session's choreography.
        found: String,
        /// The name of the choreography that was asked for.
        asked: &'static str,
    },
    /// The session runs, or ran, a version that another role starts, or whose types differ.
    #[error(
        "session {session} is of version {found}, with other types than version {asked}: ask for it as what it was \
         started as"
    )]
    OtherVersion {
        /// The session.
        session: SessionId,
        /// The session's version.
        found: u32,
        /// The version that was asked for.
        asked: u32,
    },
    /// The session's records cannot be read from the store.
    #[error(transparent)]
    Store(StoreError),
    /// The node has stopped.
    #[error("the node has stopped: the session can be asked for when it starts again")]
    NodeStopped,
}

accompanist_core::debug_as_text!(SessionLookupError);

impl From<StoreError> for SessionLookupError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Closed => Self::NodeStopped,
            error => Self::Store(error),
        }
    }
}

/// The reasons why a session returned no output.
#[derive(Clone, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// The session was aborted: what was committed is compensated, or is being compensated.
    #[error("aborted: {0}")]
    Aborted(Abort),
    /// The session is stopped until an operator acts. Nothing is lost.
    #[error("session {session} is stopped: {reason}")]
    Stopped {
        /// The session.
        session: SessionId,
        /// The reason.
        reason: String,
    },
    /// Roles of the session cannot continue without an operator; returned by
    /// [`Session::settled_or_trouble`](crate::Session::settled_or_trouble) alone. The session continues when an
    /// operator has acted.
    #[error(
        "session {session} waits for an operator ({}): at that node, `resolve` the step, or `resume`, `abort` or \
         `terminate` the stopped part",
        troubles_text(troubles)
    )]
    InTrouble {
        /// The session.
        session: SessionId,
        /// The roles, with their nodes and the problem of each.
        troubles: Vec<SessionTrouble>,
    },
    /// The session has ended, and its output cannot be decoded.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// The node has stopped; the session continues when it starts again.
    #[error("the node has stopped: the session goes on when it starts again")]
    NodeStopped,
}

accompanist_core::debug_as_text!(SessionError);

fn troubles_text(troubles: &[SessionTrouble]) -> String {
    troubles.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
