//! What only a file can do to a step: be busy, and be opened anew.

use std::time::Duration;

use accompanist::sql::SqliteSteps;
use sqlx::SqliteConnection;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool};

use crate::backend::{Backend, Sqlite};
use crate::support::{fresh_key, until, warnings, within};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn steps_wait_for_a_file_that_is_busy() {
    let base = Sqlite::open().await;
    let impatient = SqliteConnectOptions::new().filename(base.folder.path().join("file")).busy_timeout(Duration::ZERO);
    let steps = SqliteSteps::standalone(SqlitePool::connect_lazy_with(impatient)).await.unwrap();
    let key = fresh_key();
    let busy = base.steps().pool().begin_with("BEGIN IMMEDIATE").await.unwrap();
    let committed = steps.commit(&key, async |connection| Ok(Sqlite::affect(connection, "done").await?));
    let free = async {
        until("warnings", async || warnings(&key, "comes back by itself") >= 2).await;
        assert!(steps.compensate(&key, async |_| Ok(())).await.is_err());
        busy.commit().await.unwrap();
    };
    within(async { tokio::join!(committed, free) }).await.0.unwrap();
    assert_eq!(base.count("done").await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_opened_anew_has_its_markers() {
    let base = Sqlite::open().await;
    let key = fresh_key();
    for output in ["first", "second"] {
        let file = SqliteConnectOptions::new().filename(base.folder.path().join("file"));
        let steps = SqliteSteps::standalone(SqlitePool::connect_lazy_with(file)).await.unwrap();
        let effect = async |connection: &mut SqliteConnection| {
            Sqlite::affect(connection, "done").await?;
            Ok(output.to_owned())
        };
        assert_eq!(within(steps.commit(&key, effect)).await.unwrap(), "first");
        steps.pool().close().await;
    }
    assert_eq!(base.count("done").await, 1);
}
