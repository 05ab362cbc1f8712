//! The known nodes: which roles and choreographies they advertise, which of them drain or have left; and
//! the cast of a new session.
//!
//! The last advertisement of each node is kept in the store, so that a start needs no other node to be up. Presence is
//! no verdict: a cast node that is away delays its sessions, and nothing more. `known` lists the parts of what is
//! known, `learning` handles advertisements, `cast` chooses the nodes of a session, `contact` knows which nodes are
//! received and receive, `membership` handles memberships, `drain` counts what a draining node waits for, `departed`
//! has the nodes that have left.

mod cast;
mod cast_reservation;
mod contact;
mod cordon;
mod departed;
mod drain;
mod hints;
mod known;
mod learning;
mod membership;
mod missing_role;
mod openings;
mod own_name;
mod peer;
mod room;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use accompanist_core::contract::{Batch, Store, StoreError};
use accompanist_core::frame::{Advertisement, Generation, Membership};
use accompanist_core::role_instance::AnyChoreography;
use accompanist_core::{NodeId, SessionId};
use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio::time::Instant;

pub(crate) use self::cast::{Cast, CastPlan};
pub(crate) use self::cast_reservation::CastReservation;
pub use self::contact::Contact;
use self::contact::Liveliness;
pub use self::drain::DrainProgress;
use self::known::KnownNodes;
pub(crate) use self::learning::Learned;
use self::membership::OwnStatus;
pub use self::membership::{KnownNode, MemberStatus};
pub use self::missing_role::MissingRole;
pub use self::openings::PeerStore;
pub(crate) use self::own_name::OwnNameUse;
use self::peer::Peer;
use crate::writer::Counts;

/// The most nodes that are remembered. Advertisements of further nodes are dropped: no system has this many, but an
/// unknown sender may claim so.
pub(crate) const PEERS_MAX: usize = 1_024;

