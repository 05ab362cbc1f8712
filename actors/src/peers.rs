//! Which nodes play which role and have which choreographies, as far as they have said so; who drains and who has left;
//! and who plays what in a new session.
//!
//! What a node once said is kept in the store, so that a start needs nobody to be up. Presence is no verdict:
//! a cast node that is away delays its sessions, no more. `cast` has the choice, `contact` who is received and receives, `standing` the own node's coming and
//! going, `left` those that are gone.

mod cast;
mod contact;
mod cordon;
mod left;
mod openings;
mod own_name;
mod placed;
mod room;
mod standing;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use accompanist_core::contract::{Batch, Change, Space, Store, StoreError};
use accompanist_core::frame::{Generation, Left, Membership, Offer};
use accompanist_core::part::AnyChoreography;
use accompanist_core::record::{read_value, value_bytes};
use accompanist_core::{NodeId, SessionId};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio::time::Instant;

pub(crate) use self::cast::{Cast, Choice};
pub use self::contact::Contact;
use self::contact::{Liveliness, silence_ms};
use self::cordon::restore_cordoned;
use self::left::LeftNodes;
pub use self::openings::PeerStore;
use self::openings::{Openings, Verdict};
use self::own_name::Namesake;
pub(crate) use self::own_name::OwnHeard;
pub(crate) use self::placed::Placed;
use self::standing::Own;
pub use self::standing::{DrainProgress, KnownNode, Standing};
use crate::store::{Halt, STANDING_KEY};
use crate::writer::Counts;

/// Keys of the nodes in [`Space::Meta`] begin so.
const NODE_KEY: &[u8] = b"node/";
/// The most nodes that are kept in mind. What others offer beyond is dropped: no system has as many, but a stranger may
/// say that it has.
pub(crate) const PEERS_MAX: usize = 1_024;

/// What a node has said that it offers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Peer {
    membership: Membership,
    /// Counts the changes of `draining`.
    change: u64,
    draining: bool,
    /// Whether it has the own node on disk, and so asks it when it drains. Nobody else is cast.
    mutual: bool,
    roles: BTreeSet<String>,
    /// Patches, by name and version.
    choreographies: BTreeMap<(String, u32), BTreeSet<String>>,
    /// Whether it has ever acknowledged something of a session: one that has not, and is not received, may be made up.
    partner: bool,
}

