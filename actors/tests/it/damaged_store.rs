//! Stores on disk whose files have other bytes than were written: they are refused, and say so. What was never synced
//! may be missing.

use std::fs;
use std::path::{Path, PathBuf};

use accompanist::contract::{Batch, Change, Space, Store, StoreError};
use accompanist::prelude::*;
use tempfile::TempDir;

/// What ends each batch of a journal, and what begins one.
const BATCH_END: &[u8] = b"FJL\x03";
const BATCH_START: u8 = 1;
/// Behind the tag and the number of items of a batch: its number, eight bytes.
const SEQUENCE_AT: usize = 5;

fn put(number: u32) -> Change {
    Change { space: Space::State, key: number.to_be_bytes().into(), value: Some(vec![7; 200]) }
}

fn count(store: &FjallStore) -> usize {
    store.scan(Space::State, b"", None, 1_000).unwrap().len()
}

/// A store with so many batches, each synced, that has been closed.
fn store_of(batches: u32) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut store = FjallStore::open(folder.path()).unwrap();
    for number in 0..batches {
        write(&mut store, vec![put(number)]);
    }
    folder
}

/// As the writer does it.
fn write(store: &mut FjallStore, batch: Batch) {
    store.apply(batch).unwrap();
    store.sync().unwrap();
    store.make_ready();
}

fn journal(folder: &Path) -> PathBuf {
    folder.join("0.jnl")
}

/// Where the batches of a journal end.
fn batch_ends(bytes: &[u8]) -> Vec<usize> {
    let found = bytes.windows(BATCH_END.len()).enumerate().filter(|(_, window)| *window == BATCH_END);
    found.map(|(at, _)| at + BATCH_END.len()).collect()
}

/// Changes the journal, and gives what the store says to it.
fn open_with(folder: &Path, change: impl FnOnce(&mut Vec<u8>, &[usize])) -> Result<FjallStore, StoreError> {
    let mut bytes = fs::read(journal(folder)).unwrap();
    // Without the room that is reserved.
    bytes.truncate(bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1);
    let ends = batch_ends(&bytes);
    change(&mut bytes, &ends);
    fs::write(journal(folder), bytes).unwrap();
    FjallStore::open(folder)
}

#[track_caller]
fn is_refused(folder: &Path, opened: Result<FjallStore, StoreError>, reason: &str) {
    let error = opened.expect_err("a damaged store was opened");
    let told = error.to_string();
    assert!(matches!(error, StoreError::Damaged { .. }), "{told}");
    for part in [folder.to_str().unwrap(), "is damaged", reason, "check the disk"] {
        assert!(told.contains(part), "`{part}` is not in: {told}");
    }
}

#[test]
fn damage_in_the_middle_of_a_journal_is_refused_and_nothing_is_cut_off() {
    let folder = store_of(20);
    let damage = |bytes: &mut Vec<u8>, ends: &[usize]| bytes[ends[9]] = 0xff;
    is_refused(folder.path(), open_with(folder.path(), damage), "was acknowledged");
    // It was not cut off where it cannot be read: with the byte mended, all is there.
    let opened = open_with(folder.path(), |bytes, ends| bytes[ends[9]] = BATCH_START);
    assert_eq!(count(&opened.unwrap()), 20);
}

#[test]
fn a_flipped_byte_of_a_value_is_refused() {
    let folder = store_of(20);
    let opened = open_with(folder.path(), |bytes, ends| bytes[ends[9] + 100] ^= 1);
    is_refused(folder.path(), opened, "ChecksumMismatch");
}

#[test]
fn a_journal_that_ends_too_early_is_refused() {
    for lost in 1..4 {
        let folder = store_of(20);
        // Right behind a batch: what is left looks whole.
        let opened = open_with(folder.path(), |bytes, ends| bytes.truncate(ends[ends.len() - 1 - lost]));
        is_refused(folder.path(), opened, "was acknowledged");
    }
}

#[test]
fn a_batch_that_is_missing_is_refused() {
    let folder = store_of(20);
    let opened = open_with(folder.path(), |bytes, ends| drop(bytes.drain(ends[9]..ends[10])));
    is_refused(folder.path(), opened, "stands behind commit");
}

