//! The book of a service outside: effects in `SQLite`, each with the idempotency key it came with.
//!
//! What a service owes whose callers repeat their calls: the key becomes durable with the effect, under a key it
//! happens once, and what was compensated (also before it came) is not done any more.

use std::path::Path;

use anyhow::Context as _;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};

const SCHEMA: &str = "CREATE TABLE IF NOT EXISTS effects (
    number INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, effect TEXT NOT NULL, subject TEXT NOT NULL,
    undone INTEGER NOT NULL) STRICT;";

/// Opens a database of an example: one connection, and a sync before anything is acknowledged.
///
/// # Errors
/// When the file cannot be used.
pub async fn open_database(file: &Path, schema: &'static str) -> anyhow::Result<SqlitePool> {
    let options = SqliteConnectOptions::new()
        .filename(file)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full);
    let pool = SqlitePoolOptions::new().max_connections(1).connect_with(options).await;
    let pool = pool.with_context(|| format!("the database {} cannot be used", file.display()))?;
    sqlx::raw_sql(schema).execute(&pool).await?;
    Ok(pool)
}

/// One line of a book.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effect {
    /// The idempotency key.
    pub key: String,
    /// What was done.
    pub effect: String,
    /// To what.
    pub subject: String,
    /// Whether it was compensated.
    pub undone: bool,
}

/// See the module's documentation.
#[derive(Debug, Clone)]
pub struct Book(SqlitePool);

impl Book {
    /// Opens or makes the book in `file`.
    ///
    /// # Errors
    /// When the file cannot be used.
    pub async fn open(file: &Path) -> anyhow::Result<Self> {
        Ok(Self(open_database(file, SCHEMA).await?))
    }

    /// Notes an effect, once for each key, and gives its number; `None` when it was compensated before.
    ///
    /// # Errors
    /// When the database fails: it may have been noted, or not. The same call says which.
    pub async fn commit(&self, effect: &str, key: &str, subject: &str) -> sqlx::Result<Option<i64>> {
        let (number, undone) = self.note(effect, key, subject, false).await?;
        Ok((!undone).then_some(number))
    }

    /// Notes that it is compensated, also if it has not come yet.
    ///
    /// # Errors
    /// As [`Book::commit`].
    pub async fn undo(&self, effect: &str, key: &str, subject: &str) -> sqlx::Result<i64> {
        Ok(self.note(effect, key, subject, true).await?.0)
    }

    async fn note(&self, effect: &str, key: &str, subject: &str, undone: bool) -> sqlx::Result<(i64, bool)> {
        let mut transaction = self.0.begin_with("BEGIN IMMEDIATE").await?;
        let insert =
            "INSERT INTO effects (key, effect, subject, undone) VALUES (?, ?, ?, ?) ON CONFLICT (key) DO NOTHING";
        sqlx::query(insert).bind(key).bind(effect).bind(subject).bind(undone).execute(&mut *transaction).await?;
        if undone {
            sqlx::query("UPDATE effects SET undone = 1 WHERE key = ?").bind(key).execute(&mut *transaction).await?;
        }
        let select = sqlx::query_as("SELECT number, undone FROM effects WHERE key = ?");
        let noted = select.bind(key).fetch_one(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(noted)
    }

    /// All of it, in order.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn read(&self) -> sqlx::Result<Vec<Effect>> {
        let rows = sqlx::query_as("SELECT key, effect, subject, undone FROM effects ORDER BY number");
        let rows: Vec<(String, String, String, bool)> = rows.fetch_all(&self.0).await?;
        let effect = |(key, effect, subject, undone)| Effect { key, effect, subject, undone };
        Ok(rows.into_iter().map(effect).collect())
    }
}
