//! The effects of an instance: writes, frames, acknowledgements, jobs. The instance carries out none of them itself.

use std::collections::BTreeSet;

use super::{EndedCall, LocalJob, SessionTrouble, Stop};
use crate::base::abort::Abort;
use crate::base::id::{NodeId, Path, RoleIndex};
use crate::base::message::Payload;
use crate::contract::Batch;
use crate::frame::{Frame, Receipt};
use crate::record::{Closed, StepFailure, Task};

/// The identity of one thing that an instance has to send.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OutgoingKey {
    /// A message of the program.
    Deliver(Path, RoleIndex),
    /// The abort, to one role.
    Abort(RoleIndex),
    /// The own outcome, to the initiator. An instance that has finished may later have to report that it compensated.
    Done {
        /// Whether the outcome is that the part was compensated.
        compensated: bool,
    },
    /// The close, to one role.
    Close(RoleIndex),
    /// A nudge, the answer to one, or an outcome sent again in order to ask for the close. Not acknowledged.
    Nudge(RoleIndex),
    /// A nudge to a role that may not know the session yet. Once it is acknowledged, the session is durable there.
    Invite(RoleIndex),
}

/// A frame that may be sent now, because every recorded result it depends on is durable.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Outgoing {
    /// The key to pass to [`Machine::acked`](super::Machine::acked).
    pub key: OutgoingKey,
    /// The node that receives the frame.
    pub node: NodeId,
    /// The frame.
    pub frame: Frame,
}

/// Changes that must become durable, in the order of their numbers.
pub struct Write {
    /// The number to pass to [`Machine::synced`](super::Machine::synced).
    pub number: u64,
    /// The changes.
    pub changes: Batch,
    /// A local transaction in the same batch.
    pub local: Option<LocalJob>,
    /// Whether something waits for this write. Otherwise the write may be delayed to share a sync.
    pub urgent: bool,
}

/// A step, or its compensation, that did not succeed and will be retried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retried {
    /// The path of the step.
    pub path: Path,
    /// The name of the step.
    pub step: String,
    /// The task that was tried.
    pub task: Task,
    /// Why the try did not succeed, and what to do.
    pub reason: String,
    /// The number of unsuccessful tries. A transient obstacle is not counted.
    pub tries: u32,
    /// The number of failures in a row since the instance was loaded, transient obstacles included.
    pub failures: u32,
    /// The pause before the next try, in milliseconds.
    pub pause_ms: u64,
}

impl Retried {
    /// Whether the failure is one to warn about: the first in a row, and then at growing intervals (the second, the
    /// fourth, the eighth), so that a service that is down neither fills a log nor is silent.
    pub fn is_for_the_log(&self) -> bool {
        self.failures.is_power_of_two()
    }
}

impl OutgoingKey {
    /// Whether the frame is resent until its receiver has acknowledged it.
    pub fn is_acknowledged(&self) -> bool {
        !matches!(self, Self::Nudge(_))
    }

    /// The role that receives the frame, in a session that `initiator` has started.
    pub(super) fn receiver(&self, initiator: RoleIndex) -> RoleIndex {
        match self {
            Self::Deliver(_, to) | Self::Abort(to) | Self::Close(to) | Self::Nudge(to) | Self::Invite(to) => *to,
            Self::Done { .. } => initiator,
        }
    }
}

/// The frames that are not to be sent again, although nobody has acknowledged them. Otherwise a frame could outlive its
/// session, for as long as its receiver is away, and then begin it anew (decision 0009).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forget {
    /// The messages of the program, and invitations: the abort is durable, and tells their receivers all they need.
    Messages,
    /// Everything: the end is durable.
    All,
}

impl Forget {
    /// Whether the frame with this key is one of them.
    pub fn includes(self, key: &OutgoingKey) -> bool {
        self == Self::All || matches!(key, OutgoingKey::Deliver(..) | OutgoingKey::Invite(_))
    }
}

/// The effects of a turn.
#[derive(Default)]
pub struct Effects {
    /// Steps and compensations that did not succeed and will be retried, for the log.
    pub retries: Vec<Retried>,
    /// Writes to make durable, in this order.
    pub writes: Vec<Write>,
    /// Frames of earlier turns that are not to be sent again. Comes before `frames`, which are all still needed.
    pub forget: Option<Forget>,
    /// Frames to send until they are acknowledged.
    pub frames: Vec<Outgoing>,
    /// Receipts to acknowledge: the frames they name are durable.
    pub acks: Vec<Receipt>,
    /// The output (or the abort) for the caller. Set at most once for each of the two.
    pub output: Option<Result<Payload, Abort>>,
    /// Whether the beginning of the instance has just become durable.
    pub opened: bool,
    /// The tombstone, once the end is durable and the instance can be forgotten.
    pub closed: Option<Closed>,
    /// The reason why the instance has stopped. Set at most once.
    pub stopped: Option<Stop>,
    /// The steps that need an operator, if that has changed.
    pub troubles: Option<Vec<(Path, StepFailure)>>,
    /// The other roles of the session that are in trouble, as the initiator knows, if that has changed.
    pub peer_troubles: Option<Vec<SessionTrouble>>,
    /// The number of records in the journal, if it has just exceeded the warning limit. Set at most once.
    pub long_journal: Option<usize>,
    /// Messages that count as acknowledged but that their receivers lack. The instance must be passivated (see
    /// [`Machine::passivation_without`](super::Machine::passivation_without)) and [restored](super::Machine::restore)
    /// with [`Machine::resending`](super::Machine::resending) these messages, so that its program sends them again.
    /// Nothing is lost if that is not done: a role that lacks a message nudges again.
    pub lacking: BTreeSet<(Path, RoleIndex)>,
    /// The calls of steps that have ended, for statistics. Nothing is to be done about them.
    pub calls: Vec<EndedCall>,
}
