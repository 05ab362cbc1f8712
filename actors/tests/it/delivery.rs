//! Several nodes: who hears of a session, over what network, and what becomes of packets that should not be.

use std::sync::Arc;

use accompanist::NodeBuilder;
use accompanist::contract::Transport;
use accompanist::prelude::*;
use accompanist::store::MemoryDisk;
use accompanist::transport::{Faults, FaultyNetwork, LocalNetwork};

use crate::support::{TestNode, has_tombstone, node_id, on_disk, quick, until, within};
use crate::trade::{Back, COMPENSATED, Deal, Front, KEPT, NOTHING, Outside, Side, Tally, Trade, deal, tally};

/// The back speaks first; the side is never reached.
struct Greeting;
impl Choreography for Greeting {
    const NAME: &'static str = "greeting";
    type Roles = (Back, Front, Side);
    type Input = At<Front, u32>;
    type Output = At<Front, u32>;
    async fn run(&self, ctx: &Context<Self::Roles>, _: At<Front, u32>) -> Result<At<Front, u32>, Abort> {
        let said = ctx.effect(Back, "greet", async |_| 5).await?;
        ctx.comm(Back, Front, &said).await
    }
}

/// Refused before anyone else has heard of it.
struct Stillborn;
impl Choreography for Stillborn {
    const NAME: &'static str = "stillborn";
    type Roles = (Back, Front, Side);
    type Input = At<Front, u32>;
    type Output = At<Front, u32>;
    async fn run(&self, ctx: &Context<Self::Roles>, input: At<Front, u32>) -> Result<At<Front, u32>, Abort> {
        ctx.abort(Abort::new("stillborn", "as the test wants")).await?;
        Ok(input)
    }
}

/// The front makes as many bytes as it is told and sends them.
struct Bulky;
impl Choreography for Bulky {
    const NAME: &'static str = "bulky";
    type Roles = (Back, Front);
    type Input = At<Front, usize>;
    type Output = At<Front, usize>;
    async fn run(&self, ctx: &Context<Self::Roles>, size: At<Front, usize>) -> Result<At<Front, usize>, Abort> {
        let bytes = ctx.locally(Front, |here| vec![7_u8; *here.get(&size)]);
        let bytes = ctx.comm(Front, Back, &bytes).await?;
        let size = ctx.locally(Back, |here| here.get(&bytes).len());
        ctx.comm(Back, Front, &size).await
    }
}

pub fn knowing(builder: NodeBuilder) -> NodeBuilder {
    builder.choreography(Trade).choreography(Greeting).choreography(Stillborn).choreography(Bulky)
}

/// Three sites with a role each; their disks and the service outside outlive their nodes.
#[derive(Default)]
pub struct Sites {
    pub disks: [MemoryDisk; 3],
    pub outside: Arc<Outside>,
    /// Of all three, if other than [`quick`].
    pub settings: Option<Settings>,
}

impl Sites {
    fn builder(&self, name: &str, disk: usize, network: impl Transport) -> NodeBuilder {
        let settings = self.settings.clone().unwrap_or_else(quick);
        knowing(on_disk(name, &self.disks[disk], network).settings_unless_given(settings))
    }

    pub async fn back(&self, network: &(impl Transport + Clone)) -> TestNode {
        TestNode::start(self.builder("back", 0, network.clone()).role(Back, self.outside.clone())).await
    }
    pub async fn front(&self, network: &(impl Transport + Clone)) -> TestNode {
        TestNode::start(self.builder("front", 1, network.clone()).role(Front, Arc::new(()))).await
    }
    pub async fn side(&self, network: &(impl Transport + Clone)) -> TestNode {
        TestNode::start(self.builder("side", 2, network.clone()).role(Side, Arc::new(()))).await
    }
}

