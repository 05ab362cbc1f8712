//! Nodes that seal what they send to each other, over a router that sees all of it and does what it likes.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use accompanist::contract::{BoxFuture, Inbox, Transport, TransportError, Wire};
use accompanist::id::RoleIndex;
use accompanist::prelude::*;
use accompanist::store::MemoryDisk;
use accompanist::transport::{Faults, FaultyNetwork, LocalNetwork};
use accompanist::{MemberStatus, NodeBuilder, SEAL_KEY_FILE, SealError, SealSecrets, metric};
use accompanist_core::frame::{Advertisement, Body, Epoch, Frame, Left, Membership, Outcome, Packet};
use base64ct::{Base64, Encoding};
use crypto_box::aead::{AeadInPlace, OsRng, rand_core::RngCore};
use crypto_box::{ChaChaBox, Nonce, PublicKey, SecretKey};
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, SharedString, Unit};
use std::sync::atomic::{AtomicU64, Ordering};
use tempfile::TempDir;

use crate::delivery::are_idle;
use crate::rogue::Sent;
use crate::support::{TestNode, node_id, on_disk, quick, until, within};
use crate::trade::{Back, Deal, Front, KEPT, NOTHING, Outside, Side, Tally, Trade, deal};

/// What nobody but the two may read.
const CANARY: &str = "canary-4711-0815";

/// The front tells the back something, which tells it back.
struct Secret;
impl Choreography for Secret {
    const NAME: &'static str = "secret";
    type Roles = (Back, Front);
    type Input = At<Front, String>;
    type Output = At<Front, String>;
    async fn run(&self, ctx: &Context<Self::Roles>, text: At<Front, String>) -> Result<At<Front, String>, Abort> {
        let text = ctx.comm(Front, Back, &text).await?;
        ctx.comm(Back, Front, &text).await
    }
}

/// The back starts it.
struct Ping;
impl Choreography for Ping {
    const NAME: &'static str = "ping";
    type Roles = (Back, Front);
    type Input = At<Back, u32>;
    type Output = At<Back, u32>;
    async fn run(&self, ctx: &Context<Self::Roles>, number: At<Back, u32>) -> Result<At<Back, u32>, Abort> {
        let number = ctx.comm(Back, Front, &number).await?;
        ctx.comm(Front, Back, &number).await
    }
}

const NAMES: [&str; 3] = ["back", "front", "side"];

/// What outlives the nodes: a folder with keys and members for each, their disks, and a service.
struct System {
    folder: TempDir,
    secrets: Mutex<BTreeMap<&'static str, SealSecrets>>,
    disks: BTreeMap<&'static str, MemoryDisk>,
    outside: Arc<Outside>,
}

impl System {
    fn new() -> Self {
        let secrets = NAMES.map(|name| (name, SealSecrets::generate().unwrap()));
        let system = Self {
            folder: TempDir::new().unwrap(),
            secrets: Mutex::new(secrets.into()),
            disks: NAMES.map(|name| (name, MemoryDisk::default())).into(),
            outside: Arc::default(),
        };
        for name in NAMES {
            std::fs::create_dir(system.folder.path().join(name)).unwrap();
            system.write_secrets(name);
            system.write_members(name, &["trade", "secret", "ping"]);
        }
        system
    }

    fn file(&self, name: &str, file: &str) -> PathBuf {
        self.folder.path().join(name).join(file)
    }

