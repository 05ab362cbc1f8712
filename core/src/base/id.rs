//! Identities of nodes, sessions, role instances and operations. Every identity is valid by construction.
//!
//! This module does not know messages or storage. Next: [`crate::frame`].

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use smallvec::SmallVec;
use uuid::Uuid;

use crate::base::error_text::debug_as_text;

/// The maximum length of a [`NodeId`] in bytes.
pub const NODE_ID_BYTES_MAX: usize = 64;

/// The name of a node: one process with one store, playing one or more roles.
///
/// The name is part of wire addresses and of stored casts, so it must stay the same over restarts.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(Arc<str>);

/// The error for an invalid node name.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no node name: use 1 to {NODE_ID_BYTES_MAX} of the characters a-z, 0-9, `-`, `_` and `.`, the first one a \
     letter or a digit"
)]
pub struct InvalidNodeId(String);

debug_as_text!(InvalidNodeId);

/// Whether `name` is a valid name of a node, or of a system of nodes; see [`NodeId::new`].
pub fn is_name(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    name.len() <= NODE_ID_BYTES_MAX
        && name.bytes().next().is_some_and(is_plain)
        && name.bytes().all(|byte| is_plain(byte) || b"-_.".contains(&byte))
}

impl NodeId {
    /// Checks `name` and turns it into a node's identity.
    ///
    /// # Errors
    /// [`InvalidNodeId`] if the name is empty or too long, contains other characters than lower-case letters, digits,
    /// `-`, `_` and `.`, or does not begin with a letter or a digit. The rules exist because names are parts of keys,
    /// paths and command lines.
    pub fn new(name: impl AsRef<str>) -> Result<Self, InvalidNodeId> {
        let name = name.as_ref();
        if is_name(name) {
            Ok(Self(name.into()))
        } else {
            Err(InvalidNodeId(name.chars().take(NODE_ID_BYTES_MAX).collect()))
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for NodeId {
    type Error = InvalidNodeId;
    fn try_from(name: String) -> Result<Self, InvalidNodeId> {
        Self::new(name)
    }
}

impl From<NodeId> for String {
    fn from(id: NodeId) -> Self {
        id.0.as_ref().to_owned()
    }
}

impl Serialize for NodeId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// Deserializes without an intermediate `String`, because every header contains several node ids.
impl<'de> Deserialize<'de> for NodeId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Name;
        impl Visitor<'_> for Name {
            type Value = NodeId;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a node name")
            }
            fn visit_str<E: Error>(self, name: &str) -> Result<NodeId, E> {
                NodeId::new(name).map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Name)
    }
}

impl FromStr for NodeId {
    type Err = InvalidNodeId;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::new(name)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The identity of one run of a choreography, the same at every role.
///
/// A UUID: version 7 for a fresh start, version 5 for a start under a caller's idempotency key.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SessionId(Uuid);

/// The namespace of the version-5 ids that are derived from idempotency keys.
const KEYED_SESSIONS: Uuid = Uuid::from_u128(0x6163_636f_6d70_616e_6973_7400_7361_6761);

impl SessionId {
    /// Creates a fresh id from a time (milliseconds since the Unix epoch) and 128 random bits.
    pub fn fresh(unix_ms: u64, random: u128) -> Self {
        let bytes = random.to_be_bytes();
        let mut tail = [0; 10];
        tail.copy_from_slice(&bytes[..10]);
        Self(uuid::Builder::from_unix_timestamp_millis(unix_ms, &tail).into_uuid())
    }

    /// Returns the id that stands for `key` among the starts of `choreography`; the initiator looks up the key's
    /// session by it. The session itself has a separate id, so that the key can be used again once its session is
    /// forgotten.
    pub fn keyed(choreography: &str, key: &str) -> Self {
        // The length prefix prevents two different pairs from having the same name.
        let name = format!("{}:{choreography}:{key}", choreography.len());
        Self(Uuid::new_v5(&KEYED_SESSIONS, name.as_bytes()))
    }

    /// Returns the id of a session that is started under the key that `self` stands for. The random bits distinguish
    /// it from earlier sessions under that key.
    #[must_use]
    pub fn under_key(self, random: u128) -> Self {
        Self(Uuid::new_v5(&self.0, &random.to_be_bytes()))
    }

    /// Whether the session was started under a key.
    pub fn has_key(self) -> bool {
        self.0.get_version_num() == 5
    }

    /// The sixteen bytes of the id, in the order that a store's keys use.
    pub fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    /// Creates the id from its sixteen bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }
}

impl FromStr for SessionId {
    type Err = uuid::Error;

    /// Reads an id as [`Display`](fmt::Display) writes it.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The index of a role in a session, from 0: the single roles in the order of the tuple, then the members of the
/// family.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RoleIndex(pub u8);

/// The identity of a role instance: one role's part of one session.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct InstanceId {
    /// The session.
    pub session: SessionId,
    /// The role.
    pub role: RoleIndex,
}

impl InstanceId {
    /// The length of [`InstanceId::to_bytes`].
    pub const BYTES: usize = 17;

    /// The key of this instance in a store: the session, then the role.
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..16].copy_from_slice(self.session.as_bytes());
        bytes[16] = self.role.0;
        bytes
    }

    /// Decodes the result of [`InstanceId::to_bytes`]. Returns `None` for another length.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (role, session) = bytes.split_last()?;
        Some(Self { session: SessionId::from_bytes(session.try_into().ok()?), role: RoleIndex(*role) })
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.session, self.role.0)
    }
}

