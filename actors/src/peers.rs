//! Which nodes play which role and have which choreographies, as far as they have said so; and who plays what in a new
//! session.
//!
//! What a node once said is kept in the store, so that a start needs nobody to be up. Presence is no verdict:
//! a cast node that is away delays its sessions, no more.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use accompanist_core::contract::{Batch, Change, Space, Store, StoreError};
use accompanist_core::frame::Offer;
use accompanist_core::part::AnyChoreography;
use accompanist_core::record::{read_value, value_bytes};
use accompanist_core::{NodeId, SessionId};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio::time::Instant;
use uuid::Uuid;

use crate::error::Gap;
use crate::shared::note_dropped;

/// Keys of the nodes in [`Space::Meta`] begin so.
const NODE_KEY: &[u8] = b"node/";
/// The most nodes that are kept in mind. What others offer beyond is dropped: no system has as many, but a stranger may
/// say that it has.
const PEERS_MAX: usize = 1_024;

/// What a node has said that it offers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Peer {
    roles: BTreeSet<String>,
    /// Patches, by name and version.
    choreographies: BTreeMap<(String, u32), BTreeSet<String>>,
}

impl From<Offer> for Peer {
    fn from(offer: Offer) -> Self {
        let offered = offer.choreographies.into_iter();
        Self {
            roles: offer.roles.into_iter().collect(),
            choreographies: offered
                .map(|offered| ((offered.choreography, offered.version), offered.patches.into_iter().collect()))
                .collect(),
        }
    }
}

impl Peer {
    fn patches(&self, choreography: &dyn AnyChoreography) -> Option<&BTreeSet<String>> {
        self.choreographies.get(&(choreography.name().to_owned(), choreography.version()))
    }

    fn versions(&self, name: &str) -> Vec<u32> {
        self.choreographies.keys().filter(|(known, _)| known == name).map(|(_, version)| *version).collect()
    }
}

/// What a start can do as far as is known.
pub(crate) struct Choice {
    /// The index of the version it takes, and its cast.
    pub(crate) cast: Option<(usize, Cast)>,
    /// What the higher versions lack.
    pub(crate) gaps: Vec<Gap>,
    /// Until when it is worth waiting for nodes that may fill a gap, and so far have spoken in an earlier life of the own
    /// node only.
    pub(crate) hear_until: Option<Instant>,
}

/// Who plays what in a session, and with which patches.
pub(crate) struct Cast {
    pub(crate) nodes: Vec<NodeId>,
    pub(crate) patches: Vec<String>,
}

struct Known {
    peers: BTreeMap<NodeId, Peer>,
    /// Those that have said so in this life of the own node; of others it is known what they said in an earlier one.
    heard: BTreeSet<NodeId>,
}

/// See the module's documentation.
pub(crate) struct Peers {
    known: Mutex<Known>,
    /// Until then, nodes that are up and have not been heard may still be.
    hearing_until: Instant,
    /// Wakes in the order of asking (a watch channel does not, which would make a simulation run differently).
    changed: Notify,
}

