//! The access rights to the files of a store: only the user that the node runs as may read them.
//!
//! The folder is created with mode 0700 before a file is in it, which protects every file created later, whatever the
//! umask. Existing folders and files are set to 0700 and 0600 at each opening. On systems other than Unix nothing is
//! done.

use std::fs;
use std::io;
use std::path::Path;

/// Creates `folder`, and the missing folders above it, for this user only. An existing folder is closed to others,
/// with everything in it; if that is not permitted, a warning says how to do it.
///
/// # Errors
/// The system's error when the folder cannot be created.
pub fn private_folder(folder: impl AsRef<Path>) -> io::Result<()> {
    let folder = folder.as_ref();
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)?;
    close(folder);
    Ok(())
}

/// Closes a folder and everything in it to other users, as far as that is permitted.
#[cfg(unix)]
pub(super) fn close(folder: &Path) {
    let mut open = Open::default();
    open.close(folder);
    let path = folder.display();
    if let Some(error) = open.refused {
        tracing::warn!(
            folder = %path, %error,
            "others may read the store, and this user may not change that: `chmod -R u=rwX,go= {path}` as its owner \
             does"
        );
    } else if open.was_open {
        tracing::warn!(folder = %path, "others were allowed to read the store, and are no longer");
    }
}

/// Does nothing: on other systems access rights are not modes.
#[cfg(not(unix))]
pub(super) fn close(_folder: &Path) {}

#[cfg(unix)]
#[derive(Default)]
struct Open {
    /// Whether other users had access until now.
    was_open: bool,
    refused: Option<io::Error>,
}

#[cfg(unix)]
impl Open {
    /// Closes the folder first: after that, others cannot reach its contents.
    fn close(&mut self, folder: &Path) {
        if self.set(folder) {
            self.was_open = true;
        }
        // A folder that is in use changes meanwhile; files created in it now are protected by the folder.
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => self.close(&path),
                Ok(kind) if kind.is_file() => drop(self.set(&path)),
                _ => {}
            }
        }
    }

    /// Gives a path its proper mode; returns whether other users had access.
    fn set(&mut self, path: &Path) -> bool {
        use std::os::unix::fs::PermissionsExt;

        let Ok(metadata) = fs::metadata(path) else { return false };
        let mode = metadata.permissions().mode() & 0o777;
        let right = if metadata.is_dir() { 0o700 } else { 0o600 };
        if mode == right {
            return false;
        }
        match fs::set_permissions(path, fs::Permissions::from_mode(right)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                if mode & 0o077 != 0 {
                    self.refused.get_or_insert(error);
                }
                false
            }
            _ => mode & 0o077 != 0,
        }
    }
}
