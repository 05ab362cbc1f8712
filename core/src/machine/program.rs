//! The operations that a program calls on its instance: send, receive, observe, run a step.
//!
//! Each operation answers from the records where there are any. If the session (or a saga around the operation) is
//! aborted, recorded results are still returned, since a replay must reach every committed step in order to
//! compensate it. Everything else waits, and the program is dropped where it waits. The program never learns of the
//! abort: a branch that returned early would keep a replay from reaching the steps of its siblings.

use std::sync::Arc;
use std::task::{Context, Poll};

use super::journal::Urgency;
use super::phase::Program;
use super::steps::StepEntry;
use super::waiting::Waiting;
use super::{Job, JobResult, JobTask, LocalResult, Machine, OutgoingKey, Stop};
use crate::base::abort::{self, Abort, Retry, Undecided};
use crate::base::id::{Path, RoleIndex};
use crate::base::message::{CodecError, Fingerprint, Payload};
use crate::frame::{Body, Operation};
use crate::record::{Record, Task};
use crate::step::{AnyStep, CommitOutcome, ExternalStep, Kind, StepPlace};

/// The recorded result of a step that an abort has ended between two tries.
const NOT_IN_TIME: &str = "it did not succeed before the session was aborted";

impl Machine {
    /// Sends a message once, when the window has room.
    pub(crate) fn poll_send(
        &mut self,
        cx: &Context<'_>,
        path: &Path,
        operation: Operation,
        to: RoleIndex,
        payload: &Payload,
    ) -> Poll<()> {
        if self.is_stopped() {
            return Poll::Pending;
        }
        if self.is_aborted(path) {
            // The message was acknowledged before, or is not needed any more.
            let scope = self.aborted_scope(path);
            return if self.steps.unvisited(&scope).is_some() { Poll::Ready(()) } else { Poll::Pending };
        }
        if self.phase.has_ended() {
            self.resend(path, to, operation, payload);
        }
        if self.phase.has_ended() || self.identity.rehearsing {
            return Poll::Ready(());
        }
        let (found, limit) = (payload.len(), self.identity.limits.payload_bytes_max);
        if found > limit {
            if self.identity.stops_on_oversize {
                self.stop(Stop::TooLarge { path: path.clone(), found, limit });
                return Poll::Pending;
            }
            let abort = Abort::new(
                Abort::PAYLOAD_TOO_LARGE,
                format!(
                    "a message at {path} has {found} bytes, the limit is {limit}: send a reference to it, or raise `payload_bytes_max`"
                ),
            );
            self.abort_at(path, &abort);
            return Poll::Pending;
        }
        let fingerprint = Fingerprint::of(payload);
        match self.outbox.sent(path, to) {
            Some(sent) if sent.heard && sent.fingerprint == fingerprint => return Poll::Ready(()),
            Some(sent) if sent.heard => {
                let recorded = format!("a {operation} ({}) to {}", sent.fingerprint, self.identity.name_of(to));
                let replayed = format!("a {operation} ({fingerprint}) to {}", self.identity.name_of(to));
                self.stop(Stop::Diverged { path: path.clone(), recorded, replayed });
                return Poll::Pending;
            }
            _ => {}
        }
        // A replay resends without waiting everything that the instance had sent so far. All of it was acknowledged,
        // or will be, before what is recorded after it.
        let replays = self.program == Program::Replaying && self.unvisited().is_some();
        if self.outbox.window() >= self.identity.limits.unacked_max && !replays {
            return self.wait(cx, path, Waiting::for_room(to));
        }
        // A voting role must have everything it received on disk: after the vote, the others may forget what they
        // have sent.
        let after = match operation {
            Operation::Vote => self.journal.all_so_far(),
            _ => self.journal.barrier(),
        };
        // A write that a frame waits for must not be delayed to share a sync.
        self.journal.hurry_for(after);
        let body = Body::Deliver { path: path.clone(), operation, payload: payload.clone() };
        self.outbox.note_sent(path, to, fingerprint);
        self.say(OutgoingKey::Deliver(path.clone(), to), to, body, after);
        Poll::Ready(())
    }

    /// Receives the message at `path` from `from`.
    pub(crate) fn poll_receive(
        &mut self,
        cx: &Context<'_>,
        path: &Path,
        operation: Operation,
        from: RoleIndex,
    ) -> Poll<Payload> {
        if self.is_stopped() {
            return Poll::Pending;
        }
        let recorded = match self.inputs.message(path, from) {
            Some((known, payload)) if *known == operation => return Poll::Ready(payload.clone()),
            Some((known, _)) => Some(format!("a {known} from {}", self.identity.name_of(from))),
            // In a gather or a vote, several roles send to one role at the same path.
            None => self.recorded_at(path, !matches!(operation, Operation::Gather | Operation::Vote)),
        };
        if let Some(recorded) = recorded {
            let replayed = format!("a {operation} from {}", self.identity.name_of(from));
            self.stop(Stop::Diverged { path: path.clone(), recorded, replayed });
            return Poll::Pending;
        }
        self.wait(cx, path, Waiting::for_message(operation, from))
    }

    /// Describes what is recorded at `path`. Messages count only if `messages` is set.
    fn recorded_at(&self, path: &Path, messages: bool) -> Option<String> {
        if let Some(entry) = self.steps.get(path) {
            return Some(format!("step `{}` with input {}", entry.name, entry.input));
        }
        if let Some(observation) = self.inputs.observation(path) {
            return Some(format!("effect `{}`", observation.name));
        }
        let (operation, from) = self.inputs.any_message(path).filter(|_| messages)?;
        Some(format!("a {operation} from {}", self.identity.name_of(from)))
    }

