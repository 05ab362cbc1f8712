//! A system with members: certificates of both ends, and rules by which each speaks in its own name alone. Those who
//! attack it are real Zenoh clients. Next: `../../src/zenoh/access.rs`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use accompanist_core::contract::{Exposure, Transport, TransportError};
use accompanist_core::id::NodeId;
use accompanist_transport::{CA_FILE, CERTIFICATE_FILE, KEY_FILE, ZenohAccess, ZenohConfig, ZenohMode, ZenohTransport};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tempfile::TempDir;
use tokio::time::timeout;
use zenoh::sample::Locality;
use zenoh::{Config, Session};

use crate::recorder::Member;
use crate::zenoh::{free_endpoint, open};

/// Ends a test that hangs.
const SAFETY: Duration = Duration::from_mins(1);
const RESEND: Duration = Duration::from_millis(50);
/// How often something forbidden is tried, each time beside something allowed that arrives.
const TRIES: u8 = 20;

/// An authority, the members that it has signed, and where they listen.
struct System {
    folder: TempDir,
    issuer: Issuer<'static, KeyPair>,
    authority: String,
    members: Vec<NodeId>,
    routers: Vec<NodeId>,
    endpoints: Vec<String>,
}

fn node(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

/// An authority, and its certificate.
fn authority() -> (Issuer<'static, KeyPair>, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let pem = params.self_signed(&key).unwrap().pem();
    (Issuer::from_ca_cert_pem(&pem, key).unwrap(), pem)
}

impl System {
    fn new(names: &[&str]) -> Self {
        let (issuer, authority) = authority();
        let endpoints = names.iter().map(|_| free_endpoint().replace("tcp/", "tls/")).collect();
        let members = names.iter().map(|name| node(name)).collect();
        let system =
            Self { folder: tempfile::tempdir().unwrap(), issuer, authority, members, routers: Vec::new(), endpoints };
        system.members.iter().for_each(|name| system.issue(&system.path(name), &system.issuer, name));
        system.members.iter().for_each(|name| system.write(name, &system.access()));
        system
    }

    fn path(&self, name: &NodeId) -> PathBuf {
        self.folder.path().join(name.as_str())
    }

    fn access(&self) -> ZenohAccess {
        ZenohAccess { namespace: "floor".into(), members: self.members.clone(), routers: self.routers.clone() }
    }

    /// A certificate of that name in `folder`.
    fn issue(&self, folder: &Path, issuer: &Issuer<'static, KeyPair>, name: &NodeId) {
        std::fs::create_dir_all(folder).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name.as_str());
        let certificate = params.signed_by(&key, issuer).unwrap();
        std::fs::write(folder.join(CERTIFICATE_FILE), certificate.pem()).unwrap();
        std::fs::write(folder.join(KEY_FILE), key.serialize_pem()).unwrap();
        std::fs::write(folder.join(CA_FILE), &self.authority).unwrap();
    }

    fn write(&self, name: &NodeId, access: &ZenohAccess) {
        let place = self.members.iter().position(|member| member == name).unwrap();
        let (before, from) = self.endpoints.split_at(place);
        let file = access.node_file(name, &self.path(name), &from[..1], before);
        std::fs::write(self.path(name).join("zenoh.json5"), file).unwrap();
    }

    fn config(&self, name: &str) -> ZenohConfig {
        ZenohConfig::new().namespace("floor").config_file(self.path(&node(name)).join("zenoh.json5"))
    }

    async fn open(&self, name: &str) -> (ZenohTransport, Member) {
        let transport = open(self.config(name)).await;
        assert_eq!(transport.exposure(), Exposure::Authenticated);
        let member = Member::attach(&transport, name).await;
        (transport, member)
    }

    /// A client of Zenoh with the certificate in `folder` and no rules of its own, connected to the first member.
    async fn client(&self, folder: &Path) -> Result<Session, zenoh::Error> {
        let mut config = Config::default();
        let path = |name: &str| format!("\"{}\"", folder.join(name).display());
        for (key, value) in [
            ("mode", "\"client\"".to_owned()),
            ("connect/endpoints", format!("[\"{}\"]", self.endpoints[0])),
            ("scouting/multicast/enabled", "false".into()),
            ("transport/link/tls/root_ca_certificate", path(CA_FILE)),
            ("transport/link/tls/connect_certificate", path(CERTIFICATE_FILE)),
            ("transport/link/tls/connect_private_key", path(KEY_FILE)),
            ("transport/link/tls/enable_mtls", "true".into()),
            ("transport/link/tls/verify_name_on_connect", "false".into()),
        ] {
            config.insert_json5(key, &value).unwrap();
        }
        zenoh::open(config).await
    }
}