#[test]
fn a_batch_with_another_number_is_refused() {
    let folder = store_of(20);
    // Its checksum does not cover it, and an older batch would win over a later one.
    let opened = open_with(folder.path(), |bytes, ends| bytes[ends[9] + SEQUENCE_AT] = 0);
    is_refused(folder.path(), opened, "stands behind batch");
}

#[test]
fn a_store_without_its_journals_is_refused() {
    let folder = store_of(20);
    fs::remove_file(journal(folder.path())).unwrap();
    is_refused(folder.path(), FjallStore::open(folder.path()), "was acknowledged");
}

#[test]
fn a_mark_that_is_gone_or_damaged_is_refused() {
    let folder = store_of(3);
    let mark = folder.path().join("synced");
    let bytes = fs::read(&mark).unwrap();
    for damaged in [&b""[..], &bytes[..15], &[bytes.as_slice(), &[0]].concat(), &[&[0xff], &bytes[1..]].concat()] {
        fs::write(&mark, damaged).unwrap();
        is_refused(folder.path(), FjallStore::open(folder.path()), "`synced` cannot be read");
    }
    fs::remove_file(&mark).unwrap();
    is_refused(folder.path(), FjallStore::open(folder.path()), "`synced` is missing");
    fs::write(&mark, bytes).unwrap();
    assert_eq!(count(&FjallStore::open(folder.path()).unwrap()), 3);
}

#[test]
fn unsynced_bytes_may_be_torn() {
    for cut in [1, 10, 100, 200] {
        let folder = store_of(20);
        let mut store = FjallStore::open(folder.path()).unwrap();
        let commits = store.commits();
        store.apply(vec![put(20)]).unwrap();
        drop(store); // It reaches the disk, and nobody was told so.
        let opened = open_with(folder.path(), |bytes, ends| bytes.truncate(ends[ends.len() - 1] - cut));
        let mut store = opened.unwrap();
        assert_eq!((count(&store), store.commits()), (20, commits));
        // It goes on from there.
        store.apply(vec![put(21)]).unwrap();
        store.sync().unwrap();
        drop(store);
        assert_eq!(count(&FjallStore::open(folder.path()).unwrap()), 21);
    }
}

#[test]
fn without_the_promise_of_a_sync_a_shorter_journal_is_none_the_worse() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = FjallStore::open(folder.path()).unwrap().durability(Durability::Process);
    for number in 0..20 {
        store.apply(vec![put(number)]).unwrap();
        store.sync().unwrap();
    }
    drop(store);
    let opened = open_with(folder.path(), |bytes, ends| bytes.truncate(ends[ends.len() - 6] - 10));
    assert_eq!(count(&opened.unwrap()), 14);
}

#[test]
fn a_table_with_other_bytes_is_refused_when_it_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let sizes = accompanist::store::FjallSizes { memtable_bytes: 64 << 10, ..Default::default() };
    let mut store = FjallStore::open_with(folder.path(), &sizes).unwrap();
    let tables = |folder: &Path| {
        let keyspaces = fs::read_dir(folder.join("keyspaces")).unwrap().map(|entry| entry.unwrap().path());
        let tables = keyspaces.filter_map(|keyspace| fs::read_dir(keyspace.join("tables")).ok()).flatten();
        tables.map(|entry| entry.unwrap().path()).collect::<Vec<_>>()
    };
    let before = tables(folder.path());
    let mut number = 0;
    let table = loop {
        store.apply(vec![put(number)]).unwrap();
        store.sync().unwrap();
        number += 1;
        let written = tables(folder.path());
        if let Some(table) = written.into_iter().find(|table| !before.contains(table)) {
            break table;
        }
        assert!(number < 100_000, "no table was written");
    };
    drop(store);
    let mut bytes = fs::read(&table).unwrap();
    for at in (0..bytes.len()).step_by(64) {
        bytes[at] ^= 0x10;
    }
    fs::write(&table, bytes).unwrap();
    let read = FjallStore::open(folder.path()).and_then(|store| store.scan(Space::State, b"", None, 100_000).map(drop));
    let told = read.expect_err("a damaged table was read").to_string();
    assert!(told.contains("is damaged") && told.contains(folder.path().to_str().unwrap()), "{told}");
}

