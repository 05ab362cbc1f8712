//! What is known of one node: its last advertisement, as it is kept in memory and on disk.
//!
//! Knows no other node. Next: `known.rs`.

use std::collections::{BTreeMap, BTreeSet};

use accompanist_core::NodeId;
use accompanist_core::contract::{Change, Space};
use accompanist_core::frame::{Advertisement, Membership};
use accompanist_core::record::value_bytes;
use serde::{Deserialize, Serialize};

/// The prefix of the nodes' keys in [`Space::Meta`].
pub(super) const NODE_KEY: &[u8] = b"node/";

/// The advertisement of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Peer {
    pub(super) membership: Membership,
    /// Counts the changes of `draining`.
    pub(super) change: u64,
    pub(super) draining: bool,
    /// Whether the node has this one on disk, and so waits for it when it drains. Only such nodes are cast.
    pub(super) mutual: bool,
    pub(super) roles: BTreeSet<String>,
    /// Patches, by name and version.
    pub(super) choreographies: BTreeMap<(String, u32), BTreeSet<String>>,
    /// Whether the node has ever acknowledged a frame of a session: a node that has not, and is not received, may be
    /// forged.
    pub(super) partner: bool,
}

impl Peer {
    /// Returns the change that stores what is known of `node`.
    pub(super) fn stored(&self, node: &NodeId) -> Option<Change> {
        Some(Change { space: Space::Meta, key: key(node), value: Some(value_bytes(self).ok()?) })
    }
}

impl From<Advertisement> for Peer {
    fn from(advertisement: Advertisement) -> Self {
        let Advertisement { membership, change, draining, roles, choreographies, .. } = advertisement;
        let choreographies = choreographies
            .into_iter()
            .map(|offered| ((offered.choreography, offered.version), offered.patches.into_iter().collect()))
            .collect();
        let roles = roles.into_iter().collect();
        Self { membership, change, draining, mutual: false, roles, choreographies, partner: false }
    }
}

/// Returns the key of what is stored of a node.
pub(super) fn key(node: &NodeId) -> Vec<u8> {
    [NODE_KEY, node.as_str().as_bytes()].concat()
}

/// Returns the node whose name follows `prefix` in a stored key, if there is one.
pub(super) fn node_of_key(prefix: &[u8], key: &[u8]) -> Option<NodeId> {
    let name = String::from_utf8_lossy(key.strip_prefix(prefix)?).into_owned();
    NodeId::new(name).ok()
}
