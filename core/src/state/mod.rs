//! A service's own data, as a local transaction sees it: typed tables that read from the store below and hold their
//! writes separately.
//!
//! The writes of a refused step are discarded; those of a committed step go into the same batch as the step's record.
//! `table` has the interface for users, `key` the encoding of keys, `rows` ranges, `layers` what a read sees.

mod bounds;
mod key;
mod layers;
mod rows;
mod table;

use std::cell::RefCell;
use std::fmt::Debug;

use crate::base::abort::Abort;
use crate::base::message::{CodecError, Fingerprint};
use crate::contract::{Direction, Entry, KeyRange, unstorable};

pub use bounds::{KeyBounds, Under};
pub use key::{AsKey, Key};
pub use layers::{Layered, ReadState, Writes};
pub use rows::{ROWS_MAX, Rows};
pub use table::Table;

/// The data of one role's service, which its [`Table`]s read and write.
///
/// A [`LocalTransaction`](crate::LocalTransaction) receives a state. All its changes are atomic with the step's
/// record, and the steps of a node run one after the other, so they need no locks. Each role has its own tables: if
/// two roles use the same table name, they have two tables.
///
/// For a unit test of a step, create a state over [`Writes`].
///
/// ```
/// use accompanist_core::{State, Table, state::Writes};
///
/// const SHELF: Table<String, u32> = Table::new("shelf");
///
/// # fn main() -> Result<(), accompanist_core::Abort> {
/// let nothing = Writes::default();
/// let (mut seller, carrier) = (State::new(&nothing, "seller"), State::new(&nothing, "carrier"));
/// SHELF.put(&mut seller, "books", &10)?;
/// assert_eq!(SHELF.get(&seller, "books")?, Some(10)); // A state reads its own writes ..
/// assert_eq!(SHELF.get(&carrier, "books")?, None); // .. and only those of its own role.
/// # Ok(())
/// # }
/// ```
pub struct State<'a> {
    base: &'a dyn ReadState,
    role: &'a str,
    writes: Writes,
    /// The tables whose recorded key type was found to be that of their handle: by name, and by the type of the key.
    checked_keys: RefCell<Vec<(&'static str, &'static str)>>,
    /// The first failure below a step. The step ends with it, even if the step's code ignores it.
    failed: RefCell<Option<Abort>>,
}

impl Debug for State<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "State({}, {} writes)", self.role, self.writes.len())
    }
}

impl<'a> State<'a> {
    /// Creates the state of `role` over `base`.
    pub fn new(base: &'a dyn ReadState, role: &'a str) -> Self {
        Self { base, role, writes: Writes::default(), checked_keys: RefCell::default(), failed: RefCell::default() }
    }

    /// Returns the writes made so far; [`Writes`] has an example.
    pub fn into_writes(self) -> Writes {
        self.writes
    }

