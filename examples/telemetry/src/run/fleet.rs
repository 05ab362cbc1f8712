//! The processes: what each is started with, and how far each says it is.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use fleet::Ports;

use super::SENSORS;
use super::report::Line;

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
    processes: fleet::Fleet,
    readings: u32,
    pause_ms: u64,
    addresses: BTreeMap<Who, String>,
    counts: BTreeMap<Who, Arc<AtomicU32>>,
}

impl Fleet {
    /// Chooses addresses; starts nothing.
    pub(super) fn new(data: &Path, readings: u32, pause_ms: u64) -> anyhow::Result<Self> {
        let mut ports = Ports::default();
        let addresses = Who::all().map(|who| Ok((who, ports.endpoint()?))).collect::<anyhow::Result<_>>()?;
        let counts = Who::all().map(|who| (who, Arc::default())).collect();
        Ok(Self { processes: fleet::Fleet::new(data), readings, pause_ms, addresses, counts })
    }

    /// The data folder of a process.
    pub(super) fn data(&self, who: Who) -> PathBuf {
        self.processes.data(who.name())
    }

    /// How far all are.
    pub(super) fn line(&self) -> Line {
        let count = |who: &Who| self.counts.get(who).map_or(0, |count| count.load(Ordering::SeqCst));
        let told = Who::all().filter(|who| matches!(who, Who::Sensor(_))).map(|who| count(&who)).sum();
        Line { told, arrived: count(&Who::Site) }
    }

    /// Starts a process and waits until it is ready.
    pub(super) async fn start(&mut self, who: Who) -> anyhow::Result<()> {
        let data = self.data(who);
        let (readings, pause_ms, addresses) = (self.readings, self.pause_ms, &self.addresses);
        let arguments = |command: &mut tokio::process::Command| {
            match who {
                Who::Sensor(_) => {
                    command.args(["sensor", who.name(), "--readings", &readings.to_string()]);
                    command.args(["--pause-ms", &pause_ms.to_string()]);
                }
                Who::Gateway | Who::Site => {
                    command.arg(who.name());
                }
            }
            command.arg("--until-stdin-closes").arg("--data").arg(data);
            for (other, address) in addresses {
                // A sensor and the site know the gateway only.
                if *other == who {
                    command.args(["--listen", address]);
                } else if *other == Who::Gateway || who == Who::Gateway {
                    command.args(["--connect", address]);
                }
            }
        };
        let count = self.counts.entry(who).or_default().clone();
        let heard = move |line: &str| {
            if let Some(number) = line.split(' ').nth(1).and_then(|number| number.parse().ok()) {
                count.store(number, Ordering::SeqCst);
            }
        };
        self.processes.start(who.name(), arguments, heard).await
    }

    /// Kills a process with SIGKILL.
    pub(super) async fn kill(&mut self, who: Who) -> anyhow::Result<()> {
        self.processes.kill(who.name()).await
    }

    /// Which process has ended by itself, and why.
    pub(super) fn ended(&mut self) -> Option<String> {
        self.processes.ended()
    }

    /// Lets all processes stop, and kills those that do not.
    pub(super) async fn stop(&mut self) {
        self.processes.stop().await;
    }
}
