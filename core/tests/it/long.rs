//! Long work under faults, all roles on one `harness`: sagas within the session, loops of checkpoints, timers, steps
//! that only go forward, and taking back in one order over all roles.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::time::Duration;

use accompanist_core::contract::Environment as _;
use accompanist_core::frame::Outcome;
use accompanist_core::machine::Resolution;
use accompanist_core::record::{Record, Task};
use accompanist_core::testing::{TestSetup, check_crashes};
use accompanist_core::{
    Abort, At, Choreography, CommitOutcome, Compensation, Context, Kind, Known, Local, Path, Retry, Service, Services,
    Transaction,
};
use serde::{Deserialize, Serialize};

use crate::harness::{Book, Rough, Stage, over_seeds};
use crate::rig::{choreography, roles, value};
use std::sync::Arc;

roles! { A "a" Book, B "b" Book, C "c" Book }

const ROUGH: Rough = Rough { crashes: 20, lost_in_ten: 2, forgotten: 3 };

/// What a run is told to do.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
struct Plan {
    seed: u64,
}

impl Plan {
    /// A decision, out of a few.
    fn pick(self, what: u32, among: u64) -> u64 {
        (self.seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> (what * 5 % 60)) % among
    }
}

/// A step that does what it is told.
struct Post<const KIND: u8> {
    name: &'static str,
    refuses: bool,
    busy: u32,
}

fn post(name: &'static str, refuses: bool) -> Post<0> {
    Post { name, refuses, busy: 1 }
}

const KINDS: [Kind; 3] = [Kind::Compensable, Kind::Pivot, Kind::Retriable];

/// `Post` at each role.
macro_rules! posts {
    ($($at:ident $role:ident),+) => {$(
        struct $at<const KIND: u8>(Post<KIND>);
        impl<const KIND: u8> Transaction for $at<KIND> {
            const NAME: &'static str = "post";
            const KIND: Kind = KINDS[KIND as usize];
            type Role = $role;
            type Input = u32;
            type Output = u32;
            async fn commit(&self, here: &Local<$role>, _: &u32) -> Result<u32, Abort> {
                if Self::KIND == Kind::Retriable {
                    return here.service().commit_when_free(self.0.name, here.key(), self.0.busy);
                }
                let answer = if self.0.refuses { Err(Abort::new("refused", self.0.name)) } else { Ok(0) };
                here.service().commit(self.0.name, here.key(), answer)
            }
            async fn compensate(&self, here: &Local<$role>, _: &u32, _: &u32) -> Result<(), Retry> {
                assert_eq!(Self::KIND, Kind::Compensable);
                here.service().compensate(self.0.name, here.key(), self.0.busy)
            }
            async fn outcome(&self, here: &Local<$role>, _: &u32) -> Result<CommitOutcome<u32>, Retry> {
                Ok(if here.service().has(here.key()) { CommitOutcome::Committed(0) } else { CommitOutcome::NotCommitted })
            }
        }
    )+};
}
posts!(AtA A, AtB B, AtC C);

fn harness<Ch: Choreography>(choreography: fn() -> Ch, seed: u64, rough: Rough) -> (Stage<Ch>, Arc<Book>) {
    let book = Arc::new(Book::default());
    // One service for all: the order of its log is that of the effects.
    let service = Service::of::<A>(book.clone());
    (Stage::set(choreography, &Plan { seed }, service, seed, rough), book)
}

/// Nothing is done twice, and what is undone was done, once.
fn check_book(book: &Book, all_undone: bool) {
    let log = book.log();
    let with = |prefix: &str| {
        let mut paths: Vec<(String, Path)> =
            log.iter().filter_map(|(what, path)| Some((what.strip_prefix(prefix)?.to_owned(), path.clone()))).collect();
        paths.sort();
        paths
    };
    let (done, undone) = (with("do "), with("undo "));
    for entries in [&done, &undone] {
        let mut once = entries.clone();
        once.dedup();
        assert_eq!(*entries, once, "something took effect twice: {log:?}");
    }
    assert!(undone.iter().all(|step| done.contains(step)), "{log:?}");
    if all_undone {
        assert_eq!(done, undone, "{log:?}");
    }
}

