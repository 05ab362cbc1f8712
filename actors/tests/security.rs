//! `accompanist security`: what it makes is good, and its `check` tells what is not, also of a running system.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "tests"
)]

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;

use accompanist::prelude::*;
use accompanist::store::MemoryDisk;
use accompanist::transport::{CERTIFICATE_FILE, KEY_FILE, ZenohConfig, ZenohTransport};
use accompanist::{Members, SEAL_KEY_FILE, SealSecrets};
use tempfile::TempDir;

#[derive(Clone, Copy)]
struct Bank;
impl Role for Bank {
    const NAME: &'static str = "bank";
    type Service = ();
}

struct System(TempDir);

impl System {
    /// Two members, one of which listens.
    fn new(listen: &str) -> Self {
        let system = Self(TempDir::new().unwrap());
        system.ok(&["init", "--system", "floor"]);
        system.ok(&["add-node", "bank", "--role", "bank", "--listen", listen]);
        system.ok(&["add-node", "shop", "--role", "shop", "--start", "order", "--connect", listen]);
        system
    }

    fn folder(&self) -> PathBuf {
        self.0.path().join("security")
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_accompanist"));
        command.arg("security").args(arguments).current_dir(self.0.path());
        command.output().unwrap()
    }

    fn ok(&self, arguments: &[&str]) -> String {
        let Output { status, stdout, stderr } = self.run(arguments);
        let (stdout, stderr) = (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap());
        assert!(status.success(), "{arguments:?}: {stdout}{stderr}");
        stdout
    }

    /// What it says on both ways, when it fails.
    fn fails(&self, arguments: &[&str]) -> String {
        let Output { status, stdout, stderr } = self.run(arguments);
        assert!(!status.success(), "{arguments:?} is no failure");
        String::from_utf8([stdout, stderr].concat()).unwrap()
    }

    fn read(&self, file: &str) -> String {
        std::fs::read_to_string(self.folder().join(file)).unwrap()
    }

