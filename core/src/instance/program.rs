//! What a program asks of its instance: to send, to receive, to observe, to take a step.
//!
//! Each answers from the records where there are some. With the session aborted, what is recorded is still
//! answered, since a replay has to come by every committed step to be able to take it back; all else waits, and
//! the program is dropped where it waits. It is never told of the abort: a branch that returned early would keep a
//! replay from coming by the steps of its siblings.

use std::task::{Context, Poll, Waker};

use super::{Instance, Job, JobResult, LocalJob, LocalResult, Observation, OutgoingKey, Pause, Stop};
use crate::abort::{Abort, Retry};
use crate::choreography::AnyStep;
use crate::frame::Body;
use crate::id::{Path, RoleIndex};
use crate::message::Payload;
use crate::record::Record;

impl Instance {
    /// Sends once, when the window has room.
    pub(crate) fn poll_send(
        &mut self,
        cx: &Context<'_>,
        path: &Path,
        to: RoleIndex,
        payload: &Payload,
    ) -> Poll<Result<(), Abort>> {
        if self.stopped.is_some() {
            return Poll::Pending;
        }
        if self.abort.is_some() && self.unvisited_step().is_none() {
            return Poll::Pending;
        }
        if self.abort.is_some() || self.ended.is_some() {
            return Poll::Ready(Ok(())); // Heard already, or of no more use.
        }
        if payload.len() > self.limits.payload_bytes_max {
            let (found, limit) = (payload.len(), self.limits.payload_bytes_max);
            let abort = Abort::new(
                "payload-too-large",
                format!(
                    "a message at {path} has {found} bytes, the limit is {limit}: send a reference to it, or raise `payload_bytes_max`"
                ),
            );
            self.decide_abort(&abort);
            return Poll::Pending;
        }
        if self.unacked.len() >= self.limits.unacked_max {
            return self.wait(cx.waker());
        }
        let body = Body::Deliver { path: path.clone(), payload: payload.clone() };
        self.say(OutgoingKey::Deliver(path.clone(), to), to, body, self.barrier);
        Poll::Ready(Ok(()))
    }

    /// The message `path` from `from`.
    pub(crate) fn poll_receive(
        &mut self,
        cx: &Context<'_>,
        path: &Path,
        from: RoleIndex,
    ) -> Poll<Result<Payload, Abort>> {
        if self.stopped.is_some() {
            return Poll::Pending;
        }
        if let Some(payload) = self.mailbox.get(&(path.clone(), from)) {
            return Poll::Ready(Ok(payload.clone()));
        }
        self.waiting.insert(from);
        self.wait(cx.waker())
    }

    /// What was observed at `path`; `Ready(None)` when it has to be observed now.
    pub(crate) fn poll_observed(&mut self, path: &Path, name: &str) -> Poll<Result<Option<Payload>, Abort>> {
        if self.stopped.is_some() {
            return Poll::Pending;
        }
        match self.observed.get_mut(path) {
            Some(known) if known.name == name => {
                known.visited = true;
                Poll::Ready(Ok(Some(known.result.clone())))
            }
            Some(known) => {
                let recorded = format!("effect `{}`", known.name);
                self.stop(Stop::Diverged { path: path.clone(), recorded, replayed: format!("effect `{name}`") });
                Poll::Pending
            }
            None if self.abort.is_some() => Poll::Pending,
            None => Poll::Ready(Ok(None)),
        }
    }

    pub(crate) fn observe(&mut self, path: Path, name: &str, result: Payload) {
        self.record_result(&Record::Observed { path: path.clone(), name: name.into(), result: result.clone() });
        self.observed.insert(path, Observation { name: name.into(), result, visited: true });
    }

    /// The program has come to the step `path`: begins it, or takes it up again.
    pub(crate) fn begin_step(&mut self, path: &Path, name: &'static str, step: AnyStep) {
        let (aborted, ended) = (self.abort.is_some(), self.ended.is_some());
        let Some(entry) = self.steps.get_mut(path) else {
            if !aborted && self.stopped.is_none() {
                self.begin_new_step(path, name, step);
            }
            return;
        };
        if entry.name != name {
            let recorded = format!("step `{}`", entry.name);
            return self.stop(Stop::Diverged { path: path.clone(), recorded, replayed: format!("step `{name}`") });
        }
        // An instance that has ended has nothing in doubt: a commit without a result was not begun before the abort.
        let in_doubt = entry.result.is_none() && !ended;
        entry.step = Some(step.clone());
        if let (true, AnyStep::External(step)) = (in_doubt, step) {
            // Its commit was running at a crash: under the same key it tells its result, also for an aborted
            // session, whose compensation then has the output in hand.
            self.jobs.push_back((0, Job { path: path.clone(), step, compensates: None }));
        }
    }

