//! What can go wrong, for the caller. Each says what to do.

use std::fmt;
use std::time::Duration;

use accompanist_core::contract::{StoreError, TransportError};
use accompanist_core::frame::OfferError;
use accompanist_core::message::{CodecError, Fingerprint};
use accompanist_core::{Abort, NodeId, SessionId};

use crate::config::ConfigError;
use crate::members::MembersError;
use crate::peers::{DrainProgress, Standing};
use crate::seal::SealError;

/// A node that cannot start or cannot go on.
#[derive(Debug, Clone, thiserror::Error)]
pub enum NodeError {
    /// The builder lacks something.
    #[error("the node lacks {0}")]
    Incomplete(&'static str),
    /// Two choreographies of one name and version.
    #[error("choreography `{name}` version {version} is given twice: raise its VERSION or leave one out")]
    ChoreographyTwice {
        /// The name.
        name: &'static str,
        /// The version.
        version: u32,
    },
    /// Something of which a node has one was given twice, or in two ways that contradict each other.
    #[error("the node was given two {what}, {first} and {second}: leave one out")]
    GivenTwice {
        /// The kind of thing, in the plural: "stores", "transports".
        what: &'static str,
        /// The first of them.
        first: String,
        /// The second.
        second: String,
    },
    /// Two services for one role.
    #[error(
        "role `{0}` is given twice, each time with a service: leave one out, or give one of the roles another NAME"
    )]
    RoleTwice(&'static str),
    /// Two databases of one name.
    #[error("two databases are named `{0}`: give each a name of its own, since the node's store knows them by it")]
    DatabaseTwice(String),
    /// A choreography whose role names cannot tell the roles apart.
    #[error("choreography `{name}` has a role name twice or an empty one: each role needs a NAME of its own")]
    RoleNames {
        /// The choreography.
        name: &'static str,
    },
    /// An actor and a role of one name.
    #[error("an actor and a role are named `{0}`: give one of them another NAME")]
    ActorAndRole(&'static str),
    /// Roles and choreographies that cannot be told to other nodes.
    #[error(transparent)]
    Offer(#[from] OfferError),
    /// The process aborts on a panic, so that no supervisor could restart anything.
    #[error(
        "this binary is built with `panic = \"abort\"`, which takes supervision away: build it with `panic = \"unwind\"`"
    )]
    PanicAborts,
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The markers of steps on a database cannot be used, or are not those that the node has used before.
    #[error("the markers of steps on database `{name}`: {reason}")]
    Markers {
        /// What the builder calls the database.
        name: String,
        /// Why, and what to do.
        reason: String,
    },
    /// The members file cannot be used, or does not allow the node.
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
        /// Its name.
        name: String,
        /// Why.
        reason: String,
    },
    /// Two groups of one name.
    #[error("two groups are named `{0}`: give each a name of its own")]
    GroupTwice(String),
    /// The settings are no good.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Something that the node cannot go on without has ended: the thread or the task of its writer, the supervisor of all
    /// its actors, or the tokio runtime that they run on.
    #[error("the node's {part} has ended ({reason}): start the node again; what was acknowledged is kept")]
    Ended {
        /// Which of them.
        part: &'static str,
        /// Why.
        reason: String,
    },
    /// The actors of the node failed again and again.
    #[error("the node's {part} failed {times} times in {period_s} s, the last time with: {reason}")]
    RestartedTooOften {
        /// Which of them, or which group.
        part: String,
        /// How often.
        times: u32,
        /// In which period, in seconds.
        period_s: u64,
        /// The last failure.
        reason: String,
    },
}

impl From<TransportError> for NodeError {
    fn from(error: TransportError) -> Self {
        Self::Transport(error.to_string())
    }
}

