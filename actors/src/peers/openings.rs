//! The last known state of other nodes' stores, as they have reported it. An advertisement from a store that was
//! further before is refused, and so is that of a second opening beside the known one (decisions 0033 and 0034).
//!
//! What is known of each node is in memory, and on disk whenever the opening changes and about once a minute. Pure
//! except for its own state; `own_name.rs` handles senders that use this node's name.

use std::collections::BTreeMap;

use accompanist_core::NodeId;
use accompanist_core::contract::{Change, Space, Store, StoreError};
use accompanist_core::frame::{Dispute, Generation, Membership};
use accompanist_core::record::{read_value, value_bytes};
use serde::{Deserialize, Serialize};

use super::PEERS_MAX;
use super::peer::node_of_key;
use crate::store::OPENING_KEY;

/// The least time between two records of the progress of a store that has not been opened anew. A copy that lacks
/// what a peer did within this time may go unnoticed if this node restarts, too.
const STORED_PERIOD_MS: u64 = 60_000;
/// An opening is at work if it is still received after more than this many advertisement periods, and in
/// `LIVE_ADVERTISEMENTS` advertisements.
pub(super) const LIVE_PERIODS: u64 = 2;
const LIVE_ADVERTISEMENTS: u64 = 3;
/// For how many advertisement periods after its last packet a refused opening is shown.
const SHOWN_PERIODS: u64 = 10;
/// How many formerly known openings are remembered: packets from them may only be late.
const FORMER_MAX: usize = 8;
/// The least time between two equal reports to the operator.
const SAID_PERIOD_MS: u64 = 60_000;

/// The store that a peer has, as far as this node can tell; see [`Operator::peers`](crate::Operator::peers).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum PeerStore {
    /// The known store, or the one that the peer was introduced with.
    #[default]
    Known,
    /// A node of the peer's name runs with an older copy of the known store, or with another one. Nothing from it is
    /// accepted.
    GoneBack {
        /// The opening of the refused store.
        refused: Generation,
        /// The known opening.
        known: Generation,
    },
    /// Two nodes of the peer's name are at work on two copies of one store. Both are asked to stop, until an operator
    /// chooses.
    TwoOwners {
        /// The opening of the node that is refused.
        refused: Generation,
        /// The opening of the other node, which was known.
        known: Generation,
    },
}

/// The stored form of what is known of a node's store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct SeenOpening {
    membership: Membership,
    generation: Generation,
}

/// An opening that is not accepted as the known one.
#[derive(Debug, Clone, Copy)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
struct Refused {
    generation: Generation,
    since_ms: u64,
    last_ms: u64,
    advertisements: u64,
    /// Whether it was the known one once: its packets may only be late.
    is_former: bool,
    /// Whether it is certain enough to inform the sender.
    is_told: bool,
    /// Whether its packets are not late ones of an earlier start.
    is_live: bool,
    both_live: bool,
}

struct StoreOpening {
    seen: SeenOpening,
    stored: Option<(SeenOpening, u64)>,
    /// The openings that were known before, the latest last.
    former: Vec<u128>,
    refused: Option<Refused>,
    /// The last report to the operator, and its time.
    said: Option<(PeerStore, u64)>,
}

/// The result of judging an advertisement by the opening that it names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The advertisement is accepted. With `restored`, an operator has accepted an older copy there.
    Taken { restored: bool },
    /// The advertisement is not accepted, and its sender is informed.
    Refused,
}

/// The openings of other nodes' stores; see the module's documentation.
#[derive(Default)]
pub(super) struct Openings {
    of: BTreeMap<NodeId, StoreOpening>,
    period_ms: u64,
}

impl Openings {
    pub(super) fn restore(store: &dyn Store, period_ms: u64) -> Result<Self, StoreError> {
        let mut of = BTreeMap::new();
        for (key, value) in store.scan(Space::Meta, OPENING_KEY, None, PEERS_MAX)? {
            let seen: SeenOpening = read_value(Space::Meta, &value)?;
            if let Some(node) = node_of_key(OPENING_KEY, &key) {
                of.insert(node, StoreOpening::new(seen, Some((seen, 0))));
            }
        }
        Ok(Self { of, period_ms })
    }

