//! Reads the journals of a fjall store before fjall does.
//!
//! fjall takes the first entry that it cannot read for the end of a journal, and cuts off the rest. This is right for
//! a batch that was being written at a crash, but it silently drops everything after damage in the middle. The
//! sequence number of a batch, which decides what is older, is not covered by a checksum either. Batches are
//! therefore numbered, and read here first: they must follow each other without a gap, have the bytes that were
//! written, and reach the batch that is known to be synced. Nothing is changed.
//!
//! This module knows fjall's format 3. Next: `durability_mark.rs` for what is known to be synced, `commit_row.rs` for
//! what each batch says of earlier ones.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3;

use super::commit_row::{self, CommitRow};
use super::opening::Fault;

/// The contents of the file `version` of a store with this format, and the end of each batch.
pub(super) const MAGIC: [u8; 4] = *b"FJL\x03";

const TAG_START: u8 = 1;
const TAG_ITEM: u8 = 2;
const TAG_END: u8 = 3;
const TAG_CLEAR: u8 = 4;

/// The largest difference between the sequence numbers of two consecutive batches. Flushes and compactions use
/// sequence numbers too; a larger gap means that the number is not the one that was written.
const SEQUENCE_GAP_MAX: u64 = 1 << 32;

/// The contents of a store's journals.
pub(super) struct Journals {
    /// The row of the first batch, and the sequence number of the last one; `None` if there is no batch.
    pub(super) ends: Option<(CommitRow, u64)>,
}

/// Reads all journals in `folder`; an error says what is wrong with them. `synced` is the last batch that is known to
/// be on disk.
pub(super) fn check(folder: &Path, synced: u64) -> Result<Journals, Fault> {
    let journals = journals(folder);
    let mut order = Order::default();
    for (number, path) in journals.iter().enumerate() {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let mut journal = Journal::new(Fault::at(path, File::open(path))?);
        while let Some(batch) = journal.batch() {
            order.follow(batch).map_err(|reason| Fault::Damage(format!("in the journal `{name}`, {reason}")))?;
        }
        // Only the last journal may end in the middle of a batch: each of the others was synced before the next one
        // began.
        if number + 1 < journals.len() && journal.goes_on().unwrap_or(false) {
            return Err(Fault::Damage(format!("the journal `{name}` cannot be read behind byte {}", journal.end)));
        }
    }
    match order.last {
        Some((commit, _)) if commit < synced => {
            Err(Fault::Damage(format!("the journals end with commit {commit}, and commit {synced} was acknowledged")))
        }
        last => Ok(Journals { ends: order.first.zip(last).map(|(first, (_, sequence))| (first, sequence)) }),
    }
}

/// Whether the journals begin with an intact batch that is not one of ours: each of ours contains a commit row.
pub(super) fn are_foreign(folder: &Path) -> bool {
    let first = journals(folder).into_iter().find_map(|path| Journal::new(File::open(path).ok()?).batch());
    first.is_some_and(|batch| batch.is_whole && batch.row.is_none())
}

/// Returns the journals of a store, the oldest first.
pub(super) fn journals(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut found: Vec<(u64, PathBuf)> = entries
        .filter(|path| path.extension().is_some_and(|extension| extension == "jnl"))
        .filter_map(|path| Some((path.file_stem()?.to_str()?.parse().ok()?, path)))
        .collect();
    found.sort();
    found.into_iter().map(|(_, path)| path).collect()
}

/// The relevant contents of a batch.
struct Batch {
    /// The position among all writes: a later one wins.
    sequence: u64,
    /// The batch's commit row.
    row: Option<CommitRow>,
    /// Whether the items match the checksum that was written after them.
    is_whole: bool,
}

/// The batches that came before.
#[derive(Default)]
struct Order {
    first: Option<CommitRow>,
    /// The number and the sequence number of the last batch.
    last: Option<(u64, u64)>,
}