    async fn bank(&self, change: impl FnOnce(ZenohConfig) -> ZenohConfig) -> Node {
        let folder = self.folder().join("bank");
        let config = ZenohConfig::new().namespace("floor").config_file(folder.join("zenoh.json5"));
        let transport = ZenohTransport::open(change(config)).await.unwrap();
        let settings = Settings { advertisement_period_max: Duration::from_millis(100), ..Settings::default() };
        let builder = Node::builder(NodeId::new("bank").unwrap()).store(MemoryDisk::default().open().unwrap());
        let builder = builder.transport(transport).settings(settings).role(Bank, Arc::new(()));
        let builder = builder.members_file(folder.join("members.toml"));
        builder.seal_key_file(folder.join(SEAL_KEY_FILE)).start().await.unwrap()
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn what_it_makes_is_its_owners_alone_and_good() {
    let system = System::new("tls/0.0.0.0:7447");
    system.ok(&["add-router", "hub", "--listen", "tls/0.0.0.0:7448"]);
    let report = system.ok(&["check"]);
    assert!(report.contains("17 checks, 0 failed"), "{report}");
    for folder in ["", "bank", "shop", "hub"] {
        let folder = system.folder().join(folder);
        assert_eq!(mode(&folder), 0o700, "{}", folder.display());
        for file in std::fs::read_dir(&folder).unwrap().map(|file| file.unwrap().path()).filter(|path| path.is_file()) {
            assert_eq!(mode(&file), 0o600, "{}", file.display());
        }
    }
    assert!(
        system.read("bank/zenoh.json5").contains("floor/node/bank/shop"),
        "the one knows the other that came later"
    );
    assert_eq!(system.read("shop/members.toml"), system.read("members.toml"));
}

#[test]
fn what_is_revoked_is_in_no_rule_any_more() {
    let system = System::new("tls/0.0.0.0:7447");
    system.ok(&["add-router", "hub"]);
    system.ok(&["revoke", "shop"]);
    assert!(!system.read("bank/zenoh.json5").contains("shop"));
    assert!(system.read("bank/members.toml").contains("revoked = true"));
    system.ok(&["revoke", "hub"]);
    assert!(!system.read("bank/zenoh.json5").contains("hub") && !system.read("bank/members.toml").contains("hub"));
    assert!(system.fails(&["revoke", "shop-2"]).contains("`shop-2` is no member"));
}

#[test]
fn comments_of_an_operator_stay() {
    let system = System::new("tls/0.0.0.0:7447");
    let edited = system.read("members.toml").replace("[nodes.bank]", "# Since 2026.\n[nodes.bank]");
    std::fs::write(system.folder().join("members.toml"), edited).unwrap();
    system.ok(&["add-node", "stock", "--role", "stock"]);
    assert!(system.read("bank/members.toml").contains("# Since 2026."));
}

#[test]
fn what_cannot_be_done_says_why() {
    let system = System::new("tls/0.0.0.0:7447");
    for (arguments, word) in [
        (&["init"][..], "has an authority already"),
        (&["add-node", "shop"], "`shop` is a member already"),
        (&["add-node", "shop.example"], "has a dot"),
        (&["add-node", "Shop!"], "is no node name"),
        (&["add-router", "shop"], "`shop` is a node"),
        (&["renew", "stock"], "`stock` is no member"),
        (&["add-node", "stock", "--days", "0"], "for a day at least"),
        (&["check", "--folder", "nowhere"], "accompanist security init"),
    ] {
        let said = system.fails(arguments);
        assert!(said.contains(word), "{arguments:?}: {said}");
    }
    assert!(!system.read("members.toml").contains("stock"), "what failed has changed nothing");
}

#[test]
fn what_is_wrong_in_a_folder_is_found_and_renewed() {
    let system = System::new("tls/0.0.0.0:7447");
    let found = |words: &str| {
        let said = system.fails(&["check", "bank"]);
        assert!(said.contains(words), "{said}");
    };
    let key = system.folder().join("bank").join(KEY_FILE);
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    found("chmod go=");
    system.ok(&["renew", "bank"]);
    system.ok(&["check", "bank"]);

    std::fs::copy(system.folder().join("shop").join(KEY_FILE), &key).unwrap();
    found("it is not that of the certificate");
    std::fs::copy(
        system.folder().join("shop").join(CERTIFICATE_FILE),
        system.folder().join("bank").join(CERTIFICATE_FILE),
    )
    .unwrap();
    found("it is that of `shop`");
    let other = System::new("tls/0.0.0.0:7447");
    std::fs::copy(
        other.folder().join("bank").join(CERTIFICATE_FILE),
        system.folder().join("bank").join(CERTIFICATE_FILE),
    )
    .unwrap();
    found("another authority has signed it");
    system.ok(&["renew", "bank", "--days", "10"]);
    found("it expires in 9 days");
    system.ok(&["renew", "bank"]);

    std::fs::copy(system.folder().join("shop").join(SEAL_KEY_FILE), system.folder().join("bank").join(SEAL_KEY_FILE))
        .unwrap();
    found("they are not those in the members file");
    system.ok(&["renew", "bank"]);
    std::fs::remove_file(system.folder().join("bank").join(SEAL_KEY_FILE)).unwrap();
    found("the folder none");
    system.ok(&["renew", "bank"]);
    let seal_key = system.folder().join("bank").join(SEAL_KEY_FILE);
    std::fs::set_permissions(&seal_key, std::os::unix::fs::PermissionsExt::from_mode(0o640)).unwrap();
    found("chmod go=");
    std::fs::set_permissions(&seal_key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();

    let members = system.read("members.toml");
    std::fs::write(system.folder().join("members.toml"), format!("{members}\n[nodes.late]\n")).unwrap();
    found("the members have changed since");
    std::fs::write(system.folder().join("members.toml"), members).unwrap();
    let zenoh = system.read("bank/zenoh.json5");
    std::fs::write(system.folder().join("bank/zenoh.json5"), zenoh.replace("tls/0.0.0.0", "tcp/0.0.0.0")).unwrap();
    found("without it");
}

/// The next key is the one in use then; nobody else's changes.
#[test]
fn seal_keys_are_renewed_one_after_the_other() {
    let system = System::new("tls/0.0.0.0:7447");
    let keys = |name: &str| {
        let members = Members::from_toml("members.toml", &system.read("shop/members.toml")).unwrap();
        let keys = members.get(&NodeId::new(name).unwrap()).unwrap().seal_keys.clone();
        assert_eq!(SealSecrets::load(system.folder().join(name).join(SEAL_KEY_FILE)).unwrap().public_keys(), keys);
        keys
    };
    let (bank, shop) = (keys("bank"), keys("shop"));
    system.ok(&["renew", "bank"]);
    let renewed = keys("bank");
    assert_eq!((renewed.len(), renewed[0], renewed[2], keys("shop")), (3, bank[1], bank[0], shop));
    assert!(!bank.contains(&renewed[1]));
    // One that was made before there were any.
    let members = system.read("members.toml");
    let without: Vec<_> = members.lines().filter(|line| !line.starts_with("seal_keys")).collect();
    std::fs::write(system.folder().join("members.toml"), without.join("\n")).unwrap();
    for name in ["bank", "shop"] {
        std::fs::remove_file(system.folder().join(name).join(SEAL_KEY_FILE)).unwrap();
        system.ok(&["renew", name]);
    }
    system.ok(&["check"]);
    assert_ne!(keys("shop"), keys("bank"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_system_refuses_what_it_has_to() {
    let listen = format!("tls/127.0.0.1:{}", free_port());
    let system = System::new(&listen);
    let bank = system.bank(|config| config).await;
    let report = system.ok(&["check", "shop", "--connect", &listen, "--time", "1s"]);
    for words in [
        "its own certificate: is let in, and hears",
        "packets for `bank` with its certificate: hears nothing",
        "a stranger without TLS: is refused",
        "its name from another authority: is refused",
        "a certificate of no member: hears nothing",
    ] {
        assert!(report.contains(words), "{words}: {report}");
    }
    bank.shutdown().await;
}

/// The check is one: a port that is open to all is told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unprotected_running_system_is_reported() {
    let port = free_port();
    let (listen, plain) = (format!("tls/127.0.0.1:{port}"), format!("tcp/127.0.0.1:{port}"));
    let system = System::new(&listen);
    let open = |config: ZenohConfig| {
        // As somebody does who wants to be rid of certificates "for a moment".
        drop(config);
        ZenohConfig::new().namespace("floor").insecure(true).listen(&plain)
    };
    let bank = system.bank(open).await;
    let report = system.fails(&["check", "shop", "--connect", &listen, "--time", "1s"]);
    assert!(report.contains("FAILED  shop: a stranger without TLS: is given"), "{report}");
    bank.shutdown().await;
}
