//! Frames: what nodes send each other, in a versioned binary encoding.
//!
//! The encoding is positional: variants and fields are only ever appended and never change their meaning. Golden
//! bytes in the tests pin the tags. A packet does not name its sender: the transport does, and the checksum is valid
//! for this sender and this receiver only. This module does not know who sends or stores a frame.

mod advertisement;
mod epoch;
mod packet;
mod traceparent;
mod trouble;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::base::abort::Abort;
use crate::base::id::{InstanceId, NodeId, Path, RoleIndex, SessionId};
use crate::base::message::Payload;

pub use self::advertisement::{
    ADVERTISEMENT_BYTES_MAX, ADVERTISEMENT_NODES_BYTES_MAX, Advertisement, AdvertisementError, Dispute, DrainBlocker,
    Generation, Left, Membership, NAME_BYTES_MAX, NODES_PER_ADVERTISEMENT_MAX, OfferedChoreography, PATCHES_MAX,
    Reception,
};
pub use self::epoch::Epoch;
pub use self::packet::{Packet, PacketError, Round, WIRE_VERSION};
pub use self::traceparent::{InvalidTraceparent, Traceparent};
pub use self::trouble::RoleTrouble;

/// The facts about a session that every role knows.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Header {
    /// The name of the choreography.
    pub choreography: String,
    /// The version of the choreography.
    pub version: u32,
    /// The role that started the session and closes it.
    pub initiator: RoleIndex,
    /// The node that plays each role, by role index.
    pub cast: Vec<NodeId>,
    /// The time at which the session was started, in milliseconds since the Unix epoch, by the initiator's clock.
    pub started_unix_ms: u64,
    /// The time at which the initiator aborts the session if it has not ended, in milliseconds since the Unix epoch.
    pub deadline_unix_ms: Option<u64>,
    /// The patches that the session runs with: those that every node of the cast advertised.
    pub patches: Vec<String>,
    /// The place of the session in a trace, if it is traced. One that is malformed is read as none.
    #[serde(default, deserialize_with = "traceparent::valid_or_none")]
    pub traceparent: Option<Traceparent>,
}

impl Header {
    /// The node that plays `role`.
    pub fn node_of(&self, role: RoleIndex) -> Option<&NodeId> {
        self.cast.get(usize::from(role.0))
    }

    /// All roles of the session.
    pub fn roles(&self) -> impl Iterator<Item = RoleIndex> + use<> {
        (0..u8::try_from(self.cast.len()).unwrap_or(u8::MAX)).map(RoleIndex)
    }
}

/// How a role's part of a session ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Outcome {
    /// The role's program ran to its end.
    Finished,
    /// The session was aborted, and every step that this role had committed is compensated, except the steps in ended
    /// turns of loops and the steps that an operator has resolved.
    Compensated(Abort),
}

/// The operation that a message belongs to. If the receiver's program has another operation at that path, it has
/// diverged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Operation {
    /// From one role to another.
    Comm,
    /// From one role to several.
    Multicast,
    /// From one role to all.
    Broadcast,
    /// From several roles to one.
    Gather,
    /// The result of a role's part of a saga within the session, or of a turn of a loop.
    Vote,
    /// The result of a saga within the session, for all roles.
    Verdict,
}

impl std::fmt::Display for Operation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Comm => "comm",
            Self::Multicast => "multicast",
            Self::Broadcast => "broadcast",
            Self::Gather => "gather",
            Self::Vote => "vote",
            Self::Verdict => "verdict",
        })
    }
}

/// The content of a frame.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Body {
    /// A message of the program.
    Deliver {
        /// The path of the operation that the message belongs to.
        path: Path,
        /// The kind of that operation.
        operation: Operation,
        /// The value.
        payload: Payload,
    },
    /// "I wait for you at these paths." Creates the receiver's instance if the receiver does not know the session.
    /// Makes an existing instance resend what the sender lacks, even if it was acknowledged. Not acknowledged, unless
    /// the nudge is an invitation.
    Nudge(Lacks),
    /// The session is aborted: the receiver compensates.
    Abort(Abort),
    /// The sender's part has ended. Sent to the initiator.
    Done(Outcome),
    /// All parts have ended with the same outcome: the session's data may be removed.
    Close(Outcome),
    /// The turns of loops that have ended for all roles, as known to the sender, who decides it. Not acknowledged;
    /// sent again in answer to every nudge.
    Turns {
        /// Each loop, and how many of its turns are final.
        finals: Vec<(Path, u32)>,
        /// Whether the sender knows that the session is aborted. If so, no further turns become final.
        aborted: bool,
    },
    /// The latest step that the sender still has to compensate on an aborted session, if there is one. Not
    /// acknowledged; sent again in answer to every nudge.
    Compensating(Option<Path>),
    /// With an outcome: the session is closed at the sender with this outcome. Sent in answer to a nudge, or to a
    /// `Done` that asks for no acknowledgement. Without an outcome: the session is unknown at the sender. Sent by an
    /// initiator in answer to the same frames, and by any role in answer to a frame without a header. Not
    /// acknowledged.
    Closed(Option<Outcome>),
    /// The sender has no message for the receiver at this path and never will. Sent in answer to a nudge. Not
    /// acknowledged.
    Gone(Path),
    /// The sender's part cannot continue without an operator, or (`None`) it can again. Sent to the initiator when
    /// that changes, and again whenever a role nudges the sender. Not acknowledged.
    Trouble(Option<RoleTrouble>),
    /// The initiator believes that the receiver is in trouble. The receiver answers with its `Trouble`. Sent as often
    /// as a nudge. Not acknowledged.
    TroubleAsked,
}

