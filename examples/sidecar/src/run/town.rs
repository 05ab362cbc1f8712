//! The processes: what each is started with.

use std::path::{Path, PathBuf};

use fleet::{Fleet, Ports};
use tokio::process::Command;

use crate::play::BOOK;

/// The services that were there before.
pub(super) const SERVICES: [&str; 4] = ["billing", "depot", "customs", "carrier"];
/// The processes that call them.
const CALLERS: [&str; 3] = ["office", "depot-sidecar", "carrier-sidecar"];

/// All processes.
pub(super) struct Town {
    fleet: Fleet,
    /// Of the services, in their order.
    ports: [u16; 4],
    office: u16,
    deliveries: u16,
    /// Of the depot's sidecar, and of the carrier's.
    wires: [String; 2],
}

fn http(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

impl Town {
    /// Chooses addresses; starts nothing.
    pub(super) fn new(data: &Path) -> anyhow::Result<Self> {
        let mut free = Ports::default();
        let ports = [free.take()?, free.take()?, free.take()?, free.take()?];
        let (office, deliveries) = (free.take()?, free.take()?);
        Ok(Self { fleet: Fleet::new(data), ports, office, deliveries, wires: [free.endpoint()?, free.endpoint()?] })
    }

    /// All names.
    pub(super) fn names() -> impl Iterator<Item = &'static str> {
        SERVICES.into_iter().chain(CALLERS)
    }

    /// Where orders are placed.
    pub(super) fn office(&self) -> String {
        http(self.office)
    }

    /// The book of a service.
    pub(super) fn book(&self, service: &str) -> PathBuf {
        self.fleet.data(service).join(BOOK)
    }

    pub(super) async fn start_all(&mut self) -> anyhow::Result<()> {
        for name in Self::names() {
            self.start(name).await?;
        }
        Ok(())
    }

    /// Starts a process and waits until it is ready.
    pub(super) async fn start(&mut self, name: &str) -> anyhow::Result<()> {
        let [billing, depot, customs, carrier] = self.ports;
        let [depot_wire, carrier_wire] = &self.wires;
        let (office, deliveries) = (self.office, self.deliveries);
        let listen = |port: u16| format!("127.0.0.1:{port}");
        let data = self.fleet.data(name);
        let arguments = |command: &mut Command| {
            match name {
                "office" => {
                    command.args(["office", "--listen", &listen(office), "--billing", &http(billing)]);
                    command.args(["--customs", &http(customs), "--deliveries", &http(deliveries)]);
                }
                "depot-sidecar" => {
                    command.args(["depot", "--listen", &listen(deliveries), "--office", &http(office)]);
                    command.args(["--service", &http(depot), "--wire", depot_wire, "--peer", carrier_wire]);
                }
                "carrier-sidecar" => {
                    command.args([
                        "carrier",
                        "--service",
                        &http(carrier),
                        "--wire",
                        carrier_wire,
                        "--peer",
                        depot_wire,
                    ]);
                }
                service => {
                    let place = SERVICES.into_iter().zip(self.ports).find(|(name, _)| *name == service);
                    let port = place.map_or(billing, |(_, port)| port);
                    command.args(["service", "--listen", &listen(port)]);
                }
            }
            command.arg("--until-stdin-closes").arg("--data").arg(data);
        };
        self.fleet.start(name, arguments, |_| {}).await
    }

    /// Kills a process with SIGKILL.
    pub(super) async fn kill(&mut self, name: &str) -> anyhow::Result<()> {
        self.fleet.kill(name).await
    }

    /// Waits until a process ends by itself, and says which and why.
    pub(super) async fn until_one_ends(&mut self) -> String {
        self.fleet.until_one_ends().await
    }

    /// Lets all processes stop, and kills those that do not.
    pub(super) async fn stop(&mut self) {
        self.fleet.stop().await;
    }
}
