//! One node that plays all roles: what its callers see, over restarts, and when they ask for what cannot be.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use accompanist::prelude::*;
use accompanist::store::MemoryDisk;
use accompanist::transport::LocalNetwork;

use crate::support::{Home, TestNode, all_roles, node_id, on_disk, quick, until, within};
use crate::trade::{Back, COMPENSATED, Deal, Front, KEPT, NOTHING, Outside, Side, Tally, Trade, deal, tally};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_gives_its_output_and_settles() {
    let home = Home::new();
    let node = TestNode::start(home.builder().choreography(Trade)).await;
    let session = within(node.start(Trade, deal(3))).await.unwrap();
    assert_eq!(within(session.output()).await.unwrap(), 303);
    assert_eq!(within(session.settled()).await.unwrap(), 303);
    // One step outside, and two on the built-in state.
    assert_eq!(home.outside.total(), KEPT);
    assert_eq!([tally(&node, "hold", 3).await, tally(&node, "dispatch", 3).await], [KEPT, KEPT]);
    node.is_idle().await;
    // Asked again, it still knows.
    assert_eq!(within(session.settled()).await.unwrap(), 303);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_sessions_leave_nothing_in_memory() {
    let home = Home::new();
    let node = TestNode::start(home.builder().choreography(Trade)).await;
    let mut sessions = Vec::new();
    for id in 0..200 {
        sessions.push(within(node.start(Trade, Deal { id, refused: id % 3 == 0 })).await.unwrap());
    }
    for (id, session) in (0..200).zip(sessions) {
        match within(session.settled()).await {
            Ok(output) => assert_eq!((output, id % 3 == 0), (id * 101, false)),
            Err(SessionError::Aborted(abort)) => assert_eq!((abort.code(), id % 3), ("no-truck", 0)),
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(home.outside.total(), Tally { done: 200, undone: 67 });
    node.is_idle().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_abort_compensates_and_is_returned() {
    let home = Home::new();
    let node = TestNode::start(home.builder().choreography(Trade)).await;
    let session = within(node.start(Trade, Deal { id: 4, refused: true })).await.unwrap();
    for told in [within(session.output()).await, within(session.settled()).await] {
        assert!(matches!(told, Err(SessionError::Aborted(abort)) if abort.code() == "no-truck"));
    }
    assert_eq!(home.outside.total(), COMPENSATED);
    // What was refused has changed nothing, though it wrote before it refused.
    assert_eq!([tally(&node, "hold", 4).await, tally(&node, "dispatch", 4).await], [COMPENSATED, NOTHING]);
    node.is_idle().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_is_one_session() {
    let home = Home::new();
    let node = TestNode::start(home.builder().choreography(Trade)).await;
    let (one, other) = tokio::join!(node.start(Trade, deal(5)).key("k"), node.start(Trade, deal(5)).key("k"));
    let (one, other) = (one.unwrap(), other.unwrap());
    assert_eq!(one.id(), other.id());
    assert_eq!(within(one.settled()).await.unwrap(), 505);
    assert_eq!(within(other.output()).await.unwrap(), 505);
    let late = within(node.start(Trade, deal(5)).key("k")).await.unwrap();
    assert_eq!((late.id(), within(late.settled()).await.unwrap()), (one.id(), 505));
    assert_eq!(home.outside.asked(), 1);
    let another = within(node.start(Trade, deal(6)).key("l")).await.unwrap();
    assert_ne!(another.id(), one.id());
    assert_eq!(within(another.settled()).await.unwrap(), 606);
}

/// While the session is open, when it is closed, after a restart, and on a node that drains.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_is_for_one_input() {
    let home = Home::new();
    home.outside.set_gate(false);
    let mut node = TestNode::start(home.builder().choreography(Trade)).await;
    let first = within(node.start(Trade, deal(5)).key("k")).await.unwrap().id();
    let is_refused = async |node: &TestNode, input| {
        let error = within(node.start(Trade, input).key("k")).await.unwrap_err();
        assert!(
            matches!(&error, StartError::OtherInput { name: "trade", session, .. } if *session == first),
            "{error}"
        );
    };
    is_refused(&node, deal(6)).await;
    is_refused(&node, Deal { id: 5, refused: true }).await;
    for round in 0..2 {
        home.outside.set_gate(true);
        let again = within(node.start(Trade, deal(5)).key("k")).await.unwrap();
        assert_eq!((again.id(), within(again.settled()).await.unwrap()), (first, 505), "round {round}");
        is_refused(&node, deal(6)).await;
        within(node.shutdown()).await;
        node = TestNode::start(home.builder().choreography(Trade)).await;
        is_refused(&node, deal(7)).await;
    }
    within(node.operator().drain()).await.unwrap();
    is_refused(&node, deal(6)).await;
    let known = within(node.start(Trade, deal(5)).key("k")).await.unwrap();
    assert_eq!(known.id(), first);
    // Nothing else has begun, and the key of another choreography is another one.
    within(node.operator().undrain()).await.unwrap();
    assert_eq!(home.outside.asked(), 1);
    within(node.start(Trade, deal(6)).key("l")).await.unwrap();
}

/// Does nothing with its input, which has no order.
struct Unordered;
impl Choreography for Unordered {
    const NAME: &'static str = "unordered";
    type Roles = (Front,);
    type Input = At<Front, HashMap<u32, u32>>;
    type Output = At<Front, HashMap<u32, u32>>;
    async fn run(&self, _: &Context<(Front,)>, input: Self::Input) -> Result<Self::Output, Abort> {
        Ok(input)
    }
}

/// What has other bytes each time would be another input each time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_keyed_start_takes_no_input_without_an_order() {
    let builder = on_disk("one", &MemoryDisk::default(), LocalNetwork::new()).role(Front, Arc::new(()));
    let node = TestNode::start(builder.choreography(Unordered)).await;
    let input = || HashMap::from([(1, 2), (3, 4)]);
    let error = within(node.start(Unordered, input()).key("k")).await.unwrap_err();
    assert!(matches!(error, StartError::Codec(_)) && error.to_string().contains("BTreeMap"), "{error}");
    within(node.start(Unordered, input())).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_session_is_known_after_a_restart() {
    let home = Home::new();
    let node = TestNode::start(home.builder().choreography(Trade)).await;
    for (key, refused) in [("good", false), ("bad", true)] {
        let session = within(node.start(Trade, Deal { id: 7, refused }).key(key)).await.unwrap();
        assert_eq!(within(session.settled()).await.is_err(), refused);
    }
    node.is_idle().await;
    within(node.shutdown()).await;

    let node = TestNode::start(home.builder().choreography(Trade)).await;
    let good = within(node.start(Trade, deal(7)).key("good")).await.unwrap();
    assert_eq!(within(good.output()).await.unwrap(), 707);
    assert_eq!(within(good.settled()).await.unwrap(), 707);
    let bad = within(node.start(Trade, Deal { id: 7, refused: true }).key("bad")).await.unwrap();
    for told in [within(bad.output()).await, within(bad.settled()).await] {
        assert!(matches!(told, Err(SessionError::Aborted(abort)) if abort.code() == "no-truck"));
    }
    assert_eq!(home.outside.asked(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_session_goes_on_after_a_restart() {
    let home = Home::new();
    home.outside.set_gate(false);
    let node = TestNode::start(home.builder().choreography(Trade)).await;
    let keyed = within(node.start(Trade, deal(9)).key("k")).await.unwrap();
    within(node.start(Trade, deal(10))).await.unwrap(); // With nobody left who waits for it.
    within(home.outside.asked_times(2)).await;
    within(node.shutdown()).await;
    assert!(matches!(within(keyed.settled()).await, Err(SessionError::NodeStopped)));
    assert!(matches!(within(keyed.output()).await, Err(SessionError::NodeStopped)));

    home.outside.set_gate(true);
    let node = TestNode::start(home.builder().choreography(Trade)).await;
    let again = within(node.start(Trade, deal(9)).key("k")).await.unwrap();
    assert_eq!((again.id(), within(again.settled()).await.unwrap()), (keyed.id(), 909));
    until("the other deal dispatched", || home.outside.asked() == 4).await;
    node.is_idle().await;
    assert_eq!(home.outside.total(), Tally { done: 2, undone: 0 });
    assert_eq!([tally(&node, "hold", 9).await, tally(&node, "dispatch", 10).await], [KEPT, KEPT]);
}

/// `Trade` under other names, versions and roles.
macro_rules! variant {
    ($name:ident, $text:literal, $version:literal, $roles:ty) => {
        struct $name;
        impl Choreography for $name {
            const NAME: &'static str = $text;
            const VERSION: u32 = $version;
            type Roles = $roles;
            type Input = At<Front, Vec<u8>>;
            type Output = At<Front, usize>;
            async fn run(
                &self,
                ctx: &Context<Self::Roles>,
                input: At<Front, Vec<u8>>,
            ) -> Result<At<Front, usize>, Abort> {
                Ok(ctx.locally(Front, |here| here.get(&input).len()))
            }
        }
    };
}
variant!(Alone, "alone", 1, (Front,));
variant!(AloneLater, "alone", 2, (Front,));
variant!(Together, "together", 1, (Front, Side));
variant!(Twins, "twins", 1, (Front, Twin));
variant!(Nameless, "nameless", 1, (Front, NoName));

#[derive(Clone, Copy)]
struct Twin;
impl Role for Twin {
    const NAME: &'static str = "front";
    type Service = ();
}
#[derive(Clone, Copy)]
struct NoName;
impl Role for NoName {
    const NAME: &'static str = "";
    type Service = ();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_start_reports_why() {
    let home = Home::new();
    let mut settings = Settings { cast_wait_max: Duration::from_millis(20), ..quick() };
    settings.limits.payload_bytes_max = 100;
    let builder = on_disk("front", &MemoryDisk::default(), LocalNetwork::new()).settings(settings);
    let builder = builder.role(Front, Arc::new(())).choreography(Alone).choreography(Together);
    let node = TestNode::start(builder).await;

    let unknown = within(node.start(Trade, deal(1))).await.unwrap_err();
    assert!(matches!(unknown, StartError::UnknownChoreography { name: "trade", version: 1 }), "{unknown}");
    let unknown = within(node.start(AloneLater, vec![])).await.unwrap_err();
    assert!(matches!(unknown, StartError::UnknownChoreography { name: "alone", version: 2 }), "{unknown}");
    let nobody = within(node.start(Together, vec![])).await.unwrap_err();
    assert!(matches!(nobody, StartError::NobodyPlays { role: "side" }), "{nobody}");
    // Two bytes more than it holds, for its kind and its length.
    let large = within(node.start(Alone, vec![1; 100])).await.unwrap_err();
    assert!(matches!(large, StartError::InputTooLarge { found: 102, limit: 100 }), "{large}");
    let fits = within(node.start(Alone, vec![1; 98])).await.unwrap();
    assert_eq!(within(fits.settled()).await.unwrap(), 98);

    let builder = on_disk("back", &MemoryDisk::default(), LocalNetwork::new());
    let back = TestNode::start(builder.role(Back, home.outside.clone()).choreography(Trade)).await;
    let elsewhere = within(back.start(Trade, deal(1))).await.unwrap_err();
    assert!(matches!(elsewhere, StartError::NotPlayedHere { role: "front" }), "{elsewhere}");

    within(node.shutdown()).await;
    let stopped = within(node.start(Alone, vec![])).await.unwrap_err();
    assert!(matches!(stopped, StartError::NodeStopped), "{stopped}");
    let stopped = within(node.start(Alone, vec![]).key("k")).await.unwrap_err();
    assert!(matches!(stopped, StartError::NodeStopped), "{stopped}");
    within(node.shutdown()).await; // A second time does nothing.
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_node_refuses_and_recovers() {
    let home = Home::new();
    home.outside.set_gate(false);
    // The two instances of one session fill the half that is open to starts.
    let builder = home.builder().settings(Settings { instances_max: 4, ..quick() }).choreography(Trade);
    let node = TestNode::start(builder).await;
    let first = within(node.start(Trade, deal(1))).await.unwrap();
    within(home.outside.asked_times(1)).await;
    let full = within(node.start(Trade, deal(2))).await.unwrap_err();
    assert!(matches!(full, StartError::Overloaded(2)), "{full}");
    home.outside.set_gate(true);
    within(first.settled()).await.unwrap();
    node.is_idle().await;
    let second = within(node.start(Trade, deal(2))).await.unwrap();
    assert_eq!(within(second.settled()).await.unwrap(), 202);
}

#[tokio::test]
async fn an_incomplete_builder_reports_what_is_missing() {
    let outside = Arc::new(Outside::default());
    let store = || MemoryDisk::default().open().unwrap();
    let complete = || all_roles("node", store(), LocalNetwork::new(), &outside);
    let bare = || Node::builder(node_id("node"));
    let role = |builder: accompanist::NodeBuilder| builder.role(Front, Arc::new(()));
    let lacks = [
        (role(bare().transport(LocalNetwork::new())), "a store"),
        (role(bare().store(store())), "a transport"),
        (bare().store(store()).transport(LocalNetwork::new()), "a role"),
    ];
    for (builder, what) in lacks {
        let error = within(builder.start()).await.unwrap_err();
        assert!(matches!(error, NodeError::Incomplete(text) if text.starts_with(what)), "{error}");
    }
    let twice = within(complete().choreography(Alone).choreography(AloneLater).choreography(Alone).start()).await;
    let twice = twice.unwrap_err();
    assert!(matches!(twice, NodeError::ChoreographyTwice { name: "alone", version: 1 }), "{twice}");
    let twins = within(complete().choreography(Twins).start()).await.unwrap_err();
    assert!(matches!(twins, NodeError::RoleNames { name: "twins" }), "{twins}");
    let nameless = within(complete().choreography(Nameless).start()).await.unwrap_err();
    assert!(matches!(nameless, NodeError::RoleNames { name: "nameless" }), "{nameless}");
}
