//! The steps of an instance: the progress of each, and what remains to be done for it.
//!
//! This module does not know how a job is run or a record written. Next: `compensation`, which decides what to do.

use super::{Machine, Pause};
use crate::base::abort::Abort;
use crate::base::id::Path;
use crate::base::message::{Fingerprint, Payload};
use crate::record::{Record, StepFailure, Task};
use crate::step::{AnyStep, Kind, StepPlace};

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
    pub(super) running: bool,
    /// The number of consecutive failures, and the pause before the next try.
    pub(super) tries: u32,
    pub(super) pause: Option<Pause>,
    /// Whether the commit was started in an earlier life, and no try since then has shown whether it took effect.
    pub(super) in_doubt: bool,
    pub(super) trouble: Option<StepFailure>,
}

impl StepEntry {
    pub(super) fn new(name: &str, input: Fingerprint) -> Self {
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
        }
    }

    /// The task that an abort leaves for this step.
    fn task(&self) -> Option<Task> {
        let kind = self.step.as_ref().map(|step| step.kind);
        match (&self.result, kind) {
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
        self.in_doubt && self.step.as_ref().is_some_and(|step| step.kind != Kind::Pivot)
    }

    /// All records that may exist of this step.
    pub(super) fn records(&self, path: &Path) -> Vec<Record> {
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
}

/// A step as shown to test tools.
#[cfg(feature = "testing")]
pub(crate) struct StepSeen {
    pub(crate) path: Path,
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) is_done: bool,
}

#[cfg(feature = "testing")]
impl Machine {
    pub(crate) fn steps_seen(&self) -> Vec<StepSeen> {
        let seen = self.steps.iter().filter_map(|(path, entry)| {
            let (kind, is_done) = (entry.step.as_ref()?.kind, entry.result.is_some());
            Some(StepSeen { path: path.clone(), name: entry.name.clone(), kind, is_done })
        });
        seen.collect()
    }

    pub(crate) fn has_observed(&self) -> bool {
        !self.observed.is_empty()
    }
}

impl Machine {
    pub(super) fn steps_in<'a>(&'a self, scope: &'a Path) -> impl Iterator<Item = (&'a Path, &'a StepEntry)> {
        // The paths of a scope are adjacent in the order of paths.
        self.steps.range(scope.clone()..).take_while(|(path, _)| path.is_in(scope))
    }

    /// Whether a step in `scope` is running.
    pub(super) fn is_running(&self, scope: &Path) -> bool {
        self.running > 0 && self.steps_in(scope).any(|(_, entry)| entry.running)
    }

    pub(super) fn set_running(&mut self, path: &Path, running: bool) {
        if let Some(entry) = self.steps.get_mut(path)
            && entry.running != running
        {
            entry.running = running;
            self.running = if running { self.running + 1 } else { self.running.saturating_sub(1) };
        }
    }

    /// Returns a recorded step in `scope` that the program has not reached (again), with a description.
    pub(super) fn unvisited_step(&self, scope: &Path) -> Option<(Path, String)> {
        let mut steps = self.steps_in(scope);
        let (path, entry) = steps.find(|(_, entry)| entry.step.is_none() && !entry.compensated)?;
        Some((path.clone(), format!("step `{}`", entry.name)))
    }

    /// The next task for the steps in `scope`, which is aborted: first the steps in doubt, then the latest that can
    /// be compensated, and last those that cannot.
    pub(super) fn next_task(&self, scope: &Path) -> Option<(Path, Task)> {
        let rank = |task| match task {
            Task::Commit | Task::FindOut | Task::Record => 2,
            Task::Compensate => 1,
            Task::Reconcile => 0,
        };
        let tasks = self.steps_in(scope).filter(|(path, _)| !self.is_final(path));
        let tasks = tasks.filter_map(|(path, entry)| Some((entry.task()?, entry.order, path)));
        let next = tasks.max_by_key(|(task, order, path)| (rank(*task), self.rank_in_order(*order, path)));
        next.map(|(task, _, path)| (path.clone(), task))
    }

    /// The latest step in `scope` that must still be compensated, or may turn out to need it.
    pub(super) fn latest_task(&self, scope: &Path) -> Option<Path> {
        let open = |(path, entry): &(&Path, &StepEntry)| {
            !self.is_final(path) && matches!(entry.task(), Some(Task::Compensate | Task::FindOut))
        };
        self.steps_in(scope).filter(open).last().map(|(path, _)| path.clone())
    }

    /// The steps that need an operator.
    pub fn troubles(&self) -> Vec<(Path, StepFailure)> {
        let steps = self.steps.iter().filter_map(|(path, entry)| Some((path.clone(), entry.trouble.clone()?)));
        steps.collect()
    }
}
