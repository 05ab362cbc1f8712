//! The reasons why a folder cannot be used for a store, each with its own advice. Also detects a folder that is not
//! one of our stores, before anything in it is touched.
//!
//! This module knows errors of the system, and which files a store has. Next: `opening.rs` for what is verified of a
//! store.

use std::io::{self, ErrorKind};
use std::path::Path;

use accompanist_core::contract::StoreError;

use super::journals;
use super::opening::FORMAT_PREFIX;

/// The files that one of our stores may have, besides its journals.
const FILES: [&str; 5] = ["version", "lock", "synced", "synced.new", "keyspaces"];
/// The folder that file systems create at their root.
const LOST_AND_FOUND: &str = "lost+found";

/// Converts the system's error to an error of the store at `path`, with advice.
pub(super) fn error_at(path: &str, error: &io::Error) -> StoreError {
    let (path, reason) = (path.to_owned(), error.to_string());
    match error.kind() {
        ErrorKind::PermissionDenied => StoreError::Denied { path, reason },
        ErrorKind::ReadOnlyFilesystem => StoreError::ReadOnly { path, reason },
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => StoreError::Full { path, reason },
        // The path, or a part of it, leads to something that is not a folder.
        ErrorKind::NotADirectory | ErrorKind::AlreadyExists => StoreError::NotAFolder { path },
        ErrorKind::NotFound => StoreError::NoFolder { path, reason },
        _ => StoreError::Open { path, reason },
    }
}

/// Whether the system is the reason, and not the contents of the files.
pub(super) fn is_of_the_system(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem | ErrorKind::StorageFull | ErrorKind::QuotaExceeded
    )
}

/// Checks that `folder` is one of our stores, or that one may be created there. Changes nothing.
pub(super) fn check(folder: &Path) -> Result<(), StoreError> {
    if folder.as_os_str().is_empty() {
        return Err(StoreError::NoPath);
    }
    let path = folder.display().to_string();
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()), // It will be created.
        entries => entries.map_err(|error| error_at(&path, &error))?,
    };
    let mut other = None;
    for entry in entries {
        let name = entry.map_err(|error| error_at(&path, &error))?.file_name();
        let name = name.to_string_lossy();
        if FILES.contains(&&*name) || Path::new(&*name).extension().is_some_and(|extension| extension == "jnl") {
            return not_anothers(folder).map_err(|found| StoreError::Foreign { path, found: found.into() });
        }
        if name != LOST_AND_FOUND && !name.starts_with('.') {
            other = other.min(Some(name.clone().into_owned())).or(Some(name.into_owned()));
        }
    }
    match other {
        Some(name) => Err(StoreError::Foreign { path, found: format!("there is `{name}`, and no file of a store") }),
        None => Ok(()),
    }
}

/// Checks that a folder with files of a store may be one of ours; an error says what shows otherwise.
fn not_anothers(folder: &Path) -> Result<(), &'static str> {
    // The mark is created before the first batch, and only by us.
    if folder.join("synced").exists() {
        return Ok(());
    }
    let version = std::fs::read(folder.join("version")).unwrap_or_default();
    if !version.is_empty() && !version.starts_with(FORMAT_PREFIX) {
        return Err("its file `version` is another program's");
    }
    if journals::are_foreign(folder) { Err("its database is another program's") } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The error numbers are those of Linux.
    #[cfg(target_os = "linux")]
    #[test]
    fn each_error_of_the_system_has_its_own_advice() {
        let (eperm, enoent, eio, eacces, eexist, enotdir, enospc, erofs, edquot) = (1, 2, 5, 13, 17, 20, 28, 30, 122);
        for (number, advice) in [
            (eperm, "run the node as the owner"),
            (eacces, "run the node as the owner"),
            (erofs, "mount it for writing"),
            (enospc, "free some"),
            (edquot, "free some"),
            (enotdir, "leads to a file, or through one"),
            (eexist, "leads to a file, or through one"),
            (enoent, "make it, or mount"),
            (eio, "what the system's log says of its disk"),
        ] {
            let error = error_at("/data/store", &io::Error::from_raw_os_error(number)).to_string();
            assert!(error.contains(advice) && error.contains("`/data/store`"), "{number}: {error}");
            assert!(!error.contains("damaged"), "{error}");
        }
    }
}
