//! What an instance wants done: writes, frames, acknowledgements, jobs. It does none of it itself.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::abort::{Abort, Retry};
use crate::choreography::{BuiltInStep, Doubt, ExternalStep, Kind};
use crate::contract::{Batch, BoxFuture, Change};
use crate::frame::{Frame, Receipt};
use crate::id::{InstanceId, NodeId, Path, RoleIndex};
use crate::message::{CodecError, Fingerprint, Payload};
use crate::panics;
use crate::record::{Closed, Record, Task, Trouble};
use crate::state::{ReadState, State, Writes};

/// What tells one thing an instance has to say from another.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OutgoingKey {
    /// A message of the program.
    Deliver(Path, RoleIndex),
    /// The abort, to one role.
    Abort(RoleIndex),
    /// The own end, to the initiator: an instance that has finished may have to say later that it compensated.
    Done {
        /// Which of the two ends.
        compensated: bool,
    },
    /// The close, to one role.
    Close(RoleIndex),
    /// A nudge, the answer to one, or an end that is told again to ask for the close: not acknowledged.
    Nudge(RoleIndex),
    /// A nudge to a role that may not know of the session yet: once it is acknowledged, that is durable there.
    Invite(RoleIndex),
}

/// A frame that may leave now: every recorded result it depends on is durable.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Outgoing {
    /// To be given back with [`Instance::acked`](super::Instance::acked).
    pub key: OutgoingKey,
    /// Where it goes.
    pub node: NodeId,
    /// What it says.
    pub frame: Frame,
}

/// Changes that have to become durable, in the order of their numbers.
pub struct Write {
    /// Given back with [`Instance::synced`](super::Instance::synced).
    pub number: u64,
    /// The changes.
    pub changes: Batch,
    /// A local transaction that is part of the same batch.
    pub local: Option<LocalJob>,
    /// Whether something waits for it. Otherwise it may wait for company.
    pub urgent: bool,
}

/// A local transaction (or its compensation), to be run by the writer.
pub struct LocalJob {
    pub(super) instance: InstanceId,
    pub(super) role: &'static str,
    pub(super) path: Path,
    pub(super) name: String,
    pub(super) input: Fingerprint,
    pub(super) kind: Kind,
    pub(super) order: u32,
    pub(super) step: Arc<dyn BuiltInStep>,
    /// The output to be taken back, when this is a compensation.
    pub(super) compensates: Option<Payload>,
}

/// How a local transaction ended.
#[derive(Debug, Clone)]
pub enum LocalResult {
    /// It committed or refused; either is recorded.
    Committed(Result<Payload, Abort>),
    /// It refused though it is [`Kind::Retriable`]. Nothing was written.
    Refused(Abort),
    /// It was taken back, which is recorded, or has to be tried again.
    Compensated(Result<(), Retry>),
    /// It could not be run (the state is of another type, say). Nothing was written.
    Failed(String),
    /// Its code panicked. Nothing was written.
    Panicked(String),
}

