//! The HTTP door of the administrative interface: probes, metrics, requests, and who may do what.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "tests"
)]

use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use accompanist::AdminSettings;
use accompanist::prelude::*;
use accompanist::store::MemoryDisk;
use accompanist::transport::LocalNetwork;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[derive(Role)]
#[role(name = "shop")]
struct Shop;

struct Wait;
impl Choreography for Wait {
    const NAME: &'static str = "wait";
    type Roles = (Shop,);
    type Input = At<Shop, u32>;
    type Output = At<Shop, u32>;
    async fn run(&self, ctx: &Context<Self::Roles>, _: At<Shop, u32>) -> Result<At<Shop, u32>, Abort> {
        ctx.signal(Shop, "approved").await
    }
}

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

async fn node(listen: &str, token_file: Option<PathBuf>) -> Result<Node, NodeError> {
    let admin = AdminSettings { http_listen: listen.into(), http_token_file: token_file, ..AdminSettings::default() };
    let settings = Settings { admin, ..Settings::default() };
    let builder = Node::builder(NodeId::new("shop-1").unwrap()).store(MemoryDisk::default().open().unwrap());
    let builder = builder.transport(LocalNetwork::new()).settings(settings);
    builder.role(Shop, Arc::new(())).choreography(Wait).start().await
}

/// Sends a request as it is, and returns the status and the body.
async fn send(address: &str, request: &str) -> (u16, String) {
    let asked = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).await.unwrap();
        let (head, body) = response.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    };
    tokio::time::timeout(Duration::from_mins(1), asked).await.expect("no response")
}

async fn get(address: &str, path: &str) -> (u16, String) {
    send(address, &format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")).await
}

async fn post(address: &str, path: &str, headers: &[&str], body: &str) -> (u16, String) {
    let (headers, length) = (headers.join("\r\n"), body.len());
    let head = format!("POST {path} HTTP/1.1\r\n{headers}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
    send(address, &format!("{head}{body}")).await
}

#[tokio::test]
async fn a_node_is_read_over_http_and_changed_only_with_the_token() {
    let (address, folder) = (free_address(), TempDir::new().unwrap());
    let file = folder.path().join("token");
    std::fs::write(&file, format!("{TOKEN}\n")).unwrap();
    let node = node(&address, Some(file)).await.unwrap();
    assert_eq!(get(&address, "/livez").await.0, 200);
    let session = node.start(Wait, 1).await.unwrap();
    let host = format!("Host: {address}");
    let usual = [host.as_str(), "Content-Type: application/json"];

    let (status, body) = post(&address, "/v1/read", &usual, r#"{"version":1,"request":{"sessions":{}}}"#).await;
    assert_eq!(status, 200, "{body}");
    assert!(body.contains(&session.id().to_string()) && body.contains(r#""choreography":"wait""#), "{body}");

    let drain = r#"{"version":1,"by":"ada","request":{"node":"drain"}}"#;
    for authorization in ["X: y", "Authorization: Bearer guessed", "Authorization: Bearer "] {
        let (status, body) = post(&address, "/v1/write", &[usual[0], usual[1], authorization], drain).await;
        assert!(status == 403 && body.contains("bearer token is missing or wrong"), "{status} {body}");
    }
    let bearer = format!("Authorization: Bearer {TOKEN}");
    let (status, body) = post(&address, "/v1/write", &[usual[0], usual[1], &bearer], drain).await;
    assert_eq!(status, 200, "{body}");
    let (status, body) = get(&address, "/readyz").await;
    assert!(status == 503 && body.contains("it drains"), "{status} {body}");
    assert_eq!(get(&address, "/livez").await.0, 200, "a node that drains is not to be restarted");
    let (_, body) = post(&address, "/v1/read", &usual, r#"{"version":1,"request":{"audit":{}}}"#).await;
    assert!(body.contains(r#""caller":"http","by":"ada""#) && body.contains("drain"), "{body}");

    let (status, body) = get(&address, "/metrics").await;
    assert!(status == 200 && body.contains("accompanist_sessions_started_total 1"), "{status} {body}");
    assert!(body.contains("accompanist_sync_seconds_bucket"), "{body}");
    node.shutdown().await;
}

#[tokio::test]
async fn requests_that_are_not_understood_say_why() {
    let address = free_address();
    let node = node(&address, None).await.unwrap();
    let host = format!("Host: {address}");
    let usual = [host.as_str(), "Content-Type: application/json"];
    for (path, body, status, word) in [
        ("/v1/read", "{", 400, "EOF"),
        ("/v1/read", r#"{"version":2,"request":"node"}"#, 400, "version 1"),
        ("/v1/read", r#"{"version":1,"request":"weather"}"#, 400, "unknown variant"),
        ("/v1/read", r#"{"version":1,"request":{"session":{"session":"x"}}}"#, 400, "not the id of a session"),
        ("/v1/read", r#"{"version":1,"request":{"sessions":{"after":"x"}}}"#, 400, "`next`"),
        ("/v1/guess", "{}", 404, "/v1/read"),
        ("/v1/write", r#"{"version":1,"request":{"node":"drain"}}"#, 403, "http_token_file"),
    ] {
        let (found, text) = post(&address, path, &usual, body).await;
        assert!(found == status && text.contains(word), "{path} {body}: {found} {text}");
    }
    // What a browser's page from elsewhere would send.
    let node_request = r#"{"version":1,"request":"node"}"#;
    for headers in [&[host.as_str(), "Content-Type: text/plain"][..], &["Host: evil.example", usual[1]]] {
        let (found, text) = post(&address, "/v1/read", headers, node_request).await;
        assert_eq!(found, 403, "{text}");
    }
    let large = format!(r#"{{"version":1,"request":"node","by":"{}"}}"#, "x".repeat(100_000));
    assert_eq!(post(&address, "/v1/read", &usual, &large).await.0, 413);
    node.shutdown().await;
}

#[tokio::test]
async fn an_address_that_cannot_be_served_stops_the_start_with_what_to_do() {
    let folder = TempDir::new().unwrap();
    let short = folder.path().join("token");
    std::fs::write(&short, "secret").unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken_address = taken.local_addr().unwrap().to_string();
    for (listen, token, words) in [
        ("here", None, ["admin.http_listen", "not an address"]),
        ("127.0.0.1:0", Some(folder.path().join("none")), ["token file", "cannot be read"]),
        ("127.0.0.1:0", Some(short), ["fewer than 16", "openssl"]),
        (&taken_address, None, ["cannot be listened on", "another one"]),
    ] {
        let error = node(listen, token).await.unwrap_err().to_string();
        assert!(words.iter().all(|word| error.contains(word)), "{listen}: {error}");
    }
}