    /// Judges an advertisement by the opening of the sender's store that it names.
    pub(super) fn judge(&mut self, node: &NodeId, membership: Membership, offered: Generation, now_ms: u64) -> Verdict {
        let seen = SeenOpening { membership, generation: offered };
        let (period_ms, is_full) = (self.period_ms, self.of.len() >= PEERS_MAX);
        let Some(opening) = self.of.get_mut(node) else {
            if !is_full {
                self.of.insert(node.clone(), StoreOpening::new(seen, None));
            }
            return Verdict::Taken { restored: false };
        };
        let known = opening.seen.generation;
        if opening.seen.membership != membership {
            // The node was begun anew knowingly; otherwise its membership would have been refused.
            opening.follow(seen);
            return Verdict::Taken { restored: false };
        }
        if offered.is_same(&known) {
            if offered.batch >= known.batch {
                opening.seen = seen;
                opening.note_known(now_ms, period_ms);
                return Verdict::Taken { restored: false };
            }
            // The packet was overtaken, or the process itself was set back, as a virtual machine can be.
            let goes_on = opening.note_refused(offered, now_ms, period_ms);
            return if goes_on { Verdict::Refused } else { Verdict::Taken { restored: false } };
        }
        let restored = offered.restores > known.restores;
        if restored || (offered.order() > known.order() && offered.opened >= known.batch) {
            opening.follow(seen);
            return Verdict::Taken { restored };
        }
        opening.note_refused(offered, now_ms, period_ms);
        Verdict::Refused
    }

    /// Handles a node's report that there is another opening under its own name. The earlier of the two thereby
    /// proves that it is at work: the later one's number is drawn at random when it begins.
    pub(super) fn note_dispute(&mut self, node: &NodeId, offered: Generation, dispute: &Dispute, now_ms: u64) {
        let of_node = self.of.get_mut(node).filter(|opening| opening.seen.membership == dispute.membership);
        let (Some(opening), true) = (of_node, dispute.known.is_same(&offered)) else { return };
        let (known, other) = (opening.seen.generation, dispute.refused);
        let refused = match (offered.is_same(&known), other.is_same(&known)) {
            (true, _) => other,
            (_, true) => offered,
            _ => return,
        };
        if dispute.both_live || offered.order() <= other.order() {
            let mut refused = opening.refused_of(refused, now_ms);
            (refused.last_ms, refused.is_told, refused.is_live) = (now_ms, true, true);
            refused.both_live |= dispute.both_live;
            opening.refused = Some(refused);
        }
    }

    /// Returns what nodes of this name have to be informed of: that one of them is refused, or that both have to
    /// stop.
    pub(super) fn dispute(&self, node: &NodeId, now_ms: u64) -> Option<Dispute> {
        let StoreOpening { seen, refused, .. } = self.of.get(node)?;
        let shown_ms = self.period_ms.saturating_mul(SHOWN_PERIODS);
        let is_shown = |refused: &Refused| refused.is_told && now_ms.saturating_sub(refused.last_ms) <= shown_ms;
        let Refused { generation, both_live, .. } = refused.filter(is_shown)?;
        Some(Dispute { membership: seen.membership, refused: generation, known: seen.generation, both_live })
    }

    /// Returns which store a node has.
    pub(super) fn store_of(&self, node: &NodeId, now_ms: u64) -> PeerStore {
        let Some(Dispute { refused, known, both_live, .. }) = self.dispute(node, now_ms) else {
            return PeerStore::Known;
        };
        let is_former = self.of.get(node).and_then(|opening| opening.refused).is_some_and(|refused| refused.is_former);
        match (both_live, is_former) {
            (true, _) => PeerStore::TwoOwners { refused, known },
            (false, true) => PeerStore::Known,
            (false, false) => PeerStore::GoneBack { refused, known },
        }
    }

    /// Returns the report on a node's store that is due to the operator: on each change, and periodically while the
    /// problem lasts.
    pub(super) fn say(&mut self, node: &NodeId, now_ms: u64) -> Option<PeerStore> {
        let store = self.store_of(node, now_ms);
        let opening = self.of.get_mut(node)?;
        if store == PeerStore::Known {
            opening.said = None;
            return None;
        }
        let is_known = |said: &PeerStore| std::mem::discriminant(said) == std::mem::discriminant(&store);
        if opening.said.is_some_and(|(said, at_ms)| is_known(&said) && now_ms.saturating_sub(at_ms) < SAID_PERIOD_MS) {
            return None;
        }
        opening.said = Some((store, now_ms));
        Some(store)
    }

