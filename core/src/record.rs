//! What a role instance writes down, as keys and values of a store.
//!
//! One key prefix per instance, so that one scan loads it. As with frames, variants are only appended.
//! Knows no store.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::abort::Abort;
use crate::contract::{Batch, Change, Space, StoreError};
use crate::frame::{Header, Operation, Outcome};
use crate::id::{InstanceId, Path, RoleIndex};
use crate::message::{CodecError, Fingerprint, Payload, pack, unpack};

/// The store format this release writes.
pub const STORE_FORMAT: u32 = 1;

/// The first byte of every value.
const RECORD_VERSION: u8 = 1;

/// An instance has begun: what it needs to run again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opened {
    /// The session's header.
    pub header: Arc<Header>,
    /// The input, at the initiator.
    pub input: Option<Payload>,
}

/// An instance has ended for good. What is kept of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Closed {
    /// The session's header.
    pub header: Arc<Header>,
    /// How it ended.
    pub outcome: Outcome,
    /// The output, at the initiator.
    pub output: Option<Payload>,
}

/// Something that has happened to an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Record {
    /// A message has arrived.
    Received {
        /// The operation it belongs to.
        path: Path,
        /// Who sent it.
        from: RoleIndex,
        /// The kind of operation, checked on replay.
        operation: Operation,
        /// The value.
        payload: Payload,
    },
    /// Something not deterministic gave this result.
    Observed {
        /// The operation.
        path: Path,
        /// Its name, checked on replay.
        name: String,
        /// What came out.
        result: Payload,
    },
    /// The commit of a step may have begun.
    Intended {
        /// The step.
        path: Path,
        /// Its name, checked on replay.
        name: String,
        /// Its input's fingerprint, checked on replay.
        input: Fingerprint,
    },
    /// The commit of a step has ended.
    Committed {
        /// The step.
        path: Path,
        /// Its name, checked on replay.
        name: String,
        /// Its input's fingerprint, checked on replay.
        input: Fingerprint,
        /// Its place among the committed steps of this instance: compensation goes backwards along it.
        order: u32,
        /// What came out, or the refusal.
        result: Result<Payload, Abort>,
    },
    /// A step has been taken back.
    Compensated {
        /// The step.
        path: Path,
    },
    /// The session is aborted.
    Aborted {
        /// Why.
        abort: Abort,
        /// Whether this role decided it, and so has to tell the others.
        own: bool,
    },
    /// This instance's part has ended, and all it had to say has been heard.
    Ended {
        /// How.
        outcome: Outcome,
        /// The output, at the initiator.
        output: Option<Payload>,
    },
    /// A loop has come to a turn, and all before it are over for all roles: recovery starts here.
    Checkpoint {
        /// The loop.
        path: Path,
        /// The turn that begins.
        turn: u32,
        /// The loop's state, as far as this role has it.
        state: Payload,
    },
    /// A step cannot be got through: an operator is needed.
    Troubled {
        /// The step.
        path: Path,
        /// Its input's fingerprint, checked on replay.
        input: Fingerprint,
        /// What is wrong with it.
        trouble: Trouble,
    },
    /// Something outside has told this role something.
    Signalled {
        /// Its place in the order of arrival.
        number: u64,
        /// The name it is waited for under.
        name: String,
        /// What tells it from others of its name.
        key: String,
        /// The value's fingerprint: another value under the same key is a mistake.
        fingerprint: Fingerprint,
        /// The value; nothing once the program has taken it.
        payload: Option<Payload>,
    },
    /// The instance has failed too often: it is not run until an operator says so.
    Quarantined {
        /// The last failure.
        reason: String,
        /// How often it failed.
        failures: u32,
    },
    /// All roles have ended alike: from now on the initiator says nothing but `Close`, so that a role that has closed
    /// may forget the session (decision 0009).
    Closing,
    /// The instance has left memory, knowing this.
    Rested(Rested),
    /// An operator has ended this role's part without its program: all that it had committed counts as taken back by
    /// hand, and the program is not run any more.
    Terminated,
}

