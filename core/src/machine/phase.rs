//! Where this role's part stands: how far its program has come, and how far the session has ended here.
//!
//! Both are enums, so that what cannot be together cannot be written: a session that is aborted and has ended as
//! finished, a close without an end. This module knows neither records nor messages. Next: `ending`, which decides
//! when a phase is over.

use std::hash::{Hash, Hasher};

use super::apply::Refusal;
use super::digest::Since;
use crate::base::abort::Abort;
use crate::frame::Outcome;
use crate::record::Closed;

/// How far the program has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Program {
    /// The replay has not yet reached everything that is recorded.
    Replaying,
    /// The program goes where it has not been before.
    Running,
    /// The program has returned, or was dropped because nothing it waits for comes any more.
    Over,
    /// There is no program: an operator has ended this part without it.
    Terminated,
}

impl Program {
    pub(super) fn is_over(self) -> bool {
        matches!(self, Self::Over | Self::Terminated)
    }

    /// Notes that the program has returned or was dropped. Its replay ends with it.
    pub(super) fn end(&mut self) {
        if *self != Self::Terminated {
            *self = Self::Over;
        }
    }
}

/// How this role's part has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct End {
    pub(super) outcome: Outcome,
    /// The write that makes the end durable.
    pub(super) after: u64,
}

/// How far the session has ended at this role. An abort leads from the first phase, or from an end as finished, to the
/// second, and from there to an end as compensated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Phase {
    /// The program runs, or something that it sent is not acknowledged.
    Running,
    /// The session is aborted, and something remains to be compensated or acknowledged.
    Compensating {
        abort: Abort,
        /// Whether this role decided the abort.
        own: bool,
    },
    /// This role's part has ended; others may not have.
    Ended(End),
    /// All roles have ended alike. The initiator has recorded that, and sends nothing except the close from now on.
    Closing(End),
    /// All roles have ended alike, as this role was told. It closes in its next turn.
    CloseDue(End),
    /// The tombstone is being written and the journal removed, by the write `written`.
    Closed {
        end: End,
        written: u64,
        /// The tombstone, until the driver has taken it.
        tombstone: Option<Closed>,
    },
}

impl Phase {
    /// The abort of the session, if it is aborted.
    pub(super) fn abort(&self) -> Option<&Abort> {
        match (self, self.outcome()) {
            (Self::Compensating { abort, .. }, _) | (_, Some(Outcome::Compensated(abort))) => Some(abort),
            _ => None,
        }
    }

    pub(super) fn is_aborted(&self) -> bool {
        self.abort().is_some()
    }

    pub(super) fn end(&self) -> Option<&End> {
        match self {
            Self::Running | Self::Compensating { .. } => None,
            Self::Ended(end) | Self::Closing(end) | Self::CloseDue(end) | Self::Closed { end, .. } => Some(end),
        }
    }

    pub(super) fn outcome(&self) -> Option<&Outcome> {
        self.end().map(|end| &end.outcome)
    }

    pub(super) fn has_ended(&self) -> bool {
        self.end().is_some()
    }

    /// Whether an abort still counts.
    pub(super) fn may_abort(&self) -> bool {
        matches!(self, Self::Running | Self::Ended(End { outcome: Outcome::Finished, .. }))
    }

    /// Whether all roles are known to have ended alike, so that nothing can change the outcome any more.
    pub(super) fn is_settled(&self) -> bool {
        matches!(self, Self::Closing(_)) || self.closes()
    }

    /// Whether the part closes or has closed, and therefore does nothing else.
    pub(super) fn closes(&self) -> bool {
        matches!(self, Self::CloseDue(_) | Self::Closed { .. })
    }

    /// Notes the abort of the session. Returns whether that is new.
    pub(super) fn note_abort(&mut self, abort: &Abort, own: bool) -> Result<bool, Refusal> {
        match self.abort() {
            Some(known) if known == abort => Ok(false),
            Some(_) => Err("the session is aborted for another reason"),
            None if self.may_abort() => {
                *self = Self::Compensating { abort: abort.clone(), own };
                Ok(true)
            }
            None => Err("all roles have finished, and the session closes"),
        }
    }

    /// Notes an end. On an aborted session, an end as finished is one before the abort, and changes nothing. Returns
    /// whether something has changed.
    pub(super) fn note_end(&mut self, outcome: Outcome, after: u64, initiates: bool) -> Result<bool, Refusal> {
        match (&*self, &outcome) {
            (Self::Compensating { own: true, .. }, Outcome::Finished) if !initiates => {
                Err("of the roles that have finished, only the initiator may decide to abort")
            }
            (Self::Compensating { .. }, Outcome::Finished) => Ok(false),
            (Self::Compensating { abort, .. }, Outcome::Compensated(reason)) if abort != reason => {
                Err("the session is aborted for another reason")
            }
            (Self::Running, Outcome::Compensated(_)) => Err("the session is not aborted"),
            (Self::Running | Self::Compensating { .. }, _) => {
                *self = Self::Ended(End { outcome, after });
                Ok(true)
            }
            _ if self.outcome() == Some(&outcome) => Ok(false),
            _ => Err("the part has ended with another outcome"),
        }
    }

    /// Notes that all roles have ended alike, at the role that says so to the others.
    pub(super) fn note_closing(&mut self) -> Result<(), Refusal> {
        match self {
            Self::Ended(end) => *self = Self::Closing(end.clone()),
            Self::Closing(_) => {}
            _ => return Err("the part has not ended, or is closed"),
        }
        Ok(())
    }

    /// Notes that all roles have ended alike, as another role says.
    pub(super) fn note_close_due(&mut self) {
        if let Self::Ended(end) = self {
            *self = Self::CloseDue(end.clone());
        }
    }

    pub(super) fn note_closed(&mut self, written: u64, tombstone: Closed) {
        if let Some(end) = self.end().cloned() {
            *self = Self::Closed { end, written, tombstone: Some(tombstone) };
        }
    }

    /// Takes the tombstone once it is durable.
    pub(super) fn take_tombstone(&mut self, is_synced: impl Fn(u64) -> bool) -> Option<Closed> {
        match self {
            Self::Closed { written, tombstone, .. } if is_synced(*written) => tombstone.take(),
            _ => None,
        }
    }

    pub(super) fn digest(&self, since: Since, hasher: &mut impl Hasher) {
        std::mem::discriminant(self).hash(hasher);
        self.end().map(|End { outcome, after }| (outcome, since.ahead(*after))).hash(hasher);
        match self {
            Self::Running | Self::Ended(_) | Self::Closing(_) | Self::CloseDue(_) => {}
            // Whose abort it is only matters to recovery, which knows it from the record.
            Self::Compensating { abort, own: _ } => abort.hash(hasher),
            Self::Closed { end: _, written, tombstone } => (since.ahead(*written), tombstone).hash(hasher),
        }
    }
}