// Three tries of a saga within the session, with another one inside; then perhaps the session's own abort.
choreography!(Tries: (A, B, C), At<A, Plan> => At<A, u32>, |ctx, plan| {
    let plan = ctx.broadcast(A, &plan).await?;
    let one = ctx.locally(A, |_| 1);
    let two = ctx.locally(B, |_| 2);
    let mut failed = 0;
    ctx.transact(AtA(post("first", false)), &one).await?;
    for attempt in 0..3 {
        let tried = ctx.saga((B, A), async |ctx| {
            ctx.transact(AtA(post("inner a", false)), &one).await?;
            let one = ctx.comm(A, B, &one).await?;
            let (left, right) = (ctx.fork(), ctx.fork());
            tokio::try_join!(
                left.transact(AtB(post("inner b", plan.pick(attempt, 3) == 0)), &one),
                right.transact(AtA(post("inner a2", plan.pick(attempt + 3, 3) == 0)), &ctx.locally(A, |_| 1)),
            )?;
            let nested = ctx.saga((A,), async |ctx| {
                let three = ctx.locally(A, |_| 3);
                ctx.transact(AtA(post("nested", false)), &three).await?;
                if plan.pick(attempt + 6, 2) == 0 {
                    return Err(Abort::new("nested", "as planned"));
                }
                Ok(())
            }).await?;
            let told = ctx.comm(B, A, &one).await?;
            if nested.is_err() && plan.pick(attempt + 7, 2) == 0 {
                return ctx.abort(Abort::new("given-up", "nested")).await;
            }
            Ok(told)
        }).await?;
        match tried {
            Ok(told) => {
                ctx.comm(A, C, &told).await?;
                break;
            }
            Err(abort) => {
                assert!(["refused", "given-up"].contains(&abort.code()), "{abort}");
                failed += 1;
            }
        }
    }
    ctx.transact(AtB(post("last", false)), &two).await?;
    let two = ctx.comm(B, C, &two).await?;
    ctx.transact(AtC(post("end", plan.pick(11, 3) == 0)), &two).await?;
    Ok(ctx.locally(A, |_| failed))
});

#[test]
fn a_nested_saga_ends_alike_at_all_roles_and_compensates_only_its_own_steps() {
    over_seeds(500, |seed| {
        let (mut harness, book) = harness(|| Tries, seed, ROUGH);
        harness.play();
        let finished = harness.outcomes()[0] == Outcome::Finished;
        assert!(harness.outcomes().iter().all(|outcome| (*outcome == Outcome::Finished) == finished));
        check_book(&book, !finished);
        if finished {
            let failed: u32 = value(harness.output.as_ref().unwrap().as_ref().unwrap());
            let succeeded = usize::from(failed < 3);
            assert_eq!(book.count("undo first") + book.count("undo last") + book.count("undo end"), 0);
            for step in ["inner a", "inner b", "inner a2"] {
                let [done, undone] = ["do", "undo"].map(|what| book.count(&format!("{what} {step}")));
                assert_eq!(done - undone, succeeded, "{step} after {failed} failures: {:?}", book.log());
            }
        }
    });
}

#[test]
fn an_acknowledged_frame_that_was_never_received_is_resent() {
    let (kinds, sent_again) = (std::cell::RefCell::new(BTreeSet::new()), std::cell::Cell::new(0));
    over_seeds(300, |seed| {
        let rough = Rough { crashes: 0, lost_in_ten: 2, forgotten: 8 };
        let (mut harness, book) = harness(|| Tries, seed, rough);
        harness.play();
        let finished = harness.outcomes()[0] == Outcome::Finished;
        assert!(harness.outcomes().iter().all(|outcome| (*outcome == Outcome::Finished) == finished));
        check_book(&book, !finished);
        kinds.borrow_mut().extend(harness.forgotten.iter().copied());
        sent_again.set(sent_again.get() + harness.sent_again);
    });
    assert_eq!(kinds.into_inner(), BTreeSet::from(["abort", "close", "deliver", "done", "invite"]));
    assert!(sent_again.get() > 100, "{sent_again:?} times");
}

