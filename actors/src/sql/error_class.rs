//! Trouble with a database: whether it passes by itself, what to do otherwise, and how long to wait.
//!
//! Trouble is never a decision of a step. This module knows no database's codes; see `postgres.rs` and `sqlite.rs`.

use std::time::Duration;

use sqlx::Error;

use super::database::Markers;

/// The pause after the first trouble: a deadlock or a conflict is over at once.
const PAUSE_MIN: Duration = Duration::from_millis(10);
/// The longest pause: a database that has recovered is used soon, and one that is down is not contacted constantly.
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// The kind of trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorClass {
    /// Passes by itself: a lost connection, a conflict, a server that is starting.
    Passing,
    /// Passes by itself: another transaction holds a lock for longer than a try waits.
    Locked,
    /// A constraint is violated.
    Constraint,
    /// A statement, a table or a permission is wrong.
    Database,
    /// The effect continued after an error.
    Swallowed,
    /// The effect, or the types of its step, are wrong.
    Effect,
    /// The pool is closed.
    Closed,
}

impl ErrorClass {
    /// Classifies an error.
    pub fn of<DB: Markers>(error: &Error) -> Self {
        match error {
            Error::Database(database) => database.code().map_or(Self::Passing, |code| DB::trouble(&code)),
            Error::Io(_) | Error::Tls(_) | Error::PoolTimedOut | Error::WorkerCrashed | Error::BeginFailed => {
                Self::Passing
            }
            Error::PoolClosed => Self::Closed,
            _ => Self::Effect,
        }
    }

    /// Whether the trouble passes by itself.
    pub fn passes(self) -> bool {
        matches!(self, Self::Passing | Self::Locked)
    }

    /// Returns what to do about the trouble, for a commit or for a compensation, which cannot refuse.
    pub fn advice(self, compensates: bool) -> &'static str {
        match self {
            Self::Passing => "nothing to do if the database comes back by itself",
            Self::Locked => {
                "nothing to do if whoever holds the lock lets it go: look for a transaction that is left open"
            }
            Self::Constraint if compensates => {
                "it never succeeds while the constraint is violated: correct the effect of the compensation, or the \
                 rows in its way"
            }
            Self::Constraint => {
                "it never succeeds if the violated constraint means a refusal: return an `Abort` for it"
            }
            Self::Database => "correct the statement, or the tables and permissions in the database",
            Self::Swallowed => {
                "correct the effect: after an error it must return, or go back to a savepoint of its own"
            }
            Self::Effect => "correct the effect, or the type of its step's output, and start the node again",
            Self::Closed => "start the node again with an open pool",
        }
    }
}

/// The pauses between tries. They are the same for all trouble: trouble that does not pass by itself is logged at
/// each try.
#[derive(Debug)]
pub(super) struct Pauses(Duration);

impl Pauses {
    pub(super) fn new() -> Self {
        Self(PAUSE_MIN)
    }

    /// Returns the next pause.
    pub(super) fn next(&mut self) -> Duration {
        let pause = self.0;
        self.0 = (pause * 2).min(PAUSE_MAX);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_a_bound() {
        let mut pauses = Pauses::new();
        assert_eq!([pauses.next(), pauses.next()], [PAUSE_MIN, PAUSE_MIN * 2]);
        assert_eq!((0..20).map(|_| pauses.next()).max(), Some(PAUSE_MAX));
    }
}
