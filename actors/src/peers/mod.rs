//! The known nodes: which roles and choreographies they advertise, which of them drain or have left; and
//! the cast of a new session.
//!
//! The last advertisement of each node is kept in the store, so that a start needs no other node to be up. Presence is
//! no verdict: a cast node that is away delays its sessions, and nothing more. `cast` makes the choice, `contact` knows
//! which nodes are received and receive, `membership` handles this node's membership, `departed` the nodes that have
//! left.

mod cast;
mod cast_reservation;
mod contact;
mod cordon;
mod departed;
mod membership;
mod missing_role;
mod openings;
mod own_name;
mod room;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use accompanist_core::contract::{Batch, Change, Space, Store, StoreError};
use accompanist_core::frame::{Advertisement, Generation, Left, Membership};
use accompanist_core::record::{read_value, value_bytes};
use accompanist_core::role_instance::AnyChoreography;
use accompanist_core::{NodeId, SessionId};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio::time::Instant;

pub(crate) use self::cast::{Cast, CastPlan};
pub(crate) use self::cast_reservation::CastReservation;
pub use self::contact::Contact;
use self::contact::{Liveliness, silence_ms};
use self::cordon::restore_cordoned;
use self::departed::DepartedNodes;
use self::membership::OwnStatus;
pub use self::membership::{DrainProgress, KnownNode, MemberStatus};
pub use self::missing_role::MissingRole;
pub use self::openings::PeerStore;
use self::openings::{Openings, Verdict};
use self::own_name::Namesake;
pub(crate) use self::own_name::OwnHeard;
use crate::store::{Halt, STANDING_KEY};
use crate::writer::Counts;

/// The prefix of the nodes' keys in [`Space::Meta`].
const NODE_KEY: &[u8] = b"node/";
/// The most nodes that are remembered. Advertisements of further nodes are dropped: no system has this many, but an
/// unknown sender may claim so.
pub(crate) const PEERS_MAX: usize = 1_024;

/// The advertisement of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Peer {
    membership: Membership,
    /// Counts the changes of `draining`.
    change: u64,
    draining: bool,
    /// Whether the node has this one on disk, and so waits for it when it drains. Only such nodes are cast.
    mutual: bool,
    roles: BTreeSet<String>,
    /// Patches, by name and version.
    choreographies: BTreeMap<(String, u32), BTreeSet<String>>,
    /// Whether the node has ever acknowledged a frame of a session: a node that has not, and is not received, may be
    /// forged.
    partner: bool,
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

struct Known {
    node: NodeId,
    /// This node's membership as the others are informed of it.
    own: OwnStatus,
    /// This node's membership as it will be once it is on disk.
    asked: OwnStatus,
    /// The known nodes, including this one.
    peers: BTreeMap<NodeId, Peer>,
    /// When each node was last received since this node's start; of others it is known what they advertised before.
    received_ms: BTreeMap<NodeId, u64>,
    /// The queue delay of each node, and when it was received, for those that report one.
    queues: BTreeMap<NodeId, (u64, u64)>,
    /// The nodes that are received but receive nothing from this one, and since when.
    deaf: BTreeMap<NodeId, u64>,
    /// The nodes that were reported as silent, and since when.
    silent: BTreeMap<NodeId, u64>,
    /// A node is silent when nothing was received from it for this long.
    silence_ms: u64,
    /// Each node advertises itself within this period.
    period_ms: u64,
    /// The opening of this node's store, as of the start.
    generation: Generation,
    /// The openings of the others' stores.
    openings: Openings,
    /// Another node that sends in this node's name.
    namesake: Option<Namesake>,
    /// The nodes that were known at the start and have not confirmed yet that they know this node's opening.
    unvouched: BTreeSet<NodeId>,
    /// When this node began to listen.
    begun_ms: u64,
    /// The nodes that an operator has barred from new sessions of this node.
    cordoned: BTreeSet<NodeId>,
    /// The memberships that are on disk.
    stored: BTreeMap<NodeId, Membership>,
    left: DepartedNodes,
    /// The nodes that only others report to have left, and when that was last reported.
    hints: BTreeMap<NodeId, u64>,
    /// The nodes that have forgotten this one in its present membership.
    forgotten_by: BTreeSet<NodeId>,
    /// While this node drains: the number of open instances at each node that still need it.
    answers: BTreeMap<NodeId, u64>,
    /// The counts made here for other nodes that drain, each with the advertisement that it was counted for.
    counted: BTreeMap<NodeId, ((Membership, u64), u64)>,
    /// The nodes that have on disk that this one has left.
    aware: BTreeSet<NodeId>,
    /// The number of starts under way here that have cast a node and are not in the store yet.
    placed: Counts,
}

