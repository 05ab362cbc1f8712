//! Which nodes play which role, as far as they have said so; and who plays what in a new session.
//!
//! What a node once said is kept in the store, so that a start needs nobody to be up. Presence is no verdict:
//! a cast node that is away delays its sessions, no more.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use accompanist_core::contract::{Batch, Change, Space, Store, StoreError};
use accompanist_core::record::{read_value, value_bytes};
use accompanist_core::{NodeId, SessionId};
use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use uuid::Uuid;

/// Keys of the nodes in [`Space::Meta`] begin so.
const NODE_KEY: &[u8] = b"node/";

/// See the module's documentation.
pub(crate) struct Peers {
    roles: Mutex<BTreeMap<NodeId, BTreeSet<String>>>,
    /// Wakes in the order of asking (a watch channel does not, which would make a simulation run differently).
    changed: Notify,
}

impl Peers {
    pub(crate) fn new(own: NodeId, roles: impl IntoIterator<Item = String>) -> Self {
        let roles = BTreeMap::from([(own, roles.into_iter().collect())]);
        Self { roles: Mutex::new(roles), changed: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<NodeId, BTreeSet<String>>> {
        self.roles.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A node has said what it plays. Gives what has to be stored, if that is news.
    pub(crate) fn learn(&self, node: &NodeId, roles: Vec<String>) -> Option<Batch> {
        let roles: BTreeSet<String> = roles.into_iter().collect();
        let value = value_bytes(&roles).ok()?;
        {
            let mut known = self.lock();
            if known.get(node) == Some(&roles) {
                return None;
            }
            known.insert(node.clone(), roles);
        }
        self.changed.notify_waiters();
        let key = [NODE_KEY, node.as_str().as_bytes()].concat();
        Some(vec![Change { space: Space::Meta, key, value: Some(value) }])
    }

    /// Learns what was stored.
    pub(crate) fn restore(&self, store: &dyn Store) -> Result<(), StoreError> {
        for (key, value) in store.scan(Space::Meta, NODE_KEY, None, usize::MAX)? {
            let name = String::from_utf8_lossy(key.get(NODE_KEY.len()..).unwrap_or_default()).into_owned();
            let roles: BTreeSet<String> = read_value(Space::Meta, &value)?;
            if let Ok(node) = NodeId::new(name) {
                self.lock().entry(node).or_insert(roles);
            }
        }
        Ok(())
    }

    /// Ends when a node says something new after this call.
    pub(crate) fn change(&self) -> Notified<'_> {
        self.changed.notified()
    }

    /// Who plays what in `session`, by rendezvous hashing: each session's choice is its own, and stays mostly the
    /// same when nodes come and go. `own` plays `initiator`.
    pub(crate) fn cast(
        &self,
        session: SessionId,
        roles: &'static [&'static str],
        initiator: &str,
        own: &NodeId,
    ) -> Result<Vec<NodeId>, &'static str> {
        let known = self.lock();
        let cast = roles.iter().map(|role| {
            if *role == initiator {
                return Ok(own.clone());
            }
            let players = known.iter().filter(|(_, plays)| plays.contains(*role)).map(|(node, _)| node);
            players.max_by_key(|node| weight(session, role, node)).cloned().ok_or(*role)
        });
        cast.collect()
    }
}

fn weight(session: SessionId, role: &str, node: &NodeId) -> u128 {
    // Any stable hash does; this one is at hand.
    let name = format!("{role}/{node}");
    Uuid::new_v5(&Uuid::from_bytes(*session.as_bytes()), name.as_bytes()).as_u128()
}
