//! The three processes: started, killed with SIGKILL, started again, and talked to over their pipes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::ValueEnum;
use fleet::security::{self, Protection};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio::sync::{Mutex, mpsc, watch};
use tokio::time::{Instant, sleep, timeout};

use crate::attack::{Attacked, TRAITOR};
use crate::model::RoleName;
use crate::network::Network;
use crate::node::Sabotage;
use crate::volume::Volume;
use crate::wire::{Answer, Command};

/// How long a process may take until it is ready.
const READY_WAIT_MAX: Duration = Duration::from_mins(1);
/// How long a process may take to stop by itself.
const STOP_WAIT_MAX: Duration = Duration::from_secs(20);
/// How long a process may take to say what is open.
const REPORT_WAIT_MAX: Duration = Duration::from_secs(20);
/// How often it is looked whether a process has ended by itself.
const ENDED_POLL_PERIOD: Duration = Duration::from_millis(20);
/// How much of a process's log is shown when it fails.
const LOG_LINES_SHOWN: usize = 12;
/// Answers that wait to be looked at.
const ANSWERS_WAITING_MAX: usize = 4_096;

/// The way to the process that takes the orders, whichever life it is in.
#[derive(Default)]
pub(crate) struct Desk {
    stdin: Mutex<Option<ChildStdin>>,
    lives: watch::Sender<u64>,
}

impl Desk {
    /// Tells when there is another process: what was said to the one before may be lost.
    pub(crate) fn lives(&self) -> watch::Receiver<u64> {
        self.lives.subscribe()
    }

    /// Says something to the present process. If that is gone, the next one has to be told again.
    pub(crate) async fn say(&self, command: &Command) {
        let _ = say(&self.stdin, command).await;
    }
}

async fn say(stdin: &Mutex<Option<ChildStdin>>, command: &Command) -> anyhow::Result<()> {
    let mut line = serde_json::to_vec(command)?;
    line.push(b'\n');
    let mut stdin = stdin.lock().await;
    let pipe = stdin.as_mut().context("the process has gone")?;
    pipe.write_all(&line).await.context("the process has gone")
}

struct Process {
    child: Child,
    pipe: Arc<Desk>,
    /// Everything it says that is not about an order.
    said: mpsc::Receiver<Answer>,
    /// Where its part of the log begins.
    log_from: u64,
}

/// The processes, one for each role, and what they stand on.
pub(crate) struct Fleet {
    // Processes first: what they stand on can only be taken away when they are gone.
    processes: BTreeMap<RoleName, Process>,
    volumes: BTreeMap<RoleName, Volume>,
    pub(crate) network: Network,
    folder: PathBuf,
    protection: Protection,
    sabotage: Option<Sabotage>,
    attackers: Vec<Child>,
    clocks_ahead_ms: BTreeMap<RoleName, i64>,
    desk: Arc<Desk>,
    orders: mpsc::Sender<Answer>,
}

/// How a process ended, and what it said.
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) said: String,
}

impl Fleet {
    /// Starts nothing, and makes certificates and keys; the receiver gets what the processes say of orders.
    pub(crate) fn new(
        folder: &Path,
        network: Network,
        volumes: BTreeMap<RoleName, Volume>,
        protection: Protection,
        sabotage: Option<Sabotage>,
    ) -> anyhow::Result<(Self, mpsc::Receiver<Answer>)> {
        let [shop, others @ ..] = RoleName::ALL.map(RoleName::name);
        security::make(folder, &[shop], &[&others[..], &[TRAITOR]].concat())?;
        let (orders, receiver) = mpsc::channel(ANSWERS_WAITING_MAX);
        let fleet = Self {
            processes: BTreeMap::new(),
            volumes,
            network,
            folder: folder.into(),
            protection,
            sabotage,
            attackers: Vec::new(),
            clocks_ahead_ms: BTreeMap::new(),
            desk: Arc::default(),
            orders,
        };
        Ok((fleet, receiver))
    }

    fn security(&self, node: &str) -> PathBuf {
        security::folder(&self.folder.join(node), node)
    }

    /// Where the attacker of a role overhears what is sent.
    fn tap(&self, role: RoleName) -> PathBuf {
        self.folder.join(format!("{}.tap", role.name()))
    }

    /// What both a node and its attacker are told of what protects the nodes, for the files of `node`.
    fn protect(&self, command: &mut tokio::process::Command, role: RoleName, node: &str) {
        command.arg("--tap").arg(self.tap(role)).arg("--security").arg(self.security(node));
        let Protection { secured, sealed } = self.protection;
        command.args(secured.then_some("--secured")).args(sealed.then_some("--sealed"));
    }

