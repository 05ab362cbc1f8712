//! Writes the next part of a journal before it is needed, so that a sync has less to do (decision 0018).
//!
//! fjall creates a journal as a sparse file: the file system allocates each block on its first write, and the sync
//! then has to write that allocation as well. This module fills the holes in front of the journal's end with zeros,
//! which is what they read as anyway. Nothing else is ever written: no byte that is in the file, and none after its
//! end.

use std::path::{Path, PathBuf};

use super::journals;

/// See the module's documentation.
pub(super) struct Preallocation {
    folder: PathBuf,
    /// How many bytes ahead to fill; 0 turns filling off.
    bytes: u64,
    /// A lower bound on the bytes written since the last fill.
    used: u64,
}

impl Preallocation {
    pub(super) fn new(folder: &Path, bytes: u64) -> Self {
        Self { folder: folder.to_owned(), bytes, used: bytes }
    }

    /// Records that `bytes` were written to the journal.
    pub(super) fn note(&mut self, bytes: u64) {
        self.used = self.used.saturating_add(bytes);
    }

    /// Fills the holes ahead, if half of the last fill is used up. Earlier writes must already be in the file, and
    /// nobody may write to it meanwhile. A failure (a full disk, a journal that has just been dropped) costs speed
    /// only.
    pub(super) fn fill(&mut self) {
        if self.bytes == 0 || self.used < self.bytes.div_ceil(2) {
            return;
        }
        self.used = 0;
        let Some(journal) = journals::journals(&self.folder).pop() else { return };
        if let Err(error) = fill(&journal, self.bytes) {
            tracing::debug!(%error, "the journal is not written ahead");
        }
    }
}

/// Fills the first hole of a file with zeros, up to `bytes_max` bytes, and syncs the file.
#[cfg(target_os = "linux")]
fn fill(path: &Path, bytes_max: u64) -> std::io::Result<()> {
    use std::fs::File;
    use std::os::unix::fs::FileExt;

    use rustix::fs::{SeekFrom, seek};
    use rustix::io::Errno;

    /// The size of one write.
    const BLOCK_BYTES: u64 = 4_096;
    static ZEROS: [u8; 4_096] = [0; 4_096];

    let file = File::options().write(true).open(path)?;
    let length = file.metadata()?.len();
    // A file system without holes reports the first one at the end of the file.
    let hole = seek(&file, SeekFrom::Hole(0))?;
    if hole >= length {
        return Ok(());
    }
    let data = match seek(&file, SeekFrom::Data(hole)) {
        Err(Errno::NXIO) => length,
        data => data?,
    };
    let end = hole.saturating_add(bytes_max).min(data).min(length);
    // Write block by block: the kernel caches and writes back one write as one unit.
    let mut at = hole;
    while at < end {
        let next = end.min((at / BLOCK_BYTES + 1) * BLOCK_BYTES);
        let zeros = ZEROS.get(..usize::try_from(next - at).unwrap_or(0)).unwrap_or_default();
        file.write_all_at(zeros, at)?;
        at = next;
    }
    file.sync_data()
}

/// Does nothing: on other systems a journal stays as it is.
#[cfg(not(target_os = "linux"))]
#[expect(clippy::unnecessary_wraps, reason = "as on Linux")]
fn fill(_path: &Path, _bytes_max: u64) -> std::io::Result<()> {
    Ok(())
}

#[cfg(all(test, target_os = "linux"))]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::fs::{FileExt, MetadataExt};

    use proptest::prelude::*;

    use super::*;

    /// Creates a sparse file with some data.
    fn sparse(folder: &Path, length: u64, data: &[(u64, Vec<u8>)]) -> PathBuf {
        let path = folder.join("0.jnl");
        let file = File::create(&path).unwrap();
        file.set_len(length).unwrap();
        for (at, bytes) in data {
            file.write_all_at(bytes, *at).unwrap();
        }
        file.sync_all().unwrap();
        path
    }

    fn allotted(path: &Path) -> u64 {
        fs::metadata(path).unwrap().blocks() * 512
    }

    #[test]
    fn the_next_part_is_there_before_it_is_used() {
        let folder = tempfile::tempdir().unwrap();
        let path = sparse(folder.path(), 1 << 20, &[(0, vec![7; 5_000])]);
        let mut ahead = Preallocation::new(folder.path(), 64 << 10);
        ahead.fill();
        let first = allotted(&path);
        assert!(first >= 64 << 10, "{first}");
        ahead.note(10_000);
        ahead.fill();
        assert_eq!(allotted(&path), first, "there is enough");
        ahead.note(30_000);
        ahead.fill();
        assert!(allotted(&path) > first);
    }

    #[test]
    fn a_file_that_only_grows_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = sparse(folder.path(), 10_000, &[(0, vec![7; 10_000])]);
        Preallocation::new(folder.path(), 64 << 10).fill();
        assert_eq!(fs::read(path).unwrap(), vec![7; 10_000]);
    }

    #[test]
    fn with_nothing_ahead_nothing_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = sparse(folder.path(), 1 << 20, &[]);
        Preallocation::new(folder.path(), 0).fill();
        assert_eq!(allotted(&path), 0);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_file_reads_as_before(
            length in 1_u64..300_000,
            data in proptest::collection::vec((0_u64..300_000, proptest::collection::vec(1_u8.., 1..9_000)), 0..6),
            ahead in 1_u64..200_000,
            times in 1_usize..6,
        ) {
            let folder = tempfile::tempdir().unwrap();
            let path = sparse(folder.path(), length, &data);
            let before = fs::read(&path).unwrap();
            for _ in 0..times {
                Preallocation::new(folder.path(), ahead).fill();
            }
            prop_assert!(fs::read(&path).unwrap() == before, "a byte or the length has changed");
        }
    }
}
