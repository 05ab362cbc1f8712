//! Every operation of the language, run as whole choreographies in this process.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use accompanist_core::contract::BoxFuture;
use accompanist_core::id::Path;
use accompanist_core::{
    Abort, At, Choreography, Context, Kind, Local, LocalTransaction, Located, Retry, Services, State, Table,
    Transaction, run_local,
};
use futures_util::FutureExt;
use uuid::Uuid;

use crate::rig::{Bank, bank_step, choreography, roles};

roles! {
    A "a" Bank, B "b" Bank, C "c" (), D "d" (), E "e" (), F "f" (), G "g" (), H "h" (), I "i" (), J "j" (), K "k" (),
    L "l" (),
}

type All = (A, B, C, D, E, F, G, H, I, J, K, L);

fn services() -> Services {
    Services::new().with(A, Bank::new()).with(B, Bank::new())
}

/// Runs `choreography` with idle banks and compares its output.
async fn check<X>(choreography: X, input: <X::Input as Located>::Value, expected: <X::Output as Located>::Value)
where
    X: Choreography,
    <X::Output as Located>::Value: PartialEq + std::fmt::Debug,
{
    assert_eq!(run_local(choreography, input, &services()).await, Ok(expected));
}

choreography!(Twelve: All, At<A, u32> => At<A, u32>, |ctx, n| {
    macro_rules! add_one_on_the_way {
        ($from:ident $($rest:ident)*) => { add_one_on_the_way!(@ n $from $($rest)*) };
        (@ $value:ident $from:ident $to:ident $($rest:ident)*) => {{
            let sent = ctx.comm($from, $to, &$value).await?;
            let more = ctx.locally($to, |here| here.get(&sent) + 1);
            add_one_on_the_way!(@ more $to $($rest)*)
        }};
        (@ $value:ident $last:ident) => { $value };
    }
    let round = add_one_on_the_way!(A B C D E F G H I J K L A);
    let told = ctx.broadcast(A, &round).await?;
    let own = ctx.locally(L, |_| told * 100);
    ctx.comm(L, A, &own).await
});

#[tokio::test]
async fn twelve_roles_take_part_in_one_choreography() {
    check(Twelve, 1, 1300).await;
}

choreography!(ToItself: (C, D), At<C, u32> => At<C, u32>, |ctx, n| { ctx.comm(C, C, &n).await });

#[tokio::test]
async fn a_role_may_send_to_itself() {
    check(ToItself, 4, 4).await;
}

choreography!(Multicast: (A, B, C, D), At<A, u32> => At<A, u32>, |ctx, n| {
    let (at_b, at_a, at_d) = ctx.multicast(A, (B, A, D), &n).await?;
    let b = ctx.locally(B, |here| here.get(&at_b) + 1);
    let a = ctx.locally(A, |here| here.get(&at_a) + 10);
    let d = ctx.locally(D, |here| here.get(&at_d) + 100);
    let all = ctx.gather((B, A, D), A, (&b, &a, &d)).await?;
    Ok(ctx.locally(A, |here| { let (b, a, d) = here.get(&all); b + a + d }))
});

#[tokio::test]
async fn multicast_reaches_the_roles_named_the_sender_among_them() {
    check(Multicast, 5, 126).await;
}

choreography!(Gather: (A, B, C), At<A, u32> => At<A, (String, u32, bool)>, |ctx, n| {
    let told = ctx.broadcast(A, &n).await?;
    let a = ctx.locally(A, |_| format!("a{told}"));
    let b = ctx.locally(B, |_| told * 2);
    let c = ctx.locally(C, |_| told > 3);
    // The receiver is one of the sources.
    let at_b = ctx.gather((A, B, C), B, (&a, &b, &c)).await?;
    ctx.comm(B, A, &at_b).await
});

#[tokio::test]
async fn gather_names_values_by_role_with_the_receiver_among_the_sources() {
    check(Gather, 4, ("a4".into(), 8, true)).await;
    check(Gather, 3, ("a3".into(), 6, false)).await;
}

