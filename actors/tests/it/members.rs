//! What a name may do is written down: who is no member is not heard, roles that a member may not play are not cast,
//! and choreographies that it may not start begin nowhere. Senders are authentic here; that they are is the transport's
//! matter.

use std::path::Path as FilePath;
use std::sync::Arc;

use accompanist::contract::{BoxFuture, Exposure, Inbox, Transport, TransportError, Wire};
use accompanist::id::RoleIndex;
use accompanist::prelude::*;
use accompanist::store::MemoryDisk;
use accompanist::transport::LocalNetwork;
use accompanist::{MemberStatus, Members, MembersError, NodeBuilder, NodeError, StartError};
use accompanist_core::frame::{
    Advertisement, Body, Frame, Header, Lacks, Left, Membership, OfferedChoreography, Packet,
};
use tempfile::TempDir;

use crate::delivery::are_idle;
use crate::replicas::knows_that;
use crate::rogue::{EPOCH, Rogue};
use crate::support::{TestNode, node_id, on_disk, until, within};
use crate::trade::{Back, Front, KEPT, NOTHING, Outside, Side, Tally, Trade, deal};

const BACK: &str = "[nodes.back]\nroles = [\"back\"]\n";
const FRONT: &str = "[nodes.front]\nroles = [\"front\"]\nstarts = [\"trade\"]\n";

fn members(nodes: &[&str]) -> Members {
    let text = format!("system = \"test\"\n{}", nodes.concat());
    Members::from_toml("members.toml", &text).unwrap()
}

fn back(network: &LocalNetwork, outside: &Arc<Outside>) -> NodeBuilder {
    on_disk("back", &MemoryDisk::default(), network.clone()).role(Back, outside.clone()).choreography(Trade)
}

fn front(network: &LocalNetwork) -> NodeBuilder {
    on_disk("front", &MemoryDisk::default(), network.clone()).role(Front, Arc::new(())).choreography(Trade)
}

/// What calls the back into a session that the stranger starts, as the front of it.
fn order(number: u64) -> Packet {
    let header = Header {
        choreography: "trade".into(),
        version: 1,
        initiator: RoleIndex(1),
        cast: vec![node_id("back"), node_id("rogue")],
        started_unix_ms: 0,
        deadline_unix_ms: None,
        patches: vec![],
        traceparent: None,
    };
    let session = SessionId::fresh(1, u128::from(number) << 64);
    let (from, to, header) = (RoleIndex(1), RoleIndex(0), Some(Arc::new(header)));
    let frame = Frame { session, from, to, header, body: Body::Nudge(Lacks::default()) };
    Packet { frames: vec![(number, frame)], ..Packet::new(EPOCH) }
}