/// The known nodes; see the module's documentation.
pub(crate) struct Peers {
    known: Arc<Mutex<KnownNodes>>,
    /// Until this time, nodes that are up and have not been received yet may still be received.
    hearing_until: Instant,
    /// Wakes waiters in the order in which they asked (a watch channel does not, which would make a simulation run
    /// differently).
    changed: Notify,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that can panic runs under these locks.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Peers {
    /// Creates the value; every node that is up advertises itself within `hearing`, and at least that often again.
    pub(crate) fn new(node: NodeId, advertisement: Advertisement, hearing: Duration, now_ms: u64) -> Self {
        let known = KnownNodes::new(node, advertisement, hearing, now_ms);
        let hearing_until = Instant::now() + hearing;
        Self { known: Arc::new(Mutex::new(known)), hearing_until, changed: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, KnownNodes> {
        lock(&self.known)
    }

    /// Restores the stored state, and makes a fresh store a member; with `fresh`, in place of another one under its
    /// name. Returns the changes that must be on disk before other nodes learn of them.
    pub(crate) fn restore(
        &self,
        store: &dyn Store,
        membership: Membership,
        fresh: bool,
        generation: Generation,
    ) -> Result<Batch, StoreError> {
        self.lock().restore(store, membership, fresh, generation)
    }

    /// Waits, for at most this long, until all nodes that were known at the start have confirmed that they accept
    /// this node's store as the known one. Some of them may be down.
    pub(crate) async fn vouched(&self, at_most: Duration) {
        let all = async {
            loop {
                let change = self.changed.notified();
                if self.lock().opening.is_vouched() {
                    return;
                }
                change.await;
            }
        };
        // Nodes that were not received are not waited for again.
        let _ = tokio::time::timeout(at_most, all).await;
        self.lock().opening.stop_waiting();
    }

    /// Notes that this node is on disk, in this membership.
    pub(crate) fn stored(&self, node: &NodeId, membership: Membership) {
        let mut known = self.lock();
        if known.peers.get(node).is_some_and(|peer| peer.membership == membership) {
            known.stored.insert(node.clone(), membership);
        }
    }

    /// Adds to an advertisement of this node, to all or `to` one, its membership and what it knows of others. A node
    /// that may not be cast yet is asked for its advertisement.
    pub(crate) fn complete(
        &self,
        mut advertisement: Advertisement,
        to: Option<&NodeId>,
        batch: u64,
        now_ms: u64,
    ) -> Advertisement {
        let mut known = self.lock();
        advertisement.generation = Generation { batch, ..known.opening.generation() };
        advertisement.dispute = match to.filter(|to| **to != known.node) {
            Some(to) => known.openings.dispute(to, now_ms),
            None => known.own_dispute(now_ms),
        };
        if let Some(to) = to {
            advertisement.accepts = known.openings.known(to);
            advertisement.knows = known.stored.get(to).copied();
            // Asked only once the node is on disk here; otherwise the two would ask each other until then.
            let asks =
                |peer: &Peer| !peer.mutual && !peer.roles.is_empty() && advertisement.knows == Some(peer.membership);
            advertisement.ask = known.peers.get(to).is_some_and(asks);
        }
        let OwnStatus { membership, change, draining, fresh } = known.own.status();
        (advertisement.membership, advertisement.change, advertisement.draining, advertisement.fresh) =
            (membership, change, draining, fresh);
        (advertisement.left, advertisement.needs) = (known.left.report(), known.needs());
        advertisement
    }

    /// Returns the nodes that are known to play `role` and have some version of `choreography`.
    pub(crate) fn players(&self, role: &str, choreography: &str) -> Vec<NodeId> {
        let known = self.lock();
        let players = known.peers.iter().filter(|(_, peer)| peer.roles.contains(role));
        players.filter(|(_, peer)| !peer.versions(choreography).is_empty()).map(|(node, _)| node.clone()).collect()
    }

    /// Waits until a node sends something new after this call.
    pub(crate) fn change(&self) -> Notified<'_> {
        self.changed.notified()
    }

    /// Returns how many starts under way have cast each node.
    pub(crate) fn placed(&self) -> Counts {
        self.lock().placed.clone()
    }

    /// Chooses the highest of `versions` (which are in descending order) that the known nodes can play, and its cast;
    /// see [`KnownNodes::cast`]. A version whose cast was received lately comes before a higher one that needs a node
    /// that was not. The choice happens at one moment: otherwise a start could miss the higher version because of an
    /// advertisement that arrives between two of them. The cast is held from the same moment on, so that any later
    /// count for a draining node includes this start. Returns an error on a node that takes no new sessions itself.
    pub(crate) fn choose(
        &self,
        session: SessionId,
        versions: &[Arc<dyn AnyChoreography>],
        members: u8,
        now_ms: u64,
        may_play: impl Fn(&NodeId, &str) -> bool,
    ) -> Result<CastPlan, MemberStatus> {
        let mut known = self.lock();
        let (own, status) = (known.node.clone(), known.status());
        if status != MemberStatus::Serving {
            return Err(status);
        }
        let is_hearing = Instant::now() < self.hearing_until;
        known.hints.drop_old(now_ms);
        let liveliness = |node: &NodeId| known.contacts.liveliness(node, now_ms, is_hearing);
        let is_lively = |node: &NodeId| liveliness(node) > Liveliness::Gone;
        let mut choice = CastPlan { cast: None, missing: Vec::new(), hear_until: None };
        for (index, choreography) in versions.iter().enumerate() {
            match known.cast(session, choreography.as_ref(), members, &own, liveliness, &may_play) {
                Ok(cast) if cast.nodes.iter().all(is_lively) => {
                    choice.cast = Some((index, cast));
                    break;
                }
                // The highest version, unless there is a lower one that needs to wait for no node.
                Ok(cast) => drop(choice.cast.get_or_insert((index, cast))),
                Err(gap) if choice.cast.is_none() => choice.missing.push(gap),
                Err(_) => {}
            }
        }
        let may_hear = choice.missing.iter().any(|gap| known.has_unacknowledged(gap.role)) && is_hearing;
        let is_guess = choice.cast.as_ref().is_some_and(|(_, cast)| cast.is_guess);
        choice.hear_until = (may_hear || is_guess).then_some(self.hearing_until);
        if let Some((_, cast)) = &mut choice.cast {
            for node in &cast.nodes {
                *known.placed.entry(node.clone()).or_default() += 1;
            }
            cast.placed = Some(CastReservation::new(cast.nodes.clone(), self.known.clone()));
        }
        Ok(choice)
    }
}
