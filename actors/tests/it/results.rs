//! Results asked for again: by key and by id, of open sessions and closed ones, and when they are forgotten.

use accompanist::prelude::*;

use crate::paused::{MINUTE, Parcel, PausedCluster, is_unknown, short};
use crate::support::within;
use crate::trade::{Back, Deal, Front, Tally, Trade, deal};

/// `Trade` as a later release may have it, with an output of another type.
struct TradeInWords;
impl Choreography for TradeInWords {
    const NAME: &'static str = "trade";
    const VERSION: u32 = 2;
    type Roles = (Back, Front);
    type Input = At<Front, Deal>;
    type Output = At<Front, String>;
    async fn run(&self, ctx: &Context<Self::Roles>, deal: At<Front, Deal>) -> Result<At<Front, String>, Abort> {
        Ok(ctx.locally(Front, |here| here.get(&deal).id.to_string()))
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_whose_session_is_forgotten_starts_a_new_one() {
    let cluster = PausedCluster::new();
    // The back remembers what the front has forgotten.
    let (front, back) = (cluster.front(short()).await, cluster.back(Retention::default()).await);
    let trade = async |refused| {
        let session = within(front.start(Trade, Deal { id: 1, refused }).key("k")).await.unwrap();
        (session.id(), within(session.settled()).await.is_ok())
    };
    let (first, completed) = trade(true).await;
    assert!(!completed);
    tokio::time::sleep(9 * MINUTE).await;
    assert_eq!(trade(true).await, (first, false), "still the one that was aborted");
    tokio::time::sleep(2 * MINUTE).await;
    let (second, completed) = trade(false).await;
    assert!(completed && second != first);
    assert_eq!(trade(false).await, (second, true));
    // The service was asked under another idempotency key: what was compensated stays so.
    assert_eq!((cluster.outside.asked(), cluster.outside.total()), (2, Tally { done: 2, undone: 1 }));
    front.is_idle().await;
    back.is_idle().await;
}

#[tokio::test(start_paused = true)]
async fn a_session_can_be_asked_for() {
    let cluster = PausedCluster::new();
    let node = cluster.home(short()).await;
    cluster.outside.set_gate(false);
    let open = within(node.start(Trade, deal(1))).await.unwrap();
    let (followed, other) = (within(node.session::<Trade>(open.id())).await.unwrap(), open.id());
    assert_eq!(followed.id(), open.id());
    let wrong = within(node.session::<Parcel>(other)).await.unwrap_err();
    assert!(matches!(&wrong, SessionLookupError::OtherChoreography { found, asked: "parcel", .. } if found == "trade"));
    // Over a restart.
    within(node.shutdown()).await;
    assert!(matches!(within(followed.settled()).await, Err(SessionError::NodeStopped)));
    let stopped = within(node.session::<Trade>(open.id())).await.unwrap_err();
    assert!(matches!(stopped, SessionLookupError::NodeStopped), "{stopped}");
    let node = cluster.home(short()).await;
    let followed = within(node.session::<Trade>(open.id())).await.unwrap();
    let again = followed.initiator().waits_for();
    assert!(!within(again).await.unwrap().is_empty(), "it waits to be paid");
    cluster.outside.set_gate(true);
    assert_eq!(within(followed.output()).await.unwrap(), 101);
    assert_eq!(within(followed.settled()).await.unwrap(), 101);
    node.is_idle().await;
    let refused = within(node.start(Trade, Deal { id: 2, refused: true })).await.unwrap();
    assert!(within(refused.settled()).await.is_err());
    node.is_idle().await;

    let mut nodes = vec![node];
    for _ in 0..2 {
        // Closed, aborted, and of another choreography; then all of it again in another life.
        let node = nodes.pop().unwrap();
        let closed = within(node.session::<Trade>(open.id())).await.unwrap();
        assert_eq!((closed.id(), within(closed.output()).await.unwrap()), (open.id(), 101));
        assert_eq!((closed.version(), within(closed.settled()).await.unwrap()), (Some(1), 101));
        let wrong = within(node.session::<TradeInWords>(open.id())).await.unwrap_err();
        assert!(matches!(wrong, SessionLookupError::OtherVersion { found: 1, asked: 2, .. }), "{wrong}");
        let aborted = within(node.session::<Trade>(refused.id())).await.unwrap();
        for told in [within(aborted.output()).await, within(aborted.settled()).await] {
            assert!(matches!(told, Err(SessionError::Aborted(abort)) if abort.code() == "no-truck"));
        }
        let wrong = within(node.session::<Parcel>(refused.id())).await.unwrap_err();
        assert!(matches!(wrong, SessionLookupError::OtherChoreography { .. }), "{wrong}");
        let unknown = within(node.session::<Trade>(SessionId::fresh(1, 1))).await.unwrap_err();
        assert!(matches!(unknown, SessionLookupError::Unknown { .. }), "{unknown}");
        assert_eq!(node.operator().instances(), 0, "nothing begins by asking");
        within(node.shutdown()).await;
        nodes.push(cluster.home(short()).await);
    }
    tokio::time::sleep(11 * MINUTE).await;
    for session in [open.id(), refused.id()] {
        let collected = within(nodes[0].session::<Trade>(session)).await.unwrap_err();
        assert!(matches!(collected, SessionLookupError::Unknown { .. }), "{collected}");
    }
    assert_eq!(cluster.outside.asked(), 3, "once again in the second life, under its key");
}

/// A role that did not start the session has no result to give.
#[tokio::test(start_paused = true)]
async fn a_session_is_asked_for_where_it_was_started() {
    let cluster = PausedCluster::new();
    let (front, back) = (cluster.front(short()).await, cluster.back(short()).await);
    let session = within(front.start(Parcel, 3)).await.unwrap();
    within(session.settled()).await.unwrap();
    front.is_idle().await;
    back.is_idle().await;
    assert!(is_unknown(&back, session.id()).await && !is_unknown(&front, session.id()).await);
}

/// Whoever asks while a session ends is answered. In real time, which goes on while one asks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lookup_of_an_ending_session_returns_its_result() {
    let cluster = PausedCluster::new();
    let node = cluster.home(short()).await;
    for _ in 0..100 {
        let session = within(node.start(Parcel, 2)).await.unwrap();
        let (mut asked, mut asks) = (0, true);
        while asks {
            asks = node.operator().instances() > 0;
            let again = within(node.session::<Parcel>(session.id())).await.unwrap();
            assert_eq!(within(again.output()).await.unwrap(), [7, 7]);
            asked += 1;
        }
        assert!(asked > 0);
    }
}
