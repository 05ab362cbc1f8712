//! Three nodes in three processes on loopback, each with a store of its own: what is measured.
//!
//! The warehouse is in this process; the other two are this program again, see [`crate::child`].

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use accompanist::prelude::*;
use accompanist::transport::{ZenohConfig, ZenohTransport};
use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;

use crate::child::{NodeNumbers, READY, Request};
use crate::counters::Counters;
use crate::saga::{Loyalty, Payment, Warehouse, WarehouseOrder};
use crate::timed_store::{StoreWatch, TimedStore};

/// How long a process may take to end by itself.
const END_WAIT_MAX: Duration = Duration::from_secs(5);

/// A node of this process with what belongs to it.
pub(crate) struct Member {
    /// The node.
    pub(crate) node: Node,
    /// Its network, which the probe uses, too.
    pub(crate) transport: ZenohTransport,
    /// What its store takes.
    pub(crate) watch: StoreWatch,
}

impl Member {
    /// Starts the node of `role`.
    pub(crate) async fn start(role: &str, folder: &Path, durability: Durability, wire: ZenohConfig) -> Result<Self> {
        let watch = StoreWatch::new()?;
        let store = FjallStore::open(folder)?.durability(durability);
        let transport = ZenohTransport::open(wire).await?;
        let builder = Node::builder(NodeId::new(role)?)
            .store(TimedStore::new(store, watch.clone()))
            .transport(transport.clone())
            .choreography(WarehouseOrder);
        let builder = match role {
            Warehouse::NAME => builder.role(Warehouse, ().into()),
            Payment::NAME => builder.role(Payment, ().into()),
            Loyalty::NAME => builder.role(Loyalty, ().into()),
            _ => bail!("there is no role `{role}`"),
        };
        Ok(Self { node: builder.start().await?, transport, watch })
    }

    /// Stops the node and its network.
    pub(crate) async fn end(&self) {
        self.node.shutdown().await;
        self.transport.close().await;
    }
}

/// One of the other processes.
struct Process {
    child: Child,
    /// Closed to end it.
    requests: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Process {
    fn start(role: &str, folder: &Path, durability: Durability, port: u16, peers: &[u16]) -> Result<Self> {
        let program = std::env::current_exe().context("where this program is")?;
        let mut command = Command::new(program);
        command.arg("child").args(["--role", role, "--port", &port.to_string()]).arg("--folder").arg(folder);
        command.args(peers.iter().flat_map(|peer| ["--peer".to_owned(), peer.to_string()]));
        if durability == Durability::Process {
            command.arg("--no-sync");
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("a second process")?;
        let (requests, answers) = (child.stdin.take(), child.stdout.take().context("its output")?);
        let mut process = Self { child, requests, answers: BufReader::new(answers) };
        if process.answer()? != READY {
            bail!("the process of `{role}` did not start: its message is above");
        }
        Ok(process)
    }

    fn ask(&mut self, request: Request) -> Result<String> {
        let requests = self.requests.as_mut().context("the process has ended")?;
        writeln!(requests, "{request}")?;
        self.answer()
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

/// See the module's documentation.
pub(crate) struct Cluster {
    /// The node that starts the sagas.
    pub(crate) warehouse: Member,
    others: Vec<(&'static str, Process)>,
    /// Removed with the cluster.
    folder: TempDir,
}

impl Cluster {
    /// Starts all three, with their stores below `base`.
    pub(crate) async fn start(base: &Path, durability: Durability) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("accompanist-bench-").tempdir_in(base)?;
        let [warehouse, payment, loyalty] = free_ports()?;
        let start = |role, port, peers: &[u16]| {
            Process::start(role, &folder.path().join(role), durability, port, peers).map(|process| (role, process))
        };
        let others = vec![start(Payment::NAME, payment, &[])?, start(Loyalty::NAME, loyalty, &[payment])?];
        let wire = wire(warehouse, &[payment, loyalty]);
        let own = folder.path().join(Warehouse::NAME);
        let warehouse = Member::start(Warehouse::NAME, &own, durability, wire).await?;
        Ok(Self { warehouse, others, folder })
    }

    /// Where its stores are.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Forgets what the nodes have measured.
    pub(crate) fn clear(&mut self) -> Result<()> {
        self.warehouse.watch.clear();
        for (_, process) in &mut self.others {
            process.ask(Request::Clear)?;
        }
        Ok(())
    }

    /// What the nodes have measured, by role. The counters of this process are those of all its nodes.
    pub(crate) fn numbers(&mut self, counters: &Counters) -> Result<Vec<(&'static str, NodeNumbers)>> {
        let mut numbers = vec![(Warehouse::NAME, NodeNumbers::new(&self.warehouse.watch.times(), counters))];
        for (role, process) in &mut self.others {
            numbers.push((role, serde_json::from_str(&process.ask(Request::Numbers)?)?));
        }
        Ok(numbers)
    }

    /// Stops all three.
    pub(crate) async fn end(self) {
        self.warehouse.end().await;
    }
}

/// The network of a node that listens on `port`.
pub(crate) fn wire(port: u16, peers: &[u16]) -> ZenohConfig {
    let endpoint = |port: &u16| format!("tcp/127.0.0.1:{port}");
    let wire = ZenohConfig::new().listen(endpoint(&port));
    peers.iter().fold(wire, |wire, peer| wire.connect(endpoint(peer)))
}

/// Free now; another program could take one before it is used, and the start would say so.
pub(crate) fn free_ports() -> Result<[u16; 3]> {
    let listener = || TcpListener::bind("127.0.0.1:0").context("a free port");
    let listeners = [listener()?, listener()?, listener()?];
    let [one, two, three] = &listeners;
    Ok([one.local_addr()?.port(), two.local_addr()?.port(), three.local_addr()?.port()])
}