/// The maximum number of paths in a nudge.
pub const NUDGE_PATHS_MAX: usize = 16;

/// The position of a waiting role, which it sends to the role that it nudges.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Lacks {
    /// The paths at which the waiting role expects messages from the nudged role: the first [`NUDGE_PATHS_MAX`] of
    /// them.
    pub awaits: Vec<Path>,
    /// Whether the waiting role knows that the session is aborted.
    pub aborted: bool,
}

/// A frame: one message from one role instance to another.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Frame {
    /// The session.
    pub session: SessionId,
    /// The sender's role.
    pub from: RoleIndex,
    /// The receiver's role.
    pub to: RoleIndex,
    /// The header, which the receiver needs to take part. Omitted once the receiver is known to have it.
    pub header: Option<Arc<Header>>,
    /// The content.
    pub body: Body,
}

impl Frame {
    /// Whether a closed instance answers this frame with [`Body::Closed`], because the frame's sender waits.
    /// `unnumbered` says that the frame asks for no acknowledgement.
    pub fn asks_the_closed(&self, unnumbered: bool) -> bool {
        match self.body {
            Body::Nudge(_) => true,
            Body::Done(_) => unnumbered,
            _ => false,
        }
    }

    /// Whether a role that does not know the session answers this frame with [`Body::Closed`], because the frame's
    /// sender assumes that the session is known there. `unnumbered` says that the frame asks for no acknowledgement.
    pub fn takes_for_known(&self, unnumbered: bool) -> bool {
        let said = matches!(self.body, Body::Deliver { .. } | Body::Abort(_));
        said && self.header.is_none() && !unnumbered
    }

    /// The answer of a role at which the session is closed with `outcome`, or unknown.
    #[must_use]
    pub fn answered(&self, outcome: Option<Outcome>) -> Self {
        Self { session: self.session, from: self.to, to: self.from, header: None, body: Body::Closed(outcome) }
    }

    /// The report of `from` to the session's initiator that it is in trouble, or (`None`) not any more, with the node
    /// that receives it: for an instance that is not in memory. `None` if `from` is the initiator.
    pub fn about_trouble(from: InstanceId, header: &Header, trouble: Option<RoleTrouble>) -> Option<(NodeId, Self)> {
        let to = Some(header.initiator).filter(|initiator| *initiator != from.role)?;
        let body = Body::Trouble(trouble);
        Some((header.node_of(to)?.clone(), Self { session: from.session, from: from.role, to, header: None, body }))
    }

    /// The instance that this frame is for.
    pub fn receiver(&self) -> InstanceId {
        InstanceId { session: self.session, role: self.to }
    }
}

/// A received frame, and the node that sent it according to the transport.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// The node that sent the frame.
    pub from: NodeId,
    /// The frame.
    pub frame: Frame,
    /// The receipt to acknowledge, if the sender asks for an acknowledgement.
    pub receipt: Option<Receipt>,
}

impl Delivery {
    /// Creates the delivery that the node playing the frame's sender role in the session of `header` would cause;
    /// `None` if the session has no such role.
    pub fn of_cast(header: &Header, frame: Frame, receipt: Option<Receipt>) -> Option<Self> {
        let from = header.node_of(frame.from)?.clone();
        Some(Self { from, frame, receipt })
    }

    /// Whether the sending node plays the role that the frame names as its sender, in the session of `header`. Frames
    /// from any other node in that role's name must be ignored.
    pub fn is_of_cast(&self, header: &Header) -> bool {
        header.node_of(self.frame.from) == Some(&self.from)
    }
}

/// Identifies a frame to acknowledge: frame `number` that node `to` sent in its `epoch`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Receipt {
    /// The node that sent the frame.
    pub to: NodeId,
    /// The epoch of that node at the time; the numbers of an epoch are unknown in a later one.
    pub epoch: Epoch,
    /// The number of the frame among those that the node sent in that epoch.
    pub number: u64,
}
