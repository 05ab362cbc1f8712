//! Steps made of functions: they are what the traits' steps are, in the journal and after a crash.

use std::marker::PhantomData;
use std::sync::Arc;

use accompanist_core::frame::{Body, Outcome};
use accompanist_core::record::Record;
use accompanist_core::testing::{TestSetup, check_crashes};
use accompanist_core::{
    Abort, At, Choreography, CommitOutcome, Context, FunctionStep, Kind, Local, LocalFunctionStep, LocalTransaction,
    Retry, Role, Service, Services, State, Step, Table, local_pivot, local_retriable, local_step, pivot, retriable,
    run_local, step,
};

use crate::rig::{Bank, Rig, bank_step, choreography, said};

#[derive(Role)]
struct Buyer;
#[derive(Role)]
#[role(service = Bank)]
struct Seller;

const BUYER: u8 = 0;
const SELLER: u8 = 1;

async fn charge(seller: &Local<Seller>, amount: &u32) -> Result<u32, Abort> {
    seller.service().charge(seller.key(), *amount)
}

async fn refund(seller: &Local<Seller>, amount: &u32, receipt: &u32) -> Result<(), Retry> {
    seller.service().refund(seller.key(), *amount, *receipt)
}

async fn never_charged(_: &Local<Seller>, _: &u32) -> Result<CommitOutcome<u32>, Retry> {
    Ok(CommitOutcome::NotCommitted)
}

bank_step!(Charge "charge" Seller);

/// The same program with any step, under one name.
struct Trade<M, S: Step<M>>(fn() -> S, PhantomData<fn(M)>);
impl<M: 'static, S: Step<M, Role = Seller, Input = u32, Output = u32>> Choreography for Trade<M, S> {
    const NAME: &'static str = "trade";
    type Roles = (Buyer, Seller);
    type Input = At<Buyer, u32>;
    type Output = At<Buyer, u32>;
    async fn run(&self, ctx: &Context<Self::Roles>, amount: At<Buyer, u32>) -> Result<At<Buyer, u32>, Abort> {
        let amount = ctx.comm(Buyer, Seller, &amount).await?;
        let paid = ctx.transact((self.0)(), &amount).await?;
        let told = ctx.comm(Seller, Buyer, &paid).await?;
        let enough = ctx.locally(Buyer, |buyer| *buyer.get(&told) < 100);
        if ctx.broadcast(Buyer, &enough).await? {
            Ok(told)
        } else {
            ctx.abort(Abort::new("too-dear", "the buyer pays less than 100")).await
        }
    }
}

fn trade<M: 'static, S>(step: fn() -> S) -> Trade<M, S>
where
    S: Step<M, Role = Seller, Input = u32, Output = u32>,
{
    Trade(step, PhantomData)
}

fn charge_by_functions() -> FunctionStep<Seller, u32, u32> {
    step(Seller, "charge", charge, refund)
}

fn charge_by_closures() -> FunctionStep<Seller, u32, u32> {
    let more = Box::new(1); // Captured by a closure that owns it.
    step(
        Seller,
        "charge",
        move |seller: &Local<Seller>, amount: &u32| {
            let (charged, expected) = (seller.service().charge(seller.key(), *amount), *amount + *more);
            async move {
                tokio::task::yield_now().await;
                assert_eq!(charged, Ok(expected));
                charged
            }
        },
        async |seller: &Local<Seller>, amount: &u32, receipt: &u32| {
            tokio::task::yield_now().await;
            refund(seller, amount, receipt).await
        },
    )
}

fn service(bank: &Arc<Bank>) -> Service {
    Service::of::<Seller>(bank.clone())
}

#[tokio::test]
async fn a_step_of_functions_survives_each_crash_and_is_compensated() {
    for (amount, balance) in [(7, 7), (100, 0)] {
        let report = check_crashes(trade(charge_by_functions), amount, 1, || {
            let seller = Bank::new();
            let setup = TestSetup::new(Services::new().with(Seller, seller.clone()));
            setup.judge(move |_| assert_eq!(seller.balance(), balance))
        });
        let report = report.await.unwrap_or_else(|failure| panic!("{failure}"));
        assert!(report.points > 30 && report.runs > report.points, "{report:?}");
    }
}

