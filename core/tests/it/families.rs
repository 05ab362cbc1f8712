//! Role families: a key-value store that is generic over its backups, a sort over any number of workers, a broadcast
//! to all members, and that each survives crashes at every point.

use std::collections::BTreeSet;
use std::marker::PhantomData;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};

use accompanist_core::testing::{TestSetup, check_crashes, lint};
use accompanist_core::{
    Abort, At, Choreography, Compensation, Context, Each, FamilyMember, IdempotencyKey, Known, Local, LocalTransaction,
    MEMBERS_MAX, Many, Retry, Role, Services, State, Table, Transaction, run_local,
};
use serde::{Deserialize, Serialize};

use crate::rig::{choreography, roles};

roles! { Client "client" (), Primary "primary" (), Backup "backup" (), Worker "worker" (), Store "store" Ledger }

// A key-value store that is generic over its backups.

/// What a replica has.
const ROWS: Table<String, u32> = Table::new("rows");

#[derive(Debug, Clone, Serialize, Deserialize)]
enum Request {
    Put(String, u32),
    Get(String),
}

/// Writes a row at one replica, the primary or a backup. Returns what was there.
struct Put<R>(PhantomData<R>);

impl<R: Role> LocalTransaction for Put<R> {
    const NAME: &'static str = "put";
    type Role = R;
    type Input = (String, u32);
    type Output = Option<u32>;
    fn commit(&self, rows: &mut State<'_>, (key, value): &(String, u32)) -> Result<Option<u32>, Abort> {
        let old = ROWS.get(rows, key.as_str())?;
        ROWS.put(rows, key.as_str(), value)?;
        Ok(old)
    }
    fn compensate(&self, rows: &mut State<'_>, (key, _): &(String, u32), old: &Option<u32>) -> Result<(), Retry> {
        match old {
            Some(old) => ROWS.put(rows, key.as_str(), old)?,
            None => _ = ROWS.remove(rows, key.as_str())?,
        }
        Ok(())
    }
}

/// A backup that takes only so much.
struct Check;

impl LocalTransaction for Check {
    const NAME: &'static str = "check";
    type Role = Backup;
    type Input = (usize, u32);
    type Output = ();
    fn commit(&self, _: &mut State<'_>, (number, value): &(usize, u32)) -> Result<(), Abort> {
        if *number == 1 && *value > 100 { Err(Abort::new("too-large", "backup 1 refuses it")) } else { Ok(()) }
    }
    fn compensate(&self, _: &mut State<'_>, _: &(usize, u32), (): &()) -> Result<(), Retry> {
        Ok(())
    }
}

type Replicas = (Client, Primary, Many<Backup>);

choreography!(Replicate: Replicas, At<Client, Request> => At<Client, Option<u32>>, |ctx, request| {
    let request = ctx.comm(Client, Primary, &request).await?;
    let put = ctx.locally(Primary, |here| if let Request::Put(key, value) = here.get(&request) {
        Some((key.clone(), *value))
    } else {
        None
    });
    let found = match ctx.broadcast(Primary, &put).await? {
        Some(row) => {
            let old = ctx.transact(Put::<Primary>(PhantomData), &ctx.locally(Primary, |_| row.clone())).await?;
            let rows = ctx.each(Backup, |_, _| row.clone());
            ctx.transact_each(Put::<Backup>(PhantomData), &rows).await?;
            let sizes = ctx.each(Backup, |_, member| (member.number(), row.1));
            ctx.transact_each(Check, &sizes).await?;
            old
        }
        None => ctx.transact(Get, &ctx.locally(Primary, |here| match here.get(&request) {
            Request::Put(key, _) | Request::Get(key) => key.clone(),
        })).await?,
    };
    ctx.comm(Primary, Client, &found).await
});

struct Get;

impl LocalTransaction for Get {
    const NAME: &'static str = "get";
    type Role = Primary;
    type Input = String;
    type Output = Option<u32>;
    fn commit(&self, rows: &mut State<'_>, key: &String) -> Result<Option<u32>, Abort> {
        ROWS.get(rows, key.as_str())
    }
    fn compensate(&self, _: &mut State<'_>, _: &String, _: &Option<u32>) -> Result<(), Retry> {
        Ok(())
    }
}

fn replicas(backups: usize) -> Services {
    Services::new().members(Backup, backups)
}