/// A store with two journals, the older one of which is over.
fn store_of_two_journals() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    // Enough room for the journals that the first one stays.
    let sizes = accompanist::store::FjallSizes { journals_bytes_max: 1 << 30, ..Default::default() };
    let mut store = FjallStore::open_with(folder.path(), &sizes).unwrap();
    let (mut number, mut more) = (0_u32, 3);
    while more > 0 {
        // Some batches are in the second one, too.
        more -= u32::from(folder.path().join("1.jnl").exists());
        let key = number.to_be_bytes().into();
        write(&mut store, vec![Change { space: Space::State, key, value: Some(random_bytes(number)) }]);
        number += 1;
        assert!(number < 2_000, "there is no second journal");
    }
    folder
}

/// Bytes that no compression makes small.
fn random_bytes(seed: u32) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed.into());
    (0..1 << 17).map(|_| random.u8(..)).collect()
}

#[test]
fn damage_in_a_journal_that_is_over_is_refused() {
    let folder = store_of_two_journals();
    let folder = folder.path();
    let whole = fs::read(journal(folder)).unwrap();
    let ends = batch_ends(whole.get(whole.len() - (1 << 20)..).unwrap());
    let begin = whole.len() - (1 << 20);
    let last = begin + ends[ends.len() - 1];
    let opened = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = whole.clone();
        change(&mut bytes);
        fs::write(journal(folder), bytes).unwrap();
        FjallStore::open(folder)
    };
    // In the middle, at its last batch, and as if that batch had never been.
    is_refused(folder, opened(&|bytes| bytes[begin + ends[0]] = 0xff), "`0.jnl` cannot be read behind byte");
    is_refused(folder, opened(&|bytes| bytes.truncate(last - 10)), "`0.jnl` cannot be read behind byte");
    let before = begin + ends[ends.len() - 2];
    is_refused(folder, opened(&|bytes| bytes.truncate(before)), "stands behind commit");
    is_refused(folder, opened(&|bytes| bytes[before..].fill(0)), "stands behind commit");
    let opened = opened(&|_| {}).unwrap();
    assert_eq!(u64::try_from(count(&opened)).unwrap() + 1, opened.commits(), "each batch has one row but the first");
}

#[test]
fn a_store_that_was_not_made_to_the_end_is_made_anew_and_nothing_else_is() {
    // As a crash leaves it: without a version, or with an empty one.
    for version in [None, Some("")] {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("keyspaces")).unwrap();
        fs::write(folder.path().join("lock"), "").unwrap();
        fs::File::create(journal(folder.path())).unwrap().set_len(64 << 20).unwrap();
        if let Some(version) = version {
            fs::write(folder.path().join("version"), version).unwrap();
        }
        assert_eq!(count(&FjallStore::open(folder.path()).unwrap()), 0);
        assert_eq!(count(&FjallStore::open(folder.path()).unwrap()), 0);
    }
    let folder = store_of(20);
    for mark in ["synced", "version"] {
        fs::remove_file(folder.path().join(mark)).unwrap();
        FjallStore::open(folder.path()).expect_err("a store with rows was opened without its marks");
    }
    let rows = fs::read(journal(folder.path())).unwrap();
    assert!(rows.iter().any(|byte| *byte != 0), "it was thrown away");
}

#[test]
fn a_store_whose_journal_is_written_ahead_has_all_that_was_synced_after_a_crash_at_any_time() {
    let folder = tempfile::tempdir().unwrap();
    let sizes = accompanist::store::FjallSizes { journal_bytes_ahead: 10_000, ..Default::default() };
    let mut store = FjallStore::open_with(folder.path(), &sizes).unwrap();
    for number in 0..200 {
        write(&mut store, vec![put(number)]);
        if number % 10 == 0 {
            // What a process that is killed now leaves behind.
            let left = tempfile::tempdir().unwrap();
            copy(folder.path(), left.path());
            let opened = FjallStore::open(left.path()).unwrap();
            assert_eq!((count(&opened), opened.commits()), (number as usize + 1, store.commits()));
        }
    }
    drop(store);
    // It goes on, in a journal that only grows.
    let mut store = FjallStore::open_with(folder.path(), &sizes).unwrap();
    (200..300).for_each(|number| write(&mut store, vec![put(number)]));
    drop(store);
    assert_eq!(count(&FjallStore::open(folder.path()).unwrap()), 300);
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            fs::create_dir(&to).unwrap();
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), &to).unwrap();
        }
    }
}
