//! Whether the files of a store that is open are still where they were opened.
//!
//! A file that has been unlinked can be written and synced, and is gone with the process: a store whose folder was removed, or
//! moved away, would acknowledge what nobody will ever find. So the paths are looked at, and what they lead to is compared with
//! what was opened: the folder, the files that stay, and the journal that is written at the moment.

use std::io;
use std::path::{Path, PathBuf};

use super::journals;

/// The files that stay as long as the store does. Without `lock`, a second process could open it.
const STAYING: [&str; 2] = ["lock", "synced"];

/// What a path leads to, as far as the system tells.
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

    /// Elsewhere only that there is something.
    #[cfg(not(unix))]
    fn of(path: &Path) -> io::Result<Self> {
        std::fs::metadata(path).map(|_| Self { device: 0, inode: 0 })
    }
}

/// Where the files of an open store are.
pub(super) struct Place {
    folder: PathBuf,
    staying: Vec<(PathBuf, Identity)>,
    /// The journal that was the newest at the last look. fjall names the next one by the next number.
    journal: Option<(u64, Identity)>,
}

impl Place {
    /// Notes where the files of the store in `folder` are.
    pub(super) fn new(folder: &Path) -> io::Result<Self> {
        // The process may go to another folder.
        let folder = std::path::absolute(folder)?;
        let paths = std::iter::once(folder.clone()).chain(STAYING.map(|name| folder.join(name)));
        let staying = paths.map(|path| Ok((path.clone(), Identity::of(&path)?))).collect::<io::Result<_>>()?;
        let mut place = Self { folder, staying, journal: None };
        if let Some(number) = place.newest_journal() {
            place.journal = Some((number, Identity::of(&place.journal_path(number))?));
        }
        Ok(place)
    }

    /// The number of the newest journal, for which the whole folder is read.
    fn newest_journal(&self) -> Option<u64> {
        journals::journals(&self.folder).pop()?.file_stem()?.to_str()?.parse().ok()
    }

    fn journal_path(&self, number: u64) -> PathBuf {
        self.folder.join(format!("{number}.jnl"))
    }

    /// An error says what is no longer there.
    pub(super) fn check(&mut self) -> Result<(), String> {
        for (path, opened) in &self.staying {
            is_same(path, *opened)?;
        }
        let Some((mut number, mut opened)) = self.journal else { return Ok(()) };
        loop {
            // A journal is begun before the one before it can go.
            if let Ok(identity) = Identity::of(&self.journal_path(number + 1)) {
                (number, opened) = (number + 1, identity);
            } else if let Err(reason) = is_same(&self.journal_path(number), opened) {
                // Several may have come and gone since the last look.
                let newest = self.newest_journal().filter(|newest| *newest > number).ok_or(reason)?;
                // It may be over as well by now, and gone: then there is a newer one.
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
