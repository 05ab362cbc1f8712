//! Stores whose values are encrypted: what of them is on disk, which keys open them, and what is made of values that
//! are not those that were written. That they keep the contract of stores is in `stores`, that they survive disks that
//! fail in `damage`.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use accompanist::contract::{Change, Entry, KeyRange, Space, Store, StoreError};
use accompanist::id::{InstanceId, RoleIndex};
use accompanist::prelude::*;
use accompanist::store::{Codec, CodecError, EncodedStore, KeyId, KeyRing, MemoryDisk, MemoryStore, Row};
use accompanist::transport::LocalNetwork;
use accompanist::{NodeBuilder, SessionId};

use crate::canary::{Books, CANARY, Diary, NOTES, Run, Way, all_of_it, errand};
use crate::support::{TestNode, has_tombstone, within};

/// The keys with these ids, the current one first.
pub fn ring<const N: usize>(ids: [u8; N]) -> KeyRing {
    KeyRing::new(ids.map(|id| (KeyId(id.into()), [id; 32]))).unwrap()
}

fn open<const N: usize>(disk: &MemoryDisk, ids: [u8; N]) -> Result<EncodedStore<MemoryStore>, StoreError> {
    EncodedStore::open(disk.open().unwrap(), ring(ids))
}

fn put(space: Space, key: &str, value: &str) -> Change {
    Change { space, key: key.into(), value: Some(value.into()) }
}

fn write(store: &mut impl Store, changes: Vec<Change>) {
    store.apply(changes).unwrap();
    store.sync().unwrap();
}

/// All that is on a disk, as it is there.
fn raw(disk: &MemoryDisk) -> Vec<(Space, Entry)> {
    let store = disk.open().unwrap();
    let of_space = |space| store.scan(space, b"", None, 10_000).unwrap().into_iter().map(move |entry| (space, entry));
    Space::ALL.into_iter().flat_map(of_space).collect()
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

/// How many files below a folder have the canary in them, of how many.
fn files_with_the_canary(folder: &Path) -> (usize, usize) {
    let (mut found, mut files) = (0, 0);
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let (more, of) = if entry.file_type().unwrap().is_dir() {
            files_with_the_canary(&entry.path())
        } else {
            (usize::from(holds(&std::fs::read(entry.path()).unwrap(), CANARY)), 1)
        };
        (found, files) = (found + more, files + of);
    }
    (found, files)
}

/// Where the process that is killed has its store.
const FOLDER: &str = "ACCOMPANIST_TEST_ENCRYPTED_FOLDER";
const ALONE: &str = "encrypted::a_process_that_is_killed";

fn on_folder(folder: &Path, encrypted: bool, books: &Arc<Books>) -> NodeBuilder {
    // Small enough that tables are written, too.
    let sizes = accompanist::store::FjallSizes { memtable_bytes: 64 << 10, ..Default::default() };
    let store = FjallStore::open_with(folder, &sizes).unwrap();
    if encrypted {
        all_of_it(EncodedStore::open(store, ring([1])).unwrap(), LocalNetwork::new(), books)
    } else {
        all_of_it(store, LocalNetwork::new(), books)
    }
}

#[test]
#[ignore = "a process of its own, which the test of it starts"]
fn a_process_that_is_killed() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let encrypted = Path::new(&folder).ends_with("encrypted");
        let node = TestNode::start(on_folder(Path::new(&folder), encrypted, &Arc::default())).await;
        for (number, way) in (0..).zip([Way::Through, Way::Refused, Way::Aborted, Way::Retried].repeat(3)) {
            let session = within(node.start(Run, errand(number, way))).await.unwrap();
            let settled = within(session.settled()).await;
            assert_eq!(settled.is_ok(), way == Way::Through, "{settled:?}");
        }
        for (end, accepted) in [("", true), ("?", false), ("", true)] {
            let told = within(node.actor::<Diary>().ask(&format!("{CANARY}{end}"))).await;
            assert_eq!(told.is_ok(), accepted, "{told:?}");
        }
        within(node.actor::<Diary>().tell(&format!("{CANARY}?"))).await.unwrap(); // It is kept.
        for key in ["waits", "has a word"] {
            let session = within(node.start(Run, errand(100, Way::Waits)).key(key)).await.unwrap();
            if key == "has a word" {
                // Before it is waited for, or after.
                within(session.initiator().signal("other", "1", &CANARY.to_owned())).await.unwrap();
            }
        }
        println!("ready");
        std::future::pending::<()>().await;
    });
}

