//! Compensation: which step is next, how often it is tried, and when an operator has to help.
//!
//! The rules are the same for the session and for a saga within it. Each role goes backwards along its commits; with
//! [`Compensation::Backwards`] all roles together go backwards along the paths. Next: `ending`, which calls this
//! module.

use std::sync::Arc;

use super::journal::Urgency;
use super::phase::Phase;
use super::steps::{Attempt, StepEntry};
use super::timers::Pause;
use super::{JobTask, LocalJob, Machine, Retried, Stop};
use crate::base::abort::{Abort, Retry};
use crate::base::id::{Path, RoleIndex};
use crate::base::message::Fingerprint;
use crate::frame::{Body, Outcome};
use crate::record::{Record, StepFailure, Task};
use crate::step::{AnyStep, BuiltInStep, Compensation, Kind, StepPlace};

/// An operator's decision about the steps that are in trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resolution {
    /// Try again, as often as at first, because the obstacle is gone. A step whose output could not be recorded is
    /// committed once more under its key, as after a crash; if the session is aborted, its service is asked for the
    /// outcome ([`Transaction::outcome`](crate::Transaction::outcome)) instead.
    Retry,
    /// The step has been dealt with by hand: the saga continues as if the step were compensated. Does not apply to a
    /// step that must be committed, because the program waits for its output.
    Compensated,
}

impl Machine {
    /// Takes the next action to compensate all of `scope`. Returns whether nothing is left to do.
    pub(super) fn compensate(&mut self, scope: &Path) -> bool {
        if self.steps.is_running(scope) || self.steps.of(scope).any(|(_, entry)| entry.trouble.is_some()) {
            return false;
        }
        if let Some((path, recorded)) = self.steps.unvisited(scope).filter(|(path, _)| !self.loops.is_final(path)) {
            self.stop(Stop::Diverged { path, recorded, replayed: "nothing".into() });
            return false;
        }
        if self.doubts_a_turn() {
            return false;
        }
        let Some((path, task)) = self.next_task(scope) else { return true };
        let pause = self.steps.get(&path).and_then(|entry| entry.pause);
        if pause.is_some_and(|pause| pause.until_ms > self.timers.now_ms)
            || !self.roles_to_compensate_before(&path, task).is_empty()
        {
            return false;
        }
        let is_told = self.steps.get(&path).is_some_and(StepEntry::is_announced_by_commit);
        match task {
            Task::FindOut if is_told => self.run_task(&path, Task::Commit),
            Task::Reconcile => self.note_trouble(&path, task, "the session was aborted after it"),
            task => self.run_task(&path, task),
        }
        false
    }

    fn next_task(&self, scope: &Path) -> Option<(Path, Task)> {
        self.steps.next_task(scope, &self.loops, self.identity.compensation)
    }

    fn run_task(&mut self, path: &Path, task: Task) {
        let Some(entry) = self.steps.get(path) else { return };
        let (Some(step), output) = (entry.step.clone(), entry.result.clone()) else { return };
        let task = match (task, output) {
            (Task::Compensate, Some(Ok(output))) => JobTask::Compensate(output),
            (Task::Commit, _) => JobTask::Commit,
            _ => JobTask::FindOut,
        };
        self.run_step(path, step, task);
    }

    /// Runs a step or its compensation, once everything it depends on is durable.
    pub(super) fn run_step(&mut self, path: &Path, AnyStep { kind, place }: AnyStep, task: JobTask) {
        self.steps.set_running(path, true);
        self.note_attempt(path, task.task());
        let after = match task {
            // The intent of the step is already durable.
            JobTask::Commit => 0,
            // After a crash, the abort and the commit of the step must still be known. Otherwise the session would
            // continue without the step, or commit it again.
            JobTask::Compensate(_) | JobTask::FindOut => self.journal.barrier(),
        };
        match place {
            StepPlace::External(step) => self.push_job(after, path, step, task),
            StepPlace::BuiltIn(step) => self.run_built_in(path, kind, step, task),
        }
    }

    fn run_built_in(&mut self, path: &Path, kind: Kind, step: Arc<dyn BuiltInStep>, task: JobTask) {
        let compensates = if let JobTask::Compensate(output) = task { Some(output) } else { None };
        let next_order = self.steps.take_order();
        let Some(entry) = self.steps.get_mut(path) else { return };
        if compensates.is_none() {
            entry.order = next_order;
        }
        let (instance, role, path, order) = (self.identity.id, self.identity.role, path.clone(), entry.order);
        let (name, input) = (entry.name.clone(), entry.input);
        let observer = None;
        self.flush(Some(LocalJob { instance, role, path, name, input, kind, order, step, compensates, observer }));
    }

    /// Handles an unsuccessful try of a step: retries it after a pause, or requires an operator if it was tried often
    /// enough or no retry helps.
    pub(super) fn try_again_later(&mut self, path: &Path, task: Task, retry: &Retry) {
        let Some(entry) = self.steps.get_mut(path) else { return };
        entry.tries += 1;
        if retry.is_for_operator() || entry.tries >= self.identity.limits.tries_max {
            return self.note_trouble(path, task, &retry.to_string());
        }
        self.try_after_pause(path, task, retry.to_string());
    }

    /// Handles an unavailable service: the step is retried after a pause, without limit.
    pub(super) fn wait_for_service(&mut self, path: &Path, reason: &Abort) {
        if let Some(entry) = self.steps.get_mut(path) {
            entry.tries = entry.tries.max(1);
            self.try_after_pause(path, Task::Commit, reason.message().to_owned());
        }
    }

