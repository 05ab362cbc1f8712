//! Runs in one process that cannot go on: deadlocks, and programs that await something that is no operation.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use accompanist_core::{
    Abort, At, Choreography, Context, Kind, Local, Located, Retry, Services, Transaction, run_local,
};

use crate::rig::{Rig, choreography, payload, roles};

roles! { C "c" (), D "d" () }

/// Runs a choreography that cannot go on. Returns the message.
async fn check<X: Choreography>(choreography: X, input: <X::Input as Located>::Value, code: &str) -> String
where
    <X::Output as Located>::Value: std::fmt::Debug,
{
    let abort = run_local(choreography, input, &Services::new()).await.unwrap_err();
    assert_eq!(abort.code(), code, "{abort}");
    abort.message().to_owned()
}

choreography!(Unheard: (C, D), At<C, u32> => At<C, u32>, |ctx, n| {
    let there = ctx.comm(C, D, &n).await?;
    let told: At<C, u32> = ctx.signal(C, "go").await?;
    ctx.comm(C, D, &told).await?;
    ctx.comm(D, C, &there).await
});

// The roles take two ways, since one of them looks at what only it knows.
choreography!(TwoWays: (C, D), At<C, u32> => At<C, u32>, |ctx, n| {
    let there = ctx.comm(C, D, &n).await?;
    let leak = AtomicU32::new(0);
    ctx.locally(C, |c| leak.store(*c.get(&n), Ordering::Relaxed));
    if leak.load(Ordering::Relaxed) > 0 { return ctx.comm(D, C, &there).await; }
    Ok(n)
});

#[tokio::test]
async fn a_deadlock_says_what_each_role_waits_for() {
    let message = check(Unheard, 7, Abort::DEADLOCK).await;
    insta::assert_snapshot!(message, @"no role can go on: role `c` waits for signal `go` at 1; role `d` waits for a comm from `c` at 2 (here no signal arrives, and only `comm_within` is a limit)");
    let message = check(TwoWays, 7, Abort::DEADLOCK).await;
    insta::assert_snapshot!(message, @"no role can go on: role `c` waits for a comm from `d` at 2; role `d` has finished its part, and waits for the end of `c` (here no signal arrives, and only `comm_within` is a limit)");
}

/// What a program must not await, by number.
struct Foreign;
impl Choreography for Foreign {
    const NAME: &'static str = "foreign";
    type Roles = (C, D);
    type Input = At<C, u32>;
    type Output = At<C, u32>;
    async fn run(&self, ctx: &Context<Self::Roles>, n: At<C, u32>) -> Result<At<C, u32>, Abort> {
        let what = ctx.broadcast(C, &n).await?;
        let (sender, mut receiver) = tokio::sync::mpsc::channel::<u32>(1);
        match what {
            0 => tokio::time::sleep(Duration::from_hours(1)).await,
            1 => drop(receiver.recv().await),
            2 => tokio::spawn(foreign()).await.unwrap()?,
            3 => return tokio::try_join!(ctx.comm(C, D, &n), foreign()).map(|_| n),
            _ => {}
        }
        drop(sender);
        let back = ctx.comm(C, D, &n).await?;
        ctx.comm(D, C, &back).await
    }
}

/// Waits for ever.
async fn foreign() -> Result<(), Abort> {
    std::future::pending().await
}

#[tokio::test]
async fn an_await_that_is_no_operation_ends_the_run_and_the_operation_before_it_is_named() {
    for what in 0..3 {
        let message = check(Foreign, what, Abort::FOREIGN_AWAIT).await;
        assert!(message.starts_with("the program of role `"), "{message}");
        let place = "awaits something that is no operation, after its operation 0 (a broadcast from `c` to `c`, `d`)";
        assert!(message.contains(place), "{what}: {message}");
        assert!(message.contains("belongs into an `effect`"), "{message}");
    }
    // The receiver goes on from its operation to what is none; the sender was there before it.
    let message = check(Foreign, 3, Abort::FOREIGN_AWAIT).await;
    assert!(message.contains("after its operation 1 (a comm from `c` to `d`)"), "{message}");
    assert_eq!(run_local(Foreign, 4, &Services::new()).await, Ok(4));
}

choreography!(AtOnce: (C, D), At<C, u32> => At<C, u32>, |ctx, n| {
    foreign().await?;
    ctx.comm(C, D, &n).await?;
    Ok(n)
});

#[tokio::test]
async fn an_await_before_all_operations_is_noticed() {
    let message = check(AtOnce, 7, Abort::FOREIGN_AWAIT).await;
    assert!(message.contains("before its first operation"), "{message}");
}

// A foreign await is given up though another role is busy for as long as it likes, and whatever it awaits.
choreography!(Beside: (C, D), At<C, u32> => At<C, u32>, |ctx, n| {
    let here = ctx.comm(C, D, &n).await?;
    ctx.effect(D, "never", async |_| std::future::pending::<()>().await).await?;
    if ctx.session().to_string().is_empty() { return Ok(n); }
    let left = ctx.locally(C, |_| 1u32);
    drop((here, left));
    foreign().await?;
    Ok(n)
});

#[tokio::test]
async fn a_busy_role_hides_no_foreign_await_of_another() {
    let message = check(Beside, 7, Abort::FOREIGN_AWAIT).await;
    assert!(message.starts_with("the program of role `c` awaits"), "{message}");
}

choreography!(Yields: (C,), At<C, u32> => At<C, u32>, |ctx, n| {
    for _ in 0..10 { tokio::task::yield_now().await; }
    Ok(ctx.locally(C, |here| *here.get(&n)))
});

