//! Dead letters: what has arrived and cannot be handled is kept with its reason, over restarts, until it can be.

use std::sync::Arc;
use std::time::Duration;

use accompanist::id::RoleIndex;
use accompanist::message::Payload;
use accompanist::prelude::*;
use accompanist::store::MemoryDisk;
use accompanist::transport::LocalNetwork;
use accompanist::{DeadLetter, NodeBuilder, Path, SessionId, metric};
use accompanist_core::frame::{Body, Frame, Lacks, Operation, Packet};

use crate::overload::{Hold, go};
use crate::retention::Numbers;
use crate::rogue::{EPOCH, Rogue};
use crate::support::{TestNode, node_id, quick, until, within};
use crate::trade::{Back, Front, Outside};

/// What a release has that does not know `Hold`: so many bytes go to the back, which counts them.
struct Count;
impl Choreography for Count {
    const NAME: &'static str = "count";
    type Roles = (Front, Back);
    type Input = At<Front, usize>;
    type Output = At<Front, usize>;
    async fn run(&self, ctx: &Context<Self::Roles>, count: At<Front, usize>) -> Result<At<Front, usize>, Abort> {
        let bytes = ctx.locally(Front, |here| vec![7u8; *here.get(&count)]);
        let bytes = ctx.comm(Front, Back, &bytes).await?;
        let count = ctx.locally(Back, |here| here.get(&bytes).len());
        ctx.comm(Back, Front, &count).await
    }
}

#[derive(Default)]
struct Cluster {
    network: LocalNetwork,
    front: MemoryDisk,
    back: MemoryDisk,
}