// Turns with steps at two roles; a turn may abort the session. The third role only looks on.
choreography!(Rounds: (B, A, C), At<B, Plan> => At<B, u32>, |ctx, plan| {
    let plan = ctx.broadcast(B, &plan).await?;
    let sum = ctx.locally(A, |_| 0u32);
    let before = ctx.locally(B, |_| 0);
    ctx.transact(AtB(post("before", false)), &before).await?;
    let (turns, sum) = ctx.repeat((Known(0u32), sum), async |ctx, (Known(turn), sum)| {
        let n = ctx.locally(B, |_| turn);
        ctx.transact(AtB(post("turn b", false)), &n).await?;
        let n = ctx.comm(B, A, &n).await?;
        ctx.transact(AtA(post("turn a", plan.pick(1, 2) == 0 && u64::from(turn) == plan.pick(2, 8))), &n).await?;
        let sum = ctx.locally(A, |here| here.get(&sum) + here.get(&n));
        if turn.is_multiple_of(2) {
            ctx.comm(A, C, &sum).await?;
        }
        let next = (Known(turn + 1), sum);
        Ok(if turn < 9 { ControlFlow::Continue(next) } else { ControlFlow::Break(next) })
    }).await?;
    assert_eq!(turns, Known(10));
    ctx.comm(A, B, &sum).await
});

#[test]
fn a_turn_that_is_over_is_final_for_all_roles_or_for_none() {
    over_seeds(150, |seed| {
        let (mut harness, book) = harness(|| Rounds, seed, ROUGH);
        harness.play();
        let plan = Plan { seed };
        check_book(&book, false);
        let turns = if plan.pick(1, 2) == 0 {
            assert!(harness.outcomes().iter().all(|outcome| matches!(outcome, Outcome::Compensated(_))));
            assert_eq!(book.count("undo before"), 1);
            usize::try_from(plan.pick(2, 8)).unwrap()
        } else {
            assert_eq!(harness.outcomes(), [Outcome::Finished, Outcome::Finished, Outcome::Finished]);
            assert_eq!(value::<u32>(harness.output.as_ref().unwrap().as_ref().unwrap()), 45);
            10
        };
        for step in ["turn a", "turn b"] {
            let [done, undone] = ["do", "undo"].map(|what| book.count(&format!("{what} {step}")));
            assert_eq!(done - undone, turns, "{step}: {:?}", book.log());
        }
        assert!(harness.journal_records_max < 20, "{} records at a time", harness.journal_records_max);
    });
}

#[test]
fn an_external_abort_compensates_the_same_turns_at_all_roles() {
    over_seeds(300, |seed| {
        // A plan without an abort of its own.
        let (mut harness, book) = harness(|| Rounds, seed * 2 + 1, ROUGH);
        let plan = Plan { seed: seed * 2 + 1 };
        if plan.pick(1, 2) == 0 {
            return;
        }
        let steps = harness.chance.draw(2_000);
        for _ in 0..steps {
            harness.step();
        }
        if let Some(part) = harness.part(0) {
            part.cancel(&Abort::new(Abort::CANCELLED, "as the test wants"));
        }
        harness.play();
        check_book(&book, false);
        let kept = |step: &str| book.count(&format!("do {step}")) - book.count(&format!("undo {step}"));
        assert_eq!(kept("turn a"), kept("turn b"), "{:?}", book.log());
        assert_eq!(kept("before"), usize::from(harness.outcomes()[0] == Outcome::Finished));
    });
}