choreography!(Branch: (A, B, C), At<A, u32> => At<A, String>, |ctx, n| {
    if ctx.broadcast(A, &n).await? > 10 {
        let word = ctx.locally(B, |_| "from b".to_owned());
        ctx.comm(B, A, &word).await
    } else {
        let word = ctx.locally(C, |_| "from c".to_owned());
        ctx.comm(C, A, &word).await
    }
});

#[tokio::test]
async fn every_role_may_branch_on_a_broadcast_value() {
    check(Branch, 11, "from b".into()).await;
    check(Branch, 10, "from c".into()).await;
}

choreography!(Effect: (A, C), At<A, u32> => At<A, String>, |ctx, n| {
    let n = ctx.comm(A, C, &n).await?;
    let word = ctx.effect(C, "look it up", async |here| {
        tokio::task::yield_now().await; // Something that takes its time.
        format!("{} at c", here.get(&n))
    }).await?;
    ctx.comm(C, A, &word).await
});

#[tokio::test]
async fn an_effect_may_await_and_returns_its_result() {
    check(Effect, 7, "7 at c".into()).await;
}

bank_step!(Charge "charge" A);
bank_step!(ChargeAtB "charge at b" B);

choreography!(Buy: (A, B), At<A, u32> => At<A, (u32, u32)>, |ctx, n| {
    let first = ctx.transact(Charge, &n).await?;
    let at_b = ctx.comm(A, B, &first).await?;
    let second = ctx.transact(ChargeAtB, &at_b).await?;
    let second = ctx.comm(B, A, &second).await?;
    Ok(ctx.locally(A, |here| (*here.get(&first), *here.get(&second))))
});

#[tokio::test]
async fn transact_commits_once_at_its_role_and_gives_its_output() {
    let (a, b) = (Bank::new(), Bank::new());
    let services = Services::new().with(A, a.clone()).with(B, b.clone());
    assert_eq!(run_local(Buy, 5, &services).await, Ok((6, 7)));
    assert_eq!(a.calls(), ["charge 5"]);
    assert_eq!(b.calls(), ["charge 6"]);
    assert!(a.keys() != b.keys(), "each step has a key of its own");
}

const COUNTERS: Table<String, u32> = Table::new("counters");

/// Adds to a counter of role A; what it was is its output.
struct Add(Log);
type Log = Arc<Mutex<Vec<String>>>;

fn log(log: &Log, line: String) {
    log.lock().unwrap().push(line);
}

impl LocalTransaction for Add {
    const NAME: &'static str = "add";
    type Role = A;
    type Input = u32;
    type Output = u32;
    fn commit(&self, state: &mut State<'_>, more: &u32) -> Result<u32, Abort> {
        let before = COUNTERS.get(state, "n")?.unwrap_or_default();
        COUNTERS.put(state, "n", &(before + more))?;
        if *more == 13 {
            return Err(Abort::new("unlucky", "not 13"));
        }
        log(&self.0, format!("add {more}: {before} -> {}", before + more));
        Ok(before)
    }
    fn compensate(&self, state: &mut State<'_>, more: &u32, before: &u32) -> Result<(), Retry> {
        let now = COUNTERS.get(state, "n")?.unwrap_or_default();
        COUNTERS.put(state, "n", before)?;
        log(&self.0, format!("undo {more}: {now} -> {before}"));
        Ok(())
    }
}

struct Count(Log);

impl Choreography for Count {
    const NAME: &'static str = "count";
    type Roles = (A, B);
    type Input = At<A, u32>;
    type Output = At<A, u32>;
    async fn run(&self, ctx: &Context<Self::Roles>, n: At<A, u32>) -> Result<At<A, u32>, Abort> {
        ctx.transact(Add(self.0.clone()), &n).await?;
        ctx.transact(Add(self.0.clone()), &n).await
    }
}

#[tokio::test]
async fn a_local_step_reads_the_writes_of_the_previous_one() {
    check(Count(Log::default()), 5, 5).await;
}

