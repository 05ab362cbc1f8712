//! What stores promise, on disk and in memory, and what they say when they cannot be opened. Next: `damage.rs`.

use accompanist::contract::{Change, Direction, KEY_BYTES_MAX, KeyRange, Space, Store, StoreError};
use accompanist::prelude::*;
use accompanist::store::MemoryDisk;
use accompanist_core::record::{STORE_FORMAT, value_bytes};

fn put(key: &str, value: &str) -> Change {
    Change { space: Space::State, key: key.into(), value: Some(value.into()) }
}

fn remove(key: &str) -> Change {
    Change { space: Space::State, key: key.into(), value: None }
}

fn get(store: &dyn Store, key: &str) -> Option<String> {
    store.get(Space::State, key.as_bytes()).unwrap().map(|value| String::from_utf8(value).unwrap())
}

fn scan(store: &dyn Store, prefix: &str, after: Option<&str>, limit: usize) -> Vec<String> {
    let found = store.scan(Space::State, prefix.as_bytes(), after.map(str::as_bytes), limit).unwrap();
    found.into_iter().map(|(key, value)| String::from_utf8([key, value].join(&b'=')).unwrap()).collect()
}

fn range(store: &dyn Store, from: &str, to: Option<&str>, direction: Direction, limit: usize) -> Vec<String> {
    let keys = KeyRange { from: from.into(), to: to.map(Into::into) };
    let found = store.range(Space::State, &keys, direction, limit).unwrap();
    found.into_iter().map(|(key, value)| String::from_utf8([key, value].join(&b'=')).unwrap()).collect()
}

/// A store with "a", "b", "b/1" to "b/3" and "c", read by ranges from both ends.
fn keeps_the_contract_of_ranges(store: &dyn Store) {
    use Direction::{Backward, Forward};
    let check = |from, to, limit, forward: &[&str], backward: &[&str]| {
        assert_eq!(range(store, from, to, Forward, limit), forward, "{from}..{to:?}, {limit}");
        assert_eq!(range(store, from, to, Backward, limit), backward, "{to:?}..{from} backward, {limit}");
    };
    check("b/1", Some("b/3"), 9, &["b/1=z", "b/2=y"], &["b/2=y", "b/1=z"]);
    check("b/1", Some("b/3"), 1, &["b/1=z"], &["b/2=y"]);
    check("b/1x", Some("b/3x"), 9, &["b/2=y", "b/3="], &["b/3=", "b/2=y"]);
    check("b/3", None, 9, &["b/3=", "c=3"], &["c=3", "b/3="]);
    check("", None, 2, &["a=2", "b=4"], &["c=3", "b/3="]);
    check("", Some("b"), 2, &["a=2"], &["a=2"]);
    check("", None, 0, &[], &[]);
    check("d", None, 9, &[], &[]);
    check("b", Some("b"), 9, &[], &[]);
    check("c", Some("b"), 9, &[], &[]);
    let other = store.range(Space::Journal, &KeyRange::under(b""), Backward, 9).unwrap();
    assert_eq!(other, [], "spaces are apart");
}