impl From<Offer> for Peer {
    fn from(offer: Offer) -> Self {
        let Offer { membership, change, draining, roles, choreographies, .. } = offer;
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
    /// As the others are told.
    own: Own,
    /// As it will be once it is on disk.
    asked: Own,
    /// The own node among them.
    peers: BTreeMap<NodeId, Peer>,
    /// When each spoke last in this life of the own node; of others it is known what they said in an earlier one.
    heard: BTreeMap<NodeId, u64>,
    /// How long what arrives takes at each, and when it said so: of those that can tell.
    queues: BTreeMap<NodeId, (u64, u64)>,
    /// Those that are received, and receive nothing from the own node; since when.
    deaf: BTreeMap<NodeId, u64>,
    /// Those that were told to be silent; since when.
    silent: BTreeMap<NodeId, u64>,
    /// Nothing was received from a node that is silent for so long.
    silence_ms: u64,
    /// Within so long each node makes an offer.
    period_ms: u64,
    /// The opening of the own store, as of the start.
    generation: Generation,
    /// Those of the others.
    openings: Openings,
    /// Who else speaks in the own name.
    namesake: Option<Namesake>,
    /// Those that were known at the start and have not said yet that they know the own opening.
    unvouched: BTreeSet<NodeId>,
    /// When the own node began to listen.
    begun_ms: u64,
    /// Those that an operator has barred from new sessions of this node.
    cordoned: BTreeSet<NodeId>,
    /// The memberships that are on disk.
    stored: BTreeMap<NodeId, Membership>,
    left: LeftNodes,
    /// Those of whom only others say that they have left, and when that was said last.
    hints: BTreeMap<NodeId, u64>,
    /// Those that have forgotten the own node in its present membership.
    forgotten_by: BTreeSet<NodeId>,
    /// While the own node drains: how many instances are open at each node that still need it.
    answers: BTreeMap<NodeId, u64>,
    /// What was counted here for others that drain, at which of their offers.
    counted: BTreeMap<NodeId, ((Membership, u64), u64)>,
    /// Those that have on disk that the own node has left.
    aware: BTreeSet<NodeId>,
    /// How many starts are under way here that have cast a node, and are not in the store yet.
    placed: Counts,
}

/// See the module's documentation.
pub(crate) struct Peers {
    known: Arc<Mutex<Known>>,
    /// Until then, nodes that are up and have not been heard may still be.
    hearing_until: Instant,
    /// Wakes in the order of asking (a watch channel does not, which would make a simulation run differently).
    changed: Notify,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that can panic runs under these locks.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What has come of an offer.
#[derive(Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(crate) struct Learned {
    /// What is to be stored.
    pub(crate) changes: Batch,
    /// Those that have left, to be told on once that is on disk.
    pub(crate) left: Vec<Left>,
    /// Those of whom it says that they have left, which is news here, and no more than a hint.
    pub(crate) hints: Vec<NodeId>,
    /// It has forgotten the own node, which has not left: that is news here.
    pub(crate) forgets_own: bool,
    /// The sender's membership, if that is not on disk yet: it is answered once more when it is.
    pub(crate) unstored: Option<Membership>,
    /// The sender is on disk here in another membership, and has not said that it begins anew: it was not heard, and has to be
    /// told which one is known.
    pub(crate) is_other: bool,
    /// Nothing more can be kept in mind, and the sender is not.
    pub(crate) is_one_too_many: bool,
    /// The sender has the own node on disk in another membership, though nobody said that the own node begins anew.
    pub(crate) knows_other: bool,
    /// Another store than the one that is known, or two of them: the sender has to be told.
    pub(crate) is_disputed: bool,
    /// The offer was not taken, nor is anything else of this sender.
    pub(crate) is_refused: bool,
    /// What the operator has to be told of the sender's store.
    pub(crate) store: Option<PeerStore>,
    /// An operator has accepted an older copy of the sender's store.
    pub(crate) is_restored: bool,
    /// Why the own node has to stop, as the sender says.
    pub(crate) halt: Option<Halt>,
}

impl Peers {
    /// Within `hearing`, every node that is up says what it offers, and at least as often again.
    pub(crate) fn new(node: NodeId, offer: Offer, hearing: Duration, now_ms: u64) -> Self {
        let own = Own { membership: offer.membership, change: 0, draining: false, fresh: false };
        let known = Known {
            node: node.clone(),
            own,
            asked: own,
            peers: BTreeMap::from([(node.clone(), Peer { mutual: true, ..offer.into() })]),
            heard: BTreeMap::from([(node, 0)]),
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
            left: LeftNodes::default(),
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

    /// A node has said what it offers, and what it knows of others.
    pub(crate) fn learn(&self, node: &NodeId, mut offer: Offer, now_ms: u64) -> Learned {
        let mut learned = Learned::default();
        // What it says of itself is true; what it says of others is a hint.
        let left = std::mem::take(&mut offer.left);
        let (left, of_others): (Vec<_>, Vec<_>) = left.into_iter().partition(|left| left.node == *node);
        {
            let mut known = self.lock();
            let membership = known.own.membership;
            learned.is_other = !offer.fresh && known.stored.get(node).is_some_and(|stored| *stored != offer.membership);
            // Of one that has left the sessions go on that it has.
            let has_left = known.left.has(node, offer.membership);
            learned.is_refused = learned.is_other || (!has_left && !known.judge(node, &offer, now_ms, &mut learned));
            if !learned.is_refused && !has_left {
                // Only those say what this node is whose own offer is taken.
                learned.knows_other = !known.own.fresh && offer.knows.is_some_and(|knows| knows != membership);
                learned.halt = Self::halt_of(node, known.generation, membership, offer.dispute.take());
                if offer.accepts == Some(known.generation.id) {
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
            known.note_needs(node, &offer.needs);
            learned.hints = known.note_hints(node, &of_others, now_ms);
            learned.forgets_own = known.note_own_left(node, &of_others);
            let membership = known.own.membership;
            if !known.left.has(node, offer.membership) {
                let (mutual, peer) = (offer.knows == Some(membership), offer.into());
                learned.changes.extend(known.take(node, Peer { mutual, ..peer }, now_ms));
                let taken = known.peers.get(node).map(|peer| peer.membership);
                learned.is_one_too_many = taken.is_none();
                learned.unstored = taken.filter(|taken| known.stored.get(node) != Some(taken));
            }
        }
        self.changed.notify_waiters();
        learned
    }

    /// Learns what was stored, and makes a fresh store a member; with `fresh`, in the place of another one under its name.
    /// Returns what is to be on disk before anybody hears of it.
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
        known.left = LeftNodes::restore(store)?;
        known.cordoned = restore_cordoned(store)?;
        for (key, value) in store.scan(Space::Meta, NODE_KEY, None, PEERS_MAX)? {
            let peer: Peer = read_value(Space::Meta, &value)?;
            if let Some(node) = node_of_key(NODE_KEY, &key) {
                known.stored.insert(node.clone(), peer.membership);
                known.peers.entry(node).or_insert(peer);
            }
        }
        let stored: Option<Own> =
            store.get(Space::Meta, STANDING_KEY)?.map(|value| read_value(Space::Meta, &value)).transpose()?;
        known.own = stored.unwrap_or(Own { membership, ..known.own });
        known.own.fresh |= fresh;
        known.asked = known.own;
        known.note_standing();
        known.unvouched = known.peers.keys().filter(|node| **node != known.node).cloned().collect();
        Ok(if stored == Some(known.own) { Batch::new() } else { known.own.stored() })
    }

    /// Waits until all nodes that were known at the start have said that they take the own store for the known one, and at most for so
    /// long: they may be down.
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
        // Those that were not heard are not waited for again.
        let _ = tokio::time::timeout(at_most, all).await;
        self.lock().unvouched.clear();
    }

    /// This node is on disk, in this membership.
    pub(crate) fn stored(&self, node: &NodeId, membership: Membership) {
        let mut known = self.lock();
        if known.peers.get(node).is_some_and(|peer| peer.membership == membership) {
            known.stored.insert(node.clone(), membership);
        }
    }

    /// Adds to an offer of the own node, to all or `to` one, how it stands, and what it knows of others. One that may not be
    /// cast yet is asked.
    pub(crate) fn complete(&self, mut offer: Offer, to: Option<&NodeId>, batch: u64, now_ms: u64) -> Offer {
        let mut known = self.lock();
        offer.generation = Generation { batch, ..known.generation };
        offer.dispute = match to.filter(|to| **to != known.node) {
            Some(to) => known.openings.dispute(to, now_ms),
            None => known.own_dispute(now_ms),
        };
        if let Some(to) = to {
            offer.accepts = known.openings.known(to);
            offer.knows = known.stored.get(to).copied();
            // Not before it is on disk here, or the two would ask each other until then.
            let asks = |peer: &Peer| !peer.mutual && !peer.roles.is_empty() && offer.knows == Some(peer.membership);
            offer.ask = known.peers.get(to).is_some_and(asks);
        }
        let Own { membership, change, draining, fresh } = known.own;
        (offer.membership, offer.change, offer.draining, offer.fresh) = (membership, change, draining, fresh);
        (offer.left, offer.needs) = (known.left.told(), known.needs());
        offer
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

    /// How many starts are under way that have cast each node.
    pub(crate) fn placed(&self) -> Counts {
        self.lock().placed.clone()
    }

    /// The highest of `versions` (which come so) that the nodes known can play, and who plays what; see [`Known::cast`].
    /// A version whose cast was received from lately comes before a higher one for which a node is needed that was not.
    /// All at one moment: an offer that came between two of them would make a start miss the higher one. The cast is held
    /// from the same moment on: what is counted for a node that drains after it knows of this start. Nothing for a node
    /// that takes no new sessions itself.
    pub(crate) fn choose(
        &self,
        session: SessionId,
        versions: &[Arc<dyn AnyChoreography>],
        now_ms: u64,
        may_play: impl Fn(&NodeId, &str) -> bool,
    ) -> Result<Choice, Standing> {
        let mut known = self.lock();
        let (own, standing) = (known.node.clone(), known.standing());
        if standing != Standing::Serving {
            return Err(standing);
        }
        let is_hearing = Instant::now() < self.hearing_until;
        known.forget_hints(now_ms);
        let liveliness = |node: &NodeId| known.liveliness(node, now_ms, is_hearing);
        let is_lively = |node: &NodeId| liveliness(node) > Liveliness::Gone;
        let mut choice = Choice { cast: None, gaps: Vec::new(), hear_until: None };
        for (index, choreography) in versions.iter().enumerate() {
            match known.cast(session, choreography.as_ref(), &own, liveliness, &may_play) {
                Ok(cast) if cast.nodes.iter().all(is_lively) => {
                    choice.cast = Some((index, cast));
                    break;
                }
                // The highest one, unless a lower one is found that need not wait for anybody.
                Ok(cast) => drop(choice.cast.get_or_insert((index, cast))),
                Err(gap) if choice.cast.is_none() => choice.gaps.push(gap),
                Err(_) => {}
            }
        }
        let may_hear = choice.gaps.iter().any(|gap| known.has_unheard(gap.role)) && is_hearing;
        let is_guess = choice.cast.as_ref().is_some_and(|(_, cast)| cast.is_guess);
        choice.hear_until = (may_hear || is_guess).then_some(self.hearing_until);
        if let Some((_, cast)) = &mut choice.cast {
            for node in &cast.nodes {
                *known.placed.entry(node.clone()).or_default() += 1;
            }
            cast.placed = Some(Placed::new(cast.nodes.clone(), self.known.clone()));
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

/// The node whose name follows `prefix` in a stored key, if it is one.
fn node_of_key(prefix: &[u8], key: &[u8]) -> Option<NodeId> {
    let name = String::from_utf8_lossy(key.strip_prefix(prefix)?).into_owned();
    NodeId::new(name).ok()
}

impl Known {
    /// Whether an offer comes from the store that is known of its sender, as far as that can be told.
    fn judge(&mut self, node: &NodeId, offer: &Offer, now_ms: u64, learned: &mut Learned) -> bool {
        let verdict = self.openings.judge(node, offer.membership, offer.generation, now_ms);
        if let Some(dispute) = &offer.dispute {
            self.openings.note_dispute(node, offer.generation, dispute, now_ms);
        }
        learned.is_disputed = self.openings.dispute(node, now_ms).is_some();
        learned.store = self.openings.say(node, now_ms);
        learned.is_restored = verdict == Verdict::Taken { restored: true };
        verdict != Verdict::Refused
    }

    /// Takes in what a node offers. Gives what has to be stored, if that is news.
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
                return Batch::new(); // It comes late.
            }
            if before.membership != peer.membership {
                tracing::warn!(%node, "a node begins anew under its name with another store");
                self.answers.remove(node);
                self.aware.remove(node);
                self.stored.remove(node);
            }
        }
        let is_news = before != Some(&peer);
        self.heard.insert(node.clone(), now_ms);
        changes.extend(self.openings.due_change(node, now_ms));
        self.hints.remove(node); // It speaks for itself.
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
    use accompanist_core::frame::Offered;

    use super::*;

    #[test]
    fn strangers_do_not_fill_the_memory() {
        let offer = |role: &str| Offer { roles: vec![role.into()], ..Offer::default() };
        let is_stored = |learned: Learned| !learned.changes.is_empty();
        let node = |number: usize| NodeId::new(format!("node-{number}")).unwrap();
        // Nobody is silent yet, and so nobody makes room.
        let peers = Peers::new(NodeId::new("own").unwrap(), offer("shop"), Duration::from_secs(3), 0);
        let stored = (0..2 * PEERS_MAX).filter(|number| is_stored(peers.learn(&node(*number), offer("bank"), 0)));
        assert_eq!(stored.count() + 1, PEERS_MAX); // Itself is not stored.
        let kept = {
            let known = peers.lock();
            [known.peers.len(), known.heard.len()]
        };
        assert_eq!(kept, [PEERS_MAX, PEERS_MAX]);
        // What is known may still change.
        assert!(!is_stored(peers.learn(&node(1), offer("bank"), 0)));
        assert!(is_stored(peers.learn(&node(1), offer("shop"), 0)));
    }

    /// They are in stores that later releases read.
    #[test]
    fn the_bytes_of_what_is_stored_stay() {
        let offered = Offered { choreography: "sale".into(), version: 2, patches: vec!["p".into()] };
        let roles = vec!["bank".into()];
        let generation = Generation { restores: 1, number: 2, id: 3, opened: 4, batch: 5 };
        let offer =
            Offer { membership: Membership(300), change: 3, draining: true, roles, generation, ..Offer::default() };
        let peers = Peers::new(NodeId::new("own").unwrap(), Offer::default(), Duration::ZERO, 0);
        let left = Left { at_unix_ms: 1_000, node: NodeId::new("n2").unwrap(), membership: Membership(299) };
        let knows = Some(Membership(0));
        let news = Offer { choreographies: vec![offered], knows, left: vec![left], ..offer };
        let mut changes = peers.learn(&NodeId::new("n2").unwrap(), news, 0).changes;
        changes.extend(Own { membership: Membership(300), change: 3, draining: true, fresh: false }.stored());
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