#[tokio::test]
async fn a_refused_local_step_aborts_and_its_writes_are_thrown_away() {
    let lines = Log::default();
    let ended = run_local(Count(lines.clone()), 13, &services()).await;
    assert_eq!(ended.map_err(|abort| abort.code().to_owned()), Err("unlucky".into()));
    assert!(lines.lock().unwrap().is_empty(), "a refused step is not compensated");
}

choreography!(Haggle: (B, A, C), At<B, u32> => At<B, String>, |ctx, advertisement| {
    let at_a = ctx.comm(B, A, &advertisement).await?;
    let answer = ctx.try_transact(Charge, &at_a).await?;
    match ctx.broadcast(A, &answer).await? {
        Ok(receipt) => {
            let thanks = ctx.locally(C, |_| format!("c knows of {receipt}"));
            ctx.comm(C, B, &thanks).await
        }
        Err(refusal) => Ok(ctx.locally(B, |_| format!("b knows of {}", refusal.code()))),
    }
});

#[tokio::test]
async fn a_refusal_of_try_transact_is_a_value_that_all_can_branch_on() {
    let bank = Bank::refusing(9);
    let services = Services::new().with(A, bank.clone()).with(B, Bank::new());
    assert_eq!(run_local(Haggle, 9, &services).await, Ok("b knows of refused".into()));
    assert_eq!(run_local(Haggle, 8, &services).await, Ok("c knows of 9".into()));
    assert_eq!(bank.calls(), ["charge 9", "charge 8"], "nothing is compensated: nothing was aborted");
}

choreography!(Conclaves: (A, B, C, D), At<A, u32> => At<A, u32>, |ctx, n| {
    let at_c = ctx.conclave((A, B, C), async |ctx| {
        let n = ctx.broadcast(A, &n).await?;
        let at_b = ctx.conclave((C, B), async |ctx| {
            let at_c = ctx.locally(C, |_| n + 1);
            ctx.comm(C, B, &at_c).await
        }).await?;
        let at_b = ctx.locally(B, |here| here.get(&at_b) * 10);
        ctx.comm(B, C, &at_b).await
    }).await?;
    // D, who skipped all of it, and C, who was in all of it, still count alike.
    let at_d = ctx.comm(C, D, &at_c).await?;
    ctx.comm(D, A, &at_d).await
});

#[tokio::test]
async fn conclaves_nest_and_those_outside_go_on() {
    check(Conclaves, 3, 40).await;
}

choreography!(SideBySide: (A, B, C), At<A, u32> => At<A, (u32, u32)>, |ctx, n| {
    let (left, right) = (ctx.fork(), ctx.fork());
    let by_b = async {
        let at_b = left.comm(A, B, &n).await?;
        let paid = left.transact(ChargeAtB, &at_b).await?;
        left.comm(B, A, &paid).await
    };
    let by_c = async {
        let at_c = right.comm(A, C, &n).await?;
        let more = right.locally(C, |here| here.get(&at_c) * 10);
        right.comm(C, A, &more).await
    };
    let (b, c) = tokio::try_join!(by_b, by_c)?;
    Ok(ctx.locally(A, |here| (*here.get(&b), *here.get(&c))))
});

#[tokio::test]
async fn forks_run_side_by_side() {
    check(SideBySide, 4, (5, 40)).await;
}

choreography!(Chance: (A, C), At<A, ()> => At<A, (SystemTime, Uuid, Uuid, u64, u64)>, |ctx, start| {
    ctx.comm(A, C, &start).await?;
    let now = ctx.now(C).await?;
    let (one, two) = (ctx.uuid(C).await?, ctx.uuid(C).await?);
    let (dice, dices) = (ctx.random(C).await?, ctx.random(C).await?);
    let all = ctx.gather((C, C, C, C, C), C, (&now, &one, &two, &dice, &dices)).await?;
    ctx.comm(C, A, &all).await
});

