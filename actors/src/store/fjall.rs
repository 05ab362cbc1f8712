//! The store on disk. This is the only module that uses fjall's API.
//!
//! fjall has no group commit and its calls block: the writer turns many requests into one batch and one sync, on a
//! separate thread. Damage that fjall does not detect is detected here: see `opening.rs`. `preallocation.rs` makes
//! syncs faster.

use std::io::ErrorKind;
use std::ops::Bound;
use std::path::Path;

use accompanist_core::contract::{
    Batch, ByteBounds, Change, Direction, Entry, KEY_BYTES_MAX, KeyRange, Space, Store, StoreError,
};
use accompanist_core::panics;
use fjall::{AbstractTree, Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use super::commit_row::{self, COMMITS_POSITION, CommitRow};
use super::durability_mark::{DurabilityMark, Found, StoreLayout};
use super::incomplete_open;
use super::modes;
use super::opening::{self, Fault};
use super::place::Place;
use super::preallocation::Preallocation;
use super::trees::Tree;
use super::unusable;
use crate::config::{Durability, FjallSizes};

/// The bytes a journal adds to each row besides its key and value.
const ITEM_BYTES: u64 = 19;

/// The keyspace with the row of the last batch.
const COMMITS: &str = "commits";

/// A store in its own folder.
///
/// ```
/// use accompanist::Durability;
/// use accompanist::contract::StoreError;
/// use accompanist::store::FjallStore;
///
/// # let folder = tempfile::tempdir()?;
/// # let folder = folder.path().join("shop-1");
/// let store = FjallStore::open(&folder)?.durability(Durability::Process); // For `NodeBuilder::store`.
/// let error = FjallStore::open(&folder).unwrap_err(); // A store has one owner.
/// assert!(matches!(error, StoreError::InUse { .. }));
///
/// drop(store);
/// let store = FjallStore::open(&folder)?; // Power cuts are survived unless `durability` says otherwise.
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct FjallStore {
    database: Database,
    spaces: Vec<(Space, Keyspace)>,
    commits: Keyspace,
    /// The last batch that was applied.
    commit: u64,
    /// For each keyspace, by its position, the sequence number of the last batch that touched it.
    touched: Vec<u64>,
    mark: DurabilityMark,
    ahead: Preallocation,
    place: Place,
    path: String,
    sync: PersistMode,
}

impl std::fmt::Debug for FjallStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FjallStore").field("sync", &self.sync).finish_non_exhaustive()
    }
}

impl FjallStore {
    /// Opens the store in `folder`, or creates a new one there, with the sizes of a server.
    ///
    /// # Errors
    /// [`StoreError`] when the folder is in use, cannot be used, or holds a store that is damaged or of a later
    /// release.
    pub fn open(folder: impl AsRef<Path>) -> Result<Self, StoreError> {
        Self::open_with(folder, &FjallSizes::default())
    }

    /// Opens the store as [`FjallStore::open`] does, with the sizes that the caller gives.
    ///
    /// # Errors
    /// As [`FjallStore::open`].
    pub fn open_with(folder: impl AsRef<Path>, sizes: &FjallSizes) -> Result<Self, StoreError> {
        sizes.check()?;
        let folder = folder.as_ref();
        let path = folder.display().to_string();
        let damaged = |reason: String| StoreError::Damaged { path: path.clone(), reason };
        let unusable = |error: std::io::Error| unusable::error_at(&path, &error);
        let at_path = |fault: Fault| fault.error_at(&path);
        // Check the folder before anything in it is touched.
        unusable::check(folder)?;
        // Make the folder private before there is a file in it.
        modes::private_folder(folder).map_err(unusable)?;
        let found = DurabilityMark::read(folder).map_err(unusable)?;
        incomplete_open::clear(folder).map_err(unusable)?;
        // Both fjall and the libraries that read its files here assert invariants that a damaged store may violate.
        let checked = panics::catch(|| opening::check(folder, &found, sizes.verify_bytes_max));
        checked.map_err(damaged)?.map_err(at_path)?;
        let opened = panics::catch(|| open_spaces(folder, sizes)).map_err(damaged)?;
        let (database, spaces, commits) = opened.map_err(|error| cannot_open(&path, &error))?;
        let made = made(folder, &spaces, &commits).map_err(at_path)?;
        let (commit, touched) = last_batch(&path, &found, &spaces, &commits)?;
        let mark = DurabilityMark::open(folder, &found, &made).map_err(unusable)?;
        let ahead = Preallocation::new(folder, sizes.journal_bytes_ahead);
        let place = Place::new(folder).map_err(unusable)?;
        let sync = PersistMode::SyncData;
        let mut store = Self { database, spaces, commits, commit, touched, mark, ahead, place, path, sync };
        super::check_format(&mut store)?;
        modes::close(folder);
        Ok(store)
    }

