//! All checks of a fjall store before fjall opens it, in one place: its marker files, journals and trees, and their
//! consistency with each other (decision 0022).
//!
//! fjall repairs what a crash leaves behind, and mistakes damage for it: it cuts off journals, and removes tables and
//! whole keyspaces. A damaged store is therefore refused here, before anything has been changed. Next: `journals.rs`,
//! `trees.rs`, `durability_mark.rs`.

use std::fs::File;
use std::io;
use std::path::Path;
use std::time::Duration;

use accompanist_core::contract::StoreError;

use super::commit_row::{COMMITS_POSITION, CommitRow};
use super::durability_mark::{Found, Marked};
use super::journals::{self, Journals};
use super::trees::{Budget, Tree};
use super::unusable;

/// How often a lock is tried that another process may be about to release, and the pause between tries.
const LOCK_TRIES: u32 = 4;
const LOCK_PAUSE: Duration = Duration::from_millis(100);

/// The prefix of the file `version` in all formats of the database; the number of the format follows.
pub(super) const FORMAT_PREFIX: &[u8] = b"FJL";
/// The numbers of formats are below this; a larger one is damage.
const FORMATS_MAX: u8 = 16;

/// The reason why a store cannot be opened.
#[derive(Debug)]
pub(super) enum Fault {
    /// The store differs from what was written, or part of it is missing.
    Damage(String),
    /// Another process has it open.
    InUse,
    /// Its files cannot be read at present.
    Unusable(io::Error),
    /// A later release has written it, with this format of the database.
    Newer(u8),
}

impl Fault {
    /// Returns the fault as an error of the store at `path`.
    pub(super) fn error_at(self, path: &str) -> StoreError {
        let owned = path.to_owned();
        match self {
            Self::Damage(reason) => StoreError::Damaged { path: owned, reason },
            Self::InUse => StoreError::InUse { path: owned },
            Self::Unusable(error) => unusable::error_at(path, &error),
            Self::Newer(found) => {
                let [.., supported] = journals::MAGIC;
                StoreError::NewerFormat { found: found.into(), supported: supported.into() }
            }
        }
    }

    /// Converts the result of reading a file that must exist.
    pub(super) fn at<T>(path: &Path, result: io::Result<T>) -> Result<T, Self> {
        result.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Self::Damage(format!("`{}` is missing", path.display())),
            _ => Self::from(error),
        })
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Unusable(error)
    }
}

/// Verifies the store in `folder`, whose mark is `found`, and the bytes of its tables up to `verify_bytes_max`.
pub(super) fn check(folder: &Path, found: &Found, verify_bytes_max: u64) -> Result<(), Fault> {
    let marked = match found {
        Found::Nothing => None,
        Found::Marked(marked) => Some(marked),
        Found::Damaged => return Err(Fault::Damage("its file `synced` cannot be read".into())),
    };
    if !has_version(folder, marked.is_some())? {
        return Ok(());
    }
    let _lock = lock(folder)?;
    let journals = journals::check(folder, marked.map_or(0, |marked| marked.synced))?;
    match marked {
        Some(marked) => fit_together(&journals, marked, &trees(folder, marked, verify_bytes_max)?),
        // The mark is created before the first batch.
        None if journals.ends.is_some() || has_tables(folder)? => {
            Err(Fault::Damage("its file `synced` is missing".into()))
        }
        // The first opening was cut off: none of the files holds a row yet.
        None => Ok(()),
    }
}

/// Whether the database has the format that is known here; a fresh folder has none yet.
fn has_version(folder: &Path, is_marked: bool) -> Result<bool, Fault> {
    let version = match std::fs::read(folder.join("version")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
        version => version.unwrap_or_default(),
    };
    match version.strip_prefix(FORMAT_PREFIX) {
        _ if version == journals::MAGIC => Ok(true),
        Some([found]) if is_newer(*found) => Err(Fault::Newer(*found)),
        _ if is_marked => Err(Fault::Damage("its file `version` is missing, or is not what was written".into())),
        // A fresh folder, or another format: fjall reports the error.
        _ => Ok(false),
    }
}

/// Whether the number is that of a later format: one of those to come, and not the known one with a single bit
/// flipped.
fn is_newer(found: u8) -> bool {
    let [.., known] = journals::MAGIC;
    found > known && found < FORMATS_MAX && (found ^ known).count_ones() > 1
}

