//! Long work on nodes: what comes from outside, what takes time, what an operator does, and what stays on disk.
//! `core/tests/it/long.rs` has the protocol of it, under all faults.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use accompanist::contract::{Space, Store};
use accompanist::id::RoleIndex;
use accompanist::machine::{Resolution, SignalError, Status};
use accompanist::prelude::*;
use accompanist::record::Task;
use accompanist::testing::{History, ReplayError, replay};
use accompanist::{AskError, Known};

use crate::support::{Home, TestNode, quick, until, within};
use crate::trade::{Back, COMPENSATED, Front, KEPT, Pay, Trade, deal, tally};

/// Waits for two signals, shows what it has, and gives their sum.
struct Listen;
impl Choreography for Listen {
    const NAME: &'static str = "listen";
    type Roles = (Front, Back);
    type Input = At<Front, u32>;
    type Output = At<Front, u32>;
    async fn run(&self, ctx: &Context<Self::Roles>, sum: At<Front, u32>) -> Result<At<Front, u32>, Abort> {
        ctx.publish(Front, &sum);
        let one: At<Front, u32> = ctx.signal(Front, "number").await?;
        let sum = ctx.locally(Front, |here| here.get(&sum) + here.get(&one));
        ctx.publish(Front, &sum);
        let two: At<Front, u32> = ctx.signal(Front, "number").await?;
        let sum = ctx.locally(Front, |here| here.get(&sum) + here.get(&two));
        let sum = ctx.comm(Front, Back, &sum).await?;
        ctx.comm(Back, Front, &sum).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signals_are_durable_and_consumed_once_in_order() {
    let home = Home::new();
    let node = TestNode::start(home.builder().choreography(Listen)).await;
    let session = within(node.start(Listen, 0).key("k")).await.unwrap();
    let front = node.instance(Listen, session.id(), Front);
    within(front.signal("number", "first", &10u32)).await.unwrap();
    within(front.signal("number", "first", &10u32)).await.unwrap();
    within(front.signal("other", "first", &99u32)).await.unwrap();
    until_view(&front, 10).await;
    // Of the same key and another value: whoever made that up should hear of it, if it can still be told.
    within(front.signal("other", "second", &1u32)).await.unwrap();
    let reused = within(front.signal("other", "second", &2u32)).await.unwrap_err();
    assert!(matches!(reused, AskError::Signal(SignalError::KeyReused { .. })), "{reused}");
    within(node.shutdown()).await;

    let node = TestNode::start(home.builder().choreography(Listen)).await;
    let front = node.instance(Listen, session.id(), Front);
    until_view(&front, 10).await;
    within(front.signal("number", "first", &10u32)).await.unwrap(); // Again, in another life.
    assert_eq!(within(front.query::<u32>()).await.unwrap(), Some(10));
    within(front.signal("number", "third", &5u32)).await.unwrap();
    let session = within(node.start(Listen, 0).key("k")).await.unwrap();
    assert_eq!(within(session.settled()).await.unwrap(), 15);
    let late = within(front.signal("number", "late", &1u32)).await.unwrap_err();
    assert!(matches!(late, AskError::NotOpen(_)), "{late}");
}

/// Until the front shows this.
async fn until_view(front: &accompanist::InstanceHandle, expected: u32) {
    within(async {
        while front.query::<u32>().await.unwrap() != Some(expected) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unconsumed_signals_are_bounded() {
    let home = Home::new();
    let mut settings = quick();
    settings.limits.signals_max = 3;
    let node = TestNode::start(home.builder().settings(settings).choreography(Listen)).await;
    let session = within(node.start(Listen, 0)).await.unwrap();
    for key in ["1", "2", "3"] {
        within(session.initiator().signal("other", key, &0u32)).await.unwrap();
    }
    let full = within(session.initiator().signal("other", "4", &0u32)).await.unwrap_err();
    assert!(matches!(full, AskError::Signal(SignalError::Full(3))), "{full}");
    assert!(within(session.cancel("enough")).await.unwrap());
    node.is_idle().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_is_durable_compensates_and_may_come_too_late() {
    let home = Home::new();
    home.outside.set_gate(false);
    let node = TestNode::start(home.builder().choreography(Trade)).await;
    let session = within(node.start(Trade, deal(1)).key("k")).await.unwrap();
    within(home.outside.asked_times(1)).await;
    assert!(within(session.cancel("changed my mind")).await.unwrap());
    assert!(!within(session.cancel("again")).await.unwrap());
    let aborted = within(session.output()).await.unwrap_err();
    assert!(matches!(&aborted, SessionError::Aborted(abort) if abort.code() == Abort::CANCELLED), "{aborted}");
    // The commit that runs is let to its end, in whichever life.
    within(node.kill()).await;
    within(node.shutdown()).await;
    home.outside.set_gate(true);

    let node = TestNode::start(home.builder().choreography(Trade)).await;
    let session = within(node.start(Trade, deal(1)).key("k")).await.unwrap();
    let aborted = within(session.settled()).await.unwrap_err();
    assert!(matches!(&aborted, SessionError::Aborted(abort) if abort.message() == "changed my mind"), "{aborted}");
    assert_eq!(home.outside.total(), COMPENSATED);
    assert_eq!(tally(&node, "hold", 1).await, COMPENSATED);
    assert!(!within(session.cancel("too late")).await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadline_passes_while_the_node_is_down_too() {
    let home = Home::new();
    let node = TestNode::start(home.builder().choreography(Listen).choreography(Trade)).await;
    let after = Duration::from_millis(50);
    let session = within(node.start(Listen, 0).key("k").deadline(after)).await.unwrap();
    within(node.shutdown()).await;
    tokio::time::sleep(Duration::from_millis(60)).await; // The deadline itself; nothing is measured.

    let node = TestNode::start(home.builder().choreography(Listen).choreography(Trade)).await;
    let again = within(node.start(Listen, 0).key("k").deadline(after)).await.unwrap();
    assert_eq!(again.id(), session.id());
    let aborted = within(again.settled()).await.unwrap_err();
    assert!(matches!(&aborted, SessionError::Aborted(abort) if abort.code() == Abort::DEADLINE), "{aborted}");
    // One that is over in time is not touched by it.
    let session = within(node.start(Trade, deal(2)).deadline(Duration::from_hours(1))).await.unwrap();
    assert_eq!(within(session.settled()).await.unwrap(), 202);
    node.is_idle().await;
}

/// How often a turn was gone through in this process.
static TURNS_RUN: AtomicU32 = AtomicU32::new(0);

/// A number goes back and forth, for ever so many turns, with a step in each.
struct Circle {
    turns: u32,
}
impl Choreography for Circle {
    const NAME: &'static str = "circle";
    type Roles = (Front, Back);
    type Input = At<Front, u32>;
    type Output = At<Front, u32>;
    async fn run(&self, ctx: &Context<Self::Roles>, start: At<Front, u32>) -> Result<At<Front, u32>, Abort> {
        let goal = self.turns;
        let (_, sum) = ctx
            .repeat((Known(0), start), async |ctx, (Known(turn), sum)| {
                ctx.locally(Front, |_| TURNS_RUN.fetch_add(1, Ordering::Relaxed));
                let there = ctx.comm(Front, Back, &sum).await?;
                let more = ctx.locally(Back, |here| here.get(&there) + 1);
                let sum = ctx.comm(Back, Front, &more).await?;
                let state = (Known(turn + 1), sum);
                Ok(if turn + 1 < goal { ControlFlow::Continue(state) } else { ControlFlow::Break(state) })
            })
            .await?;
        let last: At<Front, u32> = ctx.signal(Front, "end").await?;
        Ok(ctx.locally(Front, |here| here.get(&sum) + here.get(&last)))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_loop_keeps_a_short_journal_and_a_restart_begins_at_its_last_turn() {
    const TURNS: u32 = 3_000;
    let home = Home::new();
    // An instance that leaves memory goes through its turn again when it is back.
    let patient = || Settings { passivation_delay: Duration::from_hours(1), ..quick() };
    let builder = || home.builder().settings(patient()).choreography(Circle { turns: TURNS });
    let node = TestNode::start(builder()).await;
    let session = within(node.start(Circle { turns: TURNS }, 0).key("k")).await.unwrap();
    let front = node.instance(Circle { turns: TURNS }, session.id(), Front);
    within(async {
        while !front.waits_for().await.unwrap().iter().any(|(_, what)| what.contains("`end`")) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert_eq!(TURNS_RUN.load(Ordering::Relaxed), TURNS);
    for role in 0..2 {
        let history = within(node.operator().instance(session.id(), RoleIndex(role)).history()).await.unwrap();
        assert!(history.records.len() < 10, "{history}");
    }
    within(node.shutdown()).await;
    let store = FjallStore::open(home.folder()).unwrap();
    assert!(store.scan(Space::Journal, &[], None, usize::MAX).unwrap().len() < 20);
    drop(store);

    let node = TestNode::start(builder()).await;
    let session = within(node.start(Circle { turns: TURNS }, 0).key("k")).await.unwrap();
    within(session.initiator().signal("end", "k", &7u32)).await.unwrap();
    assert_eq!(within(session.settled()).await.unwrap(), TURNS + 7);
    let again = TURNS_RUN.load(Ordering::Relaxed) - TURNS;
    assert!(again <= 3, "{again} turns were gone through again");
}

/// Pays, and cannot be undone before someone mends the back.
struct Stubborn;
impl Transaction for Stubborn {
    const NAME: &'static str = "stubborn";
    type Role = Back;
    type Input = u32;
    type Output = ();
    async fn commit(&self, _: &Local<Back>, _: &u32) -> Result<(), Abort> {
        Ok(())
    }
    async fn compensate(&self, here: &Local<Back>, _: &u32, (): &()) -> Result<(), Retry> {
        if here.service().trips_left("mended") > 0 { Ok(()) } else { Err(Retry::new("the machine is jammed")) }
    }
}

struct Jam;
impl Choreography for Jam {
    const NAME: &'static str = "jam";
    type Roles = (Back,);
    type Input = At<Back, u32>;
    type Output = At<Back, ()>;
    async fn run(&self, ctx: &Context<Self::Roles>, n: At<Back, u32>) -> Result<At<Back, ()>, Abort> {
        ctx.transact(Stubborn, &n).await?;
        ctx.abort(Abort::new("enough", "as the test wants")).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_in_trouble_is_listed_with_reason_and_attempts_and_continues_when_resolved() {
    for resolution in [Resolution::Retry, Resolution::Compensated] {
        let home = Home::new();
        let builder = || {
            let mut settings = quick();
            (settings.limits.tries_max, settings.limits.retry_delay_max_ms) = (4, 2);
            home.builder().settings(settings).choreography(Jam)
        };
        let node = TestNode::start(builder()).await;
        let session = within(node.start(Jam, 1).key("k")).await.unwrap();
        until("a step in trouble", || !node.operator().troubled_sessions().is_empty()).await;
        let troubled = node.operator().troubled_sessions();
        assert_eq!((troubled.len(), troubled[0].session, troubled[0].role), (1, session.id(), RoleIndex(0)));
        let trouble = &troubled[0].steps[0].1;
        assert_eq!((trouble.step.as_str(), trouble.task, trouble.tries), ("stubborn", Task::Compensate, 4));
        assert_eq!(trouble.reason, "the machine is jammed");
        assert_eq!(within(session.initiator().status()).await.unwrap(), Status::NeedsOperator);
        within(node.shutdown()).await;

        // It is known after a restart, and not tried again by itself.
        let node = TestNode::start(builder()).await;
        until("the same trouble", || node.operator().troubled_sessions() == troubled).await;
        let session = within(node.start(Jam, 1).key("k")).await.unwrap();
        if resolution == Resolution::Retry {
            home.outside.trip("mended", 1);
        }
        assert_eq!(within(node.operator().instance(session.id(), RoleIndex(0)).resolve(resolution)).await.unwrap(), 1);
        assert!(within(session.settled()).await.is_err());
        assert_eq!(node.operator().troubled_sessions(), []);
    }
}

/// Panics as long as the back says so.
struct Touchy;
impl Choreography for Touchy {
    const NAME: &'static str = "touchy";
    type Roles = (Back,);
    type Input = At<Back, u32>;
    type Output = At<Back, u32>;
    async fn run(&self, ctx: &Context<Self::Roles>, n: At<Back, u32>) -> Result<At<Back, u32>, Abort> {
        ctx.random(Back).await?;
        ctx.transact(Pay, &ctx.locally(Back, |here| deal(*here.get(&n)))).await?;
        ctx.locally(Back, |here| here.service().pass("touchy"));
        Ok(n)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quarantine_outlives_the_node_until_an_operator_ends_it() {
    let home = Home::new();
    home.outside.trip("touchy", 100);
    let node = TestNode::start(home.builder().choreography(Touchy)).await;
    let session = within(node.start(Touchy, 3).key("k")).await.unwrap();
    assert!(node.stopped().await[0].reason.contains("quarantined after 4 failures"));
    within(node.shutdown()).await;
    home.outside.trip("touchy", 0);

    let node = TestNode::start(home.builder().choreography(Touchy)).await;
    let stopped = node.stopped().await;
    assert!(stopped[0].reason.contains("quarantined after 4 failures"), "{stopped:?}");
    let touchy = node.operator().instance(session.id(), RoleIndex(0));
    assert!(matches!(within(touchy.handle().waits_for()).await, Err(AskError::Stopped { .. })));
    within(touchy.resume()).await.unwrap();
    let session = within(node.start(Touchy, 3).key("k")).await.unwrap();
    assert_eq!(within(session.settled()).await.unwrap(), 3);
    assert_eq!((node.operator().stopped_sessions(), home.outside.total()), (Vec::new(), KEPT));
    let again = within(touchy.resume()).await.unwrap_err();
    assert!(matches!(again, AskError::NotOpen(_)), "{again}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quarantined_session_can_be_aborted_and_compensates_its_steps() {
    let home = Home::new();
    home.outside.trip("touchy", u32::MAX);
    let node = TestNode::start(home.builder().choreography(Touchy)).await;
    let session = within(node.start(Touchy, 3).key("k")).await.unwrap();
    assert!(node.stopped().await[0].reason.contains("quarantined after 4 failures"));
    assert_eq!(home.outside.total(), KEPT);
    let touchy = node.operator().instance(session.id(), RoleIndex(0));
    within(touchy.abort("not to be mended")).await.unwrap();
    let again = within(node.start(Touchy, 3).key("k")).await.unwrap();
    let Err(SessionError::Aborted(abort)) = within(again.settled()).await else { panic!() };
    assert_eq!((abort.code(), abort.message()), (Abort::CANCELLED, "not to be mended"));
    assert_eq!((node.operator().stopped_sessions(), home.outside.total()), (Vec::new(), COMPENSATED));
    let again = within(touchy.abort("once more")).await.unwrap_err();
    assert!(matches!(again, AskError::NotOpen(_)), "it is over: {again}");
}

/// As [`Listen`], with an operation more before the second signal.
struct ListenChanged;
impl Choreography for ListenChanged {
    const NAME: &'static str = Listen::NAME;
    type Roles = (Front, Back);
    type Input = At<Front, u32>;
    type Output = At<Front, u32>;
    async fn run(&self, ctx: &Context<Self::Roles>, sum: At<Front, u32>) -> Result<At<Front, u32>, Abort> {
        ctx.publish(Front, &sum);
        ctx.now(Front).await?;
        let one: At<Front, u32> = ctx.signal(Front, "number").await?;
        Ok(one)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exported_history_replays_and_shows_both_sides_to_a_changed_program() {
    let home = Home::new();
    let node = TestNode::start(home.builder().choreography(Listen)).await;
    let session = within(node.start(Listen, 0)).await.unwrap();
    let front = session.initiator();
    within(front.signal("number", "1", &10u32)).await.unwrap();
    until_view(front, 10).await;
    let bytes =
        within(node.operator().instance(session.id(), RoleIndex(0)).history()).await.unwrap().to_bytes().unwrap();
    let history = History::from_bytes(&bytes).unwrap();
    assert!(history.to_string().contains("signal number"), "{history}");
    let replayed = replay(&history, Listen, &Services::new()).unwrap();
    assert!(!replayed.ended && replayed.waits_for[0].1.contains("`signal number`"), "{replayed:?}");

    let changed = replay(&history, ListenChanged, &Services::new()).unwrap_err();
    let ReplayError::Stopped(stop) = &changed else { panic!("{changed}") };
    assert!(stop.to_string().contains("`signal number`") && stop.to_string().contains("effect `now`"), "{stop}");
    let another = replay(&history, Trade, &Services::new()).unwrap_err();
    assert!(matches!(another, ReplayError::Another { .. }), "{another}");
    assert!(History::from_bytes(&bytes[..bytes.len() - 1]).is_err());
    assert!(within(session.cancel("done with it")).await.unwrap());
    node.is_idle().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_to_a_session_that_is_not_open_is_an_error() {
    let home = Home::new();
    let node = TestNode::start(home.builder().choreography(Listen)).await;
    let session = SessionId::keyed("no", "such");
    let nothing = node.instance(Listen, session, Back);
    let operated = node.operator().instance(session, nothing.id().role);
    for error in [
        within(nothing.signal("number", "1", &1u32)).await.unwrap_err(),
        within(nothing.query::<u32>()).await.unwrap_err(),
        within(operated.resolve(Resolution::Retry)).await.unwrap_err(),
        within(operated.history()).await.unwrap_err(),
    ] {
        assert!(matches!(error, AskError::NotOpen(_)), "{error}");
    }
    within(node.shutdown()).await;
    let stopped = within(nothing.waits_for()).await.unwrap_err();
    assert!(matches!(stopped, AskError::NodeStopped), "{stopped}");
}
