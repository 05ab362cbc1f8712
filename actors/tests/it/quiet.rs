//! Values that users' programs work with are in no log line and in no error, whatever happens to them and at whatever
//! level.
//!
//! What a user says for others to read is: codes and messages of aborts, reasons of retries, texts of panics, names.
//! The lines go to a subscriber of the whole process, so all of it is in a process of its own.

use std::process::Command;
use std::sync::Arc;

use accompanist::contract::{Change, Space, Store};
use accompanist::id::{InstanceId, RoleIndex};
use accompanist::prelude::*;
use accompanist::store::MemoryDisk;
use accompanist::transport::LocalNetwork;
use accompanist::{Path, SessionId};
use accompanist_core::frame::{Body, Frame, Operation, Packet};

use crate::canary::{Books, CANARY, Clerk, Desk, Diary, NumberRun, OtherRun, OtherWay, Run, Way, all_of_it, errand};
use crate::rogue::{EPOCH, Rogue};
use crate::support::{TestNode, on_disk, until, within};

const ALONE: &str = "quiet::all_that_happens_to_a_value";
/// With which lines begin that show an error as a caller gets it.
const TOLD: &str = "told: ";

fn told(what: &(impl std::fmt::Display + std::fmt::Debug)) {
    println!("{TOLD}{what}\n{TOLD}{what:?}\n{TOLD}{what:#?}");
}

fn shown(what: &impl std::fmt::Debug) {
    println!("{TOLD}{what:?}");
}

/// The canary as a text, and as its bytes are shown.
fn feathers() -> [String; 4] {
    let bytes = CANARY.as_bytes();
    let hex = bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat();
    let joined = |separator: &str| bytes.iter().map(ToString::to_string).collect::<Vec<_>>().join(separator);
    [CANARY.into(), hex, joined(", "), joined(",")]
}

