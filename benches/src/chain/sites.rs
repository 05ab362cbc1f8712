//! A node for the client and each service, in this process, every two connected by a line of their own.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use accompanist::prelude::*;
use accompanist::store::{FjallStore, MemoryDisk};
use accompanist::transport::{ZenohConfig, ZenohTransport};
use accompanist::{Durability, Node};
use anyhow::{Context as _, Result};
use fleet::{DelayLine, Ports};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use super::layout::Layout;
use super::program::{ROLES, play};

/// What is left of a session when something ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kept {
    /// Nothing: it is in memory.
    InMemory,
    /// What the process has handed to the system, when the process ends.
    OverKill,
    /// All, when the power is cut: a sync before anything is acknowledged.
    OverPower,
}

impl Kept {
    pub(super) const ALL: [Self; 3] = [Self::InMemory, Self::OverKill, Self::OverPower];
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::InMemory => "no",
            Self::OverKill => "kill -9",
            Self::OverPower => "power cut",
        })
    }
}

/// See the module's documentation.
pub(super) struct Sites {
    nodes: Vec<(Node, ZenohTransport)>,
    _lines: Vec<DelayLine>,
    /// Removed at the end.
    _folder: TempDir,
}

impl Sites {
    pub(super) async fn start(base: &Path, kept: Kept, layout: Layout) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("accompanist-bench-").tempdir_in(base)?;
        let mut ports = Ports::default();
        let taken: Vec<u16> = ROLES.iter().map(|_| ports.take()).collect::<Result<_>>()?;
        drop(ports); // They are listened on now.
        let (mut nodes, mut lines) = (Vec::new(), Vec::new());
        for (place, (name, port)) in ROLES.iter().zip(&taken).enumerate() {
            // Gossip would lead around the lines.
            let mut config = ZenohConfig::new().gossip(false).listen(format!("tcp/127.0.0.1:{port}"));
            for (other, port) in taken.iter().take(place).enumerate() {
                let line = DelayLine::start(([127, 0, 0, 1], *port).into(), layout.delay(place, other))?;
                config = config.connect(format!("tcp/{}", line.address()));
                lines.push(line);
            }
            let transport = ZenohTransport::open(config).await?;
            let builder = Node::builder(NodeId::new(*name)?).transport(transport.clone());
            let on_disk = |durability| anyhow::Ok(FjallStore::open(folder.path().join(name))?.durability(durability));
            let builder = match kept {
                Kept::InMemory => builder.store(MemoryDisk::default().open()?),
                Kept::OverKill => builder.store(on_disk(Durability::Process)?),
                Kept::OverPower => builder.store(on_disk(Durability::Power)?),
            };
            nodes.push((play(builder, place).start().await?, transport));
        }
        Ok(Self { nodes, _lines: lines, _folder: folder })
    }

    /// The node that starts all.
    pub(super) fn client(&self) -> Result<&Node> {
        self.nodes.first().map(|(node, _)| node).context("there is a client")
    }

    /// Waits until all sessions are over everywhere, so that none is in the way of what is measured next.
    pub(super) async fn are_idle(&self) {
        for (node, _) in &self.nodes {
            while node.open_instances() != Some(0) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    }

    pub(super) async fn end(self) {
        for (node, transport) in &self.nodes {
            node.shutdown().await;
            transport.close().await;
        }
    }
}
