//! What nodes say to each other, as bytes with a version.
//!
//! The encoding is positional: variants and fields are only ever appended, and never change their meaning;
//! the golden bytes in the tests hold the tags. Who sends a packet is not in it: the transport says that, and the checksum
//! holds for this sender and this receiver alone. Knows nothing of who sends or stores a frame.

mod epoch;
mod offer;
mod packet;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::abort::Abort;
use crate::id::{InstanceId, NodeId, Path, RoleIndex, SessionId};
use crate::message::Payload;

pub use self::epoch::Epoch;
pub use self::offer::{
    Dispute, Generation, Left, Membership, NAME_BYTES_MAX, NODES_PER_OFFER_MAX, Need, OFFER_BYTES_MAX,
    OFFER_NODES_BYTES_MAX, Offer, OfferError, Offered, PATCHES_MAX, Reception,
};
pub use self::packet::{Packet, PacketError, Round, WIRE_VERSION};

/// What every role of a session knows of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Header {
    /// Name of the choreography.
    pub choreography: String,
    /// Its version.
    pub version: u32,
    /// The role that started the session and closes it.
    pub initiator: RoleIndex,
    /// Which node plays which role, by role index.
    pub cast: Vec<NodeId>,
    /// When it was started, in milliseconds since the Unix epoch, by the initiator's clock.
    pub started_unix_ms: u64,
    /// When the initiator aborts it unless it is over, in milliseconds since the Unix epoch.
    pub deadline_unix_ms: Option<u64>,
    /// The patches it runs with: those that every node of the cast offered.
    pub patches: Vec<String>,
}

impl Header {
    /// The node that plays `role`.
    pub fn node_of(&self, role: RoleIndex) -> Option<&NodeId> {
        self.cast.get(usize::from(role.0))
    }

    /// Every role of the session.
    pub fn roles(&self) -> impl Iterator<Item = RoleIndex> + use<> {
        (0..u8::try_from(self.cast.len()).unwrap_or(u8::MAX)).map(RoleIndex)
    }
}

/// How a role's part of a session ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Outcome {
    /// Its program ran to the end.
    Finished,
    /// The session was aborted, and every step this role had committed is compensated, but for those in turns of loops that
    /// are over, and those that an operator has resolved.
    Compensated(Abort),
}

/// The operation that a message belongs to. A receiver whose program does another one there has diverged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Operation {
    /// One role to another.
    Comm,
    /// One role to some.
    Multicast,
    /// One role to all.
    Broadcast,
    /// Some roles to one.
    Gather,
    /// How a role's part of a saga within the session, or of a turn of a loop, has ended.
    Vote,
    /// How a saga within the session has ended for all.
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

/// What a frame says.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Body {
    /// A message of the program.
    Deliver {
        /// Where the operation stands that it belongs to.
        path: Path,
        /// Which kind of operation that is.
        operation: Operation,
        /// The value.
        payload: Payload,
    },
    /// "I wait for you, and stand here": creates the receiver's instance if it does not know the session, and makes one
    /// that does send what the sender lacks, whatever was acknowledged. Not acknowledged, unless it is an invitation.
    Nudge(Lacks),
    /// The session ends: compensate.
    Abort(Abort),
    /// The sender's part has ended. Goes to the initiator.
    Done(Outcome),
    /// All parts have ended alike: the session's data may go.
    Close(Outcome),
    /// The turns of loops that are over for all roles, as the sender (who decides that) knows. Not acknowledged, and
    /// said again to whoever nudges.
    Turns {
        /// The loop, and how many of its turns are final.
        finals: Vec<(Path, u32)>,
        /// Whether the sender has heard of the session's abort: no more turns become final then.
        aborted: bool,
    },
    /// The latest step that the sender still has to take back on an aborted session, if there is one. Not
    /// acknowledged, and said again to whoever nudges.
    Undoing(Option<Path>),
    /// The session is closed at the sender, with this outcome: the answer to a nudge, or to a `Done` that asks for no
    /// acknowledgement. Or it is not known there: the answer of an initiator to these, and of any role to what comes without
    /// a header. Not acknowledged.
    Closed(Option<Outcome>),
    /// The sender has no message for the receiver at this path, and will have none: the answer to a nudge. Not
    /// acknowledged.
    Gone(Path),
}

/// The most paths that a nudge names.
pub const NUDGE_PATHS_MAX: usize = 16;

/// Where a role stands that waits for another one, and nudges it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Lacks {
    /// Where it waits for messages of the role that it nudges: the first [`NUDGE_PATHS_MAX`] paths.
    pub awaits: Vec<Path>,
    /// Whether it knows that the session is aborted.
    pub aborted: bool,
}

/// One thing said by one role instance to another.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Frame {
    /// The session.
    pub session: SessionId,
    /// The sender's role.
    pub from: RoleIndex,
    /// The receiver's role.
    pub to: RoleIndex,
    /// What the receiver needs to take part; left out once it is known to have it.
    pub header: Option<Arc<Header>>,
    /// What is said.
    pub body: Body,
}

impl Frame {
    /// Whether an instance that is over answers it with [`Body::Closed`]: its sender waits. `unnumbered` says that it asks
    /// for no acknowledgement.
    pub fn asks_the_closed(&self, unnumbered: bool) -> bool {
        match self.body {
            Body::Nudge(_) => true,
            Body::Done(_) => unnumbered,
            _ => false,
        }
    }

    /// Whether a role that does not know the session answers it with [`Body::Closed`]: its sender takes it for known there.
    /// `unnumbered` says that it asks for no acknowledgement.
    pub fn takes_for_known(&self, unnumbered: bool) -> bool {
        let said = matches!(self.body, Body::Deliver { .. } | Body::Abort(_));
        said && self.header.is_none() && !unnumbered
    }

    /// The instance that this frame is for.
    pub fn receiver(&self) -> InstanceId {
        InstanceId { session: self.session, role: self.to }
    }
}

/// A frame that has arrived, and the node that it came from, as the transport says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// The node that sent it.
    pub from: NodeId,
    /// What it sent.
    pub frame: Frame,
    /// What to acknowledge, if that is asked for.
    pub receipt: Option<Receipt>,
}

impl Delivery {
    /// As it comes from the node that plays the frame's role in the session of `header`; `None` if the session has no such
    /// role.
    pub fn of_cast(header: &Header, frame: Frame, receipt: Option<Receipt>) -> Option<Self> {
        let from = header.node_of(frame.from)?.clone();
        Some(Self { from, frame, receipt })
    }

    /// Whether its sender plays the role that it speaks for, in the session of `header`. What any other node says in that
    /// role's name is nobody's word.
    pub fn is_of_cast(&self, header: &Header) -> bool {
        header.node_of(self.frame.from) == Some(&self.from)
    }
}

/// What to acknowledge: the frame `number` of the `epoch`-th life of node `to`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Receipt {
    /// The node that sent the frame.
    pub to: NodeId,
    /// That node's epoch then; a later one has forgotten its numbers.
    pub epoch: Epoch,
    /// The frame's number among those sent by that node in that epoch.
    pub number: u64,
}
