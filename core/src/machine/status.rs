//! The status of a role's part of a session, in one word: derived, never recorded.

use serde::{Deserialize, Serialize};

use super::Machine;
use crate::frame::Outcome;
use crate::record::Record;

/// The status of a role's part of a session.
///
/// The order is `Running -> Finished -> Closed`, or `Running` or `Finished` `-> Compensating -> Compensated ->
/// Closed`. The other two statuses are interruptions, which end when an operator has acted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Status {
    /// The program runs or waits, or some of what it sent is unacknowledged.
    Running,
    /// The program has ended, and everything it sent is acknowledged. The part may still have to compensate.
    Finished,
    /// The session is aborted, and something remains to be compensated.
    Compensating,
    /// Everything is compensated.
    Compensated,
    /// The session has ended at all roles.
    Closed,
    /// A step is in trouble; see [`StepFailure`](crate::record::StepFailure).
    NeedsOperator,
    /// The instance has failed too often and is not run.
    Quarantined,
}

impl Status {
    /// Derives the status of an instance that is not closed from its records.
    pub fn of(records: &[Record]) -> Self {
        let has = |kind: fn(&Record) -> bool| records.iter().any(kind);
        if has(|record| matches!(record, Record::Quarantined { .. })) {
            return Self::Quarantined;
        }
        let troubled = has(|record| matches!(record, Record::Troubled { .. }));
        let aborted = has(|record| matches!(record, Record::Aborted { .. }));
        let ended = records.iter().find_map(|record| match record {
            Record::Ended { outcome, .. } => Some(outcome),
            _ => None,
        });
        Self::made_of(troubled, aborted, ended)
    }

    fn made_of(troubled: bool, aborted: bool, ended: Option<&Outcome>) -> Self {
        match ended {
            _ if troubled => Self::NeedsOperator,
            Some(Outcome::Compensated(_)) => Self::Compensated,
            // This includes a part that had finished before the abort.
            _ if aborted => Self::Compensating,
            Some(Outcome::Finished) => Self::Finished,
            None => Self::Running,
        }
    }
}

impl Machine {
    /// The current status, which also covers what is still being written.
    pub fn status(&self) -> Status {
        if self.phase.closes() {
            return Status::Closed;
        }
        let troubled = self.steps.iter().any(|(_, entry)| entry.trouble.is_some());
        Status::made_of(troubled, self.phase.is_aborted(), self.phase.outcome())
    }
}
