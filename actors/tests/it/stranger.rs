//! A stranger on the wire, who knows the names and epochs of all and says what it likes, in its own name and in those
//! of others: sessions end, books agree, and what it can make a node keep or send is bounded.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use accompanist::contract::{BoxFuture, Heal, Inbox, Transport, TransportError, Wire};
use accompanist::id::RoleIndex;
use accompanist::message::Payload;
use accompanist::prelude::*;
use accompanist::store::MemoryDisk;
use accompanist::transport::LocalNetwork;
use accompanist::{Contact, MemberStatus, Path};
use accompanist_core::frame::{
    Advertisement, Body, Epoch, Frame, Header, Lacks, Left, OfferedChoreography, Operation, Packet,
};
use fastrand::Rng;

use crate::changes::bodies;
use crate::delivery::{Sites, are_idle};
use crate::replicas::{Cluster, knows_that, notes, settled, started};
use crate::rogue::{EPOCH, Recorder, Rogue};
use crate::support::{TestNode, node_id, on_disk, quick, until, within};
use crate::trade::{Back, COMPENSATED, Deal, Front, KEPT, Outside, Tally, Trade, deal, tally};

const BACK: RoleIndex = RoleIndex(0);
const FRONT: RoleIndex = RoleIndex(1);

/// Who speaks: one whom everybody has heard of, one that nobody has, and in the name of a node that has no part in it.
const SPEAKERS: [&str; 3] = ["rogue", "nobody", "side"];

/// Says something in the name of each.
fn say(rogue: &Rogue, to: &str, packet: &Packet) {
    for from in SPEAKERS {
        rogue.send_as(from, to, packet);
    }
}

fn acks(epoch: Epoch) -> Packet {
    Packet { acks: vec![(epoch, (0..500).collect())], ..Packet::new(EPOCH) }
}