// Naps at two roles, and a receive with a time limit that a nap decides.
choreography!(Naps: (A, B), At<A, Plan> => At<A, (bool, u64)>, |ctx, plan| {
    let plan = ctx.broadcast(A, &plan).await?;
    let before = ctx.now(A).await?;
    ctx.sleep(A, Duration::from_millis(300)).await?;
    let after = ctx.now(A).await?;
    let waited = ctx.locally(A, |here| {
        let waited = here.get(&after).duration_since(*here.get(&before)).unwrap();
        u64::try_from(waited.as_millis()).unwrap()
    });
    ctx.sleep(B, Duration::from_millis(plan.pick(0, 8) * 100)).await?;
    let n = ctx.locally(B, |_| 7u32);
    let got = ctx.comm_within(B, A, &n, Duration::from_millis(300)).await?;
    let in_time = ctx.locally(A, |here| here.get(&got).is_some());
    // All learn it, and it never changes: a step hangs on it at each.
    let in_time = ctx.broadcast(A, &in_time).await?;
    let one = ctx.locally(A, |_| 1);
    let name = if in_time { "in time" } else { "too late" };
    ctx.transact(AtA(post(name, false)), &one).await?;
    let two = ctx.comm(A, B, &one).await?;
    ctx.transact(AtB(post(name, false)), &two).await?;
    Ok(ctx.locally(A, |here| (in_time, *here.get(&waited))))
});

#[test]
fn timers_survive_crashes_and_an_expired_wait_stays_expired() {
    let [mut late, mut early] = [0, 0].map(std::cell::Cell::new);
    over_seeds(500, |seed| {
        let (mut harness, book) = harness(|| Naps, seed, ROUGH);
        harness.play();
        let (in_time, waited): (bool, u64) = value(harness.output.as_ref().unwrap().as_ref().unwrap());
        assert!(waited >= 300, "{waited} ms");
        let (told, other) = if in_time { ("in time", "too late") } else { ("too late", "in time") };
        assert_eq!((book.count(&format!("do {told}")), book.count(&format!("do {other}"))), (2, 0));
        let count = if in_time { &early } else { &late };
        count.set(count.get() + 1);
    });
    assert!(*late.get_mut() > 20 && *early.get_mut() > 20, "{late:?} late, {early:?} in time");
}

choreography!(Nap: (A,), At<A, Plan> => At<A, u32>, |ctx, _plan| {
    ctx.sleep(A, Duration::from_millis(300)).await?;
    Ok(ctx.locally(A, |_| 0))
});

#[test]
fn a_crash_does_not_prolong_a_sleep() {
    let asleep = std::cell::Cell::new(0);
    over_seeds(50, |seed| {
        let (mut harness, _) = harness(|| Nap, seed, Rough { crashes: 0, lost_in_ten: 0, forgotten: 0 });
        let observed = |record: &Record| matches!(record, Record::Observed { .. });
        harness.play_until(|harness| harness.records(0).iter().any(observed) || harness.clock.monotonic_ms() > 0);
        if harness.clock.monotonic_ms() > 0 {
            return; // It slept through before the disk was ready.
        }
        asleep.set(asleep.get() + 1);
        harness.pass(250);
        harness.crash(0);
        harness.play();
        assert_eq!(harness.clock.monotonic_ms(), 300);
    });
    assert!(asleep.get() > 5, "{asleep:?}");
}

#[test]
fn a_deadline_aborts_the_session_despite_crashes_of_the_role_that_watches_it() {
    over_seeds(150, |seed| {
        let (harness, book) = harness(|| Naps, seed, ROUGH);
        let mut harness = harness.with_deadline(1_000_000 + 250);
        harness.play();
        assert_eq!(harness.output.as_ref().unwrap().as_ref().unwrap_err().code(), Abort::DEADLINE);
        assert!(harness.outcomes().iter().all(|outcome| matches!(outcome, Outcome::Compensated(_))));
        assert_eq!(book.log(), []);
    });
}