/// The seller's instance after it has committed its step.
fn committed<C: Choreography>(choreography: C, bank: &Arc<Bank>) -> Rig {
    let mut rig = Rig::begin(choreography, SELLER, None, service(bank));
    rig.hear_message(BUYER, &[0], &7u32, 1);
    rig.turn_synced();
    assert_eq!(bank.calls(), ["charge 7"]);
    rig
}

#[test]
fn the_journal_does_not_tell_functions_from_a_trait() {
    let (one, other) = (Bank::new(), Bank::new());
    let (rig, of_a_trait) = (committed(trade(charge_by_functions), &one), committed(trade(|| Charge), &other));
    let records: Vec<Record> = rig.disk.records();
    assert_eq!(records, of_a_trait.disk.records());
    assert!(records.len() > 2, "{records:?}");

    // What functions have recorded is replayed by the trait's step, and compensated by it.
    let mut next_life = Rig::restore(trade(|| Charge), SELLER, rig.disk, service(&one));
    next_life.hear(BUYER, Body::Abort(Abort::new("enough", "as the test wants")), 2);
    next_life.turn_synced();
    assert_eq!(one.calls(), ["charge 7", "refund 7"]);
}

#[test]
fn the_name_of_a_step_of_functions_is_checked_on_replay() {
    let bank = Bank::new();
    let rig = committed(trade(charge_by_functions), &bank);
    let mut next_life = Rig::restore(trade(|| step(Seller, "pay", charge, refund)), SELLER, rig.disk, service(&bank));
    let stop = next_life.turn().stopped.expect("stopped by a step of another name").to_string();
    assert!(stop.contains("charge") && stop.contains("pay"), "{stop}");
}

#[tokio::test]
async fn closures_of_the_form_are_steps() {
    let bank = Bank::new();
    let services = Services::new().with(Seller, bank.clone());
    assert_eq!(run_local(trade(charge_by_closures), 7, &services).await, Ok(8));
    assert_eq!(run_local(trade(charge_by_closures), 100, &services).await.unwrap_err().code(), "too-dear");
    assert_eq!((bank.calls().len(), bank.balance()), (3, 7));
}

choreography!(Crossing: (Buyer, Seller), At<Buyer, u32> => At<Buyer, u32>, |ctx, amount| {
    let amount = ctx.comm(Buyer, Seller, &amount).await?;
    let paid = ctx.transact(pivot(Seller, "cross", charge).outcome(never_charged), &amount).await?;
    ctx.comm(Seller, Buyer, &paid).await
});

#[test]
fn a_pivot_of_functions_in_doubt_is_asked_for_its_outcome_and_not_run_again() {
    let bank = Bank::new();
    let mut rig = Rig::begin(Crossing, SELLER, None, service(&bank));
    rig.hear_message(BUYER, &[0], &7u32, 1);
    let writes = rig.turn().writes;
    rig.sync(writes);
    drop(rig.turn()); // It commits, and the record of that is lost.

    let abort = Abort::new("enough", "as the test wants");
    let mut next_life = Rig::restore(Crossing, SELLER, rig.disk, service(&bank));
    next_life.hear(BUYER, Body::Abort(abort.clone()), 2);
    let effects = next_life.turn_synced();
    assert_eq!(said(&effects), [(BUYER, Body::Done(Outcome::Compensated(abort)))]);
    assert_eq!(bank.calls(), ["charge 7"]);
}

