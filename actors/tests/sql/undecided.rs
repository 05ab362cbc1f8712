//! Steps on a database that cannot succeed as they are: tried so often, then listed, and ended by an abort.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use accompanist::prelude::*;
use accompanist::record::Task;
use accompanist::store::MemoryDisk;
use accompanist::transport::LocalNetwork;

use crate::backend::{Backend, Connected};
use crate::node::{Bank, Shop, Till};
use crate::support::{listen, node_id, quick, until, warnings_with};

/// What is in the way of a step, and how it is mended.
const TROUBLES: [(&str, &str, &str, &str); 2] = [
    (
        "INSERT INTO once (name) VALUES ('taken')",
        "INSERT INTO once (name) VALUES ('taken')",
        "DELETE FROM once",
        "return an `Abort` for it",
    ),
    (
        "SELECT 1",
        "INSERT INTO later (name) VALUES ('a')",
        "CREATE TABLE later (name TEXT)",
        "correct the statement, or the tables",
    ),
];

struct Enrol<B>(PhantomData<B>);
impl<B: Backend> Transaction for Enrol<B> {
    const NAME: &'static str = "enrol";
    type Role = Bank<B>;
    type Input = usize;
    type Output = ();

    async fn commit(&self, here: &Local<Bank<B>>, trouble: &usize) -> Result<(), Abort> {
        let enrol = async |connection: &mut Connected<B>| {
            B::affect(&mut *connection, "enrolled").await?;
            if let Some((_, statement, ..)) = TROUBLES.get(*trouble) {
                B::run(connection, statement).await?;
            }
            Ok(())
        };
        here.service().steps.commit(here.key(), enrol).await
    }

    /// Comes upon a constraint.
    async fn compensate(&self, here: &Local<Bank<B>>, _: &usize, (): &()) -> Result<(), Retry> {
        let undo = async |connection: &mut Connected<B>| {
            B::affect(&mut *connection, "undone").await?;
            Ok(B::run(connection, TROUBLES[0].1).await?)
        };
        here.service().steps.compensate(here.key(), undo).await
    }
}

/// The shop is enrolled, and may not want it then.
struct Enrolment<B>(PhantomData<B>);
impl<B: Backend> Choreography for Enrolment<B> {
    const NAME: &'static str = "enrolment";
    type Roles = (Shop, Bank<B>);
    type Input = At<Shop, (usize, bool)>;
    type Output = At<Shop, ()>;

    async fn run(&self, ctx: &Context<Self::Roles>, input: At<Shop, (usize, bool)>) -> Result<At<Shop, ()>, Abort> {
        let trouble = ctx.locally(Shop, |here| here.get(&input).0);
        let trouble = ctx.comm(Shop, Bank(PhantomData), &trouble).await?;
        let enrolled = ctx.transact(Enrol::<B>(PhantomData), &trouble).await?;
        let enrolled = ctx.comm(Bank(PhantomData), Shop, &enrolled).await?;
        let regrets = ctx.locally(Shop, |here| here.get(&input).1);
        if ctx.broadcast(Shop, &regrets).await? {
            return ctx.abort(Abort::new("regrets", "the shop does not want this")).await;
        }
        Ok(enrolled)
    }
}

async fn start<B: Backend>(base: &B, tries_max: u32) -> Node {
    listen();
    let mut settings = quick();
    (settings.limits.tries_max, settings.limits.retry_delay_max_ms) = (tries_max, 5);
    let till = Till::of(base, true, true);
    let builder = Node::builder(node_id("home")).store(MemoryDisk::default().open().unwrap());
    let builder = builder.transport(LocalNetwork::new()).settings(settings).role(Shop, Arc::new(()));
    let builder = builder.sql("bank", &till.steps).role(Bank(PhantomData), till.clone());
    builder.choreography(Enrolment::<B>(PhantomData)).start().await.unwrap()
}