/// Puts to `key` again and again until `to` has received it.
async fn put_until_received(client: &Session, key: &str, to: &Member, packet: &[u8]) {
    let repeated = async {
        while !to.inbox.has(packet) {
            client.put(key, packet).await.unwrap();
            tokio::time::sleep(RESEND).await;
        }
    };
    timeout(SAFETY, repeated).await.unwrap_or_else(|_| panic!("{key} never arrives"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_reach_each_other() {
    let system = System::new(&["shop", "bank", "stock"]);
    let (_shop, shop) = system.open("shop").await;
    let (_bank, bank) = system.open("bank").await;
    let (_stock, stock) = system.open("stock").await;
    for (from, to, packet) in [(&shop, &bank, b"1"), (&bank, &stock, b"2"), (&stock, &shop, b"3")] {
        from.send_until_received(to, packet).await;
        assert_eq!(to.inbox.senders(packet), [from.id.clone()].into());
        to.broadcast_until_received(from, &[b'a', packet[0]]).await;
    }
    // The largest packet goes another way.
    shop.send_until_received(&bank, &vec![7; 200_000]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_speaks_in_no_other_name() {
    let system = System::new(&["shop", "bank", "stock"]);
    let (_shop, shop) = system.open("shop").await;
    let traitor = system.client(&system.path(&node("bank"))).await.expect("it has a certificate");
    for number in 0..TRIES {
        for key in ["floor/node/shop/stock", "floor/all/stock", "floor/node/*/bank", "floor/**", "floor/node/shop/shop"]
        {
            traitor.put(key, [b'x', number]).await.unwrap();
        }
        put_until_received(&traitor, "floor/node/shop/bank", &shop, &[b'o', number]).await;
        put_until_received(&traitor, "floor/all/bank", &shop, &[b'a', number]).await;
    }
    let false_ones = shop.inbox.packets().into_iter().filter(|packet| packet[0] == b'x');
    assert_eq!(false_ones.count(), 0);
    assert_eq!(shop.inbox.senders(b"o\0"), [node("bank")].into());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_reads_what_is_for_it_alone() {
    let system = System::new(&["shop", "bank", "stock"]);
    let (_shop, shop) = system.open("shop").await;
    let (_stock, stock) = system.open("stock").await;
    let traitor = system.client(&system.path(&node("bank"))).await.expect("it has a certificate");
    let of_others = traitor.declare_subscriber("floor/node/stock/*").with(flume()).await.unwrap();
    let all = traitor.declare_subscriber("**").with(flume()).await.unwrap();
    let own = traitor.declare_subscriber("floor/node/bank/*").with(flume()).await.unwrap();
    let received = async {
        for number in 0..TRIES {
            shop.send_until_received(&stock, &[b's', number]).await;
            loop {
                shop.wire.send(&node("bank"), vec![b'b', number]);
                let arrived = timeout(RESEND, own.recv_async()).await;
                if arrived.is_ok_and(|sample| sample.unwrap().payload().to_bytes().as_ref() == [b'b', number]) {
                    break;
                }
            }
        }
    };
    timeout(SAFETY, received).await.expect("what is for it arrives");
    assert!(of_others.try_recv().unwrap().is_none(), "a packet for another node");
    let is_for_it = |key: &str| key.starts_with("floor/node/bank/") || key.starts_with("floor/all/");
    while let Some(sample) = all.try_recv().unwrap() {
        assert!(is_for_it(sample.key_expr().as_str()), "{} by a subscription to all", sample.key_expr());
    }
}

fn flume() -> zenoh::handlers::FifoChannel {
    zenoh::handlers::FifoChannel::new(10_000)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_are_not_let_in() {
    let system = System::new(&["shop", "bank"]);
    let (_shop, shop) = system.open("shop").await;
    // The name of a member, from another authority.
    let (other, _) = authority();
    let forged = system.folder.path().join("forged");
    system.issue(&forged, &other, &node("bank"));
    assert!(system.client(&forged).await.is_err());
    // No certificate.
    let tls =
        ZenohConfig::new().mode(ZenohMode::Client).insecure(true).namespace("floor").connect(&system.endpoints[0]);
    assert!(matches!(ZenohTransport::open(tls).await, Err(TransportError::Open(_))));
    // No TLS.
    let plain = system.endpoints[0].replace("tls/", "tcp/");
    let plain = ZenohConfig::new().mode(ZenohMode::Client).insecure(true).namespace("floor").connect(plain);
    assert!(matches!(ZenohTransport::open(plain).await, Err(TransportError::Open(_))));
    // A certificate of this authority, and no member.
    let unknown = system.folder.path().join("unknown");
    system.issue(&unknown, &system.issuer, &node("unknown"));
    let unknown = system.client(&unknown).await.expect("TLS lets it in");
    // But for what it puts itself.
    let all = unknown.declare_subscriber("**").allowed_origin(Locality::Remote).with(flume()).await.unwrap();
    let (_bank, bank) = system.open("bank").await;
    for number in 0..TRIES {
        for key in ["floor/node/shop/unknown", "floor/node/shop/bank", "floor/all/unknown"] {
            unknown.put(key, [b'x', number]).await.unwrap();
        }
        shop.send_until_received(&bank, &[number]).await;
        bank.broadcast_until_received(&shop, &[number]).await;
    }
    assert!(all.try_recv().unwrap().is_none());
    assert!(shop.inbox.packets().iter().all(|packet| packet[0] != b'x'));
}

/// The session is opened anew with what the files have now: a member that is no more in them is not received any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_change_hold_without_a_new_start() {
    let mut system = System::new(&["shop", "bank", "stock"]);
    let (_shop, shop) = system.open("shop").await;
    let (_bank, bank) = system.open("bank").await;
    bank.send_until_received(&shop, b"before").await;

    // Another certificate of the same name, as `renew` makes it.
    system.issue(&system.path(&node("bank")), &system.issuer, &node("bank"));
    bank.send_until_received(&shop, b"renewed").await;
    shop.send_until_received(&bank, b"to the renewed one").await;

    system.members.retain(|name| *name != node("bank"));
    system.endpoints.remove(1);
    system.write(&node("shop"), &system.access());
    let (_stock, stock) = system.open("stock").await;
    let gone = async {
        for number in 0_u32.. {
            // As long as one arrives, the rules are the former ones.
            let packet = [b"late".as_slice(), &number.to_be_bytes()].concat();
            for _ in 0..TRIES {
                bank.wire.send(&shop.id, packet.clone());
                stock.send_until_received(&shop, &[b"beside".as_slice(), &number.to_be_bytes()].concat()).await;
            }
            if !shop.inbox.has(&packet) {
                return;
            }
            tokio::time::sleep(RESEND).await;
        }
    };
    timeout(SAFETY, gone).await.expect("it is not received any more");
}

/// What is said when `shop` cannot be opened with what `change` has made of its folder.
async fn check_refused(change: impl Fn(&System, &Path), file: &str, words: &[&str]) {
    let system = System::new(&["shop", "bank"]);
    let folder = system.path(&node("shop"));
    change(&system, &folder);
    let error = timeout(SAFETY, ZenohTransport::open(system.config("shop"))).await.unwrap().err().expect(file);
    let text = error.to_string();
    let path = folder.join(file).display().to_string();
    for word in words.iter().copied().chain([path.as_str(), "`accompanist security"]) {
        assert!(text.contains(word), "`{word}` is not in: {text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn own_files_that_cannot_be_used_are_named_with_what_to_do() {
    for (file, what, key, content) in [
        (CERTIFICATE_FILE, "the node's certificate", "`listen_certificate`", "no certificate in PEM"),
        (KEY_FILE, "the node's private key", "`listen_private_key`", "no private key in PEM"),
        (CA_FILE, "the certificate of the authority", "`root_ca_certificate`", "no certificate in PEM"),
    ] {
        let remove = |_: &System, folder: &Path| std::fs::remove_file(folder.join(file)).unwrap();
        check_refused(remove, file, &[what, key, "cannot be read", "No such file"]).await;
        for garbage in ["", "garbled", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            let garble = |_: &System, folder: &Path| std::fs::write(folder.join(file), garbage).unwrap();
            check_refused(garble, file, &[what, key, content]).await;
        }
    }
    // Each other's place.
    let swap = |_: &System, folder: &Path| {
        std::fs::copy(folder.join(KEY_FILE), folder.join(CERTIFICATE_FILE)).unwrap();
    };
    check_refused(swap, CERTIFICATE_FILE, &["no certificate in PEM"]).await;
    let other = |system: &System, folder: &Path| {
        let key = std::fs::read(system.path(&node("bank")).join(KEY_FILE)).unwrap();
        std::fs::write(folder.join(KEY_FILE), key).unwrap();
    };
    check_refused(other, KEY_FILE, &["is not that of the certificate", "CN=shop", CERTIFICATE_FILE]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_certificate_has_another_name_does_not_start() {
    let system = System::new(&["shop", "bank"]);
    let (transport, _shop) = system.open("shop").await;
    let inbox = Arc::new(crate::recorder::Recorder::default());
    let error = timeout(SAFETY, transport.attach(node("bank"), inbox)).await.unwrap().err().expect("it is another one");
    let text = error.to_string();
    let file = system.path(&node("shop")).join(CERTIFICATE_FILE).display().to_string();
    for word in ["this node is `bank`", &file, "is that of `shop`", "`accompanist security add-node bank`"] {
        assert!(text.contains(word), "`{word}` is not in: {text}");
    }
}
