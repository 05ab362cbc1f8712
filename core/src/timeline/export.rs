//! A session as one value: what each of its roles has on disk, as far as the sites have answered.
//!
//! This module orders nothing. Next: `draft`, which makes events of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::base::error_text::debug_as_text;
use crate::base::id::{NodeId, Path, RoleIndex, SessionId};
use crate::base::message::{CodecError, Payload, pack, unpack};
use crate::frame::Outcome;
use crate::machine::Status;
use crate::record::{Closed, Opened, Record};

/// The first byte of an encoded export.
const EXPORT_VERSION: u8 = 1;

/// All parts of one session. It is JSON with serde, and a file with [`SessionExport::to_bytes`].
///
/// [`Timeline::of`](super::Timeline::of) makes a picture of it, [`SessionExport::histories`] what
/// [`testing::replay`](crate::testing::replay) replays.
///
/// ```
/// use accompanist_core::timeline::{SessionExport, SessionPart};
/// use accompanist_core::{NodeId, SessionId, id::RoleIndex};
///
/// let mut export = SessionExport::new(SessionId::fresh(0, 0));
/// export.attributes.insert("customer".into(), "c-17".into());
/// // Of a node that answers: `SessionPart::known(.., KnownPart::new(opened, records, status))`.
/// export.parts.push(SessionPart::away(RoleIndex(0), "shop", NodeId::new("shop-1")?, "no answer for 5 s"));
///
/// let file = export.to_bytes()?;
/// assert_eq!(SessionExport::from_bytes(&file)?, export);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SessionExport {
    /// The session.
    pub session: SessionId,
    /// The search attributes that the session was started with, as its initiator has them.
    pub attributes: BTreeMap<String, String>,
    /// The roles' parts. Their order does not matter; of several for one role, the first counts.
    pub parts: Vec<SessionPart>,
}

/// One role's part of a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SessionPart {
    /// The role.
    pub role: RoleIndex,
    /// The name of the role for people: `seller`, or `worker/3` for a member of a family.
    pub name: String,
    /// The node that plays the role.
    pub node: NodeId,
    /// What is known of the part.
    pub knowledge: Knowledge,
}

/// What is known of a role's part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Knowledge {
    /// The site has answered.
    Known(Box<KnownPart>),
    /// The site has answered that it does not have the session: it has not learned of it, or has forgotten it.
    Unknown,
    /// The site has not answered.
    Away {
        /// The reason, for people: `no answer for 5 s`.
        reason: String,
    },
}

/// What a site has of a role's part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct KnownPart {
    /// The record of the beginning.
    pub opened: Opened,
    /// The records since then. Their order does not matter.
    pub records: Vec<Record>,
    /// The status.
    pub status: Status,
    /// How the part has ended, of a part whose tombstone is left.
    pub outcome: Option<Outcome>,
    /// The output, at the initiator of a session whose tombstone is left.
    pub output: Option<Payload>,
    /// Why the instance is stopped, if it is.
    pub stopped: Option<String>,
    /// What the program waits for, by the path of the operation, if the site could tell.
    pub waits_for: Vec<(Path, String)>,
    /// The messages that were sent and not acknowledged, each with its receiver, if the site could tell.
    pub unacknowledged: Vec<(Path, RoleIndex)>,
}

impl SessionExport {
    /// Creates an export without attributes and parts.
    pub fn new(session: SessionId) -> Self {
        Self { session, attributes: BTreeMap::new(), parts: Vec::new() }
    }

    /// Encodes the export for a file.
    ///
    /// # Errors
    /// Never for an export of records that a node has written.
    pub fn to_bytes(&self) -> Result<Vec<u8>, CodecError> {
        pack(&(EXPORT_VERSION, self))
    }

    /// Decodes the result of [`SessionExport::to_bytes`].
    ///
    /// # Errors
    /// [`ExportError`] for anything else.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ExportError> {
        match bytes.split_first() {
            Some((&EXPORT_VERSION, rest)) => Ok(unpack(rest)?),
            Some((version, _)) => Err(ExportError::Version(*version)),
            None => Err(ExportError::Version(0)),
        }
    }
}

impl SessionPart {
    /// The part of a role whose site has answered.
    pub fn known(role: RoleIndex, name: impl Into<String>, node: NodeId, part: KnownPart) -> Self {
        Self { role, name: name.into(), node, knowledge: Knowledge::Known(Box::new(part)) }
    }

    /// The part of a role whose site does not have the session.
    pub fn unknown(role: RoleIndex, name: impl Into<String>, node: NodeId) -> Self {
        Self { role, name: name.into(), node, knowledge: Knowledge::Unknown }
    }

    /// The part of a role whose site has not answered, for a reason that is shown to people.
    pub fn away(role: RoleIndex, name: impl Into<String>, node: NodeId, reason: impl Into<String>) -> Self {
        Self { role, name: name.into(), node, knowledge: Knowledge::Away { reason: reason.into() } }
    }

    /// What the site has, if it has answered and has the session.
    pub fn as_known(&self) -> Option<&KnownPart> {
        match &self.knowledge {
            Knowledge::Known(part) => Some(part),
            Knowledge::Unknown | Knowledge::Away { .. } => None,
        }
    }
}

impl KnownPart {
    /// The part of an instance that is open, or whose journal is still kept.
    pub fn new(opened: Opened, records: Vec<Record>, status: Status) -> Self {
        Self {
            opened,
            records,
            status,
            outcome: None,
            output: None,
            stopped: None,
            waits_for: Vec::new(),
            unacknowledged: Vec::new(),
        }
    }

    /// The part of a closed instance of which only the tombstone is left.
    pub fn closed(closed: Closed) -> Self {
        let Closed { header, outcome, output } = closed;
        let part = Self::new(Opened { header, input: None }, Vec::new(), Status::Closed);
        Self { outcome: Some(outcome), output, ..part }
    }
}

/// The reason why bytes are not read as an exported session.
#[derive(Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// The bytes are an export of a version that this release cannot read.
    #[error(
        "an exported session of version {0} cannot be read: export it with this release, or read it with a later one"
    )]
    Version(u8),
    /// The bytes are no export.
    #[error(transparent)]
    Codec(#[from] CodecError),
}

debug_as_text!(ExportError);
