//! The parts of a node that a file may give beside its settings: its name, its store, its connections.
//!
//! The file's form of them (`*Section`) has a value for each key, as the file does. Next: `reading.rs` reads them.

use std::path::{Path, PathBuf};

use accompanist_core::NodeId;
use accompanist_transport::{PACKET_BYTES_MAX_DEFAULT, ZENOH_NAMESPACE_DEFAULT};
#[cfg(feature = "zenoh")]
use accompanist_transport::{ZenohConfig, ZenohMode};
use serde::{Deserialize, Serialize};

use super::bound;
use super::settings::Durability;
use super::sizes::FjallSizes;

/// Who the node is: the section `[node]` of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct NodeConfig {
    /// The node's name. `None` if it is given in Rust.
    pub name: Option<NodeId>,
    /// The members file, as for [`NodeBuilder::members_file`](crate::NodeBuilder::members_file).
    pub members_file: Option<PathBuf>,
}

/// Where the node keeps its data: the section `[store]` of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreConfig {
    /// The folder of the node's [`FjallStore`](crate::store::FjallStore). `None` if the store is given in Rust.
    pub folder: Option<PathBuf>,
    /// What an acknowledged write survives.
    pub durability: Durability,
    /// The memory and disk that the store may use.
    pub sizes: FjallSizes,
}

/// `[node]`, as it is written.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct NodeSection {
    pub(super) name: String,
    #[serde(with = "bound::path")]
    pub(super) members_file: Option<PathBuf>,
}

/// `[store]`, as it is written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct StoreSection {
    #[serde(with = "bound::path")]
    pub(super) folder: Option<PathBuf>,
    pub(super) durability: Durability,
    pub(super) cache_bytes: u64,
    pub(super) memtable_bytes: u64,
    pub(super) journals_bytes_max: u64,
    pub(super) journal_bytes_ahead: u64,
    pub(super) verify_bytes_max: u64,
}

/// `[zenoh]`, as it is written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ZenohSection {
    pub(super) listen: Vec<String>,
    pub(super) connect: Vec<String>,
    #[serde(with = "bound::other")]
    pub(super) mode: Option<Mode>,
    #[serde(with = "bound::other")]
    pub(super) gossip: Option<bool>,
    #[serde(with = "bound::path")]
    pub(super) config_file: Option<PathBuf>,
    pub(super) namespace: String,
    pub(super) packet_bytes_max: usize,
    pub(super) insecure: bool,
}

/// The names of Zenoh's modes in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Mode {
    Peer,
    Client,
}

impl Default for StoreSection {
    fn default() -> Self {
        let StoreConfig { folder, durability, sizes } = StoreConfig::default();
        let FjallSizes { cache_bytes, memtable_bytes, journals_bytes_max, journal_bytes_ahead, verify_bytes_max } =
            sizes;
        Self {
            folder,
            durability,
            cache_bytes,
            memtable_bytes,
            journals_bytes_max,
            journal_bytes_ahead,
            verify_bytes_max,
        }
    }
}

impl Default for ZenohSection {
    fn default() -> Self {
        Self {
            listen: Vec::new(),
            connect: Vec::new(),
            mode: None,
            gossip: None,
            config_file: None,
            namespace: ZENOH_NAMESPACE_DEFAULT.into(),
            packet_bytes_max: PACKET_BYTES_MAX_DEFAULT,
            insecure: false,
        }
    }
}

impl NodeSection {
    /// `folder` is what relative paths are relative to. A name that cannot be used is left out.
    pub(super) fn into_config(self, folder: &Path) -> NodeConfig {
        let name = NodeId::new(&self.name).ok();
        NodeConfig { name, members_file: self.members_file.map(|file| folder.join(file)) }
    }
}

impl StoreSection {
    pub(super) fn sizes(&self) -> FjallSizes {
        FjallSizes {
            cache_bytes: self.cache_bytes,
            memtable_bytes: self.memtable_bytes,
            journals_bytes_max: self.journals_bytes_max,
            journal_bytes_ahead: self.journal_bytes_ahead,
            verify_bytes_max: self.verify_bytes_max,
        }
    }

    pub(super) fn into_config(self, folder: &Path) -> StoreConfig {
        let (sizes, durability) = (self.sizes(), self.durability);
        StoreConfig { folder: self.folder.map(|inner| folder.join(inner)), durability, sizes }
    }
}

#[cfg(feature = "zenoh")]
impl ZenohSection {
    pub(super) fn into_config(self, folder: &Path) -> ZenohConfig {
        let Self { listen, connect, mode, gossip, config_file, namespace, packet_bytes_max, insecure } = self;
        let config = ZenohConfig::new().namespace(namespace).packet_bytes_max(packet_bytes_max).insecure(insecure);
        let config = listen.into_iter().fold(config, ZenohConfig::listen);
        let config = connect.into_iter().fold(config, ZenohConfig::connect);
        let config = match mode {
            Some(Mode::Peer) => config.mode(ZenohMode::Peer),
            Some(Mode::Client) => config.mode(ZenohMode::Client),
            None => config,
        };
        let config = gossip.into_iter().fold(config, ZenohConfig::gossip);
        config_file.into_iter().fold(config, |config, file| config.config_file(folder.join(file)))
    }
}