/// A session that cannot be started. Nothing has happened.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StartError {
    /// The choreography was not given to the builder.
    #[error("choreography `{name}` version {version} is not known to this node: give it to the builder")]
    UnknownChoreography {
        /// The name.
        name: &'static str,
        /// The version.
        version: u32,
    },
    /// The members file does not let this node start it.
    #[error("the members file does not let `{node}` start `{name}`: add it to `starts` of the node there")]
    NotAllowed {
        /// The own node.
        node: NodeId,
        /// The choreography.
        name: &'static str,
    },
    /// The initiating role is played elsewhere.
    #[error("role `{role}` starts this choreography and is not played by this node: start it on a node that plays it")]
    NotPlayedHere {
        /// The role.
        role: &'static str,
    },
    /// This node drains, and takes no new sessions.
    #[error(
        "this node drains, and takes no new sessions: start it on another node that plays the role, or `undrain` this one"
    )]
    Draining,
    /// This node has left for good, or an operator has had it forgotten.
    #[error(
        "this node has left, and takes no new sessions: start it on another node, or let this one join anew with `undrain`"
    )]
    HasLeft,
    /// Nobody plays a role.
    #[error(
        "no node is known that plays role `{role}` and takes new sessions: is one running, connected to this one in both directions, not draining, and not cordoned here?"
    )]
    NobodyPlays {
        /// The role.
        role: &'static str,
    },
    /// Each version lacks a node that has it, for some role.
    #[error("no version of `{name}` has a node for each of its roles ({}): upgrade nodes until they have one in common", gaps_text(.gaps))]
    NoCommonVersion {
        /// The choreography.
        name: &'static str,
        /// What each version lacks, the highest first.
        gaps: Vec<Gap>,
    },
    /// The key names a session that was begun with a version of other types.
    #[error(
        "session {session} runs version {found} of `{name}`, which is started by another role than version {version}, or \
         with values of other types: follow it with a choreography that has those of version {found}"
    )]
    OtherVersion {
        /// The session.
        session: SessionId,
        /// The choreography.
        name: &'static str,
        /// The version asked for.
        version: u32,
        /// The version that it runs.
        found: u32,
    },
    /// Two values were given to one option of the start.
    #[error("the start was given two values of its {option}, `{first}` and `{second}`: leave one out")]
    OptionTwice {
        /// Which of the [`StartOptions`](crate::StartOptions).
        option: String,
        /// The first value.
        first: String,
        /// The second.
        second: String,
    },
    /// The input is too large.
    #[error("the input has {found} bytes, the limit is {limit}: send a reference to it, or raise `payload_bytes_max`")]
    InputTooLarge {
        /// Its size in bytes.
        found: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The key stands for a session that was started with another input.
    #[error(
        "the key stands for session {session} of `{name}`, which was started with another input (fingerprint {first}, this one is \
         {input}): use another key, or follow that session with `Node::session`"
    )]
    OtherInput {
        /// The choreography's name.
        name: &'static str,
        /// The session that the key stands for.
        session: SessionId,
        /// The fingerprint of its input.
        first: Fingerprint,
        /// The fingerprint of the input now.
        input: Fingerprint,
    },
    /// The input has no encoding.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// Too many sessions are in memory.
    #[error(
        "{0} sessions are at work here, which is the limit: try again when some have ended, or raise `instances_max`"
    )]
    Overloaded(usize),
    /// What arrives at a node that would be cast waits too long, or this start has waited for its turn for too long. Nothing
    /// was begun.
    #[error(
        "what arrives at node `{node}` takes {delay:?} until it is on disk, so that a session would wait for longer than \
         `queue_delay_max`: try again later"
    )]
    QueueTooLong {
        /// The node, which may be this one.
        node: NodeId,
        /// What a message takes there at present.
        delay: Duration,
    },
    /// Too many role instances are open on disk.
    #[error(
        "{0} role instances are open in the store, which is the limit: try again when some have ended, or raise `open_max`"
    )]
    TooManyOpen(u64),
    /// The node has stopped.
    #[error("the node has stopped")]
    NodeStopped,
}

impl StartError {
    /// Of a node that stands so with the others.
    pub(crate) fn not_serving(standing: Standing) -> Self {
        if standing == Standing::Left { Self::HasLeft } else { Self::Draining }
    }

    pub(crate) fn nobody_plays(name: &'static str, gaps: Vec<Gap>) -> Self {
        match gaps.first() {
            Some(Gap { role, .. }) if gaps.iter().all(|gap| gap.player.is_none()) => Self::NobodyPlays { role },
            _ => Self::NoCommonVersion { name, gaps },
        }
    }
}

