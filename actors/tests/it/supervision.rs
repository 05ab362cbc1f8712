//! Panics, and programs that change under their sessions: what fails, fails alone. Next: `torn.rs`, `tree.rs`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use accompanist::prelude::*;
use accompanist::store::MemoryDisk;
use accompanist::supervision::{PolicyChange, Strategy};
use accompanist::transport::LocalNetwork;

use crate::support::{Home, TestNode, on_disk, quick, until, within};
use crate::torn::Refuse;
use crate::trade::{Back, Deal, Front, KEPT, NOTHING, Outside, Pay, Tally, Trade, UNLUCKY, deal, tally};

/// Computes, pays and looks; each may panic, when the service is told to. Its first turn is `early`.
struct Shaky {
    early: &'static str,
}
impl Choreography for Shaky {
    const NAME: &'static str = "shaky";
    type Roles = (Back,);
    type Input = At<Back, Deal>;
    type Output = At<Back, u32>;
    async fn run(&self, ctx: &Context<Self::Roles>, deal: At<Back, Deal>) -> Result<At<Back, u32>, Abort> {
        let early = self.early;
        ctx.locally(Back, |here| here.service().pass(early));
        let paid = ctx.transact(Pay, &deal).await?;
        ctx.locally(Back, |here| here.service().pass("locally"));
        let seen = ctx.effect(Back, "look", async |here| {
            here.service().pass("effect");
            7
        });
        let seen = seen.await?;
        Ok(ctx.locally(Back, |here| here.get(&paid) + here.get(&seen)))
    }
}

