//! The effects of an instance: writes, frames, acknowledgements, jobs. The instance carries out none of them itself.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::abort::{Abort, Retry};
use crate::choreography::{BuiltInStep, CommitOutcome, ExternalStep, Kind};
use crate::contract::{Batch, BoxFuture, Change};
use crate::frame::{Frame, Receipt};
use crate::id::{InstanceId, NodeId, Path, RoleIndex};
use crate::message::{CodecError, Fingerprint, Payload};
use crate::panics;
use crate::record::{Closed, Record, StepFailure, Task};
use crate::state::{ReadState, State, Writes};

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

/// A local transaction (or its compensation) for the writer to run.
pub struct LocalJob {
    pub(super) instance: InstanceId,
    pub(super) role: &'static str,
    pub(super) path: Path,
    pub(super) name: String,
    pub(super) input: Fingerprint,
    pub(super) kind: Kind,
    pub(super) order: u32,
    pub(super) step: Arc<dyn BuiltInStep>,
    /// The output to compensate, if this is a compensation.
    pub(super) compensates: Option<Payload>,
}

/// The result of a local transaction.
#[derive(Debug, Clone)]
pub enum LocalResult {
    /// The transaction committed or refused; either is recorded.
    Committed(Result<Payload, Abort>),
    /// The transaction refused although it is [`Kind::Retriable`]. Nothing was written.
    Refused(Abort),
    /// The compensation succeeded, which is recorded, or must be retried.
    Compensated(Result<(), Retry>),
    /// The transaction could not be run (because the state is of another type, say). Nothing was written.
    Failed(String),
    /// The transaction panicked. Nothing was written.
    Panicked(String),
}

impl LocalJob {
    /// The path of the step.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Runs the transaction over `base`. Returns the state's writes and the record, which belong into one batch, and
    /// the result.
    pub fn run(&self, base: &dyn ReadState) -> (Writes, Option<Change>, LocalResult) {
        let mut state = State::new(base, self.role);
        // The writer must survive a panic in a user's code; the actor that requested the transaction panics in its
        // place.
        let result = panics::catch(|| match &self.compensates {
            None => LocalResult::Committed(self.step.commit(&mut state)),
            Some(output) => LocalResult::Compensated(self.step.compensate(&mut state, output)),
        });
        let result = match result {
            Ok(LocalResult::Committed(Err(abort))) if abort.is_failure() => LocalResult::Failed(abort.to_string()),
            Ok(LocalResult::Committed(Err(abort))) if self.kind == Kind::Retriable => LocalResult::Refused(abort),
            Ok(result) => result,
            Err(panic) => LocalResult::Panicked(self.panicked(&panic)),
        };
        let change = self.record(&result).map(|record| record.change(self.instance)).transpose();
        let change = change.map_err(|error| error.to_string());
        let storable =
            |change: &Option<Change>| change.iter().try_for_each(Change::check).map_err(|error| error.to_string());
        match change.and_then(|change| storable(&change).map(|()| change)) {
            Err(error) => (Writes::default(), None, LocalResult::Failed(error)),
            Ok(change) => {
                let keep = matches!(result, LocalResult::Committed(Ok(_)) | LocalResult::Compensated(Ok(())));
                (if keep { state.into_writes() } else { Writes::default() }, change, result)
            }
        }
    }

    fn panicked(&self, panic: &str) -> String {
        let call = if self.compensates.is_none() { "commit" } else { "compensate" };
        step_panicked(self.role, call, &self.name, &self.path, panic)
    }

    fn record(&self, result: &LocalResult) -> Option<Record> {
        let (path, name, input) = (self.path.clone(), self.name.clone(), self.input);
        match result {
            LocalResult::Committed(result) => {
                Some(Record::Committed { path, name, input, order: self.order, result: result.clone() })
            }
            LocalResult::Compensated(Ok(())) => Some(Record::Compensated { path }),
            _ => None,
        }
    }
}

/// Returns the text that reports a panic in a user's step.
fn step_panicked(role: &str, call: &str, name: &str, path: &Path, panic: &str) -> String {
    format!("`{call}` of step `{name}` at {path} panicked at role `{role}`: {panic}")
}

/// A call of an external service. A clone repeats the same request.
#[derive(Clone)]
pub(crate) struct Job {
    pub(crate) role: &'static str,
    pub(crate) name: String,
    pub(crate) path: Path,
    pub(crate) step: Arc<dyn ExternalStep>,
    pub(crate) task: JobTask,
}

/// The call that a job makes.
#[derive(Clone)]
pub(crate) enum JobTask {
    Commit,
    /// Compensate the step, given its output.
    Compensate(Payload),
    /// Ask whether the commit took effect.
    FindOut,
}

impl JobTask {
    /// The name of the step's method that is called.
    pub(crate) fn call(&self) -> &'static str {
        match self {
            Self::Commit => "commit",
            Self::Compensate(_) => "compensate",
            Self::FindOut => "outcome",
        }
    }
}

