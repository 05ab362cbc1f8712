//! A mark beside the database: the last batch that is known to be synced.
//!
//! Written after each sync and not synced itself, so that it costs next to nothing: after a power cut it may be older
//! than the database, never younger. A database that is older than its mark has lost what was acknowledged.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

/// The name of the mark's file.
const FILE: &str = "synced";

/// The mark of one store.
pub(super) struct Mark {
    file: File,
}

/// What was found of a mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// There is none: a store that is fresh, or of an earlier release.
    Nothing,
    /// The last batch that was synced.
    Synced(u64),
    /// It cannot be read.
    Damaged,
}

impl Mark {
    /// What `folder` has of it.
    pub(super) fn read(folder: &Path) -> io::Result<Found> {
        let mut bytes = Vec::new();
        match File::open(folder.join(FILE)).and_then(|mut file| file.read_to_end(&mut bytes)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
            Err(error) => return Err(error),
            Ok(_) => {}
        }
        let halves = bytes.split_at_checked(8);
        let halves = halves.and_then(|(one, other)| Some((one.try_into().ok()?, other.try_into().ok()?)));
        Ok(match halves.map(|(one, other)| (u64::from_le_bytes(one), u64::from_le_bytes(other))) {
            Some((synced, inverse)) if synced == !inverse => Found::Synced(synced),
            _ => Found::Damaged,
        })
    }

    /// Makes one, or goes on with the one there is.
    pub(super) fn open(folder: &Path, found: Found) -> io::Result<Self> {
        let path = folder.join(FILE);
        if found == Found::Nothing {
            // Whole or not at all, also after a power cut.
            let fresh = folder.join("synced.new");
            let mut mark = Self { file: File::create(&fresh)? };
            mark.set(0)?;
            mark.file.sync_all()?;
            std::fs::rename(&fresh, &path)?;
            #[cfg(unix)]
            File::open(folder)?.sync_all()?;
        }
        Ok(Self { file: File::options().write(true).open(path)? })
    }

    /// `synced` and all before it are on disk. One sector, written in place: it needs no room and cannot be torn.
    pub(super) fn set(&mut self, synced: u64) -> io::Result<()> {
        let mut bytes = [0; 16];
        let (one, other) = bytes.split_at_mut(8);
        one.copy_from_slice(&synced.to_le_bytes());
        other.copy_from_slice(&(!synced).to_le_bytes());
        self.file.seek(SeekFrom::Start(0))?;
        self.file.write_all(&bytes)
    }
}