#[tokio::test]
async fn a_key_value_store_runs_with_any_number_of_backups() {
    for backups in [0, 1, 2, 5, MEMBERS_MAX] {
        assert_eq!(run_local(Replicate, Request::Put("a".into(), 7), &replicas(backups)).await, Ok(None));
        assert_eq!(run_local(Replicate, Request::Get("a".into()), &replicas(backups)).await, Ok(None));
    }
    let refused = run_local(Replicate, Request::Put("a".into(), 101), &replicas(2)).await;
    assert_eq!(refused.unwrap_err().code(), "too-large");
    assert_eq!(run_local(Replicate, Request::Put("a".into(), 101), &replicas(1)).await, Ok(None));
}

#[tokio::test]
async fn all_backups_have_a_row_or_none_has_it_whenever_one_of_them_crashes() {
    for (value, crashes, has) in [(7, 1, Some(7)), (101, 1, None)] {
        let setup = || {
            TestSetup::new(replicas(2)).judge(move |ended| {
                assert_eq!(ended.output().is_ok(), has.is_some());
                let read = |rows: &State<'_>| ROWS.get(rows, "a").unwrap();
                assert_eq!(ended.read_state(Primary, read), has);
                for number in 0..2 {
                    assert_eq!(ended.read_member_state(Backup, number, read), has, "backup {number}");
                }
            })
        };
        let report = check_crashes(Replicate, Request::Put("a".into(), value), crashes, setup).await;
        let report = report.unwrap_or_else(|failure| panic!("{failure}"));
        assert!(report.points > 100 && report.aborted == 0, "{report:?}");
    }
}

// A merge sort over any number of workers.

fn merged<'a>(runs: impl IntoIterator<Item = &'a Vec<u32>>) -> Vec<u32> {
    let mut all: Vec<u32> = runs.into_iter().flatten().copied().collect();
    all.sort_unstable();
    all
}

choreography!(Sort: (Client, Many<Worker>), At<Client, Vec<u32>> => At<Client, Vec<u32>>, |ctx, numbers| {
    let workers = ctx.members(Worker);
    let Some(first) = workers.get(0) else {
        return Ok(ctx.locally(Client, |client| merged([client.get(&numbers)])));
    };
    let shares = ctx.locally(Client, |client| {
        let numbers = client.get(&numbers);
        let share = numbers.len().div_ceil(workers.len()).max(1);
        let shares = numbers.chunks(share).map(<[u32]>::to_vec).chain(std::iter::repeat(Vec::new()));
        shares.take(workers.len()).collect::<Vec<_>>()
    });
    let shares = ctx.scatter(Client, Worker, &shares).await?;
    let mut runs = ctx.each(Worker, |worker, member| merged([worker.get(shares.at(member))]));
    // In each round, every other of the workers that are left sends its run to the one before it.
    let mut distance = 1;
    while distance < workers.len() {
        let received = ctx.exchange(Worker, &runs, |member| {
            (member.number() % (2 * distance) == distance).then(|| workers.get(member.number() - distance))?
        });
        let received = received.await?;
        runs = ctx.each(Worker, |worker, member| {
            merged(worker.get(received.at(member)).iter().chain([worker.get(runs.at(member))]))
        });
        distance *= 2;
    }
    ctx.with_member(first, (Client,), async |ctx| ctx.comm(Worker, Client, runs.at(first)).await).await
});

#[tokio::test]
async fn any_number_of_workers_sorts() {
    let numbers: Vec<u32> = (0..40).map(|n| n * 17 % 41).collect();
    let mut expected = numbers.clone();
    expected.sort_unstable();
    for workers in [0, 1, 2, 3, 5, 8, 41] {
        let sorted = run_local(Sort, numbers.clone(), &Services::new().members(Worker, workers)).await;
        assert_eq!(sorted.as_ref(), Ok(&expected), "{workers} workers");
    }
}

#[tokio::test]
async fn a_sort_survives_each_crash() {
    let setup = || TestSetup::new(Services::new().members(Worker, 3));
    let report = check_crashes(Sort, vec![3, 1, 2, 5, 4], 1, setup).await;
    let report = report.unwrap_or_else(|failure| panic!("{failure}"));
    assert!(report.points > 100 && report.aborted == 0, "{report:?}");
}

// A broadcast to all members: from the client to all at once, and along a tree.