#[tokio::test]
async fn a_program_that_is_woken_at_once_goes_on() {
    assert_eq!(run_local(Yields, 7, &Services::new()).await, Ok(7));
}

// One fork tells another one, and nothing but the program itself wakes it.
choreography!(Within: (C, D), At<C, u32> => At<C, u32>, |ctx, n| {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let (left, right) = (ctx.fork(), ctx.fork());
    let ((), back) = tokio::try_join!(
        async {
            let there = left.comm(C, D, &n).await?;
            left.comm(D, C, &there).await?;
            sender.send(()).map_err(|()| Abort::new("gone", "the other fork has gone"))
        },
        async {
            receiver.await.map_err(|_| Abort::new("gone", "the other fork has gone"))?;
            right.comm(C, D, &n).await?;
            Ok(n.clone())
        },
    )?;
    Ok(back)
});

#[tokio::test]
async fn forks_may_wait_for_each_other() {
    assert_eq!(run_local(Within, 7, &Services::new()).await, Ok(7));
}

choreography!(Selects: (C, D), At<C, u32> => At<C, u32>, |ctx, n| {
    let (left, right) = (ctx.fork(), ctx.fork());
    let there = ctx.comm(C, D, &n).await?;
    tokio::select! {
        back = left.comm(D, C, &there) => back,
        also = right.comm(D, C, &there) => also,
    }
});

choreography!(SelectsAnother: (C, D), At<C, u32> => At<C, u32>, |ctx, n| {
    let there = ctx.comm(C, D, &n).await?;
    let back = tokio::select! {
        biased;
        back = ctx.comm(D, C, &there) => back?,
        () = std::future::ready(()) => n.clone(),
    };
    let there = ctx.comm(C, D, &back).await?;
    ctx.comm(D, C, &there).await
});

#[tokio::test]
async fn select_over_operations_ends_the_run_and_the_dropped_operation_is_named() {
    let message = check(Selects, 7, Abort::DROPPED_OPERATION).await;
    assert!(message.starts_with("the program of role `c` has dropped its operation "), "{message}");
    assert!(message.contains("`try_join!`") && message.contains("`comm_within`"), "{message}");
    let message = check(SelectsAnother, 7, Abort::DROPPED_OPERATION).await;
    let expected =
        "has dropped its operation 1 while that waited (the latest that it has called is 3, a comm from `d` to `c`)";
    assert!(message.contains(expected), "{message}");
}

/// Takes its time, as every service does.
struct Slow;
impl Transaction for Slow {
    const NAME: &'static str = "slow";
    const KIND: Kind = Kind::Compensable;
    type Role = D;
    type Input = u32;
    type Output = u32;
    async fn commit(&self, _: &Local<D>, n: &u32) -> Result<u32, Abort> {
        tokio::time::sleep(Duration::from_millis(1)).await;
        if *n == 13 { Err(Abort::new("unlucky", "not 13")) } else { Ok(*n) }
    }
    async fn compensate(&self, _: &Local<D>, _: &u32, _: &u32) -> Result<(), Retry> {
        tokio::time::sleep(Duration::from_millis(1)).await;
        Ok(())
    }
}

// Everything that may take long: an effect, a step, its compensation in a saga, a join whose other side fails.
choreography!(Patient: (C, D), At<C, u32> => At<C, u32>, |ctx, n| {
    let seen = ctx.effect(C, "task", async |here| {
        let n = *here.get(&n);
        tokio::time::sleep(Duration::from_millis(1)).await;
        tokio::task::spawn_blocking(move || n).await.unwrap()
    }).await?;
    let there = ctx.comm(C, D, &seen).await?;
    let tried = ctx.saga((C, D), async |ctx| {
        let done = ctx.transact(Slow, &there).await?;
        let unlucky = ctx.locally(D, |_| 13);
        tokio::try_join!(ctx.transact(Slow, &unlucky), ctx.comm(D, C, &done)).map(|_| ())
    }).await?;
    assert_eq!(tried.unwrap_err().code(), "unlucky");
    let done = ctx.transact(Slow, &there).await?;
    ctx.comm(D, C, &done).await
});

#[tokio::test]
async fn effects_and_steps_may_await_anything() {
    assert_eq!(run_local(Patient, 7, &Services::new()).await, Ok(7));
}

choreography!(Fails: (C, D), At<C, u32> => At<C, u32>, |ctx, n| {
    let (left, right) = (ctx.fork(), ctx.fork());
    let told = ctx.broadcast(C, &n).await?;
    let refuse = async { if told > 0 { Err(Abort::new("no", "no")) } else { Ok(()) } };
    let wait = async { left.comm(D, C, &left.locally(D, |_| 1)).await };
    let also = async { right.comm(C, D, &n).await };
    tokio::try_join!(wait, also, refuse).map(|_| n)
});

#[tokio::test]
async fn an_error_that_cuts_off_the_others_is_no_mistake() {
    assert_eq!(check(Fails, 7, "no").await, "no");
}

/// What a node would say of its role.
#[test]
fn a_role_instance_that_awaits_no_operation_says_so() {
    let mut rig = Rig::begin(Foreign, 0, Some(payload(&1u32)), accompanist_core::Service::none());
    assert_eq!(rig.part.waits_for(), [], "its program has not begun");
    rig.turn_synced();
    let [(path, what)] = &rig.part.waits_for()[..] else { panic!("{:?}", rig.part.waits_for()) };
    assert_eq!(*path, crate::rig::path(&[0]));
    assert!(what.starts_with("nothing known: the program awaits something that is no operation, after"), "{what}");
    assert!(rig.part.describe().starts_with("awaits something that is no operation"), "{}", rig.part.describe());
}
