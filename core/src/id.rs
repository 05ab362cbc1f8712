//! Identities: nodes, sessions, role instances, operation paths. Every one is valid once built.
//!
//! Knows nothing of messages or storage. Next: [`crate::frame`].

use std::fmt;
use std::sync::Arc;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use smallvec::SmallVec;
use uuid::Uuid;

/// The most bytes a [`NodeId`] has.
pub const NODE_ID_BYTES_MAX: usize = 64;

/// The name of a node: one process with one store, playing one or more roles.
///
/// It is part of wire addresses and of stored casts, so it must stay the same over restarts.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(Arc<str>);

/// A node name that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no node name: use 1 to {NODE_ID_BYTES_MAX} of the characters a-z, 0-9, `-`, `_` and `.`, the first one a \
     letter or a digit"
)]
pub struct InvalidNodeId(String);

/// Whether a node, or a system of nodes, may be called so: see [`NodeId::new`].
pub fn is_name(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    name.len() <= NODE_ID_BYTES_MAX
        && name.bytes().next().is_some_and(is_plain)
        && name.bytes().all(|byte| is_plain(byte) || b"-_.".contains(&byte))
}

impl NodeId {
    /// Checks `name` and makes it a node's identity.
    ///
    /// # Errors
    /// [`InvalidNodeId`] for an empty or long name, one with other characters than lower-case letters, digits, `-`, `_`,
    /// `.`, or one that does not begin with a letter or a digit: names are parts of keys, paths and command lines.
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

/// Without a `String` between: every header has several.
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

/// One run of a choreography, the same at every role.
///
/// A UUID: version 7 for a fresh start, version 5 for one under a caller's idempotency key.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SessionId(Uuid);

/// Namespace of the version-5 ids that idempotency keys become.
const KEYED_SESSIONS: Uuid = Uuid::from_u128(0x6163_636f_6d70_616e_6973_7400_7361_6761);

impl SessionId {
    /// A fresh id out of a time (milliseconds since the Unix epoch) and 128 random bits.
    pub fn fresh(unix_ms: u64, random: u128) -> Self {
        let bytes = random.to_be_bytes();
        let mut tail = [0; 10];
        tail.copy_from_slice(&bytes[..10]);
        Self(uuid::Builder::from_unix_timestamp_millis(unix_ms, &tail).into_uuid())
    }

    /// What `key` stands for among the starts of `choreography`: a name that its session is found by at the initiator.
    /// Sessions have ids of their own, so that the key can be used again once its session is forgotten.
    pub fn keyed(choreography: &str, key: &str) -> Self {
        // The separator cannot be mistaken for a part of either: lengths are part of the name.
        let name = format!("{}:{choreography}:{key}", choreography.len());
        Self(Uuid::new_v5(&KEYED_SESSIONS, name.as_bytes()))
    }

    /// A session that is started under the key which `self` is the name of. Chance tells it from earlier ones.
    #[must_use]
    pub fn under_key(self, random: u128) -> Self {
        Self(Uuid::new_v5(&self.0, &random.to_be_bytes()))
    }

    /// Whether it was started under a key.
    pub fn has_key(self) -> bool {
        self.0.get_version_num() == 5
    }

    /// The sixteen bytes of the id, in the order that keys of a store use.
    pub fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    /// The id of these sixteen bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
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

/// The place of a role in its choreography's tuple of roles, from 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RoleIndex(pub u8);

/// One role's part of one session.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct InstanceId {
    /// The session.
    pub session: SessionId,
    /// The role.
    pub role: RoleIndex,
}

impl InstanceId {
    /// Length of [`InstanceId::to_bytes`].
    pub const BYTES: usize = 17;

    /// The key of this instance in a store: session, then role.
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..16].copy_from_slice(self.session.as_bytes());
        bytes[16] = self.role.0;
        bytes
    }

    /// Reads what [`InstanceId::to_bytes`] wrote; `None` for another length.
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

/// Where an operation stands in its choreography: its counter in its scope, after those of the scopes around it.
///
/// Every role counts alike, so a path is the same at every role and on every replay. With session,
/// sender and receiver it is a message's deduplication id; with the session it is a step's idempotency key.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, Default)]
#[serde(try_from = "SmallVec<[u32; 4]>")]
pub struct Path(SmallVec<[u32; 4]>);

/// One from outside is no deeper than a program can make one, so that it fits into the keys of a store.
impl TryFrom<SmallVec<[u32; 4]>> for Path {
    type Error = &'static str;

    fn try_from(counters: SmallVec<[u32; 4]>) -> Result<Self, Self::Error> {
        let limit = Self::DEPTH_MAX + Self::DEPTH_WITHIN;
        if counters.len() > limit { Err("a path is too deep") } else { Ok(Self(counters)) }
    }
}

impl Path {
    /// The most scopes around an operation, and the operation: with them its record's key is one that a store holds.
    pub const DEPTH_MAX: usize = 16_000;
    /// What the runtime's own operations add at most, such as the vote of a loop.
    const DEPTH_WITHIN: usize = 16;

    /// How many scopes there are around this operation, and one more for itself.
    pub fn depth(&self) -> usize {
        self.0.len()
    }

    /// The outermost scope.
    pub fn root() -> Self {
        Self::default()
    }

    /// The operation `counter` in the scope that this path names.
    #[must_use]
    pub fn child(&self, counter: u32) -> Self {
        let mut path = self.0.clone();
        path.push(counter);
        Self(path)
    }

    /// Whether this is `scope` or an operation in it.
    pub fn is_in(&self, scope: &Self) -> bool {
        self.0.starts_with(&scope.0)
    }

    /// The counter of this operation in `scope`, or of the scope in it that it belongs to.
    pub fn counter_in(&self, scope: &Self) -> Option<u32> {
        self.is_in(scope).then(|| self.0.get(scope.0.len()).copied()).flatten()
    }

    /// The scopes around this operation, the innermost first, the outermost (the session) last.
    pub fn scopes(&self) -> impl Iterator<Item = Self> + '_ {
        (0..self.0.len()).rev().filter_map(|depth| self.0.get(..depth).map(|scope| Self(scope.into())))
    }

    /// Bytes in the order of paths: what is in a scope lies together, and one turn of a loop before the next.
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

/// What a service deduplicates a saga step by: the same on every try of the same step, and of no other.
///
/// Its text form is stable over releases: `<session>/<path>`.
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
    fn sessions_of_one_key_differ_and_can_be_told_from_fresh_ones() {
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
            let bytes = crate::message::pack(&path(depth)).unwrap();
            assert_eq!(crate::message::unpack::<Path>(&bytes).is_ok(), fits, "{depth}");
        }
        let record = crate::record::Record::Compensated { path: path(most) };
        let change = record.change(InstanceId { session: SessionId::fresh(7, 9), role: RoleIndex(3) }).unwrap();
        assert!(change.check().is_ok());
    }

    #[test]
    fn instance_ids_round_trip() {
        let id = InstanceId { session: SessionId::fresh(7, 9), role: RoleIndex(3) };
        assert_eq!(InstanceId::from_bytes(&id.to_bytes()), Some(id));
        assert_eq!(InstanceId::from_bytes(b"short"), None);
    }
}