/// One rule for all stores: what one of them cannot hold, none holds. It may be asked for.
fn keeps_the_contract_of_limits(store: &mut dyn Store) {
    let long = |bytes: usize, last: u8| [vec![b'l'; bytes - 1], vec![last]].concat();
    let change = |key: Vec<u8>| Change { space: Space::Journal, key, value: Some(vec![7]) };
    let (fits, too_long) = (long(KEY_BYTES_MAX, b'l'), long(KEY_BYTES_MAX + 1, b'l'));
    store.apply(vec![change(fits.clone()), change(b"k".to_vec()), change(b"m".to_vec())]).unwrap();
    for key in [too_long.clone(), long(200_000, b'x'), Vec::new()] {
        let batch = vec![change(b"other".to_vec()), change(key.clone())];
        let error = store.apply(batch).unwrap_err();
        assert!(matches!(error, StoreError::Unstorable { space: Space::Journal, .. }), "{error}");
        let removal = Change { value: None, ..change(key.clone()) };
        assert!(matches!(store.apply(vec![removal]), Err(StoreError::Unstorable { .. })));
        assert_eq!(store.get(Space::Journal, &key).unwrap(), None);
    }
    store.sync().unwrap();
    assert_eq!(store.get(Space::Journal, b"other").unwrap(), None, "all of a batch or nothing");
    assert_eq!(store.get(Space::Journal, &fits).unwrap(), Some(vec![7]));
    let check = |from: &[u8], to: Option<&[u8]>, expected: &[&[u8]]| {
        let keys = KeyRange { from: from.to_vec(), to: to.map(<[u8]>::to_vec) };
        for direction in [Direction::Forward, Direction::Backward] {
            let found = store.range(Space::Journal, &keys, direction, 9).unwrap();
            let mut found: Vec<_> = found.into_iter().map(|(key, _)| key).collect();
            found.sort();
            assert_eq!(found, expected, "{}..{:?}", from.len(), to.map(<[u8]>::len));
        }
    };
    let later = long(KEY_BYTES_MAX + 9, b'z');
    check(b"k", Some(&too_long), &[b"k", &fits]);
    check(&too_long, None, &[b"m"]);
    check(&too_long, Some(&later), &[]);
    check(b"k", Some(&long(70_000, b'a')), &[b"k", &fits]);
    check(&long(KEY_BYTES_MAX, b'k'), Some(b"n"), &[&fits, b"m"]);
    store.apply([fits, b"k".to_vec(), b"m".to_vec()].map(|key| Change { value: None, ..change(key) }).into()).unwrap();
}

fn keeps_the_contract<S: Store>(open: impl Fn() -> S) {
    let mut store = open();
    assert_eq!(get(&store, "a"), None);
    assert_eq!(scan(&store, "", None, 10), [""; 0]);
    // Of two changes of a key the later wins, within a batch and between two.
    store.apply(vec![put("a", "1"), put("a", "2"), put("b/1", "x"), remove("b/1"), put("b/2", "y")]).unwrap();
    store.apply(vec![put("b/1", "z"), put("b/3", ""), put("c", "3"), put("b", "4"), remove("never")]).unwrap();
    for _ in 0..2 {
        // Before and after the sync.
        assert_eq!(get(&store, "a").as_deref(), Some("2"));
        assert_eq!(get(&store, "b/3").as_deref(), Some(""));
        assert_eq!(store.get(Space::Open, b"a").unwrap(), None, "spaces are apart");
        assert_eq!(scan(&store, "", None, 10), ["a=2", "b=4", "b/1=z", "b/2=y", "b/3=", "c=3"]);
        assert_eq!(scan(&store, "b/", None, 10), ["b/1=z", "b/2=y", "b/3="]);
        assert_eq!(scan(&store, "b/", None, 2), ["b/1=z", "b/2=y"]);
        assert_eq!(scan(&store, "b/", Some("b/2"), 2), ["b/3="]);
        assert_eq!(scan(&store, "b/", Some("b/1x"), 1), ["b/2=y"], "after a key that is not there");
        assert_eq!(scan(&store, "b/", Some("a"), 1), ["b/1=z"], "after a key before the prefix");
        assert_eq!(scan(&store, "b/", Some("c"), 10), [""; 0], "after a key behind the prefix");
        assert_eq!(scan(&store, "b/", None, 0), [""; 0]);
        keeps_the_contract_of_ranges(&store);
        store.sync().unwrap();
        store.check().unwrap();
    }
    store.apply(vec![remove("a"), put("c", "5"), put("d", "6")]).unwrap();
    assert_eq!((get(&store, "a"), get(&store, "c").as_deref()), (None, Some("5")));
    assert_eq!(scan(&store, "", None, 1), ["b=4"]);
    // What is synced and what is not are one: limits, too.
    assert_eq!(range(&store, "b/2", None, Direction::Forward, 3), ["b/2=y", "b/3=", "c=5"]);
    assert_eq!(range(&store, "", None, Direction::Backward, 3), ["d=6", "c=5", "b/3="]);
    store.sync().unwrap();
    drop(store);
    let mut store = open();
    assert_eq!(scan(&store, "", None, 10), ["b=4", "b/1=z", "b/2=y", "b/3=", "c=5", "d=6"]);
    keeps_the_contract_of_limits(&mut store);
    // Keys and values are any bytes.
    let change = Change { space: Space::Journal, key: vec![0, 255], value: Some(vec![0; 100_000]) };
    store.apply(vec![change.clone()]).unwrap();
    store.sync().unwrap();
    assert_eq!(store.scan(Space::Journal, &[0], None, 9).unwrap(), [(change.key, change.value.unwrap())]);
}

