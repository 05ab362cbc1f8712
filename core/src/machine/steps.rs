//! The steps of an instance: the progress of each, what is queued or running, and what remains to be done.
//!
//! This module does not know how a job is run or a record written. Next: `compensation`, which decides what to do.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::{Hash, Hasher};

use super::apply::Refusal;
use super::digest::Since;
use super::timers::Pause;
use super::turns::Loops;
use super::{Job, JobTask};
use crate::base::abort::Abort;
use crate::base::id::Path;
use crate::base::message::{Fingerprint, Payload};
use crate::record::{Record, StepFailure, Task};
use crate::step::{AnyStep, Compensation, Kind, StepPlace};

/// The progress of a step.
pub(super) struct StepEntry {
    pub(super) name: String,
    pub(super) input: Fingerprint,
    pub(super) result: Option<Result<Payload, Abort>>,
    /// The position of the step among the committed steps of this instance.
    pub(super) order: u32,
    pub(super) compensated: bool,
    /// The typed step. Present once the program (or its replay) has reached it.
    pub(super) step: Option<AnyStep>,
    /// Whether a job or write of the step is queued or running.
    running: bool,
    /// The number of consecutive failures, and the pause before the next try.
    pub(super) tries: u32,
    pub(super) pause: Option<Pause>,
    /// Whether the commit was started in an earlier life, and no try since then has shown whether it took effect.
    pub(super) in_doubt: bool,
    pub(super) trouble: Option<StepFailure>,
    /// What is being done for the step, from its first try to its success: for people, nothing depends on it.
    pub(super) attempt: Option<Attempt>,
}

/// What is being done for a step.
pub(super) struct Attempt {
    pub(super) task: Task,
    /// The wall-clock time of the first try.
    pub(super) since_unix_ms: u64,
    /// The number of failures in a row, and the reason of the last one.
    pub(super) failures: u32,
    pub(super) reason: Option<String>,
}

impl Attempt {
    pub(super) fn new(task: Task, since_unix_ms: u64) -> Self {
        Self { task, since_unix_ms, failures: 0, reason: None }
    }

    /// Notes a failure. Returns the number of failures in a row.
    pub(super) fn failed(&mut self, reason: &str) -> u32 {
        self.failures = self.failures.saturating_add(1);
        self.reason = Some(Abort::new("", reason).message().to_owned());
        self.failures
    }
}

impl StepEntry {
    fn new(name: &str, input: Fingerprint) -> Self {
        Self {
            name: name.into(),
            input,
            result: None,
            order: 0,
            compensated: false,
            step: None,
            running: false,
            tries: 0,
            pause: None,
            in_doubt: false,
            trouble: None,
            attempt: None,
        }
    }

    pub(super) fn is_running(&self) -> bool {
        self.running
    }

    pub(super) fn kind(&self) -> Option<Kind> {
        self.step.as_ref().map(|step| step.kind)
    }

    /// The task that an abort leaves for this step.
    fn task(&self) -> Option<Task> {
        match (&self.result, self.kind()) {
            _ if self.compensated => None,
            (Some(Err(_)), _) | (None, None) => None,
            (Some(Ok(_)), Some(Kind::Compensable) | None) => Some(Task::Compensate),
            (Some(Ok(_)), Some(Kind::Pivot | Kind::Retriable)) => Some(Task::Reconcile),
            (None, Some(_)) => Some(Task::FindOut),
        }
    }

    /// Whether committing the step again, under its key, shows the outcome of a commit in an earlier life. For a step
    /// that cannot be compensated, the service is asked instead.
    pub(super) fn is_announced_by_commit(&self) -> bool {
        self.in_doubt && self.kind().is_some_and(|kind| kind != Kind::Pivot)
    }

