//! A node out of a file: its name, its store and its connections.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use accompanist::contract::StoreError;
use accompanist::prelude::*;
use accompanist::store::MemoryDisk;
use accompanist::transport::LocalNetwork;
use accompanist::{ConfigError, NodeBuilder, NodeConfig, StoreConfig};

use crate::support::{on_disk, within};
use crate::trade::Front;

fn read(text: &str, variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Config::from_toml("etc/shop.toml", text, variables)
}

/// Writes a file into a folder and loads it from there.
fn load(folder: &Path, text: &str) -> Config {
    let file = folder.join("accompanist.toml");
    fs::write(&file, text).unwrap();
    Config::load(file).unwrap()
}

async fn builder(config: Config) -> NodeBuilder {
    Node::from_config(config).await.unwrap().role(Front, Arc::new(()))
}

async fn refused(config: Config) -> NodeError {
    match within(Node::from_config(config)).await {
        Ok(builder) => within(builder.role(Front, Arc::new(())).start()).await.unwrap_err(),
        Err(error) => error,
    }
}

#[test]
fn each_part_of_a_node_can_come_from_a_file_and_from_variables() {
    let text = "seal_key_file = \"seal.key\"\n[node]\nname = \"shop-1\"\nmembers_file = \"/etc/members.toml\"\n\
                [store]\nfolder = \"../data\"\ndurability = \"process\"\ncache_bytes = 7\n";
    let config = read(text, &[]).unwrap();
    assert_eq!(config.settings.seal_key_file.as_deref(), Some(Path::new("etc/seal.key")));
    assert_eq!(config.node.name.as_ref().map(NodeId::as_str), Some("shop-1"));
    assert_eq!(config.node.members_file.as_deref(), Some(Path::new("/etc/members.toml")));
    let StoreConfig { folder, durability, sizes, .. } = config.store;
    assert_eq!((folder.as_deref(), durability), (Some(Path::new("etc/../data")), Durability::Process));
    assert_eq!(sizes.cache_bytes, 7);

    let variables = [
        ("ACCOMPANIST__NODE__NAME", "7"),
        ("ACCOMPANIST__STORE__FOLDER", "/data"),
        ("ACCOMPANIST__STORE__CACHE_BYTES", "9"),
    ];
    let config = read(text, &variables).unwrap();
    assert_eq!(config.node.name.as_ref().map(NodeId::as_str), Some("7"));
    assert_eq!(config.store.folder.as_deref(), Some(Path::new("/data")));
    assert_eq!(config.store.sizes.cache_bytes, 9);

    let config = read("", &[]).unwrap();
    assert_eq!((config.node, config.store), (NodeConfig::default(), StoreConfig::default()));
}

#[tokio::test]
async fn a_node_lives_in_the_folder_beside_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let text = "[node]\nname = \"shop-1\"\n[store]\nfolder = \"data/shop\"\ndurability = \"process\"\n";
    let start = async || {
        let builder = builder(load(folder.path(), text)).await;
        within(builder.transport(LocalNetwork::new()).start()).await.unwrap()
    };
    let node = start().await;
    assert_eq!(node.name().as_str(), "shop-1");
    assert!(folder.path().join("data/shop/version").exists(), "the store is elsewhere");
    let error = refused(load(folder.path(), text)).await;
    assert!(matches!(error, NodeError::Store(StoreError::InUse { .. })), "{error}");
    node.shutdown().await;
    start().await.shutdown().await;
}

#[tokio::test]
async fn what_a_file_does_not_give_is_given_in_rust() {
    let config = || read("\ninstances_max = 7\n[node]\nname = \"shop-1\"\n", &[]).unwrap();
    let error = refused(config()).await;
    assert_eq!(error.to_string(), "the node lacks a store: call `store` of its builder");
    let disk = MemoryDisk::default();
    let given = builder(config()).await.store(disk.open().unwrap()).transport(LocalNetwork::new());
    within(given.start()).await.unwrap().shutdown().await;
    // Settings that are given twice are refused, too.
    let twice = builder(config()).await.settings(Settings::default());
    let error = within(twice.start()).await.unwrap_err().to_string();
    assert!(error.contains("two sets of settings") && error.contains("etc/shop.toml"), "{error}");
}

#[tokio::test]
async fn a_node_without_a_name_is_refused_with_the_key() {
    let error = refused(read("[store]\nfolder = \"data\"\n", &[]).unwrap()).await;
    assert_eq!(
        error.to_string(),
        "etc/shop.toml: node.name: the node lacks a name: give one, the same after each start (for example: name = \"shop-1\")"
    );
}

#[tokio::test]
async fn a_file_with_a_whole_node_is_not_taken_for_settings() {
    for (text, place) in [
        ("[node]\nname = \"shop-1\"\n", "etc/shop.toml:1: node: "),
        ("\n[store]\nfolder = \"data\"\n", "etc/shop.toml:2: store: "),
        #[cfg(feature = "zenoh")]
        ("\n\n[zenoh]\n", "etc/shop.toml:3: zenoh: "),
    ] {
        let builder = on_disk("node", &MemoryDisk::default(), LocalNetwork::new()).role(Front, Arc::new(()));
        let error = within(builder.config(read(text, &[]).unwrap()).start()).await.unwrap_err().to_string();
        assert!(error.starts_with(place) && error.contains("`Node::from_config`"), "{error}");
    }
}

