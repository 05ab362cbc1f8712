//! Nodes of one process, every two connected by a line of its own: to measure what a network does to a program.

use std::path::Path;
use std::time::Duration;

use accompanist::prelude::*;
use accompanist::store::{FjallStore, MemoryDisk};
use accompanist::transport::{ZenohConfig, ZenohTransport};
use accompanist::{Durability, NodeBuilder};
use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::{DelayLine, Ports};

/// How often it is looked whether all is over.
const LOOK_PERIOD: Duration = Duration::from_millis(1);

/// What is left of a session when something ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kept {
    /// Nothing: it is in memory.
    InMemory,
    /// What the process has handed to the system, when the process ends.
    OverKill,
    /// All, when the power is cut: a sync before anything is acknowledged.
    OverPower,
}

impl Kept {
    /// All of them, from the least.
    pub const ALL: [Self; 3] = [Self::InMemory, Self::OverKill, Self::OverPower];
}

/// See the module's documentation.
pub struct Sites {
    nodes: Vec<(Node, ZenohTransport)>,
    _lines: Vec<DelayLine>,
}

impl Sites {
    /// Starts a node for each of `names`, with its store below `folder`. `delay` is that of the line between two, by
    /// their places; `play` gives each its role and its choreographies.
    ///
    /// # Errors
    /// When one does not start.
    pub async fn start(
        names: &[&str],
        folder: &Path,
        kept: Kept,
        delay: impl Fn(usize, usize) -> Duration,
        play: impl Fn(NodeBuilder, usize) -> NodeBuilder,
    ) -> anyhow::Result<Self> {
        let mut ports = Ports::default();
        let taken: Vec<u16> = names.iter().map(|_| ports.take()).collect::<anyhow::Result<_>>()?;
        drop(ports); // They are listened on now.
        let (mut nodes, mut lines) = (Vec::new(), Vec::new());
        for (place, (name, port)) in names.iter().zip(&taken).enumerate() {
            // Gossip would lead around the lines.
            let mut config = ZenohConfig::new().gossip(false).listen(format!("tcp/127.0.0.1:{port}"));
            for (other, port) in taken.iter().take(place).enumerate() {
                let line = DelayLine::start(([127, 0, 0, 1], *port).into(), delay(place, other))?;
                config = config.connect(format!("tcp/{}", line.address()));
                lines.push(line);
            }
            let transport = ZenohTransport::open(config).await?;
            let builder = Node::builder(NodeId::new(*name)?).transport(transport.clone());
            let on_disk = |durability| anyhow::Ok(FjallStore::open(folder.join(name))?.durability(durability));
            let builder = match kept {
                Kept::InMemory => builder.store(MemoryDisk::default().open()?),
                Kept::OverKill => builder.store(on_disk(Durability::Process)?),
                Kept::OverPower => builder.store(on_disk(Durability::Power)?),
            };
            nodes.push((play(builder, place).start().await?, transport));
        }
        Ok(Self { nodes, _lines: lines })
    }

    /// The first node.
    ///
    /// # Errors
    /// When there is none.
    pub fn first(&self) -> anyhow::Result<&Node> {
        self.nodes.first().map(|(node, _)| node).context("there is no node")
    }

    /// Waits until all sessions are over everywhere, so that none is in the way of what is measured next.
    pub async fn are_idle(&self) {
        for (node, _) in &self.nodes {
            while node.operator().open_instances() != Some(0) {
                tokio::time::sleep(LOOK_PERIOD).await;
            }
        }
    }

    /// Stops all.
    pub async fn end(self) {
        for (node, transport) in &self.nodes {
            node.shutdown().await;
            transport.close().await;
        }
    }
}
