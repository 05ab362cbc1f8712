//! One order of all events that obeys their edges, the same whenever it is made of the same events.
//!
//! Nodes are numbers in the order of their places. This module knows no events. Next: `recorded` and `program`, which
//! make the edges.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Why one event comes after another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bond {
    /// The program calls one operation after the other, in one scope. It may have called both before it awaited the
    /// first, so what is recorded counts more.
    Program,
    /// One role has numbered the two.
    Sequence,
    /// Any other fact that a record states. These edges lead to a later place always, so they have no cycle.
    Recorded,
}

/// An event, and one that comes after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Edge {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) bond: Bond,
}

/// The order of events.
pub(super) struct Order {
    /// The nodes, first to last.
    pub(super) nodes: Vec<usize>,
    /// The edges that the order obeys.
    pub(super) edges: Vec<Edge>,
    /// The number of edges out of numbers of roles that contradict other records. No session that nodes have run has
    /// any.
    pub(super) contradictions: usize,
}

/// Orders `count` nodes. Edges that contradict those of a stronger bond are left out.
pub(super) fn order(count: usize, mut edges: Vec<Edge>) -> Order {
    edges.retain(|edge| edge.from != edge.to && edge.from < count && edge.to < count);
    drop_cycles(count, &mut edges, Bond::Program);
    let before = edges.len();
    drop_cycles(count, &mut edges, Bond::Sequence);
    let contradictions = before - edges.len();
    let nodes = sorted(count, &edges);
    let mut at = vec![0; count];
    for (position, node) in nodes.iter().enumerate() {
        if let Some(slot) = at.get_mut(*node) {
            *slot = position;
        }
    }
    let position = |node: usize| at.get(node).copied().unwrap_or_default();
    // All edges obey this. It is checked, so that a picture never has an arrow that points upwards.
    edges.retain(|edge| position(edge.from) < position(edge.to));
    Order { nodes, edges, contradictions }
}

/// Leaves out the edges of this bond that are part of a cycle.
fn drop_cycles(count: usize, edges: &mut Vec<Edge>, bond: Bond) {
    if sorted_as_far_as_possible(count, edges).len() == count {
        return;
    }
    let components = components(count, edges);
    edges.retain(|edge| edge.bond != bond || components.get(edge.from) != components.get(edge.to));
}

/// Sorts the nodes; of those that may come next, the least comes first. Nodes on cycles come when nothing else can.
fn sorted(count: usize, edges: &[Edge]) -> Vec<usize> {
    let mut nodes = sorted_as_far_as_possible(count, edges);
    if nodes.len() < count {
        let mut is_sorted = vec![false; count];
        for node in &nodes {
            mark(&mut is_sorted, *node);
        }
        nodes.extend((0..count).filter(|node| is_sorted.get(*node) == Some(&false)));
    }
    nodes
}

/// Kahn's algorithm: sorts all nodes that neither are on a cycle nor come after one.
fn sorted_as_far_as_possible(count: usize, edges: &[Edge]) -> Vec<usize> {
    let (next, mut before) = (neighbours(count, edges.iter().map(|edge| (edge.from, edge.to))), vec![0_usize; count]);
    for edge in edges {
        if let Some(before) = before.get_mut(edge.to) {
            *before += 1;
        }
    }
    let free = before.iter().enumerate().filter(|(_, before)| **before == 0);
    let mut free: BinaryHeap<Reverse<usize>> = free.map(|(node, _)| Reverse(node)).collect();
    let mut nodes = Vec::with_capacity(count);
    while let Some(Reverse(node)) = free.pop() {
        nodes.push(node);
        for to in next.get(node).into_iter().flatten() {
            if let Some(before) = before.get_mut(*to) {
                *before -= 1;
                if *before == 0 {
                    free.push(Reverse(*to));
                }
            }
        }
    }
    nodes
}