choreography!(Tell: (Client, Many<Worker>), At<Client, String> => At<Client, Vec<String>>, |ctx, news| {
    let at_once: String = ctx.broadcast(Client, &news).await?;
    let workers = ctx.members(Worker);
    let to_first = ctx.multicast_each(Client, Worker, &news).await?;
    let mut known = ctx.each(Worker, |worker, member| {
        (member.number() == 0).then(|| worker.get(to_first.at(member)).clone())
    });
    let mut reached = 1;
    while reached < workers.len() {
        let told = ctx.exchange(Worker, &known, |member| {
            (member.number() < reached).then(|| workers.get(member.number() + reached))?
        });
        let told = told.await?;
        known = ctx.each(Worker, |worker, member| {
            let told = worker.get(told.at(member)).iter().flatten().next().cloned();
            worker.get(known.at(member)).clone().or(told)
        });
        reached *= 2;
    }
    let echoes = ctx.each(Worker, |worker, member| {
        assert_eq!(worker.get(known.at(member)).as_ref(), Some(&at_once));
        format!("{member} knows {at_once}")
    });
    ctx.gather_each(Worker, Client, &echoes).await
});

#[tokio::test]
async fn a_broadcast_reaches_all_members() {
    for workers in [0, 1, 2, 3, 7] {
        let echoes = run_local(Tell, "it".into(), &Services::new().members(Worker, workers)).await.unwrap();
        let expected: Vec<String> = (0..workers).map(|number| format!("worker/{number} knows it")).collect();
        assert_eq!(echoes, expected);
    }
    let setup = || TestSetup::new(Services::new().members(Worker, 2));
    check_crashes(Tell, "it".into(), 1, setup).await.unwrap_or_else(|failure| panic!("{failure}"));
}

// Steps of members.

/// A service that keeps the keys under which it did and undid something.
#[derive(Default)]
pub struct Ledger {
    done: Mutex<BTreeSet<IdempotencyKey>>,
    undone: Mutex<Vec<IdempotencyKey>>,
}

struct Book;

impl Transaction for Book {
    const NAME: &'static str = "book";
    type Role = Store;
    type Input = u32;
    type Output = u32;
    async fn commit(&self, here: &Local<Store>, amount: &u32) -> Result<u32, Abort> {
        if *amount > 10 {
            return Err(Abort::new("too-much", "a store books 10 at most"));
        }
        here.service().done.lock().unwrap().insert(here.key().clone());
        Ok(*amount)
    }
    async fn compensate(&self, here: &Local<Store>, _: &u32, _: &u32) -> Result<(), Retry> {
        if here.service().done.lock().unwrap().remove(here.key()) {
            here.service().undone.lock().unwrap().push(here.key().clone());
        }
        Ok(())
    }
}

type Stores = (Client, Many<Store>);

choreography!(BookAll: Stores, At<Client, Vec<u32>> => At<Client, u32>, |ctx, amounts| {
    let amounts = ctx.scatter(Client, Store, &amounts).await?;
    let booked = ctx.transact_each(Book, &amounts).await?;
    let booked = ctx.gather_each(Store, Client, &booked).await?;
    Ok(ctx.locally(Client, |client| client.get(&booked).iter().sum()))
});

#[tokio::test]
async fn members_that_share_a_service_have_keys_of_their_own() {
    let ledger = Arc::new(Ledger::default());
    let services = Services::new().with(Store, ledger.clone()).members(Store, 5);
    assert_eq!(run_local(BookAll, vec![1, 2, 3, 4, 5], &services).await, Ok(15));
    assert_eq!(ledger.done.lock().unwrap().len(), 5);
}

#[tokio::test]
async fn what_the_members_have_committed_is_compensated_when_one_refuses_whenever_one_crashes() {
    let setup = || {
        let ledgers = [(); 3].map(|()| Arc::new(Ledger::default()));
        let services = Services::new().members(Store, 3);
        let services = { 0.. }
            .zip(&ledgers)
            .fold(services, |services, (number, ledger)| services.with_member(Store, number, ledger.clone()));
        TestSetup::new(services).judge(move |ended| {
            assert_eq!(ended.output().as_ref().unwrap_err().code(), "too-much");
            for ledger in &ledgers {
                assert!(ledger.done.lock().unwrap().is_empty(), "something is booked for nobody");
            }
            assert!(ledgers[1].undone.lock().unwrap().is_empty(), "the store that refused had nothing to undo");
        })
    };
    let report = check_crashes(BookAll, vec![1, 11, 3], 1, setup).await;
    report.unwrap_or_else(|failure| panic!("{failure}"));
}

