//! Commits that come to no decision: tried again, counted and listed unless that passes by itself, and ended by an
//! abort.

use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex};

use accompanist_core::frame::{Body, Outcome};
use accompanist_core::machine::{Effects, Limits, Resolution};
use accompanist_core::record::{Record, Task};
use accompanist_core::{Abort, At, Local, Retry, Service, Transaction, Undecided};

use crate::rig::{Rig, choreography, roles, said};

roles! { Buyer "buyer" (), Desk "desk" Counter }

const BUYER: u8 = 0;
const DESK: u8 = 1;

fn aborted() -> Abort {
    Abort::new("enough", "as the test wants")
}

/// A service that comes to no decision as often as it is told to, and what it says.
struct Counter {
    left: Mutex<u32>,
    says: fn() -> Abort,
    asked: AtomicU32,
}

impl Counter {
    fn new(times: u32, says: fn() -> Abort) -> Arc<Self> {
        Arc::new(Self { left: Mutex::new(times), says, asked: 0.into() })
    }
    fn asked(&self) -> u32 {
        self.asked.load(SeqCst)
    }
}

struct Enter;
impl Transaction for Enter {
    const NAME: &'static str = "enter";
    type Role = Desk;
    type Input = u32;
    type Output = u32;
    async fn commit(&self, here: &Local<Desk>, n: &u32) -> Result<u32, Abort> {
        let counter = here.service();
        counter.asked.fetch_add(1, SeqCst);
        let mut left = counter.left.lock().unwrap();
        match left.checked_sub(1) {
            Some(fewer) => {
                *left = fewer;
                Err((counter.says)())
            }
            None => Ok(*n),
        }
    }
    async fn compensate(&self, _: &Local<Desk>, _: &u32, _: &u32) -> Result<(), Retry> {
        Ok(())
    }
}

choreography!(Entering: (Buyer, Desk), At<Buyer, u32> => At<Buyer, u32>, |ctx, n| {
    let n = ctx.comm(Buyer, Desk, &n).await?;
    let entered = ctx.transact(Enter, &n).await?;
    ctx.comm(Desk, Buyer, &entered).await
});

fn undecided() -> Abort {
    Abort::undecided("the table is not there: make it", Undecided { passes: false, is_known: true })
}

fn unavailable() -> Abort {
    Abort::undecided("nobody answers", Undecided { passes: true, is_known: false })
}

/// A desk that has heard the message, and has tried once.
fn entering(counter: &Arc<Counter>, tries_max: u32) -> (Rig, Effects) {
    let limits = Limits { tries_max, ..Limits::default() };
    let service = Service::of::<Desk>(counter.clone());
    let mut rig = Rig::begin_within(Entering, DESK, None, service, limits);
    rig.hear_message(BUYER, &[0], &7u32, 1);
    let effects = rig.turn_synced();
    (rig, effects)
}

#[test]
fn a_commit_without_a_decision_is_tried_so_often_and_then_listed() {
    let counter = Counter::new(u32::MAX, undecided);
    let (mut rig, mut effects) = entering(&counter, 3);
    for tries in 1..3 {
        let [retried] = &effects.retries[..] else { panic!("{:?}", effects.retries) };
        assert_eq!((retried.step.as_str(), retried.tries, counter.asked()), ("enter", tries, tries));
        assert!(retried.reason.starts_with("the table is not there"), "{}", retried.reason);
        assert!(effects.troubles.is_none());
        rig.now_ms = rig.part.next_wake_ms().expect("it will try again");
        effects = rig.turn_synced();
    }
    let troubles = effects.troubles.expect("it is listed");
    let [(_, trouble)] = &troubles[..] else { panic!("{troubles:?}") };
    assert_eq!((trouble.task, trouble.tries, trouble.step.as_str()), (Task::Commit, 3, "enter"));
    // What was in the way is mended.
    *counter.left.lock().unwrap() = 0;
    rig.part.resolve(Resolution::Retry);
    let effects = rig.turn_synced();
    assert_eq!(effects.troubles, Some(vec![]));
    assert_eq!(counter.asked(), 4);
}