    /// As a whole, as `accompanist security` does.
    fn write(&self, name: &str, file: &str, text: &str) {
        let (file, new) = (self.file(name, file), self.file(name, "new"));
        std::fs::write(&new, text).unwrap();
        std::fs::set_permissions(&new, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        std::fs::rename(new, file).unwrap();
    }

    fn write_secrets(&self, name: &str) {
        let text = self.secrets.lock().unwrap()[name].to_text();
        self.write(name, SEAL_KEY_FILE, &text);
    }

    fn members(&self, starts: &[&str]) -> String {
        let secrets = self.secrets.lock().unwrap();
        let tables = secrets.iter().map(|(name, secrets)| {
            let keys: Vec<_> = secrets.public_keys().iter().map(ToString::to_string).collect();
            format!("[nodes.{name}]\nroles = [\"{name}\"]\nstarts = {starts:?}\nseal_keys = {keys:?}\n")
        });
        format!("system = \"test\"\n{}", tables.collect::<String>())
    }

    fn write_members(&self, name: &str, starts: &[&str]) {
        self.write(name, "members.toml", &self.members(starts));
    }

    /// One that does not seal.
    fn in_clear(&self, name: &'static str, network: &(impl Transport + Clone)) -> NodeBuilder {
        let settings = Settings { advertisement_period_max: Duration::from_millis(200), ..quick() };
        let builder = on_disk(name, &self.disks[name], network.clone()).settings_unless_given(settings);
        let builder = builder.choreography(Trade).choreography(Secret).choreography(Ping);
        let builder = builder.members_file(self.file(name, "members.toml"));
        match name {
            "back" => builder.role(Back, self.outside.clone()),
            "front" => builder.role(Front, Arc::new(())),
            _ => builder.role(Side, Arc::new(())),
        }
    }

    fn builder(&self, name: &'static str, network: &(impl Transport + Clone)) -> NodeBuilder {
        self.in_clear(name, network).seal_key_file(self.file(name, SEAL_KEY_FILE))
    }

    async fn start(&self, name: &'static str, network: &(impl Transport + Clone)) -> TestNode {
        TestNode::start(self.builder(name, network)).await
    }

    async fn start_all(&self, network: &(impl Transport + Clone)) -> [TestNode; 3] {
        let mut nodes = Vec::new();
        for name in NAMES {
            nodes.push(self.start(name, network).await);
        }
        nodes.try_into().unwrap()
    }
}

type Act = dyn Fn(&LocalNetwork, &Sent) -> bool + Send + Sync;

/// Keeps whatever is sent, and does something with each packet to one node, before it passes that on or does not.
#[derive(Clone)]
struct Router {
    network: LocalNetwork,
    sent: Arc<Mutex<Vec<Sent>>>,
    to_all: Arc<Mutex<Vec<Vec<u8>>>>,
    act: Arc<Act>,
}

impl Router {
    fn new(act: impl Fn(&LocalNetwork, &Sent) -> bool + Send + Sync + 'static) -> Self {
        Self { network: LocalNetwork::new(), sent: Arc::default(), to_all: Arc::default(), act: Arc::new(act) }
    }

    fn sent(&self) -> Vec<Sent> {
        self.sent.lock().unwrap().clone()
    }

    /// Whether a text went over the wire as it is.
    fn has_seen(&self, text: &str) -> bool {
        let has = |bytes: &[u8]| bytes.windows(text.len()).any(|window| window == text.as_bytes());
        let to_all = self.to_all.lock().unwrap();
        self.sent().iter().any(|sent| has(&sent.bytes)) || to_all.iter().any(|bytes| has(bytes))
    }

    fn inject(&self, from: &str, to: &str, bytes: &[u8]) {
        self.network.inject(&node_id(from), Some(&node_id(to)), bytes);
    }
}

struct RoutedWire(Arc<dyn Wire>, NodeId, Router);

impl Transport for Router {
    fn attach(&self, node: NodeId, inbox: Arc<dyn Inbox>) -> BoxFuture<'_, Result<Arc<dyn Wire>, TransportError>> {
        Box::pin(async move {
            let wire = self.network.attach(node.clone(), inbox).await?;
            Ok(Arc::new(RoutedWire(wire, node, self.clone())) as Arc<dyn Wire>)
        })
    }
}

impl Wire for RoutedWire {
    fn send(&self, to: &NodeId, packet: Vec<u8>) {
        let Self(wire, from, router) = self;
        let sent = Sent { from: from.clone(), to: to.clone(), bytes: packet };
        router.sent.lock().unwrap().push(sent.clone());
        if (router.act)(&router.network, &sent) {
            wire.send(to, sent.bytes);
        }
    }
    fn broadcast(&self, packet: Vec<u8>) {
        self.2.to_all.lock().unwrap().push(packet.clone());
        self.0.broadcast(packet);
    }
    fn packet_bytes_max(&self) -> usize {
        self.0.packet_bytes_max()
    }
}

