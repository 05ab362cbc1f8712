//! Processes of this program: started, killed with SIGKILL, started again.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// How long a process may take until it is ready.
const READY_WAIT_MAX: Duration = Duration::from_mins(1);
/// How long a process may take to stop by itself.
const STOP_WAIT_MAX: Duration = Duration::from_secs(10);
/// How often it is looked whether a process has ended by itself.
const ENDED_POLL_PERIOD: Duration = Duration::from_millis(100);
/// How much of a process's log is shown when it fails.
const LOG_LINES_SHOWN: usize = 12;

/// The processes, by name. Those that still run when it is dropped are killed.
#[derive(Debug)]
pub struct Fleet {
    folder: PathBuf,
    children: BTreeMap<String, Child>,
}

impl Fleet {
    /// With the folder of all logs and data. Starts nothing.
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.into(), children: BTreeMap::new() }
    }

    /// The data folder of a process.
    pub fn data(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Starts this program again as `name`, with the arguments that `arguments` adds, and waits until it has printed a
    /// line: then it is ready. All lines after that one are given to `heard`. What it writes to its standard error goes
    /// to
    /// `name.log`.
    ///
    /// # Errors
    /// When it does not start, or is not ready within a minute; with the end of its log.
    pub async fn start(
        &mut self,
        name: &str,
        arguments: impl FnOnce(&mut Command),
        mut heard: impl FnMut(&str) + Send + 'static,
    ) -> anyhow::Result<()> {
        let log = File::options().create(true).append(true).open(log(&self.folder, name));
        let log = log.context("a log cannot be written")?;
        let mut command = Command::new(std::env::current_exe().context("this executable has no path")?);
        arguments(&mut command);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log).kill_on_drop(true);
        let mut child = command.spawn().context("a process cannot be started")?;
        let stdout = child.stdout.take().context("a process has no standard output")?;
        self.children.insert(name.into(), child);
        let mut lines = BufReader::new(stdout).lines();
        match tokio::time::timeout(READY_WAIT_MAX, lines.next_line()).await {
            Ok(Ok(Some(_))) => {}
            Ok(_) => bail!("{name} did not start{}", log_end(&self.folder, name)),
            Err(_) => bail!("{name} was not ready in {READY_WAIT_MAX:?}{}", log_end(&self.folder, name)),
        }
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                heard(&line);
            }
        });
        Ok(())
    }

    /// Kills a process with SIGKILL.
    ///
    /// # Errors
    /// When it does not run.
    pub async fn kill(&mut self, name: &str) -> anyhow::Result<()> {
        let mut child = self.children.remove(name).with_context(|| format!("{name} does not run"))?;
        child.kill().await.with_context(|| format!("{name} cannot be killed"))
    }

    /// Which process has ended by itself, and why.
    pub fn ended(&mut self) -> Option<String> {
        let mut children = self.children.iter_mut();
        let (name, status) = children.find_map(|(name, child)| Some((name, child.try_wait().ok()??)))?;
        Some(format!("the process of {name} ended by itself ({status}){}", log_end(&self.folder, name)))
    }

    /// Waits until a process ends by itself, and says which and why.
    pub async fn until_one_ends(&mut self) -> String {
        loop {
            if let Some(ended) = self.ended() {
                return ended;
            }
            tokio::time::sleep(ENDED_POLL_PERIOD).await;
        }
    }

    /// Lets all processes stop, by the end of their standard input, and kills those that do not.
    pub async fn stop(&mut self) {
        for child in self.children.values_mut() {
            drop(child.stdin.take());
        }
        for (name, mut child) in std::mem::take(&mut self.children) {
            if tokio::time::timeout(STOP_WAIT_MAX, child.wait()).await.is_err() {
                tracing::warn!("{name} does not stop; it is killed");
                let _ = child.kill().await; // It has ended by now, or nothing can be done.
            }
        }
    }
}

fn log(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.log"))
}

fn log_end(folder: &Path, name: &str) -> String {
    let log = std::fs::read_to_string(log(folder, name)).unwrap_or_default();
    let lines: Vec<_> = log.lines().collect();
    let shown = lines.get(lines.len().saturating_sub(LOG_LINES_SHOWN)..).unwrap_or_default();
    if shown.is_empty() { String::new() } else { format!("; its log ends with:\n{}", shown.join("\n")) }
}
