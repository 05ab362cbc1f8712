//! What can go wrong, for the caller. Each says what to do.

use std::fmt;

use accompanist_core::contract::{StoreError, TransportError};
use accompanist_core::frame::OfferError;
use accompanist_core::message::CodecError;
use accompanist_core::{Abort, NodeId, SessionId};

use crate::config::ConfigError;

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
    /// The initiating role is played elsewhere.
    #[error("role `{role}` starts this choreography and is not played by this node: start it on a node that plays it")]
    NotPlayedHere {
        /// The role.
        role: &'static str,
    },
    /// Nobody plays a role.
    #[error("no node is known that plays role `{role}`: is one running, and connected to this one?")]
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
    /// The input is too large.
    #[error("the input has {found} bytes, the limit is {limit}: send a reference to it, or raise `payload_bytes_max`")]
    InputTooLarge {
        /// Its size in bytes.
        found: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The input has no encoding.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// Too many sessions are in memory.
    #[error("{0} sessions are open here, which is the limit: try again when some have ended, or raise `instances_max`")]
    Overloaded(usize),
    /// The node has stopped.
    #[error("the node has stopped")]
    NodeStopped,
}

impl StartError {
    pub(crate) fn nobody_plays(name: &'static str, gaps: Vec<Gap>) -> Self {
        match gaps.first() {
            Some(Gap { role, .. }) if gaps.iter().all(|gap| gap.player.is_none()) => Self::NobodyPlays { role },
            _ => Self::NoCommonVersion { name, gaps },
        }
    }
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
            None => write!(f, "version {version}: no node is known that plays role `{role}`"),
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
