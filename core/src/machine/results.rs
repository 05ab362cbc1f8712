//! What the calls of steps come to: recorded, retried, handed to an operator, or a reason to stop.
//!
//! Next: `compensation`, which decides when a step is tried again.

use super::journal::Urgency;
use super::steps::StepEntry;
use super::{Job, JobResult, JobTask, LocalResult, Machine, Stop};
use crate::base::abort::{self, Abort, Retry, Undecided};
use crate::base::id::Path;
use crate::base::message::Payload;
use crate::record::{Record, Task};
use crate::step::{CommitOutcome, Kind};

/// The recorded result of a step that an abort has ended between two tries.
const NOT_IN_TIME: &str = "it did not succeed before the session was aborted";

impl Machine {
    /// Returns the jobs that may start because their intents are durable. On an aborted session, new commits may not
    /// start.
    pub(crate) fn take_jobs(&mut self) -> Vec<Job> {
        let mut ready = Vec::new();
        while let Some((after, job)) = self.steps.take_job(|write| self.journal.is_synced(write)) {
            // A commit that was already started in an earlier life waits for no write.
            if after > 0 && matches!(job.task, JobTask::Commit) && self.is_aborted(&job.path) {
                if let Some(entry) = self.steps.remove(&job.path) {
                    // After a recovery, the intent would make the step appear to be in doubt.
                    self.journal.unrecord(&Record::Intended { path: job.path, name: entry.name, input: entry.input });
                }
            } else {
                ready.push(job);
            }
        }
        ready
    }

    pub(crate) fn job_ended(&mut self, path: &Path, result: JobResult) {
        self.steps.set_running(path, false);
        if let JobResult::Committed(Err(abort)) = &result
            && let Some(undecided) = abort.as_undecided()
        {
            self.commit_undecided(path, undecided, abort);
            return self.waits.wake_at(path);
        }
        match result {
            JobResult::Committed(Err(abort)) if abort.is_failure() => {
                self.step_failed(path, abort.message().to_owned());
            }
            JobResult::Committed(Err(refusal)) if self.only_goes_forward(path) => {
                self.no_more_in_doubt(path); // The service has answered that nothing was done under this key.
                self.try_again_later(path, Task::Commit, &refusal.into());
            }
            JobResult::Committed(result) => self.step_committed(path, result),
            // The step is not committed again unless an operator wants that, because the effect of a repetition is
            // unknown.
            JobResult::CommittedUnrecorded(error) => {
                self.no_more_in_doubt(path);
                self.note_trouble(path, Task::Record, &error.to_string());
            }
            JobResult::FoundOut(Ok(CommitOutcome::Committed(output))) => self.step_committed(path, Ok(output)),
            JobResult::FoundOut(Ok(CommitOutcome::NotCommitted)) => {
                let refusal =
                    Abort::new(abort::NOT_COMMITTED, "the commit had not taken effect when the session was aborted");
                self.step_committed(path, Err(refusal));
            }
            JobResult::FoundOut(Ok(CommitOutcome::Unknown)) => {
                self.note_trouble(path, Task::FindOut, "its service does not know (see `Transaction::outcome`)");
            }
            JobResult::Compensated(Ok(())) => self.note_compensated(path),
            JobResult::Compensated(Err(retry)) => self.try_again_later(path, Task::Compensate, &retry),
            JobResult::FoundOut(Err(retry)) => self.try_again_later(path, Task::FindOut, &retry),
        }
        self.waits.wake_at(path);
    }

    fn no_more_in_doubt(&mut self, path: &Path) {
        if let Some(entry) = self.steps.get_mut(path) {
            entry.in_doubt = false;
        }
    }

    /// Handles a commit that reached no decision. This try of it had no effect.
    fn commit_undecided(&mut self, path: &Path, undecided: Undecided, reason: &Abort) {
        let aborted = self.is_aborted(path);
        let Some(entry) = self.steps.get_mut(path) else { return };
        entry.in_doubt &= !undecided.is_known;
        let in_doubt = entry.in_doubt;
        let retry = || Retry::new(reason.message());
        match aborted {
            true if in_doubt => self.try_again_later(path, Task::FindOut, &retry()),
            true => self.step_committed(path, Err(Abort::new(abort::GIVEN_UP, NOT_IN_TIME))),
            false if undecided.passes => self.wait_for_service(path, reason),
            false => self.try_again_later(path, Task::Commit, &retry()),
        }
    }

    /// Whether a refusal of the step does not count as an answer. On an aborted session it does count: nothing has
    /// taken effect.
    pub(super) fn only_goes_forward(&self, path: &Path) -> bool {
        self.steps.get(path).and_then(StepEntry::kind) == Some(Kind::Retriable) && !self.is_aborted(path)
    }

    fn step_committed(&mut self, path: &Path, result: Result<Payload, Abort>) {
        self.forget_tries(path);
        let Some(entry) = self.steps.get(path) else { return };
        let (name, input, order) = (entry.name.clone(), entry.input, self.steps.next_order());
        self.commit(&Record::Committed { path: path.clone(), name, input, order, result }, Urgency::Result);
    }

    pub(super) fn local_ended(&mut self, path: &Path, result: LocalResult) {
        self.steps.set_running(path, false);
        match result {
            LocalResult::Committed(result) => {
                self.forget_tries(path);
                let Some(entry) = self.steps.get(path) else { return };
                let (name, input, order) = (entry.name.clone(), entry.input, entry.order);
                self.apply_written(&Record::Committed { path: path.clone(), name, input, order, result });
            }
            LocalResult::Refused(refusal) if self.only_goes_forward(path) => {
                self.try_again_later(path, Task::Commit, &refusal.into());
            }
            LocalResult::Refused(refusal) => self.step_committed(path, Err(refusal)),
            LocalResult::Compensated(Ok(())) => {
                self.forget_tries(path);
                self.apply_written(&Record::Compensated { path: path.clone() });
            }
            LocalResult::Compensated(Err(retry)) => self.try_again_later(path, Task::Compensate, &retry),
            LocalResult::Failed(reason) | LocalResult::Panicked(reason) => {
                self.step_failed(path, reason);
            }
        }
    }

    fn step_failed(&mut self, path: &Path, reason: String) {
        self.stop(Stop::StepFailed { path: path.clone(), step: self.steps.name(path), reason });
    }

    /// Ends the retries of the retriable steps in `scope`, which need not go forward any more: their last tries had
    /// no effect.
    pub(super) fn give_up_retries(&mut self, scope: &Path) {
        // A step that may have taken effect in an earlier life is called once more.
        let is_over =
            |entry: &StepEntry| entry.tries > 0 && !entry.is_running() && entry.result.is_none() && !entry.in_doubt;
        let waiting = self.steps.of(scope).filter(|(_, entry)| is_over(entry));
        let waiting: Vec<Path> = waiting.map(|(path, _)| path.clone()).collect();
        for path in waiting {
            self.step_committed(&path, Err(Abort::new(abort::GIVEN_UP, NOT_IN_TIME)));
        }
        let is_listed = |entry: &StepEntry| {
            entry.in_doubt && entry.trouble.as_ref().is_some_and(|trouble| trouble.task == Task::Commit)
        };
        let listed = self.steps.of(scope).filter(|(_, entry)| is_listed(entry));
        for path in listed.map(|(path, _)| path.clone()).collect::<Vec<_>>() {
            self.forget_tries(&path); // The step need not go forward any more.
        }
    }
}
