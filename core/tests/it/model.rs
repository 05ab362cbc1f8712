//! Steps over layers against a plain map: random group commits of random steps, some of which are refused.

use std::collections::BTreeMap;

use accompanist_core::contract::{Direction, KeyRange};
use accompanist_core::state::{ReadState, Writes};
use accompanist_core::{State, Table};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::rig::Disk;

type Key = (String, u8);
const TABLES: [(&str, Table<Key, u32>); 3] =
    [("shop", Table::new("t")), ("shop", Table::new("tt")), ("shopt", Table::new("t"))];
type Model = BTreeMap<(usize, Key), u32>;

#[derive(Debug, Clone)]
enum Operation {
    Put(Key, u32),
    Add(Key, u32),
    Remove(Key),
    Take(Key),
    Get(Key),
    /// So many rows from there on.
    PutMany(Key, u8),
    RemoveMany(Key, u8),
    /// So many of the range, and from which end.
    Range(Key, Key, usize, bool),
    /// What the layer gives for a limit.
    Layer(usize, bool),
    FirstAndLast(Key),
}

fn key() -> impl Strategy<Value = Key> {
    (prop::sample::select(vec!["", "a", "a\0", "b"]).prop_map(String::from), any::<u8>())
}

fn operation() -> impl Strategy<Value = (usize, Operation)> {
    let limit = prop_oneof![0..4_usize, 30..35_usize, Just(1_000)];
    let operation = prop_oneof![
        (key(), any::<u32>()).prop_map(|(key, value)| Operation::Put(key, value)),
        (key(), 1..9_u32).prop_map(|(key, more)| Operation::Add(key, more)),
        key().prop_map(Operation::Remove),
        key().prop_map(Operation::Take),
        key().prop_map(Operation::Get),
        (key(), any::<u8>()).prop_map(|(key, many)| Operation::PutMany(key, many)),
        (key(), any::<u8>()).prop_map(|(key, many)| Operation::RemoveMany(key, many)),
        (key(), key(), limit.clone(), any::<bool>()).prop_map(|(a, b, limit, rev)| Operation::Range(a, b, limit, rev)),
        (limit, any::<bool>()).prop_map(|(limit, rev)| Operation::Layer(limit, rev)),
        key().prop_map(Operation::FirstAndLast),
    ];
    (0..TABLES.len(), operation)
}

fn many(key: &Key, count: u8) -> impl Iterator<Item = Key> {
    let text = key.0.clone();
    (key.1..=key.1.saturating_add(count)).map(move |number| (text.clone(), number))
}

/// Does the operation to both, and compares what they give.
fn check(state: &mut State<'_>, model: &mut Model, at: usize, operation: &Operation) {
    let table = TABLES[at].1;
    let rows = |model: &Model| {
        model.iter().filter(|((of, _), _)| *of == at).map(|((_, key), value)| (key.clone(), *value)).collect::<Vec<_>>()
    };
    match operation.clone() {
        Operation::Put(key, value) => {
            table.put(state, &key, &value).unwrap();
            model.insert((at, key), value);
        }
        Operation::Add(key, more) => {
            let sum = table.update(state, &key, |sum| Ok(sum.unwrap_or_default().wrapping_add(more))).unwrap();
            let expected = model.entry((at, key)).or_default();
            *expected = expected.wrapping_add(more);
            assert_eq!(sum, *expected);
        }
        Operation::Remove(key) => {
            assert_eq!(table.remove(state, &key).unwrap(), model.remove(&(at, key)).is_some());
        }
        Operation::Take(key) => assert_eq!(table.take(state, &key).unwrap(), model.remove(&(at, key))),
        Operation::Get(key) => {
            assert_eq!(table.contains(state, &key).unwrap(), model.contains_key(&(at, key.clone())));
            assert_eq!(table.get(state, &key).unwrap(), model.get(&(at, key)).copied());
        }
        Operation::PutMany(key, count) => many(&key, count).for_each(|key| {
            table.put(state, &key, &7).unwrap();
            model.insert((at, key), 7);
        }),
        Operation::RemoveMany(key, count) => many(&key, count).for_each(|key| {
            table.remove(state, &key).unwrap();
            model.remove(&(at, key));
        }),
        Operation::Range(from, to, limit, backward) => {
            let mut expected = rows(model);
            expected.retain(|(key, _)| from <= *key && *key < to);
            assert_eq!(table.count(state, &from..&to).unwrap(), expected.len());
            let range = table.range(state, &from..&to);
            let found: Result<Vec<_>, _> =
                if backward { range.rev().take(limit).collect() } else { range.take(limit).collect() };
            if backward {
                expected.reverse();
            }
            expected.truncate(limit);
            assert_eq!(found.unwrap(), expected);
        }
        Operation::FirstAndLast(from) => {
            let mut expected = rows(model);
            assert_eq!(table.last(state, ..&from).unwrap(), expected.iter().rfind(|(key, _)| *key < from).cloned());
            expected.retain(|(key, _)| from <= *key);
            assert_eq!(table.first(state, &from..).unwrap(), expected.first().cloned());
        }
        Operation::Layer(..) => {}
    }
}

/// A limit holds below the tables, too: what is cut off is what comes last, whatever the layers hold.
fn check_layer(layer: &dyn ReadState, limit: usize, backward: bool) {
    let all = KeyRange::under(&[]);
    let direction = if backward { Direction::Backward } else { Direction::Forward };
    let mut expected = layer.read_range(&all, Direction::Forward, usize::MAX).unwrap();
    assert!(expected.is_sorted_by(|one, two| one.0 < two.0));
    if backward {
        expected.reverse();
    }
    expected.truncate(limit);
    assert_eq!(layer.read_range(&all, direction, limit).unwrap(), expected);
}

type Steps = Vec<(bool, Vec<(usize, Operation)>)>;

/// Runs the steps of one group commit as the writer does, each on a state of its own per role.
fn group_commit(disk: &mut Disk, model: &mut Model, steps: &Steps) {
    let mut group = Writes::default();
    for (commits, operations) in steps {
        for role in ["shop", "shopt"] {
            let layers = group.over(&*disk);
            let (mut state, mut after) = (State::new(&layers, role), model.clone());
            for (at, operation) in operations.iter().filter(|(at, _)| TABLES[*at].0 == role) {
                check(&mut state, &mut after, *at, operation);
                if let Operation::Layer(limit, backward) = operation {
                    check_layer(&layers, *limit, *backward);
                }
            }
            let writes = state.into_writes();
            if *commits {
                group.absorb(writes);
                *model = after;
            }
        }
    }
    disk.apply(group.into_batch());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn steps_over_layers_are_steps_on_one_map(
        groups in vec(vec((prop::bool::weighted(0.8), vec(operation(), 1..12)), 1..5), 1..5),
    ) {
        let (mut disk, mut model) = (Disk::default(), Model::new());
        for steps in &groups {
            group_commit(&mut disk, &mut model, steps);
        }
        let stored = disk.rows().len();
        prop_assert_eq!(stored, model.len());
        for (at, (role, table)) in TABLES.into_iter().enumerate() {
            let state = State::new(&disk, role);
            let found: Vec<_> = table.range(&state, ..).collect::<Result<_, _>>().unwrap();
            let expected = model.iter().filter(|((of, _), _)| *of == at);
            let expected: Vec<_> = expected.map(|((_, key), value)| (key.clone(), *value)).collect();
            prop_assert_eq!(found, expected);
        }
    }
}