#[tokio::test]
async fn time_ids_and_chance_are_a_roles_own() {
    let before = SystemTime::now();
    let (now, one, two, dice, dices) = run_local(Chance, (), &Services::new()).await.unwrap();
    // Times are kept in milliseconds.
    assert!(now + Duration::from_millis(1) > before && now <= SystemTime::now());
    assert_eq!((one.get_version_num(), two.get_version_num()), (4, 4));
    assert!(one != two && dice != dices);
}

choreography!(GiveUp: (A, B), At<A, u32> => At<A, u32>, |ctx, n| {
    let paid = ctx.transact(Charge, &n).await?;
    if ctx.broadcast(A, &paid).await? > 3 {
        return ctx.abort(Abort::new("too-much", "more than three")).await;
    }
    Ok(paid)
});

#[tokio::test]
async fn abort_ends_the_session_with_its_code() {
    let bank = Bank::new();
    let services = Services::new().with(A, bank.clone()).with(B, Bank::new());
    assert_eq!(run_local(GiveUp, 1, &services).await, Ok(2));
    assert_eq!(bank.balance(), 1);
    assert_eq!(run_local(GiveUp, 5, &services).await, Err(Abort::new("too-much", "more than three")));
    assert_eq!(bank.calls(), ["charge 1", "charge 5", "refund 5"]);
    assert_eq!(bank.balance(), 1);
}

choreography!(Returned: (A, B), At<A, u32> => At<A, u32>, |ctx, n| {
    let paid = ctx.transact(Charge, &n).await?;
    ctx.broadcast(A, &paid).await?;
    Err(Abort::new("returned", "as any error"))
});

#[tokio::test]
async fn an_abort_may_be_returned_like_any_error() {
    let bank = Bank::new();
    let services = Services::new().with(A, bank.clone()).with(B, Bank::new());
    assert_eq!(run_local(Returned, 5, &services).await.unwrap_err().code(), "returned");
    assert_eq!(bank.balance(), 0);
}

/// Role A: local, external, local, external. Role B: external, and one that B's bank may refuse.
struct Saga(Log);

impl Choreography for Saga {
    const NAME: &'static str = "saga";
    type Roles = (A, B, C);
    type Input = At<A, u32>;
    type Output = At<A, u32>;
    async fn run(&self, ctx: &Context<Self::Roles>, n: At<A, u32>) -> Result<At<A, u32>, Abort> {
        let add = || Add(self.0.clone());
        let logged = || Logged(self.0.clone());
        ctx.transact(add(), &n).await?;
        let two = ctx.transact(logged(), &n).await?;
        ctx.transact(add(), &two).await?;
        ctx.transact(logged(), &two).await?;
        let at_b = ctx.comm(A, B, &two).await?;
        let three = ctx.transact(ChargeAtB, &at_b).await?;
        let four = ctx.transact(ChargeAtB, &three).await?;
        ctx.comm(B, A, &four).await
    }
}

/// As [`Charge`], and writes into the log what it does.
struct Logged(Log);

impl Transaction for Logged {
    const NAME: &'static str = "logged";
    type Role = A;
    type Input = u32;
    type Output = u32;
    async fn commit(&self, here: &Local<A>, amount: &u32) -> Result<u32, Abort> {
        log(&self.0, format!("charge {amount}"));
        here.service().charge(here.key(), *amount)
    }
    async fn compensate(&self, here: &Local<A>, amount: &u32, receipt: &u32) -> Result<(), Retry> {
        tokio::task::yield_now().await; // A service outside takes its time.
        log(&self.0, format!("refund {amount}"));
        here.service().refund(here.key(), *amount, *receipt)
    }
}

#[tokio::test]
async fn an_abort_compensates_all_steps_of_all_roles_in_reverse_order() {
    let (lines, a, b) = (Log::default(), Bank::new(), Bank::refusing(3));
    let services = Services::new().with(A, a.clone()).with(B, b.clone());
    let ended = run_local(Saga(lines.clone()), 1, &services).await;
    assert_eq!(ended, Err(Abort::new("refused", "not 3")));
    let expected = [
        "add 1: 0 -> 1",
        "charge 1",
        "add 2: 1 -> 3",
        "charge 2",
        "refund 2",
        "undo 2: 3 -> 1",
        "refund 1",
        "undo 1: 1 -> 0",
    ];
    assert_eq!(*lines.lock().unwrap(), expected);
    assert_eq!(b.calls(), ["charge 2", "charge 3", "refund 2"], "the refused step is not compensated");
    assert_eq!((a.balance(), b.balance()), (0, 0));
}

