//! A lock that is held, and a database that is away or full, stop only what needs them.

use std::sync::Arc;
use std::time::Duration;

use accompanist::prelude::*;
use accompanist::sql::PostgresSteps;
use accompanist::store::MemoryDisk;
use accompanist::transport::LocalNetwork;
use sqlx::postgres::{PgPool, PgPoolOptions};
use sqlx::{AssertSqlSafe, PgConnection, query, query_scalar, raw_sql};

use crate::backend::{Backend, Postgres};
use crate::node::{Sale, Till, builder};
use crate::server::Server;
use crate::support::{fresh_key, listen, node_id, quick, until, warnings_with, within};

/// Few, so that few who wait would hold all of them.
const CONNECTIONS: u32 = 4;

#[derive(Clone, Copy)]
struct Till1;
impl Role for Till1 {
    const NAME: &'static str = "till";
    type Service = PostgresSteps;
}

/// Adds one to an account.
struct Pay;
impl Transaction for Pay {
    const NAME: &'static str = "pay";
    type Role = Till1;
    type Input = String;
    type Output = ();
    async fn commit(&self, here: &Local<Till1>, account: &String) -> Result<(), Abort> {
        let pay = async |connection: &mut PgConnection| {
            query("UPDATE accounts SET paid = paid + 1 WHERE name = $1").bind(account).execute(connection).await?;
            Ok(())
        };
        here.service().commit(here.key(), pay).await
    }
    async fn compensate(&self, here: &Local<Till1>, account: &String, (): &()) -> Result<(), Retry> {
        let refund = async |connection: &mut PgConnection| {
            query("UPDATE accounts SET paid = paid - 1 WHERE name = $1").bind(account).execute(connection).await?;
            Ok(())
        };
        here.service().compensate(here.key(), refund).await
    }
}

struct Payment;
impl Choreography for Payment {
    const NAME: &'static str = "payment";
    type Roles = (Till1,);
    type Input = At<Till1, String>;
    type Output = At<Till1, ()>;
    async fn run(&self, ctx: &Context<Self::Roles>, account: At<Till1, String>) -> Result<At<Till1, ()>, Abort> {
        ctx.transact(Pay, &account).await
    }
}