fn run_and_kill(folder: &Path) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([ALONE, "--exact", "--ignored", "--nocapture"]).env(FOLDER, folder);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let ready = lines.map_while(Result::ok).any(|line| line.contains("ready"));
    child.kill().unwrap(); // SIGKILL.
    child.wait().unwrap();
    assert!(ready, "the process has failed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_killed_leaves_nothing_in_clear() {
    let folder = tempfile::tempdir().unwrap();
    // That the test would find it.
    let clear = folder.path().join("clear");
    run_and_kill(&clear);
    let (found, _) = files_with_the_canary(&clear);
    assert!(found > 0, "the canary is in no file of a store in clear");

    let encrypted = folder.path().join("encrypted");
    run_and_kill(&encrypted);
    let (found, files) = files_with_the_canary(&encrypted);
    assert!(found == 0 && files > 3, "{found} of {files} files have the canary");

    let books = Arc::new(Books::default());
    let node = TestNode::start(on_folder(&encrypted, true, &books)).await;
    let noted = |number| {
        let read = move |state: &State<'_>| NOTES.get(state, number).unwrap();
        let node = &node;
        async move { within(node.read_state(crate::canary::Desk, read)).await.unwrap() }
    };
    assert_eq!(noted(0).await.as_deref(), Some(CANARY));
    assert_eq!(noted(1).await, Some(format!("not {CANARY}")));
    assert_eq!(within(node.actor::<Diary>().ask(&CANARY.to_owned())).await.unwrap(), CANARY);
    let refused = within(node.actor::<Diary>().refused()).await.unwrap();
    assert_eq!(refused[0].message, Some(format!("{CANARY}?")));
    for key in ["waits", "has a word"] {
        let session = within(node.start(Run, errand(100, Way::Waits)).key(key)).await.unwrap();
        within(session.initiator().signal("word", "1", &CANARY.to_owned())).await.unwrap();
        assert_eq!(within(session.settled()).await.unwrap(), format!("booked {CANARY}"));
    }
    within(node.shutdown()).await;
    drop(node);
    assert_eq!(files_with_the_canary(&encrypted).0, 0);
}

#[test]
fn values_of_all_spaces_are_encrypted_and_keys_are_not() {
    let disk = MemoryDisk::default();
    let mut store = open(&disk, [1]).unwrap();
    let changes = Space::ALL.into_iter().map(|space| put(space, &format!("key of {space}"), CANARY));
    write(&mut store, changes.collect());
    for space in Space::ALL {
        let key = format!("key of {space}");
        assert_eq!(store.get(space, key.as_bytes()).unwrap(), Some(CANARY.into()));
        let row = (key.clone().into_bytes(), CANARY.into());
        assert!(store.scan(space, b"", None, 9).unwrap().contains(&row), "{space}");
    }
    let rows = raw(&disk);
    for space in Space::ALL {
        assert!(rows.iter().any(|(found, (key, _))| *found == space && key.starts_with(b"key of ")));
    }
    assert!(rows.iter().all(|(_, (_, value))| !holds(value, CANARY)));
}

