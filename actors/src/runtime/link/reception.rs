//! The rounds received from other nodes, so that the next advertisements can report to each node what was last
//! received from it. Pure.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use accompanist_core::NodeId;
use accompanist_core::frame::{Epoch, NODES_PER_ADVERTISEMENT_MAX, Reception, Round};

use crate::peers::PEERS_MAX;

/// The rounds received from other nodes; see the module's documentation.
#[derive(Default)]
pub(super) struct Receptions {
    of: BTreeMap<NodeId, Reception>,
    /// The index of the next node to be reported, when there are too many for one advertisement.
    turn: usize,
}

impl Receptions {
    /// Notes a packet of this node, which is introduced in this epoch. Another epoch starts from nothing.
    pub(super) fn note(&mut self, from: &NodeId, epoch: Epoch, round: Round) {
        let is_full = self.of.len() >= PEERS_MAX;
        let reception = match self.of.entry(from.clone()) {
            // No system has this many nodes: unknown senders forge names.
            Entry::Vacant(_) if is_full => return,
            Entry::Vacant(place) => place.insert(nothing(from, epoch)),
            Entry::Occupied(place) => place.into_mut(),
        };
        if reception.epoch != epoch {
            *reception = nothing(from, epoch);
        }
        let (last, round) = match round {
            Round::Direct(round) => (&mut reception.direct, round),
            Round::Broadcast(round) => (&mut reception.broadcast, round),
        };
        *last = round.max(*last); // Packets overtake each other.
    }

    /// Forgets nodes that are not `known` once names are running out.
    pub(super) fn make_room(&mut self, known: impl Fn(&NodeId) -> bool) {
        if self.of.len() >= PEERS_MAX {
            self.of.retain(|node, _| known(node));
        }
    }

    /// Returns the report for the next advertisement: on all nodes, or on some of them in rotation.
    pub(super) fn report(&mut self) -> Vec<Reception> {
        let (of, count) = (self.of.len(), self.of.len().min(NODES_PER_ADVERTISEMENT_MAX));
        let report = self.of.values().cycle().skip(self.turn).take(count).cloned().collect();
        self.turn = (self.turn + count).checked_rem(of).unwrap_or_default();
        report
    }
}

fn nothing(from: &NodeId, epoch: Epoch) -> Reception {
    Reception { node: from.clone(), epoch, direct: 0, broadcast: 0 }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn node(number: usize) -> NodeId {
        NodeId::new(format!("node-{number}")).unwrap()
    }

    #[test]
    fn the_latest_rounds_of_the_latest_epoch_are_reported() {
        let mut receptions = Receptions::default();
        let packets =
            [(7, Round::Broadcast(1)), (7, Round::Direct(3)), (7, Round::Direct(2)), (7, Round::Broadcast(4))];
        for (epoch, round) in packets {
            receptions.note(&node(1), Epoch(epoch), round);
        }
        assert_eq!(receptions.report(), [Reception { node: node(1), epoch: Epoch(7), direct: 3, broadcast: 4 }]);
        receptions.note(&node(1), Epoch(8), Round::Direct(1)); // The node has restarted.
        assert_eq!(receptions.report(), [Reception { node: node(1), epoch: Epoch(8), direct: 1, broadcast: 0 }]);
    }

    #[test]
    fn many_nodes_are_reported_in_turn() {
        let mut receptions = Receptions::default();
        assert!(receptions.report().is_empty());
        for number in 0..150 {
            receptions.note(&node(number), Epoch(1), Round::Direct(1));
        }
        let reports = [(); 3].map(|()| receptions.report());
        assert!(reports.iter().all(|report| report.len() == NODES_PER_ADVERTISEMENT_MAX));
        let nodes: BTreeSet<_> = reports.iter().flatten().map(|reception| &reception.node).collect();
        assert_eq!(nodes.len(), 150);
    }

    #[test]
    fn forged_names_are_bounded() {
        let mut receptions = Receptions::default();
        (0..2 * PEERS_MAX).for_each(|number| receptions.note(&node(number), Epoch(1), Round::Direct(1)));
        assert_eq!(receptions.of.len(), PEERS_MAX);
        receptions.make_room(|known| *known == node(1));
        receptions.note(&node(PEERS_MAX), Epoch(1), Round::Direct(1));
        receptions.note(&node(1), Epoch(1), Round::Direct(2));
        assert_eq!(receptions.report().len(), 2);
    }
}
