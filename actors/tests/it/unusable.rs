//! Each reason why a store cannot be opened is an error of its own, with its own advice; none of them is called damage,
//! and nothing is changed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use accompanist::contract::StoreError;
use accompanist::prelude::*;
use tempfile::TempDir;

/// What the process that opens a store for a test finds its path in.
const PATH: &str = "ACCOMPANIST_TEST_STORE";
const TOLD: &str = "told: ";

fn refused(path: &Path) -> StoreError {
    let error = FjallStore::open(path).expect_err("it was opened");
    let text = error.to_string();
    assert!(!text.contains("damaged") && !text.contains("backup"), "{text}");
    assert!(path.as_os_str().is_empty() || text.contains(&format!("`{}`", path.display())), "{text}");
    error
}

/// All that is below a folder: bytes and rights.
fn all(folder: &Path) -> BTreeMap<PathBuf, (Vec<u8>, u32)> {
    use std::os::unix::fs::PermissionsExt;

    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let (path, mode) = (entry.path(), entry.metadata().unwrap().permissions().mode());
        if path.is_dir() {
            found.extend(all(&path));
            found.insert(path, (Vec::new(), mode));
        } else {
            found.insert(path.clone(), (fs::read(&path).unwrap(), mode));
        }
    }
    found
}

/// Opens a store in a process of its own, which `command` begins; the program and its arguments are added.
fn opened_by(mut command: Command, path: &Path) -> String {
    let own = std::env::current_exe().unwrap();
    let args = ["unusable::in_a_process_of_its_own", "--exact", "--ignored", "--nocapture"];
    let Output { stdout, stderr, .. } = command.arg(own).args(args).env(PATH, path).output().unwrap();
    let text = [stdout, stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    let told = text.lines().find_map(|line| line.split_once(TOLD).map(|(_, told)| told.to_owned()));
    told.unwrap_or_else(|| panic!("nothing was told: {text}"))
}

#[test]
#[ignore = "run by the other tests, with other rights or another file system"]
fn in_a_process_of_its_own() {
    let Some(path) = std::env::var_os(PATH) else { return };
    match FjallStore::open(path) {
        Ok(_) => println!("\n{TOLD}opened"),
        Err(error) => println!("\n{TOLD}{error}"),
    }
}

#[test]
fn an_empty_path_is_no_folder_of_this_process() {
    let error = refused(Path::new(""));
    assert!(matches!(error, StoreError::NoPath) && error.to_string().contains("variable"), "{error}");
    assert!(!Path::new("version").exists() && !Path::new("synced").exists(), "a store was made here");
}

#[test]
fn a_file_is_no_folder() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "no folder").unwrap();
    for path in [file.clone(), file.join("below"), file.join("far").join("below")] {
        let error = refused(&path);
        assert!(matches!(error, StoreError::NotAFolder { .. }), "{error}");
    }
    assert_eq!(fs::read_to_string(file).unwrap(), "no folder");
}

#[cfg(target_os = "linux")]
#[test]
fn a_folder_that_cannot_be_made_is_reported() {
    for path in ["/proc/accompanist", "/proc/accompanist/store"] {
        let error = refused(Path::new(path));
        assert!(matches!(error, StoreError::NoFolder { .. }), "{error}");
        assert!(error.to_string().contains("mount the volume"), "{error}");
    }
    // Folders above it that are missing are made.
    let above = tempfile::tempdir().unwrap();
    FjallStore::open(above.path().join("a").join("b")).unwrap();
}

#[cfg(target_os = "linux")]
#[test]
fn a_folder_of_another_user_is_reported() {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::CommandExt;

    let error = refused(Path::new("/sys/accompanist"));
    assert!(matches!(error, StoreError::Denied { .. }), "{error}");

    let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    let above = tempfile::tempdir().unwrap();
    mode(above.path(), 0o755);
    let own = above.path().join("program");
    let exe = std::env::current_exe().unwrap();
    fs::hard_link(&exe, &own).or_else(|_| fs::copy(&exe, &own).map(drop)).unwrap();
    // Root may do everything: another user opens it then.
    let is_root =
        fs::write("/proc/self/oom_score_adj", "0").is_ok() && fs::metadata(above.path()).unwrap().uid_is_root();
    let opened = |path: &Path| {
        let mut command = Command::new(&own);
        if is_root {
            command.uid(65_534).gid(65_534);
        }
        let args = ["unusable::in_a_process_of_its_own", "--exact", "--ignored", "--nocapture"];
        let output = command.args(args).env(PATH, path).current_dir("/").output().unwrap();
        let text = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
        text.lines().find_map(|line| line.split_once(TOLD).map(|(_, told)| told.to_owned())).unwrap_or(text)
    };
    let told = |path: &Path| {
        let told = opened(path);
        assert!(told.contains("may not be read and written by this user") && told.contains("`chown -R`"), "{told}");
        assert!(told.contains(path.to_str().unwrap()), "{told}");
    };
    // Closed as a whole.
    let closed = above.path().join("closed");
    FjallStore::open(&closed).unwrap();
    mode(&closed, if is_root { 0o700 } else { 0 });
    told(&closed);
    // Open, and its files are another's.
    mode(&closed, 0o755);
    for name in ["version", "lock", "synced", "0.jnl"] {
        let path = closed.join(name);
        mode(&path, if is_root { 0o600 } else { 0 });
        told(&closed);
        mode(&path, 0o666);
    }
    // Nothing may be made here.
    let shut = above.path().join("shut");
    fs::create_dir(&shut).unwrap();
    mode(&shut, 0o555);
    told(&shut.join("store"));
    told(&shut);
}

