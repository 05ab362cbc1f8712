//! How much memory and disk a store on fjall may use.

use accompanist_core::contract::StoreError;

use super::ranges::{self, Range};

/// The memory and disk that a store may use. A size outside its range is refused when the store is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FjallSizes {
    /// The cache for blocks that are read, in bytes: 0 to 1 TiB.
    pub cache_bytes: u64,
    /// The bytes a keyspace collects in memory before they are written to a table: 1 to 1 TiB.
    pub memtable_bytes: u64,
    /// The bytes of journals above which old ones are removed: 64 MiB to 1 TiB. Opening a store reads all journals,
    /// which takes about a second for each 64 MiB.
    pub journals_bytes_max: u64,
    /// How far a journal is written ahead with zeros, in bytes, up to 1 TiB; 0 turns this off. Writing ahead makes
    /// each sync faster by a third to two thirds and doubles what is written to the journal: set 0 on a device whose
    /// flash has to last. It works on Linux only, and for a journal until it is reopened.
    pub journal_bytes_ahead: u64,
    /// How many bytes of tables are verified when a store is opened, at the speed of the disk. Damage in the rest is
    /// detected when the damaged block is read, which stops the node at that moment. With a smaller value a large
    /// store on a slow disk therefore opens sooner, and may fail later. Journals and the lists of tables are always
    /// verified. From 0 for none to [`u64::MAX`] for all.
    pub verify_bytes_max: u64,
}

impl Default for FjallSizes {
    fn default() -> Self {
        Self {
            cache_bytes: 32 << 20,
            memtable_bytes: 16 << 20,
            journals_bytes_max: 64 << 20,
            journal_bytes_ahead: 256 << 10,
            verify_bytes_max: 1 << 30,
        }
    }
}

impl FjallSizes {
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        let check = |range: &Range| range.check().map_err(|reason| StoreError::Size { size: range.key, reason });
        self.ranges().iter().try_for_each(check)
    }

    pub(super) fn ranges(&self) -> Vec<Range> {
        let Self { cache_bytes, memtable_bytes, journals_bytes_max, journal_bytes_ahead, verify_bytes_max } = *self;
        vec![
            ranges::count("cache_bytes", cache_bytes, 0, SIZE_MAX),
            ranges::count("memtable_bytes", memtable_bytes, 1, SIZE_MAX),
            ranges::count("journals_bytes_max", journals_bytes_max, JOURNALS_BYTES_LEAST, SIZE_MAX),
            ranges::count("journal_bytes_ahead", journal_bytes_ahead, 0, SIZE_MAX),
            ranges::count("verify_bytes_max", verify_bytes_max, 0, u64::MAX),
        ]
    }
}

/// The least that fjall needs: one journal.
const JOURNALS_BYTES_LEAST: u64 = 64 << 20;
const SIZE_MAX: u64 = 1 << 40;
