//! Tables: typed handles on a role's data, which users of the built-in state call.

use std::marker::PhantomData;

use super::bounds::KeyBounds;
use super::key::{AsKey, Key};
use super::rows::Rows;
use super::{State, shown};
use crate::base::abort::Abort;
use crate::base::message::{Message, decode, encode};
use crate::contract::{Direction, KeyRange};

/// A table of the built-in state: rows with a key of type `K`, sorted by key, and a value of type `V`.
///
/// A table is a handle, to be declared as a constant. Its rows are those of the [`State`] it is used on, which a
/// [`LocalTransaction`](crate::LocalTransaction) or a node's `read_state` receives:
///
/// ```
/// use accompanist_core::{Abort, State, Table};
///
/// const STOCK: Table<String, u32> = Table::new("stock");
/// /// Which customer has which item on loan.
/// const LOANS: Table<(String, u64), String> = Table::new("loans");
///
/// fn lend(state: &mut State<'_>, item: &str, customer: u64) -> Result<u32, Abort> {
///     LOANS.put(state, (item, customer), &"two weeks".to_owned())?;
///     STOCK.update(state, item, |left| {
///         left.unwrap_or(10).checked_sub(1).ok_or(Abort::new("sold-out", "all are on loan"))
///     })
/// }
/// # let base = accompanist_core::state::Writes::default();
/// # assert_eq!(lend(&mut State::new(&base, "seller"), "book", 7), Ok(9));
/// ```
///
/// As long as a table has rows, do not change its key type, and change its value type only compatibly
/// (`docs/how-to/evolution.md`). For another type, use another table name. A read by another type is refused, with
/// both types in the error. The type of the keys is that of the first row that the table ever had; see
/// [`Key::describe`].
///
/// # Errors
/// All operations fail if the store cannot be read, or if a value is of another type. Pass such errors on with `?`:
/// they stop the session where it is, for an operator to inspect (a compensation is retried first). This happens even
/// if the step's code ignores the error. Nothing is written, and nothing is lost.
pub struct Table<K: Key, V: Message> {
    name: &'static str,
    types: PhantomData<fn() -> (K, V)>,
}

impl<K: Key, V: Message> Clone for Table<K, V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K: Key, V: Message> Copy for Table<K, V> {}

impl<K: Key, V: Message> std::fmt::Debug for Table<K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Table({})", self.name)
    }
}

impl<K: Key, V: Message> Table<K, V> {
    /// Creates the handle for the table with this name. Another name denotes another table.
    ///
    /// ```
    /// # use accompanist_core::Table;
    /// const STOCK: Table<String, u32> = Table::new("stock");
    /// ```
    pub const fn new(name: &'static str) -> Self {
        Self { name, types: PhantomData }
    }

    /// Returns the value under `key`.
    ///
    /// ```
    /// # use accompanist_core::{Abort, State, Table, state::Writes};
    /// # const STOCK: Table<String, u32> = Table::new("stock");
    /// # let base = Writes::default();
    /// # let state = &mut State::new(&base, "seller");
    /// let left = STOCK.get(state, "apples")?.unwrap_or_default();
    /// # assert_eq!(left, 0);
    /// # Ok::<(), Abort>(())
    /// ```
    ///
    /// # Errors
    /// See [`Table`].
    pub fn get(self, state: &State<'_>, key: impl AsKey<K>) -> Result<Option<V>, Abort> {
        state.check_keys::<K>(self.name)?;
        let bytes = state.read(self.name, &state.key(self.name, &key))?;
        bytes.map(|bytes| self.value(state, &key, &bytes)).transpose()
    }

    /// Whether there is a value under `key`, of any type.
    ///
    /// ```
    /// # use accompanist_core::{Abort, State, Table, state::Writes};
    /// # const STOCK: Table<String, u32> = Table::new("stock");
    /// # let base = Writes::default();
    /// # let state = &mut State::new(&base, "seller");
    /// STOCK.put(state, "apples", &3)?;
    /// assert!(STOCK.contains(state, "apples")? && !STOCK.contains(state, "pears")?);
    /// # Ok::<(), Abort>(())
    /// ```
    ///
    /// # Errors
    /// See [`Table`].
    pub fn contains(self, state: &State<'_>, key: impl AsKey<K>) -> Result<bool, Abort> {
        state.check_keys::<K>(self.name)?;
        Ok(state.read(self.name, &state.key(self.name, &key))?.is_some())
    }