/// How much was dropped on this thread, by reason.
#[derive(Default)]
struct Reasons(Mutex<BTreeMap<String, Arc<AtomicU64>>>);

impl Reasons {
    fn of(&self, reason: &str) -> u64 {
        self.0.lock().unwrap().get(reason).map(|count| count.load(Ordering::SeqCst)).unwrap_or_default()
    }
}

impl metrics::Recorder for Reasons {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        let reason = key.labels().find(|label| key.name() == metric::DROPPED && label.key() == "reason");
        let Some(reason) = reason else { return Counter::noop() };
        Counter::from_arc(self.0.lock().unwrap().entry(reason.value().into()).or_default().clone())
    }
    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }
    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

async fn trade(front: &TestNode, ids: std::ops::Range<u32>) {
    let mut sessions = Vec::new();
    for id in ids {
        sessions.push((id, within(front.start(Trade, Deal { id, refused: id % 3 == 0 })).await.unwrap()));
    }
    for (id, session) in sessions {
        let ended = within(session.settled()).await;
        assert_eq!(ended.ok(), (id % 3 != 0).then_some(id * 101));
    }
}

/// What the service outside has been asked for by [`trade`] with ids from 0.
fn traded(count: u32) -> Tally {
    Tally { done: count, undone: count.div_ceil(3) }
}

