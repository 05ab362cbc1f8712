//! One of the other processes, as the one that started it sees it: this program again, asked over its input.
//!
//! Knows neither nodes nor the floor; [`crate::child`] is the other end.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use accompanist::Durability;
use anyhow::{Context, Result, bail};
use fleet::security::Protection;

use crate::child::{NodeNumbers, READY, Request};

/// How long a process may take to end by itself.
const END_WAIT_MAX: Duration = Duration::from_secs(5);

/// What a process is started with.
pub(crate) struct Plan<'a> {
    /// The role it plays.
    pub(crate) role: &'static str,
    /// The folder of its store.
    pub(crate) folder: &'a Path,
    /// What a sync has to survive.
    pub(crate) durability: Durability,
    /// The port of 127.0.0.1 that it listens on.
    pub(crate) port: u16,
    /// The ports that it connects to.
    pub(crate) peers: &'a [u16],
    /// Role instances that a node has in memory.
    pub(crate) instances_max: usize,
    /// Whether it plays the floor's part and not that of a node.
    pub(crate) floor: bool,
    /// With which of what is in [`fleet::security::folder`] it talks.
    pub(crate) protection: Protection,
}

/// One of the other processes. Ends when it is dropped.
pub(crate) struct Process {
    role: &'static str,
    child: Child,
    /// Closed to end it.
    requests: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Process {
    pub(crate) fn start(plan: &Plan<'_>) -> Result<Self> {
        let Plan { role, folder, durability, port, peers, instances_max, floor, protection } = *plan;
        let program = std::env::current_exe().context("where this program is")?;
        let mut command = Command::new(program);
        command.arg("child").args(["--role", role, "--port", &port.to_string()]).arg("--folder").arg(folder);
        command.args(peers.iter().flat_map(|peer| ["--peer".to_owned(), peer.to_string()]));
        command.args(["--instances-max", &instances_max.to_string()]);
        command.args((durability == Durability::Process).then_some("--no-sync"));
        command.args(floor.then_some("--floor"));
        command.args(protection.secured.then_some("--secured"));
        command.args(protection.sealed.then_some("--sealed"));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("a second process")?;
        let (requests, answers) = (child.stdin.take(), child.stdout.take().context("its output")?);
        let mut process = Self { role, child, requests, answers: BufReader::new(answers) };
        if process.answer()? != READY {
            bail!("the process of `{role}` did not start: its message is above");
        }
        Ok(process)
    }

    /// The role it plays.
    pub(crate) fn role(&self) -> &'static str {
        self.role
    }

    /// Its number.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Asks, and waits for the answer's one line.
    pub(crate) fn ask(&mut self, request: Request) -> Result<String> {
        let requests = self.requests.as_mut().context("the process has ended")?;
        writeln!(requests, "{request}")?;
        self.answer()
    }

    /// What it has measured.
    pub(crate) fn numbers(&mut self) -> Result<NodeNumbers> {
        let answer = self.ask(Request::Numbers)?;
        serde_json::from_str(&answer).with_context(|| format!("the process of `{}` answers: {answer}", self.role))
    }

    fn answer(&mut self) -> Result<String> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.requests = None;
        let deadline = Instant::now() + END_WAIT_MAX;
        while Instant::now() < deadline {
            if let Ok(Some(_)) = self.child.try_wait() {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        // It is this program's own child; when it is gone already, all the better.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Free now; another program could take one before it is used, and the start would say so.
pub(crate) fn free_ports() -> Result<[u16; 4]> {
    let listener = || TcpListener::bind("127.0.0.1:0").context("a free port");
    let listeners = [listener()?, listener()?, listener()?, listener()?];
    let [one, two, three, four] = &listeners;
    let port = |listener: &TcpListener| anyhow::Ok(listener.local_addr()?.port());
    Ok([port(one)?, port(two)?, port(three)?, port(four)?])
}

/// The address of `port` on this machine, in Zenoh's words.
pub(crate) fn endpoint(port: u16) -> String {
    format!("tcp/127.0.0.1:{port}")
}