    /// All records that may exist of this step.
    fn records(&self, path: &Path) -> Vec<Record> {
        let (name, input, path) = (self.name.clone(), self.input, path.clone());
        let external = self.step.as_ref().is_none_or(|step| matches!(step.place, StepPlace::External(_)));
        let mut records = Vec::new();
        if external {
            records.push(Record::Intended { path: path.clone(), name: name.clone(), input });
        }
        if let Some(result) = self.result.clone() {
            records.push(Record::Committed { path: path.clone(), name, input, order: self.order, result });
        }
        if let Some(trouble) = self.trouble.clone() {
            records.push(Record::Troubled { path: path.clone(), input, trouble });
        }
        if self.compensated {
            records.push(Record::Compensated { path });
        }
        records
    }

    fn digest(&self, since: Since, hasher: &mut impl Hasher) {
        let Self {
            name,
            input,
            result,
            order,
            compensated,
            step,
            running,
            tries,
            pause,
            in_doubt,
            trouble,
            attempt: _,
        } = self;
        (name, input, result, order, compensated, step.is_some()).hash(hasher);
        (running, tries, since.left(*pause), in_doubt, trouble).hash(hasher);
    }
}

/// A step as shown to test tools.
#[cfg(feature = "testing")]
pub(crate) struct StepSeen {
    pub(crate) path: Path,
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) is_done: bool,
    /// The refusal, if the step has refused.
    pub(crate) refusal: Option<Abort>,
    pub(crate) is_compensated: bool,
}

/// See the module's documentation.
#[derive(Default)]
pub(super) struct Steps {
    entries: BTreeMap<Path, StepEntry>,
    next_order: u32,
    /// The number of steps that have something running.
    running: usize,
    /// The steps that are retried after a pause.
    retrying: BTreeSet<Path>,
    /// The calls that wait for a write.
    jobs: VecDeque<(u64, Job)>,
}

impl Steps {
    pub(super) fn get(&self, path: &Path) -> Option<&StepEntry> {
        self.entries.get(path)
    }

    pub(super) fn get_mut(&mut self, path: &Path) -> Option<&mut StepEntry> {
        self.entries.get_mut(path)
    }

    /// Notes that there is a step at `path`.
    pub(super) fn note_step(&mut self, path: &Path, name: &str, input: Fingerprint) -> Result<&mut StepEntry, Refusal> {
        let entry = self.entries.entry(path.clone()).or_insert_with(|| StepEntry::new(name, input));
        if entry.name.is_empty() {
            (entry.name, entry.input) = (name.into(), input); // So far, only its compensation was known.
        }
        if (entry.name.as_str(), entry.input) == (name, input) { Ok(entry) } else { Err("another step is there") }
    }

    pub(super) fn note_result(
        &mut self,
        path: &Path,
        name: &str,
        input: Fingerprint,
        order: u32,
        result: Result<Payload, Abort>,
    ) -> Result<(), Refusal> {
        let entry = self.note_step(path, name, input)?;
        if entry.result.as_ref().is_some_and(|known| (known, entry.order) != (&result, order)) {
            return Err("the step has another result");
        }
        (entry.order, entry.result) = (order, Some(result));
        self.next_order = self.next_order.max(order.saturating_add(1));
        Ok(())
    }

    pub(super) fn note_trouble(
        &mut self,
        path: &Path,
        input: Fingerprint,
        trouble: StepFailure,
    ) -> Result<(), Refusal> {
        let entry = self.note_step(path, &trouble.step, input)?;
        (entry.tries, entry.in_doubt) = (trouble.tries, trouble.in_doubt);
        entry.trouble = Some(trouble);
        Ok(())
    }

    /// Notes that the step at `path` is compensated: also one that an operator counts as such.
    pub(super) fn note_compensated(&mut self, path: &Path) {
        let unknown = || StepEntry::new("", Fingerprint::default());
        self.entries.entry(path.clone()).or_insert_with(unknown).compensated = true;
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Path, &StepEntry)> {
        self.entries.iter()
    }

    /// The steps in `scope`.
    pub(super) fn of<'a>(&'a self, scope: &'a Path) -> impl Iterator<Item = (&'a Path, &'a StepEntry)> {
        // The paths of a scope are adjacent in the order of paths.
        self.entries.range(scope.clone()..).take_while(|(path, _)| path.is_in(scope))
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The name of the step at `path`, for people.
    pub(super) fn name(&self, path: &Path) -> String {
        self.entries.get(path).map(|entry| entry.name.clone()).unwrap_or_default()
    }

