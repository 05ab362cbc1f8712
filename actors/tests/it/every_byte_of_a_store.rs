//! Every byte of every file of a store is damaged, one after the other, as is every file as a whole: the store is
//! recovered whole or refused, and nothing else. A store that is refused stays as it is.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use accompanist::contract::{Batch, Change, Entry, Space, Store, StoreError};
use accompanist::store::{FjallSizes, FjallStore};
use tempfile::TempDir;

/// The files of a store by their paths in it: the bytes without the zeros at the end, and the length with them.
type Files = BTreeMap<PathBuf, (Vec<u8>, u64)>;

/// What can be read of a store.
#[derive(Debug, Clone, PartialEq)]
struct Contents {
    commits: u64,
    rows: Vec<(Space, Vec<Entry>)>,
}

/// A folder in memory where there is one, since each opening syncs.
fn folder() -> TempDir {
    let shared = Path::new("/dev/shm");
    if shared.is_dir() { tempfile::tempdir_in(shared).unwrap() } else { tempfile::tempdir().unwrap() }
}

fn sizes() -> FjallSizes {
    FjallSizes { memtable_bytes: 1_000, journal_bytes_ahead: 0, ..FjallSizes::default() }
}

fn change(space: Space, key: u32, value: Option<Vec<u8>>) -> Change {
    Change { space, key: key.to_be_bytes().into(), value }
}

fn write(store: &mut FjallStore, batch: Batch) {
    store.apply(batch).unwrap();
    store.sync().unwrap();
    store.make_ready();
}

/// Writes to several keyspaces, and removes what was written before.
fn write_some(store: &mut FjallStore, number: u32) {
    let value = |length: u32| Some(vec![u8::try_from(number % 251).unwrap(); usize::try_from(length).unwrap()]);
    let mut batch = vec![change(Space::State, number, value(60 + number % 7)), change(Space::Journal, 7, value(10))];
    if number % 2 == 1 {
        batch.push(change(Space::State, number - 1, None));
        batch.push(change(Space::Open, number, value(5)));
    }
    write(store, batch);
}

fn read(store: &FjallStore) -> Result<Contents, StoreError> {
    let rows = Space::ALL.into_iter().map(|space| Ok((space, store.scan(space, b"", None, 100_000)?)));
    Ok(Contents { commits: store.commits(), rows: rows.collect::<Result<_, StoreError>>()? })
}

/// The names and lengths of the files of a store.
fn lengths(folder: &Path) -> BTreeMap<PathBuf, u64> {
    running(folder).into_iter().map(|path| (path.clone(), fs::metadata(path).unwrap().len())).collect()
}

fn put(path: &Path, bytes: &[u8], length: u64) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
    if length > bytes.len() as u64 {
        fs::File::options().write(true).open(path).unwrap().set_len(length).unwrap();
    }
}

/// A store whose files are damaged.
struct Patient {
    files: Files,
    contents: Contents,
    sizes: FjallSizes,
    folder: TempDir,
    /// Names and bytes of the files whose each byte was damaged.
    damaged: BTreeSet<(OsString, Vec<u8>)>,
    whole: u32,
    refused: u32,
}

impl Patient {
    /// Takes the store in `original`, which is closed.
    fn new(original: &Path, sizes: FjallSizes) -> Self {
        let files = files_of_running(original);
        let contents = read(&FjallStore::open_with(original, &sizes).unwrap()).unwrap();
        let mut patient =
            Self { files, contents, sizes, folder: folder(), damaged: BTreeSet::new(), whole: 0, refused: 0 };
        patient.heal();
        // Undamaged, it is whole.
        patient.judge("nothing", |_| {});
        assert_eq!((patient.whole, patient.refused), (1, 0));
        patient
    }

    fn heal(&mut self) {
        self.folder = folder();
        for (path, (bytes, length)) in &self.files {
            put(&self.folder.path().join(path), bytes, *length);
        }
    }