pub async fn a_commit_that_cannot_succeed_is_listed_and_goes_on_once_it_can<B: Backend>(base: B) {
    let node = start(&base, 4).await;
    for (number, (before, _, mend, advice)) in TROUBLES.into_iter().enumerate() {
        base.run_outside(before).await;
        let session = node.start(Enrolment::<B>(PhantomData), (number, false)).await.unwrap();
        until("trouble", async || !node.operator().troubled_sessions().is_empty()).await;
        let troubled = node.operator().troubled_sessions().remove(0);
        assert_eq!(troubled.session, session.id());
        let trouble = &troubled.steps[0].1;
        assert_eq!((trouble.step.as_str(), trouble.task, trouble.tries), ("enrol", Task::Commit, 4));
        assert!(trouble.reason.contains(advice), "{trouble}");
        // The first and the second failure were told, with all that names them; the next would be the fourth.
        let id = session.id().to_string();
        assert_eq!(warnings_with(&["enrolment", "bank", "enrol", &id, advice, "is tried again"]), 2);
        base.run_outside(mend).await;
        assert_eq!(
            node.operator().instance(troubled.session, troubled.role).resolve(Resolution::Retry).await.unwrap(),
            1
        );
        session.settled().await.unwrap();
    }
    assert_eq!(base.count("enrolled").await, 2);
    node.shutdown().await;
}

pub async fn an_abort_ends_a_commit_that_cannot_succeed<B: Backend>(base: B) {
    base.run_outside(TROUBLES[0].0).await;
    // While it is tried, and when it is listed.
    for tries_max in [u32::MAX, 2] {
        let node = start(&base, tries_max).await;
        for number in 0..TROUBLES.len() {
            let late = node.start(Enrolment::<B>(PhantomData), (number, false)).deadline(Duration::from_millis(100));
            let late = late.await.unwrap();
            let told = late.settled().await.unwrap_err();
            assert!(matches!(&told, SessionError::Aborted(abort) if abort.code() == Abort::DEADLINE), "{told}");
            let session = node.start(Enrolment::<B>(PhantomData), (number, false)).await.unwrap();
            let id = session.id().to_string();
            if tries_max == 2 {
                until("trouble", async || !node.operator().troubled_sessions().is_empty()).await;
            } else {
                until("tries", async || warnings_with(&[&id, "is tried again"]) > 2).await;
            }
            assert!(session.cancel("the test wants it").await.unwrap());
            let told = session.settled().await.unwrap_err();
            assert!(matches!(&told, SessionError::Aborted(abort) if abort.code() == Abort::CANCELLED), "{told}");
        }
        until("an idle node", async || {
            node.operator().instances() == 0 && node.operator().troubled_sessions().is_empty()
        })
        .await;
        assert_eq!(
            (node.operator().stopped_sessions(), base.count("enrolled").await, base.count("undone").await),
            (vec![], 0, 0)
        );
        node.shutdown().await;
    }
}

pub async fn a_compensation_that_cannot_succeed_is_listed_with_an_advice_of_its_own<B: Backend>(base: B) {
    let node = start(&base, 3).await;
    base.run_outside(TROUBLES[0].0).await;
    let session = node.start(Enrolment::<B>(PhantomData), (9, true)).await.unwrap();
    until("trouble", async || !node.operator().troubled_sessions().is_empty()).await;
    let troubled = node.operator().troubled_sessions().remove(0);
    let trouble = &troubled.steps[0].1;
    assert_eq!((trouble.step.as_str(), trouble.task, trouble.tries), ("enrol", Task::Compensate, 3));
    let advice = "correct the effect of the compensation, or the rows in its way";
    assert!(trouble.reason.contains(advice) && !trouble.reason.contains("Abort"), "{trouble}");
    let id = session.id().to_string();
    assert_eq!(warnings_with(&["enrolment", "bank", "enrol", &id, advice, "a compensation did not succeed"]), 2);
    assert_eq!(warnings_with(&[&id, "Abort"]), 0);
    base.run_outside(TROUBLES[0].2).await;
    assert_eq!(node.operator().instance(troubled.session, troubled.role).resolve(Resolution::Retry).await.unwrap(), 1);
    let told = session.settled().await.unwrap_err();
    assert!(matches!(&told, SessionError::Aborted(abort) if abort.code() == "regrets"), "{told}");
    assert_eq!([base.count("enrolled").await, base.count("undone").await], [1, 1]);
    node.shutdown().await;
}
