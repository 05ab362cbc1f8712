//! The database interface that the runtime requires: ordered keys, atomic batches, and a sync that really makes data
//! durable.
//!
//! All calls may block; the runtime makes them from the one writer of each node. A store knows spaces, keys and
//! values, not their meaning.

use std::fmt;

use super::range::{Direction, KeyRange};

use crate::base::error_text::debug_as_text;

/// The key spaces of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Space {
    /// Facts about the store itself: its format version, the known nodes.
    Meta,
    /// Role instances that are not closed. The key is the instance.
    Open,
    /// Tombstones of closed role instances. The key is the instance.
    Closed,
    /// Mailboxes and recorded results. The key begins with the instance.
    Journal,
    /// The services' own data, on which local transactions work.
    State,
    /// The tombstones in the order of their closing. The key is the time, then the instance.
    Ended,
    /// The session that each caller's key stands for, and the key of each such session.
    Keys,
    /// Dead letters: messages that arrived and could not be handled. The key is a number.
    Dead,
}

impl Space {
    /// Every space, in the order of their tags.
    pub const ALL: [Self; 8] =
        [Self::Meta, Self::Open, Self::Closed, Self::Journal, Self::State, Self::Ended, Self::Keys, Self::Dead];

    /// The name under which a database stores the space. A name is never reused with another meaning.
    pub fn name(self) -> &'static str {
        match self {
            Self::Meta => "meta",
            Self::Open => "open",
            Self::Closed => "closed",
            Self::Journal => "journal",
            Self::State => "state",
            Self::Ended => "ended",
            Self::Keys => "keys",
            Self::Dead => "dead",
        }
    }
}