/// Whether any keyspace except the list of their names has been flushed.
fn has_tables(folder: &Path) -> Result<bool, Fault> {
    for keyspace in std::fs::read_dir(folder.join("keyspaces")).into_iter().flatten() {
        let path = keyspace?.path();
        if !path.ends_with("0") && Tree::read(&path)?.is_some_and(|tree| tree.has_tables()) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Locks out other processes while the store is read.
fn lock(folder: &Path) -> Result<File, Fault> {
    let path = folder.join("lock");
    let file = Fault::at(&path, File::options().read(true).write(true).open(&path))?;
    for tried in 1..=LOCK_TRIES {
        match file.try_lock() {
            Ok(()) => break,
            Err(std::fs::TryLockError::Error(error)) => return Err(error.into()),
            Err(std::fs::TryLockError::WouldBlock) if tried == LOCK_TRIES => return Err(Fault::InUse),
            Err(std::fs::TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
        }
    }
    Ok(file)
}

/// Reads and verifies each tree, and returns those of our keyspaces in the order of the mark.
fn trees(folder: &Path, marked: &Marked, verify_bytes_max: u64) -> Result<Vec<Tree>, Fault> {
    let folder = folder.join("keyspaces");
    let mut budget = Budget::new(verify_bytes_max);
    let read = |id: u64| Tree::read(&folder.join(id.to_string()));
    // The list of the names of all keyspaces: fjall removes keyspaces that it does not name.
    let names = read(0)?.filter(|names| names.version >= marked.names_version);
    let names = names.ok_or_else(|| Fault::Damage("the list of its keyspaces is missing, or an older one".into()))?;
    let tree = |id: &u64| {
        read(*id)?.ok_or_else(|| Fault::Damage(format!("its keyspace {id} is missing, or has no `current`")))
    };
    let trees = marked.keyspaces.iter().map(tree).collect::<Result<Vec<_>, _>>()?;
    std::iter::once(&names).chain(&trees).try_for_each(|tree| tree.verify(&mut budget))?;
    if budget.skipped > 0 {
        names.newest_sequence()?;
    }
    if budget.skipped > 0 {
        let (verified, left) = (verify_bytes_max, budget.skipped);
        tracing::info!(
            folder = %folder.display(), verified, left,
            "the rest of the tables is verified when it is read"
        );
    }
    Ok(trees)
}

/// Checks that the tables hold everything that is no longer in the journals, and nothing that is not in them yet.
fn fit_together(journals: &Journals, marked: &Marked, trees: &[Tree]) -> Result<(), Fault> {
    let newest = trees.iter().map(Tree::newest_sequence).collect::<Result<Vec<_>, _>>()?;
    let hold_all = |written: &[u64]| hold_all(written, &marked.keyspaces, &newest).map_err(Fault::Damage);
    if let Some((first, last_sequence)) = &journals.ends {
        hold_all(&first.before)?;
        return match newest.iter().flatten().max() {
            Some(newest) if newest > last_sequence => Err(Fault::Damage(format!(
                "its journals end with batch {last_sequence}, and its tables with batch {newest}"
            ))),
            _ => Ok(()),
        };
    }
    // All writes are in tables, including the row of the last batch.
    let row = trees.get(COMMITS_POSITION).map(Tree::newest_value).transpose()?.flatten();
    let row = row.map(|(sequence, value)| (sequence, CommitRow::from_bytes(&value)));
    match row {
        None if marked.synced == 0 => Ok(()),
        Some((sequence, Some(row))) if row.commit >= marked.synced => hold_all(&row.after(sequence)),
        Some((_, Some(CommitRow { commit, .. }))) => {
            Err(Fault::Damage(format!("it ends with commit {commit}, and commit {} was acknowledged", marked.synced)))
        }
        Some((_, None)) => Err(Fault::Damage("its number of commits cannot be read".into())),
        None => Err(Fault::Damage(format!(
            "it ends before its first commit, and commit {} was acknowledged",
            marked.synced
        ))),
    }
}

/// Checks that tables that end with the batches `newest` hold everything up to the batches `written`, each for one
/// keyspace.
fn hold_all(written: &[u64], keyspaces: &[u64], newest: &[Option<u64>]) -> Result<(), String> {
    for (position, written) in written.iter().enumerate() {
        let held = newest.get(position).copied().flatten().unwrap_or(0);
        if held < *written {
            let id = keyspaces.get(position).copied().unwrap_or_default();
            return Err(format!(
                "the tables of its keyspace {id} end with batch {held}, batch {written} was written to it, and the \
                 journal of that is gone"
            ));
        }
    }
    Ok(())
}
