//! Packets that no node of this release would send, or not any more: dropped, and nothing else happens.

use std::sync::{Arc, Mutex};

use accompanist::contract::{BoxFuture, Inbox, Transport, TransportError, Wire};
use accompanist::frame::{Body, Frame, Header, Offer, Offered, Operation, Outcome, Packet, Receipt, WIRE_VERSION};
use accompanist::id::RoleIndex;
use accompanist::prelude::*;
use accompanist::transport::LocalNetwork;
use accompanist::{Path, Payload};
use tokio::sync::watch;

use crate::delivery::{Sites, are_idle};
use crate::support::{node_id, until, within};
use crate::trade::{Deal, KEPT, TAKEN_BACK, Tally, Trade, deal, tally};

/// An attached stranger who speaks the packets of this release, and others.
pub struct Rogue {
    wire: Arc<dyn Wire>,
    answers: watch::Receiver<Vec<NodeId>>,
}

/// Notes who answers with an offer.
struct Answers(watch::Sender<Vec<NodeId>>);

impl Inbox for Answers {
    fn receive(&self, packet: &[u8]) {
        let packet = Packet::from_bytes(packet).unwrap();
        if packet.offer.is_some_and(|offer| !offer.ask) {
            self.0.send_modify(|answers| answers.push(packet.from));
        }
    }
}

impl Rogue {
    pub async fn attach(network: &LocalNetwork) -> Self {
        let (sender, answers) = watch::channel(Vec::new());
        let wire = network.attach(node_id("rogue"), Arc::new(Answers(sender))).await.unwrap();
        Self { wire, answers }
    }

    pub fn send(&self, to: &str, packet: Vec<u8>) {
        self.wire.send(&node_id(to), packet);
    }

    /// Waits until the links of these nodes have been through everything sent to them so far.
    pub async fn is_heard(&self, nodes: &[&str]) {
        for node in nodes {
            let already = self.answers.borrow().iter().filter(|from| from.as_str() == *node).count();
            let ask = Packet { offer: Some(Offer { ask: true, ..Offer::default() }), ..packet() };
            self.send(node, ask.to_bytes().unwrap());
            let mut answers = self.answers.clone();
            let heard = |answers: &Vec<NodeId>| answers.iter().filter(|from| from.as_str() == *node).count() > already;
            within(answers.wait_for(heard)).await.unwrap();
        }
    }
}

fn packet() -> Packet {
    Packet::new(node_id("rogue"), 77)
}

fn with_frame(frame: Frame) -> Vec<u8> {
    Packet { frames: vec![(5, frame)], ..packet() }.to_bytes().unwrap()
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
    [Body::Nudge, Body::Abort(abort.clone()), Body::Done(Outcome::Finished), Body::Close(Outcome::Compensated(abort))]
}

/// Bytes that are no packet, or of another release.
fn garbage() -> Vec<Vec<u8>> {
    let good = with_frame(frame(1, Some(header())));
    let mut garbage: Vec<Vec<u8>> = (0..good.len()).map(|length| good[..length].to_vec()).collect();
    garbage.push(vec![0xff; 100]);
    garbage.push([&good[..], b"more"].concat());
    garbage.push([vec![WIRE_VERSION], vec![0xff; 1_000]].concat());
    garbage.push([vec![WIRE_VERSION + 1], good[1..].to_vec()].concat());
    let mut random = fastrand::Rng::with_seed(3);
    for _ in 0..1_000 {
        let length = random.usize(..300);
        garbage.push([vec![WIRE_VERSION], std::iter::repeat_with(|| random.u8(..)).take(length).collect()].concat());
    }
    garbage
}