    /// Returns how many nodes have another store than the known one.
    pub(super) fn disputed(&self, now_ms: u64) -> usize {
        self.of.keys().filter(|node| self.store_of(node, now_ms) != PeerStore::Known).count()
    }

    /// Returns the known opening of a node.
    pub(super) fn known(&self, node: &NodeId) -> Option<u128> {
        self.of.get(node).map(|opening| opening.seen.generation.id)
    }

    /// Returns what has to be stored now about a node, and notes it as stored.
    pub(super) fn due_change(&mut self, node: &NodeId, now_ms: u64) -> Option<Change> {
        let opening = self.of.get_mut(node)?;
        let seen = opening.seen;
        let is_due = opening.stored.is_none_or(|(stored, at_ms)| {
            let is_new = stored.membership != seen.membership || !stored.generation.is_same(&seen.generation);
            is_new || (stored != seen && now_ms.saturating_sub(at_ms) >= STORED_PERIOD_MS)
        });
        if !is_due {
            return None;
        }
        let value = value_bytes(&seen).ok()?;
        opening.stored = Some((seen, now_ms));
        Some(Change { space: Space::Meta, key: key(node), value: Some(value) })
    }

    /// Forgets a node that has left. Returns what has to be stored.
    pub(super) fn forget(&mut self, node: &NodeId) -> Option<Change> {
        self.of.remove(node)?;
        Some(Change { space: Space::Meta, key: key(node), value: None })
    }
}

/// Returns whether an opening that was received over this time, in this many advertisements, is at work, and its
/// packets are not late ones.
pub(super) fn is_at_work(time_ms: u64, advertisements: u64, period_ms: u64) -> bool {
    time_ms > period_ms.saturating_mul(LIVE_PERIODS) && advertisements >= LIVE_ADVERTISEMENTS
}

fn key(node: &NodeId) -> Vec<u8> {
    [OPENING_KEY, node.as_str().as_bytes()].concat()
}

impl StoreOpening {
    fn new(seen: SeenOpening, stored: Option<(SeenOpening, u64)>) -> Self {
        Self { seen, stored, former: Vec::new(), refused: None, said: None }
    }

    /// Makes this opening the known one.
    fn follow(&mut self, seen: SeenOpening) {
        self.former.push(self.seen.generation.id);
        if self.former.len() > FORMER_MAX {
            self.former.remove(0);
        }
        (self.seen, self.refused) = (seen, None);
    }

    /// Notes that a packet of the known opening was received.
    fn note_known(&mut self, now_ms: u64, period_ms: u64) {
        let known = self.seen.generation;
        let Some(refused) = &mut self.refused else { return };
        let silent_ms = now_ms.saturating_sub(refused.last_ms);
        if refused.generation.is_same(&known) || silent_ms > period_ms.saturating_mul(SHOWN_PERIODS) {
            self.refused = None;
        } else if refused.is_live && silent_ms <= period_ms.saturating_mul(LIVE_PERIODS) {
            refused.both_live = true;
        }
    }

    fn refused_of(&self, generation: Generation, now_ms: u64) -> Refused {
        let before = self.refused.filter(|before| before.generation.is_same(&generation));
        let is_former = self.former.contains(&generation.id);
        before.unwrap_or(Refused {
            generation,
            since_ms: now_ms,
            last_ms: now_ms,
            advertisements: 0,
            is_former,
            is_told: false,
            // An earlier opening may have ended before it was first received here; a late packet of it proves
            // nothing.
            is_live: !is_former && generation.order() >= self.seen.generation.order(),
            both_live: false,
        })
    }

