//! The processes: started, killed with SIGKILL, started again; and how far each says it is.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use super::SENSORS;
use super::report::Line;

/// How long a process may take until it is ready.
const READY_WAIT_MAX: Duration = Duration::from_mins(1);
/// How long a process may take to stop by itself.
const STOP_WAIT_MAX: Duration = Duration::from_secs(10);
/// Ports are taken below those that the system gives to outgoing connections: while a process is down, its port is
/// free, and must not be caught by a peer that tries to reconnect.
const PORTS: std::ops::Range<u16> = 20_000..32_000;
/// How many ports are tried for each one that is needed.
const PORT_TRIES_MAX: u32 = 200;
/// How much of a process's log is shown when it fails.
const LOG_LINES_SHOWN: usize = 12;

/// One of the processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Who {
    Site,
    Gateway,
    /// By its place among [`SENSORS`].
    Sensor(usize),
}

impl Who {
    fn all() -> impl Iterator<Item = Self> {
        [Self::Site, Self::Gateway].into_iter().chain((0..SENSORS.len()).map(Self::Sensor))
    }

    fn name(self) -> &'static str {
        match self {
            Self::Site => "site",
            Self::Gateway => "gateway",
            Self::Sensor(place) => SENSORS.get(place).copied().unwrap_or("sensor"),
        }
    }
}

/// The processes, and what each has said last of how far it is.
pub(super) struct Fleet {
    data: PathBuf,
    readings: u32,
    pause_ms: u64,
    addresses: BTreeMap<Who, String>,
    children: BTreeMap<Who, Child>,
    counts: BTreeMap<Who, Arc<AtomicU32>>,
}

impl Fleet {
    /// Chooses addresses; starts nothing.
    pub(super) fn new(data: &Path, readings: u32, pause_ms: u64) -> anyhow::Result<Self> {
        // Held until all are chosen, so that none is chosen twice.
        let mut held = Vec::new();
        let (mut addresses, mut counts) = (BTreeMap::new(), BTreeMap::new());
        for who in Who::all() {
            let mut tried = (0..PORT_TRIES_MAX).map(|_| fastrand::u16(PORTS));
            let free = tried.find_map(|port| Some((port, TcpListener::bind(("127.0.0.1", port)).ok()?)));
            let (port, listener) = free.context("there is no free port on the loopback interface")?;
            held.push(listener);
            addresses.insert(who, format!("tcp/127.0.0.1:{port}"));
            counts.insert(who, Arc::default());
        }
        Ok(Self { data: data.into(), readings, pause_ms, addresses, children: BTreeMap::new(), counts })
    }

    /// The data folder of a process.
    pub(super) fn data(&self, who: Who) -> PathBuf {
        self.data.join(who.name())
    }

    fn log(&self, who: Who) -> PathBuf {
        self.data.join(format!("{}.log", who.name()))
    }

    /// How far all are.
    pub(super) fn line(&self) -> Line {
        let count = |who: &Who| self.counts.get(who).map_or(0, |count| count.load(Ordering::SeqCst));
        let told = Who::all().filter(|who| matches!(who, Who::Sensor(_))).map(|who| count(&who)).sum();
        Line { told, arrived: count(&Who::Site) }
    }

    /// Starts a process and waits until it is ready.
    pub(super) async fn start(&mut self, who: Who) -> anyhow::Result<()> {
        let log = File::options().create(true).append(true).open(self.log(who)).context("a log cannot be written")?;
        let mut command = Command::new(std::env::current_exe().context("this executable has no path")?);
        match who {
            Who::Sensor(_) => {
                command.args(["sensor", who.name(), "--readings", &self.readings.to_string()]);
                command.args(["--pause-ms", &self.pause_ms.to_string()]);
            }
            Who::Gateway | Who::Site => {
                command.arg(who.name());
            }
        }
        command.arg("--until-stdin-closes").arg("--data").arg(self.data(who));
        for (other, address) in &self.addresses {
            // A sensor and the site know the gateway only.
            if *other == who {
                command.args(["--listen", address]);
            } else if *other == Who::Gateway || who == Who::Gateway {
                command.args(["--connect", address]);
            }
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log).kill_on_drop(true);
        let mut child = command.spawn().context("a process cannot be started")?;
        let stdout = child.stdout.take().context("a process has no standard output")?;
        self.children.insert(who, child);
        let mut lines = BufReader::new(stdout).lines();
        match tokio::time::timeout(READY_WAIT_MAX, lines.next_line()).await {
            Ok(Ok(Some(_))) => {}
            Ok(_) => bail!("{} did not start{}", who.name(), self.log_end(who)),
            Err(_) => bail!("{} was not ready in {READY_WAIT_MAX:?}{}", who.name(), self.log_end(who)),
        }
        let count = self.counts.entry(who).or_default().clone();
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                if let Some(number) = line.split(' ').nth(1).and_then(|number| number.parse().ok()) {
                    count.store(number, Ordering::SeqCst);
                }
            }
        });
        Ok(())
    }

    /// Kills a process with SIGKILL.
    pub(super) async fn kill(&mut self, who: Who) -> anyhow::Result<()> {
        let mut child = self.children.remove(&who).with_context(|| format!("{} does not run", who.name()))?;
        child.kill().await.with_context(|| format!("{} cannot be killed", who.name()))
    }

    /// Which process has ended by itself, and why.
    pub(super) fn ended(&mut self) -> Option<String> {
        let mut children = self.children.iter_mut();
        let (who, status) = children.find_map(|(who, child)| Some((*who, child.try_wait().ok()??)))?;
        Some(format!("the process of {} ended by itself ({status}){}", who.name(), self.log_end(who)))
    }

    /// Lets all processes stop, and kills those that do not.
    pub(super) async fn stop(&mut self) {
        for child in self.children.values_mut() {
            drop(child.stdin.take());
        }
        for (who, mut child) in std::mem::take(&mut self.children) {
            if tokio::time::timeout(STOP_WAIT_MAX, child.wait()).await.is_err() {
                tracing::warn!("{} does not stop; it is killed", who.name());
                let _ = child.kill().await; // It has ended by now, or nothing can be done.
            }
        }
    }

    fn log_end(&self, who: Who) -> String {
        let log = std::fs::read_to_string(self.log(who)).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        let shown = lines.get(lines.len().saturating_sub(LOG_LINES_SHOWN)..).unwrap_or_default();
        if shown.is_empty() { String::new() } else { format!("; its log ends with:\n{}", shown.join("\n")) }
    }
}
