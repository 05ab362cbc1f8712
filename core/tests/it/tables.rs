//! Tables of the built-in state: their operations, what a step sees of others, and what is not read. Next: `keys`.

use std::cell::RefCell;
use std::ops::Bound;

use accompanist_core::contract::{Direction, Entry, KEY_BYTES_MAX, KeyRange, StoreError};
use accompanist_core::state::{ROWS_MAX, ReadState, Under, Writes};
use accompanist_core::{Abort, At, LocalTransaction, Retry, Services, State, Table, run_local};
use serde::{Deserialize, Serialize};

use crate::rig::{choreography, roles};

const STOCK: Table<String, u32> = Table::new("stock");
const LOTS: Table<(String, u32), String> = Table::new("lots");
const SHELVES: Table<(u8, String, i64), u8> = Table::new("shelves");
const QUEUE: Table<u64, u64> = Table::new("queue");

/// The state of a role that has nothing stored yet.
fn shop(base: &dyn ReadState) -> State<'_> {
    State::new(base, "shop")
}

#[test]
fn a_row_that_no_store_holds_is_refused_and_may_be_asked_for() {
    let base = Writes::default();
    let mut own = shop(&base);
    let state = &mut own;
    // The names of role and table with their lengths come before a key, and two zeros behind a text.
    let longest = "a".repeat(KEY_BYTES_MAX - "shop".len() - "stock".len() - 4 - 2);
    STOCK.put(state, &longest, &1).unwrap();
    for key in [format!("{longest}a"), "a".repeat(200_000), "\0".repeat(longest.len() / 2 + 1)] {
        let refused = |result: Result<_, Abort>| assert_eq!(result.unwrap_err().code(), Abort::ROW_TOO_LARGE);
        refused(STOCK.put(state, &key, &1));
        refused(STOCK.update(state, &key, |left| Ok(left.unwrap_or_default())).map(drop));
        assert_eq!((STOCK.get(state, &key), STOCK.contains(state, &key)), (Ok(None), Ok(false)));
        assert_eq!((STOCK.take(state, &key), STOCK.remove(state, &key)), (Ok(None), Ok(false)));
        let found: Result<Vec<_>, _> = STOCK.range(state, key.as_str()..).collect();
        assert_eq!(found.unwrap(), if key < longest { vec![(longest.clone(), 1)] } else { vec![] });
    }
    assert_eq!(STOCK.count(state, ..), Ok(1));
    let batch = own.into_writes().into_batch();
    // The second one records the type of the keys.
    assert!(batch.len() == 2 && batch.iter().all(|change| change.check().is_ok()));
}

/// Writes a row under a key of so many bytes.
struct Label;
impl LocalTransaction for Label {
    const NAME: &'static str = "label";
    type Role = Shop;
    type Input = u32;
    type Output = bool;
    fn commit(&self, state: &mut State<'_>, bytes: &u32) -> Result<bool, Abort> {
        STOCK.put(state, "a".repeat(usize::try_from(*bytes).unwrap()), bytes)?;
        Ok(true)
    }
    fn compensate(&self, _: &mut State<'_>, _: &u32, _: &bool) -> Result<(), Retry> {
        Ok(())
    }
}

choreography!(Labelled: (Shop,), At<Shop, u32> => At<Shop, bool>, |ctx, bytes| { ctx.transact(Label, &bytes).await });

#[tokio::test]
async fn a_step_whose_row_no_store_holds_aborts_the_session() {
    assert_eq!(run_local(Labelled, 60_000, &Services::new()).await, Ok(true));
    let refused = run_local(Labelled, 70_000, &Services::new()).await.unwrap_err();
    assert_eq!(refused.code(), Abort::ROW_TOO_LARGE);
    assert!(refused.message().contains("`stock`") && refused.message().contains("the limit is 65535"), "{refused}");
}

#[test]
fn a_row_is_put_read_changed_and_removed() {
    let base = Writes::default();
    let state = &mut shop(&base);
    assert_eq!(STOCK.get(state, "apples"), Ok(None));
    STOCK.put(state, "apples", &3).unwrap();
    assert_eq!(STOCK.get(state, String::from("apples")), Ok(Some(3)));
    assert_eq!(STOCK.update(state, "apples", |left| Ok(left.unwrap() + 1)), Ok(4));
    let refused = STOCK.update(state, "apples", |_| Err(Abort::new("sold-out", "")));
    assert_eq!(refused.unwrap_err().code(), "sold-out");
    assert_eq!(STOCK.get(state, "apples"), Ok(Some(4)), "a refused change is none");
    assert_eq!((STOCK.contains(state, "apples"), STOCK.contains(state, "apple")), (Ok(true), Ok(false)));
    assert_eq!(STOCK.take(state, "apples"), Ok(Some(4)));
    assert_eq!((STOCK.take(state, "apples"), STOCK.get(state, "apples")), (Ok(None), Ok(None)));
    STOCK.put(state, "pears", &1).unwrap();
    assert_eq!([STOCK.remove(state, "pears"), STOCK.remove(state, "pears")], [Ok(true), Ok(false)]);
}

