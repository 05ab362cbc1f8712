//! The three processes: started, killed with SIGKILL, started again.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::{Ledger, RoleName};

/// How long a process may take until it is ready.
const READY_WAIT_MAX: Duration = Duration::from_mins(1);
/// How long a process may take to stop by itself.
const STOP_WAIT_MAX: Duration = Duration::from_secs(10);
/// How often it is looked whether a process has ended by itself.
const ENDED_POLL_PERIOD: Duration = Duration::from_millis(100);
/// Ports are taken below those that the system gives to outgoing connections: while a process is down, its port is
/// free, and must not be caught by a peer that tries to reconnect.
const PORTS: std::ops::Range<u16> = 20_000..32_000;
/// How many ports are tried for each one that is needed.
const PORT_TRIES_MAX: u32 = 200;
/// How much of a process's log is shown when it fails.
const LOG_LINES_SHOWN: usize = 12;

/// The processes, one for each role.
pub(super) struct Fleet {
    data: PathBuf,
    ledger: Ledger,
    addresses: BTreeMap<RoleName, String>,
    desk: String,
    children: BTreeMap<RoleName, Child>,
}

impl Fleet {
    /// Chooses addresses; starts nothing.
    pub(super) fn new(data: &Path, ledger: Ledger) -> anyhow::Result<Self> {
        // Held until all are chosen, so that none is chosen twice.
        let mut held = Vec::new();
        let mut port = || -> anyhow::Result<u16> {
            // Not out of the seed: two runs of one seed may run side by side.
            let mut tried = (0..PORT_TRIES_MAX).map(|_| fastrand::u16(PORTS));
            let free = tried.find_map(|port| Some((port, TcpListener::bind(("127.0.0.1", port)).ok()?)));
            let (port, listener) = free.context("there is no free port on the loopback interface")?;
            held.push(listener);
            Ok(port)
        };
        let mut addresses = BTreeMap::new();
        for role in RoleName::ALL {
            addresses.insert(role, format!("tcp/127.0.0.1:{}", port()?));
        }
        let desk = format!("127.0.0.1:{}", port()?);
        Ok(Self { data: data.into(), ledger, addresses, desk, children: BTreeMap::new() })
    }

    /// Where orders are taken.
    pub(super) fn desk(&self) -> &str {
        &self.desk
    }

    /// The data folder of a role.
    pub(super) fn data(&self, role: RoleName) -> PathBuf {
        self.data.join(role.name())
    }

    fn log(&self, role: RoleName) -> PathBuf {
        self.data.join(format!("{}.log", role.name()))
    }

    /// Starts the process of `role` and waits until it is ready.
    pub(super) async fn start(&mut self, role: RoleName) -> anyhow::Result<()> {
        let log = File::options().create(true).append(true).open(self.log(role)).context("a log cannot be written")?;
        let mut command = Command::new(std::env::current_exe().context("this executable has no path")?);
        command.args(["role", role.name(), "--until-stdin-closes", "--ledger", self.ledger.name(), "--data"]);
        command.arg(self.data(role));
        for (other, address) in &self.addresses {
            command.args([if *other == role { "--listen" } else { "--connect" }, address]);
        }
        if role == RoleName::Warehouse {
            command.args(["--orders-listen", &self.desk]);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log).kill_on_drop(true);
        let mut child = command.spawn().context("a process cannot be started")?;
        let stdout = child.stdout.take().context("a process has no standard output")?;
        self.children.insert(role, child);
        let ready = tokio::time::timeout(READY_WAIT_MAX, BufReader::new(stdout).lines().next_line()).await;
        match ready {
            Ok(Ok(Some(_))) => Ok(()),
            Ok(_) => bail!("{} did not start{}", role.name(), self.log_end(role)),
            Err(_) => bail!("{} was not ready in {READY_WAIT_MAX:?}{}", role.name(), self.log_end(role)),
        }
    }

    /// Kills the process of `role` with SIGKILL.
    pub(super) async fn kill(&mut self, role: RoleName) -> anyhow::Result<()> {
        let mut child = self.children.remove(&role).with_context(|| format!("{} does not run", role.name()))?;
        child.kill().await.with_context(|| format!("{} cannot be killed", role.name()))
    }

    /// Waits until a process ends by itself, and says which and why.
    pub(super) async fn ended(&mut self) -> String {
        loop {
            let ended = self.children.iter_mut().find_map(|(role, child)| Some((*role, child.try_wait().ok()??)));
            if let Some((role, status)) = ended {
                return format!("the process of {} ended by itself ({status}){}", role.name(), self.log_end(role));
            }
            tokio::time::sleep(ENDED_POLL_PERIOD).await;
        }
    }

    /// Lets all processes stop, and kills those that do not.
    pub(super) async fn stop(&mut self) {
        for child in self.children.values_mut() {
            drop(child.stdin.take());
        }
        for (role, mut child) in std::mem::take(&mut self.children) {
            if tokio::time::timeout(STOP_WAIT_MAX, child.wait()).await.is_err() {
                tracing::warn!("{} does not stop; it is killed", role.name());
                let _ = child.kill().await; // It has ended by now, or nothing can be done.
            }
        }
    }

    fn log_end(&self, role: RoleName) -> String {
        let log = std::fs::read_to_string(self.log(role)).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        let shown = lines.get(lines.len().saturating_sub(LOG_LINES_SHOWN)..).unwrap_or_default();
        if shown.is_empty() { String::new() } else { format!("; its log ends with:\n{}", shown.join("\n")) }
    }
}
