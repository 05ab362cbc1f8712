//! Why a folder cannot be used for a store, each reason with its own advice; and what is no store of ours, which is found out
//! before anything in it is touched.
//!
//! Knows errors of the system, and which files a store has. Next: `opening.rs` for what is verified of one.

use std::io::{self, ErrorKind};
use std::path::Path;

use accompanist_core::contract::StoreError;

use super::journals;
use super::opening::FORMAT_PREFIX;

/// What a store of ours may consist of, beside its journals.
const FILES: [&str; 5] = ["version", "lock", "synced", "synced.new", "keyspaces"];
/// What file systems make themselves at their root.
const LOST_AND_FOUND: &str = "lost+found";

/// What the system says, as an error of the store at `path` with what to do.
pub(super) fn told(path: &str, error: &io::Error) -> StoreError {
    let (path, reason) = (path.to_owned(), error.to_string());
    match error.kind() {
        ErrorKind::PermissionDenied => StoreError::Denied { path, reason },
        ErrorKind::ReadOnlyFilesystem => StoreError::ReadOnly { path, reason },
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => StoreError::Full { path, reason },
        // Where a folder should be there is something else, or on the way to it.
        ErrorKind::NotADirectory | ErrorKind::AlreadyExists => StoreError::NotAFolder { path },
        ErrorKind::NotFound => StoreError::NoFolder { path, reason },
        _ => StoreError::Open { path, reason },
    }
}

/// Whether the reason is the system's, and not what the files hold.
pub(super) fn is_of_the_system(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem | ErrorKind::StorageFull | ErrorKind::QuotaExceeded
    )
}

/// Checks that a store may be made, or is, in `folder`. Changes nothing.
pub(super) fn check(folder: &Path) -> Result<(), StoreError> {
    if folder.as_os_str().is_empty() {
        return Err(StoreError::NoPath);
    }
    let path = folder.display().to_string();
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()), // It is made.
        entries => entries.map_err(|error| told(&path, &error))?,
    };
    let mut other = None;
    for entry in entries {
        let name = entry.map_err(|error| told(&path, &error))?.file_name();
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

/// Whether a folder with files of a store may be one of ours: what shows otherwise.
fn not_anothers(folder: &Path) -> Result<(), &'static str> {
    // The mark is made before the first batch, and by nobody else.
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

    /// By the numbers of Linux.
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
            let error = told("/data/store", &io::Error::from_raw_os_error(number)).to_string();
            assert!(error.contains(advice) && error.contains("`/data/store`"), "{number}: {error}");
            assert!(!error.contains("damaged"), "{error}");
        }
    }
}
