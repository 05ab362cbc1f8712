//! Chapters 3 and 6: a node that plays one role of the sale, as a process of its own.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use accompanist::prelude::*;
use accompanist::transport::{ZenohConfig, ZenohTransport};
use accompanist::{Config, NodeBuilder};
use clap::Parser;

use crate::sale::Sale;

/// What each process is told.
#[derive(Debug, Parser)]
pub struct Arguments {
    /// Where to listen for the other node, such as tcp/127.0.0.1:7451
    #[arg(long)]
    listen: Option<String>,
    /// Where the other node listens
    #[arg(long)]
    connect: Option<String>,
    /// The folder of all data; each role has a folder in it
    #[arg(long, default_value = "data")]
    data: PathBuf,
    /// The node's folder, with certificates, members, keys and settings (chapter 6)
    #[arg(long)]
    folder: Option<PathBuf>,
}

// ANCHOR: start
/// Starts a node that plays `role`. Its name, its folder and its role are called the same here.
///
/// # Errors
/// What keeps the node from starting.
pub async fn start<R: Role<Service = ()>>(role: R, arguments: Arguments) -> Result<Node, Box<dyn Error>> {
    let store = FjallStore::open(arguments.data.join(R::NAME))?;
    let builder = Node::builder(NodeId::new(R::NAME)?).store(store);
    let builder = match &arguments.folder {
        None => on_this_machine(builder, &arguments).await?,
        Some(folder) => shipped(builder, folder).await?,
    };
    Ok(builder.role(role, Arc::new(())).choreography(Sale).start().await?)
}

async fn on_this_machine(builder: NodeBuilder, arguments: &Arguments) -> Result<NodeBuilder, Box<dyn Error>> {
    let zenoh = arguments.listen.iter().fold(ZenohConfig::new(), ZenohConfig::listen);
    let zenoh = arguments.connect.iter().fold(zenoh, ZenohConfig::connect);
    Ok(builder.transport(ZenohTransport::open(zenoh).await?))
}
// ANCHOR_END: start

// ANCHOR: shipped
/// With the folder that `accompanist security add-node` has made, and a file of settings beside.
async fn shipped(builder: NodeBuilder, folder: &Path) -> Result<NodeBuilder, Box<dyn Error>> {
    let zenoh = ZenohConfig::new().namespace("bookshop").config_file(folder.join("zenoh.json5"));
    Ok(builder
        .config(Config::load(folder.join("accompanist.toml"))?)
        .members_file(folder.join("members.toml"))
        .seal_key_file(folder.join("seal.key"))
        .transport(ZenohTransport::open(zenoh).await?))
}
// ANCHOR_END: shipped