    /// Damages the store, looks what it makes of it, and heals it.
    fn judge(&mut self, what: &str, damage: impl FnOnce(&Path)) {
        damage(self.folder.path());
        // Now and then, since it takes as long as the opening.
        let is_compared = (self.whole + self.refused).is_multiple_of(8);
        let before = is_compared.then(|| lengths(self.folder.path()));
        let opened = catch_unwind(AssertUnwindSafe(|| {
            let mut store = FjallStore::open_with(self.folder.path(), &self.sizes)?;
            let contents = read(&store)?;
            // And it goes on.
            write(&mut store, vec![change(Space::State, u32::MAX, Some(vec![1]))]);
            drop(store);
            let again = read(&FjallStore::open_with(self.folder.path(), &self.sizes)?)?;
            Ok((contents, again.commits))
        }));
        match opened {
            Ok(Ok((contents, commits_after))) => {
                assert!(contents == self.contents, "{what}: not what was written, and nobody is told");
                assert_eq!(commits_after, contents.commits + 1, "{what}");
                self.whole += 1;
                self.heal();
            }
            Ok(Err(StoreError::Damaged { .. })) => {
                self.refused += 1;
                if self.sizes.verify_bytes_max == 0 {
                    self.heal(); // It was opened, and refused when it was read.
                } else if let Some(before) = before {
                    assert!(lengths(self.folder.path()) == before, "{what}: refused, and changed");
                }
            }
            Ok(Err(error)) => panic!("{what}: {error}"),
            Err(panic) => panic!("{what}: {:?}", panic.downcast_ref::<String>()),
        }
    }

    /// As [`Patient::judge`], for one file, which is put back.
    fn judge_file(&mut self, path: &Path, what: &str, bytes: &[u8], length: u64) {
        let target = |folder: &Path| folder.join(path);
        let what = format!("{}: {what}", path.display());
        self.judge(&what, |folder| put(&target(folder), bytes, length));
        let (bytes, length) = self.files.get(path).cloned().unwrap();
        put(&target(self.folder.path()), &bytes, length);
    }

    fn flips(&mut self, path: &Path, step: usize) {
        let (whole, length) = self.files[path].clone();
        for at in (0..whole.len()).step_by(step) {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << (at % 8);
            self.judge_file(path, &format!("flip at {at} of {}", whole.len()), &bytes, length);
        }
        // In room that is reserved.
        let hole = [0, 1, 100, 4_096].map(|behind| whole.len() + behind);
        for at in hole.into_iter().filter(|at| (*at as u64) < length) {
            let mut bytes = whole.clone();
            bytes.resize(at, 0);
            bytes.push(1 << (at % 8));
            self.judge_file(path, &format!("flip in its room at {at}"), &bytes, length);
        }
    }

    fn cuts(&mut self, path: &Path, step: usize) {
        let (whole, length) = self.files[path].clone();
        for to in (0..whole.len()).step_by(step) {
            self.judge_file(path, &format!("cut at {to} of {}", whole.len()), &whole[..to], to as u64);
            if length > whole.len() as u64 {
                self.judge_file(path, &format!("zeros from {to} of {}", whole.len()), &whole[..to], length);
            }
        }
        if length > whole.len() as u64 {
            self.judge_file(path, "its room cut off", &whole, whole.len() as u64);
        }
    }

    fn sectors_of_zeros(&mut self, path: &Path) {
        let (whole, length) = self.files[path].clone();
        for sector in 0..whole.len().div_ceil(512) {
            let mut bytes = whole.clone();
            bytes.iter_mut().skip(sector * 512).take(512).for_each(|byte| *byte = 0);
            self.judge_file(path, &format!("zeros in sector {sector}"), &bytes, length);
        }
    }

    fn missing(&mut self, path: &Path) {
        self.judge(&format!("{} is missing", path.display()), |folder| fs::remove_file(folder.join(path)).unwrap());
        let (bytes, length) = self.files[path].clone();
        put(&self.folder.path().join(path), &bytes, length);
    }

    /// All that can befall one file; of large ones, not each byte.
    fn damage(&mut self, path: &Path) {
        self.missing(path);
        // Keyspaces without rows have the same files.
        let alike = (path.file_name().unwrap().to_owned(), self.files[path].0.clone());
        if !self.damaged.insert(alike) {
            return;
        }
        let content = self.files[path].0.len();
        let step = content.div_ceil(1_000).max(1);
        self.flips(path, step);
        self.cuts(path, 5 * step);
        self.sectors_of_zeros(path);
    }