impl Peers {
    /// Within `hearing`, every node that is up says what it offers.
    pub(crate) fn new(own: NodeId, offer: Offer, hearing: Duration) -> Self {
        let known = Known { peers: BTreeMap::from([(own.clone(), offer.into())]), heard: BTreeSet::from([own]) };
        Self { known: Mutex::new(known), hearing_until: Instant::now() + hearing, changed: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A node has said what it offers. Gives what has to be stored, if that is news.
    pub(crate) fn learn(&self, node: &NodeId, offer: Offer) -> Option<Batch> {
        let peer = Peer::from(offer);
        let value = value_bytes(&peer).ok()?;
        let is_news = {
            let mut known = self.lock();
            if known.peers.len() >= PEERS_MAX && !known.peers.contains_key(node) {
                note_dropped("too many nodes", node.as_str());
                return None;
            }
            let is_new = known.heard.insert(node.clone());
            let is_news = known.peers.get(node) != Some(&peer);
            if !is_new && !is_news {
                return None;
            }
            known.peers.insert(node.clone(), peer);
            is_news
        };
        self.changed.notify_waiters();
        if !is_news {
            return None;
        }
        let key = [NODE_KEY, node.as_str().as_bytes()].concat();
        Some(vec![Change { space: Space::Meta, key, value: Some(value) }])
    }

    /// Learns what was stored.
    pub(crate) fn restore(&self, store: &dyn Store) -> Result<(), StoreError> {
        for (key, value) in store.scan(Space::Meta, NODE_KEY, None, PEERS_MAX)? {
            let name = String::from_utf8_lossy(key.get(NODE_KEY.len()..).unwrap_or_default()).into_owned();
            let peer: Peer = read_value(Space::Meta, &value)?;
            if let Ok(node) = NodeId::new(name) {
                self.lock().peers.entry(node).or_insert(peer);
            }
        }
        Ok(())
    }

    /// The nodes that are known to play `role`, and have some version of `choreography`.
    pub(crate) fn players(&self, role: &str, choreography: &str) -> Vec<NodeId> {
        let known = self.lock();
        let players = known.peers.iter().filter(|(_, peer)| peer.roles.contains(role));
        players.filter(|(_, peer)| !peer.versions(choreography).is_empty()).map(|(node, _)| node.clone()).collect()
    }

    /// Ends when a node says something new after this call.
    pub(crate) fn change(&self) -> Notified<'_> {
        self.changed.notified()
    }

    /// The highest of `versions` (which come so) that the nodes known can play, and who plays what; see [`Known::cast`].
    /// All at one moment: an offer that came between two of them would make a start miss the higher one.
    pub(crate) fn choose(&self, session: SessionId, versions: &[Arc<dyn AnyChoreography>], own: &NodeId) -> Choice {
        let known = self.lock();
        let mut choice = Choice { cast: None, gaps: Vec::new(), hear_until: None };
        for (index, choreography) in versions.iter().enumerate() {
            match known.cast(session, choreography.as_ref(), own) {
                Ok(cast) => {
                    choice.cast = Some((index, cast));
                    break;
                }
                Err(gap) => choice.gaps.push(gap),
            }
        }
        let may_hear = choice.gaps.iter().any(|gap| known.has_unheard(gap.role)) && Instant::now() < self.hearing_until;
        choice.hear_until = may_hear.then_some(self.hearing_until);
        choice
    }
}

impl Known {
    /// Whether a node that plays `role` has said so in an earlier life of the own node only.
    fn has_unheard(&self, role: &str) -> bool {
        self.peers.iter().any(|(node, peer)| peer.roles.contains(role) && !self.heard.contains(node))
    }

    /// Who plays what in `session`, among the nodes that have `choreography`, by rendezvous hashing: each session's
    /// choice is its own, and stays mostly the same when nodes come and go. `own` plays the initiator.
    fn cast(&self, session: SessionId, choreography: &dyn AnyChoreography, own: &NodeId) -> Result<Cast, Gap> {
        let initiator = choreography.interface().initiator;
        let mut patches: Vec<&str> = choreography.patches().to_vec();
        let mut nodes = Vec::new();
        for role in choreography.roles() {
            let plays = |node: &NodeId, peer: &Peer| {
                if *role == initiator { node == own } else { peer.roles.contains(*role) }
            };
            let players = self.peers.iter().filter(|(node, peer)| plays(node, peer));
            let able = players.filter_map(|(node, peer)| Some((node, peer.patches(choreography)?)));
            let Some((node, offered)) = able.max_by_key(|(node, _)| weight(session, role, node)) else {
                return Err(gap(&self.peers, choreography, role));
            };
            patches.retain(|patch| offered.contains(*patch));
            nodes.push(node.clone());
        }
        Ok(Cast { nodes, patches: patches.into_iter().map(ToOwned::to_owned).collect() })
    }
}

/// Why nobody can play `role`; names the node that comes closest.
fn gap(known: &BTreeMap<NodeId, Peer>, choreography: &dyn AnyChoreography, role: &'static str) -> Gap {
    let (name, version) = (choreography.name(), choreography.version());
    let players = known.iter().filter(|(_, peer)| peer.roles.contains(role));
    let players = players.map(|(node, peer)| (node.clone(), peer.versions(name)));
    let player = players.max_by_key(|(_, versions)| versions.last().copied());
    Gap { version, role, player }
}

fn weight(session: SessionId, role: &str, node: &NodeId) -> u128 {
    // Any stable hash does; this one is at hand.
    let name = format!("{role}/{node}");
    Uuid::new_v5(&Uuid::from_bytes(*session.as_bytes()), name.as_bytes()).as_u128()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn strangers_do_not_fill_the_memory() {
        let offer = |role: &str| Offer { roles: vec![role.into()], ask: false, choreographies: Vec::new() };
        let node = |number: usize| NodeId::new(format!("node-{number}")).unwrap();
        let peers = Peers::new(NodeId::new("own").unwrap(), offer("shop"), Duration::ZERO);
        let stored = (0..2 * PEERS_MAX).filter(|number| peers.learn(&node(*number), offer("bank")).is_some());
        assert_eq!(stored.count() + 1, PEERS_MAX); // Itself is not stored.
        let kept = {
            let known = peers.lock();
            [known.peers.len(), known.heard.len()]
        };
        assert_eq!(kept, [PEERS_MAX, PEERS_MAX]);
        // What is known may still change.
        assert!(peers.learn(&node(1), offer("bank")).is_none());
        assert!(peers.learn(&node(1), offer("shop")).is_some());
    }
}
