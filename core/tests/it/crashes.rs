//! Crashes at every point: that all programs here survive them, and that what is wrong is found.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use accompanist_core::testing::{CrashReport, RunFailure, TestSetup, check_crashes};
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
    setup: impl Fn() -> TestSetup<C>,
) -> Result<CrashReport, RunFailure> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(check_crashes(choreography, input, crashes_max, setup))
}

#[test]
fn a_trade_survives_each_pair_of_crashes() {
    for refused in [None, Some(8)] {
        let report = check(Trade, 7, 2, || {
            let (seller, carrier) = (Bank::new(), refused.map_or_else(Bank::new, Bank::refusing));
            let services = Services::new().with(Seller, seller.clone()).with(Carrier, carrier.clone());
            TestSetup::new(services).judge(move |ended| {
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
        TestSetup::new(services).judge(move |_| assert_eq!(seller.balance(), 7, "charged once"))
    });
    let failure = checked.unwrap_err().to_string();
    assert!(failure.contains("charged once") && failure.contains("seller       CRASHES"), "{failure}");
    assert!(failure.contains("ACCOMPANIST_CRASHES=Careless/1/") && failure.contains("/disk,seller@7/"), "{failure}");
    assert!(failure.contains("crashes::a_service_that_does_not_honour_the_key_is_found -- --exact"), "{failure}");
}

// Gives another number each time, and all roles agree on it.
static NUMBERS: AtomicU32 = AtomicU32::new(0);
choreography!(Counts: (Buyer, Seller), At<Buyer, u32> => At<Buyer, u32>, |ctx, n| {
    ctx.comm(Buyer, Seller, &n).await?;
    Ok(ctx.locally(Buyer, |_| NUMBERS.fetch_add(1, Ordering::Relaxed)))
});

choreography!(Sound: (Buyer, Seller), At<Buyer, u32> => At<Buyer, u32>, |ctx, n| {
    let there = ctx.comm(Buyer, Seller, &n).await?;
    let paid = ctx.transact(Charge, &there).await?;
    ctx.comm(Seller, Buyer, &paid).await
});

/// The variable with what [`as_a_child`] is to check.
const CHILD: &str = "ACCOMPANIST_CHILD";

/// A test that fails, in a process of its own: `rerun` says how it is run again.
#[test]
#[ignore = "run by the tests below, with what it is to do in the environment"]
fn as_a_child() {
    let charged = |times: u32| {
        move || {
            let seller = Bank::new();
            let services = Services::new().with(Seller, seller.clone());
            TestSetup::new(services).judge(move |_| assert_eq!(seller.balance(), 7 * times, "charged {times} times"))
        }
    };
    let ended = match std::env::var(CHILD).as_deref() {
        Ok("compared") => check(Counts, 3, 1, || TestSetup::new(Services::new())),
        Ok("judged") => check(Careless, 7, 1, charged(1)),
        // As above, after it was mended.
        Ok("mended") => check(Careless, 7, 1, || TestSetup::new(Services::new().with(Seller, Bank::new()))),
        // After a change of the input.
        Ok("changed") => check(Careless, 8, 1, || TestSetup::new(Services::new().with(Seller, Bank::new()))),
        Ok("second") => {
            let sound = check(Sound, 7, 1, || TestSetup::new(Services::new().with(Seller, Bank::new()))).unwrap();
            let first = check(Careless, 7, 1, || TestSetup::new(Services::new().with(Seller, Bank::new()))).unwrap();
            assert!(sound.runs > 20 && first.runs > 20, "the line concerns another one");
            check(Careless, 7, 1, charged(1))
        }
        Ok("late") => check_ledger(true, false, true, true),
        other => panic!("{other:?}"),
    };
    match ended {
        Ok(report) => println!("ENDED {} {}", report.points, report.runs),
        Err(failure) => {
            let late: Vec<_> = failure.timeline.iter().filter(|line| line.contains("arrives")).collect();
            let RunFailure { what, again, command, .. } = &failure;
            println!("AGAIN {again}\nCOMMAND {command}\nENDED {what}\nLATE {late:?}");
        }
    }
}

/// What a child says, by its first word.
fn child(case: &str, again: Option<&str>) -> impl Fn(&str) -> String + use<> {
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    command.args(["crashes::as_a_child", "--exact", "--ignored", "--nocapture"]).env(CHILD, case);
    command.env("CARGO_PKG_NAME", "the-crate").env_remove("ACCOMPANIST_CRASHES").env("RUST_BACKTRACE", "0");
    command.envs(again.map(|again| ("ACCOMPANIST_CRASHES", again)));
    let said = command.output().unwrap();
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    move |word| {
        let line = said.lines().find_map(|line| line.strip_prefix(word)).map(|rest| rest.trim().to_owned());
        line.unwrap_or_else(|| panic!("no {word} in {said}"))
    }
}

#[test]
fn a_printed_line_fails_in_the_same_way_when_it_is_run_again() {
    for case in ["compared", "judged", "second"] {
        let found = child(case, None);
        let again = child(case, Some(&found("AGAIN")));
        assert_eq!([again("ENDED"), again("AGAIN")], [found("ENDED"), found("AGAIN")], "{case}");
        assert_eq!(found("COMMAND"), "cargo test -p the-crate crashes::as_a_child -- --exact");
    }
    assert!(child("compared", None)("ENDED").contains("the program is not deterministic"));
}

#[test]
fn the_printed_line_of_a_fixed_failure_passes_with_all_other_runs() {
    let line = child("judged", None)("AGAIN");
    let report = child("mended", Some(&line))("ENDED");
    assert_eq!(report, child("mended", None)("ENDED"));
    assert!(report.split(' ').next().unwrap().parse::<usize>().unwrap() > 20, "{report}");
}

#[test]
fn a_printed_line_that_no_longer_fits_is_reported() {
    let line = child("judged", None)("AGAIN");
    assert!(line.contains("/disk,seller@7/"), "{line}");
    let stale = [
        line.replace("seller@7", "seller@99999"),
        line.replace("seller@7", "carrier@7"),
        line.replace("seller@7", "seller@8"),
        line.replace("seller@7", "seller@7,seller@9999"),
        line.replace("/disk", "/tape"),
    ];
    for stale in &stale {
        let said = child("mended", Some(stale))("ENDED");
        assert!(said.contains("no longer fits `Careless`"), "{stale}: {said}");
    }
    let said = child("changed", Some(&line))("ENDED");
    assert!(said.contains("no longer fits `Careless`: without a crash"), "{said}");
    for stale in ["disk,1@17", "", "Careless/1/xyz/disk/0"] {
        let said = child("mended", Some(stale))("ENDED");
        assert!(said.contains("is not what a failure of this release gave"), "{stale}: {said}");
    }
    // Of another choreography: nothing comes of it.
    let report = child("mended", Some(&line.replace("Careless", "Another")))("ENDED");
    assert_eq!(report, child("mended", None)("ENDED"));
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
    let failure = check(Moody, 7, 1, || TestSetup::new(Services::new().with(Seller, Bank::new()))).unwrap_err();
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
    let setup = |bank: &Arc<Bank>| TestSetup::new(Services::new().with(Seller, bank.clone()));
    let failure = check(Patient, 7, 1, || setup(&Bank::new())).unwrap_err();
    let expected = "nothing moves any more: role `buyer` waits for a comm from `seller` at 2; \
                    role `seller` waits for signal `more` at 0";
    assert_eq!(failure.what, expected);
    let text = failure.to_string();
    assert!(text.lines().count() < 60 && text.len() < 5_000, "{text}");
    let report = check(Patient, 7, 2, || {
        let bank = Bank::new();
        setup(&bank).signal(Seller, "more", "key", &3u32).judge(move |_| assert_eq!(bank.balance(), 3))
    });
    let report = report.unwrap_or_else(|failure| panic!("{failure}"));
    assert!(report.points > 50, "{report:?}");
    // A deadline that passes at once aborts it, cleanly.
    let report = check(Patient, 7, 1, || {
        let bank = Bank::new();
        let deadline = std::time::Duration::from_secs(1);
        setup(&bank).deadline(deadline).judge(move |ended| assert!(ended.output().is_err() && bank.balance() == 0))
    });
    report.unwrap_or_else(|failure| panic!("{failure}"));
}

// The roles take two ways, since one of them looks at what only it knows.
choreography!(TwoWays: (Buyer, Seller), At<Buyer, u32> => At<Buyer, u32>, |ctx, n| {
    let there = ctx.comm(Buyer, Seller, &n).await?;
    let leak = AtomicU32::new(0);
    ctx.locally(Buyer, |here| leak.store(*here.get(&n), Ordering::Relaxed));
    if leak.load(Ordering::Relaxed) > 0 { return ctx.comm(Seller, Buyer, &there).await; }
    Ok(n)
});

// Awaits what is no operation, at one role.
choreography!(Foreign: (Buyer, Seller), At<Buyer, u32> => At<Buyer, u32>, |ctx, n| {
    let told = ctx.broadcast(Buyer, &n).await?;
    let is_seller = AtomicU32::new(0);
    ctx.locally(Seller, |_| is_seller.store(1, Ordering::Relaxed));
    if is_seller.load(Ordering::Relaxed) > 0 { std::future::pending::<()>().await; }
    ctx.comm(Seller, Buyer, &ctx.locally(Seller, |_| told)).await
});

#[test]
fn a_stalled_run_reports_what_each_role_waits_for() {
    let failed = |failure: RunFailure, expected: &[&str]| {
        let text = failure.to_string();
        assert!(text.lines().count() < 60 && text.len() < 5_000, "{} lines: {text}", text.lines().count());
        for expected in expected {
            assert!(failure.what.contains(expected), "{} does not say {expected}", failure.what);
        }
    };
    let waits = [
        "role `buyer` is stopped: `seller` on node `seller` has no message at 2 any more, where this role waits for a comm \
         from `seller`",
        "the program takes two ways",
    ];
    failed(check(TwoWays, 7, 1, || TestSetup::new(Services::new().with(Seller, Bank::new()))).unwrap_err(), &waits);
    let waits = [
        "role `seller` awaits something that is no operation, after its operation 1 (`locally`)",
        "role `buyer` waits for a comm from `seller` at",
    ];
    failed(check(Foreign, 7, 1, || TestSetup::new(Services::new().with(Seller, Bank::new()))).unwrap_err(), &waits);
}

// Waits for long, and then for longer.
choreography!(Long: (Buyer, Seller), At<Buyer, std::time::Duration> => At<Buyer, u32>, |ctx, time| {
    let time = ctx.broadcast(Buyer, &time).await?;
    ctx.sleep(Seller, time).await?;
    let nothing = ctx.locally(Seller, |_| 7u32);
    let there = ctx.comm_within(Seller, Buyer, &nothing, time / 2).await?;
    Ok(ctx.locally(Buyer, |here| here.get(&there).unwrap_or(0)))
});

#[test]
fn any_time_passes_at_once_however_long_it_is() {
    let year = 365 * 86_400;
    for time in [std::time::Duration::from_secs(1_000 * year), std::time::Duration::MAX] {
        let report = check(Long, time, 1, || TestSetup::new(Services::new().with(Seller, Bank::new())));
        let report = report.unwrap_or_else(|failure| panic!("{time:?}: {failure}"));
        assert!(report.points > 20, "{report:?}");
    }
}

/// Panics where its input says so.
struct Careful;
impl Transaction for Careful {
    const NAME: &'static str = "careful";
    type Role = Seller;
    type Input = u32;
    type Output = u32;
    async fn commit(&self, _: &Local<Seller>, n: &u32) -> Result<u32, Abort> {
        assert_ne!(*n, 1, "the user's bug");
        Ok(*n)
    }
    async fn compensate(&self, _: &Local<Seller>, _: &u32, _: &u32) -> Result<(), Retry> {
        panic!("the user's bug")
    }
}
choreography!(Panics: (Buyer, Seller), At<Buyer, u32> => At<Buyer, u32>, |ctx, n| {
    let told = ctx.broadcast(Buyer, &n).await?;
    let there = ctx.comm(Buyer, Seller, &n).await?;
    let there = ctx.transact(Careful, &there).await?;
    ctx.locally(Seller, |_| assert_ne!(told, 3, "the user's bug"));
    let back = ctx.comm(Seller, Buyer, &there).await?;
    if told == 2 { return ctx.abort(Abort::new("no", "no")).await; }
    Ok(back)
});

#[test]
fn a_panic_is_reported_with_its_text_role_and_operation() {
    let expected = [
        "`commit` of step `careful` at 2 panicked at role `seller`: ",
        "`compensate` of step `careful` at 2 panicked at role `seller`: ",
        "the program panicked at role `seller`, in or after its operation 3: ",
    ];
    for (input, expected) in (1..).zip(expected) {
        let failure =
            check(Panics, input, 1, || TestSetup::new(Services::new().with(Seller, Bank::new()))).unwrap_err();
        assert!(failure.what.contains(expected) && failure.what.contains("the user's bug"), "{}", failure.what);
    }
}

// Says another value each time, which a receiver notices if it has the first one.
static SAYINGS: AtomicU32 = AtomicU32::new(0);
choreography!(Forgetful: (Buyer, Seller), At<Buyer, u32> => At<Buyer, u32>, |ctx, n| {
    let said = ctx.locally(Buyer, |_| SAYINGS.fetch_add(1, Ordering::Relaxed));
    let there = ctx.comm(Buyer, Seller, &said).await?;
    ctx.comm(Seller, Buyer, &there).await?;
    Ok(n)
});

#[test]
fn two_values_under_one_path_are_reported_with_roles_and_usual_causes() {
    let failure = check(Forgetful, 7, 1, || TestSetup::new(Services::new())).unwrap_err();
    for expected in
        ["`buyer`", "`seller`", "at 1", "not deterministic", "clock", "HashMap", "a program that was changed"]
    {
        assert!(failure.what.contains(expected), "{} does not say {expected}", failure.what);
    }
}

/// A service with a key for each entry, which does some of its three duties.
#[derive(Default)]
struct Ledger {
    honours_keys: bool,
    refuses_what_comes_late: bool,
    entries: Mutex<BTreeMap<String, i64>>,
    undone: Mutex<BTreeSet<String>>,
}
roles! { Clerk "clerk" Ledger }

impl Ledger {
    fn balance(&self) -> i64 {
        self.entries.lock().unwrap().values().sum()
    }
}

struct Enter;
impl Transaction for Enter {
    const NAME: &'static str = "enter";
    type Role = Clerk;
    type Input = u32;
    type Output = u32;
    async fn commit(&self, here: &Local<Clerk>, amount: &u32) -> Result<u32, Abort> {
        let (ledger, key) = (here.service(), here.key().to_string());
        if ledger.refuses_what_comes_late && ledger.undone.lock().unwrap().contains(&key) {
            return Err(Abort::new("too-late", "it was compensated"));
        }
        let mut entries = ledger.entries.lock().unwrap();
        let entry = entries.entry(key).or_default();
        *entry = if ledger.honours_keys { i64::from(*amount) } else { *entry + i64::from(*amount) };
        Ok(*amount)
    }
    async fn compensate(&self, here: &Local<Clerk>, _: &u32, _: &u32) -> Result<(), Retry> {
        let (ledger, key) = (here.service(), here.key().to_string());
        ledger.entries.lock().unwrap().remove(&key);
        ledger.undone.lock().unwrap().insert(key);
        Ok(())
    }
}

// Refused by the carrier, if that does not want the amount.
choreography!(Entered: (Buyer, Clerk, Carrier), At<Buyer, u32> => At<Buyer, u32>, |ctx, n| {
    let there = ctx.comm(Buyer, Clerk, &n).await?;
    let entered = ctx.transact(Enter, &there).await?;
    let there = ctx.comm(Clerk, Carrier, &entered).await?;
    let shipped = ctx.transact(Ship, &there).await?;
    ctx.comm(Carrier, Buyer, &shipped).await
});

#[expect(clippy::fn_params_excessive_bools, reason = "one for each thing that is tried")]
fn check_ledger(
    honours_keys: bool,
    refuses_what_comes_late: bool,
    is_aborted: bool,
    late: bool,
) -> Result<CrashReport, RunFailure> {
    check(Entered, 7, 1, || {
        let ledger = Arc::new(Ledger { honours_keys, refuses_what_comes_late, ..Ledger::default() });
        let carrier = if is_aborted { Bank::refusing(7) } else { Bank::new() };
        let setup = TestSetup::new(Services::new().with(Clerk, ledger.clone()).with(Carrier, carrier));
        let setup = setup.judge(move |ended| {
            assert_eq!(ended.output().is_err(), is_aborted);
            assert_eq!(ledger.balance(), if is_aborted { 0 } else { 7 }, "what is in the ledger");
        });
        if late { setup.late_requests() } else { setup }
    })
}

#[test]
fn a_commit_that_arrives_after_its_compensation_is_found_with_late_requests_alone() {
    let unfit = check_ledger(true, false, true, true).unwrap_err().to_string();
    assert!(
        unfit.contains("`commit` of step `enter` at 1 by role `clerk` arrives")
            && unfit.contains("what is in the ledger"),
        "{unfit}"
    );
    // No crash of a role shows it, and no session that finishes.
    check_ledger(true, false, true, false).unwrap_or_else(|failure| panic!("{failure}"));
    check_ledger(true, false, false, true).unwrap_or_else(|failure| panic!("{failure}"));
    for is_aborted in [true, false] {
        let [plain, late] = [false, true]
            .map(|late| check_ledger(true, true, is_aborted, late).unwrap_or_else(|failure| panic!("{failure}")));
        assert_eq!(plain.points, late.points);
        // Each of two or three requests at each later event, twice over.
        assert!(late.runs > plain.runs * 2, "{plain:?} {late:?}");
    }
}

#[test]
fn a_request_that_arrives_twice_or_after_its_caller_s_death_is_found_and_run_again() {
    let failure = check_ledger(false, true, false, true).unwrap_err();
    assert!(failure.what.contains("what is in the ledger"), "{failure}");
    let found = child("late", None);
    let line = found("AGAIN");
    assert!(line.contains("/disk,request-0@") && found("LATE").contains("by role `clerk` arrives once more"), "{line}");
    let again = child("late", Some(&line));
    assert_eq!([again("ENDED"), again("AGAIN")], [found("ENDED"), line.clone()]);
    // The turn whose request lingers, in another run that fails.
    let (before, after) = line.split_once("request-0@").unwrap();
    let after = &after[after.find('/').unwrap()..];
    let lingering = |turn| child("late", Some(&format!("{before}linger@{turn}{after}")));
    let fails = |turn: &usize| lingering(*turn)("ENDED").contains("what is in the ledger");
    let turn = (0..60).find(fails).expect("the request of no turn can linger");
    let again = lingering(turn);
    assert!(again("AGAIN").contains(&format!("linger@{turn}")), "{}", again("AGAIN"));
    assert!(again("LATE").contains("by role `clerk` arrives at last"), "{}", again("LATE"));
}