#[test]
fn tables_and_roles_are_apart() {
    let (mut stored, other_name) = (Writes::default(), Table::<String, u32>::new("stoc"));
    for (role, number) in [("shop", 1), ("shopstock", 2), ("sho", 3)] {
        let mut state = State::new(&stored, role);
        STOCK.put(&mut state, "k", &number).unwrap();
        other_name.put(&mut state, "kk", &(number + 10)).unwrap();
        let writes = state.into_writes();
        stored.absorb(writes);
    }
    for (role, number) in [("shop", 1), ("shopstock", 2), ("sho", 3)] {
        let state = State::new(&stored, role);
        let all = |table: Table<String, u32>| table.range(&state, ..).collect::<Result<Vec<_>, _>>().unwrap();
        assert_eq!(all(STOCK), [("k".into(), number)], "of {role}");
        assert_eq!(all(other_name), [("kk".into(), number + 10)], "of {role}");
    }
}

fn keys<K, V>(rows: impl Iterator<Item = Result<(K, V), Abort>>) -> Vec<K> {
    rows.map(|row| row.unwrap().0).collect()
}

#[test]
fn a_range_is_typed_and_in_the_order_of_keys() {
    let base = Writes::default();
    let state = &mut shop(&base);
    for (item, lot) in [("b", 1), ("a", 300), ("a", 2), ("b", 0), ("aa", 1), ("a", u32::MAX), ("", 5)] {
        LOTS.put(state, (item, lot), &format!("{item}{lot}")).unwrap();
    }
    let check = |found: Vec<(String, u32)>, expected: &[(&str, u32)]| {
        let found: Vec<_> = found.iter().map(|(item, lot)| (item.as_str(), *lot)).collect();
        assert_eq!(found, expected);
    };
    let all = [("", 5), ("a", 2), ("a", 300), ("a", u32::MAX), ("aa", 1), ("b", 0), ("b", 1)];
    check(keys(LOTS.range(state, ..)), &all);
    check(keys(LOTS.range(state, ("a", 300)..("b", 0))), &all[2..5]);
    check(keys(LOTS.range(state, ("a", 300)..=("b", 0))), &all[2..6]);
    check(keys(LOTS.range(state, ("aa", 0)..)), &all[4..]);
    check(keys(LOTS.range(state, ..("a", 300))), &all[..2]);
    check(keys(LOTS.range(state, ..=("a", 300))), &all[..3]);
    check(keys(LOTS.range(state, (Bound::Excluded(("a", 300)), Bound::Unbounded))), &all[3..]);
    check(keys(LOTS.range(state, ("b", 0)..("a", 300))), &[]);
    check(keys(LOTS.range(state, Under(("a",)))), &all[1..4]);
    check(keys(LOTS.range(state, Under((&"b".to_owned(),)))), &all[5..]);
    check(keys(LOTS.range(state, ..).rev().take(2)), &[("b", 1), ("b", 0)]);
    assert_eq!(LOTS.first(state, Under(("a",))), Ok(Some((("a".into(), 2), "a2".into()))));
    assert_eq!(LOTS.last(state, ..("b", 0)), Ok(Some((("aa".into(), 1), "aa1".into()))));
    assert_eq!(LOTS.first(state, Under(("c",))), Ok(None));
    assert_eq!((LOTS.count(state, ..), LOTS.count(state, Under(("a",)))), (Ok(7), Ok(3)));
}

#[test]
fn keys_of_more_parts_are_named_by_their_first_ones() {
    let base = Writes::default();
    let state = &mut shop(&base);
    for (shelf, item, lot) in [(1, "a", -5), (1, "a", 5), (1, "b", 0), (255, "a", 0), (0, "a", 0)] {
        SHELVES.put(state, (shelf, item, lot), &0).unwrap();
    }
    assert_eq!(keys(SHELVES.range(state, Under((1, "a")))), [(1, "a".into(), -5), (1, "a".into(), 5)]);
    assert_eq!(SHELVES.count(state, Under((1,))), Ok(3));
    assert_eq!(SHELVES.count(state, Under((255,))), Ok(1), "the last prefix there is ends with the table");
}

