//! A store whose first opening was cut off by a crash: fjall can neither continue with it nor start over.
//!
//! Files are removed only if the store cannot hold anything: it has no keyspace, no mark and no version, and its
//! journals are only reserved space.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Removes the remains of a store whose creation was not completed, so that it can be created again.
pub(super) fn clear(folder: &Path) -> io::Result<()> {
    let version = folder.join("version");
    let is_made = fs::metadata(&version).is_ok_and(|version| version.len() > 0) || folder.join("synced").exists();
    let lock = folder.join("lock");
    if is_made || !lock.exists() || !is_empty(&folder.join("keyspaces")) {
        return Ok(());
    }
    // Another process may be creating it at this moment.
    let lock = File::options().read(true).write(true).open(lock)?;
    if lock.try_lock().is_err() {
        return Ok(());
    }
    let journals = journals(folder)?;
    for journal in &journals {
        if !is_reserved_room(journal)? {
            return Ok(());
        }
    }
    tracing::warn!(folder = %folder.display(), "a store that was not made to the end is made anew");
    journals.iter().try_for_each(fs::remove_file)?;
    if version.exists() { fs::remove_file(version) } else { Ok(()) }
}

fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).map_or(true, |mut entries| entries.next().is_none())
}

fn journals(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let paths = fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>()?;
    Ok(paths.into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "jnl")).collect())
}

/// Whether nothing was ever written to a journal.
fn is_reserved_room(journal: &Path) -> io::Result<bool> {
    let (mut file, mut bytes) = (File::open(journal)?, vec![0; 64 * 1024]);
    loop {
        match file.read(&mut bytes)? {
            0 => return Ok(true),
            read if bytes.get(..read).is_some_and(|read| read.iter().any(|byte| *byte != 0)) => return Ok(false),
            _ => {}
        }
    }
}
