//! The steps of an instance: how far each got, and what is still to be done about it.
//!
//! Knows nothing of how a job is run or a record written. Next: `compensation`, which decides what is done.

use super::{Instance, Pause};
use crate::abort::Abort;
use crate::choreography::{AnyStep, Kind, StepPlace};
use crate::id::Path;
use crate::message::{Fingerprint, Payload};
use crate::record::{Record, Task, Trouble};

/// A step as far as it got.
pub(super) struct StepEntry {
    pub(super) name: String,
    pub(super) input: Fingerprint,
    pub(super) result: Option<Result<Payload, Abort>>,
    /// Its place among the committed steps of this instance.
    pub(super) order: u32,
    pub(super) compensated: bool,
    /// The typed step: there once the program (or its replay) has come by.
    pub(super) step: Option<AnyStep>,
    /// A job or write of it is queued or under way.
    pub(super) running: bool,
    /// How often in a row it failed, and when it may be tried again.
    pub(super) tries: u32,
    pub(super) pause: Option<Pause>,
    /// Its commit was begun in an earlier life, and no try since has told what became of that.
    pub(super) in_doubt: bool,
    pub(super) trouble: Option<Trouble>,
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

    /// What an abort leaves to be done about it.
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

    /// Whether committing it once more, under its key, tells what became of a commit in an earlier life. What cannot be taken
    /// back is asked about instead.
    pub(super) fn is_told_by_commit(&self) -> bool {
        self.in_doubt && self.step.as_ref().is_some_and(|step| step.kind != Kind::Pivot)
    }

    /// What may be recorded of it.
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

/// A step, for those who look at a program from outside.
#[cfg(feature = "testing")]
pub(crate) struct StepSeen {
    pub(crate) path: Path,
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) is_done: bool,
}

#[cfg(feature = "testing")]
impl Instance {
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

impl Instance {
    pub(super) fn steps_in<'a>(&'a self, scope: &'a Path) -> impl Iterator<Item = (&'a Path, &'a StepEntry)> {
        // Paths of one scope are neighbours, as their order is that of their counters.
        self.steps.range(scope.clone()..).take_while(|(path, _)| path.is_in(scope))
    }

    /// Whether a step in `scope` has something under way.
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

    /// A recorded step in `scope` that the program has not come by (again), and what is recorded of it.
    pub(super) fn unvisited_step(&self, scope: &Path) -> Option<(Path, String)> {
        let mut steps = self.steps_in(scope);
        let (path, entry) = steps.find(|(_, entry)| entry.step.is_none() && !entry.compensated)?;
        Some((path.clone(), format!("step `{}`", entry.name)))
    }

    /// The next thing to be done about the steps in `scope`, which is aborted: first those in doubt, then the latest
    /// that can be taken back, and in the end those that cannot.
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

    /// The latest step in `scope` that can still be taken back, or may turn out to be one.
    pub(super) fn latest_task(&self, scope: &Path) -> Option<Path> {
        let open = |(path, entry): &(&Path, &StepEntry)| {
            !self.is_final(path) && matches!(entry.task(), Some(Task::Compensate | Task::FindOut))
        };
        self.steps_in(scope).filter(open).last().map(|(path, _)| path.clone())
    }

    /// The steps that need an operator.
    pub fn troubles(&self) -> Vec<(Path, Trouble)> {
        let steps = self.steps.iter().filter_map(|(path, entry)| Some((path.clone(), entry.trouble.clone()?)));
        steps.collect()
    }
}
