//! Makes one list of items of the runs with several inputs: what is alike is shown once, the rest as alternatives.

use crate::drawing::item::{Block, Frame, Item, Part};

/// The items of several runs, each with its label.
pub(super) fn merged(cases: &[Part]) -> Vec<Item> {
    let lists: Vec<&[Item]> = cases.iter().map(|case| case.items.as_slice()).collect();
    let Some((first, others)) = lists.split_first() else { return Vec::new() };
    let (before, after) = alike(first, others);
    let start = first.get(..before).unwrap_or_default().to_vec();
    let end = first.get(first.len() - after..).unwrap_or_default().to_vec();
    let middles = cases.iter().map(|Part { label, items }| Part {
        label: label.clone(),
        items: items.get(before..items.len() - after).unwrap_or_default().to_vec(),
    });
    [start, alternatives(middles.collect()), end].concat()
}

/// The number of items that all lists have in common at their beginning, and at their end.
fn alike(first: &[Item], others: &[&[Item]]) -> (usize, usize) {
    let common = |is_alike: &dyn Fn(usize, &[Item]) -> bool| {
        let longest = others.iter().map(|other| other.len()).min().unwrap_or(first.len()).min(first.len());
        (0..longest).take_while(|at| others.iter().all(|other| is_alike(*at, other))).count()
    };
    let before = common(&|at, other| first.get(at) == other.get(at));
    let after = common(&|at, other| first.iter().rev().nth(at) == other.iter().rev().nth(at));
    let shortest = others.iter().map(|other| other.len()).min().unwrap_or(first.len()).min(first.len());
    (before, after.min(shortest - before))
}

fn alternatives(cases: Vec<Part>) -> Vec<Item> {
    let cases = grouped(cases);
    if cases.len() < 2 {
        return cases.into_iter().flat_map(|case| case.items).collect();
    }
    if let Some(block) = one_first_block(&cases) {
        let rests =
            cases.into_iter().map(|Part { label, items }| Part { label, items: items.into_iter().skip(1).collect() });
        return [vec![Item::Block(block)], merged(&rests.collect::<Vec<_>>())].concat();
    }
    let parts: Vec<Part> = cases.into_iter().filter(|case| !case.items.is_empty()).collect();
    vec![Item::Block(Block { frame: Frame::Alt, roles: Vec::new(), parts })]
}

/// Makes one case of cases that do the same.
fn grouped(cases: Vec<Part>) -> Vec<Part> {
    let mut groups: Vec<Part> = Vec::new();
    for case in cases {
        match groups.iter_mut().find(|known| known.items == case.items) {
            Some(known) => known.label = format!("{}, or {}", known.label, case.label),
            None => groups.push(case),
        }
    }
    groups
}

/// The block that all cases begin with, if they differ in one part of it only. It has alternatives within.
fn one_first_block(cases: &[Part]) -> Option<Block> {
    let blocks: Vec<&Block> = cases
        .iter()
        .map(|case| match &case.items[..] {
            [Item::Block(block), ..] => Some(block),
            _ => None,
        })
        .collect::<Option<_>>()?;
    let (first, others) = blocks.split_first()?;
    let is_same = |other: &&Block| {
        let counts = other.parts.len() == first.parts.len();
        counts && (&other.frame, &other.roles) == (&first.frame, &first.roles)
    };
    if first.frame == Frame::Alt || !others.iter().all(is_same) {
        return None;
    }
    let differs = |at: &usize| others.iter().any(|other| other.parts.get(*at) != first.parts.get(*at));
    let differing: Vec<usize> = (0..first.parts.len()).filter(differs).collect();
    let [at] = differing[..] else { return None };
    let inner = cases.iter().zip(&blocks).map(|(case, block)| {
        let items = block.parts.get(at).map(|part| part.items.clone()).unwrap_or_default();
        Part { label: case.label.clone(), items }
    });
    let items = merged(&inner.collect::<Vec<_>>());
    let mut block = Block::clone(first);
    block.parts.get_mut(at)?.items = items;
    Some(block)
}