#[tokio::test]
async fn a_compensation_that_asks_for_a_retry_is_tried_again() {
    let (lines, a, b) = (Log::default(), Bank::retrying(2), Bank::refusing(3));
    let services = Services::new().with(A, a.clone()).with(B, b.clone());
    let ended = run_local(Saga(lines.clone()), 1, &services).await;
    assert_eq!(ended, Err(Abort::new("refused", "not 3")));
    let undone = lines.lock().unwrap().split_off(4);
    let expected = ["refund 2", "refund 2", "refund 2", "undo 2: 3 -> 1", "refund 1", "undo 1: 1 -> 0"];
    assert_eq!(undone, expected, "the next is not compensated before this one is");
    assert_eq!((a.balance(), b.balance()), (0, 0));
}

/// Takes its time to take back, as every service on a network does.
struct Slow;

impl Transaction for Slow {
    const NAME: &'static str = "slow";
    type Role = B;
    type Input = u32;
    type Output = u32;
    async fn commit(&self, here: &Local<B>, amount: &u32) -> Result<u32, Abort> {
        tokio::task::yield_now().await;
        here.service().charge(here.key(), *amount)
    }
    async fn compensate(&self, here: &Local<B>, amount: &u32, receipt: &u32) -> Result<(), Retry> {
        // Only another task can let this one go on.
        let (done, wait) = tokio::sync::oneshot::channel();
        tokio::spawn(async move { done.send(()) });
        wait.await.map_err(|error| Retry::new(error.to_string()))?;
        here.service().refund(here.key(), *amount, *receipt)
    }
}

choreography!(SlowSaga: (A, B), At<A, u32> => At<A, u32>, |ctx, n| {
    let at_b = ctx.comm(A, B, &n).await?;
    let paid = ctx.transact(Slow, &at_b).await?;
    ctx.comm(B, A, &paid).await?;
    ctx.abort(Abort::new("enough", "")).await
});

#[tokio::test]
async fn a_slow_compensation_is_waited_for_and_others_go_on_meanwhile() {
    let bank = Bank::retrying(2);
    let services = Services::new().with(A, Bank::new()).with(B, bank.clone());
    assert_eq!(run_local(SlowSaga, 7, &services).await, Err(Abort::new("enough", "")));
    assert_eq!(bank.calls(), ["charge 7", "refund 7", "refund 7", "refund 7"]);
    assert_eq!(bank.balance(), 0);
}

const STUBBORN: Table<(), u32> = Table::new("stubborn");

/// A local step whose compensation wants to be tried a few times.
struct Stubborn(Arc<Mutex<u32>>, Log);

impl LocalTransaction for Stubborn {
    const NAME: &'static str = "stubborn";
    type Role = A;
    type Input = u32;
    type Output = ();
    fn commit(&self, state: &mut State<'_>, n: &u32) -> Result<(), Abort> {
        STUBBORN.put(state, (), n)
    }
    fn compensate(&self, state: &mut State<'_>, n: &u32, (): &()) -> Result<(), Retry> {
        let there = STUBBORN.take(state, ())?;
        log(&self.1, format!("{there:?}"));
        assert_eq!(there, Some(*n), "the writes of a try that asks for a retry are thrown away");
        let mut left = self.0.lock().unwrap();
        *left = left.checked_sub(1).ok_or(()).or(Ok::<_, Retry>(u32::MAX))?;
        if *left == u32::MAX { Ok(()) } else { Err(Retry::new("once more")) }
    }
}

struct StubbornSaga(Log);

