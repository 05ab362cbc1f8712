//! Peers that an operator has barred from new sessions of this node, without forgetting them. Stored on disk, by
//! name.

use std::collections::BTreeSet;

use accompanist_core::NodeId;
use accompanist_core::contract::{Batch, Change, Space, Store, StoreError};

use super::known::KnownNodes;
use super::peer::node_of_key;
use super::{PEERS_MAX, Peers};

/// The prefix of the keys of cordoned nodes in [`Space::Meta`].
const CORDON_KEY: &[u8] = b"cordon/";

impl KnownNodes {
    /// Returns the change to store when a peer is cordoned or uncordoned.
    pub(super) fn cordon_change(node: &NodeId, cordoned: bool) -> Change {
        let key = [CORDON_KEY, node.as_str().as_bytes()].concat();
        Change { space: Space::Meta, key, value: cordoned.then(Vec::new) }
    }
}

impl Peers {
    /// Returns what is to be stored; `None` for an unknown node.
    pub(crate) fn cordon(&self, node: &NodeId, cordoned: bool) -> Option<Batch> {
        self.knows(node).then(|| Batch::from([KnownNodes::cordon_change(node, cordoned)]))
    }

    /// Notes that the change is on disk.
    pub(crate) fn note_cordon(&self, node: &NodeId, cordoned: bool) {
        let is_news = {
            let mut known = self.lock();
            if cordoned { known.cordoned.insert(node.clone()) } else { known.cordoned.remove(node) }
        };
        if is_news {
            tracing::info!(
                peer = %node, cordoned,
                "an operator has said whether a peer takes new sessions of this node"
            );
        }
        self.changed.notify_waiters();
    }
}

pub(super) fn restore_cordoned(store: &dyn Store) -> Result<BTreeSet<NodeId>, StoreError> {
    let stored = store.scan(Space::Meta, CORDON_KEY, None, PEERS_MAX)?.into_iter();
    Ok(stored.filter_map(|(key, _)| node_of_key(CORDON_KEY, &key)).collect())
}