async fn tell_secrets(front: &TestNode, count: usize) {
    for _ in 0..count {
        let session = within(front.start(Secret, CANARY.into())).await.unwrap();
        assert_eq!(within(session.settled()).await.unwrap(), CANARY);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_router_sees_no_content() {
    let system = System::new();
    for seals in [false, true] {
        let router = Router::new(|_, _| true);
        let builder = |name| if seals { system.builder(name, &router) } else { system.in_clear(name, &router) };
        let (back, front) = (TestNode::start(builder("back")).await, TestNode::start(builder("front")).await);
        tell_secrets(&front, 5).await;
        trade(&front, 0..5).await;
        are_idle(&[&back, &front]).await;
        // Nor which choreographies there are.
        for text in [CANARY, "secret", "trade"] {
            assert_eq!(router.has_seen(text), !seals, "{text}, {seals}");
        }
        assert!(router.sent().len() > 20);
        within(back.shutdown()).await;
        within(front.shutdown()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_router_that_changes_a_byte_delays_a_session_and_no_more() {
    let chance = Mutex::new(fastrand::Rng::with_seed(7));
    let router = Router::new(move |network, sent| {
        let mut chance = chance.lock().unwrap();
        if chance.bool() {
            return true;
        }
        let mut changed = sent.bytes.clone();
        let at = chance.usize(..changed.len());
        changed[at] ^= chance.u8(1..);
        network.inject(&sent.from, Some(&sent.to), &changed);
        false
    });
    let system = System::new();
    let (back, front) = (system.start("back", &router).await, system.start("front", &router).await);
    trade(&front, 0..30).await;
    are_idle(&[&back, &front]).await;
    assert_eq!((system.outside.asked(), system.outside.total()), (30, traded(30)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rough_network_changes_nothing() {
    let (system, network) = (System::new(), FaultyNetwork::new(3, Faults::rough()));
    let (back, front) = (system.start("back", &network).await, system.start("front", &network).await);
    trade(&front, 0..30).await;
    are_idle(&[&back, &front]).await;
    assert_eq!((system.outside.asked(), system.outside.total()), (30, traded(30)));
}

/// A packet as a node seals it, with keys of somebody.
fn sealed_by(secrets: &SealSecrets, receiver: &SealSecrets, from: &str, to: &str, packet: &Packet) -> Vec<u8> {
    const KIND: u8 = 0xA1;
    let secret = secrets.to_text();
    let secret = Base64::decode_vec(secret.lines().nth(1).unwrap()).unwrap();
    let public = Base64::decode_vec(&receiver.public_keys()[0].to_string()).unwrap();
    let (secret, public) = (SecretKey::from_slice(&secret).unwrap(), PublicKey::from_slice(&public).unwrap());
    let mut nonce = Nonce::default();
    OsRng.fill_bytes(&mut nonce);
    let (from, to) = (node_id(from), node_id(to));
    let mut inner = postcard::to_allocvec(&(KIND, &from, &to, Epoch(0), Epoch(77), 1_u64)).unwrap();
    inner.extend(packet.to_bytes(&from, Some(&to)).unwrap());
    let tag = ChaChaBox::new(&public, &secret).encrypt_in_place_detached(&nonce, &[], &mut inner).unwrap();
    [&[KIND][..], &nonce, &inner, &tag].concat()
}

/// What would do harm if it were believed: an end, a nudge, acknowledgements, and news of a node that has left.
fn lies(session: SessionId, from: &str, epoch: Epoch) -> Vec<Packet> {
    let roles = if from == "front" { [1, 0] } else { [0, 1] }.map(RoleIndex);
    let abort = Abort::new("router", "as it likes");
    let frame = |body| Frame { session, from: roles[0], to: roles[1], header: None, body };
    let bodies = [
        Body::Abort(abort.clone()),
        Body::Done(Outcome::Finished),
        Body::Close(Outcome::Compensated(abort)),
        Body::Close(Outcome::Finished),
    ];
    let frames = bodies.map(|body| vec![(1_u64 << 40, frame(body))]);
    let advertisement = Advertisement { ask: true, ..Advertisement::default() };
    let left = Left { at_unix_ms: u64::MAX / 2, node: node_id(from), membership: Membership(0) };
    let mut packets: Vec<_> = frames.map(|frames| Packet { frames, ..Packet::new(epoch) }).into();
    packets.push(Packet { acks: vec![(epoch, (0..500).collect())], ..Packet::new(epoch) });
    packets.push(Packet {
        advertisement: Some(Advertisement { left: vec![left], ..advertisement.clone() }),
        ..Packet::new(epoch)
    });
    packets.push(Packet {
        advertisement: Some(Advertisement { knows: Some(Membership(1)), ..advertisement }),
        ..Packet::new(epoch)
    });
    packets
}

/// In one thread, where what is counted is the test's own.
#[tokio::test]
async fn a_router_cannot_send_in_the_name_of_a_member() {
    let reasons = Reasons::default();
    let _recorder = metrics::set_default_local_recorder(&reasons);
    let (system, router) = (System::new(), Router::new(|_, _| true));
    let [back, front, side] = system.start_all(&router).await;
    trade(&front, 0..3).await;
    let silence = || ["not sealed", "seal", "replayed", "checksum", "not a member"].map(|reason| reasons.of(reason));
    assert_eq!(silence(), [0; 5], "nothing of an honest network is dropped");
    system.outside.set_gate(false);
    let session = within(front.start(Trade, deal(4))).await.unwrap();
    within(system.outside.asked_times(4)).await;
    let stranger = SealSecrets::generate().unwrap();
    let secrets = system.secrets.lock().unwrap().clone();
    let mut count = 0;
    for (from, to) in [("front", "back"), ("back", "front")] {
        for packet in lies(session.id(), from, Epoch(77)) {
            router.inject(from, to, &packet.to_bytes(&node_id(from), Some(&node_id(to))).unwrap());
            router.inject(from, to, &packet.to_bytes(&node_id(from), None).unwrap());
            // With keys of its own, and with those of another member.
            for keys in [&stranger, &secrets["side"]] {
                router.inject(from, to, &sealed_by(keys, &secrets[to], from, to, &packet));
            }
            // Under a name that nobody has.
            router.inject("nobody", to, &sealed_by(&stranger, &secrets[to], "nobody", to, &packet));
            count += 1;
        }
    }
    // Real ones: to somebody else, from somebody else, and back to whoever has sent them.
    let sent = router.sent();
    for Sent { from, to, bytes } in &sent {
        let (from, to) = (from.as_str(), to.as_str());
        for other in NAMES.into_iter().filter(|other| *other != from && *other != to) {
            router.inject(other, to, bytes);
            router.inject(from, other, bytes);
        }
        router.inject(to, from, bytes);
    }
    system.outside.set_gate(true);
    assert_eq!(within(session.settled()).await.unwrap(), 404);
    trade(&front, 5..7).await;
    are_idle(&[&back, &front, &side]).await;
    assert_eq!(system.outside.total(), Tally { done: 6, undone: 2 });
    let serve =
        [&back, &front].map(|node| node.operator().peers().iter().all(|known| known.status == MemberStatus::Serving));
    assert_eq!(serve, [true, true]);
    let unopened = 2 * count + 3 * sent.len() as u64;
    until("all to be dropped", || reasons.of("seal") >= unopened).await;
    assert_eq!(reasons.of("seal"), unopened);
    assert_eq!((reasons.of("not sealed"), reasons.of("not a member")), (2 * count, count));
    assert_eq!(reasons.of("checksum"), 0, "nothing of it was looked into");
    // The keys of a member are good in its own name: it is told of the life in which it is heard.
    let advertisement = Packet { advertisement: Some(Advertisement::default()), ..Packet::new(Epoch(77)) };
    let answers =
        || router.sent().iter().filter(|sent| sent.from == node_id("back") && sent.to == node_id("side")).count();
    let before = reasons.of("seal of another epoch");
    let answered = answers();
    router.inject("side", "back", &sealed_by(&secrets["side"], &secrets["back"], "side", "back", &advertisement));
    until("an answer", || reasons.of("seal of another epoch") > before && answers() > answered).await;
}

/// Sessions that are over and forgotten: what was sent in them would begin them anew. So would the protocol's own
/// check, by paths and tombstones, let it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_packet_that_is_replayed_changes_nothing() {
    let (system, router) = (System::new(), Router::new(|_, _| true));
    let forgetful = |name| {
        let retention = Retention {
            age_min: Duration::from_millis(100),
            age_max: Some(Duration::from_millis(100)),
            ..Retention::default()
        };
        let settings = Settings { advertisement_period_max: Duration::from_millis(200), retention, ..quick() };
        TestNode::start(system.builder(name, &router).settings(settings))
    };
    let forget = async |front: &TestNode, nodes: &[&TestNode]| {
        // What is over is collected along with what is written.
        let mut id = 100;
        while nodes.iter().any(|node| node.operator().tombstones().unwrap().count > 4) {
            tokio::time::sleep(Duration::from_millis(20)).await;
            within(within(front.start(Trade, deal(id))).await.unwrap().settled()).await.unwrap();
            id += 1;
        }
    };
    let (back, front) = (forgetful("back").await, forgetful("front").await);
    trade(&front, 0..20).await;
    are_idle(&[&back, &front]).await;
    let recorded = router.sent();
    let replay = || {
        for Sent { from, to, bytes } in recorded.iter().chain(recorded.iter().rev()) {
            router.inject(from.as_str(), to.as_str(), bytes);
        }
    };
    within(forget(&front, &[&back, &front])).await;
    let mut asked = system.outside.asked();
    let check = async |back: &TestNode, front: &TestNode, asked: &mut u32| {
        replay();
        // Behind it, both ways.
        within(within(front.start(Trade, deal(1))).await.unwrap().settled()).await.unwrap();
        are_idle(&[back, front]).await;
        *asked += 1;
        assert_eq!(system.outside.asked(), *asked, "a step was done once more");
    };
    check(&back, &front, &mut asked).await;
    // To nodes that remember nothing of what they have received, one after the other.
    within(back.shutdown()).await;
    let back = forgetful("back").await;
    check(&back, &front, &mut asked).await;
    within(front.shutdown()).await;
    let front = forgetful("front").await;
    check(&back, &front, &mut asked).await;
    assert!(back.operator().stopped_sessions().is_empty() && front.operator().stopped_sessions().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_renewed_while_sessions_run() {
    let (system, router) = (System::new(), Router::new(|_, _| true));
    let (back, front) = (system.start("back", &router).await, system.start("front", &router).await);
    trade(&front, 0..3).await;
    // Which choreographies a node may start tells whether it has read its files anew.
    let has_read = async |node: &TestNode, may: bool| {
        let begun = async {
            loop {
                let begun = match node.name().as_str() {
                    "front" => node.start(Secret, "-".into()).await.map(drop),
                    _ => node.start(Ping, 1).await.map(drop),
                };
                if begun.is_ok() == may {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        within(begun).await;
    };
    let mut id = 3;
    for round in 0..4 {
        for name in ["front", "back"] {
            let renewed = system.secrets.lock().unwrap()[name].renewed().unwrap();
            system.secrets.lock().unwrap().insert(name, renewed);
        }
        let may = round % 2 == 1;
        let starts: &[&str] = if may { &["trade", "secret", "ping"] } else { &["trade"] };
        // Now this node is the first one, now the other; here keys first, there members.
        let order = if round < 2 { [("front", &front), ("back", &back)] } else { [("back", &back), ("front", &front)] };
        for (name, node) in order {
            if may {
                system.write_secrets(name);
                system.write_members(name, starts);
            } else {
                system.write_members(name, starts);
                system.write_secrets(name);
            }
            trade(&front, id..id + 3).await;
            has_read(node, may).await;
            trade(&front, id + 3..id + 6).await;
            id += 6;
        }
    }
    are_idle(&[&back, &front]).await;
    assert_eq!(system.outside.total(), traded(id));
}

/// Those that seal and those that do not are deaf to each other, both say why, and what waits goes on.
#[tokio::test]
async fn unsealed_packets_are_dropped() {
    let reasons = Reasons::default();
    let _recorder = metrics::set_default_local_recorder(&reasons);
    let (system, router) = (System::new(), Router::new(|_, _| true));
    let (back, front) = (system.start("back", &router).await, system.start("front", &router).await);
    trade(&front, 0..3).await;
    are_idle(&[&back, &front]).await;
    within(back.shutdown()).await;
    let back = TestNode::start(system.in_clear("back", &router)).await;
    let session = within(front.start(Trade, deal(4))).await.unwrap();
    until("both to say so", || reasons.of("not sealed") > 3 && reasons.of("seal") > 3).await;
    assert_eq!(system.outside.asked(), 3);
    within(back.shutdown()).await;
    let back = system.start("back", &router).await;
    assert_eq!(within(session.settled()).await.unwrap(), 404);
    are_idle(&[&back, &front]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_with_keys_that_are_no_good_does_not_start() {
    let (system, network) = (System::new(), LocalNetwork::new());
    let refused = async |builder: NodeBuilder| match within(builder.start()).await {
        Err(NodeError::Seal(error)) => error,
        other => panic!("{other:?}"),
    };
    let front = || system.builder("front", &network);
    let key_file = system.file("front", SEAL_KEY_FILE);
    let alone = on_disk("front", &MemoryDisk::default(), network.clone()).role(Front, Arc::new(()));
    assert_eq!(refused(alone.seal_key_file(&key_file)).await, SealError::NoMembers);
    // The same from the settings.
    let settings = Settings { seal_key_file: Some(key_file.clone()), ..quick() };
    let alone = on_disk("front", &MemoryDisk::default(), network.clone()).role(Front, Arc::new(()));
    assert_eq!(refused(alone.settings(settings)).await, SealError::NoMembers);

    std::fs::set_permissions(&key_file, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let error = refused(front()).await.to_string();
    assert!(error.contains("mode 644") && error.contains("chmod go="), "{error}");
    std::fs::remove_file(&key_file).unwrap();
    let error = refused(front()).await.to_string();
    assert!(error.contains(SEAL_KEY_FILE) && error.contains("accompanist security"), "{error}");
    system.write("front", SEAL_KEY_FILE, &SealSecrets::generate().unwrap().to_text());
    assert_eq!(refused(front()).await, SealError::NotOwn(node_id("front")));
    system.write_secrets("front");
    system.write("front", "members.toml", &format!("{}[nodes.late]\n[nodes.\"s-*\"]\n", system.members(&["trade"])));
    let error = refused(front()).await.to_string();
    assert!(error.contains("`late`, `s-*`") && error.contains("security renew"), "{error}");
    system.write_members("front", &["trade"]);
    let front = TestNode::start(front()).await;
    assert_eq!(system.outside.total(), NOTHING);
    let back = system.start("back", &network).await;
    within(within(front.start(Trade, deal(1))).await.unwrap().settled()).await.unwrap();
    are_idle(&[&back, &front]).await;
    assert_eq!(system.outside.total(), KEPT);
}