    /// Starts an attacker beside each node.
    pub(crate) fn attack(&mut self, seed: u64) -> anyhow::Result<()> {
        for (role, seed) in RoleName::ALL.into_iter().zip(seed..) {
            let mut command = self.network.command(role)?;
            let connect = self.protection.endpoint(&self.network.reached_locally_at(role));
            command.args(["attack", role.name(), "--seed", &seed.to_string(), "--connect", &connect]);
            self.protect(&mut command, role, TRAITOR);
            let log = File::create(self.folder.join(format!("{}.attacker.log", role.name())))?;
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log).kill_on_drop(true);
            self.attackers.push(command.spawn().context("an attacker cannot be started")?);
        }
        Ok(())
    }

    /// Stops the attackers, and says what they have done.
    pub(crate) async fn attacked(&mut self) -> anyhow::Result<Attacked> {
        let mut all = Attacked::default();
        for mut attacker in self.attackers.drain(..) {
            drop(attacker.stdin.take());
            let output =
                timeout(STOP_WAIT_MAX, attacker.wait_with_output()).await.context("an attacker does not stop")??;
            let Attacked { connections, packets } = serde_json::from_slice(&output.stdout)
                .context("an attacker has failed; its log is `*.attacker.log`")?;
            all.connections += connections;
            all.packets += packets;
        }
        Ok(all)
    }

    /// Why nodes have dropped something, by what their logs say.
    pub(crate) fn dropped(&self) -> BTreeSet<String> {
        let logs = RoleName::ALL.map(|role| fs::read_to_string(self.log(role)).unwrap_or_default());
        let lines = logs.iter().flat_map(|log| log.lines()).filter(|line| line.contains(" dropped reason="));
        lines.filter_map(|line| Some(line.split_once("reason=\"")?.1.split_once('"')?.0.to_owned())).collect()
    }

    /// Where orders are taken.
    pub(crate) fn desk(&self) -> Arc<Desk> {
        self.desk.clone()
    }

    /// The store of a role.
    pub(crate) fn store(&self, role: RoleName) -> PathBuf {
        self.folder.join(role.name()).join("store")
    }

    /// The volume that the store of a role is on.
    pub(crate) fn volume(&self, role: RoleName) -> Option<&Volume> {
        self.volumes.get(&role)
    }

    fn log(&self, role: RoleName) -> PathBuf {
        self.folder.join(format!("{}.log", role.name()))
    }

    /// Starts the process of `role`, and does not wait for it.
    pub(crate) async fn launch(&mut self, role: RoleName) -> anyhow::Result<()> {
        let log = File::options().create(true).append(true).open(self.log(role)).context("a log cannot be written")?;
        let log_from = log.metadata()?.len();
        fs::create_dir_all(self.store(role).with_file_name(""))?;
        let mut command = self.network.command(role)?;
        command.args(["node", role.name(), "--listen", &self.network.listens_at(role), "--store"]);
        command.arg(self.store(role));
        self.protect(&mut command, role, role.name());
        for peer in RoleName::ALL.into_iter().filter(|peer| *peer != role) {
            command.args(["--connect", &self.network.reaches_at(role, peer)]);
        }
        let ahead_ms = self.clocks_ahead_ms.get(&role).copied().unwrap_or(0);
        command.args(["--clock-ahead-ms", &ahead_ms.to_string()]);
        if let Some(sabotage) = self.sabotage.and_then(|sabotage| sabotage.to_possible_value()) {
            command.args(["--sabotage", sabotage.get_name()]);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log).kill_on_drop(true);
        let mut child = command.spawn().context("a process cannot be started")?;
        let stdout = child.stdout.take().context("a process has no standard output")?;
        let (say, said) = mpsc::channel(ANSWERS_WAITING_MAX);
        tokio::spawn(listen(BufReader::new(stdout).lines(), self.orders.clone(), say));
        let pipe = if role == RoleName::Shop { self.desk.clone() } else { Arc::default() };
        *pipe.stdin.lock().await = child.stdin.take();
        self.processes.insert(role, Process { child, pipe, said, log_from });
        Ok(())
    }

    /// Waits until a process that was launched is ready.
    pub(crate) async fn ready(&mut self, role: RoleName) -> anyhow::Result<()> {
        let process = self.processes.get_mut(&role).with_context(|| format!("{} does not run", role.name()))?;
        match timeout(READY_WAIT_MAX, process.said.recv()).await {
            Ok(Some(Answer::Ready)) => {
                process.pipe.lives.send_modify(|life| *life += 1);
                Ok(())
            }
            Ok(_) => bail!("{} did not start{}", role.name(), self.log_end(role)),
            Err(_) => bail!("{} was not ready in {READY_WAIT_MAX:?}{}", role.name(), self.log_end(role)),
        }
    }

    /// Starts the process of `role` and waits until it is ready.
    pub(crate) async fn start(&mut self, role: RoleName) -> anyhow::Result<()> {
        self.launch(role).await?;
        self.ready(role).await
    }

    /// Kills the process of `role` with SIGKILL.
    pub(crate) async fn kill(&mut self, role: RoleName) -> anyhow::Result<()> {
        let mut process = self.processes.remove(&role).with_context(|| format!("{} does not run", role.name()))?;
        process.child.kill().await.with_context(|| format!("{} cannot be killed", role.name()))
    }

    /// Lets the process of `role` stop, which it has to do in time and without complaint.
    pub(crate) async fn stop(&mut self, role: RoleName) -> anyhow::Result<()> {
        let mut process = self.processes.remove(&role).with_context(|| format!("{} does not run", role.name()))?;
        drop(process.pipe.stdin.lock().await.take());
        match timeout(STOP_WAIT_MAX, process.child.wait()).await {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(status) => bail!("{} stopped with {status:?}{}", role.name(), self.log_end(role)),
            Err(_) => bail!("{} does not stop in {STOP_WAIT_MAX:?}{}", role.name(), self.log_end(role)),
        }
    }

    /// Sets the clock of a role so much ahead, in this life and the next ones.
    pub(crate) async fn set_clock(&mut self, role: RoleName, ahead_ms: i64) {
        self.clocks_ahead_ms.insert(role, ahead_ms);
        if let Some(process) = self.processes.get(&role) {
            let _ = say(&process.pipe.stdin, &Command::ClockAhead(ahead_ms)).await; // Else the next life gets it.
        }
    }

    /// How far the clock of a role is ahead.
    pub(crate) fn clock_ahead_ms(&self, role: RoleName) -> i64 {
        self.clocks_ahead_ms.get(&role).copied().unwrap_or(0)
    }

    /// What is open at a role, and what is stopped there.
    pub(crate) async fn report(&mut self, role: RoleName) -> anyhow::Result<(usize, Vec<String>)> {
        let process = self.processes.get_mut(&role).with_context(|| format!("{} does not run", role.name()))?;
        say(&process.pipe.stdin, &Command::Report).await?;
        match timeout(REPORT_WAIT_MAX, process.said.recv()).await {
            Ok(Some(Answer::Report { open, stopped })) => Ok((open, stopped)),
            _ => bail!("{} does not say what is open{}", role.name(), self.log_end(role)),
        }
    }

    /// Waits for so long; a process that ends by itself meanwhile is an error.
    pub(crate) async fn pause(&mut self, pause: Duration) -> anyhow::Result<()> {
        let until = Instant::now() + pause;
        loop {
            for role in RoleName::ALL {
                let ended =
                    self.processes.get_mut(&role).map(|process| process.child.try_wait()).transpose()?.flatten();
                if let Some(status) = ended {
                    bail!("the process of {} ended by itself ({status}){}", role.name(), self.log_end(role));
                }
            }
            if Instant::now() >= until {
                return Ok(());
            }
            sleep(ENDED_POLL_PERIOD.min(until - Instant::now())).await;
        }
    }

    /// Waits until the process of `role` ends by itself, or for `wait_max`.
    pub(crate) async fn ended(&mut self, role: RoleName, wait_max: Duration) -> anyhow::Result<Option<Ended>> {
        let process = self.processes.get_mut(&role).with_context(|| format!("{} does not run", role.name()))?;
        let Ok(status) = timeout(wait_max, process.child.wait()).await else { return Ok(None) };
        let (status, log_from) = (status?, process.log_from);
        self.processes.remove(&role);
        let log = fs::read(self.log(role)).unwrap_or_default();
        let said = log.get(usize::try_from(log_from)?..).unwrap_or_default();
        Ok(Some(Ended { status, said: String::from_utf8_lossy(said).into_owned() }))
    }

    fn log_end(&self, role: RoleName) -> String {
        let log = fs::read_to_string(self.log(role)).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        let shown = lines.get(lines.len().saturating_sub(LOG_LINES_SHOWN)..).unwrap_or_default();
        if shown.is_empty() { String::new() } else { format!("; its log ends with:\n{}", shown.join("\n")) }
    }
}

/// Hands on what a process says until it ends.
async fn listen(mut lines: Lines<BufReader<ChildStdout>>, orders: mpsc::Sender<Answer>, say: mpsc::Sender<Answer>) {
    while let Ok(Some(line)) = lines.next_line().await {
        let to = match serde_json::from_str(&line) {
            Ok(answer @ (Answer::Settled { .. } | Answer::Failed { .. })) => orders.send(answer).await,
            Ok(answer) => say.send(answer).await,
            Err(_) => continue, // Cut off in the middle of a line.
        };
        if to.is_err() {
            return;
        }
    }
}
