//! What each process does: one node, that plays an actor or tells one.
//!
//! On standard output each says `ready`, and then, as lines of a word and a number, how far it is.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use accompanist::NodeBuilder;
use accompanist::prelude::*;
use accompanist::store::FjallStore;
use accompanist::transport::{ZenohConfig, ZenohTransport};
use clap::Args;
use fleet::{StoreArguments, make_data_folder, told_to_stop};
use telemetry::site::COUNT;
use telemetry::{Gateway, Site, measured};

/// How often the site says how much has arrived.
const COUNT_PERIOD: Duration = Duration::from_millis(20);
/// The pause before a reading is told again that was not taken in.
const RETRY_PAUSE: Duration = Duration::from_millis(50);
/// Readings between two words of a sensor on how far it is.
const TOLD_STEP: u32 = 5;

#[derive(Debug, Args)]
pub(crate) struct NodeArguments {
    /// Where to listen, such as tcp/127.0.0.1:7401
    #[arg(long)]
    listen: Option<String>,
    /// Where another node listens; may be given several times
    #[arg(long)]
    connect: Vec<String>,
    /// The data folder, of this process alone
    #[arg(long)]
    data: PathBuf,
    #[command(flatten)]
    begin: StoreArguments,
    /// Stop when standard input ends
    #[arg(long, hide = true)]
    until_stdin_closes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SensorArguments {
    /// The sensor's name
    name: String,
    /// How many readings it takes
    #[arg(long, default_value_t = 400)]
    readings: u32,
    /// The pause between two of them, in milliseconds
    #[arg(long, default_value_t = 5)]
    pause_ms: u64,
    #[command(flatten)]
    node: NodeArguments,
}

/// Where a process's data folder has its store.
pub(crate) fn store_folder(data: &Path) -> PathBuf {
    data.join("store")
}

impl NodeArguments {
    async fn start(&self, name: &str, with: impl FnOnce(NodeBuilder) -> NodeBuilder) -> anyhow::Result<Node> {
        let data = &self.data;
        make_data_folder(data)?;
        let config = self.connect.iter().fold(ZenohConfig::new(), ZenohConfig::connect);
        let config = self.listen.iter().fold(config, ZenohConfig::listen);
        let builder = Node::builder(NodeId::new(name)?)
            .store(FjallStore::open(store_folder(data))?)
            .transport(ZenohTransport::open(config).await?);
        let node = self.begin.given_to(with(builder)).start().await?;
        println!("ready");
        Ok(node)
    }

    /// Lets `work` go on until it ends, or the process is told to stop.
    async fn until_told(&self, node: Node, work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<ExitCode> {
        tokio::select! {
            error = node.failed() => return Err(error.into()),
            () = told_to_stop(self.until_stdin_closes) => {}
            worked = work => worked?,
        }
        node.shutdown().await;
        Ok(ExitCode::SUCCESS)
    }
}

pub(crate) async fn site(arguments: NodeArguments) -> anyhow::Result<ExitCode> {
    let node = arguments.start("site", |node| node.actor(Site)).await?;
    let site = node.actor::<Site>();
    let count = async {
        let mut said = None;
        loop {
            let count = site.read(|state| COUNT.get(state, 0)).await??.unwrap_or_default();
            if said != Some(count) {
                println!("arrived {count}");
                said = Some(count);
            }
            tokio::time::sleep(COUNT_PERIOD).await;
        }
    };
    arguments.until_told(node.clone(), count).await
}

pub(crate) async fn gateway(arguments: NodeArguments) -> anyhow::Result<ExitCode> {
    let node = arguments.start("gateway", |node| node.actor(Gateway).talks_to::<Site>()).await?;
    arguments.until_told(node, std::future::pending()).await
}

pub(crate) async fn sensor(arguments: SensorArguments) -> anyhow::Result<ExitCode> {
    let SensorArguments { name, readings, pause_ms, node: arguments } = arguments;
    let node = arguments.start(&format!("sensor-{name}"), NodeBuilder::talks_to::<Gateway>).await?;
    let gateway = node.actor::<Gateway>();
    let work = async {
        for number in 1..=readings {
            let reading = measured(&name, number);
            // Under a key: one that perhaps was taken in is repeated, and known.
            while let Err(error) = gateway.tell(&reading).key(format!("reading {number}")).await {
                tracing::warn!("reading {number} waits: {error}");
                tokio::time::sleep(RETRY_PAUSE).await;
            }
            if number % TOLD_STEP == 0 || number == readings {
                println!("told {number}");
            }
            tokio::time::sleep(Duration::from_millis(pause_ms)).await;
        }
        std::future::pending().await // What waits here still has to get through.
    };
    arguments.until_told(node.clone(), work).await
}