    /// Notes that an opening was received which is not the known one, or not as far. Returns whether that goes on.
    fn note_refused(&mut self, generation: Generation, now_ms: u64, period_ms: u64) -> bool {
        let known = self.seen.generation;
        let mut refused = self.refused_of(generation, now_ms);
        (refused.generation, refused.last_ms, refused.advertisements) =
            (generation, now_ms, refused.advertisements.saturating_add(1));
        let goes_on = is_at_work(now_ms.saturating_sub(refused.since_ms), refused.advertisements, period_ms);
        refused.is_told |= goes_on || !generation.is_same(&known);
        refused.is_live |= goes_on;
        refused.both_live |= goes_on && refused.is_former;
        self.refused = Some(refused);
        goes_on
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use accompanist_core::contract::Store as _;

    use super::*;
    use crate::store::MemoryDisk;

    const PERIOD_MS: u64 = 1_000;
    const TAKEN: Verdict = Verdict::Taken { restored: false };

    fn bank() -> NodeId {
        NodeId::new("bank").unwrap()
    }

    fn openings() -> Openings {
        Openings::restore(&MemoryDisk::default().open().unwrap(), PERIOD_MS).unwrap()
    }

    fn opening(number: u64, id: u128, opened: u64, batch: u64) -> Generation {
        Generation { restores: 0, number, id, opened, batch }
    }

    fn judge(openings: &mut Openings, offered: Generation, now_ms: u64) -> Verdict {
        openings.judge(&bank(), Membership(7), offered, now_ms)
    }

    #[test]
    fn a_late_packet_of_an_unknown_earlier_opening_is_no_second_owner() {
        let mut openings = openings();
        judge(&mut openings, opening(5, 5, 90, 100), 0);
        assert_eq!(judge(&mut openings, opening(4, 4, 70, 80), 1), Verdict::Refused);
        assert_eq!(judge(&mut openings, opening(5, 5, 90, 101), 2), TAKEN);
        assert!(openings.dispute(&bank(), 3).is_some_and(|dispute| !dispute.both_live));
        // An opening that does not begin earlier is another one.
        assert_eq!(judge(&mut openings, opening(5, 6, 90, 100), 4), Verdict::Refused);
        assert_eq!(judge(&mut openings, opening(5, 5, 90, 102), 5), TAKEN);
        assert!(openings.dispute(&bank(), 6).is_some_and(|dispute| dispute.both_live));
    }

    /// Checks the verdict on an advertisement that follows one of opening 5 with batch 100.
    fn check(offered: Generation, expected: Verdict) {
        let mut openings = openings();
        assert_eq!(judge(&mut openings, opening(5, 50, 80, 100), 0), TAKEN);
        assert_eq!(judge(&mut openings, offered, 10), expected, "{offered:?}");
        let is_refused = expected == Verdict::Refused;
        assert_eq!(openings.dispute(&bank(), 10).is_some(), is_refused, "{offered:?}");
        assert_eq!(matches!(openings.store_of(&bank(), 10), PeerStore::GoneBack { .. }), is_refused, "{offered:?}");
    }

    #[test]
    fn a_later_opening_is_accepted_and_an_older_copy_is_refused() {
        check(opening(5, 50, 80, 100), TAKEN);
        check(opening(5, 50, 80, 170), TAKEN);
        check(opening(6, 60, 100, 101), TAKEN);
        check(opening(9, 60, 100, 500), TAKEN);
        // Overtaken by a later one.
        check(opening(5, 50, 80, 90), TAKEN);
        // An older copy, although it makes progress; a fork; a store that was opened less often.
        check(opening(6, 60, 99, 500), Verdict::Refused);
        check(opening(5, 51, 100, 101), Verdict::Refused);
        check(opening(4, 40, 100, 500), Verdict::Refused);
        let restored = Generation { restores: 1, ..opening(2, 20, 3, 4) };
        check(restored, Verdict::Taken { restored: true });
    }

    #[test]
    fn a_new_membership_is_another_store() {
        let mut openings = openings();
        judge(&mut openings, opening(5, 50, 80, 100), 0);
        assert_eq!(openings.judge(&bank(), Membership(8), opening(1, 10, 0, 1), 1), TAKEN);
        assert_eq!(openings.judge(&bank(), Membership(8), opening(1, 11, 0, 1), 2), Verdict::Refused);
    }

    #[test]
    fn the_same_opening_with_fewer_batches_is_late_unless_it_continues() {
        let mut openings = openings();
        judge(&mut openings, opening(5, 50, 80, 100), 0);
        for now_ms in [10, 20, 30, 2 * PERIOD_MS] {
            assert_eq!(judge(&mut openings, opening(5, 50, 80, 90), now_ms), TAKEN);
            assert_eq!(openings.dispute(&bank(), now_ms), None);
        }
        assert_eq!(judge(&mut openings, opening(5, 50, 80, 91), 2 * PERIOD_MS + 11), Verdict::Refused);
        let dispute = openings.dispute(&bank(), 2 * PERIOD_MS + 11).unwrap();
        assert_eq!((dispute.refused.batch, dispute.known.batch), (91, 100));
        assert_eq!(judge(&mut openings, opening(5, 50, 80, 100), 2 * PERIOD_MS + 12), TAKEN);
        assert_eq!(openings.dispute(&bank(), 2 * PERIOD_MS + 12), None);
    }

    #[test]
    fn an_earlier_opening_is_late_unless_it_continues_or_names_the_later_one() {
        let (first, second) = (opening(5, 50, 80, 100), opening(6, 60, 100, 101));
        let mut late = openings();
        judge(&mut late, first, 0);
        judge(&mut late, second, 10);
        for now_ms in [20, 30, 2 * PERIOD_MS] {
            assert_eq!(judge(&mut late, first, now_ms), Verdict::Refused);
            assert_eq!(judge(&mut late, second, now_ms), TAKEN);
            assert_eq!((late.store_of(&bank(), now_ms), late.say(&bank(), now_ms)), (PeerStore::Known, None));
            let told = late.dispute(&bank(), now_ms).unwrap();
            assert!(told.refused.is_same(&first) && !told.both_live, "who it may be is told");
        }
        let later_ms = 2 * PERIOD_MS + 21;
        judge(&mut late, first, later_ms);
        let two = PeerStore::TwoOwners { refused: first, known: second };
        assert_eq!((late.store_of(&bank(), later_ms), late.say(&bank(), later_ms)), (two, Some(two)));
        assert_eq!(late.say(&bank(), later_ms + 1), None, "once in a while");
        assert_eq!(late.disputed(later_ms), 1);
        assert_eq!(late.store_of(&bank(), later_ms + 11 * PERIOD_MS), PeerStore::Known, "it is silent");

        let mut named = openings();
        judge(&mut named, first, 0);
        judge(&mut named, second, 10);
        let of_first = Dispute { membership: Membership(7), refused: second, known: first, both_live: false };
        // The later one has received the earlier one, whose packet may be late.
        let of_second = Dispute { refused: first, known: second, ..of_first };
        named.note_dispute(&bank(), second, &of_second, 20);
        judge(&mut named, second, 21);
        assert_eq!(named.store_of(&bank(), 21), PeerStore::Known);
        named.note_dispute(&bank(), first, &of_first, 30);
        judge(&mut named, second, 31);
        assert_eq!(named.store_of(&bank(), 31), two);
    }

    #[test]
    fn a_refused_opening_beside_the_known_one_is_a_second_owner() {
        let mut openings = openings();
        let (known, copy) = (opening(5, 50, 80, 100), opening(6, 60, 90, 91));
        judge(&mut openings, known, 0);
        judge(&mut openings, copy, 10);
        assert_eq!(openings.store_of(&bank(), 10), PeerStore::GoneBack { refused: copy, known });
        judge(&mut openings, known, 20);
        assert_eq!(openings.store_of(&bank(), 20), PeerStore::TwoOwners { refused: copy, known });
        assert!(openings.dispute(&bank(), 20).unwrap().both_live);
        // The next start of either ends it, if its store is as far.
        judge(&mut openings, opening(7, 70, 100, 101), 30);
        assert_eq!(openings.store_of(&bank(), 30), PeerStore::Known);
    }

    #[test]
    fn an_opening_is_stored_at_once_when_new_and_otherwise_once_a_minute() {
        let mut openings = openings();
        let mut writes = |offered: Generation, now_ms: u64| {
            judge(&mut openings, offered, now_ms);
            openings.due_change(&bank(), now_ms)
        };
        let first = writes(opening(5, 50, 80, 100), 0).unwrap();
        assert_eq!(writes(opening(5, 50, 80, 100), 70_000), None, "nothing is new");
        assert_eq!(writes(opening(5, 50, 80, 101), 59_999), None);
        assert!(writes(opening(5, 50, 80, 102), 60_000).is_some());
        assert_eq!(writes(opening(5, 50, 80, 103), 60_001), None);
        let last = writes(opening(6, 60, 103, 104), 60_002).unwrap();
        let mut store = MemoryDisk::default().open().unwrap();
        store.apply(vec![first, last]).unwrap();
        let mut restored = Openings::restore(&store, PERIOD_MS).unwrap();
        assert_eq!(judge(&mut restored, opening(7, 70, 103, 110), 0), Verdict::Refused);
        assert_eq!(judge(&mut restored, opening(7, 71, 104, 110), 0), TAKEN);
    }
}
