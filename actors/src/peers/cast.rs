//! The cast of a new session: rendezvous hashing over the nodes that take new sessions, with those first that were
//! received lately.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::sync::Arc;

use accompanist_core::id::RoleIndex;
use accompanist_core::role_instance::AnyChoreography;
use accompanist_core::{NodeId, SessionId};
use tokio::time::Instant;
use uuid::Uuid;

use super::known::KnownNodes;
use super::peer::Peer;
use super::{CastReservation, Liveliness, MissingRole, Peers};

/// The options of a start, as far as is known.
pub(crate) struct CastPlan {
    /// The index of the chosen version, and its cast.
    pub(crate) cast: Option<(usize, Cast)>,
    /// The missing roles of the higher versions.
    pub(crate) missing: Vec<MissingRole>,
    /// Until when it is worth waiting for nodes that have not been received since this node's start: such a node may
    /// fill a missing role, or one is cast that may be gone for good or never existed, where others could play as
    /// well.
    pub(crate) hear_until: Option<Instant>,
}

/// The nodes that play the roles of a session, and its patches.
pub(crate) struct Cast {
    pub(crate) nodes: Vec<NodeId>,
    pub(crate) patches: Vec<String>,
    /// Whether one of the nodes was not received since this node's start although others could play as well.
    pub(super) is_guess: bool,
    /// Holds the nodes until the session is in the store.
    pub(crate) placed: Option<Arc<CastReservation>>,
}

impl Peers {
    /// Returns a role of `choreography` that no known node plays, if there is one. Whether the nodes are up does not
    /// matter: sessions that cast a node that is away wait for it.
    pub(crate) fn missing_role(
        &self,
        choreography: &dyn AnyChoreography,
        may_play: impl Fn(&NodeId, &str) -> bool,
    ) -> Option<MissingRole> {
        let known = self.lock();
        // Any session would do, and a family of one member needs the same nodes as a larger one.
        let session = SessionId::from_bytes([0; 16]);
        known.cast(session, choreography, 1, &known.node, |_| Liveliness::Heard, may_play).err()
    }
}

impl KnownNodes {
    /// Returns whether a node that plays `role` has not been received since this node's start.
    pub(super) fn has_unacknowledged(&self, role: &str) -> bool {
        self.peers.iter().any(|(node, peer)| peer.roles.contains(role) && !self.contacts.was_received(node))
    }

    /// Returns the cast of `session` from the nodes that have `choreography` and take new sessions, by rendezvous
    /// hashing: each session is placed separately, and mostly stays where it is when nodes join and leave. Nodes in
    /// better contact come first; this is a hint that excludes no node. `own` plays the initiator. The members of a
    /// role family are spread: among nodes in equal contact, those come first that play fewer members.
    pub(super) fn cast(
        &self,
        session: SessionId,
        choreography: &dyn AnyChoreography,
        members: u8,
        own: &NodeId,
        liveliness: impl Fn(&NodeId) -> Liveliness,
        may_play: impl Fn(&NodeId, &str) -> bool,
    ) -> Result<Cast, MissingRole> {
        let initiator = choreography.interface().initiator;
        let mut patches: Vec<&str> = choreography.patches().to_vec();
        let (mut nodes, mut is_guess) = (Vec::new(), false);
        for (name, role) in places(choreography, members) {
            let plays = |node: &NodeId, peer: &Peer| {
                may_play(node, role) && if role == initiator { node == own } else { peer.roles.contains(role) }
            };
            let players = self.peers.iter().filter(|(node, peer)| self.is_open(node, peer) && plays(node, peer));
            let able: Vec<_> = players.filter_map(|(node, peer)| Some((node, peer.patches(choreography)?))).collect();
            let plays_already = |node: &NodeId| {
                nodes.iter().skip(choreography.roles().single().len()).filter(|other| *other == node).count()
            };
            let best = able
                .iter()
                .max_by_key(|(node, _)| (liveliness(node), Reverse(plays_already(node)), weight(session, &name, node)));
            let Some((node, offered)) = best else { return Err(self.gap(choreography, role)) };
            is_guess |= able.len() > 1 && liveliness(node) == Liveliness::Unheard;
            patches.retain(|patch| offered.contains(*patch));
            nodes.push(NodeId::clone(node));
        }
        let patches = patches.into_iter().map(ToOwned::to_owned).collect();
        Ok(Cast { nodes, patches, is_guess, placed: None })
    }

    /// Returns whether the node takes new sessions from this one.
    fn is_open(&self, node: &NodeId, peer: &Peer) -> bool {
        peer.mutual && !peer.draining && !self.cordoned.contains(node) && !self.hints.has(node)
    }

    /// Returns why no node can play `role`; names the node that comes closest.
    fn gap(&self, choreography: &dyn AnyChoreography, role: &'static str) -> MissingRole {
        let (name, version) = (choreography.name(), choreography.version());
        let players = self.peers.iter().filter(|(node, peer)| self.is_open(node, peer) && peer.roles.contains(role));
        let players = players.map(|(node, peer)| (node.clone(), peer.versions(name)));
        let player = players.max_by_key(|(_, versions)| versions.last().copied());
        MissingRole { version, role, player }
    }
}

impl Peer {
    fn patches(&self, choreography: &dyn AnyChoreography) -> Option<&BTreeSet<String>> {
        self.choreographies.get(&(choreography.name().to_owned(), choreography.version()))
    }

    pub(super) fn versions(&self, name: &str) -> Vec<u32> {
        self.choreographies.keys().filter(|(known, _)| known == name).map(|(_, version)| *version).collect()
    }
}

/// The roles of a session whose family has `members`, by index: the name of each, and the name under which nodes
/// offer to play it.
fn places(choreography: &dyn AnyChoreography, members: u8) -> impl Iterator<Item = (String, &'static str)> {
    let names = choreography.roles();
    let members = if names.family().is_some() { usize::from(members) } else { 0 };
    let roles = names.roles(names.single().len() + members).map(RoleIndex);
    roles.filter_map(move |role| Some((names.name_of(role)?, names.provided_as(role)?)))
}

fn weight(session: SessionId, role: &str, node: &NodeId) -> u128 {
    // Any stable hash does; this one is at hand.
    let name = format!("{role}/{node}");
    Uuid::new_v5(&Uuid::from_bytes(*session.as_bytes()), name.as_bytes()).as_u128()
}

#[cfg(test)]
mod tests;
