//! Who may read the files of a store: the user that the node runs as, and nobody else.
//!
//! The folder is made with mode 0700 before a file is in it, which covers every file that is made later, whatever the umask;
//! what is there already is given 0700 and 0600 at each opening. Elsewhere than on unix nothing is done.

use std::fs;
use std::io;
use std::path::Path;

/// Makes `folder`, and those above it that are missing, for this user alone. One that is there is closed to others, with all that
/// is in it; if that is not allowed, a warning says how it is done.
///
/// # Errors
/// What the system says when the folder cannot be made.
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

/// Closes a folder and all in it to others, as far as that is allowed.
#[cfg(unix)]
pub(super) fn close(folder: &Path) {
    let mut open = Open::default();
    open.close(folder);
    let path = folder.display();
    if let Some(error) = open.refused {
        tracing::warn!(
            folder = %path, %error,
            "others may read the store, and this user may not change that: `chmod -R u=rwX,go= {path}` as its owner does"
        );
    } else if open.was_open {
        tracing::warn!(folder = %path, "others were allowed to read the store, and are no longer");
    }
}

/// Elsewhere rights are not modes.
#[cfg(not(unix))]
pub(super) fn close(_folder: &Path) {}

#[cfg(unix)]
#[derive(Default)]
struct Open {
    /// Whether others could reach it until now.
    was_open: bool,
    refused: Option<io::Error>,
}

#[cfg(unix)]
impl Open {
    /// The folder first: what is in it cannot be reached by others then.
    fn close(&mut self, folder: &Path) {
        if self.set(folder) {
            self.was_open = true;
        }
        // A folder that is in use changes meanwhile; what is made in it now is covered by it.
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => self.close(&path),
                Ok(kind) if kind.is_file() => drop(self.set(&path)),
                _ => {}
            }
        }
    }

    /// Gives a path the mode that it should have; says whether others had more.
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