#[test]
fn a_range_is_read_from_both_ends_at_once() {
    let base = Writes::default();
    let state = &mut shop(&base);
    for number in 0..100 {
        QUEUE.put(state, number, &number).unwrap();
    }
    for (forward, backward) in [(1, 2), (2, 1), (1, 1), (9, 40)] {
        let mut rows = QUEUE.range(state, ..);
        let mut found = (Vec::new(), Vec::new());
        while found.0.len() + found.1.len() < 100 {
            let left = 100 - found.0.len() - found.1.len();
            let first = keys(rows.by_ref().take(forward));
            assert_eq!(first.len(), forward.min(left), "from the front, with {left} left");
            let last = keys(rows.by_ref().rev().take(backward));
            assert_eq!(last.len(), backward.min(left - first.len()), "from the back, with {left} left");
            found.0.extend(first);
            found.1.extend(last);
        }
        found.1.reverse();
        assert_eq!([found.0, found.1].concat(), (0..100).collect::<Vec<_>>());
        assert!(rows.next().is_none() && rows.next_back().is_none());
    }
}

/// Counts what is read of what is below.
struct Counted<'a>(&'a Writes, RefCell<usize>);

impl ReadState for Counted<'_> {
    fn read(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.0.read(key)
    }
    fn read_range(&self, keys: &KeyRange, direction: Direction, limit: usize) -> Result<Vec<Entry>, StoreError> {
        let found = self.0.read_range(keys, direction, limit)?;
        *self.1.borrow_mut() += found.len();
        Ok(found)
    }
}

fn queue(rows: u64) -> Writes {
    let base = Writes::default();
    let mut state = shop(&base);
    for number in 0..rows {
        QUEUE.put(&mut state, number, &number).unwrap();
    }
    state.into_writes()
}

#[test]
fn only_requested_rows_are_read() {
    let stored = queue(5_000);
    let counted = Counted(&stored, RefCell::new(0));
    let state = &mut shop(&counted);
    assert_eq!(QUEUE.first(state, ..), Ok(Some((0, 0))));
    assert_eq!(QUEUE.last(state, ..), Ok(Some((4_999, 4_999))));
    assert_eq!(keys(QUEUE.range(state, 100..).take(3)), [100, 101, 102]);
    assert!(*counted.1.borrow() <= 100, "{} rows were read for five", counted.1.borrow());
    // A queue that the step itself has taken much of does not lead it astray.
    for number in 0..1_000 {
        QUEUE.remove(state, number).unwrap();
    }
    *counted.1.borrow_mut() = 0;
    assert_eq!(QUEUE.first(state, ..), Ok(Some((1_000, 1_000))));
    assert!(*counted.1.borrow() <= 1_100, "{} rows were read for one behind 1000", counted.1.borrow());
    // Nor are more rows held than a page.
    let rows = QUEUE.range(state, ..);
    let most = rows.scan(*counted.1.borrow(), |read, row| {
        row.unwrap();
        let now = *counted.1.borrow();
        Some(now - std::mem::replace(read, now))
    });
    assert!(most.skip(1).max() <= Some(512), "a page is bounded");
}