    /// Returns the observation recorded at `path`; `Ready(None)` if it must be made now.
    pub(crate) fn poll_observed(&mut self, cx: &Context<'_>, path: &Path, name: &str) -> Poll<Option<Payload>> {
        if self.is_stopped() {
            return Poll::Pending;
        }
        if self.inputs.observation(path).is_some_and(|known| known.name == name) {
            return Poll::Ready(self.inputs.visit(path).map(|known| known.result.clone()));
        }
        if let Some(recorded) = self.recorded_at(path, true) {
            self.stop(Stop::Diverged { path: path.clone(), recorded, replayed: format!("effect `{name}`") });
            return Poll::Pending;
        }
        match self.is_aborted(path) {
            true => Poll::Pending,
            false if self.identity.rehearsing => self.wait(cx, path, Waiting::for_effect(name)),
            false => Poll::Ready(None),
        }
    }

    /// Starts or resumes the step at `path`, which the program has reached.
    pub(crate) fn begin_step(&mut self, path: &Path, name: &'static str, input: Fingerprint, step: AnyStep) {
        let known = self.steps.get(path).is_some_and(|entry| (entry.name.as_str(), entry.input) == (name, input));
        if let Some(recorded) = self.recorded_at(path, true).filter(|_| !known) {
            let replayed = format!("step `{name}` with input {input}");
            return self.stop(Stop::Diverged { path: path.clone(), recorded, replayed });
        }
        let (aborted, ended) = (self.is_aborted(path), self.phase.has_ended());
        let may_run = !self.is_stopped() && !self.identity.rehearsing;
        let trouble = self.steps.get(path).and_then(|entry| entry.trouble.as_ref());
        if aborted && trouble.is_some_and(|trouble| trouble.task == Task::Commit) {
            self.forget_tries(path); // The session is aborted, so the step need not go forward.
        }
        let Some(entry) = self.steps.get_mut(path) else {
            if !aborted && may_run {
                self.begin_new_step(path, name, input, step);
            }
            return;
        };
        // Nothing is in doubt in an ended instance: a commit without a result was not started before the abort.
        let in_doubt = entry.result.is_none() && entry.trouble.is_none() && !ended && !entry.compensated;
        entry.step = Some(step.clone());
        // The commit was running at a crash. Repeating it under the same key returns its result, even on an aborted
        // session, whose compensation then has the output. The outcome of a step that cannot be compensated is asked
        // for later instead.
        if in_doubt && may_run && !(aborted && step.kind == Kind::Pivot) {
            entry.in_doubt = true;
            self.run_step(path, step, JobTask::Commit);
        }
    }

    fn begin_new_step(&mut self, path: &Path, name: &'static str, input: Fingerprint, step: AnyStep) {
        // A built-in step has no intent, because its result is written together with its effect.
        if matches!(step.place, StepPlace::External(_)) {
            self.commit(&Record::Intended { path: path.clone(), name: name.into(), input }, Urgency::Urgent);
        }
        if let Ok(entry) = self.steps.note_step(path, name, input) {
            entry.step = Some(step.clone());
        }
        match step.place {
            StepPlace::External(step) => {
                self.steps.set_running(path, true);
                self.push_job(self.journal.next(), path, step, JobTask::Commit);
            }
            StepPlace::BuiltIn(_) => self.run_step(path, step, JobTask::Commit),
        }
    }

    /// Queues a call of a service, to run once the write `after` is durable.
    pub(super) fn push_job(&mut self, after: u64, path: &Path, step: Arc<dyn ExternalStep>, task: JobTask) {
        let (role, name) = (self.identity.role, self.steps.name(path));
        self.steps.push_job(after, Job { role, name, path: path.clone(), step, task });
    }

    /// Waits for the result of the step at `path`.
    pub(crate) fn poll_step(&mut self, cx: &Context<'_>, path: &Path) -> Poll<Result<Payload, Abort>> {
        if self.is_stopped() {
            return Poll::Pending;
        }
        match self.steps.get(path).and_then(|entry| entry.result.clone()) {
            Some(result) => Poll::Ready(result),
            None => self.wait(cx, path, Waiting::for_step(&self.steps.name(path))),
        }
    }

    /// Stops the instance because a recorded or received value cannot be decoded.
    pub(crate) fn cannot_use(&mut self, path: Path, reason: String) {
        self.stop(Stop::Undecodable { path, reason });
    }

    /// Aborts because a value of the program cannot be sent or recorded. Nothing has been done with that value yet.
    pub(crate) fn refuse_value(&mut self, path: &Path, error: &CodecError) {
        self.abort_at(path, &Abort::new(Abort::NOT_ENCODABLE, format!("a value at {path} cannot be used: {error}")));
    }

    /// Stops the instance because the program has reached an operation whose path is too deep to be recorded.
    pub(crate) fn is_too_deep(&mut self) {
        self.stop(Stop::TooDeep { limit: Path::DEPTH_MAX });
    }

    /// Stops the instance because the role has no service.
    pub(crate) fn lacks_service(&mut self, role: &'static str) {
        self.stop(Stop::NoService { role });
    }

    /// Whether the session runs with `patch`. A patch that is not among those the program `knows` would never be
    /// advertised, so it stops the instance.
    pub(crate) fn is_patched(&mut self, patch: &str, knows: &[&str]) -> bool {
        if !knows.contains(&patch) {
            self.stop(Stop::UnknownPatch { patch: patch.into() });
        }
        self.identity.header.patches.iter().any(|known| known == patch)
    }

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
    fn only_goes_forward(&self, path: &Path) -> bool {
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
