//! Verifies the LSM trees of a fjall store before fjall opens them.
//!
//! Each keyspace has a folder with a tree: `current` names the newest version file and has its checksum, and the
//! version file has the checksums of all tables and blob files. fjall writes each of these files once, and syncs it
//! before it is named. At opening, fjall checks neither the version file nor a whole table, only blocks as they are
//! read; this module follows the chain from `current` to the last byte. Files that no version names were left behind
//! by a crash, and fjall removes them. Nothing is changed.
//!
//! This module knows the format 3 of lsm-tree. Next: `opening.rs` for the whole check.

use std::fs::File;
use std::io::{self, Cursor, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lsm_tree::{Cache, Checksum, Table};
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use super::opening::Fault;
use super::unusable;

/// The size of the file `current`, in bytes: a version's number, the checksum of its file, and the kind of the
/// checksum.
const CURRENT_BYTES: usize = 25;
/// How much of a table is read at a time, in bytes.
const READ_BYTES: usize = 256 << 10;

/// A file that a version names.
struct NamedFile {
    path: PathBuf,
    id: u64,
    checksum: u128,
    /// The offset that is added to the sequence numbers in the file.
    sequence_base: u64,
}

/// The newest version of one tree.
pub(super) struct Tree {
    /// The version's number. It only grows.
    pub(super) version: u64,
    tables: Vec<NamedFile>,
    blobs: Vec<NamedFile>,
}

/// How many bytes of tables may still be verified.
pub(super) struct Budget {
    left: u64,
    /// Bytes of tables whose verification is left to the time when they are read.
    pub(super) skipped: u64,
}

impl Budget {
    pub(super) fn new(bytes_max: u64) -> Self {
        Self { left: bytes_max, skipped: 0 }
    }
}

impl Tree {
    /// Reads the newest version of the tree in `folder`; `None` for a tree whose creation was not completed.
    pub(super) fn read(folder: &Path) -> Result<Option<Self>, Fault> {
        let path = folder.join("current");
        if !path.try_exists()? {
            return Ok(None);
        }
        let current = Fault::at(&path, std::fs::read(&path))?;
        let (version, checksum) = parse_current(&current)
            .ok_or_else(|| Fault::Damage(format!("`{}` is not what was written", path.display())))?;
        let path = folder.join(format!("v{version}"));
        let bytes = Fault::at(&path, std::fs::read(&path))?;
        if xxh3_128(&bytes) != checksum {
            return Err(Fault::Damage(format!("`{}` has another checksum than `current` says", path.display())));
        }
        let files = parse_version(&bytes, folder);
        let (tables, blobs) =
            files.ok_or_else(|| Fault::Damage(format!("the version `{}` cannot be read", path.display())))?;
        Ok(Some(Self { version, tables, blobs }))
    }

    /// Verifies all bytes of each file that the version names, while the budget lasts; of the other files, only that
    /// they exist.
    pub(super) fn verify(&self, budget: &mut Budget) -> Result<(), Fault> {
        for file in self.tables.iter().chain(&self.blobs) {
            let length = Fault::at(&file.path, std::fs::metadata(&file.path))?.len();
            if length <= budget.left {
                budget.left -= length;
                file.verify()?;
            } else {
                budget.skipped += length;
            }
        }
        Ok(())
    }

    /// Whether anything was flushed to the tree.
    pub(super) fn has_tables(&self) -> bool {
        !self.tables.is_empty()
    }

    /// Returns the newest batch in the tables, by its sequence number. Also checks that each table's end can be read,
    /// and that it is the table that is named.
    pub(super) fn newest_sequence(&self) -> Result<Option<u64>, Fault> {
        let mut newest = None;
        for file in &self.tables {
            let table = file.open()?;
            if table.id() != file.id {
                return Err(Fault::Damage(format!("`{}` is another table", file.path.display())));
            }
            newest = newest.max(Some(table.get_highest_seqno()));
        }
        Ok(newest)
    }

    /// Returns the value that was written last, and the batch that wrote it, in a tree with one key.
    pub(super) fn newest_value(&self) -> Result<Option<(u64, Vec<u8>)>, Fault> {
        let mut newest: Option<(u64, Vec<u8>)> = None;
        for table in &self.tables {
            for item in table.open()?.iter() {
                let item = item.map_err(|error| table.damage(&error))?;
                let sequence = item.key.seqno;
                if newest.as_ref().is_none_or(|(newest, _)| *newest < sequence) {
                    newest = Some((sequence, item.value.to_vec()));
                }
            }
        }
        Ok(newest)
    }
}

impl NamedFile {
    fn verify(&self) -> Result<(), Fault> {
        let mut file = Fault::at(&self.path, File::open(&self.path))?;
        let (mut hasher, mut bytes) = (Xxh3::new(), vec![0; READ_BYTES]);
        loop {
            let read = Fault::at(&self.path, file.read(&mut bytes))?;
            if read == 0 {
                break;
            }
            hasher.update(bytes.get(..read).unwrap_or_default());
        }
        if hasher.digest128() == self.checksum {
            Ok(())
        } else {
            Err(Fault::Damage(format!("`{}` has other bytes than were written", self.path.display())))
        }
    }

    /// Reads the table's index and metadata.
    fn open(&self) -> Result<Table, Fault> {
        let cache = Arc::new(Cache::with_capacity_bytes(0));
        let (checksum, base) = (Checksum::from_raw(self.checksum), self.sequence_base);
        let opened = Table::recover(self.path.clone(), checksum, base, 0, cache, None, false, false);
        opened.map_err(|error| self.damage(&error))
    }

    fn damage(&self, error: &lsm_tree::Error) -> Fault {
        if let lsm_tree::Error::Io(error) = error
            && unusable::is_of_the_system(error.kind())
        {
            return Fault::Unusable(io::Error::new(error.kind(), error.to_string()));
        }
        Fault::Damage(format!("the table `{}` cannot be read ({error})", self.path.display()))
    }
}

fn parse_current(bytes: &[u8]) -> Option<(u64, u128)> {
    let bytes: &[u8; CURRENT_BYTES] = bytes.try_into().ok()?;
    let (version, rest) = bytes.split_first_chunk()?;
    let (checksum, kind) = rest.split_first_chunk()?;
    // The only kind that exists.
    (kind == [0]).then(|| (u64::from_le_bytes(*version), u128::from_le_bytes(*checksum)))
}

/// Returns the tables and blob files that a version names.
fn parse_version(bytes: &[u8], folder: &Path) -> Option<(Vec<NamedFile>, Vec<NamedFile>)> {
    let archive = sfa::Reader::from_reader(&mut Cursor::new(bytes)).ok()?;
    let section = |name: &[u8]| {
        let entry = archive.toc().section(name)?;
        let from = usize::try_from(entry.pos()).ok()?;
        bytes.get(from..from.checked_add(usize::try_from(entry.len()).ok()?)?).map(Reader)
    };
    let mut reader = section(b"tables")?;
    let mut tables = Vec::new();
    for _level in 0..reader.u8()? {
        for _run in 0..reader.u8()? {
            for _table in 0..reader.u32()? {
                let file = reader.file(&folder.join("tables"))?;
                tables.push(NamedFile { sequence_base: reader.u64()?, ..file });
            }
        }
    }
    let mut reader = section(b"blob_files")?;
    let mut blobs = Vec::new();
    for _blob in 0..reader.u32()? {
        blobs.push(reader.file(&folder.join("blobs"))?);
    }
    Some((tables, blobs))
}

/// Takes numbers from the front.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn chunk<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (chunk, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*chunk)
    }

    fn u8(&mut self) -> Option<u8> {
        self.chunk().map(u8::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.chunk().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.chunk().map(u64::from_le_bytes)
    }

    fn file(&mut self, folder: &Path) -> Option<NamedFile> {
        let id = self.u64()?;
        let kind = self.u8()?;
        let checksum = u128::from_le_bytes(self.chunk()?);
        let path = folder.join(id.to_string());
        (kind == 0).then_some(NamedFile { path, id, checksum, sequence_base: 0 })
    }
}