/// What an instance knows of the others that is no event: lost, it is found out again, by saying all again.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Rested {
    /// The messages that their receivers have on their disks, with the fingerprints of their values.
    pub heard: Vec<(Path, RoleIndex, Fingerprint)>,
    /// The roles that have the session on their disks.
    pub acquainted: Vec<RoleIndex>,
    /// How other roles have ended, as they have told the initiator.
    pub done: Vec<(RoleIndex, Outcome)>,
    /// The own end that the initiator has heard of.
    pub told: Option<Outcome>,
}

/// Why a step needs an operator.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Trouble {
    /// The step's name.
    pub step: String,
    /// What cannot be done.
    pub task: Task,
    /// Why, as the last try has said.
    pub reason: String,
    /// How often it was tried.
    pub tries: u32,
    /// It was committed in an earlier life, and no try since has told what became of that.
    pub in_doubt: bool,
}

/// What has to be done about a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Task {
    /// To commit it, since it is [`Kind::Retriable`](crate::Kind::Retriable): the session only goes forward.
    Commit,
    /// To compensate it, since the session is aborted.
    Compensate,
    /// To find out whether its commit took effect before the abort, since it is a [`Kind::Pivot`](crate::Kind::Pivot).
    FindOut,
    /// To live with it: it is committed, cannot be compensated, and the session was aborted.
    Reconcile,
    /// To record what it gave: its commit has taken effect, and its output has no bytes.
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

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { step, task, reason, tries, in_doubt: _ } = self;
        if *task == Task::Record {
            return write!(f, "step `{step}` has taken effect, and its output cannot be recorded: {reason}");
        }
        write!(f, "step `{step}` has to {task}, which failed {tries} times, the last time with: {reason}")
    }
}

/// The parts of an instance's journal. The checkpoints are read first: they tell where to read on.
const CHECKPOINTS: u8 = 0;
const EVENTS: u8 = 1;

fn key(instance: InstanceId, part: u8, path: &Path, rest: &[u8]) -> Vec<u8> {
    [&instance.to_bytes()[..], &[part], &path.to_key(), rest].concat()
}

impl Record {
    /// The record's key in [`Space::Journal`]: instance, part, path, tag, and what tells it from others of its kind.
    pub fn key(&self, instance: InstanceId) -> Vec<u8> {
        let root = Path::root();
        // The path before the tag, so that one turn of a loop lies together.
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
            Self::Rested(_) => (&root, vec![b'r']),
            Self::Terminated => (&root, vec![b'x']),
            Self::Signalled { number, .. } => (&root, [b"s", &number.to_be_bytes()[..]].concat()),
        };
        key(instance, EVENTS, path, &rest)
    }

    /// Where the checkpoints of an instance are.
    pub fn checkpoints(instance: InstanceId) -> Vec<u8> {
        key(instance, CHECKPOINTS, &Path::root(), &[])
    }

    /// Where its other records end.
    pub fn events_end(instance: InstanceId) -> Vec<u8> {
        key(instance, EVENTS + 1, &Path::root(), &[])
    }

    /// Where its other records are, as far as they are of `scope`.
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

/// The change that removes what `record` is kept under.
pub fn remove(instance: InstanceId, record: &Record) -> Change {
    Change { space: Space::Journal, key: record.key(instance), value: None }
}

/// The change that opens an instance.
///
/// # Errors
/// As [`Record::change`].
pub fn open(instance: InstanceId, opened: &Opened) -> Result<Change, CodecError> {
    Ok(Change { space: Space::Open, key: instance.to_bytes().to_vec(), value: Some(value_bytes(opened)?) })
}

/// The changes that close an instance: its tombstone, and the end of its journal, whose keys are given.
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

/// Version byte and value, as all values of a store are written.
///
/// # Errors
/// When the type has no encoding.
pub fn value_bytes<T: Serialize>(value: &T) -> Result<Vec<u8>, CodecError> {
    pack(&(RECORD_VERSION, value))
}

/// Reads [`value_bytes`].
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