/// The known nodes; see the module's documentation.
pub(crate) struct Peers {
    known: Arc<Mutex<Known>>,
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

/// The result of an advertisement.
#[derive(Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(crate) struct Learned {
    /// The changes to be stored.
    pub(crate) changes: Batch,
    /// The nodes that have left; other nodes are informed once that is on disk.
    pub(crate) left: Vec<Left>,
    /// The nodes that the sender reports to have left, if that is new here; no more than a hint.
    pub(crate) hints: Vec<NodeId>,
    /// Whether the sender has forgotten this node, which has not left, and that is new here.
    pub(crate) forgets_own: bool,
    /// The sender's membership, if it is not on disk yet: the sender is answered once more when it is.
    pub(crate) unstored: Option<Membership>,
    /// Whether the sender is on disk here in another membership and has not declared that it begins anew: its
    /// advertisement was not accepted, and it must be informed which membership is known.
    pub(crate) is_other: bool,
    /// Whether there is no room to remember the sender.
    pub(crate) is_one_too_many: bool,
    /// Whether the sender has this node on disk in another membership, although no operator declared that this node
    /// begins anew.
    pub(crate) knows_other: bool,
    /// Whether the sender has another store than the known one, or runs twice: it must be informed.
    pub(crate) is_disputed: bool,
    /// Whether the advertisement was not accepted; nothing else from this sender is accepted either.
    pub(crate) is_refused: bool,
    /// The state of the sender's store that the operator must be informed of.
    pub(crate) store: Option<PeerStore>,
    /// Whether an operator has accepted an older copy of the sender's store.
    pub(crate) is_restored: bool,
    /// The reason for which this node has to stop, according to the sender.
    pub(crate) halt: Option<Halt>,
}

