//! The command line against running nodes over Zenoh: what an operator sees and does without the source.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "tests"
)]

use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use accompanist::prelude::*;
use accompanist::store::MemoryDisk;
use accompanist::transport::{ZenohConfig, ZenohTransport};
use tempfile::TempDir;

#[derive(Role)]
#[role(name = "shop")]
struct Shop;

#[derive(Role)]
#[role(name = "bank", service = Bankers)]
struct Bank;

/// A bank that cannot pay back until somebody has repaired it.
#[derive(Default)]
struct Bankers {
    is_repaired: AtomicBool,
    refunds: AtomicU32,
}

struct Charge;
impl Transaction for Charge {
    const NAME: &'static str = "charge";
    type Role = Bank;
    type Input = u32;
    type Output = u32;
    async fn commit(&self, _: &Local<Bank>, amount: &u32) -> Result<u32, Abort> {
        Ok(*amount)
    }
    async fn compensate(&self, here: &Local<Bank>, _: &u32, _: &u32) -> Result<(), Retry> {
        if !here.service().is_repaired.load(Ordering::SeqCst) {
            return Err(Retry::needs_operator("the payment service has no `Refund`"));
        }
        here.service().refunds.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

/// The bank is charged, and then the shop has no goods.
struct Order;
impl Choreography for Order {
    const NAME: &'static str = "order";
    type Roles = (Shop, Bank);
    type Input = At<Shop, u32>;
    type Output = At<Shop, ()>;
    async fn run(&self, ctx: &Context<Self::Roles>, amount: At<Shop, u32>) -> Result<At<Shop, ()>, Abort> {
        let bill = ctx.comm(Shop, Bank, &amount).await?;
        let paid = ctx.transact(Charge, &bill).await?;
        ctx.comm(Bank, Shop, &paid).await?;
        ctx.abort(Abort::new("sold-out", "there is none left")).await
    }
}

/// Waits at the bank for a signal that does not come.
struct Wait;
impl Choreography for Wait {
    const NAME: &'static str = "wait";
    type Roles = (Shop, Bank);
    type Input = At<Shop, u32>;
    type Output = At<Shop, u32>;
    async fn run(&self, ctx: &Context<Self::Roles>, amount: At<Shop, u32>) -> Result<At<Shop, u32>, Abort> {
        ctx.comm(Shop, Bank, &amount).await?;
        let approved: At<Bank, u32> = ctx.signal(Bank, "approved").await?;
        ctx.comm(Bank, Shop, &approved).await
    }
}

struct System {
    shop: Node,
    bank: Node,
    bankers: Arc<Bankers>,
    endpoint: String,
}

fn free_endpoint(protocol: &str) -> String {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    format!("{protocol}/127.0.0.1:{port}")
}

async fn node(
    name: &str,
    zenoh: ZenohConfig,
    make: impl FnOnce(accompanist::NodeBuilder) -> accompanist::NodeBuilder,
) -> Node {
    let transport = ZenohTransport::open(zenoh).await.unwrap();
    let settings = Settings { advertisement_period_max: Duration::from_millis(100), ..Settings::default() };
    let builder = Node::builder(NodeId::new(name).unwrap()).store(MemoryDisk::default().open().unwrap());
    let builder = builder.transport(transport).settings(settings).choreography(Order).choreography(Wait);
    make(builder).start().await.unwrap()
}

impl System {
    async fn new() -> Self {
        let endpoint = free_endpoint("tcp");
        let bankers = Arc::new(Bankers::default());
        let bank = node("bank-1", ZenohConfig::new().listen(&endpoint), |it| it.role(Bank, bankers.clone())).await;
        let shop = node("shop-1", ZenohConfig::new().connect(&endpoint), |it| it.role(Shop, Arc::new(()))).await;
        Self { shop, bank, bankers, endpoint }
    }

    /// Asks with the file of the bank's node, which the tool connects to.
    async fn run_with_config(&self, arguments: &[&str]) -> Output {
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("bank.toml");
        let zenoh = format!("[zenoh]\nlisten = [\"{}\"]\nconnect = [\"tcp/127.0.0.1:1\"]\n", self.endpoint);
        std::fs::write(&file, zenoh).unwrap();
        run(arguments, &["--config", &file.display().to_string()]).await
    }

    async fn run(&self, arguments: &[&str]) -> Output {
        run(arguments, &["--connect", &self.endpoint]).await
    }

    async fn ok(&self, arguments: &[&str]) -> String {
        let Output { status, stdout, stderr } = self.run(arguments).await;
        let (stdout, stderr) = (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap());
        assert!(status.success(), "{arguments:?} gives {status}: {stdout}{stderr}");
        stdout
    }

    /// Repeats a command until its output has a word.
    async fn until(&self, arguments: &[&str], word: &str) -> String {
        loop {
            let Output { stdout, stderr, .. } = self.run(arguments).await;
            let text = String::from_utf8([stdout, stderr].concat()).unwrap();
            if text.contains(word) {
                return text;
            }
        }
    }
}

async fn run(arguments: &[&str], connection: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_accompanist"));
    command.args(arguments).args(connection);
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_mins(2), what).await.expect("it never came to that")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_finds_the_sessions_in_trouble_and_ends_them_in_one_command() {
    let system = System::new().await;
    let mut sessions = Vec::new();
    for amount in 1..=3 {
        sessions.push(within(async { system.shop.start(Order, amount).await.unwrap() }).await);
    }
    within(async {
        let nodes = system.until(&["nodes"], "shop-1").await;
        assert!(nodes.contains("bank-1") && nodes.contains("serving"), "{nodes}");
        // Nobody at the shop's node had to know where the trouble is.
        let mut listed = String::new();
        while listed.lines().filter(|line| line.contains("needs operator")).count() < 3 {
            listed = system.ok(&["sessions", "--in-trouble"]).await;
        }
        assert!(listed.contains("bank@bank-1") && listed.contains("the payment service has no `Refund`"), "{listed}");
        let doctor = system.run(&["doctor"]).await;
        assert_eq!(doctor.status.code(), Some(1));
        assert!(String::from_utf8(doctor.stdout).unwrap().contains("3 parts of sessions need help"));

        let first = sessions[0].id().to_string();
        let shown = system.ok(&["show", &first, "--journal"]).await;
        for word in ["order v1", "shop@shop-1", "bank@bank-1", "step `charge`", "there is none left", "Committed"] {
            assert!(shown.contains(word), "{word}: {shown}");
        }

        let traced = system.ok(&["trace", &first]).await;
        for word in ["shop", "bank-1", "charge", "sold-out"] {
            assert!(traced.contains(word), "{word}: {traced}");
        }
        assert!(system.ok(&["trace", &first, "--mermaid"]).await.starts_with("sequenceDiagram"));
        assert!(system.ok(&["trace", &first, "--svg"]).await.starts_with("<svg"));

        // It is tried again in vain, then somebody pays back by hand.
        let tried = system.ok(&["retry", &first]).await;
        assert!(tried.contains("1 step tried again"), "{tried}");
        system.until(&["sessions", "--in-trouble"], &first[..8]).await;
        let planned = system.ok(&["resolve", "--all", "--in-trouble", "--choreography", "order", "--dry-run"]).await;
        assert!(planned.contains("3 would be acted on; nothing was changed"), "{planned}");
        let unsure = system.run(&["resolve", "--all", "--in-trouble"]).await;
        assert_eq!(unsure.status.code(), Some(1));
        assert!(String::from_utf8(unsure.stderr).unwrap().contains("--yes"));
        let without = system.run(&["resolve", "--all", "--yes"]).await;
        assert!(String::from_utf8(without.stderr).unwrap().contains("give at least one"));
        let resolved = system.ok(&["resolve", "--all", "--in-trouble", "--choreography", "order", "--yes"]).await;
        assert!(resolved.contains("3 done, 0 refused"), "{resolved}");
        for session in sessions {
            let Err(SessionError::Aborted(abort)) = session.settled().await else { panic!("it was sold out") };
            assert_eq!(abort.code(), "sold-out");
        }
        assert_eq!(system.bankers.refunds.load(Ordering::SeqCst), 0, "it was paid back by hand");
        let audit = system.ok(&["audit"]).await;
        assert!(audit.contains("resolve") && audit.contains("3 done") && audit.contains("operator ("), "{audit}");
        assert!(!audit.contains("dry_run\":true"), "what changes nothing is not audited");
        system.until(&["doctor"], "all is well").await;
    })
    .await;
    system.shop.shutdown().await;
    system.bank.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_are_filtered_and_cancelled_and_nodes_drained() {
    let system = System::new().await;
    let session = within(async { system.shop.start(Wait, 7).await.unwrap() }).await;
    within(async {
        let id = session.id().to_string();
        system.until(&["sessions", "--role", "bank"], "signal `approved`").await;
        let with_config = system.run_with_config(&["nodes"]).await;
        let text = String::from_utf8([with_config.stdout, with_config.stderr].concat()).unwrap();
        assert!(with_config.status.success() && text.contains("bank-1"), "{text}");
        // It waits so long that it leaves memory, and still says for what.
        while system.bank.operator().instances() + system.shop.operator().instances() > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let waits = system.ok(&["sessions", "--role", "bank", "--waits-longer-than", "500ms"]).await;
        assert!(waits.contains("signal `approved`"), "{waits}");
        let waits = system.ok(&["sessions", "--role", "bank", "--waits-longer-than", "1h"]).await;
        assert!(!waits.contains("wait v1"), "{waits}");
        let json = system.ok(&["sessions", "--json", "--choreography", "wait"]).await;
        let parts: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(parts.as_array().unwrap().len(), 2, "{json}");
        assert_eq!(parts[0]["session"], id.as_str());
        let none = system.ok(&["sessions", "--choreography", "order"]).await;
        assert!(!none.contains(&id[..8]), "{none}");
        let none = system.ok(&["sessions", "--older-than", "1h"]).await;
        assert!(!none.contains(&id[..8]), "{none}");

        // From the beginning of its id; the command goes to the node that may cancel.
        let cancelled = system.ok(&["cancel", &id[..20], "--reason", "the customer has left"]).await;
        assert!(cancelled.contains("cancelled") && cancelled.contains("shop-1"), "{cancelled}");
        let Err(SessionError::Aborted(abort)) = session.settled().await else { panic!("it was cancelled") };
        assert!(abort.to_string().contains("the customer has left"), "{abort}");
        let over = system.run(&["show", &id]).await;
        assert_eq!(over.status.code(), Some(1));

        system.ok(&["drain", "bank-1"]).await;
        system.until(&["nodes"], "draining").await;
        system.ok(&["undrain", "bank-1"]).await;
        let refused = system.run(&["forget", "--at", "shop-1", "nobody"]).await;
        assert!(String::from_utf8(refused.stderr).unwrap().contains("no node `nobody` is known here"));
        assert_eq!(refused.status.code(), Some(1));

        // A node that is down is shown as away by the others.
        system.shop.shutdown().await;
        let away = system.until(&["nodes"], "does not answer").await;
        assert!(away.contains("shop-1") && away.contains("away"), "{away}");
    })
    .await;
    system.bank.shutdown().await;
}

#[test]
fn without_a_node_the_command_line_says_what_to_do() {
    let output =
        Command::new(env!("CARGO_BIN_EXE_accompanist")).arg("nodes").env_remove("ACCOMPANIST_CONNECT").output();
    let output = output.unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("--connect tcp/HOST:PORT"));
}

fn security(folder: &Path, arguments: &[&str]) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_accompanist"));
    let output = command.arg("security").args(arguments).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_members_only_an_operators_certificate_is_answered() {
    let (folder, listen) = (TempDir::new().unwrap(), free_endpoint("tls"));
    let add = |arguments: &[&str]| security(folder.path(), &[&["add-node"], arguments].concat());
    security(folder.path(), &["init", "--system", "floor"]);
    add(&["bank-1", "--role", "bank", "--listen", &listen]);
    add(&["ops", "--operator", "--connect", &listen]);
    add(&["clerk", "--connect", &listen]);
    let of = |name: &str, file: &str| folder.path().join("security").join(name).join(file);
    let zenoh = ZenohConfig::new().namespace("floor").config_file(of("bank-1", "zenoh.json5"));
    let members = of("bank-1", "members.toml");
    let seal = of("bank-1", accompanist::SEAL_KEY_FILE);
    let bankers = Arc::new(Bankers::default());
    let bank = node("bank-1", zenoh, |it| it.role(Bank, bankers).members_file(members).seal_key_file(seal)).await;
    within(async {
        let ask = async |name: &str, arguments: &[&str]| {
            let file = of(name, "zenoh.json5").display().to_string();
            let Output { status, stdout, stderr } = run(arguments, &["--namespace", "floor", "--zenoh", &file]).await;
            (status.code(), String::from_utf8([stdout, stderr].concat()).unwrap())
        };
        let (code, text) = ask("ops", &["nodes"]).await;
        assert!(code == Some(0) && text.contains("bank-1"), "{text}");
        let (code, text) = ask("ops", &["drain", "bank-1"]).await;
        assert_eq!(code, Some(0), "{text}");
        for arguments in [&["nodes"][..], &["undrain", "bank-1"]] {
            let (code, text) = ask("clerk", arguments).await;
            assert!(code != Some(0) && text.contains("is not an operator's in the members file"), "{text}");
        }
        let (_, text) = ask("ops", &["audit"]).await;
        assert!(text.contains("drain") && text.contains("ops (") && !text.contains("clerk"), "{text}");
    })
    .await;
    bank.shutdown().await;
}
