//! Copies of stores, damaged on purpose, and what a process makes of them.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::process::Command;

use crate::inspect::{self, Contents, log_digest};
use crate::ledger::Book;
use crate::model::RoleName;

/// How long a process may read a damaged store.
const INSPECT_WAIT_MAX: Duration = Duration::from_mins(2);
/// What a disk writes at once.
const SECTOR_BYTES: u64 = 512;
/// Bits that are flipped at once.
const FLIPS_MAX: u32 = 3;

/// What is done to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Some bits are flipped.
    Flip,
    /// A sector has other bytes.
    Garbage,
    /// A sector has zeros.
    Zeros,
    /// The file ends earlier.
    Truncate,
}

/// One damage, as it is told to people.
#[derive(Debug, Clone)]
pub(crate) struct Damage {
    kind: Kind,
    file: PathBuf,
    at: u64,
    of: u64,
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} in {} at {} of {}", self.kind, self.file.display(), self.at, self.of)
    }
}

/// What became of a damaged store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// All is there.
    Recovered,
    /// All is there but what was not acknowledged yet.
    TailLost,
    /// It says that it cannot be used, and what to do.
    Refused,
    /// It lies, or does not say clearly what is wrong.
    Violation(String),
}

/// The written part of a file: stores reserve room that is zeros.
fn written_bytes(path: &Path) -> anyhow::Result<Vec<u8>> {
    let mut bytes = fs::read(path).with_context(|| format!("{} cannot be read", path.display()))?;
    let written = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    bytes.truncate(written);
    Ok(bytes)
}

/// Copies a folder; what is zeros at the end of a file takes no room.
pub(crate) fn copy_folder(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let (source, target) =
            (entry.as_ref().map(fs::DirEntry::path), entry.as_ref().map(|entry| to.join(entry.file_name())));
        let (Ok(source), Ok(target)) = (source, target) else { bail!("{} cannot be read", from.display()) };
        if source.is_dir() {
            copy_folder(&source, &target)?;
        } else {
            let mut file = File::create(&target)?;
            file.write_all(&written_bytes(&source)?)?;
            file.set_len(fs::metadata(&source)?.len())?;
        }
    }
    Ok(())
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            files(&path, found)?;
        } else if fs::metadata(&path)?.len() > 0 {
            found.push(path);
        }
    }
    Ok(())
}

/// Damages one file of the store in `folder`.
fn inflict(folder: &Path, random: &mut fastrand::Rng) -> anyhow::Result<Damage> {
    let mut all = Vec::new();
    files(folder, &mut all)?;
    all.sort();
    let (journals, others): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|path| path.extension().is_some_and(|extension| extension == "jnl"));
    // Half of them in the journals: there are few, and all that is new is in them.
    let candidates = if random.bool() && !journals.is_empty() { journals } else { others };
    let Some(path) = random.choice(&candidates) else { bail!("{} has no files", folder.display()) };
    let kind = random.choice([Kind::Flip, Kind::Garbage, Kind::Zeros, Kind::Truncate]).unwrap_or(Kind::Flip);
    let bytes = written_bytes(path)?;
    let of = bytes.len() as u64;
    // Half of them near the end: what was written last.
    let near_end = of.saturating_sub(4 * SECTOR_BYTES);
    let range = if random.bool() { near_end..of.max(near_end + 1) } else { 0..of.max(1) };
    let at = random.u64(range);
    let mut file = OpenOptions::new().read(true).write(true).open(path)?;
    match kind {
        Kind::Flip => {
            for flip in 0..random.u32(1..=FLIPS_MAX) {
                let at = if flip == 0 { at } else { random.u64(0..of.max(1)) };
                let mut byte = [0];
                file.seek(SeekFrom::Start(at))?;
                if file.read(&mut byte)? == 0 {
                    continue;
                }
                file.seek(SeekFrom::Start(at))?;
                file.write_all(&[byte[0] ^ (1 << random.u32(0..8))])?;
            }
        }
        Kind::Garbage | Kind::Zeros => {
            let from = at / SECTOR_BYTES * SECTOR_BYTES;
            let length = usize::try_from(SECTOR_BYTES.min(of.saturating_sub(from)))?;
            let sector: Vec<u8> = (0..length).map(|_| if kind == Kind::Zeros { 0 } else { random.u8(..) }).collect();
            file.seek(SeekFrom::Start(from))?;
            file.write_all(&sector)?;
        }
        Kind::Truncate => file.set_len(at)?,
    }
    Ok(Damage { kind, file: path.strip_prefix(folder).unwrap_or(path).into(), at, of })
}

