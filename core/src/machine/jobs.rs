//! The calls that steps make, and what comes of them: local transactions, which the writer runs together with their
//! records, and calls of services.
//!
//! This module knows no instance. Next: `results`, what an instance makes of the results.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use crate::base::abort::{Abort, Retry};
use crate::base::id::{InstanceId, Path};
use crate::base::message::{CodecError, Fingerprint, Payload};
use crate::base::panics;
use crate::contract::{BoxFuture, CallEnd, CallKind, CallObserver, Change, ObservedCall, StepCall};
use crate::record::{Record, Task};
use crate::state::{ReadState, State, Writes};
use crate::step::{BuiltInStep, CommitOutcome, ExternalStep, Kind};

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
    /// Who follows the call.
    pub(super) observer: Option<Arc<dyn CallObserver>>,
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

impl LocalResult {
    fn end(&self) -> CallEnd {
        match self {
            Self::Committed(Ok(_)) | Self::Compensated(Ok(())) => CallEnd::Done,
            Self::Committed(Err(refusal)) | Self::Refused(refusal) => CallEnd::Refused(refusal.to_string()),
            Self::Compensated(Err(retry)) => CallEnd::Failed(retry.to_string()),
            Self::Failed(reason) | Self::Panicked(reason) => CallEnd::Failed(reason.clone()),
        }
    }
}

impl LocalJob {
    /// The path of the step.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Lets `observer` follow the call. It begins when the writer runs the job: one that the store answers is none.
    pub(crate) fn observe(&mut self, observer: &Arc<dyn CallObserver>) {
        self.observer = Some(observer.clone());
    }

    fn observed(&self) -> Option<Box<dyn ObservedCall>> {
        let kind = if self.compensates.is_none() { CallKind::Commit } else { CallKind::Compensate };
        self.observer.as_ref()?.begin(&StepCall { step: &self.name, path: &self.path, kind })
    }

    /// Runs the transaction over `base`. Returns the state's writes and the record, which belong into one batch, and
    /// the result.
    pub fn run(&self, base: &dyn ReadState) -> (Writes, Option<Change>, LocalResult) {
        let Some(observed) = self.observed() else { return self.run_unobserved(base) };
        let mut ran = None;
        observed.within(&mut || ran = Some(self.run_unobserved(base)));
        // An observer that runs nothing must not lose the transaction.
        let ran = ran.unwrap_or_else(|| self.run_unobserved(base));
        observed.ended(ran.2.end());
        ran
    }

    fn run_unobserved(&self, base: &dyn ReadState) -> (Writes, Option<Change>, LocalResult) {
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

    /// The name of the step's method that is called.
    fn call(&self) -> &'static str {
        if self.compensates.is_none() { "commit" } else { "compensate" }
    }

    fn panicked(&self, panic: &str) -> String {
        step_panicked(self.role, self.call(), &self.name, &self.path, panic)
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
    /// What is done for the step.
    pub(super) fn task(&self) -> Task {
        match self {
            Self::Commit => Task::Commit,
            Self::Compensate(_) => Task::Compensate,
            Self::FindOut => Task::FindOut,
        }
    }

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

impl JobResult {
    fn end(&self) -> CallEnd {
        match self {
            Self::Committed(Ok(_)) | Self::Compensated(Ok(())) | Self::FoundOut(Ok(CommitOutcome::Committed(_))) => {
                CallEnd::Done
            }
            Self::Committed(Err(abort)) if abort.as_undecided().is_some() || abort.is_failure() => {
                CallEnd::Failed(abort.message().to_owned())
            }
            Self::Committed(Err(refusal)) => CallEnd::Refused(refusal.to_string()),
            Self::CommittedUnrecorded(error) => CallEnd::Failed(error.to_string()),
            Self::Compensated(Err(retry)) | Self::FoundOut(Err(retry)) => CallEnd::Failed(retry.to_string()),
            Self::FoundOut(Ok(CommitOutcome::NotCommitted)) => CallEnd::Refused("it was not committed".into()),
            Self::FoundOut(Ok(CommitOutcome::Unknown)) => CallEnd::Failed("its service does not know".into()),
        }
    }
}

/// Runs `work`, which is a job's, while `observed` follows it.
pub(crate) fn followed(
    observed: Box<dyn ObservedCall>,
    mut work: BoxFuture<'static, (Path, JobResult)>,
) -> BoxFuture<'static, (Path, JobResult)> {
    Box::pin(async move {
        let (path, result) = poll_fn(|cx| {
            let mut polled = Poll::Pending;
            observed.within(&mut || polled = work.as_mut().poll(cx));
            polled
        })
        .await;
        observed.ended(result.end());
        (path, result)
    })
}

impl Job {
    /// Lets `observer` follow the call, unless it is of no interest to it.
    pub(crate) fn observed(&self, observer: &dyn CallObserver) -> Option<Box<dyn ObservedCall>> {
        let kind = match self.task {
            JobTask::Commit => CallKind::Commit,
            JobTask::Compensate(_) => CallKind::Compensate,
            JobTask::FindOut => CallKind::FindOut,
        };
        observer.begin(&StepCall { step: &self.name, path: &self.path, kind })
    }

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
