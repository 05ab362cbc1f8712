//! The two databases as the contract sees them: a table of effects, and steps on it.

use std::sync::Arc;

use accompanist::contract::BoxFuture;
use accompanist::prelude::IdempotencyKey;
use accompanist::sql::{PostgresSteps, SqlDatabase, SqlSteps, SqliteSteps};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};
use sqlx::{Database, PgConnection, SqliteConnection, query, query_scalar, raw_sql};
use tempfile::TempDir;

use crate::server::Server;

pub type Connected<B> = <<B as Backend>::Db as Database>::Connection;

/// A database of one test alone.
pub trait Backend: Send + Sync + 'static {
    type Db: SqlDatabase;

    fn steps(&self) -> SqlSteps<Self::Db>;

    /// Runs a statement inside of a step.
    fn run<'c>(connection: &'c mut Connected<Self>, statement: &'static str) -> BoxFuture<'c, sqlx::Result<()>>;

    /// Has an effect of that name; effects are counted.
    fn affect<'c>(connection: &'c mut Connected<Self>, name: &'c str) -> BoxFuture<'c, sqlx::Result<()>>;

    /// How many effects of that name there are.
    fn count<'a>(&'a self, name: &'a str) -> BoxFuture<'a, i64>;

    /// Runs a statement outside of all steps.
    fn run_outside(&self, statement: &'static str) -> BoxFuture<'_, ()>;

    /// From now on no marker can be written any more, only claimed.
    const FORBID: &'static str;
    /// As before.
    const ALLOW: &'static str;

    /// Makes a marker look old.
    fn let_age<'a>(&'a self, key: &'a IdempotencyKey) -> BoxFuture<'a, ()>;
}

pub struct Postgres {
    pub server: Arc<Server>,
    steps: PostgresSteps,
}

impl Postgres {
    /// On the shared server; nothing if it is not installed.
    pub async fn open() -> Option<Self> {
        Some(Self::on(Server::shared().await?).await)
    }

    pub async fn on(server: Arc<Server>) -> Self {
        let steps = PostgresSteps::standalone(server.database().await).await.unwrap();
        raw_sql(EFFECTS).execute(steps.pool()).await.unwrap();
        Self { server, steps }
    }
}

pub struct Sqlite {
    pub folder: TempDir,
    steps: SqliteSteps,
}

impl Sqlite {
    pub async fn open() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = SqliteConnectOptions::new().filename(folder.path().join("file")).create_if_missing(true);
        let pool = SqlitePoolOptions::new().max_connections(10).connect_lazy_with(file);
        let steps = SqliteSteps::standalone(pool).await.unwrap();
        raw_sql(EFFECTS).execute(steps.pool()).await.unwrap();
        Self { folder, steps }
    }
}

const EFFECTS: &str = "
    CREATE TABLE effects (name TEXT NOT NULL);
    CREATE TABLE once (name TEXT PRIMARY KEY);
";

macro_rules! backend {
    ($backend:ident, $connection:ident, $old:literal, $forbid:literal, $allow:literal) => {
        impl Backend for $backend {
            type Db = sqlx::$backend;
            const FORBID: &'static str = $forbid;
            const ALLOW: &'static str = $allow;
            fn steps(&self) -> SqlSteps<Self::Db> {
                self.steps.clone()
            }
            fn run<'c>(connection: &'c mut $connection, statement: &'static str) -> BoxFuture<'c, sqlx::Result<()>> {
                Box::pin(async move { raw_sql(statement).execute(connection).await.map(|_| ()) })
            }
            fn affect<'c>(connection: &'c mut $connection, name: &'c str) -> BoxFuture<'c, sqlx::Result<()>> {
                let affect = query("INSERT INTO effects (name) VALUES ($1)").bind(name);
                Box::pin(async move { affect.execute(connection).await.map(|_| ()) })
            }
            fn count<'a>(&'a self, name: &'a str) -> BoxFuture<'a, i64> {
                let count = query_scalar("SELECT COUNT(*) FROM effects WHERE name = $1").bind(name);
                Box::pin(async move { count.fetch_one(self.steps.pool()).await.unwrap() })
            }
            fn run_outside(&self, statement: &'static str) -> BoxFuture<'_, ()> {
                Box::pin(async move {
                    raw_sql(statement).execute(self.steps.pool()).await.unwrap();
                })
            }
            fn let_age<'a>(&'a self, key: &'a IdempotencyKey) -> BoxFuture<'a, ()> {
                let age = query(concat!("UPDATE accompanist_steps SET written_at = ", $old, " WHERE key = $1"));
                let age = age.bind(key.to_string());
                Box::pin(async move { assert_eq!(age.execute(self.steps.pool()).await.unwrap().rows_affected(), 1) })
            }
        }
    };
}
backend!(
    Postgres,
    PgConnection,
    "now() - interval '1 hour'",
    "CREATE FUNCTION forbid() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'forbidden'; END $$;
     CREATE TRIGGER forbid BEFORE UPDATE ON accompanist_steps FOR EACH ROW
     WHEN (NEW.state <> OLD.state) EXECUTE FUNCTION forbid()",
    "DROP TRIGGER forbid ON accompanist_steps"
);
backend!(
    Sqlite,
    SqliteConnection,
    "unixepoch() - 3600",
    "CREATE TRIGGER forbid BEFORE UPDATE ON accompanist_steps WHEN NEW.state <> OLD.state
     BEGIN SELECT RAISE(ABORT, 'forbidden'); END",
    "DROP TRIGGER forbid"
);