#[test]
fn values_are_in_no_log_line_and_no_error() {
    let own = std::env::current_exe().unwrap();
    let ran = Command::new(own).args([ALONE, "--exact", "--ignored", "--nocapture"]).output().unwrap();
    let text = [ran.stdout, ran.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    assert!(ran.status.success() && text.contains("1 passed"), "{text}");
    let feathers = feathers();
    let has_any = |line: &&str| feathers.iter().any(|feather| line.contains(feather));
    let mut lines: Vec<&str> = text.lines().filter(has_any).collect();
    // That it would be found.
    let control = lines.iter().filter(|line| line.contains("TRACE") && line.contains("control")).count();
    assert_eq!(control, feathers.len(), "{lines:?}");
    lines.retain(|line| !line.contains("control"));
    let is_theirs =
        |line: &&str| ["zenoh", "fjall", "lsm_tree"].iter().any(|target| line.contains(&format!(" {target}")));
    let (theirs, ours): (Vec<&str>, Vec<&str>) = lines.iter().copied().partition(is_theirs);
    println!("{} lines of dependencies have the canary", theirs.len());
    assert!(ours.is_empty(), "{} lines, the first ones: {:#?}", ours.len(), &ours[..ours.len().min(20)]);
    // That all of it has happened, and was logged.
    for part in [
        "a session is stopped",
        "an instance failed and is restarted",
        "a session needs an operator",
        "an actor refuses what it was told",
        "an operator has a message skipped",
        "an operator ends a part of a session without its program",
        "dropped",
        "recorded was",
        "is of another type",
        "it has a key of another type",
        "invalid type: a text",
        "there is no pen",
        "panicked at",
        "as the test wants",
        " accompanist::",
    ] {
        assert!(text.contains(part), "`{part}` was never said");
    }
    if cfg!(feature = "zenoh") {
        assert!(text.contains(" zenoh"));
    }
}

#[test]
#[ignore = "in a process of its own, which the test of it starts"]
fn all_that_happens_to_a_value() {
    let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_ansi(false);
    subscriber.with_writer(std::io::stderr).init();
    for feather in feathers() {
        tracing::trace!(target: "control", "{feather}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        sessions().await;
        releases().await;
        actors().await;
        other_types_between_nodes().await;
        strangers_and_dead_letters().await;
        damage().await;
        #[cfg(feature = "zenoh")]
        over_zenoh().await;
    });
}

async fn settled<C: Choreography>(session: &Session<C>) {
    if let Err(error) = within(session.settled()).await {
        told(&error);
    }
}

async fn begin(node: &Node, number: u32, way: Way) -> Session<Run> {
    within(node.start(Run, errand(number, way)).key(number.to_string())).await.unwrap()
}

/// Waits until a session is stopped, and shows what is said of it.
async fn is_stopped(node: &TestNode, session: SessionId) {
    until("it to stop", || node.operator().stopped_sessions().iter().any(|stopped| stopped.session == session)).await;
    shown(&node.stopped().await);
}

async fn sessions() {
    let (folder, books) = (tempfile::tempdir().unwrap(), Arc::new(Books::default()));
    let node = all_of_it(FjallStore::open(folder.path()).unwrap(), LocalNetwork::new(), &books);
    let node = TestNode::start(node).await;
    let mut number = 0;
    for way in [Way::Through, Way::Refused, Way::Aborted, Way::Retried, Way::PanicsOutside] {
        number += 1;
        books.failures.store(1, std::sync::atomic::Ordering::SeqCst);
        settled(&begin(&node, number, way).await).await;
    }
    for way in [Way::Panics, Way::Mistyped, Way::MistypedKey] {
        number += 1;
        let session = begin(&node, number, way).await;
        is_stopped(&node, session.id()).await;
        settled(&session).await;
        told(&within(session.initiator().query::<u64>()).await.unwrap_err());
    }
    let odd = begin(&node, number + 1, Way::Odd).await;
    until("it to need an operator", || !node.operator().troubled_sessions().is_empty()).await;
    shown(&node.operator().troubled_sessions());
    shown(&within(odd.initiator().waits_for()).await);

    let waits = begin(&node, number + 2, Way::WaitsForNumber).await;
    let (desk, operated) = (waits.initiator(), node.operator().instance(waits.id(), RoleIndex(0)));
    within(async { while within(desk.waits_for()).await.unwrap().is_empty() {} }).await;
    told(&within(desk.query::<u64>()).await.unwrap_err());
    shown(&within(desk.status()).await);
    println!("{TOLD}{}", within(operated.history()).await.unwrap());
    within(desk.signal("other", "1", &CANARY.to_owned())).await.unwrap();
    told(&within(desk.signal("other", "1", &format!("{CANARY}!"))).await.unwrap_err());
    // It stumbles, perhaps before it can answer.
    within(desk.signal("number", "2", &CANARY.to_owned())).await.map_err(|error| told(&error)).ok();
    is_stopped(&node, waits.id()).await;
    settled(&waits).await;
    shown(&within(operated.terminate("it is of no use")).await);
    settled(&waits).await;
    within(node.shutdown()).await;
    drop(node);
}

/// A replay that differs, values that are another release's.
async fn releases() {
    let (disk, books) = (MemoryDisk::default(), Arc::<Books>::default());
    let node = TestNode::start(all_of_it(disk.open().unwrap(), LocalNetwork::new(), &books)).await;
    let waits = begin(&node, 1, Way::Waits).await;
    let through = begin(&node, 2, Way::Through).await;
    settled(&through).await;
    within(books.asked_times(2)).await;
    within(node.shutdown()).await;
    drop(node);
    let home = || on_disk("home", &disk, LocalNetwork::new()).role(Desk, Arc::new(())).role(Clerk, books.clone());
    let node = TestNode::start(home().choreography(OtherWay).actor(Diary)).await;
    is_stopped(&node, waits.id()).await;
    within(node.shutdown()).await;
    drop(node);
    let node = TestNode::start(home().choreography(OtherRun).actor(Diary)).await;
    is_stopped(&node, waits.id()).await;
    let session = within(node.session::<OtherRun>(through.id())).await.unwrap();
    let error = within(session.settled()).await.unwrap_err();
    told(&error);
    let error = within(node.start(OtherRun, 7).key("2")).await.unwrap_err();
    assert!(matches!(error, StartError::OtherInput { .. }), "{error}");
    told(&error);
    within(node.shutdown()).await;
}

async fn actors() {
    let node = TestNode::start(all_of_it(MemoryDisk::default().open().unwrap(), LocalNetwork::new(), &Arc::default()));
    let node = node.await;
    let diary = node.actor::<Diary>();
    for _ in 0..3 {
        within(diary.tell(&format!("{CANARY}?"))).await.unwrap();
        told(&within(diary.ask(&format!("{CANARY}?"))).await.unwrap_err());
    }
    within(diary.tell(&format!("!{CANARY}"))).await.unwrap();
    let stopped = node.stopped().await;
    shown(&stopped);
    shown(&within(node.operator().instance(stopped[0].session, stopped[0].role).skip_message()).await);
    within(diary.ask(&CANARY.to_owned())).await.unwrap();
    within(node.shutdown()).await;
}

async fn other_types_between_nodes() {
    let network = LocalNetwork::new();
    let desk = on_disk("desk", &MemoryDisk::default(), network.clone()).role(Desk, Arc::new(())).choreography(Run);
    let clerk = on_disk("clerk", &MemoryDisk::default(), network.clone()).role(Clerk, Arc::default());
    let (desk, clerk) = (TestNode::start(desk).await, TestNode::start(clerk.choreography(NumberRun)).await);
    let session = begin(&desk, 1, Way::Through).await;
    is_stopped(&clerk, session.id()).await;
    let there = clerk.operator().instance(session.id(), RoleIndex(1));
    told(&within(there.handle().query::<u64>()).await.unwrap_err());
    println!("{TOLD}{}", within(desk.operator().instance(session.id(), RoleIndex(0)).history()).await.unwrap());
    within(clerk.shutdown()).await;
    within(desk.shutdown()).await;
}

async fn strangers_and_dead_letters() {
    let (network, of_clerk) = (LocalNetwork::new(), MemoryDisk::default());
    let clerk = || on_disk("clerk", &of_clerk, network.clone()).role(Clerk, Arc::default());
    let desk = on_disk("desk", &MemoryDisk::default(), network.clone()).role(Desk, Arc::new(())).choreography(Run);
    let (desk, first) = (TestNode::start(desk).await, TestNode::start(clerk().choreography(Run)).await);
    settled(&begin(&desk, 1, Way::Through).await).await;
    within(first.shutdown()).await;
    drop(first);
    let session = begin(&desk, 2, Way::Through).await;
    let later = TestNode::start(clerk()).await;
    until("a dead letter", || !later.operator().dead_letters().is_empty()).await;
    shown(&later.operator().dead_letters());
    let number = later.operator().dead_letters()[0].number;
    shown(&within(later.operator().replay_dead_letter(number)).await);

    let rogue = Rogue::attach(&network).await;
    rogue.send_bytes_as("rogue", "clerk", CANARY.as_bytes());
    rogue.is_heard(&["clerk", "desk"]).await;
    let body = Body::Deliver {
        path: Path::root().child(1),
        operation: Operation::Comm,
        payload: CANARY.as_bytes().to_vec().into(),
    };
    for number in 0..2 {
        let frame =
            Frame { session: session.id(), from: RoleIndex(1), to: RoleIndex(0), header: None, body: body.clone() };
        rogue.send("desk", &Packet { frames: vec![(number, frame)], ..Packet::new(EPOCH) });
    }
    rogue.is_heard(&["desk"]).await;
    within(later.shutdown()).await;
    drop(later);
    let last = TestNode::start(clerk().choreography(Run)).await;
    settled(&session).await;
    within(last.shutdown()).await;
    within(desk.shutdown()).await;
}

/// Values in the store that are not what was written there.
async fn damage() {
    let (disk, books) = (MemoryDisk::default(), Arc::default());
    let start = || TestNode::start(all_of_it(disk.open().unwrap(), LocalNetwork::new(), &books));
    let node = start().await;
    let sessions = [begin(&node, 1, Way::Waits).await.id(), begin(&node, 2, Way::Waits).await.id()];
    within(books.asked_times(2)).await;
    within(node.shutdown()).await;
    drop(node);
    let keys = sessions.map(|session| InstanceId { session, role: RoleIndex(0) }.to_bytes());
    let mut store = disk.open().unwrap();
    let record = store.scan(Space::Journal, &keys[1], None, 1).unwrap()[0].0.clone();
    // A value without what says which version it has, and one with.
    let changes =
        [(Space::Open, keys[0].to_vec(), CANARY.to_owned()), (Space::Journal, record, format!("\x01{CANARY}"))];
    let changes = changes.map(|(space, key, value)| Change { space, key, value: Some(value.into()) });
    store.apply(changes.into()).unwrap();
    store.sync().unwrap();
    drop(store);
    let node = start().await;
    for session in sessions {
        is_stopped(&node, session).await;
    }
    within(node.shutdown()).await;
}

#[cfg(feature = "zenoh")]
async fn over_zenoh() {
    use accompanist::transport::{ZenohConfig, ZenohTransport};
    let endpoint = crate::support::free_endpoint();
    let listen = within(ZenohTransport::open(ZenohConfig::new().listen(&endpoint))).await.unwrap();
    let connect = ZenohConfig::new().listen(crate::support::free_endpoint()).connect(&endpoint);
    let connect = within(ZenohTransport::open(connect)).await.unwrap();
    let desk = on_disk("desk", &MemoryDisk::default(), listen).role(Desk, Arc::new(())).choreography(Run);
    let clerk = on_disk("clerk", &MemoryDisk::default(), connect).role(Clerk, Arc::default()).choreography(Run);
    let (desk, clerk) = (TestNode::start(desk).await, TestNode::start(clerk).await);
    for (number, way) in (0..).zip([Way::Through, Way::Refused]) {
        settled(&begin(&desk, number, way).await).await;
    }
    within(clerk.shutdown()).await;
    within(desk.shutdown()).await;
}