    /// Sets what [`Store::sync`] has to survive.
    #[must_use]
    pub fn durability(mut self, durability: Durability) -> Self {
        self.sync = match durability {
            Durability::Power => PersistMode::SyncData,
            Durability::Process => PersistMode::Buffer,
        };
        self
    }

    /// Returns how many batches were applied since the store was created: of two copies, the one with more is the
    /// later one.
    pub fn commits(&self) -> u64 {
        self.commit
    }

    /// Returns the keyspace of a space, and its position in a commit row.
    fn keyspace(&self, space: Space) -> Result<(usize, &Keyspace), StoreError> {
        let found = self.spaces.iter().zip(COMMITS_POSITION + 1..).find(|((known, _), _)| *known == space);
        let found = found.map(|((_, keyspace), position)| (position, keyspace));
        found.ok_or_else(|| StoreError::Failed(format!("there is no space `{space}`")))
    }
}

/// Returns the same range of keys with bounds that fjall accepts: no key that can be stored lies between a bound that
/// is too long and its prefix of the maximum length.
fn within_limits((from, to): ByteBounds<'_>) -> Option<ByteBounds<'_>> {
    fn beginning(bound: Bound<&[u8]>) -> Option<&[u8]> {
        match bound {
            Bound::Included(key) | Bound::Excluded(key) => {
                key.get(..KEY_BYTES_MAX).filter(|_| key.len() > KEY_BYTES_MAX)
            }
            Bound::Unbounded => None,
        }
    }
    match (beginning(from), beginning(to)) {
        (Some(from), Some(to)) if from == to => None,
        (from_beginning, to_beginning) => {
            Some((from_beginning.map_or(from, Bound::Excluded), to_beginning.map_or(to, Bound::Included)))
        }
    }
}

type Opened = (Database, Vec<(Space, Keyspace)>, Keyspace);

fn open_spaces(folder: &Path, sizes: &FjallSizes) -> fjall::Result<Opened> {
    let database = Database::builder(folder)
        .cache_size(sizes.cache_bytes)
        .max_journaling_size(sizes.journals_bytes_max)
        .worker_threads(1)
        .open()?;
    let options = || KeyspaceCreateOptions::default().max_memtable_size(sizes.memtable_bytes);
    let spaces = Space::ALL.into_iter().map(|space| Ok((space, database.keyspace(space.name(), options)?)));
    let spaces = spaces.collect::<fjall::Result<_>>()?;
    let commits = database.keyspace(COMMITS, options)?;
    Ok((database, spaces, commits))
}

/// Returns what the store consists of.
fn made(folder: &Path, spaces: &[(Space, Keyspace)], commits: &Keyspace) -> Result<StoreLayout, Fault> {
    let names = Tree::read(&folder.join("keyspaces").join("0"))?;
    let names = names.ok_or_else(|| Fault::Damage("it has no list of its keyspaces".into()))?;
    Ok(StoreLayout { names_version: names.version, keyspaces: in_order(spaces, commits).map(Keyspace::id).collect() })
}

/// The keyspaces in the order of their positions in a commit row.
fn in_order<'a>(spaces: &'a [(Space, Keyspace)], commits: &'a Keyspace) -> impl Iterator<Item = &'a Keyspace> {
    std::iter::once(commits).chain(spaces.iter().map(|(_, keyspace)| keyspace))
}

/// Returns the number of the last batch, and the last batch that touched each keyspace, of a store that has been
/// opened.
fn last_batch(
    path: &str,
    found: &Found,
    spaces: &[(Space, Keyspace)],
    commits: &Keyspace,
) -> Result<(u64, Vec<u64>), StoreError> {
    let damaged = |reason: String| StoreError::Damaged { path: path.to_owned(), reason };
    let row = commits.get(commit_row::KEY).map_err(|error| failed(path, &error))?;
    let Some(row) = row else {
        return match found {
            Found::Marked(marked) if marked.synced > 0 => {
                Err(damaged(format!("it has no batch, and commit {} was acknowledged", marked.synced)))
            }
            _ => Ok((0, vec![0; spaces.len() + 1])),
        };
    };
    let row = CommitRow::from_bytes(&row).ok_or_else(|| damaged("its number of commits cannot be read".into()))?;
    let Found::Marked(marked) = found else { return Err(damaged("its file `synced` is missing".into())) };
    if row.commit < marked.synced {
        let (commit, synced) = (row.commit, marked.synced);
        return Err(damaged(format!("it ends with commit {commit}, and commit {synced} was acknowledged")));
    }
    let sequence = commits.tree.get_highest_seqno().unwrap_or_default();
    let mut touched = row.after(sequence);
    touched.resize(spaces.len() + 1, 0);
    Ok((row.commit, touched))
}

/// Whether an error is due to bytes that differ from those that were written.
fn is_damage(error: &fjall::Error) -> bool {
    let is_damage = |kind| {
        matches!(
            kind,
            ErrorKind::NotFound | ErrorKind::UnexpectedEof | ErrorKind::InvalidData | ErrorKind::InvalidInput
        )
    };
    match error {
        fjall::Error::Io(error) | fjall::Error::Storage(fjall::LsmError::Io(error)) => is_damage(error.kind()),
        fjall::Error::InvalidVersion(version) => version.is_none(),
        fjall::Error::Poisoned | fjall::Error::KeyspaceDeleted | fjall::Error::Locked => false,
        _ => true,
    }
}

fn cannot_open(path: &str, error: &fjall::Error) -> StoreError {
    let (path, reason) = (path.to_owned(), error.to_string());
    match error {
        fjall::Error::Locked => StoreError::InUse { path },
        fjall::Error::Io(error) | fjall::Error::Storage(fjall::LsmError::Io(error))
            if unusable::is_of_the_system(error.kind()) =>
        {
            unusable::error_at(&path, error)
        }
        error if is_damage(error) => StoreError::Damaged { path, reason },
        _ => StoreError::Open { path, reason },
    }
}

fn failed(path: &str, error: &fjall::Error) -> StoreError {
    let reason = error.to_string();
    if is_damage(error) { StoreError::Damaged { path: path.to_owned(), reason } } else { StoreError::Failed(reason) }
}

impl Store for FjallStore {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        if key.is_empty() || key.len() > KEY_BYTES_MAX {
            return Ok(None); // fjall would panic.
        }
        Ok(self.keyspace(space)?.1.get(key).map_err(|error| failed(&self.path, &error))?.map(|value| value.to_vec()))
    }

    fn range(
        &self,
        space: Space,
        keys: &KeyRange,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<Entry>, StoreError> {
        let Some(bounds) = keys.bounds().and_then(within_limits) else { return Ok(Vec::new()) };
        let mut found = self.keyspace(space)?.1.range::<&[u8], _>(bounds);
        let next = || match direction {
            Direction::Forward => found.next(),
            Direction::Backward => found.next_back(),
        };
        let entry = |guard: fjall::Guard| {
            let (key, value) = guard.into_inner().map_err(|error| failed(&self.path, &error))?;
            Ok((key.to_vec(), value.to_vec()))
        };
        std::iter::from_fn(next).take(limit).map(entry).collect()
    }

    fn apply(&mut self, batch: Batch) -> Result<(), StoreError> {
        batch.iter().try_for_each(Change::check)?;
        let mut write = self.database.batch();
        let mut touched = vec![false; self.touched.len()];
        touched.iter_mut().take(COMMITS_POSITION + 1).for_each(|commits| *commits = true);
        for Change { space, key, value } in batch {
            self.ahead.note((key.len() + value.as_ref().map_or(0, Vec::len)) as u64 + ITEM_BYTES);
            let (position, keyspace) = self.keyspace(space)?;
            touched.iter_mut().skip(position).take(1).for_each(|touched| *touched = true);
            match value {
                Some(value) => write.insert(keyspace, key, value),
                None => write.remove(keyspace, key),
            }
        }
        let row = CommitRow::next(self.commit + 1, &touched, self.touched.clone());
        write.insert(&self.commits, commit_row::KEY, row.to_bytes());
        write.commit().map_err(|error| failed(&self.path, &error))?;
        self.commit = row.commit;
        // This batch wrote the row, and no later one did.
        self.touched = row.after(self.commits.tree.get_highest_seqno().unwrap_or_default());
        Ok(())
    }

    fn sync(&mut self) -> Result<(), StoreError> {
        self.database.persist(self.sync).map_err(|error| failed(&self.path, &error))?;
        match self.sync {
            // Data that is only in the system's buffers may be gone after a power cut: nothing is promised about it.
            PersistMode::Buffer => Ok(()),
            _ => self.mark.set(self.commit).map_err(|error| StoreError::Failed(error.to_string())),
        }?;
        // Synced data is durable only if the next process finds it.
        self.check()
    }

    fn check(&mut self) -> Result<(), StoreError> {
        self.place.check().map_err(|reason| StoreError::Gone { path: self.path.clone(), reason })
    }

    fn commits(&self) -> u64 {
        self.commit
    }

    fn make_ready(&mut self) {
        // Without syncs there is nothing to make faster.
        if self.sync != PersistMode::Buffer {
            self.ahead.fill();
        }
    }
}