/// The same with all members' steps compensated strictly backwards.
struct Backwards;

impl Choreography for Backwards {
    const NAME: &'static str = "backwards";
    const COMPENSATION: Compensation = Compensation::Backwards;
    type Roles = Stores;
    type Input = At<Client, Vec<u32>>;
    type Output = At<Client, u32>;
    async fn run(&self, ctx: &Context<Stores>, amounts: At<Client, Vec<u32>>) -> Result<At<Client, u32>, Abort> {
        let amounts = ctx.scatter(Client, Store, &amounts).await?;
        let booked = ctx.transact_each(Book, &amounts).await?;
        let booked = ctx.gather_each(Store, Client, &booked).await?;
        ctx.comm(Client, Client, &booked).await?;
        ctx.abort(Abort::new("recalled", "nobody wants it")).await
    }
}

#[tokio::test]
async fn members_compensate_backwards_from_the_last_to_the_first() {
    let ledger = Arc::new(Ledger::default());
    let services = Services::new().with(Store, ledger.clone()).members(Store, 4);
    assert_eq!(run_local(Backwards, vec![1; 4], &services).await.unwrap_err().code(), "recalled");
    let undone = ledger.undone.lock().unwrap().clone();
    let mut sorted = undone.clone();
    sorted.sort_by(|one, other| other.path.cmp(&one.path));
    assert_eq!((undone.len(), undone), (4, sorted));
    let setup = || TestSetup::new(Services::new().with(Store, Arc::default()).members(Store, 2));
    check_crashes(Backwards, vec![1; 2], 1, setup).await.unwrap_or_else(|failure| panic!("{failure}"));
}

// Scopes.

choreography!(Fallback: Stores, At<Client, Vec<u32>> => At<Client, u32>, |ctx, amounts| {
    let amounts = ctx.scatter(Client, Store, &amounts).await?;
    let all = ctx.saga((Many(Store),), async |ctx| ctx.transact_each(Book, &amounts).await).await?;
    let booked = match all {
        Ok(booked) => booked,
        // All roles know that it failed: each store books one.
        Err(_) => ctx.transact_each(Book, &ctx.each(Store, |_, _| 1)).await?,
    };
    let booked = ctx.gather_each(Store, Client, &booked).await?;
    Ok(ctx.locally(Client, |client| client.get(&booked).iter().sum()))
});

#[tokio::test]
async fn a_saga_of_a_family_is_compensated_at_all_members() {
    let setup = || {
        let ledger = Arc::new(Ledger::default());
        TestSetup::new(Services::new().with(Store, ledger.clone()).members(Store, 2)).judge(move |ended| {
            assert_eq!(*ended.output(), Ok(2));
            assert_eq!(ledger.done.lock().unwrap().len(), 2);
        })
    };
    check_crashes(Fallback, vec![1, 11], 1, setup).await.unwrap_or_else(|failure| panic!("{failure}"));
    let services = Services::new().with(Store, Arc::default()).members(Store, 2);
    assert_eq!(run_local(Fallback, vec![3, 4], &services).await, Ok(7));
}

choreography!(Rounds: (Client, Many<Worker>), At<Client, u32> => At<Client, Vec<u32>>, |ctx, rounds| {
    let rounds = ctx.broadcast(Client, &rounds).await?;
    let start = ctx.each(Worker, |_, member| u32::from(member.number() == 0));
    let ended = ctx.repeat((Known(rounds), start), async |ctx, (Known(left), sums)| {
        if left == 0 {
            return Ok(ControlFlow::Break(sums));
        }
        let all = ctx.members(Worker);
        let next = ctx.exchange(Worker, &sums, |member| all.get((member.number() + 1) % all.len())).await?;
        let sums = ctx.each(Worker, |worker, member| {
            worker.get(sums.at(member)) + worker.get(next.at(member)).iter().sum::<u32>()
        });
        Ok(ControlFlow::Continue((Known(left - 1), sums)))
    });
    ctx.gather_each(Worker, Client, &ended.await?).await
});

#[tokio::test]
async fn a_loop_carries_a_value_of_each_member_over_its_checkpoints() {
    let setup = || {
        TestSetup::new(Services::new().members(Worker, 3)).judge(|ended| {
            assert_eq!(*ended.output(), Ok(vec![1, 2, 1]));
        })
    };
    check_crashes(Rounds, 2, 1, setup).await.unwrap_or_else(|failure| panic!("{failure}"));
}