#[test]
fn a_range_without_an_end_is_an_error_and_not_silently_cut() {
    let rows = u64::try_from(ROWS_MAX).unwrap();
    let full = queue(rows);
    assert_eq!(QUEUE.count(&shop(&full), ..), Ok(ROWS_MAX));
    let (more, behind) = (queue(rows + 1), ROWS_MAX - 1);
    let state = shop(&more);
    let error = QUEUE.count(&state, ..).unwrap_err();
    assert!(error.is_failure(), "no business decision: {error}");
    let text = error.message();
    assert!(text.starts_with("table `queue` of role `shop`: a range of it has more than 100000 rows"), "{text}");
    assert!(text.contains("read it in parts"), "{text}");
    let mut rows = QUEUE.range(&state, ..).skip(behind);
    assert!(rows.next().unwrap().is_ok());
    assert!(rows.next().unwrap().is_err(), "the first one too many");
    assert!(rows.next().is_none());
    assert_eq!(QUEUE.count(&state, 1..), Ok(ROWS_MAX));
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Parcel {
    weight: f64,
    contents: Vec<String>,
}

const PARCELS: Table<String, Parcel> = Table::new("stock");

/// What an error about a type has to say.
#[track_caller]
fn check_told<T: std::fmt::Debug>(result: Result<T, Abort>, parts: &[&str]) {
    let error = result.unwrap_err();
    assert!(error.is_failure(), "it stops the session, and aborts nothing: {error}");
    for part in parts {
        assert!(error.message().contains(part), "{part:?} is not in: {error}");
    }
}

#[test]
fn a_row_of_another_type_is_reported_with_its_table_and_a_remedy() {
    let base = Writes::default();
    let state = &mut shop(&base);
    STOCK.put(state, "apples", &3).unwrap();
    let told =
        ["table `stock` of role `shop`", "under a key of 8 bytes", "run the code that wrote it", "nothing was changed"];
    check_told(PARCELS.get(state, "apples"), &told);
    check_told(PARCELS.take(state, "apples"), &told);
    let parcel = || Parcel { weight: 1.5, contents: vec!["apples".into()] };
    check_told(PARCELS.update(state, "apples", |_| Ok(parcel())), &told);
    check_told(PARCELS.first(state, ..), &told);
    // Not silently left out, and nothing after it.
    let mut rows = PARCELS.range(state, ..);
    check_told(rows.next().unwrap(), &told);
    assert!(rows.next().is_none());
    assert_eq!(STOCK.get(state, "apples"), Ok(Some(3)), "it is still there");
    // What does not look at the value does not mind.
    assert_eq!((PARCELS.contains(state, "apples"), PARCELS.count(state, ..)), (Ok(true), Ok(1)));
    PARCELS.put(state, "apples", &parcel()).unwrap();
    assert_eq!(PARCELS.get(state, "apples"), Ok(Some(parcel())));
    assert_eq!(PARCELS.remove(state, "apples"), Ok(true));
    // However long the key: what to do is not cut off.
    let long = "k".repeat(1_000);
    STOCK.put(state, &long, &3).unwrap();
    check_told(PARCELS.get(state, &long), &["under a key of 1002 bytes", "nothing was changed"]);
}

#[test]
fn a_key_of_another_type_is_reported() {
    let base = Writes::default();
    let state = &mut shop(&base);
    QUEUE.put(state, 7, &7).unwrap();
    let told = ["table `queue` of role `shop`", "a key of another type", "table of another name"];
    check_told(Table::<String, u64>::new("queue").first(state, ..), &told);
    check_told(Table::<u32, u64>::new("queue").last(state, ..), &told);
}

roles! { Shop "shop" () }

/// Makes something else of a value of another type, in the commit or in the compensation.
struct Careless {
    in_commit: bool,
}
impl LocalTransaction for Careless {
    const NAME: &'static str = "careless";
    type Role = Shop;
    type Input = u32;
    type Output = bool;
    fn commit(&self, state: &mut State<'_>, left: &u32) -> Result<bool, Abort> {
        STOCK.put(state, "apples", left)?;
        Ok(self.in_commit && PARCELS.get(state, "apples").is_err())
    }
    fn compensate(&self, state: &mut State<'_>, _: &u32, _: &bool) -> Result<(), Retry> {
        PARCELS.take(state, "apples").or(Err(Retry::new("later"))).map(drop)
    }
}

choreography!(Carelessly: (Shop,), At<Shop, u32> => At<Shop, bool>, |ctx, left| {
    let in_commit = ctx.locally(Shop, |here| *here.get(&left) == 3);
    let in_commit = ctx.broadcast(Shop, &in_commit).await?;
    ctx.transact(Careless { in_commit }, &left).await?;
    ctx.abort(Abort::new("enough", "")).await
});

#[tokio::test]
async fn a_table_error_that_a_step_swallows_still_stops_it() {
    for (left, code) in [(3, "accompanist.stopped"), (4, "accompanist.needs-operator")] {
        let error = run_local(Carelessly, left, &Services::new()).await.unwrap_err();
        assert_eq!(error.code(), code);
        assert!(error.message().contains("table `stock` of role `shop`: the value under a key of"), "{error}");
    }
}

/// A disk that cannot be read.
struct Broken;

impl ReadState for Broken {
    fn read(&self, _: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Err(StoreError::Failed("the disk is gone".into()))
    }
    fn read_range(&self, _: &KeyRange, _: Direction, _: usize) -> Result<Vec<Entry>, StoreError> {
        Err(StoreError::Failed("the disk is gone".into()))
    }
}

#[test]
fn a_store_that_fails_is_no_empty_table() {
    let state = &mut shop(&Broken);
    let told = ["table `stock` of role `shop`", "the disk is gone", "start the node again"];
    check_told(STOCK.get(state, "apples"), &told);
    check_told(STOCK.contains(state, "apples"), &told);
    check_told(STOCK.remove(state, "apples"), &told);
    check_told(STOCK.first(state, ..), &told);
    check_told(STOCK.count(state, ..), &told);
    let mut rows = STOCK.range(state, ..);
    check_told(rows.next().unwrap(), &told);
    assert!(rows.next().is_none(), "an error is told once");
}