/// Draining that cannot be waited for.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DrainError {
    /// The node does not drain.
    #[error("the node does not drain: call `drain` first")]
    NotDraining,
    /// The node has stopped, or its store has failed. It still drains when it starts again.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A node that cannot leave.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LeaveError {
    /// It does not drain.
    #[error("the node does not drain: call `drain` and wait for `drained` first")]
    NotDraining,
    /// It is still needed.
    #[error("the node is still needed ({}): wait for `drained` first", needed_text(.0))]
    Needed(DrainProgress),
    /// It was let join anew meanwhile.
    #[error("the node has joined anew meanwhile: it was told to `undrain`")]
    JoinedAnew,
    /// The node has stopped, or its store has failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

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

/// A node that cannot be forgotten.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ForgetError {
    /// It is this one.
    #[error("a node cannot forget itself: call `drain`, `drained` and `leave` on it")]
    Own,
    /// No such node is known here, or it has left already.
    #[error("no node `{0}` is known here: see `peers` for those that are")]
    Unknown(NodeId),
    /// The node that was asked has stopped, or its store has failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A node that cannot be cordoned, or no longer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CordonError {
    /// It is this one.
    #[error("a node cannot cordon itself: call `drain` on it")]
    Own,
    /// No such node is known here.
    #[error("no node `{0}` is known here: see `peers` for those that are")]
    Unknown(NodeId),
    /// The node that was asked has stopped, or its store has failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why no cast can play a version: a role that no known node plays with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// The version.
    pub version: u32,
    /// The role.
    pub role: &'static str,
    /// A node that plays the role, if there is one, with the versions that it offers.
    pub player: Option<(NodeId, Vec<u32>)>,
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { version, role, player } = self;
        match player {
            None => write!(f, "version {version}: no node is known that plays role `{role}` and takes new sessions"),
            Some((node, versions)) => {
                write!(f, "version {version}: role `{role}` is played by node `{node}`, which offers ")?;
                let versions: Vec<_> = versions.iter().map(|version| format!("version {version}")).collect();
                f.write_str(if versions.is_empty() { "none of it".into() } else { versions.join(", ") }.as_str())
            }
        }
    }
}

fn gaps_text(gaps: &[Gap]) -> String {
    gaps.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// A session that cannot be followed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SessionLookupError {
    /// It was not started here, or nothing is kept of it any more: once its retention has ended, the two look alike.
    #[error(
        "session {session} is not known here, or no longer: was it started on this node, and less than `retention` ago?"
    )]
    Unknown {
        /// The session.
        session: SessionId,
    },
    /// It runs, or ran, another choreography.
    #[error("session {session} is one of `{found}`, not of `{asked}`: ask for it as what it was started as")]
    OtherChoreography {
        /// The session.
        session: SessionId,
        /// The name of its choreography.
        found: String,
        /// The name of the one that was asked for.
        asked: &'static str,
    },
    /// It runs, or ran, a version that is started by another role, or with values of other types.
    #[error(
        "session {session} is of version {found}, with other types than version {asked}: ask for it as what it was started as"
    )]
    OtherVersion {
        /// The session.
        session: SessionId,
        /// Its version.
        found: u32,
        /// The version of what was asked for.
        asked: u32,
    },
    /// What the store has of it cannot be read.
    #[error(transparent)]
    Store(StoreError),
    /// The node has stopped.
    #[error("the node has stopped: the session can be asked for when it starts again")]
    NodeStopped,
}

impl From<StoreError> for SessionLookupError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Closed => Self::NodeStopped,
            error => Self::Store(error),
        }
    }
}

/// A session that gave no output.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SessionError {
    /// It was aborted: what was committed is compensated, or is being compensated.
    #[error("aborted: {0}")]
    Aborted(Abort),
    /// It stands still until someone looks at it. Nothing is lost.
    #[error("session {session} stands still: {reason}")]
    Stopped {
        /// The session.
        session: SessionId,
        /// Why.
        reason: String,
    },
    /// It has ended, and its output cannot be read.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// The node has stopped; the session goes on when it starts again.
    #[error("the node has stopped: the session goes on when it starts again")]
    NodeStopped,
}