    fn damage_all(&mut self) {
        for path in self.files.keys().cloned().collect::<Vec<_>>() {
            self.damage(&path);
        }
    }

    /// As [`Patient::damage_all`], but for what is as in a fresh store: the list of keyspaces, and those without
    /// tables.
    fn damage_all_that_grew(&mut self) {
        let is_fresh = |path: &PathBuf| {
            let keyspace = path.iter().take(2).collect::<PathBuf>();
            let has_table = self.files.keys().any(|path| path.starts_with(keyspace.join("tables")));
            path.starts_with("keyspaces") && (path.starts_with("keyspaces/0") || !has_table)
        };
        for path in self.files.keys().filter(|path| !is_fresh(path)).cloned().collect::<Vec<_>>() {
            self.damage(&path);
        }
    }

    /// Puts each file back that was `before`, one at a time, and each keyspace.
    fn older_copies(&mut self, before: &Files) {
        for (path, (bytes, length)) in before {
            let what = format!("{}: as it was before", path.display());
            self.judge(&what, |folder| put(&folder.join(path), bytes, *length));
            self.heal();
        }
        for keyspace in 0..=9 {
            let keyspace = Path::new("keyspaces").join(keyspace.to_string());
            self.judge(&format!("{} as it was before", keyspace.display()), |folder| {
                fs::remove_dir_all(folder.join(&keyspace)).unwrap();
                for (path, (bytes, length)) in before.iter().filter(|(path, _)| path.starts_with(&keyspace)) {
                    put(&folder.join(path), bytes, *length);
                }
            });
            self.heal();
            // The newest version beside those before it: what names it goes back by one.
            for name in ["current", "tables"] {
                self.judge(&format!("{} with {name} as it was", keyspace.display()), |folder| {
                    let of = |path: &Path| {
                        path.starts_with(keyspace.join(name)) || path.starts_with(&keyspace) && version(path)
                    };
                    before.iter().filter(|(path, _)| of(path)).for_each(|(path, (bytes, length))| {
                        put(&folder.join(path), bytes, *length);
                    });
                });
                self.heal();
            }
        }
    }
}

fn version(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('v'))
}

/// The tables there are of our keyspaces.
fn tables(folder: &Path) -> BTreeSet<PathBuf> {
    let is_table = |path: &PathBuf| path.parent().is_some_and(|parent| parent.ends_with("tables"));
    let names = folder.join("keyspaces/0");
    running(folder).into_iter().filter(is_table).filter(|path| !path.starts_with(&names)).collect()
}

/// Writes until the store is as it should be, and gives what it consisted of some batches before.
fn store_until(mut is_so: impl FnMut(&Path, u32) -> bool) -> (TempDir, Files) {
    let folder = folder();
    let mut store = FjallStore::open_with(folder.path(), &sizes()).unwrap();
    let mut before = Files::new();
    for number in 0.. {
        if is_so(folder.path(), number) {
            break;
        }
        assert!(number < 100_000, "it does not become so");
        write_some(&mut store, number);
        if number % 10 == 3 {
            before = files_of_running(folder.path());
        }
    }
    drop(store);
    (folder, before)
}

/// The files of a store by their paths in it, without the zeros at their ends. What vanishes meanwhile is left out.
fn files_of_running(folder: &Path) -> Files {
    let file = |path: PathBuf| {
        let mut bytes = fs::read(&path).ok()?;
        let length = bytes.len() as u64;
        bytes.truncate(bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1));
        Some((path.strip_prefix(folder).unwrap().to_owned(), (bytes, length)))
    };
    running(folder).into_iter().filter_map(file).collect()
}

/// The paths of all files of a store that runs.
fn running(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let below = |entry: fs::DirEntry| {
        let path = entry.path();
        if path.is_dir() { running(&path) } else { vec![path] }
    };
    // Files that are about to be renamed belong to no store.
    let lasts = |path: &PathBuf| !path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(".tmp"));
    entries.flat_map(below).filter(lasts).collect()
}

fn report(shape: &str, patient: &Patient) {
    println!("{shape}: {} files, whole {}, refused {}", patient.files.len(), patient.whole, patient.refused);
}