impl fmt::Display for Space {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A change of one key: it is set to a value, or removed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Change {
    /// The space that contains the key.
    pub space: Space,
    /// The key.
    pub key: Vec<u8>,
    /// The new value; `None` removes the key.
    pub value: Option<Vec<u8>>,
}

/// The maximum length of a key in bytes, for every store. The minimum is 1.
pub const KEY_BYTES_MAX: usize = 65_535;

/// The maximum size of a value in bytes, for every store: 1 GiB.
pub const VALUE_BYTES_MAX: usize = 1 << 30;

impl Change {
    /// Checks that a store can hold the change. All stores follow the same rule, so that what works in memory works
    /// on disk.
    ///
    /// # Errors
    /// [`StoreError::Unstorable`] if no store can hold it.
    pub fn check(&self) -> Result<(), StoreError> {
        let value_bytes = self.value.as_ref().map_or(0, Vec::len);
        let reason = unstorable(self.key.len(), value_bytes);
        reason.map_or(Ok(()), |reason| Err(StoreError::Unstorable { space: self.space, reason }))
    }
}

/// Returns the reason why no store can hold a key and a value of these sizes, or `None` if they fit.
pub(crate) fn unstorable(key_bytes: usize, value_bytes: usize) -> Option<String> {
    if key_bytes == 0 {
        return Some("its key is empty".into());
    }
    let parts = [("key", key_bytes, KEY_BYTES_MAX), ("value", value_bytes, VALUE_BYTES_MAX)];
    let (part, found, limit) = parts.into_iter().find(|(_, found, limit)| found > limit)?;
    Some(format!("its {part} has {found} bytes, the limit is {limit}"))
}

/// A key with its value.
pub type Entry = (Vec<u8>, Vec<u8>);

/// Changes that become visible and durable together or not at all. If two changes concern the same key, the later one
/// wins.
pub type Batch = Vec<Change>;

/// An ordered key-value database with atomic batches.
pub trait Store: Send + 'static {
    /// Returns the value of `key`. A key that no store can hold has no value.
    ///
    /// # Errors
    /// [`StoreError`] when the database cannot be read.
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// Returns at most `limit` entries whose key is in `keys`: the first ones as seen from the end where reading
    /// begins, in that order. An empty or inverted range has no entries. The store reads nothing outside of the
    /// range, not even removed entries. The bounds may be keys that no store can hold.
    ///
    /// # Errors
    /// [`StoreError`] when the database cannot be read.
    fn range(
        &self,
        space: Space,
        keys: &KeyRange,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<Entry>, StoreError>;

    /// Returns at most `limit` entries whose key begins with `prefix`, in key order, starting after the key `after`.
    ///
    /// # Errors
    /// As [`Store::range`], which this method calls.
    fn scan(&self, space: Space, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<Entry>, StoreError> {
        let mut keys = KeyRange::under(prefix);
        if let Some(after) = after {
            keys.from = keys.from.max(KeyRange::next(after));
        }
        self.range(space, &keys, Direction::Forward, limit)
    }

    /// Makes the whole batch visible to later reads. The batch survives a crash only once [`Store::sync`] has
    /// returned. If [`Change::check`] refuses one of its changes, the whole batch is refused and nothing changes; the
    /// node checks first, so it never passes such a batch.
    ///
    /// # Errors
    /// [`StoreError`]; the node then stops, since the store's state is unknown.
    fn apply(&mut self, batch: Batch) -> Result<(), StoreError>;

    /// Makes everything applied before durable, at the place where the next opening of the store finds it. Fails
    /// whenever [`Store::check`] would fail.
    ///
    /// # Errors
    /// [`StoreError`]; the node then stops, since the store's state is unknown.
    fn sync(&mut self) -> Result<(), StoreError>;

    /// Checks that the opened store can still be opened again: its folder has not been removed, moved away or
    /// replaced, and its disk has no other owner. The runtime calls this each second, even when nothing is written. A
    /// store that wraps others passes the call on.
    ///
    /// # Errors
    /// [`StoreError`]; the node then stops, since nothing that it writes would survive.
    fn check(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    /// The number of batches applied in the whole life of the store, as far as they are present. The number tells
    /// which of two copies is the later one. After a crash it is at least what it was at the last sync. A store that
    /// wraps others passes the call on. A store that cannot tell returns 0; an older copy of it is then recognised
    /// only by its generation.
    fn commits(&self) -> u64 {
        0
    }

    /// Called when everything that waited for the last sync has been answered: prepares the store so that the next
    /// sync is fast. Changes nothing that can be read.
    fn make_ready(&mut self) {}
}

/// The error of a store that cannot be used. Each variant says what to do.
#[derive(Clone, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The store was to be opened with a size that cannot work.
    #[error("`{size}` of the store's sizes: {reason}")]
    Size {
        /// The setting.
        size: &'static str,
        /// The reason, and what to do.
        reason: String,
    },
    /// Another process has opened the folder.
    #[error("the store at `{path}` is in use by another process: stop it, or give this node a folder of its own")]
    InUse {
        /// The folder.
        path: String,
    },
    /// The store was written by a later release.
    #[error(
        "the store has format {found}, this release reads up to {supported}: run the release that wrote it, or a later \
         one"
    )]
    NewerFormat {
        /// The format found in the store.
        found: u32,
        /// The newest format this release reads.
        supported: u32,
    },
    /// The path of the store is empty.
    #[error("the store's path is empty: give it a folder of its own; is the variable set that the path comes from?")]
    NoPath,
    /// The path leads to a file, or through one, instead of to a folder.
    #[error("the store's path `{path}` leads to a file, or through one: give it a folder of its own")]
    NotAFolder {
        /// The path.
        path: String,
    },
    /// The folder does not exist and cannot be created.
    #[error(
        "the store's folder `{path}` is not there and cannot be made ({reason}): make it, or mount the volume that it \
         is on"
    )]
    NoFolder {
        /// The folder.
        path: String,
        /// The error of the operating system.
        reason: String,
    },
    /// The user of this process may not access the folder, or a file in it.
    #[error(
        "the store at `{path}` may not be read and written by this user ({reason}): run the node as the owner of the \
         folder, or give the folder, with all that is in it, to this user (`chown -R`)"
    )]
    Denied {
        /// The folder.
        path: String,
        /// The error of the operating system.
        reason: String,
    },
    /// The file system is read-only.
    #[error(
        "the store at `{path}` is on a file system that is read-only ({reason}): mount it for writing; if the system \
         has made it read-only by itself, look at the disk first"
    )]
    ReadOnly {
        /// The folder.
        path: String,
        /// The error of the operating system.
        reason: String,
    },
    /// The disk is full.
    #[error(
        "the store at `{path}` has no room on its disk ({reason}): free some, or raise the quota, and open it again; \
         nothing is lost"
    )]
    Full {
        /// The folder.
        path: String,
        /// The error of the operating system.
        reason: String,
    },
    /// The folder belongs to another program.
    #[error(
        "the folder `{path}` is not that of a store ({found}): give the store a folder of its own; nothing was changed"
    )]
    Foreign {
        /// The folder.
        path: String,
        /// A description of what is there.
        found: String,
    },
    /// The operating system refuses to open the store for another reason.
    #[error("the store at `{path}` cannot be opened ({reason}): look at what the system's log says of its disk")]
    Open {
        /// The folder.
        path: String,
        /// The error of the operating system or the database.
        reason: String,
    },
    /// The database differs from what was written, or a part of it is missing.
    #[error(
        "the store at `{path}` is damaged ({reason}): nothing is run on it, since it may have forgotten what it has \
         acknowledged; keep the folder as it is, check the disk, and go on with a backup that has all of it"
    )]
    Damaged {
        /// The folder.
        path: String,
        /// A description of the damage.
        reason: String,
    },
    /// The files of the store are no longer at the place where they were opened.
    #[error(
        "the store at `{path}` is gone while it was open ({reason}): the node stops, since what it writes now is lost \
         with the process; put the folder back as it was, or go on with a backup that has all of it, and start the \
         node again"
    )]
    Gone {
        /// The folder.
        path: String,
        /// A description of what is missing.
        reason: String,
    },
    /// The store was created for another node.
    #[error(
        "the store belongs to node `{found}`, and was opened for node `{given}`: give `{given}` the folder of its own \
         store, or start this one as `{found}`; a store is not renamed, and nothing of it was changed"
    )]
    OtherNode {
        /// The node that the store belongs to.
        found: String,
        /// The node that the store was opened for.
        given: String,
    },
    /// The store was created in another system.
    #[error(
        "the store belongs to system `{found}`, and was opened in system `{given}`: give the node the folder of its \
         store in `{given}`, or connect it to `{found}` (the transport's namespace, or `system` of its settings); \
         nothing of it was changed"
    )]
    OtherSystem {
        /// The system that the store belongs to.
        found: String,
        /// The system that the store was opened in.
        given: String,
    },
    /// Another node knows a node of this name with another store.
    #[error(
        "`{by}` knows this node by its name with another store, and the one that it was started on has nothing of \
         that: sessions that are open wait for what the other store has, and what it has done may be done again; give \
         the node its store back, have the name forgotten (`forget`), give a second node a name of its own, or begin \
         anew knowingly with `NodeBuilder::fresh` (`--fresh`)"
    )]
    Replaced {
        /// The node that knows the other store.
        by: String,
    },
    /// The values of the store are encoded differently from what the opener expects.
    #[error("the store is not opened, and nothing of it was changed: {0}")]
    Encoding(String),
    /// Another node knows a later state of this store than the one this node was started on.
    #[error(
        "`{by}` knows this node with {known}, and the store that it was started on has {own}: it is an older copy, or \
         a second one, and what was done since is not in it; nothing is taken from it. Give the node the store that is \
         known, or accept the loss (`NodeBuilder::accept_restore`, `accept_restore` of the settings, \
         `--accept-restore`): what others still have open is done again or listed, see `docs/operators.md`"
    )]
    GoneBack {
        /// The node that knows the later state.
        by: String,
        /// The state that it knows.
        known: String,
        /// The state of this store.
        own: String,
    },
    /// Another node of this name is running on another copy of this store.
    #[error(
        "two nodes of this name are at work on two copies of one store, as `{by}` says: this one with {own}, the other \
         one with {other}. Both stop; find the other one, decide which store is the right one, see that the other is \
         not started again, and start this one with `NodeBuilder::accept_restore` (`accept_restore` of the settings, \
         `--accept-restore`)"
    )]
    TwoOwners {
        /// The node that detected it.
        by: String,
        /// The state of this store.
        own: String,
        /// The state of the other store.
        other: String,
    },
    /// A stored value cannot be decoded.
    #[error(
        "the store holds a value in `{space}` that cannot be read ({reason}): it was damaged, or written by another \
         program; nothing was changed"
    )]
    Corrupt {
        /// The space that contains the value.
        space: Space,
        /// A description of the error.
        reason: String,
    },
    /// A change is too large for any store.
    #[error(
        "a change of `{space}` cannot be stored ({reason}): make keys and values smaller, and keep large ones \
         elsewhere; nothing of it was written"
    )]
    Unstorable {
        /// The space that the change concerns.
        space: Space,
        /// A description of what is too large.
        reason: String,
    },
    /// A caller's code that reads the store panicked.
    #[error("the code that was to read the store panicked ({0}): mend it; nothing was changed")]
    Panicked(String),
    /// Reading or writing the store failed.
    #[error(
        "the store failed ({0}): free disk space or mend the disk, then start the node again; what was acknowledged is \
         kept"
    )]
    Failed(String),
    /// The writer has ended, so nothing is written any more.
    #[error("the store is closed: the node has stopped")]
    Closed,
}

debug_as_text!(StoreError);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_values_up_to_the_limits_can_be_stored() {
        for (key_bytes, value_bytes) in [(1, 0), (KEY_BYTES_MAX, VALUE_BYTES_MAX)] {
            assert_eq!(unstorable(key_bytes, value_bytes), None);
        }
        let cases = [
            (0, 1, "its key is empty"),
            (KEY_BYTES_MAX + 1, 0, "its key has 65536 bytes, the limit is 65535"),
            (1, VALUE_BYTES_MAX + 1, "its value has 1073741825 bytes, the limit is 1073741824"),
        ];
        for (key_bytes, value_bytes, expected) in cases {
            assert_eq!(unstorable(key_bytes, value_bytes).as_deref(), Some(expected));
        }
    }
}