/// How many of the stranger's orders the back begins, when the stranger may do what `rogue` says.
async fn check_begun(rogue: &str, expected: usize) {
    let (network, outside) = (LocalNetwork::new(), Arc::new(Outside::default()));
    let back = TestNode::start(back(&network, &outside).members(members(&[BACK, rogue]))).await;
    let stranger = Rogue::attach(&network).await;
    stranger.is_heard(&["back"]).await;
    for number in 1..=5 {
        stranger.send("back", &order(number));
    }
    stranger.is_heard(&["back"]).await;
    let is_begun = async {
        while back.open().await < expected {
            tokio::task::yield_now().await;
        }
    };
    within(is_begun).await;
    if expected == 0 {
        until("what it asks of the store to be answered", || back.operator().instances() == 0).await;
    }
    assert_eq!(back.open().await, expected, "{rogue}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_begins_if_its_initiator_may_start_it_and_its_cast_may_play_it() {
    check_begun("[nodes.rogue]\nroles = [\"front\"]\nstarts = [\"other\"]\n", 0).await;
    check_begun("[nodes.rogue]\nroles = [\"side\"]\nstarts = [\"trade\"]\n", 0).await;
    check_begun("[nodes.rogue]\nroles = [\"front\"]\nstarts = [\"trade\"]\n", 5).await;
    check_begun("[nodes.\"rog*\"]\nroles = [\"*\"]\nstarts = [\"*\"]\n", 5).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn packets_from_non_members_are_dropped() {
    let (network, outside) = (LocalNetwork::new(), Arc::new(Outside::default()));
    let members = members(&[BACK, FRONT]);
    let back = TestNode::start(back(&network, &outside).members(members.clone())).await;
    let front = TestNode::start(front(&network).members(members)).await;
    let stranger = Rogue::attach(&network).await;
    for number in 1..=5 {
        stranger.send("back", &Packet { advertisement: Some(Advertisement::default()), ..order(number) });
    }
    // Behind it in the back's inbox.
    within(within(front.start(Trade, deal(1))).await.unwrap().settled()).await.unwrap();
    are_idle(&[&back, &front]).await;
    assert_eq!(outside.total(), KEPT);
    let known: Vec<_> = back.operator().peers().into_iter().map(|known| known.node).collect();
    assert_eq!(known, [node_id("front")]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_that_a_member_may_not_play_is_not_cast_with_it() {
    let (network, outside) = (LocalNetwork::new(), Arc::new(Outside::default()));
    let members = members(&[BACK, FRONT, "[nodes.rogue]\nroles = [\"side\"]\n"]);
    let back = TestNode::start(back(&network, &outside).members(members.clone())).await;
    let front = TestNode::start(front(&network).members(members)).await;
    let stranger = Rogue::attach(&network).await;
    let known = stranger.advertisement_of("front").await;
    let trade = OfferedChoreography { choreography: "trade".into(), version: 1, patches: vec![] };
    let advertisement = Advertisement {
        roles: vec!["back".into(), "side".into()],
        choreographies: vec![trade],
        knows: Some(known.membership),
        ..Advertisement::default()
    };
    stranger.send("front", &Packet { advertisement: Some(advertisement), ..Packet::new(EPOCH) });
    stranger.is_heard(&["front"]).await;
    for id in 1..=20 {
        within(within(front.start(Trade, deal(id))).await.unwrap().settled()).await.unwrap();
    }
    are_idle(&[&back, &front]).await;
    assert_eq!(outside.total(), Tally { done: 20, undone: 0 });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_that_exceeds_the_rights_of_the_node_is_reported() {
    let (network, outside) = (LocalNetwork::new(), Arc::new(Outside::default()));
    let refused = |builder: NodeBuilder| async {
        match within(builder.start()).await {
            Err(NodeError::Members(MembersError::Refused(reason))) => reason,
            other => panic!("{other:?}"),
        }
    };
    let reason = refused(back(&network, &outside).members(members(&[FRONT]))).await;
    assert!(reason.contains("`back` is not a member"), "{reason}");
    let reason = refused(back(&network, &outside).members(members(&["[nodes.back]\nroles = [\"side\"]\n"]))).await;
    assert!(reason.contains("may not play role `back`"), "{reason}");
    let alone = members(&["[nodes.front]\nroles = [\"front\"]\n"]);
    let front = TestNode::start(front(&network).members(alone)).await;
    let error = within(front.start(Trade, deal(1))).await.map(drop).unwrap_err();
    assert!(matches!(error, StartError::NotAllowed { name: "trade", .. }), "{error}");
    assert_eq!(outside.total(), NOTHING);
}

fn write(file: &FilePath, nodes: &[&str]) {
    std::fs::write(file, format!("system = \"test\"\n{}", nodes.concat())).unwrap();
}

/// Revoked, and taken in again; a file that is no members file changes nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_changes_holds_within_seconds() {
    let (network, outside) = (LocalNetwork::new(), Arc::new(Outside::default()));
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("members.toml");
    write(&file, &[BACK, FRONT]);
    let back = TestNode::start(back(&network, &outside).members_file(&file)).await;
    let front = TestNode::start(front(&network).members(members(&[BACK, FRONT]))).await;
    within(within(front.start(Trade, deal(1))).await.unwrap().settled()).await.unwrap();

    write(&file, &[BACK, FRONT, "revoked = true\n"]);
    // One that is begun after it holds is not heard of at the back, and those before it may be.
    let mut sessions = Vec::new();
    for id in 2.. {
        let session = within(front.start(Trade, deal(id))).await.unwrap();
        let ended = tokio::time::timeout(std::time::Duration::from_millis(300), session.settled()).await;
        if ended.is_err() {
            sessions.push(session);
            break;
        }
    }
    write(&file, &["this is no members file"]);
    write(&file, &[BACK, FRONT]);
    for session in sessions {
        within(session.settled()).await.unwrap();
    }
    are_idle(&[&back, &front]).await;
}

/// A node that other machines reach does not start without members.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_reached_by_others_needs_members() {
    #[derive(Clone)]
    struct Reached(LocalNetwork);
    impl Transport for Reached {
        fn attach(&self, node: NodeId, inbox: Arc<dyn Inbox>) -> BoxFuture<'_, Result<Arc<dyn Wire>, TransportError>> {
            self.0.attach(node, inbox)
        }
        fn exposure(&self) -> Exposure {
            Exposure::Authenticated
        }
    }
    let network = Reached(LocalNetwork::new());
    let side = || on_disk("side", &MemoryDisk::default(), network.clone()).role(Side, Arc::new(()));
    let error = within(side().start()).await.unwrap_err();
    assert!(matches!(error, NodeError::Members(MembersError::Missing)), "{error}");
    TestNode::start(side().members(members(&["[nodes.side]\nroles = [\"side\"]\n"]))).await;
}

/// Waits for two offers of another node that are made from now on.
async fn heard_from(node: &TestNode, other: &str) {
    for _ in 0..2 {
        let begun = std::time::Instant::now();
        let is_since = |known: &accompanist::KnownNode| known.last_heard.is_some_and(|ago| ago < begun.elapsed());
        let is_heard = || node.operator().peers().iter().any(|known| known.node == node_id(other) && is_since(known));
        until("it to be heard again", is_heard).await;
    }
}

/// Three that serve, and a fourth on which an operator may say of others that they have left, or not.
async fn check_forgotten(operator: bool) {
    let network = LocalNetwork::new();
    let disks: [MemoryDisk; 3] = Default::default();
    let desk = format!("[nodes.desk]\nroles = [\"side\"]\noperator = {operator}\n");
    let members = members(&[FRONT, BACK, "[nodes.gone]\nroles = [\"side\"]\n", &desk]);
    let side = |name: &str, disk: &MemoryDisk| {
        on_disk(name, disk, network.clone()).role(Side, Arc::new(())).members(members.clone())
    };
    let front = || {
        let builder = on_disk("front", &disks[0], network.clone()).role(Front, Arc::new(()));
        TestNode::start(builder.choreography(Trade).members(members.clone()))
    };
    let back = || {
        let builder = on_disk("back", &disks[1], network.clone()).role(Back, Arc::default());
        TestNode::start(builder.choreography(Trade).members(members.clone()))
    };
    let (first, other) = (front().await, back().await);
    let desk = TestNode::start(side("desk", &disks[2])).await;
    let gone = TestNode::start(side("gone", &MemoryDisk::default())).await;
    for node in [&first, &other, &desk] {
        knows_that(node, "gone", MemberStatus::Serving).await;
    }
    // One that is away hears of it later; the one that is said to have left is down for good.
    within(gone.kill()).await;
    within(other.shutdown()).await;
    drop(other);
    within(desk.operator().forget(&node_id("gone"))).await.unwrap();
    knows_that(&desk, "gone", MemberStatus::Left).await;
    let other = back().await;
    let expected = if operator { MemberStatus::Left } else { MemberStatus::Serving };
    if operator {
        knows_that(&first, "gone", expected).await;
        knows_that(&other, "gone", expected).await;
    }
    // Behind an offer of the desk that has it.
    for node in [&first, &other] {
        heard_from(node, "desk").await;
        knows_that(node, "gone", expected).await;
    }
    // Over a restart, with nobody there who would say it again.
    within(desk.shutdown()).await;
    drop(desk);
    for node in [first, other] {
        within(node.shutdown()).await;
    }
    for node in [front().await, back().await] {
        knows_that(&node, "gone", expected).await;
        assert_eq!(node.operator().status(), MemberStatus::Serving);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_forgotten_on_an_operators_node_is_forgotten_by_all() {
    check_forgotten(true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_forgotten_on_a_node_of_no_operator_is_not_forgotten_by_others() {
    check_forgotten(false).await;
}

/// Nobody makes the node itself leave, or one in another membership than was said; and none but an operator any other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forget_by_an_operator_applies_to_the_present_membership() {
    for operator in [false, true] {
        let (network, disk) = (LocalNetwork::new(), MemoryDisk::default());
        let rogue = format!("[nodes.rogue]\nroles = [\"side\"]\noperator = {operator}\n");
        let members = members(&[FRONT, BACK, "[nodes.side]\nroles = [\"side\"]\n", &rogue]);
        let builder = on_disk("front", &disk, network.clone()).role(Front, Arc::new(())).choreography(Trade);
        let front = TestNode::start(builder.members(members.clone())).await;
        let back = TestNode::start(back(&network, &Arc::default()).members(members.clone())).await;
        let side = on_disk("side", &MemoryDisk::default(), network.clone()).role(Side, Arc::new(()));
        let side = TestNode::start(side.members(members)).await;
        for node in ["back", "side"] {
            knows_that(&front, node, MemberStatus::Serving).await;
        }
        let stranger = Rogue::attach(&network).await;
        let left = async |node: &str, change: u64| {
            let Advertisement { membership, .. } = stranger.advertisement_of(node).await;
            Left { at_unix_ms: 7, node: node_id(node), membership: Membership(membership.0 ^ change) }
        };
        let left = vec![left("front", 0).await, left("side", 1).await, left("back", 0).await];
        stranger.send(
            "front",
            &Packet { advertisement: Some(Advertisement { left, ..Advertisement::default() }), ..Packet::new(EPOCH) },
        );
        stranger.is_heard(&["front"]).await;
        knows_that(&front, "back", if operator { MemberStatus::Left } else { MemberStatus::Serving }).await;
        knows_that(&front, "side", MemberStatus::Serving).await;
        assert_eq!(
            [front.operator().status(), back.operator().status(), side.operator().status()],
            [MemberStatus::Serving; 3]
        );
    }
}