impl Choreography for StubbornSaga {
    const NAME: &'static str = "stubborn";
    type Roles = (A, B);
    type Input = At<A, u32>;
    type Output = At<A, u32>;
    async fn run(&self, ctx: &Context<Self::Roles>, n: At<A, u32>) -> Result<At<A, u32>, Abort> {
        ctx.transact(Stubborn(Arc::new(Mutex::new(2)), self.0.clone()), &n).await?;
        ctx.broadcast(A, &n).await?;
        ctx.abort(Abort::new("enough", "")).await
    }
}

#[tokio::test]
async fn a_local_compensation_is_tried_again_from_the_same_state() {
    let lines = Log::default();
    assert_eq!(run_local(StubbornSaga(lines.clone()), 7, &services()).await, Err(Abort::new("enough", "")));
    assert_eq!(*lines.lock().unwrap(), ["Some(7)", "Some(7)", "Some(7)"]);
}

choreography!(NeedsService: (C, B), At<C, u32> => At<C, u32>, |ctx, n| {
    let at_b = ctx.comm(C, B, &n).await?;
    let paid = ctx.transact(ChargeAtB, &at_b).await?;
    ctx.comm(B, C, &paid).await
});

#[tokio::test]
async fn a_missing_service_is_named() {
    let stopped = run_local(NeedsService, 1, &Services::new()).await.unwrap_err();
    assert_eq!(stopped.code(), "accompanist.stopped");
    insta::assert_snapshot!(stopped.message(), @"role `b` has no service of the type it works with: give it one where the role is played");
}

choreography!(Steady: (A, B), At<A, ()> => At<A, Vec<String>>, |ctx, start| {
    let fork = ctx.fork();
    let key = |here: &Local<A>| here.key().path.to_string();
    let one = fork.locally(A, key);
    let two = ctx.locally(A, key);
    let three = fork.locally(A, key);
    ctx.comm(A, B, &start).await?;
    Ok(ctx.locally(A, |here| [&one, &two, &three].map(|at| here.get(at).clone()).to_vec()))
});

#[tokio::test]
async fn operations_count_within_their_scope() {
    let keys = run_local(Steady, (), &services()).await.unwrap();
    let in_fork = Path::root().child(0);
    assert_eq!(keys, [in_fork.child(0).to_string(), Path::root().child(1).to_string(), in_fork.child(1).to_string()]);
}

choreography!(Double: (C, D), At<D, u32> => At<D, u32>, |ctx, n| {
    let n = ctx.comm(D, C, &n).await?;
    let twice = ctx.locally(C, |here| here.get(&n) * 2);
    ctx.comm(C, D, &twice).await
});
choreography!(Performed: (A, C, D), At<A, u32> => At<A, u32>, |ctx, n| {
    let n = ctx.comm(A, D, &n).await?;
    let once = ctx.perform(&Double, n).await?;
    let twice = ctx.perform(&Double, once).await?;
    ctx.comm(D, A, &twice).await
});

#[tokio::test]
async fn a_choreography_performs_another_one_as_a_part() {
    check(Performed, 5, 20).await;
}

choreography!(Patient: (C, D), At<C, u32> => At<C, (u64, bool, bool)>, |ctx, n| {
    let before = ctx.now(C).await?;
    ctx.sleep(C, Duration::from_hours(48)).await?;
    let after = ctx.now(C).await?;
    let n = ctx.comm(C, D, &n).await?;
    let soon = ctx.comm_within(D, C, &n, Duration::from_hours(1)).await?;
    ctx.sleep(D, Duration::from_hours(2)).await?;
    let late = ctx.comm_within(D, C, &n, Duration::from_hours(1)).await?;
    Ok(ctx.locally(C, |here| {
        let hours = here.get(&after).duration_since(*here.get(&before)).unwrap().as_secs() / 3600;
        (hours, here.get(&soon).is_some(), here.get(&late).is_some())
    }))
});

#[tokio::test]
async fn time_that_nothing_else_happens_in_passes_at_once() {
    check(Patient, 5, (48, true, false)).await;
}

