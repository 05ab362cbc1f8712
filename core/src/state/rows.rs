//! The rows of a range, read on demand, a page at a time, from either end.

use std::collections::VecDeque;
use std::marker::PhantomData;

use super::key::Key;
use super::{OTHER_TYPE, State, shown};
use crate::base::abort::Abort;
use crate::base::message::{Message, decode};
use crate::contract::{Direction, Entry, KeyRange};

/// The maximum number of rows that a range returns. A step that reads more would delay all steps of its node. One
/// more row is an error, which stops the session; nothing is lost then.
pub const ROWS_MAX: usize = 100_000;
/// The number of rows of the first page. Each following page doubles it.
const PAGE_ROWS_MIN: usize = 8;
/// The maximum number of rows of a page, which a range holds in memory.
const PAGE_ROWS_MAX: usize = 256;

/// The rows of a range of a [`Table`](crate::Table), in the order of their keys; `.rev()` reverses the order.
///
/// Rows are read a page at a time: `.take(3)` reads a few, and rows that are not requested are not read. A range
/// returns at most [`ROWS_MAX`] rows; more are an error, not a silent end.
///
/// ```
/// # use accompanist_core::{Abort, State, Table, state::Writes};
/// /// The orders, by number.
/// const ORDERS: Table<u64, String> = Table::new("orders");
///
/// # let base = Writes::default();
/// # let state = &mut State::new(&base, "seller");
/// for (number, book) in [(1, "atlas"), (2, "comic"), (3, "novel")] {
///     ORDERS.put(state, number, &book.to_owned())?;
/// }
/// let latest: Vec<(u64, String)> = ORDERS.range(state, ..).rev().take(2).collect::<Result<_, _>>()?;
/// assert_eq!(latest, [(3, "novel".to_owned()), (2, "comic".to_owned())]);
/// # Ok::<(), Abort>(())
/// ```
pub struct Rows<'s, K, V> {
    state: &'s State<'s>,
    table: &'static str,
    /// The number of bytes in a key that name the table.
    prefix: usize,
    /// The rows that are read and not returned yet, at the front and at the back, each in the order of keys.
    front: VecDeque<Entry>,
    back: VecDeque<Entry>,
    /// The range that is not read yet.
    rest: KeyRange,
    page: usize,
    given: usize,
    types: PhantomData<fn() -> (K, V)>,
}

impl<K, V> std::fmt::Debug for Rows<'_, K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Rows({}, {} given)", self.table, self.given)
    }
}

impl<'s, K: Key, V: Message> Rows<'s, K, V> {
    /// Creates the rows under `keys`, all of which begin with the table's prefix of `prefix` bytes.
    pub(super) fn new(state: &'s State<'s>, table: &'static str, prefix: usize, keys: KeyRange) -> Self {
        let (front, back) = (VecDeque::new(), VecDeque::new());
        let page = PAGE_ROWS_MIN;
        Self { state, table, prefix, front, back, rest: keys, page, given: 0, types: PhantomData }
    }

    /// Returns the next entry at one of the ends.
    pub(super) fn next_entry(&mut self, direction: Direction) -> Result<Option<Entry>, Abort> {
        let read = match direction {
            Direction::Forward => &self.front,
            Direction::Backward => &self.back,
        };
        if read.is_empty() && !self.rest.is_empty() {
            self.read_page(direction)?;
        }
        let entry = match direction {
            Direction::Forward => self.front.pop_front().or_else(|| self.back.pop_front()),
            Direction::Backward => self.back.pop_back().or_else(|| self.front.pop_back()),
        };
        self.given += usize::from(entry.is_some());
        if self.given > ROWS_MAX && entry.is_some() {
            self.end();
            return Err(self.too_many());
        }
        Ok(entry)
    }

    fn too_many(&self) -> Abort {
        let what_to_do = "read it in parts, with bounds on the key, or keep what you look for in a row of its own";
        self.state.failure(self.table, &format!("a range of it has more than {ROWS_MAX} rows: {what_to_do}"))
    }

    fn read_page(&mut self, direction: Direction) -> Result<(), Abort> {
        self.state.check_keys::<K>(self.table)?;
        let page = self.state.read_range(self.table, &self.rest, direction, self.page)?;
        match page.last() {
            Some((last, _)) if page.len() >= self.page => drop(self.rest.split_off_through(last, direction)),
            _ => drop(self.rest.take()),
        }
        match direction {
            Direction::Forward => self.front.extend(page),
            Direction::Backward => self.back.extend(page.into_iter().rev()),
        }
        self.page = (self.page * 2).min(PAGE_ROWS_MAX);
        Ok(())
    }

    fn row(&mut self, direction: Direction) -> Option<Result<(K, V), Abort>> {
        let row = self.next_entry(direction).and_then(|entry| entry.map(|entry| self.typed(&entry)).transpose());
        if row.is_err() {
            self.end();
        }
        row.transpose()
    }

    fn typed(&self, (bytes, value): &Entry) -> Result<(K, V), Abort> {
        let own = bytes.get(self.prefix..).unwrap_or_default();
        let mut rest = own;
        let Some(key) = K::decode(&mut rest).filter(|_| rest.is_empty()) else {
            return Err(self.strange(own));
        };
        let value = decode(value).map_err(|error| self.state.unreadable(self.table, own, &error))?;
        Ok((key, value))
    }

    fn strange(&self, key: &[u8]) -> Abort {
        let (key, key_type) = (shown(key), std::any::type_name::<K>());
        self.state
            .failure(self.table, &format!("it has a key of another type: {OTHER_TYPE} ({key} is no `{key_type}`)"))
    }

    /// Ends the iteration.
    fn end(&mut self) {
        self.front.clear();
        self.back.clear();
        drop(self.rest.take());
    }
}

impl<K: Key, V: Message> Iterator for Rows<'_, K, V> {
    type Item = Result<(K, V), Abort>;
    fn next(&mut self) -> Option<Self::Item> {
        self.row(Direction::Forward)
    }
}

impl<K: Key, V: Message> DoubleEndedIterator for Rows<'_, K, V> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.row(Direction::Backward)
    }
}

impl<K: Key, V: Message> std::iter::FusedIterator for Rows<'_, K, V> {}