#[test]
fn a_fresh_store_is_recovered_whole_or_refused() {
    let (folder, _) = store_until(|_, _| true);
    let mut patient = Patient::new(folder.path(), sizes());
    patient.damage_all();
    report("fresh", &patient);
}

#[test]
fn a_store_with_rows_in_its_journal_is_recovered_whole_or_refused() {
    let (folder, before) = store_until(|_, number| number == 6);
    let mut patient = Patient::new(folder.path(), sizes());
    // The trees are those of a fresh store.
    for path in ["0.jnl", "synced", "version", "lock"] {
        patient.damage(Path::new(path));
    }
    patient.older_copies(&before);
    report("journal", &patient);
}

#[test]
fn a_store_with_tables_is_recovered_whole_or_refused() {
    let (folder, before) = store_until(|folder, number| number > 13 && tables(folder).len() > 1);
    let mut patient = Patient::new(folder.path(), sizes());
    patient.damage_all_that_grew();
    patient.older_copies(&before);
    report("tables", &patient);
}

#[test]
fn a_store_with_compacted_tables_is_recovered_whole_or_refused() {
    let mut seen = BTreeSet::new();
    let (folder, before) = store_until(|folder, number| {
        let now = tables(folder);
        let is_compacted = seen.iter().any(|table| !now.contains(table));
        seen.extend(now);
        is_compacted && number % 10 == 9
    });
    let mut patient = Patient::new(folder.path(), sizes());
    patient.damage_all_that_grew();
    patient.older_copies(&before);
    report("compacted", &patient);
}

#[test]
fn tables_that_are_not_verified_at_opening_are_refused_when_they_are_read() {
    let (folder, before) = store_until(|folder, number| number > 13 && tables(folder).len() > 1);
    let sizes = FjallSizes { verify_bytes_max: 0, ..sizes() };
    let mut patient = Patient::new(folder.path(), sizes);
    let is_table = |path: &&PathBuf| path.parent().is_some_and(|parent| parent.ends_with("tables"));
    let is_list = |path: &&PathBuf| path.starts_with("keyspaces/0");
    for path in patient.files.keys().filter(is_table).filter(|path| !is_list(path)).cloned().collect::<Vec<_>>() {
        patient.flips(&path, 3);
        patient.missing(&path);
    }
    patient.older_copies(&before);
    report("not verified", &patient);
}

/// A store whose first journal is gone, since all in it is in tables, and what it consisted of before that.
fn store_without_its_first_journal() -> (TempDir, Files) {
    let folder = folder();
    let sizes = FjallSizes { memtable_bytes: 4 << 20, ..sizes() };
    let mut store = FjallStore::open_with(folder.path(), &sizes).unwrap();
    let mut random = fastrand::Rng::with_seed(1);
    let mut before = Files::new();
    let first = folder.path().join("0.jnl");
    for number in 0..20_000 {
        if !first.exists() {
            break;
        }
        write_some(&mut store, number);
        // One row again and again, of bytes that no compression makes small.
        let bytes = (0..64 << 10).map(|_| random.u8(..)).collect();
        write(&mut store, vec![change(Space::Keys, 1, Some(bytes))]);
        if folder.path().join("1.jnl").exists() && before.is_empty() {
            before = files_of_running(folder.path());
        }
    }
    assert!(!first.exists(), "the first journal stays");
    (0..20).for_each(|number| write_some(&mut store, number));
    write(&mut store, vec![change(Space::Keys, 1, None)]);
    drop(store);
    (folder, before)
}

#[test]
fn a_store_whose_tables_alone_hold_what_was_written_is_recovered_whole_or_refused() {
    let (folder, before) = store_without_its_first_journal();
    let mut patient = Patient::new(folder.path(), sizes());
    let paths = patient.files.keys().cloned().collect::<Vec<_>>();
    for path in paths {
        let content = patient.files[&path].0.len();
        // Each opening reads journals of 64 MiB; the bytes of such files are gone through in the smaller shapes.
        patient.flips(&path, content.div_ceil(4).max(1));
        patient.missing(&path);
    }
    patient.older_copies(&before);
    report("without its first journal", &patient);
}
