//! A node from a file: its name, store and transport as a [`Config`] gives them. Next: `builder.rs`.

#[cfg(feature = "zenoh")]
use accompanist_transport::ZenohTransport;

use super::{Node, NodeBuilder};
use crate::config::{Config, ConfigError, StoreConfig};
use crate::error::NodeError;
use crate::store::FjallStore;
use accompanist_core::contract::StoreError;

impl Node {
    /// Returns a builder for the node that a file describes: opens its store and its transport, and sets its members
    /// file and settings. What is left is the node's roles and choreographies. A file without `store.folder`, or
    /// without a section `[zenoh]`, leaves the store or the transport to the builder's
    /// [`store`](NodeBuilder::store) and [`transport`](NodeBuilder::transport).
    ///
    /// ```no_run
    /// # use std::sync::Arc;
    /// use accompanist::prelude::*;
    ///
    /// # #[derive(Clone, Copy)] struct Seller;
    /// # impl Role for Seller { const NAME: &'static str = "seller"; type Service = (); }
    /// # struct Sale;
    /// # impl Choreography for Sale {
    /// #     const NAME: &'static str = "sale"; type Roles = (Seller,);
    /// #     type Input = At<Seller, u32>; type Output = At<Seller, u32>;
    /// #     async fn run(&self, _: &Context<Self::Roles>, books: At<Seller, u32>) -> Result<Self::Output, Abort> {
    /// #         Ok(books)
    /// #     }
    /// # }
    /// #[tokio::main]
    /// async fn main() -> Result<(), NodeError> {
    ///     let config = Config::load("accompanist.toml")?;
    ///     let node = Node::from_config(config).await?.role(Seller, Arc::new(())).choreography(Sale).start().await?;
    ///     Err(node.failed().await) // The node runs until it fails, or the process is killed.
    /// }
    /// ```
    ///
    /// # Errors
    /// [`NodeError::Config`] for a file that gives no name, and the errors of opening the store and the transport.
    pub async fn from_config(config: Config) -> Result<NodeBuilder, NodeError> {
        let Some(name) = config.node.name.clone() else {
            return Err(config
                .error(&["node", "name"], "the node lacks a name: give one, the same after each start")
                .into());
        };
        let mut builder = Node::builder(name);
        if let Some(file) = &config.node.members_file {
            builder = builder.members_file(file);
        }
        if config.store.folder.is_some() {
            builder = builder.store(open_store(config.store.clone()).await?);
        }
        #[cfg(feature = "zenoh")]
        if let Some(zenoh) = config.zenoh.clone() {
            // Boxed, since it is large and the caller's future would hold it all the time.
            builder = builder.transport(Box::pin(ZenohTransport::open(zenoh)).await?);
        }
        Ok(builder.settings_of(config))
    }
}

/// Opening reads journals and tables, which takes seconds for a large store: not on a worker of the runtime.
async fn open_store(config: StoreConfig) -> Result<FjallStore, StoreError> {
    let StoreConfig { folder, durability, sizes } = config;
    let open = move || Ok(FjallStore::open_with(folder.unwrap_or_default(), &sizes)?.durability(durability));
    let opened = tokio::task::spawn_blocking(open).await;
    opened.unwrap_or_else(|error| Err(StoreError::Failed(format!("its opening has ended early: {error}"))))
}

/// Returns the error of a file that says more than the settings, where only those are taken from it.
pub(super) fn for_whole_nodes(config: &Config) -> Option<ConfigError> {
    let section = config.given_section()?;
    let what = "only the settings of this file are used here (`NodeBuilder::config`): start the node with \
                `Node::from_config`, or leave the section out";
    Some(config.error(&[section], what))
}