const SUM: Table<(), u32> = Table::new("sum");

/// Refuses the first times, and leaves nothing then.
struct Uphill(Arc<AtomicU32>);
impl LocalTransaction for Uphill {
    const NAME: &'static str = "uphill";
    const KIND: Kind = Kind::Retriable;
    type Role = C;
    type Input = u32;
    type Output = u32;
    fn commit(&self, state: &mut State<'_>, more: &u32) -> Result<u32, Abort> {
        let sum = SUM.update(state, (), |sum| Ok(sum.unwrap_or_default() + more))?;
        if self.0.fetch_add(1, Ordering::Relaxed) < 3 { Err(Abort::new("not-yet", "again")) } else { Ok(sum) }
    }
}
struct Climb(Arc<AtomicU32>);
impl Choreography for Climb {
    const NAME: &'static str = "climb";
    type Roles = (C,);
    type Input = At<C, u32>;
    type Output = At<C, u32>;
    async fn run(&self, ctx: &Context<Self::Roles>, n: At<C, u32>) -> Result<At<C, u32>, Abort> {
        ctx.transact(Uphill(self.0.clone()), &n).await?;
        ctx.transact(Uphill(self.0.clone()), &n).await
    }
}

#[tokio::test]
async fn a_retriable_local_step_is_retried_until_it_commits() {
    let tries = Arc::new(AtomicU32::new(0));
    check(Climb(tries.clone()), 5, 10).await;
    assert_eq!(tries.load(Ordering::Relaxed), 5);
}

/// Asks for the patch that its input names, at both roles.
struct Patched;
impl Choreography for Patched {
    const NAME: &'static str = "patched";
    const PATCHES: &'static [&'static str] = &["known"];
    type Roles = (A, B);
    type Input = At<A, String>;
    type Output = At<A, (bool, bool)>;
    async fn run(&self, ctx: &Context<Self::Roles>, id: At<A, String>) -> Result<At<A, (bool, bool)>, Abort> {
        let id = ctx.broadcast(A, &id).await?;
        let patched = ctx.patched(&id);
        let at_a = ctx.locally(A, |_| patched);
        let at_b = ctx.locally(B, |_| ctx.patched(&id));
        ctx.gather((A, B), A, (&at_a, &at_b)).await
    }
}

#[tokio::test]
async fn a_session_in_one_process_runs_with_all_patches() {
    check(Patched, "known".into(), (true, true)).await;
}

#[tokio::test]
async fn a_patch_that_the_choreography_does_not_name_is_a_mistake() {
    let stopped = run_local(Patched, "no-such".into(), &services()).await.unwrap_err();
    assert_eq!(stopped.code(), "accompanist.stopped");
    insta::assert_snapshot!(stopped.message(), @"at role `a`: patch `no-such` is not among the PATCHES of the choreography: add it there, or correct its name");
}

/// Performs itself, as a part of itself, so many times.
struct Nested;
impl Choreography for Nested {
    const NAME: &'static str = "nested";
    type Roles = (C,);
    type Input = At<C, u32>;
    type Output = At<C, u32>;
    async fn run(&self, ctx: &Context<(C,)>, times: At<C, u32>) -> Result<At<C, u32>, Abort> {
        let left = AtomicU32::new(0);
        let less = ctx.locally(C, |here| {
            left.store(*here.get(&times), Ordering::Relaxed);
            here.get(&times).saturating_sub(1)
        });
        if left.load(Ordering::Relaxed) == 0 {
            return Ok(less);
        }
        let below: BoxFuture<'_, Result<At<C, u32>, Abort>> = Box::pin(ctx.perform(&Nested, less));
        below.await
    }
}

#[test]
fn scopes_are_nested_as_deep_as_a_record_of_them_can_be_kept() {
    let run = |times: u32| {
        let run = move || run_local(Nested, times, &Services::new()).now_or_never().unwrap();
        std::thread::Builder::new().stack_size(2 << 30).spawn(run).unwrap().join().unwrap()
    };
    assert_eq!(run(15_900), Ok(0));
    let stopped = run(17_000).unwrap_err();
    assert!(stopped.message().contains("nests more than 16000 scopes"), "{stopped}");
}

