//! What one can bring about by any single packet of a run, changed in one field and sent once more: while sessions are
//! under way, and after them. `changes` has the fields.
//!
//! What those say who have no part is said once more without a number, so that it asks for no acknowledgement.
//!
//! - *nobody*, who is no member, or whom nobody has heard of; *mallory*, who is heard and has no node behind it; and
//!   the *side*,
//!   a node that has no part in these sessions: all is as it would be without them.
//! - A *traitor*, a node that has a part, speaks as itself. It can refuse (its sessions are aborted), say what it likes
//!   of its own
//!   part, and stop a session that it has a part in, here or there: that one is listed, with a reason. The
//!   books of the other role agree with the end that it came to: each step once at most, and compensated just if its
//!   role has ended compensated. No other session is touched.
//!
//! Left out, since every node that is heard may do it to itself or to those that hear it (docs/security.md): to say
//! that the receiver's store, or its membership, is not the one that is known (it stops); in an open system to offer a
//! role, or to start a session, in one's own name (a members file is against that); and for the traitor, to offer what
//! it has not.
//!
//! `ACCOMPANIST_SEED=17` runs another seed, `ACCOMPANIST_ROUNDS=500` more rounds of it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use accompanist::contract::{BoxFuture, Inbox, Space, Store, Transport, TransportError, Wire};
use accompanist::id::{InstanceId, RoleIndex};
use accompanist::prelude::*;
use accompanist::store::MemoryDisk;
use accompanist::{Members, NodeBuilder};
use accompanist_core::frame::{Advertisement, Body, Dispute, Epoch, Frame, Left, Outcome, Packet};
use accompanist_core::record::{Closed, read_value};
use fastrand::Rng;

use crate::changes::{CHANGES, Values};
use crate::delivery::{are_idle, knowing};
use crate::rogue::{EPOCH, Recorder, Rogue, Sent};
use crate::support::{TestNode, node_id, on_disk, until, within};
use crate::trade::{Back, COMPENSATED, Deal, Front, KEPT, NOTHING, Outside, Side, Tally, Trade, deal, tally};