    fn try_after_pause(&mut self, path: &Path, task: Task, reason: String) {
        let (now_ms, unix_ms, limits) = (self.timers.now_ms, self.timers.unix_ms, &self.identity.limits);
        let Some(entry) = self.steps.get_mut(path) else { return };
        let next = entry.pause.map(|pause| pause.next(now_ms, limits.retry_delay_max_ms));
        let pause = next.unwrap_or(Pause::first(now_ms, limits.retry_delay_min_ms));
        entry.pause = Some(pause);
        let failures = entry.attempt.get_or_insert_with(|| Attempt::new(task, unix_ms)).failed(&reason);
        let (step, tries, pause_ms) = (entry.name.clone(), entry.tries, pause.length_ms);
        self.effects.retries.push(Retried { path: path.clone(), step, task, reason, tries, failures, pause_ms });
        self.steps.retry(path.clone());
    }

    /// Notes, for people, that a step begins to be tried.
    pub(super) fn note_attempt(&mut self, path: &Path, task: Task) {
        let unix_ms = self.timers.begins_unix_ms(path);
        self.steps.note_attempt(path, task, unix_ms);
    }

    pub(super) fn note_trouble(&mut self, path: &Path, task: Task, reason: &str) {
        self.steps.stop_retrying(path);
        let Some(entry) = self.steps.get_mut(path) else { return };
        let reason = Abort::new("", reason).message().to_owned();
        let (step, tries, in_doubt) = (entry.name.clone(), entry.tries, entry.in_doubt);
        let trouble = StepFailure { step, task, reason, tries, in_doubt };
        let input = entry.input;
        self.commit(&Record::Troubled { path: path.clone(), input, trouble }, Urgency::Lazy);
        self.note_attempt(path, task);
        self.report_troubles();
    }

    pub(super) fn report_troubles(&mut self) {
        self.effects.troubles = Some(self.troubles());
        self.tell_trouble();
    }

    /// The steps that need an operator.
    pub fn troubles(&self) -> Vec<(Path, StepFailure)> {
        self.steps.troubles()
    }

    /// Restarts the retriable steps whose pause is over.
    pub(super) fn retry_when_due(&mut self) {
        for path in self.steps.take_due(self.timers.now_ms) {
            let forward = self.steps.get(&path).is_some_and(|entry| entry.result.is_none());
            if forward && !self.is_aborted(&path) {
                self.run_task(&path, Task::Commit);
            }
        }
    }

    /// Applies an operator's resolution. Returns the number of steps concerned, and the number of the write that makes
    /// the resolution durable.
    pub fn resolve(&mut self, resolution: Resolution) -> (usize, u64) {
        let mut concerned = 0;
        for (path, trouble) in self.troubles() {
            // The program waits for the step's output.
            let forward = matches!(trouble.task, Task::Commit | Task::Record) && !self.is_aborted(&path);
            match resolution {
                Resolution::Compensated if forward => continue,
                Resolution::Compensated => self.note_compensated(&path),
                Resolution::Retry => {}
            }
            concerned += 1;
            self.forget_tries(&path);
            self.journal.hurry();
            if forward {
                self.steps.retry(path);
            }
        }
        self.wake();
        (concerned, self.journal.all_so_far())
    }

    /// Resets the tries of a step, which starts over or is done.
    pub(super) fn forget_tries(&mut self, path: &Path) {
        if let Some(trouble) = self.steps.forget_tries(path) {
            self.timers.passivated_since.remove(path);
            let troubled = Record::Troubled { path: path.clone(), input: Fingerprint::default(), trouble };
            self.journal.unrecord(&troubled);
            self.report_troubles();
        }
    }

    pub(super) fn note_compensated(&mut self, path: &Path) {
        self.commit(&Record::Compensated { path: path.clone() }, Urgency::Result);
        self.forget_tries(path);
    }

    /// Whether each role compensates its own steps without regard to the others.
    fn goes_side_by_side(&self) -> bool {
        self.identity.compensation == Compensation::SideBySide
    }

    /// The roles that may have steps to compensate before this one.
    fn roles_to_compensate_before(&self, path: &Path, task: Task) -> Vec<RoleIndex> {
        if self.goes_side_by_side() || !self.phase.is_aborted() || task != Task::Compensate {
            return Vec::new();
        }
        let later = |role: &RoleIndex| self.peers.may_compensate_after(*role, path);
        self.identity.others().into_iter().filter(later).collect()
    }

    /// The roles whose compensation this role waits for.
    pub(super) fn awaited_to_compensate(&self) -> Vec<RoleIndex> {
        let waits = self.program.is_over() && matches!(self.phase, Phase::Compensating { .. });
        let next = waits.then(|| self.next_task(&Path::root())).flatten();
        next.map(|(path, task)| self.roles_to_compensate_before(&path, task)).unwrap_or_default()
    }

    /// Sends the others the latest step that this role still has to compensate, if that has changed.
    pub(super) fn announce_compensating(&mut self) {
        let root = Path::root();
        if self.goes_side_by_side() || !self.phase.is_aborted() || !self.program.is_over() {
            return;
        }
        if self.steps.is_any_running() || self.doubts_a_turn() || self.steps.unvisited(&root).is_some() {
            return; // That step is not known yet, or is the one that was sent last.
        }
        let compensating = Body::Compensating(self.steps.latest_task(&root, &self.loops));
        if self.outbox.announces_compensating(&compensating) {
            for to in self.identity.others() {
                self.answer(to, compensating.clone());
            }
        }
    }

    /// The message of an ended role that it has compensated everything. The role sends it again after a recovery,
    /// too.
    pub(super) fn has_compensated_all(&self) -> Option<Body> {
        let compensated = matches!(self.phase.outcome(), Some(Outcome::Compensated(_)));
        (compensated && !self.goes_side_by_side()).then_some(Body::Compensating(None))
    }
}
