//! Runs an example as its user does, with all log lines at `trace`, and looks for words in them: for tests that show
//! that what the example works with is not logged.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};

/// The log lines of all of an example's processes.
#[derive(Debug)]
pub struct Traced(Vec<String>);

impl Traced {
    /// Runs `program` to its end with `arguments` and `--keep`, which has to succeed.
    ///
    /// # Errors
    /// When it cannot be run or fails, with what it said; and when its logs cannot be read.
    pub fn run(program: &str, arguments: &[&str]) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir().context("a folder cannot be made")?;
        let mut command = Command::new(program);
        command.args(arguments).arg("--keep").env("RUST_LOG", "trace").env("TMPDIR", folder.path());
        let ran = command.output().context("the example cannot be started")?;
        let [said, mut log] = [ran.stdout, ran.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
        ensure!(ran.status.success(), "the example failed: {said}");
        read_logs(folder.path(), &mut log)?;
        Ok(Self(log.lines().map(str::to_owned).collect()))
    }

    /// How many lines there are whose module's path begins with `target`.
    pub fn of(&self, target: &str) -> usize {
        self.0.iter().filter(|line| line.contains(&format!(" {target}"))).count()
    }

    /// The lines with one of `words` as a text, or as its bytes are shown, but for those of modules below `others`.
    pub fn with(&self, words: &[&str], others: &[&str]) -> Vec<&str> {
        let shown = |word: &&str| {
            let bytes = word.as_bytes().iter().map(ToString::to_string).collect::<Vec<_>>();
            [(*word).to_owned(), bytes.join(", ")]
        };
        let words: Vec<_> = words.iter().flat_map(shown).collect();
        let is_of = |line: &str, target: &&str| line.contains(&format!(" {target}::"));
        let lines = self.0.iter().map(String::as_str).filter(|line| words.iter().any(|word| line.contains(word)));
        lines.filter(|line| !others.iter().any(|target| is_of(line, target))).collect()
    }
}

/// Adds what is in the files `*.log` below a folder.
fn read_logs(folder: &Path, log: &mut String) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            read_logs(&entry.path(), log)?;
        } else if entry.path().extension().is_some_and(|extension| extension == "log") {
            log.push_str(&String::from_utf8_lossy(&std::fs::read(entry.path())?));
        }
    }
    Ok(())
}
