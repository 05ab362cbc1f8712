//! What the records of a session tell of the scopes of its program.
//!
//! A path does not say what kind of scope it is in. Votes and verdicts show a saga, checkpoints and the votes on turns
//! a loop; conclaves, inner choreographies and forks leave no trace and cannot be told apart. Next: `program`.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::abort::Abort;
use crate::base::id::{Path, RoleIndex};
use crate::base::message::{Payload, decode};
use crate::frame::Operation;
use crate::machine::{SagaPaths, TURN_VOTE, Verdict};
use crate::record::Record;

/// The names under which a role records its vote to abort a saga, and the saga's verdict if it decides it.
const VOTE: &str = "vote";
const DECISION: &str = "saga";
/// The name of the time limit of a receive, which is recorded within the receive's path.
const TIME_LIMIT: &str = "time limit";

/// What a role has recorded about the end of a saga within the session.
pub(super) enum SagaEnd {
    /// The role has voted to abort the saga at this path.
    Voted(Path, Abort),
    /// The role has decided how the saga at this path ends.
    Decided(Path, Option<Abort>),
}

/// Reads the observation `name` at `path` as one of how a saga ends. An effect of a program may have the same name, and
/// has another result or place.
pub(super) fn saga_end(path: &Path, name: &str, result: &Payload) -> Option<SagaEnd> {
    match name {
        DECISION => Some(SagaEnd::Decided(path.clone(), verdict(result)?.err())),
        VOTE => Some(SagaEnd::Voted(saga_voted_at(path)?, verdict(result)?.err()?)),
        _ => None,
    }
}

/// The outcome that a vote or a verdict carries.
fn verdict(payload: &Payload) -> Option<Verdict> {
    decode(payload.as_slice()).ok()
}

/// The saga whose votes have this path.
pub(super) fn saga_voted_at(path: &Path) -> Option<Path> {
    let saga = path.scopes().next()?;
    (path.counter_in(&saga) == SagaPaths::of(saga.clone()).vote.counter_in(&saga)).then_some(saga)
}

/// The saga whose verdict has this path.
fn saga_decided_at(path: &Path) -> Option<Path> {
    let saga = path.scopes().next()?;
    (path.counter_in(&saga) == SagaPaths::of(saga.clone()).verdict.counter_in(&saga)).then_some(saga)
}

/// See the module's documentation.
#[derive(Default)]
pub(super) struct Scopes {
    /// The counters of the sagas within the session.
    sagas: BTreeSet<Vec<u32>>,
    /// The counters of the loops with checkpoints.
    loops: BTreeSet<Vec<u32>>,
    /// The sagas that each role knows to be aborted, by the paths of their bodies.
    aborted: BTreeMap<RoleIndex, BTreeMap<Path, Path>>,
    /// The counters of the bodies of all aborted sagas.
    aborted_bodies: BTreeSet<Vec<u32>>,
    /// The counters of the receives with a time limit.
    limited: BTreeSet<Vec<u32>>,
}

impl Scopes {
    pub(super) fn of<'a>(records: impl Iterator<Item = (RoleIndex, &'a Record)>) -> Self {
        let mut scopes = Self::default();
        for (role, record) in records {
            scopes.note(role, record);
        }
        scopes
    }

    fn note(&mut self, role: RoleIndex, record: &Record) {
        match record {
            Record::Checkpoint { path, .. } => {
                self.loops.insert(path.counters().to_vec());
            }
            Record::Received { path, operation: Operation::Vote, payload, .. } => match saga_voted_at(path) {
                Some(saga) => self.note_saga(role, &saga, matches!(verdict(payload), Some(Err(_)))),
                None => self.note_turn(path),
            },
            Record::Received { path, operation: Operation::Verdict, payload, .. } => {
                if let Some(saga) = saga_decided_at(path) {
                    self.note_saga(role, &saga, matches!(verdict(payload), Some(Err(_))));
                }
            }
            Record::Observed { path, name, result } => match saga_end(path, name, result) {
                Some(SagaEnd::Voted(saga, _)) => self.note_saga(role, &saga, true),
                Some(SagaEnd::Decided(saga, abort)) => self.note_saga(role, &saga, abort.is_some()),
                None if name == TIME_LIMIT => {
                    self.limited.extend(path.counters().split_last().map(|(_, receive)| receive.to_vec()));
                }
                None => {}
            },
            _ => {}
        }
    }

    fn note_saga(&mut self, role: RoleIndex, saga: &Path, is_aborted: bool) {
        self.sagas.insert(saga.counters().to_vec());
        if is_aborted {
            let SagaPaths { saga, body, .. } = SagaPaths::of(saga.clone());
            self.aborted_bodies.insert(body.counters().to_vec());
            self.aborted.entry(role).or_default().insert(body, saga);
        }
    }

    /// Notes the loop of a turn whose votes have this path.
    fn note_turn(&mut self, path: &Path) {
        if let [of_loop @ .., _, TURN_VOTE] = path.counters() {
            self.loops.insert(of_loop.to_vec());
        }
    }

    pub(super) fn is_saga(&self, scope: &[u32]) -> bool {
        self.sagas.contains(scope)
    }

    /// Whether everything in the scope comes before what the program does after it: a saga, a loop, or a turn of one.
    /// Any other scope may be a fork, beside which the program goes on.
    pub(super) fn is_sequential(&self, scope: &[u32]) -> bool {
        let is_turn = || scope.split_last().is_some_and(|(_, of_loop)| self.loops.contains(of_loop));
        self.is_saga(scope) || self.loops.contains(scope) || is_turn()
    }

    /// Whether a part of the program may have ended in this scope without the messages that it waited for: in the body
    /// of an aborted saga.
    pub(super) fn is_aborted_body(&self, scope: &[u32]) -> bool {
        self.aborted_bodies.contains(scope)
    }

    /// Whether the program may go on without the message at this path: a vote on a saga that another one has decided
    /// already, or a message that may come too late.
    pub(super) fn may_go_on_without(&self, path: &Path) -> bool {
        let is_vote = || saga_voted_at(path).is_some_and(|saga| self.is_saga(saga.counters()));
        self.limited.contains(path.counters()) || is_vote()
    }

    /// The innermost saga around `path` that `role` knows to be aborted.
    pub(super) fn aborted_around(&self, role: RoleIndex, path: &Path) -> Option<&Path> {
        // Of the scopes around a path, the innermost is the last in the order of paths.
        let aborted = self.aborted.get(&role)?.iter().rev();
        aborted.into_iter().find(|(body, _)| path.is_in(body)).map(|(_, saga)| saga)
    }
}