    fn begin_new_step(&mut self, path: &Path, name: &'static str, step: AnyStep) {
        self.step_entry(path.clone(), name).step = Some(step.clone());
        match step {
            AnyStep::External(step) => {
                self.record(&Record::Intended { path: path.clone(), name: name.into() }, true);
                self.jobs.push_back((self.number, Job { path: path.clone(), step, compensates: None }));
            }
            AnyStep::BuiltIn(step) => {
                let order = self.take_order();
                self.step_entry(path.clone(), name).order = order;
                let (instance, role, path) = (self.id, self.role, path.clone());
                self.flush(Some(LocalJob { instance, role, path, name, order, step, compensates: None }));
            }
        }
    }

    /// How the step `path` ended.
    pub(crate) fn poll_step(&mut self, cx: &Context<'_>, path: &Path) -> Poll<Result<Result<Payload, Abort>, Abort>> {
        if self.stopped.is_some() {
            return Poll::Pending;
        }
        if let Some(result) = self.steps.get(path).and_then(|entry| entry.result.clone()) {
            return Poll::Ready(Ok(result));
        }
        self.wait(cx.waker())
    }

    /// A value cannot be read or written: the instance stands still.
    pub(crate) fn cannot_use(&mut self, path: Path, reason: String) {
        self.stop(Stop::Undecodable { path, reason });
    }

    /// The role has no service to work with: the instance stands still.
    pub(crate) fn lacks_service(&mut self, role: &'static str) {
        self.stop(Stop::NoService { role });
    }

    /// Whether the session runs with `patch`. One that is not among those that the program says it `knows` would never
    /// be offered to anybody: the instance stands still.
    pub(crate) fn is_patched(&mut self, patch: &str, knows: &[&str]) -> bool {
        if !knows.contains(&patch) {
            self.stop(Stop::UnknownPatch { patch: patch.into() });
        }
        self.header.patches.iter().any(|known| known == patch)
    }

    /// The jobs that may start: their intents are durable. On an aborted session new ones may not.
    pub(crate) fn take_jobs(&mut self) -> Vec<Job> {
        let mut ready = Vec::new();
        while let Some((after, job)) = self.jobs.pop_front_if(|(after, _)| *after <= self.synced) {
            let never_began = after > 0 && job.compensates.is_none() && self.abort.is_some();
            if never_began {
                self.steps.remove(&job.path);
            } else {
                self.in_flight += 1;
                ready.push(job);
            }
        }
        ready
    }

    pub(crate) fn job_ended(&mut self, path: Path, result: JobResult) {
        self.in_flight = self.in_flight.saturating_sub(1);
        match result {
            JobResult::Committed(Err(abort)) if abort.is_failure() => {
                self.stop(Stop::StepFailed { path, reason: abort.to_string() });
            }
            JobResult::Committed(result) => {
                let order = self.take_order();
                let name = self.steps.get(&path).map(|entry| entry.name.clone()).unwrap_or_default();
                self.record_result(&Record::Committed { path: path.clone(), name, order, result: result.clone() });
                self.step_ended(&path, Some(order), result);
            }
            JobResult::Compensated(Ok(())) => {
                self.record_result(&Record::Compensated { path: path.clone() });
                self.step_compensated(&path);
            }
            JobResult::Compensated(Err(retry)) => self.retry_later(&retry),
        }
        self.wake();
    }

    pub(super) fn local_ended(&mut self, path: Path, result: LocalResult) {
        match result {
            LocalResult::Committed(result) => {
                self.step_ended(&path, None, result);
            }
            LocalResult::Compensated(Ok(())) => self.step_compensated(&path),
            LocalResult::Compensated(Err(retry)) => self.retry_later(&retry),
            LocalResult::Failed(reason) | LocalResult::Panicked(reason) => self.stop(Stop::StepFailed { path, reason }),
        }
    }

    /// `order` is the step's place among the others, unless it has one since its beginning.
    fn step_ended(&mut self, path: &Path, order: Option<u32>, result: Result<Payload, Abort>) {
        if let Some(entry) = self.steps.get_mut(path) {
            entry.order = order.unwrap_or(entry.order);
            entry.result = Some(result);
        }
    }

    fn step_compensated(&mut self, path: &Path) {
        self.retry = None;
        if let Some(entry) = self.steps.get_mut(path) {
            entry.compensated = true;
        }
    }

    fn retry_later(&mut self, _reason: &Retry) {
        let limits = &self.limits;
        let next = self.retry.map(|pause| pause.next(self.now_ms, limits.retry_delay_max_ms));
        self.retry = Some(next.unwrap_or(Pause::first(self.now_ms, limits.retry_delay_min_ms)));
    }

    fn take_order(&mut self) -> u32 {
        let order = self.next_order;
        self.next_order += 1;
        order
    }

    fn wait<T>(&mut self, waker: &Waker) -> Poll<T> {
        self.wakers.push(waker.clone());
        Poll::Pending
    }
}