/// A copy of a store as it was, and what it holds.
pub(crate) struct Patient {
    role: RoleName,
    original: PathBuf,
    contents: Contents,
    book: Book,
    /// The last batch that was synced.
    synced: u64,
}

impl Patient {
    /// Reads a copy of the copy in `original`, which stays as it is.
    pub(crate) fn new(role: RoleName, original: PathBuf) -> anyhow::Result<Self> {
        let healthy = original.with_extension("healthy");
        copy_folder(&original, &healthy)?;
        let (contents, book) = inspect::read(role, &healthy).context("an undamaged copy cannot be read")?;
        fs::remove_dir_all(&healthy)?;
        let synced = synced(&original)?;
        Ok(Self { role, original, contents, book, synced })
    }

    /// Damages a copy and looks what a process makes of it.
    pub(crate) async fn damage(&self, random: &mut fastrand::Rng) -> anyhow::Result<(Damage, Verdict)> {
        let copy = self.original.with_extension("damaged");
        copy_folder(&self.original, &copy)?;
        let damage = inflict(&copy, random)?;
        let mut command = Command::new(std::env::current_exe().context("this executable has no path")?);
        command.args(["inspect", self.role.name(), "--store"]).arg(&copy);
        command.stdin(Stdio::null()).kill_on_drop(true);
        let verdict = match tokio::time::timeout(INSPECT_WAIT_MAX, command.output()).await {
            Ok(output) => self.judge(&copy, &output.context("a process cannot be started")?),
            Err(_) => Verdict::Violation(format!("it is not read in {INSPECT_WAIT_MAX:?}")),
        };
        if matches!(verdict, Verdict::Violation(_)) {
            let kept = (0..).map(|number| self.original.with_extension(format!("violation-{number}")));
            let kept = kept.into_iter().find(|kept| !kept.exists()).context("there is no free name")?;
            fs::rename(&copy, kept)?;
        } else {
            fs::remove_dir_all(&copy)?;
        }
        Ok((damage, verdict))
    }

    fn judge(&self, copy: &Path, output: &Output) -> Verdict {
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.trim();
        if output.status.success() {
            return match serde_json::from_slice::<Contents>(&output.stdout) {
                Ok(contents) => self.compare(&contents),
                Err(error) => Verdict::Violation(format!("it says nothing that can be read: {error}")),
            };
        }
        // Whatever libraries said before: the last line is what the store says to its operator.
        let last = said.lines().next_back().unwrap_or_default();
        let names_folder = last.contains(&copy.display().to_string());
        let is_clear = names_folder && last.contains("is damaged") && last.contains("check the disk");
        if output.status.code() == Some(1) && is_clear {
            Verdict::Refused
        } else {
            Verdict::Violation(format!("it ended with {} and does not say clearly why: {said}", output.status))
        }
    }

    fn compare(&self, found: &Contents) -> Verdict {
        if *found == self.contents {
            return Verdict::Recovered;
        }
        let length = usize::try_from(found.log_length).unwrap_or(usize::MAX);
        let prefix = self.book.log.get(..length).is_some_and(|prefix| log_digest(prefix) == found.log_digest);
        let lost = self.contents.log_length.saturating_sub(found.log_length);
        let what = format!("{} of {} rows, {lost} entries of the ledger are lost", found.rows, self.contents.rows);
        if !found.violations.is_empty() {
            Verdict::Violation(format!("{what}; the ledger is wrong: {}", found.violations.join("; ")))
        } else if prefix && self.is_unacknowledged(found) {
            Verdict::TailLost
        } else {
            Verdict::Violation(format!("{what}, and nobody is told"))
        }
    }

    /// Whether what is missing of `found` may be missing: it was not synced yet, and so not acknowledged to anybody.
    fn is_unacknowledged(&self, found: &Contents) -> bool {
        self.synced <= found.commits && found.commits < self.contents.commits
    }
}

/// The last batch that is known to be synced: what the store has written beside its database, twice.
fn synced(folder: &Path) -> anyhow::Result<u64> {
    let mark = fs::read(folder.join("synced")).context("a store has no mark of what is synced")?;
    let half =
        mark.get(..8).and_then(|half| half.try_into().ok()).context("the mark of what is synced is too short")?;
    Ok(u64::from_le_bytes(half))
}