pub async fn are_idle(nodes: &[&TestNode]) {
    for node in nodes {
        node.is_idle().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_roles_learn_of_a_session_and_of_its_end() {
    let (sites, network) = (Sites::default(), LocalNetwork::new());
    let (back, front) = (sites.back(&network).await, sites.front(&network).await);
    let side = sites.side(&network).await;
    let session = within(front.start(Greeting, 1)).await.unwrap();
    assert_eq!(within(session.settled()).await.unwrap(), 5);
    are_idle(&[&back, &front, &side]).await;
    for (role, node) in [(0, back), (1, front), (2, side)] {
        within(node.shutdown()).await;
        assert!(has_tombstone(&sites.disks[usize::from(role)], session.id(), role), "role {role}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_abort_leaves_a_tombstone_at_a_role_that_did_not_know_the_session() {
    let (sites, network) = (Sites::default(), LocalNetwork::new());
    let (back, front) = (sites.back(&network).await, sites.front(&network).await);
    let side = sites.side(&network).await;
    let session = within(front.start(Stillborn, 1)).await.unwrap();
    let told = within(session.settled()).await.unwrap_err();
    assert!(matches!(&told, SessionError::Aborted(abort) if abort.code() == "stillborn"), "{told}");
    are_idle(&[&back, &front, &side]).await;
    for (role, node) in [(0, back), (1, front), (2, side)] {
        within(node.shutdown()).await;
        assert!(has_tombstone(&sites.disks[usize::from(role)], session.id(), role), "role {role}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_abort_reaches_a_role_that_has_finished() {
    // The back's part is over once its answer is heard; the front refuses after that.
    let (sites, network) = (Sites::default(), LocalNetwork::new());
    let (back, front) = (sites.back(&network).await, sites.front(&network).await);
    let session = within(front.start(Trade, Deal { id: 3, refused: true })).await.unwrap();
    let told = within(session.settled()).await.unwrap_err();
    assert!(matches!(&told, SessionError::Aborted(abort) if abort.code() == "no-truck"), "{told}");
    assert_eq!(sites.outside.total(), COMPENSATED);
    assert_eq!([tally(&front, "hold", 3).await, tally(&front, "dispatch", 3).await], [COMPENSATED, NOTHING]);
    are_idle(&[&back, &front]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_down_delays_its_sessions_and_no_more() {
    let (sites, network) = (Sites::default(), LocalNetwork::new());
    let (back, front) = (sites.back(&network).await, sites.front(&network).await);
    let first = within(front.start(Trade, deal(1))).await.unwrap(); // So that they know each other.
    within(first.settled()).await.unwrap();
    within(back.shutdown()).await;
    let session = within(front.start(Trade, deal(2))).await.unwrap();
    // The front goes, too, and still knows who plays what.
    within(front.shutdown()).await;
    let front = sites.front(&network).await;
    let keyed = within(front.start(Trade, deal(3)).key("k")).await.unwrap();
    let back = sites.back(&network).await;
    assert_eq!(within(keyed.settled()).await.unwrap(), 303);
    are_idle(&[&front, &back]).await;
    assert_eq!(sites.outside.total(), Tally { done: 3, undone: 0 });
    assert_eq!(tally(&front, "dispatch", 2).await, KEPT, "{}", session.id());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_delays_a_session_and_no_more() {
    let (sites, network) = (Sites::default(), FaultyNetwork::new(1, Faults::none()));
    let (back, front) = (sites.back(&network).await, sites.front(&network).await);
    sites.outside.set_gate(false);
    let session = within(front.start(Trade, deal(1))).await.unwrap();
    within(sites.outside.asked_times(1)).await;
    network.partition(&[node_id("front")], &[node_id("back")]);
    sites.outside.set_gate(true);
    let lost = network.counts().lost;
    until("lost packets", || network.counts().lost > lost + 3).await;
    assert_eq!(tally(&front, "dispatch", 1).await, NOTHING);
    network.heal();
    assert_eq!(within(session.settled()).await.unwrap(), 101);
    are_idle(&[&back, &front]).await;
    assert_eq!(sites.outside.asked(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rough_network_changes_nothing() {
    let (sites, network) = (Sites::default(), FaultyNetwork::new(2, Faults::rough()));
    let (back, front) = (sites.back(&network).await, sites.front(&network).await);
    let mut sessions = Vec::new();
    for id in 0..50 {
        sessions.push(within(front.start(Trade, Deal { id, refused: id % 2 == 0 })).await.unwrap());
    }
    for (id, session) in (0..50).zip(sessions) {
        assert_eq!(within(session.settled()).await.is_err(), id % 2 == 0);
    }
    are_idle(&[&back, &front]).await;
    assert_eq!((sites.outside.asked(), sites.outside.total()), (50, Tally { done: 50, undone: 25 }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_over_the_limit_aborts() {
    let (sites, network) = (Sites::default(), LocalNetwork::new());
    let back = sites.back(&network).await;
    let front = on_disk("front", &sites.disks[1], network.clone()).role(Front, Arc::new(()));
    let mut settings = quick();
    settings.limits.payload_bytes_max = 1_000;
    let front = TestNode::start(knowing(front).settings(settings)).await;
    let fits = within(front.start(Bulky, 997)).await.unwrap();
    assert_eq!(within(fits.settled()).await.unwrap(), 997);
    let large = within(front.start(Bulky, 998)).await.unwrap();
    let told = within(large.settled()).await.unwrap_err();
    let SessionError::Aborted(abort) = told else { panic!("{told}") };
    assert_eq!(abort.code(), Abort::PAYLOAD_TOO_LARGE);
    assert!(abort.message().contains("has 1001 bytes, the limit is 1000"), "{abort}");
    are_idle(&[&back, &front]).await;
}
