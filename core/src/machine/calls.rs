//! How the calls of steps have ended, for statistics. Decides nothing: `results` says what comes of a call.

use super::{JobResult, LocalJob, LocalResult, Machine};
use crate::base::id::Path;
use crate::step::CommitOutcome;

/// How a call of a step has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CallOutcome {
    /// The step took effect.
    Committed,
    /// The step was refused, and has no effect.
    Aborted,
    /// The call settled nothing: it is repeated, waits for an operator, or has stopped the instance.
    Failed,
    /// The step is compensated.
    Compensated,
}

impl CallOutcome {
    /// Returns the name of the outcome, as metrics have it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Committed => "committed",
            Self::Aborted => "aborted",
            Self::Failed => "failed",
            Self::Compensated => "compensated",
        }
    }
}

/// A call of a step that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndedCall {
    /// The path of the step.
    pub path: Path,
    /// The name of the step.
    pub step: String,
    /// How the call has ended.
    pub outcome: CallOutcome,
    /// How long the call took, in milliseconds, by the clock of [`RoleInstance::turn`].
    ///
    /// [`RoleInstance::turn`]: crate::role_instance::RoleInstance::turn
    pub took_ms: u64,
}

impl LocalJob {
    /// The name of the step.
    pub fn step(&self) -> &str {
        &self.name
    }
}

impl Machine {
    /// Returns how a call of a service has ended. Asked before [`Machine::job_ended`] handles the result.
    pub(crate) fn outcome_of(&self, path: &Path, result: &JobResult) -> CallOutcome {
        match result {
            JobResult::Committed(Ok(_)) | JobResult::FoundOut(Ok(CommitOutcome::Committed(_))) => {
                CallOutcome::Committed
            }
            JobResult::FoundOut(Ok(CommitOutcome::NotCommitted)) => CallOutcome::Aborted,
            JobResult::Committed(Err(abort))
                if !abort.is_failure() && abort.as_undecided().is_none() && !self.only_goes_forward(path) =>
            {
                CallOutcome::Aborted
            }
            JobResult::Compensated(Ok(())) => CallOutcome::Compensated,
            JobResult::Committed(Err(_))
            | JobResult::CommittedUnrecorded(_)
            | JobResult::Compensated(Err(_))
            | JobResult::FoundOut(Ok(CommitOutcome::Unknown) | Err(_)) => CallOutcome::Failed,
        }
    }

    /// Returns how a local transaction has ended. Asked before [`Machine::synced`] handles the result.
    pub(crate) fn outcome_of_local(&self, path: &Path, result: &LocalResult) -> CallOutcome {
        match result {
            LocalResult::Committed(Ok(_)) => CallOutcome::Committed,
            LocalResult::Committed(Err(_)) => CallOutcome::Aborted,
            LocalResult::Refused(_) if !self.only_goes_forward(path) => CallOutcome::Aborted,
            LocalResult::Compensated(Ok(())) => CallOutcome::Compensated,
            LocalResult::Refused(_)
            | LocalResult::Compensated(Err(_))
            | LocalResult::Failed(_)
            | LocalResult::Panicked(_) => CallOutcome::Failed,
        }
    }

    /// The number of steps whose last call has failed and that are called again.
    pub(crate) fn retried_steps(&self) -> usize {
        self.steps.iter().filter(|(_, entry)| entry.tries > 0 && entry.trouble.is_none()).count()
    }
}