choreography!(Deal: Stores, At<Client, u32> => At<Client, Vec<(usize, u32)>>, |ctx, most| {
    // The client deals with all stores side by side; each deal has messages, branches and steps of its own.
    let deals = ctx.for_each(Store, (Client,), async |ctx, member| {
        let offer = ctx.comm(Client, Store, &most).await?;
        let wanted = ctx.locally(Store, |store| store.get(&offer) + 2 * u32::try_from(member.number()).unwrap());
        let booked = ctx.try_transact(Book, &wanted).await?;
        let agreed = ctx.locally(Store, |store| store.get(&booked).is_ok());
        if ctx.broadcast(Store, &agreed).await? {
            return Ok(ctx.locally(Store, |store| (member.number(), *store.get(&wanted))));
        }
        let booked = ctx.transact(Book, &offer).await?;
        Ok(ctx.locally(Store, |store| (member.number(), *store.get(&booked))))
    });
    ctx.gather_each(Store, Client, &deals.await?).await
});

#[tokio::test]
async fn a_part_for_each_member_runs_side_by_side_and_may_branch_by_member() {
    let services = |stores| Services::new().with(Store, Arc::default()).members(Store, stores);
    let expected = vec![(0, 7), (1, 9), (2, 7), (3, 7)];
    assert_eq!(run_local(Deal, 7, &services(4)).await, Ok(expected));
    assert_eq!(run_local(Deal, 11, &services(2)).await.unwrap_err().code(), "too-much");
    let setup = || {
        let ledger = Arc::new(Ledger::default());
        TestSetup::new(Services::new().with(Store, ledger.clone()).members(Store, 2)).judge(move |ended| {
            assert_eq!(*ended.output(), Ok(vec![(0, 9), (1, 9)]));
            assert_eq!(ledger.done.lock().unwrap().len(), 2);
        })
    };
    check_crashes(Deal, 9, 1, setup).await.unwrap_or_else(|failure| panic!("{failure}"));
}

choreography!(Performs: (Client, Many<Worker>), At<Client, u32> => At<Client, u32>, |ctx, n| {
    // A choreography of two single roles, performed with one member after the other.
    let mut n = n;
    for member in ctx.members(Worker) {
        n = ctx.with_member(member, (Client,), async |ctx| ctx.perform(&AddOne, n).await).await?;
    }
    Ok(n)
});

choreography!(AddOne: (Client, Worker), At<Client, u32> => At<Client, u32>, |ctx, n| {
    let there = ctx.comm(Client, Worker, &n).await?;
    ctx.comm(Worker, Client, &ctx.locally(Worker, |worker| worker.get(&there) + 1)).await
});

#[tokio::test]
async fn a_choreography_of_single_roles_is_performed_with_each_member() {
    assert_eq!(run_local(Performs, 10, &Services::new().members(Worker, 6)).await, Ok(16));
}

// A family that is not the last entry, beside roles that take no part in what it does.
choreography!(Elsewhere: (Many<Worker>, Primary, Client), At<Client, u32> => At<Client, Vec<u32>>, |ctx, n| {
    let at_primary = ctx.comm(Client, Primary, &n).await?;
    let each = ctx.conclave((Primary, Many(Worker)), async |ctx| {
        let each = ctx.multicast_each(Primary, Worker, &at_primary).await?;
        let known = ctx.broadcast(Primary, &at_primary).await?;
        Ok(ctx.each(Worker, |worker, member| worker.get(each.at(member)) + known))
    });
    ctx.gather_each(Worker, Client, &each.await?).await
});

#[tokio::test]
async fn a_family_may_come_first_and_take_part_in_conclaves() {
    assert_eq!(run_local(Elsewhere, 4, &Services::new().members(Worker, 3)).await, Ok(vec![8; 3]));
}

// Mistakes.

#[tokio::test]
async fn a_family_without_a_size_and_one_that_is_too_large_are_refused() {
    for (services, why) in [
        (Services::new(), "the role family `worker` has no size: give the number of its members with `members`"),
        (Services::new().members(Worker, 65), "the role family `worker` cannot have 65 members: give it 64 at most"),
    ] {
        assert_eq!(run_local(Sort, vec![1], &services).await.unwrap_err().message(), why);
        let failure = check_crashes(Sort, vec![1], 1, || TestSetup::new(services.clone())).await.unwrap_err();
        assert!(failure.what.contains(why), "{}", failure.what);
    }
}

