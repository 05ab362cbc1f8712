//! Packets that no node of this release would send, or not any more: dropped, and nothing else happens.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use accompanist::Path;
use accompanist::contract::{BoxFuture, Inbox, Transport, TransportError, Wire};
use accompanist::id::RoleIndex;
use accompanist::message::Payload;
use accompanist::prelude::*;
use accompanist::transport::LocalNetwork;
use accompanist_core::frame::{
    Advertisement, Body, Epoch, Frame, Header, Lacks, OfferedChoreography, Operation, Outcome, Packet, WIRE_VERSION,
};
use tokio::sync::watch;

use crate::delivery::{Sites, are_idle};
use crate::support::{node_id, until, within};
use crate::trade::{COMPENSATED, Deal, KEPT, Tally, Trade, deal, tally};

/// An attached stranger who speaks the packets of this release, and others, in its own name or in that of another node.
pub struct Rogue {
    network: LocalNetwork,
    wire: Arc<dyn Wire>,
    heard: watch::Receiver<Heard>,
}

/// What was received: the epochs and the offers of the nodes, and who has answered with one.
#[derive(Default)]
struct Heard {
    epochs: BTreeMap<NodeId, Epoch>,
    advertisements: BTreeMap<NodeId, Advertisement>,
    answers: Vec<NodeId>,
}

struct Ears(watch::Sender<Heard>);

impl Inbox for Ears {
    fn receive(&self, from: &NodeId, packet: &[u8]) {
        let packet = Packet::from_bytes(packet, from, &node_id("rogue")).unwrap();
        self.0.send_modify(|heard| {
            heard.epochs.insert(from.clone(), packet.epoch);
            if let Some(advertisement) = packet.advertisement {
                if !advertisement.ask {
                    heard.answers.push(from.clone());
                }
                heard.advertisements.insert(from.clone(), advertisement);
            }
        });
    }
}

/// The epoch of what the stranger says in its own name.
pub const EPOCH: Epoch = Epoch(77);

impl Rogue {
    pub async fn attach(network: &LocalNetwork) -> Self {
        let (sender, heard) = watch::channel(Heard::default());
        let wire = network.attach(node_id("rogue"), Arc::new(Ears(sender))).await.unwrap();
        Self { network: network.clone(), wire, heard }
    }

    /// In its own name.
    pub fn send(&self, to: &str, packet: &Packet) {
        self.wire.send(&node_id(to), packet.to_bytes(&node_id("rogue"), Some(&node_id(to))).unwrap());
    }

    /// In the name of another node, whether there is one or not.
    pub fn send_as(&self, from: &str, to: &str, packet: &Packet) {
        self.send_bytes_as(from, to, &packet.to_bytes(&node_id(from), Some(&node_id(to))).unwrap());
    }

    pub fn send_bytes_as(&self, from: &str, to: &str, bytes: &[u8]) {
        self.network.inject(&node_id(from), Some(&node_id(to)), bytes);
    }

    /// The epoch of a node, as it tells everybody.
    pub async fn epoch_of(&self, node: &str) -> Epoch {
        self.is_heard(&[node]).await;
        self.heard.borrow().epochs[&node_id(node)]
    }

    /// What a node offers, as it tells everybody.
    pub async fn advertisement_of(&self, node: &str) -> Advertisement {
        self.is_heard(&[node]).await;
        let advertisement = self.heard.borrow().advertisements[&node_id(node)].clone();
        // What it knows of the stranger is for that one.
        Advertisement { knows: None, ask: false, ..advertisement }
    }

    /// Waits until the links of these nodes have been through everything sent to them so far.
    pub async fn is_heard(&self, nodes: &[&str]) {
        for node in nodes {
            let answers = |heard: &Heard| heard.answers.iter().filter(|from| from.as_str() == *node).count();
            let already = answers(&self.heard.borrow());
            self.send(
                node,
                &Packet {
                    advertisement: Some(Advertisement { ask: true, ..Advertisement::default() }),
                    ..Packet::new(EPOCH)
                },
            );
            within(self.heard.clone().wait_for(|heard| answers(heard) > already)).await.unwrap();
        }
    }
}

/// As the front sends it, under a number that it never comes to.
fn with_frame(epoch: Epoch, frame: Frame) -> Packet {
    Packet { frames: vec![(1 << 40, frame)], ..Packet::new(epoch) }
}

fn bytes(packet: &Packet) -> Vec<u8> {
    packet.to_bytes(&node_id("front"), Some(&node_id("back"))).unwrap()
}

/// A header of `Trade` as the front would write it.
fn header() -> Header {
    let cast = vec![node_id("back"), node_id("front")];
    Header {
        choreography: "trade".into(),
        version: 1,
        initiator: RoleIndex(1),
        cast,
        started_unix_ms: 0,
        deadline_unix_ms: None,
        patches: vec![],
        traceparent: None,
    }
}

