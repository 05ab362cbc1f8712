//! Reads the journals of a fjall store before fjall does.
//!
//! fjall takes the first entry that it cannot read for the end of a journal, and cuts off what follows: right for a
//! batch that was being written at a crash, and silent about all that comes behind damage in the middle. The number of a
//! batch, which says what is older, is not covered by a checksum either. So the batches are counted, and read here
//! first: they must follow each other without a gap, and reach what is known to be synced. Nothing is changed.
//!
//! Knows fjall's format 3. Next: `mark.rs` for what is known to be synced.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// Where each batch has its number among all batches of the store. No key of another keyspace is like it.
pub(super) const COMMIT_KEY: &[u8] = b"accompanist commit";

/// What the file `version` of a store holds that has this format, and what ends each batch.
const MAGIC: [u8; 4] = *b"FJL\x03";

const TAG_START: u8 = 1;
const TAG_ITEM: u8 = 2;
const TAG_END: u8 = 3;
const TAG_CLEAR: u8 = 4;

/// The number in a row under [`COMMIT_KEY`].
pub(super) fn commit_of(value: &[u8]) -> Option<u64> {
    value.try_into().ok().map(u64::from_le_bytes)
}

/// Reads all journals in `folder`; an error says what is wrong with them. `synced` is the last batch that is known to
/// be on disk.
pub(super) fn check(folder: &Path, synced: u64) -> Result<(), String> {
    // What cannot be read at all, and any other format, is fjall's to complain about.
    if !std::fs::read(folder.join("version")).is_ok_and(|version| version == MAGIC) {
        return Ok(());
    }
    let journals = journals(folder);
    let mut order = Order::default();
    for (number, path) in journals.iter().enumerate() {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let Ok(file) = File::open(path) else { return Ok(()) };
        let mut journal = Journal { reader: BufReader::new(file), end: 0 };
        while let Some(batch) = journal.batch() {
            order.follow(&batch).map_err(|reason| format!("in the journal `{name}`, {reason}"))?;
        }
        // Only the last journal may end in the middle of a batch: the others were synced before the next one began.
        if number + 1 < journals.len() && journal.goes_on().unwrap_or(false) {
            return Err(format!("the journal `{name}` cannot be read behind byte {}", journal.end));
        }
    }
    match order.commit {
        Some(commit) if commit < synced => {
            Err(format!("the journals end with commit {commit}, and commit {synced} was acknowledged"))
        }
        _ => Ok(()),
    }
}

/// The journals of a store, the oldest first.
pub(super) fn journals(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut found: Vec<(u64, PathBuf)> = entries
        .filter(|path| path.extension().is_some_and(|extension| extension == "jnl"))
        .filter_map(|path| Some((path.file_stem()?.to_str()?.parse().ok()?, path)))
        .collect();
    found.sort();
    found.into_iter().map(|(_, path)| path).collect()
}

/// What is needed of a batch.
struct Batch {
    /// Where it stands among all writes: a later one wins.
    sequence: u64,
    /// Where it stands among our batches.
    commit: Option<u64>,
}

/// What an item of a batch is.
enum Item {
    /// The number of the batch among ours.
    Commit(u64),
    /// A row.
    Other,
}

/// What came before.
#[derive(Default)]
struct Order {
    sequence: Option<u64>,
    commit: Option<u64>,
}

impl Order {
    fn follow(&mut self, batch: &Batch) -> Result<(), String> {
        let Batch { sequence, commit } = batch;
        if let Some(before) = self.sequence.replace(*sequence).filter(|before| before >= sequence) {
            return Err(format!("batch {sequence} stands behind batch {before}"));
        }
        match (self.commit, commit) {
            (Some(before), Some(commit)) if before.checked_add(1) != Some(*commit) => {
                Err(format!("commit {commit} stands behind commit {before}"))
            }
            _ => {
                self.commit = commit.or(self.commit);
                Ok(())
            }
        }
    }
}

struct Journal {
    reader: BufReader<File>,
    /// Behind the last whole batch.
    end: u64,
}

impl Journal {
    /// The next batch; `None` where there is none that is whole.
    fn batch(&mut self) -> Option<Batch> {
        if self.byte()? != TAG_START {
            return None;
        }
        let (items, sequence) = (self.u32()?, self.u64()?);
        let mut commit = None;
        for _ in 0..items {
            match self.byte()? {
                TAG_ITEM => match self.item()? {
                    Item::Commit(number) => commit = Some(number),
                    Item::Other => {}
                },
                TAG_CLEAR => drop(self.u64()?),
                _ => return None,
            }
        }
        if self.byte()? != TAG_END {
            return None;
        }
        self.u64()?; // The checksum, which fjall looks at.
        if self.bytes::<4>()? != MAGIC {
            return None;
        }
        self.end = self.reader.stream_position().ok()?;
        Some(Batch { sequence, commit })
    }

    /// Skips an item, unless it is the number of the batch.
    fn item(&mut self) -> Option<Item> {
        let _kind_and_compression = self.bytes::<2>()?;
        let _keyspace = self.u64()?;
        let key_length = u16::from_le_bytes(self.bytes()?);
        let _value_length = self.u32()?;
        let stored_length = self.u32()?;
        let mut key = vec![0; usize::from(key_length)];
        self.reader.read_exact(&mut key).ok()?;
        if key == COMMIT_KEY {
            let value: [u8; 8] = self.bytes()?;
            return (stored_length == 8).then(|| Item::Commit(u64::from_le_bytes(value)));
        }
        self.reader.seek_relative(i64::from(stored_length)).ok()?;
        Some(Item::Other)
    }

    /// Whether there is anything but reserved room behind the last whole batch.
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

    fn bytes<const N: usize>(&mut self) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        self.reader.read_exact(&mut bytes).ok()?;
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