impl fmt::Debug for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The position of an operation in its choreography: the counters of the scopes around it, then its own counter in
/// its scope.
///
/// Every role counts the same operations, so a path is the same at every role and on every replay. A path with
/// session, sender and receiver is the deduplication id of a message; a path with the session is the idempotency key
/// of a step.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, Default)]
#[serde(try_from = "SmallVec<[u32; 4]>")]
pub struct Path(SmallVec<[u32; 4]>);

/// Rejects paths from outside that are deeper than a program can make them, so that every path fits into a store's
/// keys.
impl TryFrom<SmallVec<[u32; 4]>> for Path {
    type Error = &'static str;

    fn try_from(counters: SmallVec<[u32; 4]>) -> Result<Self, Self::Error> {
        let limit = Self::DEPTH_MAX + Self::DEPTH_WITHIN;
        if counters.len() > limit { Err("a path is too deep") } else { Ok(Self(counters)) }
    }
}

impl Path {
    /// The maximum depth of a path: the scopes around an operation, plus the operation. With this limit, the key of
    /// an operation's record fits into a store.
    pub const DEPTH_MAX: usize = 16_000;
    /// The maximum depth that the runtime's own operations add, such as the vote of a loop.
    pub(crate) const DEPTH_WITHIN: usize = 16;

    /// The number of scopes around this operation, plus one for the operation.
    pub fn depth(&self) -> usize {
        self.0.len()
    }

    /// The path of the outermost scope.
    pub fn root() -> Self {
        Self::default()
    }

    /// The path of operation `counter` in the scope with this path.
    #[must_use]
    pub fn child(&self, counter: u32) -> Self {
        let mut path = self.0.clone();
        path.push(counter);
        Self(path)
    }

    /// Whether this path is `scope` or an operation in it.
    pub fn is_in(&self, scope: &Self) -> bool {
        self.0.starts_with(&scope.0)
    }

    /// The counter of this operation in `scope`, or of the inner scope that it belongs to.
    pub fn counter_in(&self, scope: &Self) -> Option<u32> {
        self.is_in(scope).then(|| self.0.get(scope.0.len()).copied()).flatten()
    }

    /// The scopes around this operation, from the innermost to the outermost (the session).
    pub fn scopes(&self) -> impl Iterator<Item = Self> + '_ {
        (0..self.0.len()).rev().filter_map(|depth| self.0.get(..depth).map(|scope| Self(scope.into())))
    }

    /// The counters, from the outermost scope to the operation.
    pub(crate) fn counters(&self) -> &[u32] {
        &self.0
    }

    /// Encodes the path so that the order of the bytes is the order of the paths: a scope's operations are adjacent,
    /// and each turn of a loop comes before the next.
    pub fn to_key(&self) -> Vec<u8> {
        self.0.iter().flat_map(|counter| counter.to_be_bytes()).collect()
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (depth, counter) in self.0.iter().enumerate() {
            if depth > 0 {
                f.write_str(".")?;
            }
            write!(f, "{counter}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The key by which a service deduplicates a saga step: the same on every try of a step, and different for every
/// other step.
///
/// The text form `<session>/<path>` is stable over releases.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct IdempotencyKey {
    /// The session the step belongs to.
    pub session: SessionId,
    /// The step's place in the choreography.
    pub path: Path,
}

impl fmt::Display for IdempotencyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.session, self.path)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn node_names_are_checked() {
        for good in ["edge-1.site_2", "a", "7", "0..1", &"x".repeat(64)] {
            assert!(NodeId::new(good).is_ok(), "{good:?}");
        }
        for bad in ["", "a/b", "a b", "**", &"x".repeat(65), ".", "..", "-x", "_x", ".x", "X", "aX", "\u{e4}", "a\n"] {
            assert!(NodeId::new(bad).is_err(), "{bad:?} must be refused");
        }
    }

    #[test]
    fn keys_name_sessions_without_collisions() {
        assert_eq!(SessionId::keyed("a", "b"), SessionId::keyed("a", "b"));
        assert_ne!(SessionId::keyed("a:b", "c"), SessionId::keyed("a", "b:c"));
    }

    #[test]
    fn keyed_sessions_differ_and_are_distinguishable_from_fresh_ones() {
        let key = SessionId::keyed("a", "b");
        assert_eq!(key.under_key(1), key.under_key(1));
        assert_ne!(key.under_key(1), key.under_key(2));
        assert!(key.under_key(1).has_key() && !SessionId::fresh(7, 9).has_key());
    }

    #[test]
    fn a_path_from_outside_is_no_deeper_than_a_program_can_make_one() {
        let path = |depth: usize| Path(SmallVec::from_elem(7, depth));
        let most = Path::DEPTH_MAX + Path::DEPTH_WITHIN;
        for (depth, fits) in [(0, true), (3, true), (most, true), (most + 1, false), (100_000, false)] {
            let bytes = crate::base::message::pack(&path(depth)).unwrap();
            assert_eq!(crate::base::message::unpack::<Path>(&bytes).is_ok(), fits, "{depth}");
        }
    }

    #[test]
    fn instance_ids_round_trip() {
        let id = InstanceId { session: SessionId::fresh(7, 9), role: RoleIndex(3) };
        assert_eq!(InstanceId::from_bytes(&id.to_bytes()), Some(id));
        assert_eq!(InstanceId::from_bytes(b"short"), None);
    }
}