// D sleeps for longer than C waits for its word.
choreography!(Lease: (C, D), At<C, Duration> => At<C, (bool, bool)>, |ctx, time| {
    let time = ctx.broadcast(C, &time).await?;
    let begun = ctx.now(D).await?;
    ctx.sleep(D, time.saturating_add(Duration::from_secs(1))).await?;
    let late = ctx.comm_within(D, C, &begun, time).await?;
    let ended = ctx.now(D).await?;
    let whole = ctx.locally(D, |d| d.get(&ended).duration_since(*d.get(&begun)).unwrap() >= time);
    let whole = ctx.comm(D, C, &whole).await?;
    Ok(ctx.locally(C, |c| (c.get(&late).is_none(), *c.get(&whole))))
});

#[tokio::test]
async fn any_time_passes_at_once_however_long_it_is() {
    let year = 365 * 86_400;
    for time in [0, 61, year, 10 * year, 1_000_000 * year].map(Duration::from_secs) {
        check(Lease, time, (true, true)).await;
    }
    // More than there is.
    for time in [Duration::from_millis(u64::MAX), Duration::MAX] {
        check(Lease, time, (true, false)).await;
    }
}

/// Panics at the call that its input names.
struct Careless;
impl Transaction for Careless {
    const NAME: &'static str = "careless";
    type Role = D;
    type Input = u32;
    type Output = u32;
    async fn commit(&self, _: &Local<D>, n: &u32) -> Result<u32, Abort> {
        assert_ne!(*n, 1, "a bug");
        Ok(*n)
    }
    async fn compensate(&self, _: &Local<D>, n: &u32, _: &u32) -> Result<(), Retry> {
        panic!("a bug with {n}")
    }
}
struct CarelessHere;
impl LocalTransaction for CarelessHere {
    const NAME: &'static str = "careless-here";
    type Role = D;
    type Input = u32;
    type Output = u32;
    fn commit(&self, _: &mut State<'_>, n: &u32) -> Result<u32, Abort> {
        assert_ne!(*n, 3, "a bug");
        Ok(*n)
    }
    fn compensate(&self, _: &mut State<'_>, _: &u32, _: &u32) -> Result<(), Retry> {
        Ok(())
    }
}
choreography!(Panics: (C, D), At<C, u32> => At<C, u32>, |ctx, n| {
    let told = ctx.broadcast(C, &n).await?;
    let there = ctx.comm(C, D, &n).await?;
    ctx.transact(Careless, &there).await?;
    ctx.transact(CarelessHere, &there).await?;
    ctx.locally(D, |_| assert_ne!(told, 4, "a bug"));
    let back = ctx.comm(D, C, &there).await?;
    if told == 2 { return ctx.abort(Abort::new("no", "no")).await; }
    Ok(back)
});

#[tokio::test]
async fn a_panic_is_reported_with_its_role_and_operation() {
    let run = async |n: u32| {
        let ended = std::panic::AssertUnwindSafe(run_local(Panics, n, &services())).catch_unwind().await;
        ended.map_err(|panic| panic.downcast_ref::<String>().cloned().unwrap_or_default())
    };
    let commit = run(1).await.unwrap_err();
    assert!(commit.starts_with("`commit` of step `careless` at 2 panicked at role `d`: ") && commit.contains("a bug"));
    let compensation = run(2).await.unwrap_err();
    assert_eq!(compensation, "`compensate` of step `careless` at 2 panicked at role `d`: a bug with 2");
    let here = run(3).await.unwrap().unwrap_err();
    assert!(here.message().contains("`commit` of step `careless-here` at 3 panicked at role `d`"), "{here}");
    let program = run(4).await.unwrap_err();
    assert!(program.starts_with("the program panicked at role `d`, in or after its operation 4: "), "{program}");
    assert_eq!(run(5).await.unwrap(), Ok(5));
}