/// Five steps at three roles, one after the other along the messages; the last is refused.
macro_rules! chain {
    ($name:ident, $compensation:expr) => {
        struct $name;
        impl Choreography for $name {
            const NAME: &'static str = stringify!($name);
            const COMPENSATION: Compensation = $compensation;
            type Roles = (A, B, C);
            type Input = At<A, Plan>;
            type Output = At<A, u32>;
            async fn run(&self, ctx: &Context<Self::Roles>, _: At<A, Plan>) -> Result<At<A, u32>, Abort> {
                let n = ctx.locally(A, |_| 1);
                ctx.transact(AtA(post("one", false)), &n).await?;
                let n = ctx.comm(A, B, &n).await?;
                ctx.transact(AtB(post("two", false)), &n).await?;
                let n = ctx.comm(B, C, &n).await?;
                ctx.transact(AtC(post("three", false)), &n).await?;
                let n = ctx.comm(C, A, &n).await?;
                ctx.transact(AtA(post("four", false)), &n).await?;
                let n = ctx.comm(A, C, &n).await?;
                ctx.transact(AtC(post("five", true)), &n).await?;
                Ok(ctx.locally(A, |_| 0))
            }
        }
    };
}
chain!(Chain, Compensation::Backwards);
chain!(ChainSideBySide, Compensation::SideBySide);

fn undone(book: &Book) -> Vec<String> {
    let undone = |(what, _): (String, Path)| what.strip_prefix("undo ").map(ToOwned::to_owned);
    book.log().into_iter().filter_map(undone).collect()
}

#[test]
fn backwards_is_one_order_over_all_roles() {
    over_seeds(300, |seed| {
        let (mut harness, book) = harness(|| Chain, seed, ROUGH);
        harness.play();
        assert_eq!(undone(&book), ["four", "three", "two", "one"]);
    });
}

#[test]
fn side_by_side_is_backwards_at_each_role_only() {
    let orders = std::sync::Mutex::new(std::collections::BTreeSet::new());
    over_seeds(200, |seed| {
        let (mut harness, book) = harness(|| ChainSideBySide, seed, ROUGH);
        harness.play();
        let undone = undone(&book);
        let place = |step: &str| undone.iter().position(|undone| undone == step).unwrap();
        assert!(place("four") < place("one"));
        orders.lock().unwrap().insert(undone);
    });
    assert!(orders.lock().unwrap().len() > 3, "{orders:?}");
}

// A step that can be taken back, the point of no return, and two steps that only go forward.
choreography!(Forward: (A, B), At<A, Plan> => At<A, u32>, |ctx, plan| {
    let plan = ctx.broadcast(A, &plan).await?;
    let n = ctx.locally(A, |_| 1);
    ctx.transact(AtA(post("hold", false)), &n).await?;
    let pivot = Post { name: "pivot", refuses: plan.pick(0, 4) == 0, busy: 0 };
    ctx.transact(AtA::<1>(pivot), &n).await?;
    let n = ctx.comm(A, B, &n).await?;
    let busy = u32::try_from(plan.pick(1, 4)).unwrap();
    ctx.transact(AtB::<2>(Post { name: "forward", refuses: false, busy }), &n).await?;
    let n = ctx.comm(B, A, &n).await?;
    ctx.transact(AtA::<2>(Post { name: "forward", refuses: false, busy: 1 }), &n).await
});

#[test]
fn past_the_pivot_a_saga_only_goes_forward() {
    over_seeds(300, |seed| {
        let (mut harness, book) = harness(|| Forward, seed, ROUGH);
        harness.play();
        let refused = Plan { seed }.pick(0, 4) == 0;
        assert_eq!(harness.outcomes()[0] == Outcome::Finished, !refused);
        let counts = ["do hold", "undo hold", "do pivot", "do forward"].map(|what| book.count(what));
        assert_eq!(counts, if refused { [1, 1, 0, 0] } else { [1, 0, 1, 2] });
    });
}