choreography!(StartedByAMember: (Client, Many<Worker>), At<Worker, u32> => At<Worker, u32>, |_ctx, n| { Ok(n) });

#[tokio::test]
async fn a_member_of_a_family_cannot_start_a_session() {
    let refused = run_local(StartedByAMember, 1, &Services::new().members(Worker, 1)).await.unwrap_err();
    assert!(refused.message().contains("locate the input at one of them"), "{refused}");
}

choreography!(WrongMember: (Client, Many<Worker>), At<Client, ()> => At<Client, Vec<u32>>, |ctx, _unit| {
    let own = ctx.each(Worker, |_, _| 1);
    let first = ctx.members(Worker).next();
    let wrong = ctx.each(Worker, |worker, member| *worker.get(own.at(first.unwrap_or(member))));
    ctx.gather_each(Worker, Client, &wrong).await
});

#[tokio::test]
#[should_panic(
    expected = "the program panicked at role `worker/1`, in or after its operation 1: a value is read where \
                           it is located, by the member of a role family that it belongs to"
)]
async fn a_read_of_another_members_value_names_the_member() {
    let _ = run_local(WrongMember, (), &Services::new().members(Worker, 2)).await;
}

struct Stale(Mutex<Option<FamilyMember<Worker>>>);

impl Choreography for Stale {
    const NAME: &'static str = "stale";
    type Roles = (Client, Many<Worker>);
    type Input = At<Client, Option<usize>>;
    type Output = At<Client, ()>;
    async fn run(&self, ctx: &Context<Self::Roles>, _: At<Client, Option<usize>>) -> Result<At<Client, ()>, Abort> {
        let kept = *self.0.lock().unwrap();
        let member = kept.or(ctx.members(Worker).last());
        let Some(member) = member else { return Ok(ctx.locally(Client, |_| ())) };
        ctx.with_member(member, (Client,), async |ctx| ctx.comm(Worker, Client, &ctx.locally(Worker, |_| ())).await)
            .await
    }
}

/// Takes a member out of a run, as no program should.
struct Steal(Arc<Mutex<Option<FamilyMember<Worker>>>>);

impl Choreography for Steal {
    const NAME: &'static str = "steal";
    type Roles = (Client, Many<Worker>);
    type Input = At<Client, ()>;
    type Output = At<Client, ()>;
    async fn run(&self, ctx: &Context<Self::Roles>, unit: At<Client, ()>) -> Result<At<Client, ()>, Abort> {
        *self.0.lock().unwrap() = ctx.members(Worker).last();
        Ok(unit)
    }
}

#[tokio::test]
async fn a_member_of_another_session_is_recognised() {
    let stolen = Arc::new(Mutex::new(None));
    run_local(Steal(stolen.clone()), (), &Services::new().members(Worker, 3)).await.unwrap();
    let stolen = *stolen.lock().unwrap();
    let abort = run_local(Stale(Mutex::new(stolen)), None, &Services::new().members(Worker, 2)).await.unwrap_err();
    assert!(abort.message().contains("there is no worker/2 among 2 members"), "{abort}");
    assert_eq!(run_local(Stale(Mutex::new(None)), None, &Services::new().members(Worker, 2)).await, Ok(()));
}

choreography!(Deadlock: (Client, Many<Worker>), At<Client, ()> => At<Client, Vec<u8>>, |ctx, _unit| {
    let each: Each<Worker, u8> = ctx.for_each(Worker, (), async |ctx, _| ctx.signal(Worker, "go").await).await?;
    ctx.gather_each(Worker, Client, &each).await
});

#[tokio::test]
async fn a_member_that_waits_is_named_by_its_number() {
    let abort = run_local(Deadlock, (), &Services::new().members(Worker, 2)).await.unwrap_err();
    for part in ["a gather from `worker/0`", "role `worker/1`"] {
        assert!(abort.message().contains(part), "{abort}");
    }
    let setup = || TestSetup::new(Services::new().members(Worker, 2)).signal(Worker, "go", "1", &7_u8);
    let report = check_crashes(Deadlock, (), 1, setup).await;
    report.unwrap_or_else(|failure| panic!("{failure}"));
}

#[tokio::test]
async fn lints_name_the_family() {
    let findings = lint(Sort, vec![2, 1], TestSetup::new(Services::new().members(Worker, 2))).await.unwrap();
    assert!(findings.iter().any(|finding| format!("{finding:?}").contains("worker")), "{findings:?}");
}