#[test]
fn the_marker_is_no_row_of_the_store() {
    let disk = MemoryDisk::default();
    let mut store = open(&disk, [1]).unwrap();
    write(&mut store, ["a", "b", "d", "e"].map(|key| put(Space::Meta, key, key)).into());
    let marker = raw(&disk).into_iter().map(|(_, (key, _))| key).find(|key| key.starts_with(b"c")).unwrap();
    let mut store = open(&disk, [1]).unwrap();
    assert_eq!(store.get(Space::Meta, &marker).unwrap(), None);
    let keys = |from: &str, limit| {
        let found = store.scan(Space::Meta, b"", Some(from.as_bytes()), limit).unwrap();
        found.into_iter().map(|(key, _)| String::from_utf8(key).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(keys("a", 9), ["b", "d", "e", "format"]);
    assert_eq!(keys("a", 2), ["b", "d"]);
    assert_eq!(keys("b", 1), ["d"]);
    assert_eq!(keys("b", 0), [""; 0]);
    for value in [None, Some(vec![1])] {
        let error = store.apply(vec![Change { space: Space::Meta, key: marker.clone(), value }]).unwrap_err();
        assert!(matches!(error, StoreError::Unstorable { .. }), "{error}");
    }
    store.apply(vec![Change { space: Space::State, key: marker, value: Some(vec![1]) }]).unwrap();
}

#[track_caller]
fn is_refused(opened: Result<impl Store, StoreError>, parts: &[&str]) {
    let error = opened.err().expect("the store was opened");
    let told = error.to_string();
    assert!(matches!(error, StoreError::Encoding(_)), "{told}");
    for part in parts.iter().chain(&["nothing of it was changed"]) {
        assert!(told.contains(part), "`{part}` is not in: {told}");
    }
}

/// What encrypts nothing, under a name of its own.
struct Plain(&'static str);
impl Codec for Plain {
    fn name(&self) -> &str {
        self.0
    }
    fn current_key(&self) -> KeyId {
        KeyId(1)
    }
    fn encode(&self, _: KeyId, _: Row<'_>, value: &[u8]) -> Result<Vec<u8>, CodecError> {
        Ok(value.to_vec())
    }
    fn decode(&self, _: KeyId, _: Row<'_>, encoded: &[u8]) -> Result<Vec<u8>, CodecError> {
        Ok(encoded.to_vec())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_is_opened_by_its_own_keys_alone_and_is_left_as_it_is() {
    let disk = MemoryDisk::default();
    let mut store = open(&disk, [1]).unwrap();
    write(&mut store, vec![put(Space::State, "a", CANARY), put(Space::State, "b", "")]);
    let before = raw(&disk);
    let wrong = KeyRing::new([(KeyId(1), [9; 32])]).unwrap();
    is_refused(
        EncodedStore::open(disk.open().unwrap(), wrong),
        &["key 1 is another one", "the key file of this store"],
    );
    is_refused(open(&disk, [2]), &["2 of its values are under key 1", "behind the current one"]);
    let other = EncodedStore::open(disk.open().unwrap(), Plain("plain"));
    is_refused(other, &["encoded with `xchacha20-poly1305`", "opened with `plain`"]);
    // Without any, the node does not start.
    let builder = all_of_it(disk.open().unwrap(), LocalNetwork::new(), &Arc::default());
    let error = within(builder.start()).await.unwrap_err();
    let told = error.to_string();
    assert!(matches!(error, NodeError::Store(StoreError::Encoding(_))), "{told}");
    assert!(told.contains("`xchacha20-poly1305`") && told.contains("`EncodedStore`"), "{told}");
    assert_eq!(raw(&disk), before);
    assert_eq!(open(&disk, [1]).unwrap().get(Space::State, b"a").unwrap(), Some(CANARY.into()));

    // One in clear, whatever is in it.
    for space in Space::ALL {
        let disk = MemoryDisk::default();
        write(&mut disk.open().unwrap(), vec![put(space, "a", "1")]);
        let before = raw(&disk);
        is_refused(open(&disk, [1]), &["in clear", "begin with an empty folder"]);
        assert_eq!(raw(&disk), before);
    }
}

#[test]
fn a_codec_of_the_callers_may_be_used() {
    let disk = MemoryDisk::default();
    let mut store = EncodedStore::open(disk.open().unwrap(), Plain("plain")).unwrap();
    write(&mut store, vec![put(Space::State, "a", "1")]);
    let store = EncodedStore::open(disk.open().unwrap(), Plain("plain")).unwrap();
    assert_eq!(store.get(Space::State, b"a").unwrap(), Some(b"1".to_vec()));
    is_refused(open(&disk, [1]), &["encoded with `plain`"]);
}

#[test]
fn a_value_that_was_altered_cut_or_moved_is_not_read_and_nothing_is_lost() {
    let disk = MemoryDisk::default();
    let mut store = open(&disk, [1]).unwrap();
    write(&mut store, vec![put(Space::State, "a", "first"), put(Space::State, "b", "other")]);
    write(&mut store, vec![put(Space::Journal, "a", "third"), put(Space::State, "empty", "")]);
    drop(store);
    let stored = |space, key: &str| disk.open().unwrap().get(space, key.as_bytes()).unwrap().unwrap();
    let good = stored(Space::State, "a");
    let mut cases = vec![
        (stored(Space::State, "b"), "moved from another row"),
        (stored(Space::Journal, "a"), "moved from another row"),
        ([&good[..], &[0]].concat(), "altered"),
        (Vec::new(), "it is empty"),
        (b"first".to_vec(), "or not at all"),
    ];
    for at in 0..good.len() {
        let mut flipped = good.clone();
        flipped[at] ^= 0x40;
        let reason = match at {
            0 => "it is encoded in version 65",
            1..5 => "which this node does not have: add the key",
            _ => "altered",
        };
        cases.push((flipped, reason));
        let cut = if at == 0 {
            "it is empty"
        } else if at < 5 {
            "it is cut off"
        } else {
            "cut"
        };
        cases.push((good[..at].to_vec(), cut));
    }
    for (bytes, reason) in cases {
        write(&mut disk.open().unwrap(), vec![Change { space: Space::State, key: b"a".into(), value: Some(bytes) }]);
        let store = open(&disk, [1]).unwrap();
        let told = [
            store.get(Space::State, b"a").map(drop),
            store.range(Space::State, &KeyRange::under(b""), accompanist::contract::Direction::Backward, 9).map(drop),
        ];
        for told in told {
            let error = told.unwrap_err();
            assert!(matches!(error, StoreError::Corrupt { space: Space::State, .. }), "{error}");
            let text = error.to_string();
            assert!(text.contains(reason) && text.contains("nothing was changed"), "`{reason}` is not in: {text}");
        }
        assert_eq!(store.get(Space::State, b"b").unwrap(), Some(b"other".to_vec()), "others can be read");
        assert_eq!(store.get(Space::State, b"empty").unwrap(), Some(Vec::new()));
    }
    write(&mut disk.open().unwrap(), vec![Change { space: Space::State, key: b"a".into(), value: Some(good) }]);
    assert_eq!(open(&disk, [1]).unwrap().get(Space::State, b"a").unwrap(), Some(b"first".to_vec()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_whose_values_were_exchanged_stops_until_they_are_restored() {
    let (disk, books) = (MemoryDisk::default(), Arc::default());
    let start = || TestNode::start(all_of_it(open(&disk, [1]).unwrap(), LocalNetwork::new(), &books));
    let node = start().await;
    let mut waiting = Vec::new();
    for number in 0..2 {
        waiting.push(within(node.start(Run, errand(number, Way::Waits)).key(number.to_string())).await.unwrap().id());
    }
    within(books.asked_times(2)).await;
    within(node.shutdown()).await;
    let journal = |session: SessionId| {
        let id = InstanceId { session, role: RoleIndex(0) }.to_bytes();
        disk.open().unwrap().scan(Space::Journal, &id, None, 1).unwrap().remove(0)
    };
    let [first, other] = [waiting[0], waiting[1]].map(journal);
    let change =
        |key: &[u8], value: &[u8]| Change { space: Space::Journal, key: key.into(), value: Some(value.into()) };
    write(&mut disk.open().unwrap(), vec![change(&first.0, &other.1)]);

    let node = start().await;
    let stopped = node.stopped().await.remove(0);
    assert!(stopped.session == waiting[0] && stopped.reason.contains("moved from another row"), "{stopped:?}");
    let go = async |node: &TestNode, number: u32| {
        let session = within(node.start(Run, errand(number, Way::Waits)).key(number.to_string())).await.unwrap();
        within(session.initiator().signal("word", "1", &CANARY.to_owned())).await.unwrap();
        within(session.settled()).await.unwrap()
    };
    assert_eq!(go(&node, 1).await, format!("booked {CANARY}"), "the other one goes on");
    within(node.shutdown()).await;
    write(&mut disk.open().unwrap(), vec![change(&first.0, &first.1)]);
    let node = start().await;
    assert_eq!(go(&node, 0).await, format!("booked {CANARY}"));
    node.is_idle().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_rotated_under_open_sessions() {
    let (disk, books) = (MemoryDisk::default(), Arc::default());
    let start = async |store| TestNode::start(all_of_it(store, LocalNetwork::new(), &books)).await;
    let node = start(open(&disk, [1]).unwrap()).await;
    let session = within(node.start(Run, errand(7, Way::Waits)).key("k")).await.unwrap();
    within(books.asked_times(1)).await;
    disk.crash(0);
    within(node.kill()).await;

    is_refused(open(&disk, [2]), &["are under key 1"]);
    let node = start(open(&disk, [2, 1]).unwrap()).await;
    let again = within(node.start(Run, errand(7, Way::Waits)).key("k")).await.unwrap();
    within(again.initiator().signal("word", "1", &CANARY.to_owned())).await.unwrap();
    assert_eq!((again.id(), within(again.settled()).await.unwrap()), (session.id(), format!("booked {CANARY}")));
    node.is_idle().await;
    within(node.shutdown()).await;

    let mut store = open(&disk, [3, 2, 1]).unwrap();
    let rows = store.rows_by_key().unwrap();
    assert!(rows[&KeyId(1)] > 0 && rows[&KeyId(2)] > 0 && !rows.contains_key(&KeyId(3)), "{rows:?}");
    // Not before it is said, and a key that nothing is under is needed no more.
    is_refused(open(&disk, [3]), &["are under key"]);
    is_refused(open(&disk, [3, 2]), &["are under key 1"]);
    drop(store);
    store = open(&disk, [3, 2, 1]).unwrap();
    let count: u64 = rows.values().sum();
    assert_eq!(store.reencode().unwrap(), count);
    assert_eq!(store.rows_by_key().unwrap(), BTreeMap::from([(KeyId(3), count)]));
    assert_eq!(store.reencode().unwrap(), 0);
    let node = start(open(&disk, [3]).unwrap()).await;
    let known = within(node.session::<Run>(session.id())).await.unwrap();
    assert_eq!(within(known.settled()).await.unwrap(), format!("booked {CANARY}"));
    within(node.shutdown()).await;
    assert!(raw(&disk).iter().all(|(_, (_, value))| !holds(value, CANARY)));
}

#[test]
fn a_key_that_nothing_is_under_is_forgotten() {
    let disk = MemoryDisk::default();
    let mut store = open(&disk, [1]).unwrap();
    write(&mut store, vec![put(Space::State, "a", "1"), put(Space::State, "b", "2")]);
    let mut store = open(&disk, [2, 1]).unwrap();
    write(&mut store, vec![put(Space::State, "a", "3")]);
    assert_eq!(store.rows_by_key().unwrap(), BTreeMap::from([(KeyId(1), 1), (KeyId(2), 1)]));
    is_refused(open(&disk, [2]), &["1 of its values are under key 1"]);
    // Removed is as good as written anew.
    let mut store = open(&disk, [2, 1]).unwrap();
    write(&mut store, vec![Change { space: Space::State, key: b"b".into(), value: None }]);
    drop(open(&disk, [2]).unwrap());
    // It is not asked for any more, whatever it is now.
    let rings = KeyRing::new([(KeyId(2), [2; 32]), (KeyId(1), [77; 32])]).unwrap();
    let store = EncodedStore::open(disk.open().unwrap(), rings).unwrap();
    assert_eq!(store.get(Space::State, b"a").unwrap(), Some(b"3".to_vec()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_survive_crashes_on_an_encrypted_store() {
    for (number, kept) in [(0, 0), (1, 1), (2, 3), (3, 100)] {
        let (disk, books) = (MemoryDisk::default(), Arc::new(Books::default()));
        let start = || TestNode::start(all_of_it(open(&disk, [1]).unwrap(), LocalNetwork::new(), &books));
        let node = start().await;
        let ways = [Way::Through, Way::Refused, Way::Retried, Way::Aborted];
        let begin = async |node: &TestNode, way: Way| {
            within(node.start(Run, errand(number, way)).key(format!("{way:?}"))).await.unwrap()
        };
        let mut ids = Vec::new();
        for way in ways {
            ids.push(begin(&node, way).await.id());
        }
        disk.crash(kept);
        within(node.kill()).await;
        let node = start().await;
        for (way, id) in ways.into_iter().zip(&ids) {
            let session = begin(&node, way).await;
            let settled = within(session.settled()).await;
            assert_eq!((session.id(), settled.is_ok()), (*id, way == Way::Through), "{settled:?}");
        }
        node.is_idle().await;
        within(node.shutdown()).await;
        let clear = |ids: &[SessionId]| ids.iter().filter(|id| has_tombstone(&disk, **id, 0)).count();
        assert_eq!(clear(&ids), ids.len(), "keys are in clear");
    }
}