const MEMBERS: &str = "system = \"test\"
[nodes.back]
roles = [\"back\"]
[nodes.front]
roles = [\"front\"]
starts = [\"*\"]
[nodes.side]
roles = [\"side\"]
[nodes.mallory]
roles = [\"side\"]
[nodes.rogue]
roles = [\"side\"]
";

/// Those that have a part.
const PLAYERS: [&str; 2] = ["back", "front"];

/// What a traitor changes in its offers.
const SAID_BY_A_TRAITOR: [&str; 4] = ["offer.ask", "offer.left", "offer.needs", "offer.received"];

/// Packets that are sent at a time.
const PACKETS: usize = 30;

fn number_of(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |value| value.parse().unwrap())
}

/// What was sent, to be shown when a test fails.
struct Said(u64, Vec<String>);

impl Drop for Said {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let last = self.1.len().saturating_sub(2 * PACKETS);
            eprintln!("ACCOMPANIST_SEED={}, after:\n{}", self.0, self.1[last..].join("\n"));
        }
    }
}

/// Keeps what is sent; loses what is sent to those that have a part while it is cut.
#[derive(Clone, Default)]
struct Cut {
    recorder: Recorder,
    is_cut: Arc<AtomicBool>,
}

struct CutWire(Arc<dyn Wire>, Arc<AtomicBool>);

impl Transport for Cut {
    fn attach(&self, node: NodeId, inbox: Arc<dyn Inbox>) -> BoxFuture<'_, Result<Arc<dyn Wire>, TransportError>> {
        Box::pin(async move {
            let wire = self.recorder.attach(node, inbox).await?;
            Ok(Arc::new(CutWire(wire, self.is_cut.clone())) as Arc<dyn Wire>)
        })
    }
}

impl Wire for CutWire {
    fn send(&self, to: &NodeId, packet: Vec<u8>) {
        if !(self.1.load(Ordering::SeqCst) && PLAYERS.contains(&to.as_str())) {
            self.0.send(to, packet);
        }
    }
    fn broadcast(&self, packet: Vec<u8>) {
        self.0.broadcast(packet);
    }
    fn packet_bytes_max(&self) -> usize {
        self.0.packet_bytes_max()
    }
}

struct World {
    disks: [MemoryDisk; 3],
    outside: Arc<Outside>,
    network: Cut,
    members: Option<Members>,
    next: u32,
    deals: Vec<(SessionId, Deal)>,
    random: Rng,
    said: Said,
}

struct Nodes {
    back: TestNode,
    front: TestNode,
    side: TestNode,
    rogue: Rogue,
    side_epoch: Epoch,
    /// What the back, the front and the side offer.
    advertisements: [Advertisement; 3],
}

impl Nodes {
    /// Those that have stopped somewhere.
    fn stopped(&self) -> BTreeSet<SessionId> {
        let all = [&self.back, &self.front].into_iter().flat_map(|node| node.operator().stopped_sessions());
        all.map(|stopped| stopped.session).collect()
    }

    async fn are_heard(&self) {
        self.rogue.is_heard(&PLAYERS).await;
    }
}

/// How a session has ended at the front; `None` if it is stopped here or there.
type End = Option<Result<u32, SessionError>>;

impl World {
    fn new(seed: u64, is_open: bool) -> Self {
        let seed = number_of("ACCOMPANIST_SEED", seed);
        let members = (!is_open).then(|| Members::from_toml("members.toml", MEMBERS).unwrap());
        let (disks, outside, network) = Default::default();
        let (random, said) = (Rng::with_seed(seed), Said(seed, Vec::new()));
        Self { disks, outside, network, members, next: 0, deals: Vec::new(), random, said }
    }

    async fn start(&self, name: &str, role: usize, play: impl FnOnce(NodeBuilder) -> NodeBuilder) -> TestNode {
        let builder = knowing(play(on_disk(name, &self.disks[role], self.network.clone())));
        let members = self.members.clone();
        TestNode::start(members.into_iter().fold(builder, NodeBuilder::members)).await
    }

    async fn back(&self) -> TestNode {
        self.start("back", 0, |node| node.role(Back, self.outside.clone())).await
    }

    async fn begin(&mut self, front: &TestNode, refused: bool) -> Session<Trade> {
        self.next += 1;
        let deal = Deal { refused, ..deal(self.next) };
        let session = within(front.start(Trade, deal)).await.unwrap();
        self.deals.push((session.id(), deal));
        session
    }

    /// A session that ends, one that is refused, one that is cancelled, and one whose node is killed in between.
    async fn history(&mut self) -> Nodes {
        let back = self.back().await;
        let front = self.start("front", 1, |node| node.role(Front, Arc::new(()))).await;
        let side = self.start("side", 2, |node| node.role(Side, Arc::new(()))).await;
        let rogue = Rogue::attach(&self.network.recorder.network).await;
        for refused in [false, true] {
            let session = self.begin(&front, refused).await;
            assert_eq!(within(session.settled()).await.is_err(), refused);
        }
        self.outside.set_gate(false);
        let (cancelled, kept) = (self.begin(&front, false).await, self.begin(&front, false).await);
        within(self.outside.asked_times(4)).await;
        assert!(within(cancelled.cancel("as the test wants")).await.unwrap());
        within(back.kill()).await;
        drop(back);
        self.outside.set_gate(true);
        let back = self.back().await;
        within(cancelled.settled()).await.unwrap_err();
        within(kept.settled()).await.unwrap();
        are_idle(&[&back, &front]).await;
        let side_epoch = rogue.epoch_of("side").await;
        let advertisements = [
            rogue.advertisement_of("back").await,
            rogue.advertisement_of("front").await,
            rogue.advertisement_of("side").await,
        ];
        Nodes { back, front, side, rogue, side_epoch, advertisements }
    }

    /// Packets of the run, each with one change, from whoever `by` is.
    fn attack(&mut self, nodes: &Nodes, by: &str) {
        let recorded: Vec<Sent> = self.network.recorder.packets.lock().unwrap().clone();
        let is_trade = |sent: &Sent| [&sent.from, &sent.to].iter().all(|node| PLAYERS.contains(&node.as_str()));
        let traitor = PLAYERS.contains(&by);
        let recorded: Vec<Sent> =
            recorded.into_iter().filter(|sent| is_trade(sent) && (!traitor || sent.from.as_str() == by)).collect();
        let packets = recorded.iter().map(|sent| Packet::peek(&sent.bytes).unwrap());
        let names = ["back", "front", "side", "ghost"].map(node_id);
        let texts = ["trade", "greeting", "back", "front", "side", "", "no-such"];
        let mut values = Values::of(packets, &names, &texts);
        values.advertisements.extend(nodes.advertisements.iter().cloned());
        let epoch = recorded
            .iter()
            .rev()
            .find(|sent| sent.from.as_str() == by)
            .map(|sent| Packet::peek(&sent.bytes).unwrap().epoch);
        if by == "mallory" {
            let packet = Packet { advertisement: Some(Advertisement::default()), ..Packet::new(EPOCH) };
            for to in PLAYERS {
                nodes.rogue.send_as(by, to, &packet);
            }
        }
        let mut sent = 0;
        while sent < PACKETS {
            let (name, change) = self.random.choice(CHANGES).unwrap();
            // The latest ones belong to what is under way.
            let since = if self.random.bool() { recorded.len().saturating_sub(20) } else { 0 };
            let Sent { to, bytes, .. } = self.random.choice(&recorded[since..]).unwrap();
            let mut packet = Packet::peek(bytes).unwrap();
            packet.advertisement = name.starts_with("offer").then(|| match by {
                "back" => nodes.advertisements[0].clone(),
                "front" => nodes.advertisements[1].clone(),
                "side" => nodes.advertisements[2].clone(),
                _ => Advertisement::default(),
            });
            packet.epoch = match by {
                "side" => nodes.side_epoch,
                "mallory" => EPOCH,
                _ => epoch.unwrap_or(packet.epoch),
            };
            // To the other one, now and then.
            let to = if !traitor && self.random.u8(..8) == 0 {
                if to.as_str() == "back" { "front" } else { "back" }
            } else {
                to.as_str()
            };
            if change(&mut packet, &values, &mut self.random).is_none() || !self.is_asked(by, to, name, &packet, nodes)
            {
                continue;
            }
            self.said.1.push(format!("{name}: {by} -> {to} {packet:?}"));
            nodes.rogue.send_as(by, to, &packet);
            if !traitor {
                // And as what asks for no acknowledgement.
                packet.frames.iter_mut().for_each(|(number, _)| *number = 0);
                nodes.rogue.send_as(by, to, &packet);
            }
            sent += 1;
        }
    }

    /// Whether that is asked here at all: the module's documentation says what is left out.
    fn is_asked(&self, by: &str, to: &str, name: &str, packet: &Packet, nodes: &Nodes) -> bool {
        let [back, front, _] = &nodes.advertisements;
        let receiver = if to == "back" { back } else { front };
        let traitor = PLAYERS.contains(&by);
        if let Some(advertisement) = &packet.advertisement {
            let names_own = |dispute: Dispute| dispute.refused.is_same(&receiver.generation);
            let parts = |left: &Left| PLAYERS.contains(&left.node.as_str());
            if advertisement.knows.is_some_and(|known| known != receiver.membership)
                || advertisement.dispute.is_some_and(names_own)
                || traitor && (!SAID_BY_A_TRAITOR.contains(&name) || advertisement.left.iter().any(parts))
            {
                return false;
            }
        }
        let starts = packet.frames.iter().any(|(_, frame)| {
            frame.header.as_ref().is_some_and(|header| header.node_of(frame.from) == Some(&node_id(by)))
        });
        self.members.is_some() || traitor || !(starts || name == "offer.roles")
    }

    /// Four sessions, with an attack while three of them wait and the messages of the fourth are lost, and another one
    /// when they are over.
    async fn round(&mut self, nodes: &Nodes, by: &str) -> Vec<(Deal, SessionId, End)> {
        self.outside.set_gate(false);
        let asked = self.outside.asked();
        let mut sessions = Vec::new();
        for refused in [false, true, false] {
            sessions.push(self.begin(&nodes.front, refused).await);
        }
        within(self.outside.asked_times(asked + 3)).await;
        self.network.is_cut.store(true, Ordering::SeqCst);
        sessions.push(self.begin(&nodes.front, false).await);
        self.attack(nodes, by);
        nodes.are_heard().await;
        self.network.is_cut.store(false, Ordering::SeqCst);
        // By a traitor it may be over.
        let cancelled = within(sessions[2].cancel("as the test wants")).await;
        self.outside.set_gate(true);
        let mut ends = Vec::new();
        for session in &sessions {
            let stopped = until("its end, or that it is stopped", || nodes.stopped().contains(&session.id()));
            let end = tokio::select! { end = session.settled() => Some(end), () = stopped => None };
            let end = end.filter(|end| !matches!(end, Err(SessionError::Stopped { .. })));
            let (_, deal) = self.deals[self.deals.len() - 4 + ends.len()];
            ends.push((deal, session.id(), end));
        }
        self.attack(nodes, by);
        nodes.are_heard().await;
        if !PLAYERS.contains(&by) {
            assert!(cancelled.unwrap());
            assert_eq!(self.outside.asked(), asked + 4);
        }
        ends
    }

    /// What the honest role keeps of a session agrees with the end that it came to.
    fn outcome(&self, session: SessionId, role: u8) -> Option<Outcome> {
        let (store, key) =
            (self.disks[usize::from(role)].open().unwrap(), InstanceId { session, role: RoleIndex(role) });
        let closed = store.get(Space::Closed, &key.to_bytes()).unwrap()?;
        Some(read_value::<Closed>(Space::Closed, &closed).unwrap().outcome)
    }
}

/// Those that have no part change nothing.
async fn check_outsider(seed: u64, is_open: bool, by: &str) {
    let mut world = World::new(seed, is_open);
    let nodes = world.history().await;
    for _ in 0..number_of("ACCOMPANIST_ROUNDS", 6) {
        for (Deal { id, refused }, session, end) in world.round(&nodes, by).await {
            let kept = !refused && id % 4 != 3;
            let stopped = || [&nodes.back, &nodes.front].map(|node| node.operator().stopped_sessions());
            let end = end.unwrap_or_else(|| panic!("deal {id} is stopped: {:?}", stopped()));
            assert_eq!(end.ok(), kept.then_some(id * 101), "deal {id}");
            let steps = [
                tally(&nodes.front, "hold", id).await,
                world.outside.of(session),
                tally(&nodes.front, "dispatch", id).await,
            ];
            assert_eq!(steps, if kept { [KEPT; 3] } else { [COMPENSATED, COMPENSATED, NOTHING] }, "{id}");
        }
        are_idle(&[&nodes.back, &nodes.front]).await;
        assert!(nodes.stopped().is_empty());
        // Each knows the other one, the side and the three strangers, at most.
        assert!([&nodes.back, &nodes.front].iter().all(|node| node.operator().peers().len() < 6));
    }
}

/// What one that has a part does is seen in its own sessions only, and in no books but its own.
async fn check_traitor(seed: u64, by: &str) {
    let mut world = World::new(seed, false);
    let nodes = world.history().await;
    for _ in 0..number_of("ACCOMPANIST_ROUNDS", 6) {
        world.round(&nodes, by).await;
        for node in [&nodes.back, &nodes.front] {
            // Whoever has a part in what is stopped somewhere waits for an operator.
            let ended = async {
                while node.open().await > nodes.stopped().len() {
                    tokio::task::yield_now().await;
                }
            };
            within(ended).await;
        }
    }
    let stopped = nodes.stopped();
    for node in [&nodes.back, &nodes.front] {
        for listed in node.operator().stopped_sessions() {
            assert!(!listed.reason.is_empty() && !listed.reason.contains("panicked"), "{listed:?}");
        }
        if !node.operator().stopped_sessions().is_empty() {
            node.stopped().await;
        }
    }
    let mut books = Vec::new();
    for (session, Deal { id, .. }) in world.deals.clone() {
        let steps = [tally(&nodes.front, "hold", id).await, tally(&nodes.front, "dispatch", id).await];
        books.push((session, if by == "back" { steps.to_vec() } else { vec![world.outside.of(session)] }));
    }
    let Nodes { back, front, side, .. } = nodes;
    for node in [back, front, side] {
        within(node.shutdown()).await;
    }
    for (session, steps) in books {
        let outcome = world.outcome(session, u8::from(by == "back"));
        assert!(outcome.is_some() || stopped.contains(&session), "{session} has not ended");
        for Tally { done, undone } in steps {
            let agrees = match outcome {
                Some(Outcome::Finished) => (done, undone) == (1, 0),
                Some(Outcome::Compensated(_)) => done == undone,
                None => undone <= done,
            };
            assert!(done <= 1 && agrees, "{session}: {outcome:?}, done {done}, undone {undone}");
        }
    }
}

/// Found by these: the back had done its part and waited for ever for its last message to be heard, and nobody listed
/// that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_unknown_to_its_initiator_is_listed_by_roles_that_took_part() {
    let mut world = World::new(9, false);
    let nodes = world.history().await;
    let recorded = world.network.recorder.packets.lock().unwrap().clone();
    let mut packets = recorded.iter().map(|sent| (sent, Packet::peek(&sent.bytes).unwrap()));
    let begins = |(_, frame): &(u64, Frame)| frame.header.is_some() && matches!(frame.body, Body::Deliver { .. });
    let (_, begun) = packets
        .find(|(sent, packet)| sent.from.as_str() == "front" && packet.frames.first().is_some_and(begins))
        .unwrap();
    let session = SessionId::fresh(1, 1 << 64);
    let frames = vec![(1 << 40, Frame { session, ..begun.frames[0].1.clone() })];
    nodes.rogue.send_as("front", "back", &Packet { frames, advertisement: None, acks: vec![], ..begun });
    let stopped = nodes.back.stopped().await;
    assert_eq!(stopped.iter().map(|stopped| stopped.session).collect::<Vec<_>>(), [session]);
    assert!(stopped[0].reason.contains("does not know the session"), "{stopped:?}");
    assert_eq!(world.outside.of(session), KEPT, "an operator decides");
}

macro_rules! check {
    ($($name:ident: $check:expr;)*) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            $check.await;
        })*
    };
}

check! {
    a_changed_packet_of_nobody_changes_nothing: check_outsider(1, true, "nobody");
    a_changed_packet_of_no_member_changes_nothing: check_outsider(2, false, "nobody");
    a_changed_packet_of_a_stranger_changes_nothing: check_outsider(3, true, "mallory");
    a_changed_packet_of_a_member_without_a_node_changes_nothing: check_outsider(4, false, "mallory");
    a_changed_packet_of_a_node_without_a_part_changes_nothing: check_outsider(5, true, "side");
    a_changed_packet_of_a_member_without_a_part_changes_nothing: check_outsider(6, false, "side");
    a_changed_packet_of_the_initiator_changes_its_own_part_only: check_traitor(7, "front");
    a_changed_packet_of_a_participant_changes_its_own_part_only: check_traitor(8, "back");
}
