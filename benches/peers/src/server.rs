//! Processes that are ended with the value that stands for them.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use tokio::time::{Instant, sleep};

use crate::saga::SERVICES;

/// How long a server may take to begin.
const PATIENCE: Duration = Duration::from_mins(1);

/// A process, told to stop when it is dropped, and killed if it does not.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    log: PathBuf,
}

impl Server {
    /// Starts it, with what it says in the file `log`.
    pub(crate) fn start(command: &mut Command, log: &Path) -> Result<Self> {
        let out = File::create(log).with_context(|| format!("{} cannot be made", log.display()))?;
        command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out);
        let program = command.get_program().to_os_string();
        let child = command.spawn().with_context(|| format!("{} cannot be started", program.display()))?;
        Ok(Self { child, log: log.to_owned() })
    }

    /// Waits until `ready` says so.
    pub(crate) async fn until(&mut self, ready: impl AsyncFn() -> bool) -> Result<()> {
        let begun = Instant::now();
        while !ready().await {
            let ended = self.child.try_wait()?;
            ensure!(ended.is_none() && begun.elapsed() < PATIENCE, "a server did not begin; it says: {}", self.said());
            sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// Waits until something listens there.
    pub(crate) async fn listens(&mut self, address: SocketAddr) -> Result<()> {
        self.until(async || TcpStream::connect(address).is_ok()).await
    }

    /// The end of what it says.
    fn said(&self) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        let end = text.len().saturating_sub(2_000);
        String::from_utf8_lossy(text.get(end..).unwrap_or_default()).into_owned()
    }

    /// Whether it was told to stop, which gives it the time to take its children along.
    fn stop(&self) -> bool {
        let told = Command::new("kill").args(["-INT", &self.child.id().to_string()]).status();
        told.is_ok_and(|status| status.success())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let begun = std::time::Instant::now();
        if self.stop() {
            while matches!(self.child.try_wait(), Ok(None)) && begun.elapsed() < Duration::from_secs(10) {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port on loopback that is free now.
pub(crate) fn free() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

/// The processes of the three services.
#[derive(Debug)]
pub(crate) struct Processes {
    children: Vec<Child>,
    pub(crate) addresses: [SocketAddr; 3],
}

impl Processes {
    /// With stores below that folder, or with none.
    pub(crate) fn start(stores: Option<&Path>) -> Result<Self> {
        let mut processes = Self { children: Vec::new(), addresses: [(Ipv4Addr::LOCALHOST, 0).into(); 3] };
        let program = std::env::current_exe()?;
        for (place, name) in SERVICES.into_iter().enumerate() {
            let mut command = Command::new(&program);
            command.args(["service", name]).stdout(Stdio::piped());
            if let Some(stores) = stores {
                command.arg("--store").arg(stores.join(name));
            }
            processes.children.push(command.spawn()?);
            let out = processes.children.last_mut().and_then(|child| child.stdout.take());
            let mut line = String::new();
            BufReader::new(out.ok_or_else(|| anyhow!("no output of {name}"))?).read_line(&mut line)?;
            processes.addresses[place] = line.trim().parse().with_context(|| format!("{name} said {line:?}"))?;
        }
        Ok(processes)
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
