//! The nodes that have left, as reported by themselves or by an operator of this node: no one else is believed
//! (decision 0031). A set that only grows, up to a bound, independent of the order of arrival.
//!
//! Above the bound, those that left first are dropped.

use std::collections::BTreeMap;

use accompanist_core::NodeId;
use accompanist_core::contract::{Batch, Change, Space, Store, StoreError};
use accompanist_core::frame::{Left, Membership, NODES_PER_ADVERTISEMENT_MAX};
use accompanist_core::record::{read_value, value_bytes};

/// The prefix of the keys of these nodes in [`Space::Meta`].
const LEFT_KEY: &[u8] = b"left/";
/// The most that are kept. A node that was away while this many others left may still cast one that left before them.
pub(super) const LEFT_MAX: usize = 1_024;

/// The nodes that have left; see the module's documentation.
#[derive(Default)]
pub(super) struct DepartedNodes {
    /// In the order of leaving, each with whether it is on disk: only then others are informed.
    nodes: BTreeMap<Left, bool>,
    /// Where the part that is sent in rotation continues.
    turn: usize,
}

fn key(left: &Left) -> Vec<u8> {
    [LEFT_KEY, left.node.as_str().as_bytes(), b"/", &left.membership.0.to_be_bytes()].concat()
}

impl DepartedNodes {
    pub(super) fn has(&self, node: &NodeId, membership: Membership) -> bool {
        self.find(node, membership).is_some()
    }

    fn find(&self, node: &NodeId, membership: Membership) -> Option<&Left> {
        self.nodes.keys().find(|left| left.node == *node && left.membership == membership)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &NodeId> {
        self.nodes.keys().map(|left| &left.node)
    }

    /// Adds a node, if that is new. Returns what is to be stored.
    pub(super) fn add(&mut self, left: &Left) -> Batch {
        // A node that two others have forgotten separately is kept everywhere with the later time.
        let known = self.find(&left.node, left.membership).cloned();
        if known.as_ref().is_some_and(|known| known >= left) {
            return Batch::new();
        }
        let Ok(value) = value_bytes(left) else { return Batch::new() };
        if let Some(known) = known {
            self.nodes.remove(&known);
        }
        self.nodes.insert(left.clone(), false);
        let mut changes = vec![Change { space: Space::Meta, key: key(left), value: Some(value) }];
        if self.nodes.len() > LEFT_MAX
            && let Some((oldest, _)) = self.nodes.pop_first()
        {
            changes.push(Change { space: Space::Meta, key: key(&oldest), value: None });
        }
        changes
    }

    /// Notes that these nodes are on disk.
    pub(super) fn stored(&mut self, lefts: &[Left]) {
        for left in lefts {
            if let Some(stored) = self.nodes.get_mut(left) {
                *stored = true;
            }
        }
    }

    /// Returns the nodes for an advertisement: half of it the latest ones, half of it the others in rotation.
    pub(super) fn report(&mut self) -> Vec<Left> {
        let stored = || self.nodes.iter().rev().filter(|(_, stored)| **stored).map(|(left, _)| left);
        let mut report: Vec<Left> = stored().take(NODES_PER_ADVERTISEMENT_MAX / 2).cloned().collect();
        let rest = stored().count() - report.len();
        if rest > 0 {
            let others = stored().skip(report.len()).cycle().skip(self.turn % rest);
            report.extend(others.take(rest.min(NODES_PER_ADVERTISEMENT_MAX / 2)).cloned());
            self.turn = (self.turn + NODES_PER_ADVERTISEMENT_MAX / 2) % rest;
        }
        report
    }

    pub(super) fn restore(store: &dyn Store) -> Result<Self, StoreError> {
        let mut nodes = BTreeMap::new();
        for (_, value) in store.scan(Space::Meta, LEFT_KEY, None, LEFT_MAX)? {
            nodes.insert(read_value(Space::Meta, &value)?, true);
        }
        Ok(Self { nodes, turn: 0 })
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn left(number: usize) -> Left {
        let node = NodeId::new(format!("node-{number}")).unwrap();
        Left { at_unix_ms: number as u64, node, membership: Membership(7) }
    }

    #[test]
    fn departed_nodes_converge_in_any_order_of_arrival() {
        let all: Vec<Left> = (0..LEFT_MAX + 100).map(left).collect();
        let mut heard = [DepartedNodes::default(), DepartedNodes::default()];
        for (one, other) in all.iter().zip(all.iter().rev()) {
            heard[0].add(one);
            heard[1].add(other);
        }
        let kept = |nodes: &DepartedNodes| nodes.nodes.keys().cloned().collect::<Vec<_>>();
        assert_eq!(kept(&heard[0]), all[100..]);
        assert_eq!(kept(&heard[0]), kept(&heard[1]));
        // A dropped node is not added again, and a known one is nothing new.
        assert!(heard[0].add(&all[500]).is_empty());
        let again = heard[0].add(&all[0]);
        assert!(again.iter().all(|change| change.key == key(&all[0])) && again.last().unwrap().value.is_none());
        assert_eq!(kept(&heard[0]), all[100..]);
    }

    #[test]
    fn departed_nodes_are_advertised_in_rotation_once_stored() {
        let all: Vec<Left> = (0..500).map(left).collect();
        let mut nodes = DepartedNodes::default();
        for left in &all {
            nodes.add(left);
        }
        assert!(nodes.report().is_empty());
        nodes.stored(&all);
        let mut told = BTreeSet::new();
        for _ in 0..all.len().div_ceil(NODES_PER_ADVERTISEMENT_MAX / 2) {
            let now = nodes.report();
            assert!(now.len() <= NODES_PER_ADVERTISEMENT_MAX && now.contains(&all[499]), "{}", now.len());
            told.extend(now);
        }
        assert_eq!(told.len(), all.len());
    }

    #[test]
    fn a_node_forgotten_twice_is_kept_once() {
        let (early, late) = (left(1), Left { at_unix_ms: 9, ..left(1) });
        let mut nodes = DepartedNodes::default();
        for left in [&early, &late, &early] {
            nodes.add(left);
        }
        assert_eq!(nodes.nodes.keys().collect::<Vec<_>>(), [&late]);
        assert!(nodes.has(&late.node, Membership(7)) && !nodes.has(&late.node, Membership(8)));
    }
}
