//! An inspection as one sentence, for people. Knows the data alone.

use std::fmt::{Display, Formatter, Result};

use super::data::{InspectedStep, InspectedWait, Inspection, SessionRole, SessionTrouble, StepState, WaitKind};
use crate::machine::Status;
use crate::record::Task;

/// The maximum number of reasons in the sentence. The others are counted.
const REASONS_MAX: usize = 8;

impl Display for SessionRole {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "role `{}`", self.name)?;
        self.node.as_ref().map_or(Ok(()), |node| write!(f, " at node `{node}`"))
    }
}

impl Display for SessionTrouble {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "{}: {}", self.role, self.trouble)
    }
}

impl Display for InspectedStep {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let Self { step, task, state, tries, last_error, .. } = self;
        let of = if *task == Task::Compensate { "the compensation of step" } else { "step" };
        write!(f, "{of} `{step}` ")?;
        match state {
            StepState::Running => f.write_str("runs")?,
            StepState::Retrying => f.write_str("is tried again")?,
            StepState::NeedsOperator => f.write_str("needs an operator")?,
        }
        match last_error {
            None => Ok(()),
            Some(error) if *tries < 2 => write!(f, ": {error}"),
            Some(error) => write!(f, ", after {tries} failures, the last one: {error}"),
        }
    }
}

impl Display for InspectedWait {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let Self { path, text, on, .. } = self;
        write!(f, "waits for {text}")?;
        if let Some(node) = on.as_ref().and_then(|role| role.node.as_ref()) {
            write!(f, " at node `{node}`")?;
        }
        if self.kind == WaitKind::Other { Ok(()) } else { write!(f, " (operation {path})") }
    }
}

impl Inspection {
    /// How far the part is, in a few words.
    fn standing(&self) -> String {
        let aborted = || self.abort.as_ref().map(|abort| format!(" ({abort})")).unwrap_or_default();
        match self.status {
            Status::Running => "running".into(),
            Status::Finished if self.role == self.initiator => "closing".into(),
            Status::Finished => "finished".into(),
            Status::Compensating => format!("compensating{}", aborted()),
            Status::Compensated => format!("compensated{}", aborted()),
            Status::Closed => "closed".into(),
            Status::NeedsOperator => format!("in trouble{}", aborted()),
            Status::Quarantined => "quarantined".into(),
        }
    }

    /// What keeps the part from continuing, the most serious first.
    fn reasons(&self) -> Vec<String> {
        let trouble_of = |role: &SessionRole| self.troubles.iter().find(|trouble| trouble.role.index == role.index);
        let is_awaited = |role: &SessionRole| self.awaited_ends.iter().any(|awaited| awaited.index == role.index);
        let mut reasons: Vec<String> = self.steps.iter().map(ToString::to_string).collect();
        reasons.extend(self.awaited_ends.iter().map(|role| match trouble_of(role) {
            Some(trouble) => format!("waits for {trouble}"),
            None => format!("waits for {role}"),
        }));
        // Without its end being awaited, a role in trouble is what the others wait for.
        let others = self.troubles.iter().filter(|trouble| !is_awaited(&trouble.role));
        reasons.extend(others.map(|trouble| format!("waits for {trouble}")));
        // A step that is waited for is listed as a step.
        reasons.extend(self.waits.iter().filter(|wait| wait.kind != WaitKind::StepEnd).map(ToString::to_string));
        if reasons.is_empty() {
            let frames = self.unacknowledged.iter().map(|open| match open.frames {
                1 => format!("waits for {} to acknowledge a frame", open.role),
                frames => format!("waits for {} to acknowledge {frames} frames", open.role),
            });
            reasons.extend(frames);
        }
        reasons
    }
}

impl Display for Inspection {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        if let Some(reason) = &self.stopped {
            return write!(f, "stopped: {reason}");
        }
        f.write_str(&self.standing())?;
        let reasons = self.reasons();
        for reason in reasons.iter().take(REASONS_MAX) {
            write!(f, ", {reason}")?;
        }
        match reasons.len().saturating_sub(REASONS_MAX) {
            0 => Ok(()),
            more => write!(f, ", and {more} more"),
        }
    }
}