async fn survives(place: &'static str) {
    let home = Home::new();
    let builder = home.builder().choreography(Shaky { early: "early" }).choreography(Trade);
    let node = TestNode::start(builder).await;
    home.outside.set_gate(false);
    let mut others = Vec::new();
    for id in 1..6 {
        others.push(within(node.start(Trade, deal(id))).await.unwrap());
    }
    within(home.outside.asked_times(5)).await; // They are in the middle now.
    home.outside.trip(place, 2);
    home.outside.set_gate(true);
    let session = within(node.start(Shaky { early: "early" }, deal(8))).await.unwrap();
    assert_eq!(within(session.settled()).await.unwrap(), 807);
    assert_eq!(home.outside.trips_left(place), 0);
    for other in others {
        within(other.settled()).await.unwrap();
    }
    // A result that was not written yet is asked for again, under the same key.
    assert_eq!(home.outside.total(), Tally { done: 6, undone: 0 });
    node.is_idle().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_computation_that_panics_is_done_again() {
    survives("locally").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_effect_that_panics_is_done_again() {
    survives("effect").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_before_anything_is_written_loses_no_start() {
    survives("early").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_panics_after_its_effect_runs_again_under_its_key() {
    let home = Home::new();
    let node = TestNode::start(home.builder().choreography(Trade)).await;
    home.outside.trip("charge", 2);
    let session = within(node.start(Trade, deal(2))).await.unwrap();
    assert_eq!(within(session.settled()).await.unwrap(), 202);
    assert_eq!((home.outside.asked(), home.outside.total()), (3, KEPT));
    node.is_idle().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_local_step_that_keeps_panicking_is_quarantined_alone() {
    let home = Home::new();
    let node = TestNode::start(home.builder().choreography(Trade)).await;
    let unlucky = within(node.start(Trade, deal(UNLUCKY)).key("unlucky")).await.unwrap();
    let lucky = within(node.start(Trade, deal(1))).await.unwrap();
    let (output, settled) = (within(unlucky.output()).await, within(unlucky.settled()).await);
    for told in [output, settled] {
        let Err(SessionError::Stopped { session, reason }) = told else { panic!("{told:?}") };
        assert_eq!(session, unlucky.id());
        assert!(reason.contains("quarantined after 4 failures") && reason.contains("an unlucky deal"), "{reason}");
    }
    assert_eq!(within(lucky.settled()).await.unwrap(), 101);
    let stopped = node.stopped().await;
    assert_eq!(stopped.len(), 1, "{stopped:?}");
    assert_eq!((stopped[0].session, stopped[0].role.0), (unlucky.id(), 1));
    // It had changed the state before it panicked.
    assert_eq!([tally(&node, "hold", UNLUCKY).await, tally(&node, "hold", 1).await], [NOTHING, KEPT]);
    // A repeated start says so, too, and others go on.
    let again = within(node.start(Trade, deal(UNLUCKY)).key("unlucky")).await.unwrap();
    assert!(matches!(within(again.output()).await, Err(SessionError::Stopped { .. })));
    let later = within(node.start(Trade, deal(2))).await.unwrap();
    assert_eq!(within(later.settled()).await.unwrap(), 202);
}

/// The front plays its part of it; the back's panics at once, before it has written anything.
struct Doomed;
impl Choreography for Doomed {
    const NAME: &'static str = "doomed";
    type Roles = (Front, Back);
    type Input = At<Front, u32>;
    type Output = At<Front, u32>;
    async fn run(&self, ctx: &Context<Self::Roles>, input: At<Front, u32>) -> Result<At<Front, u32>, Abort> {
        ctx.locally(Back, |here| here.service().pass("doomed"));
        ctx.comm(Front, Back, &input).await?;
        Ok(input)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_that_panics_before_its_first_write_is_quarantined() {
    let outside = Arc::new(Outside::default());
    outside.trip("doomed", u32::MAX);
    let (network, disk) = (LocalNetwork::new(), MemoryDisk::default());
    let front = on_disk("front", &disk, network.clone()).role(Front, Arc::new(()));
    let front = TestNode::start(front.choreography(Doomed)).await;
    let back = on_disk("back", &MemoryDisk::default(), network).role(Back, outside);
    let back = TestNode::start(back.choreography(Doomed)).await;
    let session = within(front.start(Doomed, 1)).await.unwrap();
    let stopped = back.stopped().await;
    assert_eq!((stopped[0].session, stopped[0].role.0), (session.id(), 1));
    assert!(stopped[0].reason.contains("quarantined"), "{stopped:?}");
}

/// A program that takes another step in its second life.
struct Fickle {
    flipped: bool,
}
impl Choreography for Fickle {
    const NAME: &'static str = "fickle";
    type Roles = (Back,);
    type Input = At<Back, Deal>;
    type Output = At<Back, u32>;
    async fn run(&self, ctx: &Context<Self::Roles>, deal: At<Back, Deal>) -> Result<At<Back, u32>, Abort> {
        if self.flipped { ctx.transact(Refuse, &deal).await } else { ctx.transact(Pay, &deal).await }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_replays_differently_stands_still_with_both_sides_shown() {
    let home = Home::new();
    home.outside.set_gate(false);
    let node = TestNode::start(home.builder().choreography(Fickle { flipped: false })).await;
    let session = within(node.start(Fickle { flipped: false }, deal(1)).key("k")).await.unwrap();
    within(home.outside.asked_times(1)).await;
    within(node.shutdown()).await;
    home.outside.set_gate(true);

    let node = TestNode::start(home.builder().choreography(Fickle { flipped: true }).choreography(Trade)).await;
    let stopped = node.stopped().await;
    assert_eq!(stopped.len(), 1);
    assert_eq!(stopped[0].session, session.id());
    for shown in ["at 0: recorded was step `pay` with input", "the program did step `refuse`"] {
        assert!(stopped[0].reason.contains(shown), "{}", stopped[0].reason);
    }
    let again = within(node.start(Fickle { flipped: true }, deal(1)).key("k")).await.unwrap();
    let told = within(again.settled()).await.unwrap_err();
    assert!(matches!(&told, SessionError::Stopped { reason, .. } if reason.contains("`refuse`")), "{told}");
    // The others of the node go on.
    let other = within(node.start(Trade, deal(2))).await.unwrap();
    assert_eq!(within(other.settled()).await.unwrap(), 202);
    within(node.shutdown()).await;

    // Nothing is lost: with the program as it was, it goes on.
    let node = TestNode::start(home.builder().choreography(Fickle { flipped: false })).await;
    let session = within(node.start(Fickle { flipped: false }, deal(1)).key("k")).await.unwrap();
    assert_eq!(within(session.settled()).await.unwrap(), 100);
    assert_eq!(home.outside.total(), Tally { done: 2, undone: 0 });
}

#[derive(Clone, Copy)]
struct Keeper;
impl Role for Keeper {
    const NAME: &'static str = "keeper";
    type Service = Lives;
}

/// How often a program of its has begun, and whether one has panicked yet.
#[derive(Default)]
struct Lives {
    begun: AtomicU32,
    panicked: AtomicBool,
}

/// Waits for the word, and panics once if it is told to.
struct Watch;
impl Choreography for Watch {
    const NAME: &'static str = "watch";
    type Roles = (Keeper,);
    type Input = At<Keeper, ()>;
    type Output = At<Keeper, ()>;
    async fn run(&self, ctx: &Context<Self::Roles>, input: At<Keeper, ()>) -> Result<At<Keeper, ()>, Abort> {
        ctx.locally(Keeper, |here| here.service().begun.fetch_add(1, Ordering::SeqCst));
        let panics: At<Keeper, bool> = ctx.signal(Keeper, "go").await?;
        ctx.locally(Keeper, |here| {
            let first = *here.get(&panics) && !here.service().panicked.swap(true, Ordering::SeqCst);
            assert!(!first, "as told");
        });
        Ok(input)
    }
}

/// Of three sessions the middle one panics; gives how many programs begin anew.
async fn restarted_with(strategy: Strategy, by_role: bool) -> u32 {
    let lives = Arc::new(Lives::default());
    // One that left memory would begin anew, too.
    let mut settings = Settings { passivation_delay: Duration::from_hours(1), ..quick() };
    let change = PolicyChange { strategy: Some(strategy), ..PolicyChange::default() };
    let supervision = &mut settings.supervision;
    let (changes, name) =
        if by_role { (&mut supervision.roles, Keeper::NAME) } else { (&mut supervision.choreographies, Watch::NAME) };
    changes.insert(name.into(), change);
    let builder = on_disk("node", &MemoryDisk::default(), LocalNetwork::new()).settings(settings);
    let node = TestNode::start(builder.role(Keeper, lives.clone()).choreography(Watch)).await;
    let begun = |count: u32| {
        let lives = lives.clone();
        async move { until("so many lives", || lives.begun.load(Ordering::SeqCst) == count).await }
    };
    let mut sessions = Vec::new();
    for count in 1..=3 {
        sessions.push(within(node.start(Watch, ())).await.unwrap());
        begun(count).await;
    }
    within(sessions[1].initiator().signal("go", "key", &true)).await.unwrap();
    within(sessions[1].settled()).await.unwrap(); // In its second life; the others wait.
    until("the others are back", || node.operator().instances() == 2).await;
    for session in [&sessions[0], &sessions[2]] {
        within(session.initiator().signal("go", "key", &false)).await.unwrap();
        within(session.settled()).await.unwrap();
    }
    node.is_idle().await;
    lives.begun.load(Ordering::SeqCst) - 3
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_or_a_choreography_may_have_others_restarted_with_one_that_fails() {
    for by_role in [true, false] {
        assert_eq!(restarted_with(Strategy::OneForOne, by_role).await, 1);
        assert_eq!(restarted_with(Strategy::RestForOne, by_role).await, 2);
        assert_eq!(restarted_with(Strategy::OneForAll, by_role).await, 3);
    }
}