#[cfg(target_os = "linux")]
trait Owned {
    fn uid_is_root(&self) -> bool;
}
#[cfg(target_os = "linux")]
impl Owned for fs::Metadata {
    fn uid_is_root(&self) -> bool {
        std::os::unix::fs::MetadataExt::uid(self) == 0
    }
}

/// Has `script` make a file system at `$0` in a namespace of its own, and opens the store there; nothing, and a word
/// about it, where that is not allowed.
#[cfg(target_os = "linux")]
fn opened_on(script: &str, folder: &TempDir, path: &Path) -> Option<String> {
    let is_allowed = Command::new("unshare").args(["-rm", "true"]).output().is_ok_and(|ran| ran.status.success());
    if !is_allowed {
        println!("no namespaces here: not tested with a file system of its own");
        return None;
    }
    let mut command = Command::new("unshare");
    command.args(["-rm", "sh", "-c", &format!("{script} && exec \"$@\"")]).arg(folder.path());
    Some(opened_by(command, path))
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_no_damage() {
    let mut full = 0;
    for kib in [4, 8, 16, 32, 64, 128, 256, 512] {
        let folder = tempfile::tempdir().unwrap();
        let script = format!("mount -t tmpfs -o size={kib}k tmpfs \"$0\"");
        let Some(told) = opened_on(&script, &folder, &folder.path().join("store")) else { return };
        if told == "opened" {
            continue;
        }
        assert!(told.contains("has no room on its disk") && told.contains("free some"), "{kib} KiB: {told}");
        full += 1;
    }
    assert!(full > 0);
}

#[cfg(target_os = "linux")]
#[test]
fn a_read_only_file_system_is_reported() {
    for is_made in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        if is_made {
            FjallStore::open(&path).unwrap();
        }
        let script = "mount --bind \"$0\" \"$0\" && mount -o remount,bind,ro \"$0\"";
        let Some(told) = opened_on(script, &folder, &path) else { return };
        assert!(told.contains("is read-only") && told.contains("mount it for writing"), "{told}");
    }
}

#[test]
fn a_folder_of_another_program_is_left_as_it_is() {
    let foreign = |fill: &dyn Fn(&Path)| {
        let folder = tempfile::tempdir().unwrap();
        fill(folder.path());
        let before = all(folder.path());
        let error = refused(folder.path());
        assert!(matches!(error, StoreError::Foreign { .. }), "{error}");
        assert!(error.to_string().contains("a folder of its own"), "{error}");
        assert!(all(folder.path()) == before, "{error}, and it was changed");
    };
    // A home, whose rights are not ours to change.
    foreign(&|folder| {
        fs::create_dir(folder.join("letters")).unwrap();
        fs::write(folder.join("letters").join("a.txt"), "dear").unwrap();
        fs::write(folder.join(".profile"), "").unwrap();
    });
    foreign(&|folder| fs::write(folder.join("service.sqlite"), "SQLite format 3").unwrap());
    foreign(&|folder| fs::write(folder.join("version"), "1.2.3").unwrap());
    // The same database, with another program's rows.
    foreign(&|folder| {
        let database = fjall::Database::builder(folder).open().unwrap();
        let rows = database.keyspace("rows", fjall::KeyspaceCreateOptions::default).unwrap();
        rows.insert("a", "b").unwrap();
        database.persist(fjall::PersistMode::SyncAll).unwrap();
    });
}

#[test]
fn entries_made_by_the_file_system_are_ignored() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("lost+found")).unwrap();
    fs::write(folder.path().join(".keep"), "").unwrap();
    FjallStore::open(folder.path()).unwrap();
    FjallStore::open(folder.path()).unwrap();
}

#[test]
fn a_store_of_a_later_database_asks_for_a_later_release() {
    for number in [4, 5, 6] {
        let folder = tempfile::tempdir().unwrap();
        FjallStore::open(folder.path()).unwrap();
        let version = folder.path().join("version");
        fs::write(&version, [b'F', b'J', b'L', number]).unwrap();
        let error = FjallStore::open(folder.path()).unwrap_err();
        assert!(
            matches!(error, StoreError::NewerFormat { found, supported: 3 } if found == u32::from(number)),
            "{error}"
        );
        fs::write(&version, b"FJL\x03").unwrap();
        FjallStore::open(folder.path()).unwrap();
    }
}