impl LocalJob {
    /// The step it belongs to.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Runs it over `base`: the state's writes and the record that belong into one batch, and the result.
    pub fn run(&self, base: &dyn ReadState) -> (Writes, Option<Change>, LocalResult) {
        let mut state = State::new(base, self.role);
        // The writer must survive a panic in a user's code; the actor that asked for it panics in its stead.
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

/// How a panic in a user's step is told.
fn step_panicked(role: &str, call: &str, name: &str, path: &Path, panic: &str) -> String {
    format!("`{call}` of step `{name}` at {path} panicked at role `{role}`: {panic}")
}

/// Work on a service outside. A clone is the same request once more.
#[derive(Clone)]
pub(crate) struct Job {
    pub(crate) role: &'static str,
    pub(crate) name: String,
    pub(crate) path: Path,
    pub(crate) step: Arc<dyn ExternalStep>,
    pub(crate) task: JobTask,
}

/// What is to be done with a step.
#[derive(Clone)]
pub(crate) enum JobTask {
    Commit,
    /// Take it back, with the output in hand.
    Compensate(Payload),
    /// Ask what became of its commit.
    FindOut,
}

impl JobTask {
    /// The method of the step that is called.
    pub(crate) fn call(&self) -> &'static str {
        match self {
            Self::Commit => "commit",
            Self::Compensate(_) => "compensate",
            Self::FindOut => "outcome",
        }
    }
}

/// How a [`Job`] ended.
pub(crate) enum JobResult {
    Committed(Result<Payload, Abort>),
    /// It has taken effect, and its output cannot be recorded.
    CommittedUnrecorded(CodecError),
    Compensated(Result<(), Retry>),
    FoundOut(Result<Doubt<Payload>, Retry>),
}

impl Job {
    /// A panic of the step's code says which step it was.
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

/// What a program that does something else the second time is asked for.
pub(crate) const CAUSES_OF_DIVERGENCE: &str = "The usual causes: a clock, a random number, a static or the order of a HashMap \
    in the program (take what they give by `now`, `random` or `effect`), or a program that was changed while the session was \
    open (give it a new version, or a patch)";

/// A step, or its compensation, that did not succeed and is tried again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retried {
    /// Where it stands in the program.
    pub path: Path,
    /// Its name.
    pub step: String,
    /// What was tried.
    pub task: Task,
    /// Why it did not succeed, and what to do.
    pub reason: String,
    /// How often it was tried in vain; what is not counted, since it passes, stays as it was.
    pub tries: u32,
}

/// Why an instance stands still until someone looks at it. Nothing is lost, nothing is aborted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Stop {
    /// The program did something else than what is recorded.
    #[error(
        "the program is not deterministic at {path}: recorded was {recorded}, the program did {replayed}. {CAUSES_OF_DIVERGENCE}"
    )]
    Diverged {
        /// The operation.
        path: Path,
        /// What the journal or mailbox has.
        recorded: String,
        /// What the program (or the sender's) did.
        replayed: String,
    },
    /// A value that is recorded or was received cannot be read.
    #[error("a value at {path} cannot be used ({reason}): do all nodes run the same version of the choreography?")]
    Undecodable {
        /// The operation.
        path: Path,
        /// What is wrong.
        reason: String,
    },
    /// The role was given no service, or one of another type than [`Role::Service`](crate::Role::Service).
    #[error("role `{role}` has no service of the type it works with: give it one where the role is played")]
    NoService {
        /// The role.
        role: &'static str,
    },
    /// The program asks for a patch that it does not say it knows.
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
    /// What has happened cannot be recorded.
    #[error("what has happened at this role cannot be recorded ({reason})")]
    Unstorable {
        /// What is too large.
        reason: String,
    },
    /// A message is larger than may be sent, and must not be lost.
    #[error("a message at {path} has {found} bytes, the limit is {limit}: raise `payload_bytes_max` to what it was")]
    TooLarge {
        /// The operation.
        path: Path,
        /// Its size in bytes.
        found: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// Another role has gone on without this one, as it can only if one of the two stores went back.
    #[error(
        "{role} on node `{node}` {what} and this role has not come so far: the program takes two ways, by a value that one role \
         alone knows, or one of the two stores was restored from an older copy, or has lost what it had; compare what both have \
         done, then `abort` or `terminate` this part"
    )]
    LeftBehind {
        /// The other role, for people.
        role: String,
        /// Its node.
        node: String,
        /// How the session stands there.
        what: String,
    },
    /// A step could not be run.
    #[error("step `{step}` at {path} cannot be run ({reason})")]
    StepFailed {
        /// The step.
        path: Path,
        /// Its name.
        step: String,
        /// Why.
        reason: String,
    },
}

impl OutgoingKey {
    /// Whether the frame is sent again until its receiver has acknowledged it.
    pub fn is_acknowledged(&self) -> bool {
        !matches!(self, Self::Nudge(_))
    }

    /// Whether nobody needs the frame any more once its session is aborted.
    pub fn is_useless_when_aborted(&self) -> bool {
        matches!(self, Self::Deliver(..) | Self::Invite(_))
    }
}

/// Everything an instance wants done after a turn.
#[derive(Default)]
pub struct Effects {
    /// Steps and compensations that did not succeed, and are tried again: for the log.
    pub retries: Vec<Retried>,
    /// To be made durable, in this order.
    pub writes: Vec<Write>,
    /// To be sent until acknowledged.
    pub frames: Vec<Outgoing>,
    /// To be acknowledged: what they name is durable.
    pub acks: Vec<Receipt>,
    /// The output (or the abort) may be given to the caller. At most once for each of the two.
    pub output: Option<Result<Payload, Abort>>,
    /// The beginning of the instance has just become durable.
    pub opened: bool,
    /// The end is durable: the instance can be forgotten.
    pub closed: Option<Closed>,
    /// The instance stands still. At most once.
    pub stopped: Option<Stop>,
    /// The steps that need an operator, when that has changed.
    pub troubles: Option<Vec<(Path, Trouble)>>,
    /// The journal has grown to so many records, which is more than it should. At most once.
    pub long_journal: Option<usize>,
    /// Messages that count as acknowledged, and that their receivers lack: the instance has to leave memory (see
    /// [`Instance::rest_without`](super::Instance::rest_without)) and to be [restored](super::Instance::restore) with
    /// [`Instance::resending`](super::Instance::resending) these, so that its program sends them again. Nothing is
    /// lost if that is not done: who lacks them nudges again.
    pub lacking: BTreeSet<(Path, RoleIndex)>,
}