/// The result of a [`Job`].
pub(crate) enum JobResult {
    Committed(Result<Payload, Abort>),
    /// The commit took effect, but its output cannot be recorded.
    CommittedUnrecorded(CodecError),
    Compensated(Result<(), Retry>),
    FoundOut(Result<CommitOutcome<Payload>, Retry>),
}

impl Job {
    /// Runs the job. If the step's code panics, the panic's text names the step.
    pub(crate) fn run(self) -> BoxFuture<'static, (Path, JobResult)> {
        Box::pin(async move {
            let Self { role, name, path, step, task } = self;
            let call = task.call();
            let work = async {
                match task {
                    JobTask::Commit => match step.commit().await {
                        Ok(result) => JobResult::Committed(result),
                        Err(error) => JobResult::CommittedUnrecorded(error),
                    },
                    JobTask::Compensate(output) => JobResult::Compensated(step.compensate(output).await),
                    JobTask::FindOut => JobResult::FoundOut(step.outcome().await),
                }
            };
            let result = panics::named_async(work, |panic| step_panicked(role, call, &name, &path, panic)).await;
            (path, result)
        })
    }
}

/// The advice in errors about a program that does something else on replay.
pub(crate) const CAUSES_OF_DIVERGENCE: &str = "The usual causes: a clock, a random number, a static or the order of a HashMap \
    in the program (take what they give by `now`, `random` or `effect`), or a program that was changed while the session was \
    open (give it a new version, or a patch)";

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
}

/// The reason why an instance is stopped until an operator acts. Nothing is lost or aborted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Stop {
    /// The program did something else than is recorded.
    #[error(
        "the program is not deterministic at {path}: recorded was {recorded}, the program did {replayed}. {CAUSES_OF_DIVERGENCE}"
    )]
    Diverged {
        /// The path of the operation.
        path: Path,
        /// The operation in the journal or mailbox.
        recorded: String,
        /// The operation that the program (or the sender's program) did.
        replayed: String,
    },
    /// A recorded or received value cannot be decoded.
    #[error("a value at {path} cannot be used ({reason}): do all nodes run the same version of the choreography?")]
    Undecodable {
        /// The path of the operation.
        path: Path,
        /// A description of the error.
        reason: String,
    },
    /// The role has no service, or one of another type than [`Role::Service`](crate::Role::Service).
    #[error("role `{role}` has no service of the type it works with: give it one where the role is played")]
    NoService {
        /// The role.
        role: &'static str,
    },
    /// The program asks for a patch that its choreography does not list.
    #[error("patch `{patch}` is not among the PATCHES of the choreography: add it there, or correct its name")]
    UnknownPatch {
        /// The patch.
        patch: String,
    },
    /// The program nests its scopes (sagas, loops, other choreographies) too deeply.
    #[error("the program nests more than {limit} scopes: let a loop take the place of what calls itself")]
    TooDeep {
        /// The limit.
        limit: usize,
    },
    /// An event cannot be recorded.
    #[error("what has happened at this role cannot be recorded ({reason})")]
    Unstorable {
        /// A description of what is too large.
        reason: String,
    },
    /// A message exceeds the size limit, and must not be lost.
    #[error("a message at {path} has {found} bytes, the limit is {limit}: raise `payload_bytes_max` to what it was")]
    TooLarge {
        /// The path of the operation.
        path: Path,
        /// The size of the message in bytes.
        found: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// Another role has continued without this one, which is only possible if the program branched on a value that
    /// one role alone knows, or if one of the two stores went back.
    #[error(
        "{role} on node `{node}` {what} and this role has not come so far: the program takes two ways, by a value that one role \
         alone knows, or one of the two stores was restored from an older copy, or has lost what it had; compare what both have \
         done, then `abort` or `terminate` this part"
    )]
    LeftBehind {
        /// The name of the other role, for people.
        role: String,
        /// The node of that role.
        node: String,
        /// The state of the session there.
        what: String,
    },
    /// A step could not be run.
    #[error("step `{step}` at {path} cannot be run ({reason})")]
    StepFailed {
        /// The path of the step.
        path: Path,
        /// The name of the step.
        step: String,
        /// The reason.
        reason: String,
    },
}

impl OutgoingKey {
    /// Whether the frame is resent until its receiver has acknowledged it.
    pub fn is_acknowledged(&self) -> bool {
        !matches!(self, Self::Nudge(_))
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
    /// The number of records in the journal, if it has just exceeded the warning limit. Set at most once.
    pub long_journal: Option<usize>,
    /// Messages that count as acknowledged but that their receivers lack. The instance must be passivated (see
    /// [`Machine::rest_without`](super::Machine::rest_without)) and [restored](super::Machine::restore) with
    /// [`Machine::resending`](super::Machine::resending) these messages, so that its program sends them again.
    /// Nothing is lost if that is not done: a role that lacks a message nudges again.
    pub lacking: BTreeSet<(Path, RoleIndex)>,
}