#[test]
fn an_abort_ends_a_commit_without_a_decision() {
    // Waiting for its next try, waiting for its service, and listed.
    for (says, tries_max) in [(undecided as fn() -> Abort, 50), (unavailable, 2), (undecided, 1)] {
        let counter = Counter::new(u32::MAX, says);
        let (mut rig, _) = entering(&counter, tries_max);
        rig.hear(BUYER, Body::Abort(aborted()), 2);
        let effects = rig.turn_synced();
        // Before that, a step that was listed is told as being in trouble no more.
        assert_eq!(said(&effects).last(), Some(&(BUYER, Body::Done(Outcome::Compensated(aborted())))));
        assert!(effects.troubles.as_ref().is_none_or(Vec::is_empty));
        assert_eq!(counter.asked(), 1);
    }
}

#[test]
fn a_step_waits_for_an_unavailable_service_without_limit() {
    let counter = Counter::new(20, unavailable);
    let (mut rig, mut effects) = entering(&counter, 3);
    for _ in 0..20 {
        assert!(effects.troubles.is_none() && effects.retries.len() == 1, "{:?}", effects.troubles);
        rig.now_ms = rig.part.next_wake_ms().expect("it will try again");
        effects = rig.turn_synced();
    }
    assert_eq!((counter.asked(), effects.retries.len()), (21, 0));
    assert!(effects.troubles.is_none());
}

/// It may have taken effect before the crash: an abort does not take it for undone while the service cannot tell.
#[test]
fn a_step_in_doubt_since_an_earlier_life_is_looked_up_by_its_key_before_it_is_refused() {
    let counter = Counter::new(3, unavailable);
    let (rig, _) = entering(&counter, 50);
    let mut rig = Rig::restore(Entering, DESK, rig.disk, Service::of::<Desk>(counter.clone()));
    rig.turn_synced();
    assert_eq!(counter.asked(), 2);
    rig.hear(BUYER, Body::Abort(aborted()), 2);
    let mut effects = rig.turn_synced();
    for _ in 0..5 {
        if !said(&effects).is_empty() {
            break;
        }
        assert!(effects.troubles.is_none(), "{:?}", effects.troubles);
        rig.now_ms = rig.part.next_wake_ms().expect("it will ask again");
        effects = rig.turn_synced();
    }
    assert_eq!(said(&effects), [(BUYER, Body::Done(Outcome::Compensated(aborted())))]);
    // Told by its fourth try that it is done, it was compensated.
    assert_eq!(counter.asked(), 4);
    assert!(rig.disk.records().iter().any(|record| matches!(record, Record::Compensated { .. })));
}

/// Nothing passes and nothing is known, over two lives: it is listed as in doubt, and an abort in a third life asks all
/// the same.
#[test]
fn a_listed_step_in_doubt_is_looked_up_by_its_key_after_an_abort_in_a_later_life() {
    let blocked = || Abort::undecided("no right to read the markers", Undecided { passes: false, is_known: false });
    let counter = Counter::new(3, blocked);
    let limits = || Limits { tries_max: 2, ..Limits::default() };
    let service = || Service::of::<Desk>(counter.clone());
    let (rig, _) = entering(&counter, 50);
    let mut rig = Rig::restore_within(Entering, DESK, rig.disk, service(), limits());
    rig.turn_synced();
    rig.now_ms = rig.part.next_wake_ms().expect("it will try again");
    let troubles = rig.turn_synced().troubles.expect("it is listed");
    assert!(troubles[0].1.in_doubt, "{troubles:?}");
    let mut rig = Rig::restore_within(Entering, DESK, rig.disk, service(), limits());
    rig.turn_synced();
    assert_eq!(counter.asked(), 3, "not by itself");
    rig.hear(BUYER, Body::Abort(aborted()), 2);
    let effects = rig.turn_synced();
    let over = [(BUYER, Body::Trouble(None)), (BUYER, Body::Done(Outcome::Compensated(aborted())))];
    assert_eq!(said(&effects), over);
    assert_eq!((counter.asked(), effects.troubles), (4, Some(vec![])));
    assert!(rig.disk.records().iter().any(|record| matches!(record, Record::Compensated { .. })));
}
