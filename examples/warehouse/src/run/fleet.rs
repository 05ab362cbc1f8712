//! The three processes: what each is started with.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use fleet::Ports;

use crate::{Ledger, RoleName};

/// The processes, one for each role.
pub(super) struct Fleet {
    processes: fleet::Fleet,
    ledger: Ledger,
    addresses: BTreeMap<RoleName, String>,
    desk: String,
}

impl Fleet {
    /// Chooses addresses; starts nothing.
    pub(super) fn new(data: &Path, ledger: Ledger) -> anyhow::Result<Self> {
        let mut ports = Ports::default();
        let addresses = RoleName::ALL.map(|role| Ok((role, ports.endpoint()?)));
        let addresses = addresses.into_iter().collect::<anyhow::Result<_>>()?;
        let desk = format!("127.0.0.1:{}", ports.take()?);
        Ok(Self { processes: fleet::Fleet::new(data), ledger, addresses, desk })
    }

    /// Where orders are taken.
    pub(super) fn desk(&self) -> &str {
        &self.desk
    }

    /// The data folder of a role.
    pub(super) fn data(&self, role: RoleName) -> PathBuf {
        self.processes.data(role.name())
    }

    /// Starts the process of `role` and waits until it is ready.
    pub(super) async fn start(&mut self, role: RoleName) -> anyhow::Result<()> {
        let data = self.data(role);
        let (ledger, addresses, desk) = (self.ledger, &self.addresses, &self.desk);
        let arguments = |command: &mut tokio::process::Command| {
            command.args(["role", role.name(), "--until-stdin-closes", "--ledger", ledger.name(), "--data"]).arg(data);
            for (other, address) in addresses {
                command.args([if *other == role { "--listen" } else { "--connect" }, address]);
            }
            if role == RoleName::Warehouse {
                command.args(["--orders-listen", desk]);
            }
        };
        self.processes.start(role.name(), arguments, |_| {}).await
    }

    /// Kills the process of `role` with SIGKILL.
    pub(super) async fn kill(&mut self, role: RoleName) -> anyhow::Result<()> {
        self.processes.kill(role.name()).await
    }

    /// Waits until a process ends by itself, and says which and why.
    pub(super) async fn ended(&mut self) -> String {
        self.processes.until_one_ends().await
    }

    /// Lets all processes stop, and kills those that do not.
    pub(super) async fn stop(&mut self) {
        self.processes.stop().await;
    }
}