#[test]
fn the_store_on_disk_keeps_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    keeps_the_contract(|| FjallStore::open(folder.path().join("to be made")).unwrap());
    keeps_the_contract(|| FjallStore::open(folder.path().join("other")).unwrap().durability(Durability::Process));
}

#[test]
fn the_store_in_memory_keeps_the_contract() {
    let disk = MemoryDisk::default();
    keeps_the_contract(|| disk.open().unwrap());
}

#[cfg(feature = "encryption")]
#[test]
fn an_encrypted_store_keeps_the_contract() {
    use accompanist::store::EncodedStore;
    let (folder, disk) = (tempfile::tempdir().unwrap(), MemoryDisk::default());
    let ring = || crate::encrypted::ring([1]);
    keeps_the_contract(|| EncodedStore::open(disk.open().unwrap(), ring()).unwrap());
    keeps_the_contract(|| EncodedStore::open(FjallStore::open(folder.path()).unwrap(), ring()).unwrap());
}

#[test]
fn a_crash_loses_exactly_what_is_not_synced() {
    for kept in 0..5 {
        let disk = MemoryDisk::default();
        let mut store = disk.open().unwrap();
        store.apply(vec![put("a", "0")]).unwrap();
        store.sync().unwrap();
        for (value, key) in ["1", "2", "3"].into_iter().zip(["b", "c", "d"]) {
            store.apply(vec![put("a", value), put(key, value)]).unwrap();
        }
        assert_eq!(disk.unsynced(), 3);
        disk.crash(kept);
        // The life before can do nothing more.
        assert!(matches!(store.apply(vec![put("a", "9")]), Err(StoreError::Closed)));
        assert!(matches!(store.sync(), Err(StoreError::Closed)));
        assert!(matches!(store.check(), Err(StoreError::Closed)));
        assert!(matches!(store.get(Space::State, b"a"), Err(StoreError::Closed)));
        let expected = &["a=0", "b=1", "c=2", "d=3"][..=kept.min(3)];
        let store = disk.open().unwrap();
        assert_eq!(get(&store, "a"), Some(kept.min(3).to_string()));
        assert_eq!(scan(&store, "", None, 9)[1..], expected[1..]);
    }
}

#[test]
fn a_folder_in_use_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let used = FjallStore::open(folder.path()).unwrap();
    let error = FjallStore::open(folder.path()).unwrap_err();
    assert!(matches!(&error, StoreError::InUse { path } if *path == folder.path().display().to_string()), "{error}");
    drop(used);
    drop(FjallStore::open(folder.path()).unwrap());
}

#[test]
fn a_store_of_a_later_release_is_left_alone() {
    let later = || Change {
        space: Space::Meta,
        key: b"format".to_vec(),
        value: Some(value_bytes(&(STORE_FORMAT + 1)).unwrap()),
    };
    let newer = |error: &StoreError| matches!(error, StoreError::NewerFormat { found, supported } if (*found, *supported) == (STORE_FORMAT + 1, STORE_FORMAT));
    let folder = tempfile::tempdir().unwrap();
    let mut store = FjallStore::open(folder.path()).unwrap();
    store.apply(vec![later()]).unwrap();
    store.sync().unwrap();
    drop(store);
    let error = FjallStore::open(folder.path()).unwrap_err();
    assert!(newer(&error), "{error}");
    let disk = MemoryDisk::default();
    let mut store = disk.open().unwrap();
    store.apply(vec![later()]).unwrap();
    store.sync().unwrap();
    let error = disk.open().unwrap_err();
    assert!(newer(&error), "{error}");
}