async fn paid(pool: &PgPool, account: &str) -> i64 {
    query_scalar("SELECT paid FROM accounts WHERE name = $1").bind(account).fetch_one(pool).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_locked_row_does_not_stop_the_steps_on_others() {
    let Some(base) = Postgres::open().await else { return };
    listen();
    base.run_outside("CREATE TABLE accounts (name TEXT PRIMARY KEY, paid BIGINT NOT NULL DEFAULT 0)").await;
    base.run_outside("INSERT INTO accounts (name) VALUES ('locked'), ('free')").await;
    let outside = base.steps().pool().clone();
    let options = (*outside.connect_options()).clone();
    let pool = PgPoolOptions::new().max_connections(CONNECTIONS).connect_lazy_with(options);
    let steps = PostgresSteps::new(pool);
    let builder = Node::builder(node_id("home")).store(MemoryDisk::default().open().unwrap()).settings(quick());
    let builder = builder.transport(LocalNetwork::new()).sql("till", &steps).role(Till1, Arc::new(steps));
    let node = builder.choreography(Payment).start().await.unwrap();

    let mut holder = outside.begin().await.unwrap();
    query("SELECT * FROM accounts WHERE name = 'locked' FOR UPDATE").execute(&mut *holder).await.unwrap();
    let mut locked = Vec::new();
    for _ in 0..5 * CONNECTIONS {
        locked.push(within(node.start(Payment, "locked".into())).await.unwrap());
    }
    let id = locked[0].id().to_string();
    within(until("a step that was told to wait", async || warnings_with(&[&id, "pay", "left open"]) > 0)).await;
    // All the time somebody waits for the row; the others go on, one after the other and at once.
    for _ in 0..3 {
        let mut free = Vec::new();
        for _ in 0..5 * CONNECTIONS {
            free.push(within(node.start(Payment, "free".into())).await.unwrap());
        }
        for session in free {
            within(session.settled()).await.unwrap();
        }
    }
    assert_eq!([paid(&outside, "free").await, paid(&outside, "locked").await], [i64::from(15 * CONNECTIONS), 0]);
    // Who waits for a lock can be told to stop.
    let given_up = locked.pop().unwrap();
    assert!(within(given_up.cancel("the test wants it")).await.unwrap());
    let told = within(given_up.settled()).await.unwrap_err();
    assert!(matches!(&told, SessionError::Aborted(abort) if abort.code() == Abort::CANCELLED), "{told}");
    holder.rollback().await.unwrap();
    let left = i64::try_from(locked.len()).unwrap();
    for session in locked {
        within(session.settled()).await.unwrap();
    }
    assert_eq!(paid(&outside, "locked").await, left);
    assert_eq!(node.operator().troubled_sessions(), []);
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kind_of_steps_has_a_bound_of_its_own() {
    let Some(base) = Postgres::open().await else { return };
    let (steps, slow) = (base.steps(), base.steps().at_most(2));
    let (running, most) = (std::sync::atomic::AtomicU32::new(0), std::sync::atomic::AtomicU32::new(0));
    let order = std::sync::atomic::Ordering::SeqCst;
    let work = async |connection: &mut PgConnection| {
        most.fetch_max(running.fetch_add(1, order) + 1, order);
        // The other kind is not held up.
        let other = fresh_key();
        steps.commit(&other, async |connection| Ok(Postgres::affect(connection, "quick").await?)).await?;
        Postgres::affect(connection, "slow").await?;
        running.fetch_sub(1, order);
        Ok(())
    };
    let keys: Vec<IdempotencyKey> = (0..12).map(|_| fresh_key()).collect();
    let all = keys.iter().map(|key| slow.commit(key, work));
    let all: Vec<Result<(), Abort>> = within(futures(all)).await;
    assert!(all.iter().all(Result::is_ok), "{all:?}");
    assert_eq!((most.load(order), base.count("slow").await, base.count("quick").await), (2, 12, 12));
}

/// All of them at once.
async fn futures<F: Future>(all: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    let mut all: Vec<_> = all.into_iter().map(|one| (Box::pin(one), None)).collect();
    std::future::poll_fn(|cx| {
        for (one, ended) in all.iter_mut().filter(|(_, ended)| ended.is_none()) {
            if let std::task::Poll::Ready(output) = one.as_mut().poll(cx) {
                *ended = Some(output);
            }
        }
        if all.iter().all(|(_, ended)| ended.is_some()) { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    all.into_iter().filter_map(|(_, ended)| ended).collect()
}

/// A user of the database who may have so many connections.
struct Teller {
    role: String,
    outside: PgPool,
}

impl Teller {
    async fn new(base: &Postgres) -> Self {
        let (role, outside) = (format!("teller_{}", fastrand::u64(..)), base.steps().pool().clone());
        let grant = format!(
            "CREATE ROLE {role} LOGIN; GRANT ALL ON SCHEMA public TO {role}; GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}"
        );
        raw_sql(AssertSqlSafe(grant)).execute(&outside).await.unwrap();
        Self { role, outside }
    }

    /// From now on; -1 is no limit.
    async fn connections(&self, limit: i32) {
        let limit = format!("ALTER ROLE {} CONNECTION LIMIT {limit}", self.role);
        raw_sql(AssertSqlSafe(limit)).execute(&self.outside).await.unwrap();
    }

    fn till(&self) -> Arc<Till<Postgres>> {
        let options = (*self.outside.connect_options()).clone().username(&self.role);
        let pool = PgPoolOptions::new().acquire_timeout(Duration::from_millis(200)).connect_lazy_with(options);
        Till::on(pool, true, true)
    }
}

const SALE: Sale<Postgres> = Sale(std::marker::PhantomData);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_starts_while_its_database_is_full() {
    let Some(base) = Postgres::open().await else { return };
    let teller = Teller::new(&base).await;
    teller.connections(0).await;
    let (disk, till) = (MemoryDisk::default(), teller.till());
    for life in 1..=2 {
        let node = within(builder(&disk, &till).sql("bank", &till.steps).start()).await.unwrap();
        let [state] = &node.operator().databases()[..] else { panic!("{:?}", node.operator().databases()) };
        assert_eq!((state.name.as_str(), state.is_ready), ("bank", false));
        assert!(state.reason.as_ref().is_some_and(|reason| reason.contains("`bank` is not reached")), "{state:?}");
        let session = within(node.start(SALE, 20).key("k")).await.unwrap();
        if life == 1 {
            // Nothing that was begun is lost with the node.
            within(node.kill()).await;
            continue;
        }
        teller.connections(-1).await;
        assert_eq!(within(session.settled()).await.unwrap(), 40);
        let [state] = &node.operator().databases()[..] else { panic!("{:?}", node.operator().databases()) };
        assert!(state.is_ready && state.reason.is_none(), "{state:?}");
        assert_eq!((base.count("charged").await, node.operator().troubled_sessions()), (1, vec![]));
        within(node.shutdown()).await;
    }
    // It was pinned: the next life finds its markers.
    within(builder(&disk, &till).sql("bank", &till.steps).start()).await.unwrap().shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_starts_while_its_database_is_away() {
    let Some(server) = Server::start().await else { return };
    let base = Postgres::on(Arc::new(server)).await;
    let teller = Teller::new(&base).await;
    let (disk, till) = (MemoryDisk::default(), teller.till());
    base.server.crash();
    let node = within(builder(&disk, &till).sql("bank", &till.steps).start()).await.unwrap();
    assert!(!node.operator().databases()[0].is_ready, "{:?}", node.operator().databases());
    let session = within(node.start(SALE, 20).key("k")).await.unwrap();
    within(base.server.crash_and_restart()).await;
    assert_eq!(within(session.settled()).await.unwrap(), 40);
    within(node.shutdown()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn markers_that_are_lost_while_a_database_is_away_are_noticed_when_it_is_back() {
    let Some(base) = Postgres::open().await else { return };
    let teller = Teller::new(&base).await;
    let disk = MemoryDisk::default();
    let till = teller.till();
    let node = within(builder(&disk, &till).sql("bank", &till.steps).start()).await.unwrap();
    assert!(node.operator().databases()[0].is_ready);
    within(node.shutdown()).await;
    till.steps.pool().close().await;
    teller.connections(0).await;
    base.run_outside("DELETE FROM accompanist_steps").await;
    let till = teller.till();
    let node = within(builder(&disk, &till).sql("bank", &till.steps).start()).await.unwrap();
    let session = within(node.start(SALE, 20).key("k")).await.unwrap();
    teller.connections(-1).await;
    within(until("a session that is stopped", async || !node.operator().stopped_sessions().is_empty())).await;
    assert!(
        node.operator().stopped_sessions()[0].reason.contains("give_up_markers"),
        "{:?}",
        node.operator().stopped_sessions()
    );
    let [state] = &node.operator().databases()[..] else { panic!("{:?}", node.operator().databases()) };
    assert!(state.reason.as_ref().is_some_and(|reason| reason.contains("give_up_markers")), "{state:?}");
    assert_eq!(base.count("charged").await, 0);
    drop(session);
    within(node.shutdown()).await;
}
