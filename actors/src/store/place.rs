//! Checks that the files of an open store are still where they were opened.
//!
//! A file that has been unlinked can still be written and synced, and vanishes with the process: a store whose folder
//! was removed, or moved away, would acknowledge data that nobody will ever find. This module therefore checks that
//! the paths lead to the same files as at the opening: the folder, the permanent files, and the current journal.

use std::io;
use std::path::{Path, PathBuf};

use super::journals;

/// The files that exist as long as the store does. Without `lock`, a second process could open it.
const STAYING: [&str; 2] = ["lock", "synced"];

/// The identity of the file that a path leads to, as far as the system reveals it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    #[cfg(unix)]
    fn of(path: &Path) -> io::Result<Self> {
        use std::os::unix::fs::MetadataExt;

        let metadata = std::fs::metadata(path)?;
        Ok(Self { device: metadata.dev(), inode: metadata.ino() })
    }

    /// On other systems only existence is checked.
    #[cfg(not(unix))]
    fn of(path: &Path) -> io::Result<Self> {
        std::fs::metadata(path).map(|_| Self { device: 0, inode: 0 })
    }
}

/// The paths of an open store's files.
pub(super) struct Place {
    folder: PathBuf,
    staying: Vec<(PathBuf, Identity)>,
    /// The newest journal at the last check. fjall gives the next journal the next number.
    journal: Option<(u64, Identity)>,
}

impl Place {
    /// Records where the files of the store in `folder` are.
    pub(super) fn new(folder: &Path) -> io::Result<Self> {
        // The process may change its working directory.
        let folder = std::path::absolute(folder)?;
        let paths = std::iter::once(folder.clone()).chain(STAYING.map(|name| folder.join(name)));
        let staying = paths.map(|path| Ok((path.clone(), Identity::of(&path)?))).collect::<io::Result<_>>()?;
        let mut place = Self { folder, staying, journal: None };
        if let Some(number) = place.newest_journal() {
            place.journal = Some((number, Identity::of(&place.journal_path(number))?));
        }
        Ok(place)
    }

    /// Returns the number of the newest journal; reads the whole folder.
    fn newest_journal(&self) -> Option<u64> {
        journals::journals(&self.folder).pop()?.file_stem()?.to_str()?.parse().ok()
    }

    fn journal_path(&self, number: u64) -> PathBuf {
        self.folder.join(format!("{number}.jnl"))
    }

    /// Checks the paths; an error says what is no longer there.
    pub(super) fn check(&mut self) -> Result<(), String> {
        for (path, opened) in &self.staying {
            is_same(path, *opened)?;
        }
        let Some((mut number, mut opened)) = self.journal else { return Ok(()) };
        loop {
            // A journal is created before the previous one can be removed.
            if let Ok(identity) = Identity::of(&self.journal_path(number + 1)) {
                (number, opened) = (number + 1, identity);
            } else if let Err(reason) = is_same(&self.journal_path(number), opened) {
                // Several journals may have come and gone since the last check.
                let newest = self.newest_journal().filter(|newest| *newest > number).ok_or(reason)?;
                // This journal may also have been removed by now; then there is a newer one.
                let Ok(identity) = Identity::of(&self.journal_path(newest)) else { continue };
                (number, opened) = (newest, identity);
            } else {
                return Ok(());
            }
            self.journal = Some((number, opened));
        }
    }
}

fn is_same(path: &Path, opened: Identity) -> Result<(), String> {
    match Identity::of(path) {
        Ok(found) if found == opened => Ok(()),
        Ok(_) => Err(format!("`{}` is another file than was opened", path.display())),
        Err(error) => Err(format!("`{}` is not there ({error})", path.display())),
    }
}