#[test]
fn an_abort_past_the_pivot_is_listed_for_an_operator_with_its_reason() {
    let seen = std::sync::Mutex::new(std::collections::BTreeMap::<String, u32>::new());
    let stood = std::sync::Mutex::new(std::collections::BTreeSet::new());
    over_seeds(500, |seed| {
        let (mut harness, book) = harness(|| Forward, seed, ROUGH);
        let steps = harness.chance.draw(600);
        for _ in 0..steps {
            harness.step();
        }
        let cancelled = harness.part(0).is_some_and(|part| part.cancel(&Abort::new(Abort::CANCELLED, "now")).is_some());
        harness.play_until(|harness| !harness.troubles().is_empty());
        assert_eq!(harness.stopped, None);
        for trouble in harness.troubles() {
            assert!(cancelled && trouble.task == Task::Reconcile, "{trouble}");
            *seen.lock().unwrap().entry(trouble.step).or_default() += 1;
        }
        harness.resolution = Some(Resolution::Compensated);
        harness.play();
        stood.lock().unwrap().append(&mut harness.seen);
        // What can be taken back is; the rest is as the operator was told.
        let finished = harness.outcomes()[0] == Outcome::Finished;
        assert_eq!(book.count("do hold") - book.count("undo hold"), usize::from(finished));
    });
    assert!(seen.lock().unwrap().get("post").copied().unwrap_or_default() > 30, "{seen:?}");
    let stood: Vec<_> = stood.into_inner().unwrap().into_iter().collect();
    assert_eq!(stood, ["Compensated", "Compensating", "Finished", "NeedsOperator", "Running"]);
}

#[test]
fn a_step_that_is_tried_too_often_waits_for_an_operator_also_over_crashes() {
    let kept = std::cell::Cell::new(0);
    over_seeds(150, |seed| {
        let (mut harness, book) = harness(|| Forward, seed, ROUGH);
        harness.limits.tries_max = 1;
        let plan = Plan { seed };
        if plan.pick(0, 4) == 0 || plan.pick(1, 4) == 0 {
            return;
        }
        harness.play_until(|harness| harness.troubles().iter().any(|trouble| trouble.task == Task::Commit));
        assert!(!harness.is_over());
        // On disk: the next life knows it, and does not try by itself.
        let troubled = |record: &Record| matches!(record, Record::Troubled { .. });
        let known = |harness: &Stage<Forward>| (0..2).any(|index| harness.records(index).iter().any(troubled));
        harness.play_until(known);
        if !known(&harness) {
            return; // A crash came before it was on disk, and the next try succeeded.
        }
        kept.set(kept.get() + 1);
        harness.resolution = Some(Resolution::Retry);
        harness.play();
        assert_eq!(book.count("do forward"), 2);
        assert_eq!(harness.outcomes()[0], Outcome::Finished);
    });
    assert!(kept.get() > 20, "{kept:?}");
}

fn check_every_crash<Ch: Choreography<Input = At<Role0, Plan>>, Role0: accompanist_core::Role>(
    choreography: fn() -> Ch,
    seed: u64,
) -> usize {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let checked = runtime.block_on(check_crashes(choreography(), Plan { seed }, 1, || {
        let book = Arc::new(Book::default());
        let services = Services::new().with(A, book.clone()).with(B, book.clone()).with(C, book.clone());
        TestSetup::new(services).judge(move |_| check_book(&book, false))
    }));
    checked.unwrap_or_else(|failure| panic!("plan {seed}: {failure}")).points
}

#[test]
fn each_of_these_survives_a_crash_at_each_point() {
    for seed in 0..4 {
        let points =
            [check_every_crash(|| Tries, seed), check_every_crash(|| Rounds, seed), check_every_crash(|| Naps, seed)];
        assert!(points.iter().all(|points| *points > 100), "{points:?}");
    }
}
