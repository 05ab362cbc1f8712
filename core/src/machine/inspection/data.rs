//! The data of an inspection. Next: `display`, the same as text.

use serde::{Deserialize, Serialize};

use crate::base::abort::Abort;
use crate::base::id::{NodeId, Path, RoleIndex, SessionId};
use crate::base::role_names::RoleNames;
use crate::frame::{Header, RoleTrouble};
use crate::machine::Status;
use crate::record::Task;

/// The maximum number of entries in each list of an [`Inspection`]. The first ones are listed, and the others counted.
pub const INSPECTED_MAX: usize = 256;

/// What one role's part of a session waits for, on whom and since when: as of the part's last turn, for operators and
/// their tools. Its text form is one sentence.
///
/// Times are wall-clock times of the part's node, in milliseconds since 1970; `now_unix_ms` is among them, so that a
/// reader elsewhere can compute how long something lasts. A time since when something lasts is kept when the part is
/// passivated. After a crash or a restart it is the time at which the part was loaded, at the latest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Inspection {
    /// The session.
    pub session: SessionId,
    /// The name of the choreography.
    pub choreography: String,
    /// The version of the choreography.
    pub version: u32,
    /// The role whose part this is.
    pub role: SessionRole,
    /// The role that has started the session and closes it.
    pub initiator: SessionRole,
    /// When the session was started, by the initiator's clock.
    pub started_unix_ms: u64,
    /// When the initiator aborts the session unless it has ended, by the initiator's clock.
    pub deadline_unix_ms: Option<u64>,
    /// The time of the part's last turn.
    pub now_unix_ms: u64,
    /// When the part was loaded into memory.
    pub loaded_unix_ms: u64,
    /// The status of the part.
    pub status: Status,
    /// Why the part is stopped, if it is.
    pub stopped: Option<String>,
    /// Why the session is aborted, if this role knows that it is.
    pub abort: Option<Abort>,
    /// What the program waits for, by the path of each operation.
    pub waits: Vec<InspectedWait>,
    /// The steps that run, are retried or need an operator, and compensations likewise, by path.
    pub steps: Vec<InspectedStep>,
    /// The number of steps of an aborted session that this role still has to compensate.
    pub compensations_left: usize,
    /// The signals that the program has not taken, in the order of arrival.
    pub signals: Vec<InspectedSignal>,
    /// The roles that have not acknowledged everything that this role has sent them.
    pub unacknowledged: Vec<UnacknowledgedFrames>,
    /// The roles whose end this role waits for, because its own part has ended or is being compensated.
    pub awaited_ends: Vec<SessionRole>,
    /// The other roles that cannot continue without an operator, as they have reported: at the initiator.
    pub troubles: Vec<SessionTrouble>,
    /// The number of entries that are left out of the lists, each of which has at most [`INSPECTED_MAX`].
    pub omitted: usize,
}

/// A role of a session: its name, and the node that plays it. Its text form is "role `bank` at node `bank-1`".
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SessionRole {
    /// The index of the role.
    pub index: RoleIndex,
    /// The name of the role, `worker/3` for a member of a role family, or the index if the name is not known.
    pub name: String,
    /// The node that plays the role; `None` if the session has no such role.
    pub node: Option<NodeId>,
}

impl SessionRole {
    /// The role with the index `role` in the session of `header`, whose choreography has these roles.
    pub fn of(header: &Header, roles: RoleNames, role: RoleIndex) -> Self {
        Self {
            index: role,
            name: roles.name_of(role).unwrap_or_else(|| role.0.to_string()),
            node: header.node_of(role).cloned(),
        }
    }
}

/// A role that cannot continue without an operator.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SessionTrouble {
    /// The role.
    pub role: SessionRole,
    /// What keeps it from continuing.
    pub trouble: RoleTrouble,
}

/// What an operation of a program waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct InspectedWait {
    /// The path of the operation.
    pub path: Path,
    /// What kind of event it waits for.
    pub kind: WaitKind,
    /// The role that has to act, if it is a role.
    pub on: Option<SessionRole>,
    /// The event, for people: "a comm from `bank`".
    pub text: String,
    /// Since when it waits.
    pub since_unix_ms: u64,
    /// Until when it waits at most.
    pub until_unix_ms: Option<u64>,
}

impl InspectedWait {
    /// A wait for something that is no operation.
    pub(crate) fn elsewhere(path: Path, text: String, since_unix_ms: u64) -> Self {
        Self { path, kind: WaitKind::Other, on: None, text, since_unix_ms, until_unix_ms: None }
    }
}

/// A kind of event that an operation waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum WaitKind {
    /// A message of another role.
    Receive,
    /// The end of a turn of a loop, as another role decides it.
    TurnEnd,
    /// Room for a message to another role, which has not acknowledged enough of the earlier ones.
    Room,
    /// Time to pass.
    Time,
    /// A signal from outside.
    Signal,
    /// The end of a step of this role, which is among the `steps`.
    StepEnd,
    /// The end of an effect of this role.
    EffectEnd,
    /// The own disk.
    Disk,
    /// Something that is no operation, and of which nothing is known.
    Other,
}

/// A step for which something is being done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct InspectedStep {
    /// The path of the step.
    pub path: Path,
    /// The name of the step.
    pub step: String,
    /// What is being done: the step is committed or compensated, say.
    pub task: Task,
    /// Whether that runs, is retried or needs an operator.
    pub state: StepState,
    /// The number of tries that have failed.
    pub tries: u32,
    /// Why the last try failed.
    pub last_error: Option<String>,
    /// When the first try began.
    pub since_unix_ms: u64,
    /// When the next try begins.
    pub next_try_unix_ms: Option<u64>,
}

/// How far a step, or its compensation, is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum StepState {
    /// It runs, or is about to.
    Running,
    /// It has failed and is tried again after a pause.
    Retrying,
    /// It is not tried again until an operator has acted.
    NeedsOperator,
}

/// A signal that the program has not taken. Its value is the user's, and is not shown.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct InspectedSignal {
    /// The name of the signal.
    pub name: String,
    /// The key of the signal.
    pub key: String,
}

/// A role that has not acknowledged everything.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct UnacknowledgedFrames {
    /// The role.
    pub role: SessionRole,
    /// The number of frames that it has not acknowledged.
    pub frames: usize,
}
