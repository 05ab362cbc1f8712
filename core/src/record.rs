//! The records that a role instance writes, as keys and values of a store.
//!
//! All keys of an instance have one prefix, so one scan loads the instance. As with frames, variants are only
//! appended. This module does not know the store itself.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::base::abort::Abort;
use crate::base::id::{InstanceId, Path, RoleIndex};
use crate::base::message::{CodecError, Fingerprint, Payload, pack, unpack};
use crate::contract::{Batch, Change, Space, StoreError};
use crate::frame::{Header, Operation, Outcome};

/// The store format this release writes.
pub const STORE_FORMAT: u32 = 1;

/// The first byte of every value.
const RECORD_VERSION: u8 = 1;

/// The record of an instance's beginning: all it needs in order to run again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opened {
    /// The session's header.
    pub header: Arc<Header>,
    /// The input, at the initiator.
    pub input: Option<Payload>,
}

/// The tombstone of a closed instance.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Closed {
    /// The session's header.
    pub header: Arc<Header>,
    /// How the instance ended.
    pub outcome: Outcome,
    /// The output, at the initiator.
    pub output: Option<Payload>,
}

/// An event in the life of an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Record {
    /// A message arrived.
    Received {
        /// The operation that the message belongs to.
        path: Path,
        /// The role that sent the message.
        from: RoleIndex,
        /// The kind of operation, checked on replay.
        operation: Operation,
        /// The value.
        payload: Payload,
    },
    /// Something non-deterministic returned this result.
    Observed {
        /// The operation.
        path: Path,
        /// The name of the effect, checked on replay.
        name: String,
        /// The result.
        result: Payload,
    },
    /// The commit of a step may have begun.
    Intended {
        /// The step.
        path: Path,
        /// The name of the step, checked on replay.
        name: String,
        /// The fingerprint of the step's input, checked on replay.
        input: Fingerprint,
    },
    /// The commit of a step has ended.
    Committed {
        /// The step.
        path: Path,
        /// The name of the step, checked on replay.
        name: String,
        /// The fingerprint of the step's input, checked on replay.
        input: Fingerprint,
        /// The position of the step among the committed steps of this instance. Compensation follows this order
        /// backwards.
        order: u32,
        /// The output, or the refusal.
        result: Result<Payload, Abort>,
    },
    /// A step has been compensated.
    Compensated {
        /// The step.
        path: Path,
    },
    /// The session is aborted.
    Aborted {
        /// The reason.
        abort: Abort,
        /// Whether this role decided the abort and therefore must send it to the others.
        own: bool,
    },
    /// This instance's part has ended, and everything it had to send has been acknowledged.
    Ended {
        /// How the part ended.
        outcome: Outcome,
        /// The output, at the initiator.
        output: Option<Payload>,
    },
    /// A loop has reached a turn, and all earlier turns have ended for all roles. Recovery starts here.
    Checkpoint {
        /// The loop.
        path: Path,
        /// The turn that begins.
        turn: u32,
        /// This role's part of the loop's state.
        state: Payload,
    },
    /// A step cannot be completed without an operator.
    Troubled {
        /// The step.
        path: Path,
        /// The fingerprint of the step's input, checked on replay.
        input: Fingerprint,
        /// The trouble with the step.
        trouble: StepFailure,
    },
    /// A signal arrived from outside.
    Signalled {
        /// The position of the signal in the order of arrival.
        number: u64,
        /// The name under which the program waits for the signal.
        name: String,
        /// The key that distinguishes the signal from others of its name.
        key: String,
        /// The fingerprint of the value. Another value under the same key is a mistake.
        fingerprint: Fingerprint,
        /// The value; `None` once the program has taken it.
        payload: Option<Payload>,
    },
    /// The instance has failed too often and is not run until an operator releases it.
    Quarantined {
        /// The last failure.
        reason: String,
        /// The number of failures.
        failures: u32,
    },
    /// All roles have ended with the same outcome. From now on the initiator sends nothing except `Close`, so that a
    /// role that has closed may forget the session (decision 0009).
    Closing,
    /// The instance was passivated with this knowledge.
    Passivated(PassivatedState),
    /// An operator has ended this role's part without its program: all steps it had committed count as compensated by
    /// hand, and the program is not run any more.
    Terminated,
}

