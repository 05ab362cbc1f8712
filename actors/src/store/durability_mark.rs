//! A mark beside the database: the last batch that is known to be synced, and what the store consists of.
//!
//! The first sixteen bytes are written in place after each sync and not synced themselves, so they cost next to
//! nothing: after a power cut they may be older than the database, never newer. A database that is older than its
//! mark has lost acknowledged data. The rest of the mark changes only when keyspaces are created, and is then
//! replaced as a whole.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use xxhash_rust::xxh3::xxh3_64;

/// The name of the mark's file.
const FILE: &str = "synced";

/// The first bytes of the part that is replaced as a whole.
const MAGIC: &[u8; 8] = b"ACCSYNC\x01";

/// The mark of one store.
pub(super) struct DurabilityMark {
    file: File,
}

/// The result of reading a mark.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    /// There is no mark: the store is fresh.
    Nothing,
    /// The mark is intact.
    Marked(Marked),
    /// The mark cannot be read.
    Damaged,
}

/// The contents of a mark.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Marked {
    /// The last batch that was synced.
    pub(super) synced: u64,
    /// The components of the store.
    pub(super) made: StoreLayout,
}

impl std::ops::Deref for Marked {
    type Target = StoreLayout;

    fn deref(&self) -> &StoreLayout {
        &self.made
    }
}

/// The components of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StoreLayout {
    /// The version of the list of keyspaces; the store has no older version of it.
    pub(super) names_version: u64,
    /// The ids of the keyspaces, in the order of the commit row.
    pub(super) keyspaces: Vec<u64>,
}

impl StoreLayout {
    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(self.names_version.to_le_bytes());
        bytes.extend(self.keyspaces.iter().flat_map(|id| id.to_le_bytes()));
        bytes.extend(xxh3_64(&bytes).to_le_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (content, checksum) = bytes.split_last_chunk()?;
        if xxh3_64(content) != u64::from_le_bytes(*checksum) {
            return None;
        }
        let (numbers, []) = content.strip_prefix(MAGIC)?.as_chunks::<8>() else { return None };
        let mut numbers = numbers.iter().map(|number| u64::from_le_bytes(*number));
        Some(Self { names_version: numbers.next()?, keyspaces: numbers.collect() })
    }
}

impl DurabilityMark {
    /// Reads the mark in `folder`.
    pub(super) fn read(folder: &Path) -> io::Result<Found> {
        let mut bytes = Vec::new();
        match File::open(folder.join(FILE)).and_then(|mut file| file.read_to_end(&mut bytes)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
            Err(error) => return Err(error),
            Ok(_) => {}
        }
        Ok(parse(&bytes).map_or(Found::Damaged, Found::Marked))
    }

    /// Opens the existing mark. Writes a new one if there was no intact mark, or if the store consists of something
    /// other than `found` says.
    pub(super) fn open(folder: &Path, found: &Found, made: &StoreLayout) -> io::Result<Self> {
        let path = folder.join(FILE);
        let synced = match found {
            Found::Marked(marked) if marked.made == *made => None,
            Found::Marked(marked) => Some(marked.synced),
            Found::Nothing | Found::Damaged => Some(0),
        };
        if let Some(synced) = synced {
            // The mark is written whole or not at all, even at a power cut.
            let fresh = folder.join("synced.new");
            let mut mark = Self { file: File::create(&fresh)? };
            mark.set(synced)?;
            mark.file.write_all(&made.to_bytes())?;
            mark.file.sync_all()?;
            std::fs::rename(&fresh, &path)?;
            #[cfg(unix)]
            File::open(folder)?.sync_all()?;
        }
        Ok(Self { file: File::options().write(true).open(path)? })
    }

    /// Records that `synced` and all earlier batches are on disk. The write is in place and within one sector: it
    /// needs no space and cannot be torn.
    pub(super) fn set(&mut self, synced: u64) -> io::Result<()> {
        let mut bytes = [0; 16];
        let (one, other) = bytes.split_at_mut(8);
        one.copy_from_slice(&synced.to_le_bytes());
        other.copy_from_slice(&(!synced).to_le_bytes());
        self.file.seek(SeekFrom::Start(0))?;
        self.file.write_all(&bytes)
    }
}

fn parse(bytes: &[u8]) -> Option<Marked> {
    let (synced, rest) = bytes.split_first_chunk()?;
    let (inverse, rest) = rest.split_first_chunk()?;
    let synced = u64::from_le_bytes(*synced);
    let made = StoreLayout::from_bytes(rest)?;
    (synced == !u64::from_le_bytes(*inverse)).then_some(Marked { synced, made })
}