    /// Whether anything runs.
    pub(super) fn is_any_running(&self) -> bool {
        self.running > 0
    }

    /// Whether a step in `scope` is running.
    pub(super) fn is_running(&self, scope: &Path) -> bool {
        self.is_any_running() && self.of(scope).any(|(_, entry)| entry.running)
    }

    pub(super) fn set_running(&mut self, path: &Path, running: bool) {
        if let Some(entry) = self.entries.get_mut(path)
            && entry.running != running
        {
            entry.running = running;
            self.running = if running { self.running + 1 } else { self.running.saturating_sub(1) };
        }
    }

    /// Whether something runs, is queued, or is retried.
    pub(super) fn are_busy(&self) -> bool {
        self.is_any_running() || !self.retrying.is_empty() || self.has_jobs()
    }

    /// Retries the step at `path` after its pause.
    pub(super) fn retry(&mut self, path: Path) {
        self.retrying.insert(path);
    }

    pub(super) fn stop_retrying(&mut self, path: &Path) {
        self.retrying.remove(path);
    }

    /// The steps that are retried.
    pub(super) fn retried(&self) -> impl Iterator<Item = (&Path, &StepEntry)> {
        self.retrying.iter().filter_map(|path| Some((path, self.entries.get(path)?)))
    }

    /// The times at which steps are retried.
    pub(super) fn next_tries_ms(&self) -> impl Iterator<Item = u64> {
        self.retried().filter_map(|(_, entry)| Some(entry.pause?.until_ms))
    }

    /// Takes the retried steps whose pause is over.
    pub(super) fn take_due(&mut self, now_ms: u64) -> Vec<Path> {
        let Self { entries, retrying, .. } = self;
        let is_due = |path: &Path| {
            let pause = entries.get(path).and_then(|entry| entry.pause);
            pause.is_none_or(|pause| pause.until_ms <= now_ms)
        };
        retrying.extract_if(.., is_due).collect()
    }

    /// Resets the tries of a step, which starts over or is done. Returns the trouble that it was in.
    pub(super) fn forget_tries(&mut self, path: &Path) -> Option<StepFailure> {
        self.retrying.remove(path);
        let entry = self.entries.get_mut(path)?;
        (entry.tries, entry.pause, entry.attempt) = (0, None, None);
        entry.trouble.take()
    }

    /// Notes that the step at `path` begins to be tried, at `unix_ms`, unless a try of the same is under way.
    pub(super) fn note_attempt(&mut self, path: &Path, task: Task, unix_ms: u64) {
        if let Some(entry) = self.entries.get_mut(path)
            && entry.attempt.as_ref().is_none_or(|attempt| attempt.task != task)
        {
            entry.attempt = Some(Attempt::new(task, unix_ms));
        }
    }

    pub(super) fn has_jobs(&self) -> bool {
        !self.jobs.is_empty()
    }

    /// Queues a call of a service, to run once the write `after` is durable.
    pub(super) fn push_job(&mut self, after: u64, job: Job) {
        self.jobs.push_back((after, job));
    }

    /// Takes the next call whose write is durable.
    pub(super) fn take_job(&mut self, is_synced: impl Fn(u64) -> bool) -> Option<(u64, Job)> {
        self.jobs.pop_front_if(|(after, _)| is_synced(*after))
    }

    /// Drops all calls that have not started.
    pub(super) fn drop_jobs(&mut self) {
        self.jobs.clear();
    }

    /// The position of the next committed step.
    pub(super) fn next_order(&self) -> u32 {
        self.next_order
    }

    /// Takes the position of the next committed step, whose result is not known yet.
    pub(super) fn take_order(&mut self) -> u32 {
        let order = self.next_order;
        self.next_order += 1;
        order
    }

    /// Returns a recorded step in `scope` that the program has not reached (again), with a description.
    pub(super) fn unvisited(&self, scope: &Path) -> Option<(Path, String)> {
        let mut steps = self.of(scope);
        let (path, entry) = steps.find(|(_, entry)| entry.step.is_none() && !entry.compensated)?;
        Some((path.clone(), format!("step `{}`", entry.name)))
    }