/// A message for the back, of a session that nobody has heard of.
fn frame(number: u128, header: Option<Header>) -> Frame {
    let body =
        Body::Deliver { path: Path::root().child(1), operation: Operation::Comm, payload: Payload::from(vec![1, 0]) };
    let session = SessionId::fresh(1, number << 64);
    Frame { session, from: RoleIndex(1), to: RoleIndex(0), header: header.map(Arc::new), body }
}

fn bodies() -> [Body; 4] {
    let abort = Abort::new("rogue", "");
    [
        Body::Nudge(Lacks::default()),
        Body::Abort(abort.clone()),
        Body::Done(Outcome::Finished),
        Body::Close(Outcome::Compensated(abort)),
    ]
}

/// Bytes that are no packet, or of another release, or are not as they were sent.
fn garbage(epoch: Epoch) -> Vec<Vec<u8>> {
    let packet = with_frame(epoch, frame(1, Some(header())));
    let good = bytes(&packet);
    let mut garbage: Vec<Vec<u8>> = (0..good.len()).map(|length| good[..length].to_vec()).collect();
    garbage.extend((0..good.len() * 8).map(|bit| {
        let mut flipped = good.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        flipped
    }));
    garbage.push(vec![0xff; 100]);
    garbage.push([&good[..], b"more"].concat());
    garbage.push([vec![WIRE_VERSION], vec![0xff; 1_000]].concat());
    garbage.push([vec![WIRE_VERSION + 1], good[1..].to_vec()].concat());
    // For another node, of another one, for all of another one.
    let astray = [("front", Some("side")), ("side", Some("back")), ("side", None)];
    garbage.extend(astray.map(|(from, to)| packet.to_bytes(&node_id(from), to.map(node_id).as_ref()).unwrap()));
    let mut random = fastrand::Rng::with_seed(3);
    for _ in 0..1_000 {
        let length = random.usize(..300);
        garbage.push([vec![WIRE_VERSION], std::iter::repeat_with(|| random.u8(..)).take(length).collect()].concat());
    }
    garbage
}

/// Packets that can be read, and must be dropped.
fn misfits(epoch: Epoch) -> Vec<Vec<u8>> {
    let mut frames = vec![
        frame(10, None),
        frame(11, Some(Header { choreography: "no-such".into(), ..header() })),
        frame(12, Some(Header { version: 99, ..header() })),
        frame(9, Some(Header { patches: vec!["no-such".into()], ..header() })),
        frame(13, Some(Header { cast: vec![], ..header() })),
        frame(14, Some(Header { cast: vec![node_id("back"); 9], ..header() })),
        frame(15, Some(Header { initiator: RoleIndex(9), ..header() })),
        frame(16, Some(Header { cast: vec![node_id("front"), node_id("back")], ..header() })),
        Frame { to: RoleIndex(9), ..frame(17, Some(header())) },
        Frame { to: RoleIndex(u8::MAX), from: RoleIndex(u8::MAX), ..frame(18, Some(header())) },
        // A role that this node does not play.
        Frame { to: RoleIndex(1), from: RoleIndex(0), ..frame(19, Some(header())) },
    ];
    for (number, body) in (20..).zip(bodies()) {
        frames.push(Frame { body: body.clone(), ..frame(number, None) });
        frames.push(Frame { body, to: RoleIndex(9), ..frame(number + 10, Some(header())) });
    }
    let mut packets: Vec<Packet> = frames.into_iter().map(|frame| with_frame(epoch, frame)).collect();
    // Offers to play that are too large: nobody is cast for them.
    let trade = |patches| OfferedChoreography { choreography: "trade".into(), version: 1, patches };
    for patches in [vec!["p".repeat(1_000)], vec![String::new(); 1_000]] {
        let advertisement = Advertisement {
            roles: vec!["back".into()],
            choreographies: vec![trade(patches)],
            ..Advertisement::default()
        };
        packets.push(Packet { advertisement: Some(advertisement), ..Packet::new(epoch) });
    }
    // Acknowledgements of what was never sent.
    packets.push(Packet { acks: vec![(Epoch(3), vec![4, u64::MAX])], ..Packet::new(epoch) });
    packets.iter().map(bytes).collect()
}