impl Peers {
    /// Creates the value; every node that is up advertises itself within `hearing`, and at least that often again.
    pub(crate) fn new(node: NodeId, advertisement: Advertisement, hearing: Duration, now_ms: u64) -> Self {
        let own = OwnStatus { membership: advertisement.membership, change: 0, draining: false, fresh: false };
        let known = Known {
            node: node.clone(),
            own,
            asked: own,
            peers: BTreeMap::from([(node.clone(), Peer { mutual: true, ..advertisement.into() })]),
            received_ms: BTreeMap::from([(node, 0)]),
            queues: BTreeMap::new(),
            deaf: BTreeMap::new(),
            silent: BTreeMap::new(),
            silence_ms: silence_ms(hearing),
            period_ms: silence_ms(hearing) / 3,
            generation: Generation::default(),
            openings: Openings::default(),
            namesake: None,
            unvouched: BTreeSet::new(),
            begun_ms: now_ms,
            cordoned: BTreeSet::new(),
            stored: BTreeMap::new(),
            left: DepartedNodes::default(),
            hints: BTreeMap::new(),
            forgotten_by: BTreeSet::new(),
            answers: BTreeMap::new(),
            counted: BTreeMap::new(),
            aware: BTreeSet::new(),
            placed: BTreeMap::new(),
        };
        let hearing_until = Instant::now() + hearing;
        Self { known: Arc::new(Mutex::new(known)), hearing_until, changed: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        lock(&self.known)
    }

    /// Handles the advertisement of a node, and what it reports of others.
    pub(crate) fn learn(&self, node: &NodeId, mut advertisement: Advertisement, now_ms: u64) -> Learned {
        let mut learned = Learned::default();
        // What a node reports of itself is true; what it reports of others is a hint.
        let left = std::mem::take(&mut advertisement.left);
        let (left, of_others): (Vec<_>, Vec<_>) = left.into_iter().partition(|left| left.node == *node);
        {
            let mut known = self.lock();
            let membership = known.own.membership;
            learned.is_other = !advertisement.fresh
                && known.stored.get(node).is_some_and(|stored| *stored != advertisement.membership);
            // The sessions of a node that has left continue.
            let has_left = known.left.has(node, advertisement.membership);
            learned.is_refused =
                learned.is_other || (!has_left && !known.judge(node, &advertisement, now_ms, &mut learned));
            if !learned.is_refused && !has_left {
                // Only nodes whose own advertisement is accepted may state what this node is.
                learned.knows_other = !known.own.fresh && advertisement.knows.is_some_and(|knows| knows != membership);
                learned.halt = Self::halt_of(node, known.generation, membership, advertisement.dispute.take());
                if advertisement.accepts == Some(known.generation.id) {
                    known.unvouched.remove(node);
                }
            }
        }
        if learned.is_refused {
            self.changed.notify_waiters();
            return learned;
        }
        learned.changes = self.note_left(&left);
        if !learned.changes.is_empty() {
            learned.left = left;
        }
        {
            let mut known = self.lock();
            known.note_needs(node, &advertisement.needs);
            learned.hints = known.note_hints(node, &of_others, now_ms);
            learned.forgets_own = known.note_own_left(node, &of_others);
            let membership = known.own.membership;
            if !known.left.has(node, advertisement.membership) {
                let (mutual, peer) = (advertisement.knows == Some(membership), advertisement.into());
                learned.changes.extend(known.take(node, Peer { mutual, ..peer }, now_ms));
                let taken = known.peers.get(node).map(|peer| peer.membership);
                learned.is_one_too_many = taken.is_none();
                learned.unstored = taken.filter(|taken| known.stored.get(node) != Some(taken));
            }
        }
        self.changed.notify_waiters();
        learned
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
        let mut known = self.lock();
        known.generation = generation;
        known.openings = Openings::restore(store, known.period_ms)?;
        known.left = DepartedNodes::restore(store)?;
        known.cordoned = restore_cordoned(store)?;
        for (key, value) in store.scan(Space::Meta, NODE_KEY, None, PEERS_MAX)? {
            let peer: Peer = read_value(Space::Meta, &value)?;
            if let Some(node) = node_of_key(NODE_KEY, &key) {
                known.stored.insert(node.clone(), peer.membership);
                known.peers.entry(node).or_insert(peer);
            }
        }
        let stored: Option<OwnStatus> =
            store.get(Space::Meta, STANDING_KEY)?.map(|value| read_value(Space::Meta, &value)).transpose()?;
        known.own = stored.unwrap_or(OwnStatus { membership, ..known.own });
        known.own.fresh |= fresh;
        known.asked = known.own;
        known.note_status();
        known.unvouched = known.peers.keys().filter(|node| **node != known.node).cloned().collect();
        Ok(if stored == Some(known.own) { Batch::new() } else { known.own.stored() })
    }

    /// Waits, for at most this long, until all nodes that were known at the start have confirmed that they accept
    /// this node's store as the known one. Some of them may be down.
    pub(crate) async fn vouched(&self, at_most: Duration) {
        let all = async {
            loop {
                let change = self.changed.notified();
                if self.lock().unvouched.is_empty() {
                    return;
                }
                change.await;
            }
        };
        // Nodes that were not received are not waited for again.
        let _ = tokio::time::timeout(at_most, all).await;
        self.lock().unvouched.clear();
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
        advertisement.generation = Generation { batch, ..known.generation };
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
        let OwnStatus { membership, change, draining, fresh } = known.own;
        (advertisement.membership, advertisement.change, advertisement.draining, advertisement.fresh) =
            (membership, change, draining, fresh);
        (advertisement.left, advertisement.needs) = (known.left.told(), known.needs());
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
    /// see [`Known::cast`]. A version whose cast was received lately comes before a higher one that needs a node that
    /// was not. The choice happens at one moment: otherwise a start could miss the higher version because of an
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
        known.forget_hints(now_ms);
        let liveliness = |node: &NodeId| known.liveliness(node, now_ms, is_hearing);
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

fn key(node: &NodeId) -> Vec<u8> {
    [NODE_KEY, node.as_str().as_bytes()].concat()
}

fn stored(node: &NodeId, peer: &Peer) -> Option<Change> {
    Some(Change { space: Space::Meta, key: key(node), value: Some(value_bytes(peer).ok()?) })
}

/// Returns the node whose name follows `prefix` in a stored key, if there is one.
fn node_of_key(prefix: &[u8], key: &[u8]) -> Option<NodeId> {
    let name = String::from_utf8_lossy(key.strip_prefix(prefix)?).into_owned();
    NodeId::new(name).ok()
}

impl Known {
    /// Returns whether an advertisement comes from the known store of its sender, as far as that can be determined.
    fn judge(&mut self, node: &NodeId, advertisement: &Advertisement, now_ms: u64, learned: &mut Learned) -> bool {
        let verdict = self.openings.judge(node, advertisement.membership, advertisement.generation, now_ms);
        if let Some(dispute) = &advertisement.dispute {
            self.openings.note_dispute(node, advertisement.generation, dispute, now_ms);
        }
        learned.is_disputed = self.openings.dispute(node, now_ms).is_some();
        learned.store = self.openings.say(node, now_ms);
        learned.is_restored = verdict == Verdict::Taken { restored: true };
        verdict != Verdict::Refused
    }

    /// Takes over the advertisement of a node. Returns what has to be stored, if anything is new.
    fn take(&mut self, node: &NodeId, mut peer: Peer, now_ms: u64) -> Batch {
        let mut changes = Batch::new();
        if !self.peers.contains_key(node) && self.peers.len() >= PEERS_MAX {
            let Some(room) = self.make_room(now_ms) else { return Batch::new() };
            changes = room;
        }
        let before = self.peers.get(node);
        if let Some(before) = before {
            peer.partner = before.partner && before.membership == peer.membership;
            peer.mutual |= before.mutual && before.membership == peer.membership;
            if before.membership == peer.membership && before.change > peer.change {
                return Batch::new(); // The advertisement is late.
            }
            if before.membership != peer.membership {
                tracing::warn!(%node, "a node begins anew under its name with another store");
                self.answers.remove(node);
                self.aware.remove(node);
                self.stored.remove(node);
            }
        }
        let is_news = before != Some(&peer);
        self.received_ms.insert(node.clone(), now_ms);
        changes.extend(self.openings.due_change(node, now_ms));
        self.hints.remove(node); // The node reports for itself again.
        if is_news {
            changes.extend(stored(node, &peer));
            self.peers.insert(node.clone(), peer);
        }
        changes
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use accompanist_core::frame::OfferedChoreography;

    use super::*;

    #[test]
    fn strangers_do_not_fill_the_memory() {
        let advertisement = |role: &str| Advertisement { roles: vec![role.into()], ..Advertisement::default() };
        let is_stored = |learned: Learned| !learned.changes.is_empty();
        let node = |number: usize| NodeId::new(format!("node-{number}")).unwrap();
        // No node is silent yet, so no node makes room.
        let peers = Peers::new(NodeId::new("own").unwrap(), advertisement("shop"), Duration::from_secs(3), 0);
        let stored =
            (0..2 * PEERS_MAX).filter(|number| is_stored(peers.learn(&node(*number), advertisement("bank"), 0)));
        assert_eq!(stored.count() + 1, PEERS_MAX); // This node itself is not stored.
        let kept = {
            let known = peers.lock();
            [known.peers.len(), known.received_ms.len()]
        };
        assert_eq!(kept, [PEERS_MAX, PEERS_MAX]);
        // A known node may still change.
        assert!(!is_stored(peers.learn(&node(1), advertisement("bank"), 0)));
        assert!(is_stored(peers.learn(&node(1), advertisement("shop"), 0)));
    }

    /// Later releases read these bytes from stores.
    #[test]
    fn the_bytes_of_what_is_stored_stay() {
        let offered = OfferedChoreography { choreography: "sale".into(), version: 2, patches: vec!["p".into()] };
        let roles = vec!["bank".into()];
        let generation = Generation { restores: 1, number: 2, id: 3, opened: 4, batch: 5 };
        let advertisement = Advertisement {
            membership: Membership(300),
            change: 3,
            draining: true,
            roles,
            generation,
            ..Advertisement::default()
        };
        let peers = Peers::new(NodeId::new("own").unwrap(), Advertisement::default(), Duration::ZERO, 0);
        let left = Left { at_unix_ms: 1_000, node: NodeId::new("n2").unwrap(), membership: Membership(299) };
        let knows = Some(Membership(0));
        let news = Advertisement { choreographies: vec![offered], knows, left: vec![left], ..advertisement };
        let mut changes = peers.learn(&NodeId::new("n2").unwrap(), news, 0).changes;
        changes.extend(OwnStatus { membership: Membership(300), change: 3, draining: true, fresh: false }.stored());
        let stored = changes.into_iter().map(|change| (change.key, change.value.unwrap()));
        let expected: [(&[u8], &[u8]); 4] = [
            (b"left/n2/\0\0\0\0\0\0\x01\x2b", b"\x01\xe8\x07\x02n2\xab\x02"),
            (b"opening/n2", b"\x01\xac\x02\x01\x02\x03\x04\x05"),
            (b"node/n2", b"\x01\xac\x02\x03\x01\x01\x01\x04bank\x01\x04sale\x02\x01\x01p\0"),
            (b"standing", b"\x01\xac\x02\x03\x01\0"),
        ];
        assert_eq!(stored.collect::<Vec<_>>(), expected.map(|(key, value)| (key.to_vec(), value.to_vec())));
    }
}