impl Cluster {
    fn builder(&self, name: &str, disk: &MemoryDisk) -> NodeBuilder {
        let builder = Node::builder(node_id(name)).simulated_store(disk.open().unwrap(), Duration::from_millis(1));
        builder.transport(self.network.clone()).settings_unless_given(quick()).choreography(Count)
    }
    async fn front(&self) -> TestNode {
        TestNode::start(self.builder("front", &self.front).choreography(Hold).role(Front, Arc::new(()))).await
    }
    async fn back(&self, knows: bool) -> TestNode {
        let builder = self.builder("back", &self.back).role(Back, Arc::new(Outside::default()));
        TestNode::start(if knows { builder.choreography(Hold) } else { builder }).await
    }
    /// A session that has begun while the back was away, which is back in a release that does not know it.
    async fn unknown_there(&self) -> (TestNode, accompanist::Session<Hold>, TestNode) {
        let (front, back) = (self.front().await, self.back(true).await);
        until("the back is known", || !front.operator().peers().is_empty()).await;
        let first = within(front.start(Hold, 1)).await.unwrap();
        until("the first to be there", || back.operator().open_instances() == Some(1)).await;
        go(&first).await;
        within(first.settled()).await.unwrap();
        within(back.shutdown()).await;
        let session = within(front.start(Hold, 20)).await.unwrap();
        let back = self.back(false).await;
        until("a dead letter", || !back.operator().dead_letters().is_empty()).await;
        (front, session, back)
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_of_an_unknown_choreography_is_kept_until_a_release_knows_it() {
    let numbers = Numbers::default();
    let _recorder = metrics::set_default_local_recorder(&numbers);
    let cluster = Cluster::default();
    let (_front, session, back) = cluster.unknown_there().await;
    let letter = back.operator().dead_letters().remove(0);
    assert_eq!((letter.session, letter.role, letter.from_role), (session.id(), RoleIndex(1), RoleIndex(0)));
    assert_eq!((letter.from, letter.choreography), (node_id("front"), Some(("hold".to_owned(), 1))));
    assert!(letter.reason.contains("`hold` version 1 is not known here"), "{}", letter.reason);
    // The wall's clock goes on beside the test's, and slowly.
    let again = |letter: &DeadLetter| letter.times >= 3 && letter.last > letter.first;
    until("it to come again", || again(&back.operator().dead_letters()[0])).await;
    let listed = back.operator().dead_letters();
    assert_eq!(listed[0].first, letter.first);
    let count = f64::from(u32::try_from(listed.len()).unwrap());
    assert!((numbers.gauge(metric::DEAD_LETTERS) - count).abs() < 0.1);
    // It can be tried at any time, and stays when it fails again.
    let times = listed[0].times;
    assert!(within(back.operator().replay_dead_letter(letter.number)).await.unwrap());
    until("it to fail again", || back.operator().dead_letters()[0].times > times).await;
    within(back.shutdown()).await;
    let back = cluster.back(false).await;
    assert_eq!(back.operator().dead_letters()[0].number, letter.number);
    assert_eq!(back.operator().dead_letters()[0].first, letter.first);
    within(back.shutdown()).await;
    // Its sender has kept it, too, and nobody has to do anything.
    let back = cluster.back(true).await;
    go(&session).await;
    assert_eq!(within(session.settled()).await.unwrap(), 40);
    until("no dead letter", || back.operator().dead_letters().is_empty()).await;
    within(back.shutdown()).await;
    assert_eq!(cluster.back(true).await.operator().dead_letters(), []);
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_can_be_handled_though_its_sender_is_gone() {
    let cluster = Cluster::default();
    let (front, session, back) = cluster.unknown_there().await;
    within(front.kill()).await;
    within(back.shutdown()).await;
    let back = cluster.back(true).await;
    assert_eq!(back.operator().open_instances().unwrap_or_default(), 0);
    let number = back.operator().dead_letters()[0].number;
    assert!(within(back.operator().replay_dead_letter(number)).await.unwrap());
    until("its session to be open", || back.operator().open_instances() == Some(1)).await;
    until("no such letter", || back.operator().dead_letters().iter().all(|letter| letter.number != number)).await;
    assert!(!within(back.operator().replay_dead_letter(number)).await.unwrap(), "it is handled");
    // The front is back, and nothing was done twice or is missing.
    let front = cluster.front().await;
    let session = within(front.session::<Hold>(session.id())).await.unwrap();
    go(&session).await;
    assert_eq!(within(session.settled()).await.unwrap(), 40);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_too_large_here_is_kept_until_the_limit_is_raised() {
    let cluster = Cluster::default();
    let mut settings = quick();
    settings.limits.payload_bytes_max = 1_000;
    let back = cluster.builder("back", &cluster.back).settings(settings).role(Back, Arc::new(Outside::default()));
    let (front, back) = (cluster.front().await, TestNode::start(back).await);
    let small = within(front.start(Count, 900)).await.unwrap();
    assert_eq!(within(small.settled()).await.unwrap(), 900);
    let large = within(front.start(Count, 2_000)).await.unwrap();
    // It is invited to the session, and knows nothing else of it.
    until("a dead letter", || !back.operator().dead_letters().is_empty()).await;
    let [letter] = back.operator().dead_letters().try_into().unwrap();
    assert!(letter.reason.contains("2003 bytes, the limit here is 1000"), "{}", letter.reason);
    within(back.shutdown()).await;
    let back = cluster.back(false).await;
    assert_eq!(within(large.settled()).await.unwrap(), 2_000);
    until("no dead letter", || back.operator().dead_letters().is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn a_message_of_an_unknown_session_is_a_dead_letter_and_can_be_discarded() {
    let cluster = Cluster::default();
    let back = cluster.back(true).await;
    let rogue = Rogue::attach(&cluster.network).await;
    rogue.is_heard(&["back"]).await;
    let body =
        Body::Deliver { path: Path::root().child(1), operation: Operation::Comm, payload: Payload::from(vec![1, 0]) };
    let session = SessionId::fresh(1, 0);
    let frame = Frame { session, from: RoleIndex(0), to: RoleIndex(1), header: None, body };
    let send = |frame: Frame| {
        rogue.send("back", &Packet { frames: vec![(5, frame)], ..Packet::new(EPOCH) });
    };
    // Those who only wait, or have ended, say nothing that could be missed.
    for body in [
        Body::Nudge(Lacks::default()),
        Body::Compensating(None),
        Body::Trouble(None),
        Body::TroubleAsked,
        Body::Done(accompanist_core::frame::Outcome::Finished),
    ] {
        send(Frame { body, ..frame.clone() });
    }
    send(frame.clone());
    until("a dead letter", || !back.operator().dead_letters().is_empty()).await;
    let [letter] = back.operator().dead_letters().try_into().unwrap();
    assert_eq!((letter.session, letter.from), (session, node_id("rogue")));
    assert!(letter.reason.contains("not known here"), "{}", letter.reason);
    assert!(within(back.operator().discard_dead_letter(letter.number)).await.unwrap());
    assert!(!within(back.operator().discard_dead_letter(letter.number)).await.unwrap());
    within(back.shutdown()).await;
    let back = cluster.back(true).await;
    assert_eq!(back.operator().dead_letters(), []);
    rogue.is_heard(&["back"]).await;
    send(frame);
    until("it to be back", || !back.operator().dead_letters().is_empty()).await;
    assert!(back.operator().dead_letters()[0].number > 0);
}