/// Knowledge of an instance about the other roles that is no event. If it is lost, the instance regains it by sending
/// everything again.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct PassivatedState {
    /// The messages that their receivers have on disk, with the fingerprints of their values.
    pub acknowledged: Vec<(Path, RoleIndex, Fingerprint)>,
    /// The roles that have the session on disk.
    pub acquainted: Vec<RoleIndex>,
    /// The outcomes that other roles have reported to the initiator.
    pub done: Vec<(RoleIndex, Outcome)>,
    /// The own outcome that the initiator has acknowledged.
    pub announced: Option<Outcome>,
    /// Since when operations wait, and steps are in trouble, in milliseconds since 1970: for people.
    pub since: Vec<(Path, u64)>,
}

/// Why a step needs an operator.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct StepFailure {
    /// The step's name.
    pub step: String,
    /// The task that cannot be completed.
    pub task: Task,
    /// The reason, from the last try.
    pub reason: String,
    /// The number of tries.
    pub tries: u32,
    /// Whether a commit was running at an earlier crash, and no try since then has shown whether it took effect.
    pub in_doubt: bool,
}

/// The task that remains to be done for a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Task {
    /// Commit the step, because it is [`Kind::Retriable`](crate::Kind::Retriable): the session only goes forward.
    Commit,
    /// Compensate the step, because the session is aborted.
    Compensate,
    /// Find out whether the commit took effect before the abort, because the step is a
    /// [`Kind::Pivot`](crate::Kind::Pivot).
    FindOut,
    /// Reconcile the outside world by hand: the step is committed and cannot be compensated, although the session was
    /// aborted.
    Reconcile,
    /// Record the output: the commit took effect, but its output cannot be encoded.
    Record,
}

impl std::fmt::Display for Task {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Commit => "be committed",
            Self::Compensate => "be compensated",
            Self::FindOut => "be found out about",
            Self::Reconcile => "be reconciled with the abort",
            Self::Record => "have its output recorded",
        })
    }
}

impl std::fmt::Display for StepFailure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { step, task, reason, tries, in_doubt: _ } = self;
        if *task == Task::Record {
            return write!(f, "step `{step}` has taken effect, and its output cannot be recorded: {reason}");
        }
        write!(f, "step `{step}` has to {task}, which failed {tries} times, the last time with: {reason}")
    }
}

/// The parts of an instance's journal. The checkpoints are read first, because they tell where to continue reading.
const CHECKPOINTS: u8 = 0;
const EVENTS: u8 = 1;

fn key(instance: InstanceId, part: u8, path: &Path, rest: &[u8]) -> Vec<u8> {
    [&instance.to_bytes()[..], &[part], &path.to_key(), rest].concat()
}

impl Record {
    /// The record's key in [`Space::Journal`]: the instance, the part, the path, a tag, and whatever distinguishes
    /// the record from others of its kind.
    pub fn key(&self, instance: InstanceId) -> Vec<u8> {
        let root = Path::root();
        // The path comes before the tag, so that the records of one turn of a loop are adjacent.
        let (path, rest) = match self {
            Self::Checkpoint { path, .. } => return key(instance, CHECKPOINTS, path, &[]),
            Self::Received { path, from, .. } => (path, vec![b'm', from.0]),
            Self::Observed { path, .. } => (path, vec![b'o']),
            Self::Intended { path, .. } => (path, vec![b'i']),
            Self::Committed { path, .. } => (path, vec![b'c']),
            Self::Compensated { path } => (path, vec![b'u']),
            Self::Troubled { path, .. } => (path, vec![b't']),
            Self::Aborted { .. } => (&root, vec![b'a']),
            Self::Ended { .. } => (&root, vec![b'e']),
            Self::Quarantined { .. } => (&root, vec![b'q']),
            Self::Closing => (&root, vec![b'z']),
            Self::Passivated(_) => (&root, vec![b'r']),
            Self::Terminated => (&root, vec![b'x']),
            Self::Signalled { number, .. } => (&root, [b"s", &number.to_be_bytes()[..]].concat()),
        };
        key(instance, EVENTS, path, &rest)
    }

