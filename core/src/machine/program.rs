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
use super::waiting::Waiting;
use super::{Job, JobTask, Machine, OutgoingKey, Stop};
use crate::base::abort::Abort;
use crate::base::id::{Path, RoleIndex};
use crate::base::message::{CodecError, Fingerprint, Payload};
use crate::frame::{Body, Operation};
use crate::record::{Record, Task};
use crate::step::{AnyStep, ExternalStep, Kind, StepPlace};

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
                    "a message at {path} has {found} bytes, the limit is {limit}: send a reference to it, or raise \
                     `payload_bytes_max`"
                ),
            );
            self.abort_at(path, &abort);
            return Poll::Pending;
        }
        let fingerprint = Fingerprint::of(payload);
        match self.outbox.sent(path, to) {
            Some(sent) if sent.acknowledged && sent.fingerprint == fingerprint => return Poll::Ready(()),
            Some(sent) if sent.acknowledged => {
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
        self.send(OutgoingKey::Deliver(path.clone(), to), to, body, after);
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
                self.note_attempt(path, Task::Commit);
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
    pub(crate) fn cannot_use(&mut self, path: Path, of: String, reason: String) {
        let role = self.identity.role;
        self.stop(Stop::Undecodable { role, path, of, reason });
    }

    /// Stops the instance because the session has no such member of its role family.
    pub(crate) fn has_no_member(&mut self, path: Path, member: String, members: u8) {
        self.stop(Stop::UnknownMember { path, member, members });
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
}