impl Order {
    fn follow(&mut self, batch: Batch) -> Result<(), String> {
        let Batch { sequence, row, is_whole } = batch;
        if !is_whole {
            return Err(format!("batch {sequence} has other bytes than were written (ChecksumMismatch)"));
        }
        // All batches are ours.
        let row = row.ok_or_else(|| format!("batch {sequence} has no number of a commit"))?;
        let commit = row.commit;
        if let Some((before, _)) = self.last
            && before.checked_add(1) != Some(commit)
        {
            return Err(format!("commit {commit} stands behind commit {before}"));
        }
        // The row says which batch came before, and has a checksum, which the sequence number does not.
        let before = row.before.first().copied().unwrap_or_default();
        let is_next = self.last.is_none_or(|(_, last)| last == before);
        if !is_next || sequence <= before || sequence - before > SEQUENCE_GAP_MAX {
            return Err(format!("batch {sequence} stands behind batch {before}"));
        }
        self.last = Some((commit, sequence));
        self.first.get_or_insert(row);
        Ok(())
    }
}

struct Journal {
    reader: BufReader<File>,
    /// The hash of the items of a batch.
    hash: Xxh3,
    /// The position after the last complete batch.
    end: u64,
}

impl Journal {
    fn new(file: File) -> Self {
        Self { reader: BufReader::new(file), hash: Xxh3::new(), end: 0 }
    }

    /// Reads the next batch; `None` if there is no complete one.
    fn batch(&mut self) -> Option<Batch> {
        if self.byte()? != TAG_START {
            return None;
        }
        let (items, sequence) = (self.u32()?, self.u64()?);
        self.hash.reset();
        let mut row = None;
        for _ in 0..items {
            match self.byte()? {
                TAG_ITEM => self.item(&mut row)?,
                TAG_CLEAR => drop(self.u64()?),
                _ => return None,
            }
        }
        let hash = self.hash.digest();
        if self.byte()? != TAG_END {
            return None;
        }
        let is_whole = self.u64()? == hash;
        if self.bytes::<4>()? != MAGIC {
            return None;
        }
        self.end = self.reader.stream_position().ok()?;
        Some(Batch { sequence, row, is_whole })
    }

    /// Reads an item, into `row` if it is the batch's commit row; `None` if it is not complete.
    fn item(&mut self, row: &mut Option<CommitRow>) -> Option<()> {
        let _kind_and_compression = self.bytes::<2>()?;
        let _keyspace = self.u64()?;
        let key_length = u16::from_le_bytes(self.bytes()?);
        let _value_length = self.u32()?;
        let stored_length = self.u32()?;
        let key = self.part(key_length.into())?;
        if key == commit_row::KEY {
            let value = self.part(stored_length)?;
            *row = CommitRow::from_bytes(&value).or(row.take());
            return Some(());
        }
        self.skip(stored_length)
    }

    /// Whether there is anything except reserved space after the last complete batch.
    fn goes_on(&mut self) -> Option<bool> {
        self.reader.seek(SeekFrom::Start(self.end)).ok()?;
        let mut bytes = vec![0; 64 * 1024];
        loop {
            match self.reader.read(&mut bytes).ok()? {
                0 => return Some(false),
                read if bytes.get(..read)?.iter().any(|byte| *byte != 0) => return Some(true),
                _ => {}
            }
        }
    }

    /// Reads `length` bytes; `None` if there are fewer.
    fn part(&mut self, length: u32) -> Option<Vec<u8>> {
        let mut part = Vec::new();
        self.reader.by_ref().take(length.into()).read_to_end(&mut part).ok()?;
        self.hash.update(&part);
        (u32::try_from(part.len()) == Ok(length)).then_some(part)
    }

    fn skip(&mut self, length: u32) -> Option<()> {
        const PART_BYTES: u32 = 64 << 10;
        let mut left = length;
        while left > 0 {
            let part = left.min(PART_BYTES);
            self.part(part)?;
            left -= part;
        }
        Some(())
    }

    fn bytes<const N: usize>(&mut self) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        self.reader.read_exact(&mut bytes).ok()?;
        self.hash.update(&bytes);
        Some(bytes)
    }

    fn byte(&mut self) -> Option<u8> {
        self.bytes::<1>().map(|[byte]| byte)
    }

    fn u32(&mut self) -> Option<u32> {
        self.bytes().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.bytes().map(u64::from_le_bytes)
    }
}