    /// The prefix of an instance's checkpoints.
    pub fn checkpoints(instance: InstanceId) -> Vec<u8> {
        key(instance, CHECKPOINTS, &Path::root(), &[])
    }

    /// The end of the key range of an instance's other records.
    pub fn events_end(instance: InstanceId) -> Vec<u8> {
        key(instance, EVENTS + 1, &Path::root(), &[])
    }

    /// The prefix of an instance's other records in `scope`.
    pub fn events_in(instance: InstanceId, scope: &Path) -> Vec<u8> {
        key(instance, EVENTS, scope, &[])
    }

    /// The record as a change of the journal.
    ///
    /// # Errors
    /// Never for records made of values of this crate.
    pub fn change(&self, instance: InstanceId) -> Result<Change, CodecError> {
        Ok(Change { space: Space::Journal, key: self.key(instance), value: Some(value_bytes(self)?) })
    }
}

/// Returns the change that removes `record`.
pub fn remove(instance: InstanceId, record: &Record) -> Change {
    Change { space: Space::Journal, key: record.key(instance), value: None }
}

/// Returns the change that opens an instance.
///
/// # Errors
/// As [`Record::change`].
pub fn open(instance: InstanceId, opened: &Opened) -> Result<Change, CodecError> {
    Ok(Change { space: Space::Open, key: instance.to_bytes().to_vec(), value: Some(value_bytes(opened)?) })
}

/// Returns the changes that close an instance: they write its tombstone and remove its journal, whose keys are given.
///
/// # Errors
/// As [`Record::change`].
pub fn close(instance: InstanceId, closed: &Closed, journal: Vec<Vec<u8>>) -> Result<Batch, CodecError> {
    let key = instance.to_bytes().to_vec();
    let mut batch = vec![
        Change { space: Space::Closed, key: key.clone(), value: Some(value_bytes(closed)?) },
        Change { space: Space::Open, key, value: None },
    ];
    batch.extend(journal.into_iter().map(|key| Change { space: Space::Journal, key, value: None }));
    Ok(batch)
}

/// Encodes a value with a version byte, as all values of a store are written.
///
/// # Errors
/// When the type has no encoding.
pub fn value_bytes<T: Serialize>(value: &T) -> Result<Vec<u8>, CodecError> {
    pack(&(RECORD_VERSION, value))
}

/// Decodes the result of [`value_bytes`].
///
/// # Errors
/// [`StoreError::Corrupt`] for anything else.
pub fn read_value<T: serde::de::DeserializeOwned>(space: Space, bytes: &[u8]) -> Result<T, StoreError> {
    let corrupt = |reason: String| StoreError::Corrupt { space, reason };
    match bytes.split_first() {
        Some((&RECORD_VERSION, rest)) => unpack(rest).map_err(|error| corrupt(error.to_string())),
        Some((version, _)) => Err(corrupt(format!("it has record version {version}"))),
        None => Err(corrupt("it is empty".into())),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::base::id::SessionId;

    #[test]
    fn the_record_of_the_deepest_path_fits_into_a_store() {
        let deepest = (0..Path::DEPTH_MAX + Path::DEPTH_WITHIN).fold(Path::root(), |path, _| path.child(u32::MAX));
        let id = InstanceId { session: SessionId::fresh(7, 9), role: RoleIndex(3) };
        let change = Record::Compensated { path: deepest }.change(id).unwrap();
        assert!(change.check().is_ok());
    }
}