/// Whatever is sent to the back in the name of the front, and in its present epoch.
async fn is_unmoved_by(packets: impl FnOnce(Epoch) -> Vec<Vec<u8>>) {
    let (sites, network) = (Sites::default(), LocalNetwork::new());
    let (back, front) = (sites.back(&network).await, sites.front(&network).await);
    sites.outside.set_gate(false);
    let during = within(front.start(Trade, deal(1))).await.unwrap();
    within(sites.outside.asked_times(1)).await;
    let rogue = Rogue::attach(&network).await;
    for packet in packets(rogue.epoch_of("front").await) {
        rogue.send_bytes_as("front", "back", &packet);
    }
    // Of a node that calls itself as this one does.
    let own = with_frame(rogue.epoch_of("back").await, frame(40, Some(header())));
    rogue.send_as("back", "back", &own);
    rogue.is_heard(&["back"]).await;
    // It holds the one session that there is.
    until("one instance", || back.operator().instances() == 1).await;
    sites.outside.set_gate(true);
    assert_eq!(within(during.settled()).await.unwrap(), 101);
    assert_eq!(sites.outside.total(), KEPT);
    let after = within(front.start(Trade, deal(2))).await.unwrap();
    assert_eq!(within(after.settled()).await.unwrap(), 202);
    are_idle(&[&back, &front]).await;
    // Nothing of it was kept.
    within(back.shutdown()).await;
    let back = sites.back(&network).await;
    let last = within(front.start(Trade, deal(3))).await.unwrap();
    assert_eq!(within(last.settled()).await.unwrap(), 303);
    back.is_idle().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_is_dropped() {
    is_unmoved_by(garbage).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn packets_that_fit_nothing_are_dropped() {
    is_unmoved_by(misfits).await;
}

/// What only a node of this session would send, from a role that the session does not have.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_from_a_role_outside_the_session_are_dropped() {
    let bodies = (50..).zip(bodies()).filter(|(_, body)| !matches!(body, Body::Nudge(_)));
    let frames = bodies.map(|(number, body)| Frame { body, ..frame(number, Some(header())) });
    let frames = frames.chain([frame(60, Some(header()))]).map(|frame| Frame { from: RoleIndex(9), ..frame });
    is_unmoved_by(|epoch| frames.map(|frame| bytes(&with_frame(epoch, frame))).collect()).await;
}

/// A packet that was sent to one node.
#[derive(Clone)]
pub struct Sent {
    pub from: NodeId,
    pub to: NodeId,
    pub bytes: Vec<u8>,
}

/// Keeps every packet that is sent to one node.
#[derive(Clone, Default)]
pub struct Recorder {
    pub network: LocalNetwork,
    pub packets: Arc<Mutex<Vec<Sent>>>,
}

struct RecordingWire(Arc<dyn Wire>, NodeId, Recorder);

impl Transport for Recorder {
    fn attach(&self, node: NodeId, inbox: Arc<dyn Inbox>) -> BoxFuture<'_, Result<Arc<dyn Wire>, TransportError>> {
        Box::pin(async move {
            let wire = self.network.attach(node.clone(), inbox).await?;
            Ok(Arc::new(RecordingWire(wire, node, self.clone())) as Arc<dyn Wire>)
        })
    }
}

impl Wire for RecordingWire {
    fn send(&self, to: &NodeId, packet: Vec<u8>) {
        let Self(wire, from, recorder) = self;
        let sent = Sent { from: from.clone(), to: to.clone(), bytes: packet.clone() };
        recorder.packets.lock().unwrap().push(sent);
        wire.send(to, packet);
    }
    fn broadcast(&self, packet: Vec<u8>) {
        self.0.broadcast(packet);
    }
    fn packet_bytes_max(&self) -> usize {
        self.0.packet_bytes_max()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn packets_of_closed_sessions_start_nothing() {
    let (sites, recorder) = (Sites::default(), Recorder::default());
    let (back, front) = (sites.back(&recorder).await, sites.front(&recorder).await);
    for (id, refused) in [(1, false), (2, true)] {
        let session = within(front.start(Trade, Deal { id, refused })).await.unwrap();
        assert_eq!(within(session.settled()).await.is_err(), refused);
    }
    are_idle(&[&back, &front]).await;
    let packets = recorder.packets.lock().unwrap().clone();
    let rogue = Rogue::attach(&recorder.network).await;
    // In order, and the other way round; then to nodes that have forgotten the numbers.
    for Sent { from, to, bytes } in packets.iter().chain(packets.iter().rev()) {
        rogue.send_bytes_as(from.as_str(), to.as_str(), bytes);
    }
    rogue.is_heard(&["back", "front"]).await;
    are_idle(&[&back, &front]).await;
    within(back.shutdown()).await;
    within(front.shutdown()).await;
    let (back, front) = (sites.back(&recorder).await, sites.front(&recorder).await);
    for Sent { from, to, bytes } in &packets {
        rogue.send_bytes_as(from.as_str(), to.as_str(), bytes);
    }
    rogue.is_heard(&["back", "front"]).await;
    let session = within(front.start(Trade, deal(3))).await.unwrap();
    assert_eq!(within(session.settled()).await.unwrap(), 303);
    are_idle(&[&back, &front]).await;
    assert_eq!((sites.outside.asked(), sites.outside.total()), (3, Tally { done: 3, undone: 1 }));
    assert_eq!([tally(&front, "hold", 1).await, tally(&front, "hold", 2).await], [KEPT, COMPENSATED]);
}