    /// Runs a step within the step, on the data of `role` (which may be another role). Its writes are applied if it
    /// succeeds, and discarded otherwise. A failure below the inner step is the result of that step, not of the step
    /// around it.
    ///
    /// # Errors
    /// The errors of `attempt`.
    #[doc(hidden)]
    pub fn within<T>(
        &mut self,
        role: &str,
        attempt: impl FnOnce(&mut State<'_>) -> Result<T, Abort>,
    ) -> Result<T, Abort> {
        let (writes, result) = {
            let below = self.writes.over(self.base);
            let mut inner = State::new(&below, role);
            let result = attempt(&mut inner);
            let result = inner.unless_failed(result)?;
            (inner.writes, result)
        };
        self.writes.absorb(writes);
        Ok(result)
    }

    /// Returns `result`, unless something failed below the step: the step's code cannot know how to continue after
    /// that.
    pub(crate) fn unless_failed<T, E: From<Abort>>(&self, result: Result<T, E>) -> Result<T, E> {
        self.failed.borrow_mut().take().map_or(result, |failure| Err(failure.into()))
    }

    /// The prefix of a table's keys: role and table, each preceded by its length, so that no prefix begins with
    /// another.
    fn prefix(&self, table: &str) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.role.len() + table.len() + 4);
        push_name(&mut bytes, self.role);
        push_name(&mut bytes, table);
        bytes
    }

    /// The key under which a table's key type is recorded. All instances of a durable actor, whose roles differ after a
    /// zero byte only, have the same tables and share the record. No row has such a key: a table's name of this length
    /// does not fit into a key.
    fn key_type_key(&self, table: &str) -> Vec<u8> {
        let role = self.role.split('\0').next().unwrap_or_default();
        let mut bytes = Vec::with_capacity(role.len() + table.len() + 4);
        push_name(&mut bytes, role);
        bytes.extend_from_slice(&u16::MAX.to_be_bytes());
        bytes.extend_from_slice(table.as_bytes());
        bytes
    }

    /// Whether a key of the store is that of a row, and not that of a table's key type.
    #[cfg(feature = "testing")]
    pub(crate) fn is_row(key: &[u8]) -> bool {
        let length = |bytes: &[u8]| bytes.first_chunk().map(|length| u16::from_be_bytes(*length));
        let table = length(key).and_then(|role| length(key.get(2 + usize::from(role)..)?));
        table != Some(u16::MAX)
    }

    /// Checks that the rows of `table`, if there are any, have keys of type `K`. Returns whether the type is recorded.
    fn check_keys<K: Key>(&self, table: &'static str) -> Result<bool, Abort> {
        let checked = (table, std::any::type_name::<K>());
        if self.checked_keys.borrow().contains(&checked) {
            return Ok(true);
        }
        let Some(written) = self.read(table, &self.key_type_key(table))? else { return Ok(false) };
        let expected = key::shape_of::<K>();
        if written != expected.as_bytes() {
            let written = String::from_utf8_lossy(&written);
            let shapes = format!("written was `{written}`, expected is `{expected}`");
            let reason = format!("it has a key of another type: {OTHER_TYPE}; nothing was changed ({shapes})");
            return Err(self.failure(table, &reason));
        }
        self.checked_keys.borrow_mut().push(checked);
        Ok(true)
    }

    /// Records that `table` has keys of type `K`, with its first row.
    fn record_keys<K: Key>(&mut self, table: &'static str) -> Result<(), Abort> {
        if !self.check_keys::<K>(table)? {
            self.writes.set(self.key_type_key(table), Some(key::shape_of::<K>().into_bytes()));
        }
        Ok(())
    }

    fn key<K>(&self, table: &str, key: &impl AsKey<K>) -> Vec<u8> {
        let mut bytes = self.prefix(table);
        key.encode(&mut bytes);
        bytes
    }

    fn read(&self, table: &str, key: &[u8]) -> Result<Option<Vec<u8>>, Abort> {
        self.writes.over(self.base).read(key).map_err(|error| self.failure(table, &error.to_string()))
    }

    fn read_range(
        &self,
        table: &str,
        keys: &KeyRange,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<Entry>, Abort> {
        let found = self.writes.over(self.base).read_range(keys, direction, limit);
        found.map_err(|error| self.failure(table, &error.to_string()))
    }

    /// Refuses a row that no store can hold; the step decides what to do instead.
    fn check(&self, table: &str, key: &[u8], value: &[u8]) -> Result<(), Abort> {
        let Some(reason) = unstorable(key.len(), value.len()) else { return Ok(()) };
        let role = self.role;
        let what_to_do = "shorten the key (to a hash, say), or keep a large value elsewhere";
        let text = format!("a row of table `{table}` of role `{role:.80}` cannot be stored ({reason}): {what_to_do}");
        Err(Abort::new(Abort::ROW_TOO_LARGE, text))
    }

    /// Creates and notes the reason why a step cannot be run. A failure is no decision of the step: it stops the
    /// session where it is.
    fn failure(&self, table: &str, reason: &str) -> Abort {
        let failure = Abort::failure(format!("table `{table}` of role `{}`: {reason}", self.role));
        self.failed.borrow_mut().get_or_insert_with(|| failure.clone());
        failure
    }

    /// Creates the failure for an undecodable value. The advice comes first, because a long reason is cut off.
    fn unreadable(&self, table: &str, key: &[u8], error: &CodecError) -> Abort {
        let key = shown(key);
        let reason = format!("the value under {key} is of another type: {OTHER_TYPE}; nothing was changed ({error})");
        self.failure(table, &reason)
    }
}

/// Adds a name to a key, with its length before it.
fn push_name(key: &mut Vec<u8>, name: &str) {
    // No sane schema has longer names. The capped length is still unambiguous, because the whole name follows.
    key.extend_from_slice(&u16::try_from(name.len()).unwrap_or(u16::MAX).to_be_bytes());
    key.extend_from_slice(name.as_bytes());
}

/// The advice in errors about a row whose type is not that of its table.
const OTHER_TYPE: &str = "run the code that wrote it, or give the new type a table of another name";

/// Describes a key for people without showing it, because errors are logged and users' data must not be. A person who
/// knows the key can compare the fingerprint.
fn shown(key: &[u8]) -> String {
    format!("a key of {} bytes with fingerprint {}", key.len(), Fingerprint::of(&key.to_vec().into()))
}
