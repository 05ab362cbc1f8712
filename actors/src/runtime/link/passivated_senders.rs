//! Passivated instances with unacknowledged frames, by the node that has not acknowledged them.
//!
//! The instances are reactivated as their node acknowledges other frames: two for each, so that a node that has
//! returned is soon busy, and a node that is up and acknowledges nothing is tried with one instance at a time. Pure.

use std::collections::{BTreeMap, BTreeSet};

use accompanist_core::NodeId;
use accompanist_core::id::InstanceId;

/// The passivated instances with unacknowledged frames; see the module's documentation.
#[derive(Default)]
pub(super) struct PassivatedSenders {
    nodes: BTreeMap<NodeId, Unacknowledged>,
    /// Whether a [probe](Self::probe) is planned.
    is_probe_planned: bool,
}

#[derive(Default)]
struct Unacknowledged {
    instances: BTreeSet<InstanceId>,
    /// The number of instances that may be reactivated.
    credit: usize,
}

impl PassivatedSenders {
    /// Adds an instance that was passivated before these nodes acknowledged all of its frames.
    pub(super) fn add(&mut self, id: InstanceId, nodes: BTreeSet<NodeId>) {
        for node in nodes {
            self.nodes.entry(node).or_default().instances.insert(id);
        }
    }

    /// Notes that a node has acknowledged a frame.
    pub(super) fn acknowledged(&mut self, node: &NodeId) {
        if let Some(unacknowledged) = self.nodes.get_mut(node) {
            unacknowledged.credit = unacknowledged.credit.saturating_add(2);
        }
    }

    /// Plans a probe if there are such instances and none is planned. Returns whether to call [`Self::probe`] after
    /// some time.
    pub(super) fn plan_probe(&mut self) -> bool {
        let plans = !self.is_empty() && !self.is_probe_planned;
        self.is_probe_planned |= plans;
        plans
    }

    /// Lets each node be tried with one instance, after some time has passed.
    pub(super) fn probe(&mut self) {
        self.is_probe_planned = false;
        for unacknowledged in self.nodes.values_mut() {
            unacknowledged.credit = unacknowledged.credit.max(1);
        }
    }

    /// Lets `credit` instances of a node that has just joined or returned be reactivated.
    pub(super) fn hurry(&mut self, node: &NodeId, credit: usize) {
        if let Some(unacknowledged) = self.nodes.get_mut(node) {
            unacknowledged.credit = unacknowledged.credit.max(credit);
        }
    }

    /// Returns the instances to be reactivated now, where `room` returns how many more frames each node can take.
    pub(super) fn take(&mut self, room: impl Fn(&NodeId) -> usize) -> Vec<InstanceId> {
        let mut taken = Vec::new();
        for (node, unacknowledged) in &mut self.nodes {
            let count = unacknowledged.credit.min(room(node));
            unacknowledged.credit = 0;
            taken.extend((0..count).map_while(|_| unacknowledged.instances.pop_first()));
        }
        self.nodes.retain(|_, unacknowledged| !unacknowledged.instances.is_empty());
        taken
    }

    pub(super) fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use accompanist_core::SessionId;
    use accompanist_core::id::RoleIndex;

    use super::*;

    #[test]
    fn instances_are_reactivated_as_their_node_acknowledges() {
        let [bank, shop] = ["bank", "shop"].map(|name| NodeId::new(name).unwrap());
        let id = |number| InstanceId { session: SessionId::fresh(number, 0), role: RoleIndex(0) };
        let mut passivated = PassivatedSenders::default();
        for number in 0..10 {
            passivated.add(id(number), [bank.clone()].into());
        }
        passivated.add(id(0), [shop.clone()].into());
        let plenty = |_: &NodeId| 100;
        assert_eq!(passivated.take(plenty), [], "nobody has heard anything");
        passivated.probe();
        assert_eq!(passivated.take(plenty), [id(0), id(0)]);
        assert_eq!(passivated.take(plenty), []);
        passivated.acknowledged(&bank);
        passivated.acknowledged(&shop);
        assert_eq!(passivated.take(plenty), [id(1), id(2)]);
        passivated.hurry(&bank, 16);
        assert_eq!(passivated.take(|_| 3), [id(3), id(4), id(5)], "its window has room for three");
        passivated.hurry(&bank, 16);
        assert_eq!(passivated.take(plenty).len(), 4);
        assert!(passivated.is_empty());
    }
}
