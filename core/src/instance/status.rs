//! Where a role's part of a session stands, as one word: derived, never recorded.

use super::Instance;
use crate::frame::Outcome;
use crate::record::Record;

/// Where a role's part of a session stands.
///
/// `Running -> Finished -> Closed`, or `Running` or `Finished` `-> Compensating -> Compensated -> Closed`; the other two
/// are stops on the way, which end when an operator has looked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Its program runs or waits, or what it said is not heard by all yet.
    Running,
    /// Its program has ended, and all it said is heard. It can still be told to compensate.
    Finished,
    /// The session is aborted, and there is something to be taken back yet.
    Compensating,
    /// All is taken back.
    Compensated,
    /// The session is over at all roles.
    Closed,
    /// A step is in trouble: see [`Trouble`](crate::record::Trouble).
    NeedsOperator,
    /// It has failed too often, and is not run.
    Quarantined,
}

impl Status {
    /// Where an instance that is not closed stands, as its records tell.
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
            // Also one that had finished before.
            _ if aborted => Self::Compensating,
            Some(Outcome::Finished) => Self::Finished,
            None => Self::Running,
        }
    }
}

impl Instance {
    /// Where it stands now: ahead of its records by what is being written.
    pub fn status(&self) -> Status {
        if self.close_after.is_some() {
            return Status::Closed;
        }
        let troubled = self.steps.values().any(|entry| entry.trouble.is_some());
        Status::made_of(troubled, self.abort.is_some(), self.ended.as_ref().map(|(_, outcome)| outcome))
    }
}
