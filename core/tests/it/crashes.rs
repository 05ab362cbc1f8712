//! Crashes at every point: that all programs here survive them, and that what is wrong is found.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use accompanist_core::testing::{CrashReport, RunFailure, Scene, check_crashes};
use accompanist_core::{Abort, At, Choreography, Local, Located, Retry, Services, Transaction};

use crate::rig::{Bank, bank_step, choreography, roles};

roles! { Buyer "buyer" (), Seller "seller" Bank, Carrier "carrier" Bank }

bank_step!(Charge "charge" Seller);
bank_step!(Ship "ship" Carrier);

choreography!(Trade: (Buyer, Seller, Carrier), At<Buyer, u32> => At<Buyer, u32>, |ctx, n| {
    let there = ctx.comm(Buyer, Seller, &n).await?;
    let paid = ctx.transact(Charge, &there).await?;
    let there = ctx.comm(Seller, Carrier, &paid).await?;
    let shipped = ctx.transact(Ship, &there).await?;
    ctx.comm(Carrier, Buyer, &shipped).await
});

fn check<C: Choreography>(
    choreography: C,
    input: <C::Input as Located>::Value,
    crashes_max: usize,
    scene: impl Fn() -> Scene<C>,
) -> Result<CrashReport, RunFailure> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(check_crashes(choreography, input, crashes_max, scene))
}

#[test]
fn a_trade_survives_each_pair_of_crashes() {
    for refused in [None, Some(8)] {
        let report = check(Trade, 7, 2, || {
            let (seller, carrier) = (Bank::new(), refused.map_or_else(Bank::new, Bank::refusing));
            let services = Services::new().with(Seller, seller.clone()).with(Carrier, carrier.clone());
            Scene::new(services).judge(move |ended| {
                let expected = if refused.is_none() { (7, 8) } else { (0, 0) };
                assert_eq!((seller.balance(), carrier.balance()), expected);
                assert_eq!(ended.output().is_ok(), refused.is_none());
            })
        });
        let report = report.unwrap_or_else(|failure| panic!("{failure}"));
        println!("{report:?}");
        assert!(report.points > 100 && report.runs > 5_000 && report.aborted == 0, "{report:?}");
    }
}

/// A charge by a service that takes each call for a new one.
struct ChargeAgain;
impl Transaction for ChargeAgain {
    const NAME: &'static str = "charge";
    type Role = Seller;
    type Input = u32;
    type Output = u32;
    async fn commit(&self, here: &Local<Seller>, amount: &u32) -> Result<u32, Abort> {
        let count = u32::try_from(here.service().calls().len()).unwrap();
        let key = accompanist_core::IdempotencyKey { path: here.key().path.child(count), ..here.key().clone() };
        here.service().charge(&key, *amount)
    }
    async fn compensate(&self, _: &Local<Seller>, _: &u32, _: &u32) -> Result<(), Retry> {
        Ok(())
    }
}

choreography!(Careless: (Buyer, Seller), At<Buyer, u32> => At<Buyer, u32>, |ctx, n| {
    let there = ctx.comm(Buyer, Seller, &n).await?;
    let paid = ctx.transact(ChargeAgain, &there).await?;
    ctx.comm(Seller, Buyer, &paid).await
});

#[test]
fn a_service_that_does_not_honour_the_key_is_found() {
    let checked = check(Careless, 7, 1, || {
        let seller = Bank::new();
        let services = Services::new().with(Seller, seller.clone());
        Scene::new(services).judge(move |_| assert_eq!(seller.balance(), 7, "charged once"))
    });
    let failure = checked.unwrap_err().to_string();
    assert!(failure.contains("charged once") && failure.contains("seller       CRASHES"), "{failure}");
    assert!(failure.contains("ACCOMPANIST_CRASHES=disk,1@"), "{failure}");
}

static RUNS: AtomicU32 = AtomicU32::new(0);

// Does something else each time.
choreography!(Moody: (Seller,), At<Seller, u32> => At<Seller, u32>, |ctx, n| {
    ctx.random(Seller).await?;
    if RUNS.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) {
        ctx.transact(Charge, &n).await?;
    }
    ctx.random(Seller).await?;
    Ok(n)
});

#[test]
fn a_program_that_is_not_deterministic_is_found() {
    let failure = check(Moody, 7, 1, || Scene::new(Services::new().with(Seller, Bank::new()))).unwrap_err();
    assert!(failure.what.contains("the program is not deterministic"), "{failure}");
}

// Waits for a signal, which the scene gives or does not.
choreography!(Patient: (Buyer, Seller), At<Buyer, u32> => At<Buyer, u32>, |ctx, n| {
    let more: At<Seller, u32> = ctx.signal(Seller, "more").await?;
    let paid = ctx.transact(Charge, &more).await?;
    ctx.comm(Seller, Buyer, &paid).await?;
    Ok(n)
});

#[test]
fn a_session_that_waits_for_ever_is_found_and_signals_come_in_every_life() {
    let scene = |bank: &Arc<Bank>| Scene::new(Services::new().with(Seller, bank.clone()));
    let failure = check(Patient, 7, 1, || scene(&Bank::new())).unwrap_err();
    assert!(failure.what.contains("nothing moves any more") || failure.what.contains("has not ended"), "{failure}");
    let report = check(Patient, 7, 2, || {
        let bank = Bank::new();
        scene(&bank).signal(Seller, "more", "key", &3u32).judge(move |_| assert_eq!(bank.balance(), 3))
    });
    let report = report.unwrap_or_else(|failure| panic!("{failure}"));
    assert!(report.points > 50, "{report:?}");
    // A deadline that passes at once aborts it, cleanly.
    let report = check(Patient, 7, 1, || {
        let bank = Bank::new();
        let deadline = std::time::Duration::from_secs(1);
        scene(&bank).deadline(deadline).judge(move |ended| assert!(ended.output().is_err() && bank.balance() == 0))
    });
    report.unwrap_or_else(|failure| panic!("{failure}"));
}
