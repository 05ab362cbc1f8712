//! What a role instance writes down, as keys and values of a store.
//!
//! One key prefix per instance, so that one scan loads it. As with frames, variants are only appended.
//! Knows no store.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::abort::Abort;
use crate::contract::{Batch, Change, Space, StoreError};
use crate::frame::{Header, Outcome};
use crate::id::{InstanceId, Path, RoleIndex};
use crate::message::{CodecError, Payload, decode, encode};

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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
    },
    /// The commit of a step has ended.
    Committed {
        /// The step.
        path: Path,
        /// Its name, checked on replay.
        name: String,
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
    /// All roles have ended alike: from now on the initiator says nothing but `Close`, so that a role that has closed
    /// may forget the session (decision 0009).
    Closing,
}

impl Record {
    /// The record's key in [`Space::Journal`]: instance, tag, and what tells it from others of its kind.
    ///
    /// # Errors
    /// Never for records made of values of this crate.
    pub fn key(&self, instance: InstanceId) -> Result<Vec<u8>, CodecError> {
        let mut key = instance.to_bytes().to_vec();
        let (tag, rest) = match self {
            Self::Received { path, from, .. } => (b'm', encode(&(path, from))?),
            Self::Observed { path, .. } => (b'o', encode(path)?),
            Self::Intended { path, .. } => (b'i', encode(path)?),
            Self::Committed { path, .. } => (b'c', encode(path)?),
            Self::Compensated { path } => (b'u', encode(path)?),
            Self::Aborted { .. } => (b'a', Vec::new()),
            Self::Ended { .. } => (b'e', Vec::new()),
            Self::Closing => (b'z', Vec::new()),
        };
        key.push(tag);
        key.extend_from_slice(&rest);
        Ok(key)
    }

    /// The record as a change of the journal.
    ///
    /// # Errors
    /// As [`Record::key`].
    pub fn change(&self, instance: InstanceId) -> Result<Change, CodecError> {
        Ok(Change { space: Space::Journal, key: self.key(instance)?, value: Some(value_bytes(self)?) })
    }
}

/// The change that opens an instance.
///
/// # Errors
/// As [`Record::key`].
pub fn open(instance: InstanceId, opened: &Opened) -> Result<Change, CodecError> {
    Ok(Change { space: Space::Open, key: instance.to_bytes().to_vec(), value: Some(value_bytes(opened)?) })
}

/// The changes that close an instance: its tombstone, and the end of its journal, whose keys are given.
///
/// # Errors
/// As [`Record::key`].
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
    encode(&(RECORD_VERSION, value))
}

/// Reads [`value_bytes`].
///
/// # Errors
/// [`StoreError::Corrupt`] for anything else.
pub fn read_value<T: serde::de::DeserializeOwned>(space: Space, bytes: &[u8]) -> Result<T, StoreError> {
    let corrupt = |reason: String| StoreError::Corrupt { space, reason };
    match bytes.split_first() {
        Some((&RECORD_VERSION, rest)) => decode(rest).map_err(|error| corrupt(error.to_string())),
        Some((version, _)) => Err(corrupt(format!("it has record version {version}"))),
        None => Err(corrupt("it is empty".into())),
    }
}