/// Packets that can be read, and must be dropped.
fn misfits() -> Vec<Vec<u8>> {
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
    let mut packets: Vec<Vec<u8>> = frames.into_iter().map(with_frame).collect();
    // Of a node that calls itself as this one does.
    let own = Packet { frames: vec![(1, frame(40, Some(header())))], ..Packet::new(node_id("back"), 1) };
    packets.push(own.to_bytes().unwrap());
    // Offers to play that are too large: nobody is cast for them.
    let trade = |patches| Offered { choreography: "trade".into(), version: 1, patches };
    for patches in [vec!["p".repeat(1_000)], vec![String::new(); 1_000]] {
        let offer = Offer { roles: vec!["back".into()], choreographies: vec![trade(patches)], ..Offer::default() };
        packets.push(Packet { offer: Some(offer), ..packet() }.to_bytes().unwrap());
    }
    // Acknowledgements of what was never sent.
    let receipt = Receipt { to: node_id("back"), epoch: 3, number: 4 };
    packets
        .push(Packet { acks: vec![(receipt.epoch, vec![receipt.number, u64::MAX])], ..packet() }.to_bytes().unwrap());
    packets
}

async fn is_unmoved_by(packets: Vec<Vec<u8>>) {
    let (sites, network) = (Sites::default(), LocalNetwork::new());
    let (back, front) = (sites.back(&network).await, sites.front(&network).await);
    sites.outside.set_gate(false);
    let during = within(front.start(Trade, deal(1))).await.unwrap();
    within(sites.outside.asked_times(1)).await;
    let rogue = Rogue::attach(&network).await;
    for packet in packets {
        rogue.send("back", packet);
    }
    rogue.is_heard(&["back"]).await;
    // It holds the one session that there is.
    until("one instance", || back.instances() == 1).await;
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
    is_unmoved_by(garbage()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn packets_that_fit_nothing_are_dropped() {
    is_unmoved_by(misfits()).await;
}

/// What only a node of this session would send, from a role that the session does not have.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_that_the_session_does_not_have_is_not_heard() {
    let mut packets = Vec::new();
    for (number, body) in (50..).zip(bodies()).filter(|(_, body)| !matches!(body, Body::Nudge)) {
        packets.push(with_frame(Frame { body, from: RoleIndex(9), ..frame(number, Some(header())) }));
    }
    packets.push(with_frame(Frame { from: RoleIndex(9), ..frame(60, Some(header())) }));
    is_unmoved_by(packets).await;
}

pub type Sent = (NodeId, Vec<u8>);

/// Keeps every packet that is sent, and to whom.
#[derive(Clone, Default)]
pub struct Recorder {
    pub network: LocalNetwork,
    pub packets: Arc<Mutex<Vec<Sent>>>,
}

struct RecordingWire(Arc<dyn Wire>, Recorder);

impl Transport for Recorder {
    fn attach(&self, node: NodeId, inbox: Arc<dyn Inbox>) -> BoxFuture<'_, Result<Arc<dyn Wire>, TransportError>> {
        Box::pin(async move {
            let wire = self.network.attach(node, inbox).await?;
            Ok(Arc::new(RecordingWire(wire, self.clone())) as Arc<dyn Wire>)
        })
    }
}

impl Wire for RecordingWire {
    fn send(&self, to: &NodeId, packet: Vec<u8>) {
        self.1.packets.lock().unwrap().push((to.clone(), packet.clone()));
        self.0.send(to, packet);
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
    for (to, packet) in packets.iter().chain(packets.iter().rev()) {
        rogue.send(to.as_str(), packet.clone());
    }
    rogue.is_heard(&["back", "front"]).await;
    are_idle(&[&back, &front]).await;
    within(back.shutdown()).await;
    within(front.shutdown()).await;
    let (back, front) = (sites.back(&recorder).await, sites.front(&recorder).await);
    for (to, packet) in &packets {
        rogue.send(to.as_str(), packet.clone());
    }
    rogue.is_heard(&["back", "front"]).await;
    let session = within(front.start(Trade, deal(3))).await.unwrap();
    assert_eq!(within(session.settled()).await.unwrap(), 303);
    are_idle(&[&back, &front]).await;
    assert_eq!((sites.outside.asked(), sites.outside.total()), (3, Tally { done: 3, undone: 1 }));
    assert_eq!([tally(&front, "hold", 1).await, tally(&front, "hold", 2).await], [KEPT, TAKEN_BACK]);
}