#[test]
fn kinds_and_names_of_function_steps_are_shown() {
    let note = |_: &mut State<'_>, _: &u32| Ok::<u32, Abort>(0);
    let shown = [
        format!("{:?}", step(Seller, "charge", charge, refund)),
        format!("{:?}", pivot(Seller, "charge", charge).clone()),
        format!("{:?}", retriable(Seller, "charge", charge)),
        format!("{:?}", local_step(Seller, "note", note, |_, _, _| Ok(()))),
        format!("{:?}", local_pivot(Seller, "note", note).clone()),
        format!("{:?}", local_retriable(Seller, "note", note)),
    ];
    for (shown, kind) in shown.iter().zip([Kind::Compensable, Kind::Pivot, Kind::Retriable].into_iter().cycle()) {
        assert!(shown.contains(&format!("at seller, {kind:?}")), "{shown}");
    }
    assert!(shown[..3].iter().all(|shown| shown.contains("charge")), "{shown:?}");
}

const SHELF: Table<String, u32> = Table::new("shelf");

struct Take;
impl LocalTransaction for Take {
    const NAME: &'static str = "take";
    type Role = Seller;
    type Input = u32;
    type Output = u32;
    fn commit(&self, state: &mut State<'_>, books: &u32) -> Result<u32, Abort> {
        SHELF.update(state, "books", |left| Ok(left.unwrap_or(10) - books))
    }
    fn compensate(&self, state: &mut State<'_>, books: &u32, _left: &u32) -> Result<(), Retry> {
        SHELF.update(state, "books", |left| Ok(left.unwrap_or_default() + books))?;
        Ok(())
    }
}

/// A sale on the built-in state with any step, which the buyer ends as it likes.
struct Sale<M, S: Step<M>>(fn() -> S, PhantomData<fn(M)>);
impl<M: 'static, S: Step<M, Role = Seller, Input = u32, Output = u32>> Choreography for Sale<M, S> {
    const NAME: &'static str = "sale";
    type Roles = (Buyer, Seller);
    type Input = At<Buyer, u32>;
    type Output = At<Buyer, u32>;
    async fn run(&self, ctx: &Context<Self::Roles>, books: At<Buyer, u32>) -> Result<At<Buyer, u32>, Abort> {
        let asked = ctx.comm(Buyer, Seller, &books).await?;
        let left = ctx.transact((self.0)(), &asked).await?;
        let told = ctx.comm(Seller, Buyer, &left).await?;
        let enough = ctx.locally(Buyer, |buyer| *buyer.get(&told) > 5);
        if ctx.broadcast(Buyer, &enough).await? {
            Ok(told)
        } else {
            ctx.abort(Abort::new("too-many", "six stay on the shelf")).await
        }
    }
}

fn take_by_closures() -> LocalFunctionStep<Seller, u32, u32> {
    let initially = 10; // Captured.
    local_step(
        Seller,
        "take",
        move |shelf, books| SHELF.update(shelf, "books", |left| Ok(left.unwrap_or(initially) - books)),
        |shelf, books, _left| {
            SHELF.update(shelf, "books", |left| Ok(left.unwrap_or_default() + books))?;
            Ok(())
        },
    )
}

#[tokio::test]
async fn a_step_of_functions_on_the_built_in_state_is_committed_once_and_compensated_once() {
    for (books, left) in [(3, 7), (6, 10)] {
        let report = check_crashes(Sale(take_by_closures, PhantomData), books, 1, || {
            TestSetup::new(Services::new().with(Seller, Bank::new())).judge(move |ended| {
                assert_eq!(ended.read_state(Seller, |state| SHELF.get(state, "books")), Ok(Some(left)));
            })
        });
        let report = report.await.unwrap_or_else(|failure| panic!("{failure}"));
        assert!(report.points > 30 && report.runs > report.points, "{report:?}");
    }
}

#[test]
fn the_journal_does_not_tell_local_functions_from_a_local_trait() {
    let mut rigs = [
        Rig::begin(Sale(take_by_closures, PhantomData), SELLER, None, service(&Bank::new())),
        Rig::begin(Sale(|| Take, PhantomData), SELLER, None, service(&Bank::new())),
    ];
    let records = rigs.each_mut().map(|rig| {
        rig.hear_message(BUYER, &[0], &3u32, 1);
        rig.turn_synced();
        rig.disk.records()
    });
    assert_eq!(records[0], records[1]);
    assert!(records[0].len() > 1, "{records:?}");
}