#[cfg(not(feature = "zenoh"))]
#[test]
fn without_zenoh_its_section_is_refused() {
    let error = read("\n[zenoh]\nlisten = [\"tcp/127.0.0.1:7447\"]\nmode = \"peer\"\n", &[]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "etc/shop.toml:2: zenoh: this binary is built without Zenoh: build `accompanist` with its feature `zenoh`, or leave the \
         section out"
    );
}

#[cfg(feature = "zenoh")]
mod zenoh {
    use super::*;
    use crate::support::{free_endpoint, until};

    fn check(text: &str, expected: &[&str]) {
        let error = read(text, &[]).unwrap_err();
        let found: Vec<String> = error.mistakes().iter().map(ToString::to_string).collect();
        assert_eq!(found, expected, "of {text}");
    }

    #[tokio::test]
    async fn two_nodes_out_of_files_are_connected() {
        let folder = tempfile::tempdir().unwrap();
        let endpoint = free_endpoint();
        let text = |name: &str, zenoh: &str| {
            format!(
                "[node]\nname = \"{name}\"\n[store]\nfolder = \"{name}\"\n[zenoh]\nnamespace = \"configured\"\n{zenoh}"
            )
        };
        let one = load(folder.path(), &text("one", &format!("listen = [\"{endpoint}\"]\n")));
        let one = within(builder(one).await.start()).await.unwrap();
        let two = load(folder.path(), &text("two", &format!("connect = [\"{endpoint}\"]\nmode = \"client\"\n")));
        let two = within(builder(two).await.start()).await.unwrap();
        until("the nodes know each other", || two.operator().peers().iter().any(|peer| peer.node.as_str() == "one"))
            .await;
        one.shutdown().await;
        two.shutdown().await;
    }

    #[test]
    fn mistakes_in_addresses_are_told_one_by_one() {
        check(
            "[zenoh]\nlisten = [\"tcp/127.0.0.1\", \"7447\"]\nconnect = [\"tcp/shop.example:99999\"]\nnamespace = \"A b\"\npacket_bytes_max = 7\n",
            &[
                "etc/shop.toml:2: zenoh.listen: the endpoint `tcp/127.0.0.1` has no port number from 0 to 65535: write it as \
                 <protocol>/<address>, such as `tcp/192.168.1.7:7447` (for example: listen = [\"tcp/127.0.0.1:7447\"])",
                "etc/shop.toml:2: zenoh.listen: the endpoint `7447` is malformed: write it as <protocol>/<address>, such as \
                 `tcp/192.168.1.7:7447` (for example: listen = [\"tcp/127.0.0.1:7447\"])",
                "etc/shop.toml:3: zenoh.connect: the endpoint `tcp/shop.example:99999` has no port number from 0 to 65535: write \
                 it as <protocol>/<address>, such as `tcp/192.168.1.7:7447` (for example: connect = [\"tcp/127.0.0.1:7448\"])",
                "etc/shop.toml:4: zenoh.namespace: `A b` is no namespace: use a to z, 0 to 9, `-`, `_` and `.`, first a letter or \
                 a digit (for example: namespace = \"accompanist\")",
                "etc/shop.toml:5: zenoh.packet_bytes_max: 7 is too little: give 1024 or more (for example: packet_bytes_max = \
                 1048576)",
            ],
        );
        check(
            "[zenoh]\nlisten = \"tcp/127.0.0.1:7447\"\nmode = \"router\"\ngossip = \"yes\"\nport = 7\n",
            &[
                "etc/shop.toml:2: zenoh.listen: it is string \"tcp/127.0.0.1:7447\", and has to be a list in brackets (for \
                 example: listen = [\"tcp/127.0.0.1:7447\"])",
                "etc/shop.toml:3: zenoh.mode: there is no such word; there are: peer, client (for example: mode = \"peer\")",
                "etc/shop.toml:4: zenoh.gossip: it is string \"yes\", and has to be `true` or `false` (for example: gossip = true)",
                "etc/shop.toml:5: zenoh.port: there is no such key; there are: listen, connect, mode, gossip, config_file, \
                 namespace, packet_bytes_max, insecure",
            ],
        );
    }

    #[test]
    fn sections_that_contradict_each_other_are_refused() {
        check(
            "system = \"shop\"\n[limits]\npayload_bytes_max = 65536\n[zenoh]\nmode = \"client\"\npacket_bytes_max = 65536\nlisten = \
             [\"tcp/127.0.0.1:7447\", \"tcp/127.0.0.1:7447\"]\n",
            &[
                "etc/shop.toml:1: system: it is `shop`, and `zenoh.namespace` is `accompanist`: give both the same, or leave it \
                 out (for example: system = \"accompanist\")",
                "etc/shop.toml:3: limits.payload_bytes_max: 65536 is not below `zenoh.packet_bytes_max`, 65536: a message travels \
                 in one packet; lower the one, or raise the other at all nodes (for example: payload_bytes_max = 32768)",
                "etc/shop.toml:4: zenoh.connect: a client (`zenoh.mode`) reaches others through a router or a peer: give its \
                 address (for example: connect = [\"tcp/127.0.0.1:7448\"])",
                "etc/shop.toml:7: zenoh.listen: `tcp/127.0.0.1:7447` is given twice: an address can be used once, leave one out \
                 (for example: listen = [\"tcp/127.0.0.1:7447\"])",
            ],
        );
    }
}
