//! What only a server can do to a step: end its connection, crash, find a deadlock or a conflict.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use accompanist::prelude::*;
use accompanist::sql::PostgresSteps;
use sqlx::postgres::{PgPool, PgPoolOptions};
use sqlx::{AssertSqlSafe, PgConnection, query, query_scalar, raw_sql};
use tokio::sync::{Barrier, Notify};

use crate::backend::{Backend, Postgres};
use crate::server::Server;
use crate::support::{fresh_key, until, warnings, within};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_is_ended_leaves_nothing() {
    let Some(base) = Postgres::open().await else { return };
    let (steps, key, tries) = (base.steps(), fresh_key(), AtomicU32::new(0));
    let effect = async |connection: &mut PgConnection| {
        Postgres::affect(&mut *connection, "done").await?;
        let own: i32 = query_scalar("SELECT pg_backend_pid()").fetch_one(&mut *connection).await?;
        if tries.fetch_add(1, SeqCst) == 0 {
            query("SELECT pg_terminate_backend($1)").bind(own).execute(steps.pool()).await?;
        }
        Ok(tries.load(SeqCst))
    };
    assert_eq!(within(steps.commit(&key, effect)).await, Ok(2));
    assert_eq!(base.count("done").await, 1);
    assert_eq!(warnings(&key, "comes back by itself"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_crashes_keeps_all_of_a_step_or_nothing() {
    let Some(server) = Server::start().await else { return };
    let base = Postgres::on(Arc::new(server)).await;
    let (steps, kept, lost, tries) = (base.steps(), fresh_key(), fresh_key(), AtomicU32::new(0));
    let effect = async |connection: &mut PgConnection| Ok(Postgres::affect(connection, "kept").await?);
    within(steps.commit(&kept, effect)).await.unwrap();
    // In the middle of a step, and then again until it is up.
    let effect = async |connection: &mut PgConnection| {
        Postgres::affect(connection, "lost").await?;
        if tries.fetch_add(1, SeqCst) == 0 {
            base.server.crash_and_restart().await;
        }
        Ok(())
    };
    within(steps.commit(&lost, effect)).await.unwrap();
    assert_eq!([base.count("kept").await, base.count("lost").await], [1, 1]);
    // After a step: its marker is still there.
    within(base.server.crash_and_restart()).await;
    let repeated = async |connection: &mut PgConnection| Ok(Postgres::affect(connection, "kept").await?);
    for key in [&kept, &lost] {
        within(steps.commit(key, repeated)).await.unwrap();
    }
    assert_eq!([base.count("kept").await, base.count("lost").await], [1, 1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn steps_wait_for_a_server_that_is_away() {
    let Some(server) = Server::start().await else { return };
    let base = Postgres::on(Arc::new(server)).await;
    let key = fresh_key();
    // Its pool does not wait long by itself.
    let impatient = PgPoolOptions::new().acquire_timeout(Duration::from_millis(50));
    let options = (*base.steps().pool().connect_options()).clone();
    let steps = PostgresSteps::standalone(impatient.connect_with(options).await.unwrap()).await.unwrap();
    base.server.crash();
    let committed = steps.commit(&key, async |connection| Ok(Postgres::affect(connection, "done").await?));
    let compensated = async {
        let elsewhere = fresh_key();
        until("warnings", async || warnings(&key, "comes back by itself") >= 2).await;
        steps.compensate(&elsewhere, async |_| Ok(())).await.unwrap_err();
        base.server.crash_and_restart().await;
    };
    within(async { tokio::join!(committed, compensated) }).await.0.unwrap();
    assert_eq!(base.count("done").await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadlock_between_steps_passes() {
    let Some(base) = Postgres::open().await else { return };
    base.run_outside("INSERT INTO once (name) VALUES ('a'), ('b')").await;
    let (meet, tries) = (Arc::new(Barrier::new(2)), Arc::new(AtomicU32::new(0)));
    let steps = [["a", "b"], ["b", "a"]].map(|names| {
        let (steps, meet, tries) = (base.steps(), meet.clone(), tries.clone());
        tokio::spawn(async move {
            let effect = async |connection: &mut PgConnection| {
                // Only the first two tries meet between their locks.
                let meets = tries.fetch_add(1, SeqCst) < 2;
                for name in names {
                    let lock = query("SELECT name FROM once WHERE name = $1 FOR UPDATE").bind(name);
                    lock.execute(&mut *connection).await?;
                    if meets && name == names[0] {
                        meet.wait().await;
                    }
                }
                Ok(Postgres::affect(connection, "done").await?)
            };
            steps.commit(&fresh_key(), effect).await
        })
    });
    for step in steps {
        within(step).await.unwrap().unwrap();
    }
    assert_eq!((base.count("done").await, tries.load(SeqCst)), (2, 3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conflicts_of_serializable_steps_pass() {
    let Some(base) = Postgres::open().await else { return };
    base.run_outside("CREATE TABLE counter (number INTEGER); INSERT INTO counter VALUES (0)").await;
    let database: String = query_scalar("SELECT current_database()").fetch_one(base.steps().pool()).await.unwrap();
    let strict = format!("ALTER DATABASE {database} SET default_transaction_isolation = 'serializable'");
    raw_sql(AssertSqlSafe(strict)).execute(base.steps().pool()).await.unwrap();
    let pool = base.steps().pool().clone();
    let strict = sqlx::Pool::connect_with((*pool.connect_options()).clone()).await.unwrap();
    let steps = PostgresSteps::standalone(strict).await.unwrap();
    let keys = [fresh_key(), fresh_key(), fresh_key(), fresh_key()];
    // Four tries of each of four steps.
    let tries = (0..16).map(|number: usize| {
        let (steps, key) = (steps.clone(), keys[number % 4].clone());
        tokio::spawn(async move {
            let effect = async |connection: &mut PgConnection| {
                let before: i32 = query_scalar("SELECT number FROM counter").fetch_one(&mut *connection).await?;
                query("UPDATE counter SET number = $1").bind(before + 1).execute(connection).await?;
                Ok(())
            };
            steps.commit(&key, effect).await.unwrap();
        })
    });
    for ended in tries.collect::<Vec<_>>() {
        within(ended).await.unwrap();
    }
    let number: i32 = query_scalar("SELECT number FROM counter").fetch_one(&pool).await.unwrap();
    assert_eq!(number, 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_that_an_effect_swallows_keeps_nothing() {
    let Some(base) = Postgres::open().await else { return };
    let (steps, key, tries) = (base.steps(), fresh_key(), AtomicU32::new(0));
    let effect = async |connection: &mut PgConnection| {
        Postgres::affect(&mut *connection, "done").await?;
        if tries.fetch_add(1, SeqCst) == 0 {
            Postgres::run(connection, "DELETE FROM nowhere").await.unwrap_err();
        }
        Ok(())
    };
    within(steps.commit(&key, effect)).await.unwrap();
    assert_eq!((base.count("done").await, warnings(&key, "after an error it must return")), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_not_make_tables_uses_one_that_is_there() {
    let Some(base) = Postgres::open().await else { return };
    // Roles belong to the server, which tests share.
    let role = format!("teller_{}", fastrand::u64(..));
    let grant = format!(
        "CREATE ROLE {role} LOGIN; REVOKE CREATE ON SCHEMA public FROM PUBLIC;
         GRANT SELECT, INSERT, UPDATE, DELETE ON accompanist_steps TO {role}"
    );
    raw_sql(AssertSqlSafe(grant)).execute(base.steps().pool()).await.unwrap();
    let options = (*base.steps().pool().connect_options()).clone().username(&role);
    let steps = PostgresSteps::standalone(sqlx::Pool::connect_with(options).await.unwrap()).await.unwrap();
    let key = fresh_key();
    assert_eq!(within(steps.commit(&key, async |_| Ok(1_u32))).await, Ok(1));
    within(steps.compensate(&key, async |_| Ok(()))).await.unwrap();
    base.let_age(&key).await;
    assert_eq!(steps.forget_before(Duration::from_mins(1)).await.unwrap(), 1);
}

/// Waits until so many transactions on the database wait for others.
async fn waiting(pool: &PgPool, transactions: i64) {
    let waiting =
        "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    until("a transaction that waits", async || {
        query_scalar(waiting).fetch_one(pool).await.is_ok_and(|found: i64| found == transactions)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_try_that_comes_while_a_refusal_is_decided_counts() {
    let Some(base) = Postgres::open().await else { return };
    let (steps, key) = (base.steps(), fresh_key());
    let refuse = async |_: &mut PgConnection| {
        waiting(steps.pool(), 1).await;
        Err(Abort::new("no", "once").into())
    };
    let commit = async |connection: &mut PgConnection| Ok(Postgres::affect(connection, "done").await?);
    let tries = async { tokio::join!(steps.commit(&key, refuse), steps.commit(&key, commit)) };
    let (refused, committed) = within(tries).await;
    let later = within(steps.commit(&key, async |_| Ok(()))).await;
    assert_eq!((&refused, &committed), (&later, &later));
    assert_eq!(base.count("done").await, i64::from(later.is_ok()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_marker_that_is_written_meanwhile_is_not_forgotten() {
    let Some(base) = Postgres::open().await else { return };
    let (steps, key, claimed) = (base.steps(), fresh_key(), Notify::new());
    within(steps.commit(&key, async |_| Ok(()))).await.unwrap();
    base.let_age(&key).await;
    let compensated = steps.compensate(&key, async |connection: &mut PgConnection| {
        Postgres::affect(connection, "undone").await?;
        claimed.notify_one();
        waiting(steps.pool(), 1).await;
        Ok(())
    });
    let forgotten = async {
        claimed.notified().await;
        steps.forget_before(Duration::from_mins(1)).await
    };
    let both = async { tokio::join!(compensated, forgotten) };
    let (compensated, forgotten) = within(both).await;
    assert_eq!((compensated, forgotten.unwrap()), (Ok(()), 0));
    within(steps.compensate(&key, async |connection| Ok(Postgres::affect(connection, "undone").await?))).await.unwrap();
    assert_eq!(base.count("undone").await, 1);
}
