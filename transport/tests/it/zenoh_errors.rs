//! What an operator reads when Zenoh cannot be opened.

use std::path::PathBuf;

use accompanist_core::contract::TransportError;
use accompanist_transport::{ZenohConfig, ZenohMode, ZenohTransport};

use crate::zenoh::{free_endpoint, open};

enum Kind {
    Config,
    Open,
}

/// Opening with `config` fails with an error of `kind` that has all of `words`.
async fn check(config: ZenohConfig, kind: Kind, words: &[&str]) {
    let error = ZenohTransport::open(config).await.err().expect("this cannot be opened");
    match kind {
        Kind::Config => assert!(matches!(error, TransportError::Config(_)), "{error:?}"),
        Kind::Open => assert!(matches!(error, TransportError::Open(_)), "{error:?}"),
    }
    let text = error.to_string();
    for word in words {
        assert!(text.contains(word), "`{word}` is not in: {text}");
    }
    assert!(!text.contains(".rs:"), "a place in someone's source: {text}");
}

/// A configuration file that is removed at the end of a test.
struct ConfigFile(PathBuf);

impl ConfigFile {
    fn new(name: &str, text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("accompanist-{}-{name}.json5", std::process::id()));
        std::fs::write(&path, text).unwrap();
        Self(path)
    }
}

impl Drop for ConfigFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_configuration_file_that_cannot_be_used_is_named() {
    let garbage = ConfigFile::new("garbage", "{ mode: 'peer', listen: ");
    check(ZenohConfig::new().config_file(&garbage.0), Kind::Config, &["garbage.json5"]).await;
    let unknown = ConfigFile::new("unknown", "{ mode: 'conductor' }");
    check(ZenohConfig::new().config_file(&unknown.0), Kind::Config, &["unknown.json5"]).await;
    check(ZenohConfig::new().config_file("/no/such/file.json5"), Kind::Config, &["/no/such/file.json5"]).await;
}

/// Peers would take the session that is opened after it for the one that they still have.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_id_in_the_configuration_file_is_refused() {
    let file = ConfigFile::new("id", "{ id: 'abcdef' }");
    check(ZenohConfig::new().config_file(&file.0), Kind::Config, &["`id`", "leave it out"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_endpoint_is_named_with_an_example() {
    for bad in ["", "tcp", "127.0.0.1:7447", "tcp/127.0.0.1", "tcp/127.0.0.1:99999", "tcp/:7447"] {
        let words = [format!("`{bad}`"), "such as `tcp/".into()];
        let words = words.each_ref().map(String::as_str);
        check(ZenohConfig::new().listen(bad), Kind::Config, &words).await;
        check(ZenohConfig::new().connect(bad), Kind::Config, &words).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_protocol_is_an_error() {
    let listen = free_endpoint();
    check(ZenohConfig::new().listen("pigeon/127.0.0.1:7447"), Kind::Open, &["pigeon"]).await;
    check(ZenohConfig::new().listen(listen).connect("pigeon/127.0.0.1:7447"), Kind::Open, &["pigeon"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_in_use_is_named() {
    let endpoint = free_endpoint();
    let first = open(ZenohConfig::new().listen(&endpoint)).await;
    let words = [endpoint.as_str(), "which no other process uses"];
    check(ZenohConfig::new().listen(&endpoint), Kind::Open, &words).await;
    first.close().await;
    open(ZenohConfig::new().listen(&endpoint)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_without_a_router_gets_an_error() {
    let nobody = free_endpoint();
    let config = ZenohConfig::new().mode(ZenohMode::Client).connect(&nobody);
    check(config, Kind::Open, &[&nobody, "router"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_is_one_chunk_without_wildcards() {
    for bad in ["", "a/b", "*", "a$b", "a#b", "a?", "@a", &"x".repeat(65)] {
        check(ZenohConfig::new().namespace(bad), Kind::Config, &["namespace"]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_packet_limit_has_to_be_sensible() {
    check(ZenohConfig::new().packet_bytes_max(10), Kind::Config, &["packet_bytes_max"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_go_over_those_of_the_file() {
    let (of_file, explicit) = (free_endpoint(), free_endpoint());
    let file = ConfigFile::new("over", &format!("{{ mode: 'peer', listen: {{ endpoints: ['{of_file}'] }} }}"));
    let _explicit = open(ZenohConfig::new().config_file(&file.0).listen(&explicit)).await;
    // The address of the file is free, that of the builder is not.
    let _of_file = open(ZenohConfig::new().config_file(&file.0)).await;
    check(ZenohConfig::new().listen(&explicit), Kind::Open, &[&explicit]).await;
    check(ZenohConfig::new().listen(&of_file), Kind::Open, &[&of_file]).await;
}