    /// Sets the value under `key`, replacing any previous one.
    ///
    /// ```
    /// # use accompanist_core::{Abort, State, Table, state::Writes};
    /// # const STOCK: Table<String, u32> = Table::new("stock");
    /// # let base = Writes::default();
    /// # let state = &mut State::new(&base, "seller");
    /// STOCK.put(state, "apples", &3)?;
    /// assert_eq!(STOCK.get(state, "apples")?, Some(3));
    /// # Ok::<(), Abort>(())
    /// ```
    ///
    /// # Errors
    /// If the value cannot be encoded; [`Abort::ROW_TOO_LARGE`] if no store can hold the row, which is then
    /// unchanged; see [`Table`].
    pub fn put(self, state: &mut State<'_>, key: impl AsKey<K>, value: &V) -> Result<(), Abort> {
        let bytes = encode(value).map_err(|error| {
            state.failure(self.name, &format!("the value for {} cannot be kept: {error}", shown(&bytes_of(&key))))
        })?;
        let key = state.key(self.name, &key);
        state.check(self.name, &key, &bytes)?;
        state.record_keys::<K>(self.name)?;
        state.writes.set(key, Some(bytes));
        Ok(())
    }

    /// Sets the value under `key` to what `change` returns for the current one, and returns the new value. If
    /// `change` refuses, the value is unchanged.
    ///
    /// ```
    /// # use accompanist_core::{Abort, State, Table, state::Writes};
    /// # const STOCK: Table<String, u32> = Table::new("stock");
    /// # let base = Writes::default();
    /// # let state = &mut State::new(&base, "seller");
    /// let more = STOCK.update(state, "apples", |left| Ok(left.unwrap_or_default() + 3))?;
    /// assert_eq!(more, 3);
    /// # Ok::<(), Abort>(())
    /// ```
    ///
    /// # Errors
    /// The refusal of `change`; those of [`Table::put`]; see [`Table`].
    pub fn update(
        self,
        state: &mut State<'_>,
        key: impl AsKey<K>,
        change: impl FnOnce(Option<V>) -> Result<V, Abort>,
    ) -> Result<V, Abort> {
        let value = change(self.get(state, &key)?)?;
        self.put(state, key, &value)?;
        Ok(value)
    }

    /// Removes the value under `key`. Returns whether there was one.
    ///
    /// ```
    /// # use accompanist_core::{Abort, State, Table, state::Writes};
    /// # const STOCK: Table<String, u32> = Table::new("stock");
    /// # let base = Writes::default();
    /// # let state = &mut State::new(&base, "seller");
    /// STOCK.put(state, "apples", &3)?;
    /// assert!(STOCK.remove(state, "apples")?);
    /// assert!(!STOCK.remove(state, "apples")?);
    /// # Ok::<(), Abort>(())
    /// ```
    ///
    /// # Errors
    /// See [`Table`].
    pub fn remove(self, state: &mut State<'_>, key: impl AsKey<K>) -> Result<bool, Abort> {
        let there = self.contains(state, &key)?;
        if there {
            let key = state.key(self.name, &key);
            state.writes.set(key, None);
        }
        Ok(there)
    }

    /// Removes and returns the value under `key`.
    ///
    /// ```
    /// # use accompanist_core::{Abort, State, Table, state::Writes};
    /// # const STOCK: Table<String, u32> = Table::new("stock");
    /// # let base = Writes::default();
    /// # let state = &mut State::new(&base, "seller");
    /// STOCK.put(state, "apples", &3)?;
    /// assert_eq!(STOCK.take(state, "apples")?, Some(3));
    /// assert_eq!(STOCK.take(state, "apples")?, None);
    /// # Ok::<(), Abort>(())
    /// ```
    ///
    /// # Errors
    /// See [`Table`].
    pub fn take(self, state: &mut State<'_>, key: impl AsKey<K>) -> Result<Option<V>, Abort> {
        let value = self.get(state, &key)?;
        self.remove(state, key)?;
        Ok(value)
    }

