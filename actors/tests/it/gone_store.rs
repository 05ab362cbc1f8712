//! The files of a store that is open are removed, moved away or replaced: nothing more is acknowledged, and the node
//! says why it stops.

use std::fs;
use std::path::Path;

use accompanist::contract::{Change, Space, Store, StoreError};
use accompanist::prelude::*;
use tempfile::TempDir;

use crate::support::*;
use crate::trade::*;

fn write(store: &mut FjallStore) -> Result<(), StoreError> {
    store.apply(vec![Change { space: Space::State, key: vec![1], value: Some(vec![1]) }])?;
    store.sync()
}

/// A store in a folder below another one.
fn opened() -> (TempDir, FjallStore) {
    let above = tempfile::tempdir().unwrap();
    let mut store = FjallStore::open(above.path().join("store")).unwrap();
    write(&mut store).unwrap();
    store.check().unwrap();
    (above, store)
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

fn empty(folder: &Path) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            fs::remove_dir_all(entry.path()).unwrap();
        } else {
            fs::remove_file(entry.path()).unwrap();
        }
    }
}

fn swap(path: &Path) {
    let copied = path.with_extension("copied");
    fs::copy(path, &copied).unwrap();
    fs::rename(copied, path).unwrap();
}

/// What becomes of a store's folder.
type Way<'a> = &'a dyn Fn(&Path);

#[test]
fn a_store_whose_files_are_not_where_they_were_opened_acknowledges_nothing() {
    let move_away = |folder: &Path| fs::rename(folder, folder.with_extension("away")).unwrap();
    let ways: [(&str, Way<'_>); 9] = [
        ("removed", &|folder| fs::remove_dir_all(folder).unwrap()),
        ("emptied", &empty),
        ("moved away", &move_away),
        ("replaced by a copy", &|folder| {
            move_away(folder);
            copy(&folder.with_extension("away"), folder);
        }),
        ("without its journal", &|folder| fs::remove_file(folder.join("0.jnl")).unwrap()),
        ("without its mark", &|folder| fs::remove_file(folder.join("synced")).unwrap()),
        ("without its lock", &|folder| fs::remove_file(folder.join("lock")).unwrap()),
        ("with a copy of its journal", &|folder| swap(&folder.join("0.jnl"))),
        ("with a copy of its mark", &|folder| swap(&folder.join("synced"))),
    ];
    for (way, gone) in ways {
        let (above, mut store) = opened();
        let folder = above.path().join("store");
        gone(&folder);
        for told in [write(&mut store), store.check()] {
            let told = told.expect_err(way);
            assert!(matches!(told, StoreError::Gone { .. }), "{way}: {told}");
            let told = told.to_string();
            assert!(told.contains(folder.to_str().unwrap()) && told.contains("put the folder back"), "{way}: {told}");
        }
    }
}

#[test]
fn a_mounted_over_folder_is_distinguished_from_a_moved_one() {
    let (above, mut store) = opened();
    let folder = above.path().join("store");
    let away = above.path().join("away");
    fs::rename(&folder, &away).unwrap();
    fs::create_dir(&folder).unwrap();
    store.check().expect_err("another folder stands in its place");
    fs::remove_dir(&folder).unwrap();
    fs::rename(&away, &folder).unwrap();
    // It is the one that was opened.
    store.check().unwrap();
    write(&mut store).unwrap();
}

#[test]
fn journals_that_come_and_go_between_two_looks_are_no_alarm() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = FjallStore::open(folder.path()).unwrap().durability(Durability::Process);
    let mut random = fastrand::Rng::with_seed(1);
    // Until the first two journals are gone, without a sync, which would look.
    let gone = |number: u32| !folder.path().join(format!("{number}.jnl")).exists();
    for number in 0_u32..20_000 {
        if number > 1_000 && gone(0) && gone(1) {
            break;
        }
        let value = Some((0..256 << 10).map(|_| random.u8(..)).collect());
        store.apply(vec![Change { space: Space::State, key: vec![u8::try_from(number % 3).unwrap()], value }]).unwrap();
    }
    assert!(gone(0) && gone(1), "the first journals stay");
    store.check().unwrap();
    write(&mut store).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_store_is_removed_stops_though_nothing_is_written() {
    let home = Home::new();
    let node = TestNode::start(home.builder().choreography(Trade)).await;
    node.is_idle().await;
    fs::remove_dir_all(home.folder()).unwrap();
    let error = within(node.failed()).await;
    assert!(error.to_string().contains("is gone while it was open"), "{error}");
    assert!(matches!(within(node.start(Trade, deal(1))).await, Err(StartError::NodeStopped)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_store_is_emptied_acknowledges_no_start() {
    let home = Home::new();
    let node = TestNode::start(home.builder().choreography(Trade)).await;
    let session = within(node.start(Trade, deal(1))).await.unwrap();
    within(session.settled()).await.unwrap();
    let failed = node.failed();
    empty(home.folder());
    let told = within(node.start(Trade, deal(2))).await;
    assert!(matches!(told, Err(StartError::NodeStopped)), "a start on a store that is gone was acknowledged");
    let error = within(failed).await;
    assert!(error.to_string().contains("is gone while it was open"), "{error}");
}
