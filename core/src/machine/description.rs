//! Describes for people, in one sentence, what an instance waits for. This module changes nothing.

use super::Machine;
#[cfg(feature = "testing")]
use super::StepSeen;
use super::phase::Phase;
use crate::base::id::{Path, RoleIndex};

impl Machine {
    /// Describes what keeps the instance from continuing: the operations it waits in, with their paths, the steps
    /// that run or are retried, and the roles whose end it waits for.
    pub fn describe(&self) -> String {
        if let Some(stop) = &self.stopped {
            return format!("is stopped: {stop}");
        }
        if let Some((path, trouble)) = self.troubles().first() {
            return format!("needs an operator at {path}: {trouble}");
        }
        let mut parts = Vec::new();
        if let Phase::Compensating { abort, .. } = &self.phase {
            parts.push(format!("is aborted ({abort})"));
        }
        parts.extend(self.steps.iter().filter(|(_, entry)| entry.is_running()).map(|(path, entry)| {
            let call = if entry.result.is_none() { "step" } else { "the compensation of step" };
            format!("waits for {call} `{}` at {path}, which is under way", entry.name)
        }));
        parts.extend(self.steps.retried().map(|(path, entry)| format!("tries step `{}` at {path} again", entry.name)));
        if self.runs() {
            parts.extend(self.open_waits());
        }
        parts.extend(self.describe_awaited_ends());
        match parts.is_empty() {
            true if self.runs() => {
                "waits for nothing that is an operation (what else is awaited belongs into an `effect`)".into()
            }
            true => "waits for what it has sent to be acknowledged".into(),
            false => parts.join(", and "),
        }
    }

    /// The waits of the program. A running step is omitted, because it is already listed.
    fn open_waits(&self) -> Vec<String> {
        let running =
            |path: &Path| self.steps.get(path).is_some_and(|entry| entry.is_running() || entry.pause.is_some());
        let waits = self.waits_for().into_iter().filter(|(path, _)| !running(path));
        waits.map(|(path, what)| format!("waits for {what} at {path}")).collect()
    }

    /// The roles that the instance waits for after its own part has ended.
    pub(super) fn awaited_ends(&self) -> Vec<RoleIndex> {
        match self.phase.end() {
            _ if self.runs() || matches!(self.phase, Phase::Closed { .. }) => Vec::new(),
            Some(_) if !self.identity.initiates() => vec![self.identity.header.initiator],
            _ => self.awaited(),
        }
    }

    fn describe_awaited_ends(&self) -> Option<String> {
        let names: Vec<String> = self.awaited_ends().into_iter().map(|role| self.identity.name_of(role)).collect();
        let done = if self.phase.is_aborted() { "has compensated" } else { "has finished its part" };
        (!names.is_empty()).then(|| format!("{done}, and waits for the end of {}", names.join(", ")))
    }
}

#[cfg(feature = "testing")]
impl Machine {
    pub(crate) fn steps_seen(&self) -> Vec<StepSeen> {
        self.steps.seen()
    }

    pub(crate) fn has_observed(&self) -> bool {
        self.inputs.has_observed()
    }
}