    /// The next task for the steps in `scope`, which is aborted: first the steps in doubt, then the latest that can
    /// be compensated, and last those that cannot. Steps in turns that are final stay.
    pub(super) fn next_task(&self, scope: &Path, loops: &Loops, order: Compensation) -> Option<(Path, Task)> {
        let rank = |task| match task {
            Task::Commit | Task::FindOut | Task::Record => 2,
            Task::Compensate => 1,
            Task::Reconcile => 0,
        };
        let tasks = self.of(scope).filter(|(path, _)| !loops.is_final(path));
        let tasks = tasks.filter_map(|(path, entry)| Some((entry.task()?, entry.order, path)));
        // The greatest comes first.
        let rank_in_order = |number: u32, path| match order {
            Compensation::SideBySide => (None, number),
            Compensation::Backwards => (Some(path), number),
        };
        let next = tasks.max_by_key(|(task, number, path)| (rank(*task), rank_in_order(*number, *path)));
        next.map(|(task, _, path)| (path.clone(), task))
    }

    /// The latest step in `scope` that must still be compensated, or may turn out to need it.
    pub(super) fn latest_task(&self, scope: &Path, loops: &Loops) -> Option<Path> {
        let open = |(path, entry): &(&Path, &StepEntry)| {
            !loops.is_final(path) && matches!(entry.task(), Some(Task::Compensate | Task::FindOut))
        };
        self.of(scope).filter(open).last().map(|(path, _)| path.clone())
    }

    /// The number of steps that an abort leaves to be compensated, outside of the turns that are final.
    pub(super) fn compensations_left(&self, loops: &Loops) -> usize {
        let left = self.entries.iter().filter(|(_, entry)| entry.task() == Some(Task::Compensate));
        left.filter(|(path, _)| !loops.is_final(path)).count()
    }

    /// The steps that need an operator.
    pub(super) fn troubles(&self) -> Vec<(Path, StepFailure)> {
        let steps = self.entries.iter().filter_map(|(path, entry)| Some((path.clone(), entry.trouble.clone()?)));
        steps.collect()
    }

    #[cfg(feature = "testing")]
    pub(super) fn seen(&self) -> Vec<StepSeen> {
        let seen = self.entries.iter().filter_map(|(path, entry)| {
            let (kind, is_done) = (entry.kind()?, entry.result.is_some());
            let refusal = entry.result.clone().and_then(Result::err);
            let (path, name, is_compensated) = (path.clone(), entry.name.clone(), entry.compensated);
            Some(StepSeen { path, name, kind, is_done, refusal, is_compensated })
        });
        seen.collect()
    }

    /// Forgets the step at `path`, whose commit was not started.
    pub(super) fn remove(&mut self, path: &Path) -> Option<StepEntry> {
        self.set_running(path, false);
        self.entries.remove(path)
    }

    /// Forgets the steps in `scope`.
    pub(super) fn forget(&mut self, scope: &Path) {
        self.entries.retain(|path, _| !path.is_in(scope));
    }

    /// All records that may exist of the steps in `scope`.
    pub(super) fn records_in<'a>(&'a self, scope: &'a Path) -> impl Iterator<Item = Record> {
        self.of(scope).flat_map(|(path, entry)| entry.records(path))
    }

    pub(super) fn digest(&self, since: Since, hasher: &mut impl Hasher) {
        let Self { entries, next_order, running, retrying, jobs } = self;
        // Without their lengths, adjacent lists could be confused.
        (entries.len(), next_order, running, retrying, jobs.len()).hash(hasher);
        for (path, entry) in entries {
            path.hash(hasher);
            entry.digest(since, hasher);
        }
        for (after, Job { role: _, name: _, path, step: _, task }) in jobs {
            let task = match task {
                JobTask::Commit => None,
                JobTask::Compensate(output) => Some(Some(output)),
                JobTask::FindOut => Some(None),
            };
            // A job that waits for no write was started in an earlier life.
            (*after > 0, since.ahead(*after), path, task).hash(hasher);
        }
    }
}