/// Sessions whose frames wait for a back that is down, some of them cancelled meanwhile.
async fn acknowledgements_are_taken_from_the_receiver_only(cancelled: u32) {
    // Nobody nudges, which would heal it.
    let mut settings = quick();
    (settings.limits.nudge_delay_min_ms, settings.limits.nudge_delay_max_ms) = (3_600_000, 3_600_000);
    let (sites, network) = (Sites { settings: Some(settings), ..Sites::default() }, LocalNetwork::new());
    let (back, front) = (sites.back(&network).await, sites.front(&network).await);
    let _side = sites.side(&network).await;
    within(within(front.start(Trade, deal(0))).await.unwrap().settled()).await.unwrap();
    within(back.shutdown()).await;
    let rogue = Rogue::attach(&network).await;
    let epoch = rogue.epoch_of("front").await;
    let mut sessions = Vec::new();
    for id in 1..=10 {
        sessions.push(within(front.start(Trade, deal(id))).await.unwrap());
    }
    for session in sessions.iter().take(cancelled as usize) {
        within(session.cancel("as the test wants")).await.unwrap();
        assert!(within(session.output()).await.is_err(), "its abort is on its way");
    }
    say(&rogue, "front", &acks(epoch));
    rogue.is_heard(&["front"]).await;
    let back = sites.back(&network).await;
    for (id, session) in (1..).zip(sessions) {
        let ended = within(session.settled()).await;
        assert_eq!(ended.is_ok(), id > cancelled, "{id}: {ended:?}");
        let (held, paid) = if id > cancelled { (KEPT, id * 101) } else { (COMPENSATED, 0) };
        assert_eq!((tally(&front, "hold", id).await, ended.unwrap_or(0)), (held, paid));
    }
    are_idle(&[&back, &front]).await;
    let total = sites.outside.total();
    assert_eq!(total.done - total.undone, 11 - cancelled);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forged_acknowledgements_do_not_drop_a_message() {
    acknowledgements_are_taken_from_the_receiver_only(0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forged_acknowledgements_do_not_drop_an_abort() {
    acknowledgements_are_taken_from_the_receiver_only(10).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_of_a_role_are_accepted_only_from_its_node() {
    let (sites, network) = (Sites::default(), LocalNetwork::new());
    let (back, front) = (sites.back(&network).await, sites.front(&network).await);
    let _side = sites.side(&network).await;
    let rogue = Rogue::attach(&network).await;
    rogue.is_heard(&["back", "front"]).await;
    sites.outside.set_gate(false);
    let mut sessions = Vec::new();
    for (id, refused) in [(1, false), (2, true)] {
        sessions.push(within(front.start(Trade, Deal { id, refused })).await.unwrap());
    }
    within(sites.outside.asked_times(2)).await;
    let attack = || {
        for (session, body) in sessions.iter().flat_map(|session| bodies().into_iter().map(move |body| (session, body)))
        {
            for (number, (from, to, node)) in
                [(FRONT, BACK, "back"), (BACK, FRONT, "front")].repeat(2).into_iter().enumerate()
            {
                let frame = Frame { session: session.id(), from, to, header: None, body: body.clone() };
                say(&rogue, node, &Packet { frames: vec![(number as u64 / 2, frame)], ..Packet::new(EPOCH) });
            }
        }
    };
    attack();
    rogue.is_heard(&["back", "front"]).await;
    sites.outside.set_gate(true);
    let mut ended = Vec::new();
    for session in &sessions {
        ended.push(within(session.settled()).await.ok());
    }
    assert_eq!(ended, [Some(101), None]);
    are_idle(&[&back, &front]).await;
    assert_eq!(sites.outside.total(), Tally { done: 2, undone: 1 });
    assert_eq!([tally(&front, "hold", 1).await, tally(&front, "hold", 2).await], [KEPT, COMPENSATED]);
    // Of what is over, too.
    attack();
    rogue.is_heard(&["back", "front"]).await;
    are_idle(&[&back, &front]).await;
}

fn header(cast: [&str; 2]) -> Header {
    Header {
        choreography: "trade".into(),
        version: 1,
        initiator: FRONT,
        cast: cast.map(node_id).to_vec(),
        started_unix_ms: 0,
        deadline_unix_ms: None,
        patches: vec![],
        traceparent: None,
    }
}

/// What a front says first to a back, of a session that nobody has started.
fn order(number: u128, header: Header) -> Frame {
    let body =
        Body::Deliver { path: Path::root().child(1), operation: Operation::Comm, payload: Payload::from(vec![1, 0]) };
    Frame { session: SessionId::fresh(1, number << 64), from: FRONT, to: BACK, header: Some(Arc::new(header)), body }
}

/// Only who plays the role that it speaks for begins a session, and only with a cast that is known.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_with_a_forged_cast_begins_nothing() {
    let (sites, network) = (Sites::default(), LocalNetwork::new());
    let (back, front) = (sites.back(&network).await, sites.front(&network).await);
    let _side = sites.side(&network).await;
    let rogue = Rogue::attach(&network).await;
    rogue.is_heard(&["back"]).await;
    let greeting = |cast: [&str; 3]| Header {
        choreography: "greeting".into(),
        cast: cast.map(node_id).to_vec(),
        ..header(["back", "front"])
    };
    let casts = [
        header(["back", "front"]),
        header(["back", "side"]),
        header(["front", "rogue"]),
        header(["back", "ghost"]),
        greeting(["back", "front", "rogue"]),
        greeting(["back", "rogue", "ghost"]),
    ];
    for (number, header) in (0..).zip(&casts) {
        for (shift, body) in
            (0..).zip([order(0, header.clone()).body, Body::Nudge(Lacks::default()), Body::Abort(Abort::new("x", ""))])
        {
            let frame = Frame { body, ..order(number * 8 + shift, header.clone()) };
            for asked in [0, 1] {
                let packet = Packet { frames: vec![(asked, frame.clone())], ..Packet::new(EPOCH) };
                for from in ["rogue", "nobody"] {
                    rogue.send_as(from, "back", &packet);
                }
            }
        }
    }
    rogue.is_heard(&["back"]).await;
    until("what it asks of the store to be answered", || back.operator().instances() == 0).await;
    assert_eq!((back.open().await, sites.outside.asked()), (0, 0));
    assert!(
        back.operator().dead_letters().iter().all(|letter| letter.from == node_id("rogue")),
        "{:?}",
        back.operator().dead_letters()
    );
    within(within(front.start(Trade, deal(1))).await.unwrap().settled()).await.unwrap();
    are_idle(&[&back, &front]).await;
    assert_eq!(sites.outside.total(), KEPT);
}

/// Says in its own name that it plays the side, and knows whoever it says that to.
async fn ghost(rogue: &Rogue, to: &str) {
    let known = rogue.advertisement_of(to).await;
    let late =
        |choreography: &str| OfferedChoreography { choreography: choreography.into(), version: 1, patches: vec![] };
    let advertisement = Advertisement {
        roles: vec!["side".into()],
        choreographies: vec![late("late"), late("slow")],
        knows: Some(known.membership),
        ..Advertisement::default()
    };
    rogue.send_as("ghost", to, &Packet { advertisement: Some(advertisement), ..Packet::new(Epoch(13)) });
    rogue.is_heard(&[to]).await;
}

fn contact(node: &Node, other: &str) -> Option<Contact> {
    node.operator().peers().into_iter().find(|known| known.node.as_str() == other).map(|known| known.contact)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_node_known_by_one_advertisement_gets_no_sessions_even_after_a_restart() {
    let cluster = Cluster::default();
    let [mut front, _back, side] = cluster.start_all(["front", "back", "side"]).await;
    let rogue = Rogue::attach(&cluster.network).await;
    ghost(&rogue, "front").await;
    until("the ghost to be silent", || matches!(contact(&front, "ghost"), Some(Contact::Silent(_)))).await;
    settled(started(&front, 0..20).await).await;
    for life in 1..=3 {
        front = cluster.cut(front).await;
        assert!(contact(&front, "ghost").is_some(), "it is on disk");
        settled(started(&front, 20 * life..20 * life + 20).await).await;
    }
    assert_eq!(notes(&side).await.len(), 80);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_cannot_declare_that_another_has_left() {
    let cluster = Cluster::default();
    let [front, back, side] = cluster.start_all(["front", "back", "side"]).await;
    let rogue = Rogue::attach(&cluster.network).await;
    let left = async |node: &str| {
        let Advertisement { membership, .. } = rogue.advertisement_of(node).await;
        Left { at_unix_ms: u64::MAX / 2, node: node_id(node), membership }
    };
    let left = vec![left("side").await, left("back").await, left("front").await];
    for to in ["front", "back", "side"] {
        rogue.send(
            to,
            &Packet {
                advertisement: Some(Advertisement { left: left.clone(), ..Advertisement::default() }),
                ..Packet::new(EPOCH)
            },
        );
        rogue.is_heard(&[to]).await;
    }
    settled(started(&front, 0..20).await).await;
    for node in [&front, &back, &side] {
        assert_eq!(node.operator().status(), MemberStatus::Serving);
        assert!(
            node.operator().peers().iter().all(|known| known.status == MemberStatus::Serving),
            "{:?}",
            node.operator().peers()
        );
    }
    let front = cluster.cut(front).await;
    assert!(
        front.operator().peers().iter().all(|known| known.status == MemberStatus::Serving),
        "{:?}",
        front.operator().peers()
    );
    settled(started(&front, 20..40).await).await;
    assert_eq!(notes(&side).await.len(), 40);
    // In its own name it may.
    let own = Left { at_unix_ms: 1, node: node_id("rogue"), membership: Advertisement::default().membership };
    rogue.send(
        "front",
        &Packet {
            advertisement: Some(Advertisement { left: vec![own], ..Advertisement::default() }),
            ..Packet::new(EPOCH)
        },
    );
    knows_that(&front, "rogue", MemberStatus::Left).await;
}

/// A network that flips one bit in one of three packets.
#[derive(Clone)]
struct Flipping {
    network: LocalNetwork,
    chance: Arc<Mutex<Rng>>,
    flipped: Arc<AtomicUsize>,
}

struct FlippingWire(Arc<dyn Wire>, Flipping);

impl Flipping {
    fn flip(&self, packet: &mut [u8]) {
        let mut chance = self.chance.lock().unwrap();
        if chance.u8(..3) == 0 {
            let bit = chance.usize(..packet.len() * 8);
            packet[bit / 8] ^= 1 << (bit % 8);
            self.flipped.fetch_add(1, Ordering::SeqCst);
        }
    }
}

impl Transport for Flipping {
    fn attach(&self, node: NodeId, inbox: Arc<dyn Inbox>) -> BoxFuture<'_, Result<Arc<dyn Wire>, TransportError>> {
        Box::pin(async move {
            let wire = self.network.attach(node, inbox).await?;
            Ok(Arc::new(FlippingWire(wire, self.clone())) as Arc<dyn Wire>)
        })
    }
}

impl Wire for FlippingWire {
    fn send(&self, to: &NodeId, mut packet: Vec<u8>) {
        self.1.flip(&mut packet);
        self.0.send(to, packet);
    }
    fn broadcast(&self, mut packet: Vec<u8>) {
        self.1.flip(&mut packet);
        self.0.broadcast(packet);
    }
    fn packet_bytes_max(&self) -> usize {
        self.0.packet_bytes_max()
    }
    fn heal(&self, to: &NodeId, level: Heal) {
        self.0.heal(to, level);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flipped_bits_delay_sessions_and_change_none() {
    let network = Flipping {
        network: LocalNetwork::new(),
        chance: Arc::new(Mutex::new(Rng::with_seed(5))),
        flipped: Arc::default(),
    };
    let sites = Sites::default();
    let (back, front) = (sites.back(&network).await, sites.front(&network).await);
    let mut started = 0;
    // How many packets carry a session depends on how its frames were batched.
    while network.flipped.load(Ordering::SeqCst) <= 50 {
        let mut sessions = Vec::new();
        for id in started + 1..=started + 60 {
            sessions.push(within(front.start(Trade, Deal { id, refused: id % 3 == 0 })).await.unwrap());
        }
        for (id, session) in (started + 1..).zip(sessions) {
            let ended = within(session.settled()).await.ok();
            assert_eq!(ended, (id % 3 != 0).then_some(id * 101));
        }
        started += 60;
    }
    are_idle(&[&back, &front]).await;
    assert_eq!(sites.outside.total(), Tally { done: started, undone: started / 3 });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_that_are_made_up_are_forgotten_for_nodes_that_are_there() {
    let cluster = Cluster::default();
    let [front, back, side] = cluster.start_all(["front", "back", "side-1"]).await;
    settled(started(&front, 0..5).await).await;
    let rogue = Rogue::attach(&cluster.network).await;
    rogue.is_heard(&["front"]).await;
    let advertisement = Advertisement { roles: vec!["side".into()], ..Advertisement::default() };
    for number in 0..1_500 {
        let name = format!("made-up-{number}");
        rogue.send_as(
            &name,
            "front",
            &Packet { advertisement: Some(advertisement.clone()), ..Packet::new(Epoch(number)) },
        );
    }
    rogue.is_heard(&["front"]).await;
    assert!(front.operator().peers().len() < 1_100, "{}", front.operator().peers().len());
    let is_gone = |known: &accompanist::KnownNode| matches!(known.contact, Contact::Silent(_));
    let made_up =
        |front: &Node| front.operator().peers().into_iter().filter(|known| known.node.as_str().starts_with("made-up"));
    until("them to be silent", || made_up(&front).all(|known| is_gone(&known))).await;
    let other = cluster.start("side-2").await;
    knows_that(&front, "side-2", MemberStatus::Serving).await;
    for name in ["back", "side-1"] {
        knows_that(&front, name, MemberStatus::Serving).await;
    }
    within(async {
        for id in 5.. {
            settled(started(&front, [id]).await).await;
            if !notes(&other).await.is_empty() {
                break;
            }
        }
    })
    .await;
    are_idle(&[&front, &back, &side, &other]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changing_epochs_trigger_early_resends_at_a_bounded_rate() {
    const WAITING: usize = 50;
    let (recorder, outside) = (Recorder::default(), Arc::new(Outside::default()));
    // So long that nothing is sent again by itself.
    let pause = Duration::from_mins(10);
    let settings = Settings { retransmission_delay_min: pause, retransmission_delay_max: pause, ..quick() };
    let disks: [MemoryDisk; 2] = Default::default();
    let node = |name, disk| on_disk(name, disk, recorder.clone()).settings(settings.clone()).choreography(Trade);
    let back = || node("back", &disks[0]).role(Back, outside.clone());
    let (first, front) =
        (TestNode::start(back()).await, TestNode::start(node("front", &disks[1]).role(Front, Arc::new(()))).await);
    within(within(front.start(Trade, deal(0))).await.unwrap().settled()).await.unwrap();
    let rogue = Rogue::attach(&recorder.network).await;
    let advertisement = rogue.advertisement_of("back").await;
    within(first.shutdown()).await;
    let mut sessions = Vec::new();
    for id in 1..=u32::try_from(WAITING).unwrap() {
        sessions.push(within(front.start(Trade, deal(id))).await.unwrap());
    }
    let frames = || {
        let packets = recorder.packets.lock().unwrap();
        let to_back = packets.iter().filter(|sent| sent.to.as_str() == "back");
        to_back.map(|sent| Packet::peek(&sent.bytes).unwrap().frames.len()).sum::<usize>()
    };
    until("all to be sent once", || frames() >= WAITING).await;
    let before = frames();
    for epoch in 0..200 {
        rogue.send_as(
            "back",
            "front",
            &Packet { advertisement: Some(advertisement.clone()), ..Packet::new(Epoch(1_000 + epoch)) },
        );
    }
    rogue.is_heard(&["front"]).await;
    assert!(frames() <= before + 2 * WAITING, "{} more frames", frames() - before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nudges_begin_so_many_sessions_and_honest_ones_go_on() {
    const NUDGED_MAX: usize = 5;
    let (sites, network) = (Sites::default(), LocalNetwork::new());
    let settings = Settings { nudged_sessions_max: NUDGED_MAX, ..quick() };
    let back = on_disk("back", &sites.disks[0], network.clone()).role(Back, sites.outside.clone()).settings(settings);
    let back = TestNode::start(back.choreography(Trade)).await;
    let front = sites.front(&network).await;
    let rogue = Rogue::attach(&network).await;
    rogue.is_heard(&["back"]).await;
    let nudge = |number| {
        let frame = Frame { body: Body::Nudge(Lacks::default()), ..order(number, header(["back", "rogue"])) };
        rogue.send("back", &Packet { frames: vec![(0, frame)], ..Packet::new(EPOCH) });
    };
    nudge(0);
    within(async {
        for number in 1.. {
            nudge(number);
            rogue.is_heard(&["back"]).await;
            if back.open().await >= NUDGED_MAX {
                break;
            }
        }
    })
    .await;
    for number in 0..500 {
        nudge(1_000 + number);
    }
    rogue.is_heard(&["back"]).await;
    for id in 1..=10 {
        within(within(front.start(Trade, deal(id))).await.unwrap().settled()).await.unwrap();
    }
    until("they wait on disk", || back.operator().instances() == 0).await;
    assert_eq!(back.open().await, NUDGED_MAX);
    assert_eq!(sites.outside.total(), Tally { done: 10, undone: 0 });
    // One that something happens in does not count any more.
    let mut ends = BTreeMap::new();
    let abort =
        |number| Frame { body: Body::Abort(Abort::new("stranger", "")), ..order(number, header(["back", "rogue"])) };
    for number in 0..NUDGED_MAX as u128 {
        ends.insert(number, abort(number));
    }
    let frames = ends.into_iter().map(|(number, frame)| (u64::try_from(number).unwrap() + 1, frame)).collect();
    rogue.send("back", &Packet { frames, ..Packet::new(EPOCH) });
    let open = back.open().await;
    within(async {
        for number in 0.. {
            nudge(5_000 + number);
            rogue.is_heard(&["back"]).await;
            if back.open().await > open {
                break;
            }
        }
    })
    .await;
}