/// The strongly connected components (Kosaraju's algorithm, without recursion): each node's, by a number.
fn components(count: usize, edges: &[Edge]) -> Vec<usize> {
    let next = neighbours(count, edges.iter().map(|edge| (edge.from, edge.to)));
    let previous = neighbours(count, edges.iter().map(|edge| (edge.to, edge.from)));
    let (mut seen, mut finished) = (vec![false; count], Vec::with_capacity(count));
    for node in 0..count {
        visit(node, &next, &mut seen, |node| finished.push(node));
    }
    let (mut seen, mut component_of) = (vec![false; count], vec![0; count]);
    for (number, node) in finished.into_iter().rev().enumerate() {
        visit(node, &previous, &mut seen, |node| {
            if let Some(component) = component_of.get_mut(node) {
                *component = number;
            }
        });
    }
    component_of
}

/// Visits all unseen nodes that are reached from `start`, depth first. Calls `finished` with each after those behind
/// it.
fn visit(start: usize, next: &[Vec<usize>], seen: &mut [bool], mut finished: impl FnMut(usize)) {
    let of = |node: usize| next.get(node).map(|next| next.iter()).unwrap_or_default();
    if seen.get(start) != Some(&false) {
        return;
    }
    mark(seen, start);
    let mut open = vec![(start, of(start))];
    while let Some((node, rest)) = open.last_mut() {
        match rest.next() {
            Some(to) if seen.get(*to) == Some(&false) => {
                mark(seen, *to);
                open.push((*to, of(*to)));
            }
            Some(_) => {}
            None => {
                finished(*node);
                open.pop();
            }
        }
    }
}

fn mark(marks: &mut [bool], node: usize) {
    if let Some(mark) = marks.get_mut(node) {
        *mark = true;
    }
}

fn neighbours(count: usize, pairs: impl Iterator<Item = (usize, usize)>) -> Vec<Vec<usize>> {
    let mut neighbours = vec![Vec::new(); count];
    for (from, to) in pairs {
        if let Some(of) = neighbours.get_mut(from) {
            of.push(to);
        }
    }
    neighbours
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ordered(count: usize, edges: &[(usize, usize, Bond)]) -> (Vec<usize>, usize, usize) {
        let edges = edges.iter().map(|(from, to, bond)| Edge { from: *from, to: *to, bond: *bond });
        let Order { nodes, edges, contradictions } = order(count, edges.collect());
        (nodes, edges.len(), contradictions)
    }

    #[test]
    fn the_least_free_node_comes_first() {
        assert_eq!(ordered(4, &[(3, 0, Bond::Recorded), (2, 1, Bond::Program)]), (vec![2, 1, 3, 0], 2, 0));
        assert_eq!(ordered(0, &[(3, 0, Bond::Recorded)]), (vec![], 0, 0));
    }

    #[test]
    fn the_weakest_edges_of_a_cycle_are_left_out_and_no_others() {
        let (program, sequence, recorded) = (Bond::Program, Bond::Sequence, Bond::Recorded);
        // 1 and 2 were called in this order, and ended in the other.
        let joined = [(0, 1, program), (1, 2, program), (2, 1, sequence), (2, 3, program)];
        assert_eq!(ordered(4, &joined), (vec![0, 2, 1, 3], 3, 0));
        let contradicting = [(0, 1, sequence), (1, 0, sequence), (1, 2, recorded), (2, 3, program)];
        assert_eq!(ordered(4, &contradicting), (vec![0, 1, 2, 3], 2, 2));
        // No records make this, and it is ordered all the same.
        assert_eq!(ordered(3, &[(0, 1, recorded), (1, 0, recorded), (1, 2, recorded)]), (vec![0, 1, 2], 2, 0));
    }

    #[test]
    fn a_long_chain_needs_no_stack() {
        let count = 200_000;
        let chain = (1..count).map(|node| (node, node - 1, Bond::Sequence));
        let edges: Vec<_> = chain.chain([(0, count - 1, Bond::Program)]).collect();
        let (nodes, kept, contradictions) = ordered(count, &edges);
        assert_eq!((nodes.first(), nodes.len(), kept, contradictions), (Some(&(count - 1)), count, count - 1, 0));
    }
}