    /// Returns the rows whose keys are in `keys`, in the order of the keys. See [`Rows`] for how they are read, and
    /// [`KeyBounds`] for what `keys` may be. To change rows that were found, collect them first.
    ///
    /// ```
    /// # use accompanist_core::{Abort, State, Table, state::{Under, Writes}};
    /// const LOTS: Table<(String, u32), u32> = Table::new("lots");
    /// # let base = Writes::default();
    /// # let state = &mut State::new(&base, "seller");
    /// for lot in 1..=9 {
    ///     LOTS.put(state, ("apples", lot), &10)?;
    ///     LOTS.put(state, ("pears", lot), &20)?;
    /// }
    /// let oldest: Vec<_> = LOTS.range(state, Under(("apples",))).take(2).collect::<Result<_, _>>()?;
    /// assert_eq!(oldest, [(("apples".into(), 1), 10), (("apples".into(), 2), 10)]);
    /// for (key, _) in oldest {
    ///     LOTS.remove(state, key)?;
    /// }
    /// assert_eq!(LOTS.count(state, ("apples", 0)..("apples", 5))?, 2);
    /// # Ok::<(), Abort>(())
    /// ```
    pub fn range<'s>(self, state: &'s State<'_>, keys: impl KeyBounds<K>) -> Rows<'s, K, V> {
        let prefix = state.prefix(self.name);
        let KeyRange { from, to } = keys.key_range();
        let to = match to {
            Some(to) => Some([prefix.as_slice(), &to].concat()),
            None => KeyRange::under(&prefix).to,
        };
        let from = [prefix.as_slice(), &from].concat();
        Rows::new(state, self.name, prefix.len(), KeyRange { from, to })
    }

    /// Returns the row in `keys` with the smallest key.
    ///
    /// ```
    /// # use accompanist_core::{Abort, State, Table, state::Writes};
    /// const QUEUE: Table<u64, String> = Table::new("queue");
    /// # let base = Writes::default();
    /// # let state = &mut State::new(&base, "seller");
    /// QUEUE.put(state, 7, &"later".into())?;
    /// QUEUE.put(state, 3, &"next".into())?;
    /// assert_eq!(QUEUE.first(state, ..)?, Some((3, "next".into())));
    /// # Ok::<(), Abort>(())
    /// ```
    ///
    /// # Errors
    /// See [`Table`].
    pub fn first(self, state: &State<'_>, keys: impl KeyBounds<K>) -> Result<Option<(K, V)>, Abort> {
        self.range(state, keys).next().transpose()
    }

    /// Returns the row in `keys` with the greatest key.
    ///
    /// ```
    /// # use accompanist_core::{Abort, State, Table, state::Writes};
    /// const LOG: Table<u64, String> = Table::new("log");
    /// # let base = Writes::default();
    /// # let state = &mut State::new(&base, "seller");
    /// LOG.put(state, 1, &"opened".into())?;
    /// let number = LOG.last(state, ..)?.map_or(0, |(number, _)| number + 1);
    /// LOG.put(state, number, &"sold".into())?;
    /// assert_eq!(LOG.last(state, ..)?, Some((2, "sold".into())));
    /// # Ok::<(), Abort>(())
    /// ```
    ///
    /// # Errors
    /// See [`Table`].
    pub fn last(self, state: &State<'_>, keys: impl KeyBounds<K>) -> Result<Option<(K, V)>, Abort> {
        self.range(state, keys).next_back().transpose()
    }

    /// Counts the rows in `keys`. This reads all of them; if there may be many, store the number in a separate row.
    ///
    /// ```
    /// # use accompanist_core::{Abort, State, Table, state::Writes};
    /// # const STOCK: Table<String, u32> = Table::new("stock");
    /// # let base = Writes::default();
    /// # let state = &mut State::new(&base, "seller");
    /// STOCK.put(state, "apples", &3)?;
    /// STOCK.put(state, "pears", &3)?;
    /// assert_eq!((STOCK.count(state, ..)?, STOCK.count(state, "b"..)?), (2, 1));
    /// # Ok::<(), Abort>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`Rows`]; see [`Table`].
    pub fn count(self, state: &State<'_>, keys: impl KeyBounds<K>) -> Result<usize, Abort> {
        let mut rows = self.range(state, keys);
        let mut count = 0;
        while rows.next_entry(Direction::Forward)?.is_some() {
            count += 1;
        }
        Ok(count)
    }

    fn value(self, state: &State<'_>, key: &impl AsKey<K>, bytes: &[u8]) -> Result<V, Abort> {
        decode(bytes).map_err(|error| state.unreadable(self.name, &bytes_of(key), &error))
    }
}

fn bytes_of<K>(key: &impl AsKey<K>) -> Vec<u8> {
    let mut bytes = Vec::new();
    key.encode(&mut bytes);
    bytes
}
