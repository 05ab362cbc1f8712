//! Markers in `SQLite`.
//!
//! This module knows SQL and error codes, but not when they are used. Next: `postgres.rs`, the same for `PostgreSQL`.

use std::time::Duration;

use accompanist_core::contract::BoxFuture;
use sqlx::{Connection, Pool, Sqlite, SqliteConnection, Transaction, query, query_as, query_scalar, raw_sql};

use super::database::{Claimed, FORGET_BATCH, Markers, one_row};
use super::error_class::ErrorClass;
use super::marker::Marker;
use super::pin::Pin;

/// An existing row is returned as it is; one left in the state `claimed` is nobody's, and becomes `abandoned`.
const CLAIM: &str = "
    INSERT INTO accompanist_steps (key, state) VALUES (?1, 'claimed')
    ON CONFLICT (key) DO UPDATE SET state = CASE state WHEN 'claimed' THEN 'abandoned' ELSE state END
    RETURNING state, result,
        (SELECT pin.result FROM accompanist_steps pin WHERE pin.key = ?2 AND pin.state = 'store')";

const HAS_TABLE: &str = "SELECT COUNT(*) > 0 FROM sqlite_master WHERE type = 'table' AND name = 'accompanist_steps'";

const PINNED: &str = "SELECT result FROM accompanist_steps WHERE key = ?1 AND state = 'store'";

const PIN: &str = "
    INSERT INTO accompanist_steps (key, state, result) VALUES (?1, 'store', ?2)
    ON CONFLICT (key) DO UPDATE SET result = excluded.result, written_at = unixepoch()";

const RECORD: &str = "
    UPDATE accompanist_steps SET state = ?2, result = COALESCE(?3, result), written_at = unixepoch() WHERE key = ?1";

const FORGET: &str = "
    DELETE FROM accompanist_steps WHERE key IN (
        SELECT key FROM accompanist_steps WHERE state <> 'store' AND written_at < unixepoch() - ?1
        ORDER BY written_at LIMIT ?2)";

impl Markers for Sqlite {
    const SCHEMA: &str = "
        CREATE TABLE IF NOT EXISTS accompanist_steps (
            key TEXT PRIMARY KEY,
            state TEXT NOT NULL,
            result BLOB,
            written_at INTEGER NOT NULL DEFAULT (unixepoch())) STRICT, WITHOUT ROWID;
        CREATE INDEX IF NOT EXISTS accompanist_steps_written_at ON accompanist_steps (written_at);
    ";

    fn prepare(pool: &Pool<Self>) -> BoxFuture<'_, sqlx::Result<()>> {
        Box::pin(async move {
            let mut connection = pool.acquire().await?;
            let mut transaction = Self::begin(&mut connection, Duration::ZERO).await?;
            raw_sql(Self::SCHEMA).execute(&mut *transaction).await?;
            transaction.commit().await
        })
    }

    /// Begins a transaction. `SQLite` has one lock for all writes, with a timeout that belongs to the connection
    /// (`busy_timeout`).
    fn begin(
        connection: &mut SqliteConnection,
        _lock_wait_max: Duration,
    ) -> BoxFuture<'_, sqlx::Result<Transaction<'_, Self>>> {
        // A transaction that begins as a reader cannot become a writer while another one writes.
        Box::pin(connection.begin_with("BEGIN IMMEDIATE"))
    }

    fn claim<'a>(
        connection: &'a mut SqliteConnection,
        key: &'a str,
        pin: &'a str,
    ) -> BoxFuture<'a, sqlx::Result<Claimed>> {
        Box::pin(async move {
            let row: (String, _, _) = query_as(CLAIM).bind(key).bind(pin).fetch_one(connection).await?;
            Ok((Marker::claimed((row.0, row.1))?, row.2))
        })
    }

    fn has_table(pool: &Pool<Self>) -> BoxFuture<'_, sqlx::Result<bool>> {
        Box::pin(async move { query_scalar(HAS_TABLE).fetch_one(pool).await })
    }

    fn pinned<'a>(pool: &'a Pool<Self>, key: &'a str) -> BoxFuture<'a, sqlx::Result<Option<Vec<u8>>>> {
        Box::pin(async move {
            if !Self::has_table(pool).await? {
                return Ok(None);
            }
            query_scalar(PINNED).bind(key).fetch_optional(pool).await
        })
    }

    fn pin<'a>(pool: &'a Pool<Self>, pin: &'a Pin, makes_table: bool) -> BoxFuture<'a, sqlx::Result<()>> {
        Box::pin(async move {
            if makes_table {
                Self::prepare(pool).await?;
            }
            query(PIN).bind(&pin.key).bind(&pin.life).execute(pool).await.map(drop)
        })
    }

    fn record<'a>(
        connection: &'a mut SqliteConnection,
        key: &'a str,
        marker: &'a Marker,
    ) -> BoxFuture<'a, sqlx::Result<()>> {
        let (state, result) = marker.columns();
        let record = query(RECORD).bind(key).bind(state).bind(result);
        Box::pin(async move { one_row(record.execute(connection).await?.rows_affected()) })
    }

    fn forget(pool: &Pool<Self>, age_s: i64) -> BoxFuture<'_, sqlx::Result<u64>> {
        let forget = query(FORGET).bind(age_s).bind(FORGET_BATCH);
        Box::pin(async move { Ok(forget.execute(pool).await?.rows_affected()) })
    }

    /// Classifies by the primary result code, the lowest byte.
    fn trouble(code: &str) -> ErrorClass {
        match code.parse().map(|code: i32| code & 0xff) {
            // Busy, locked, no memory, interrupted, a failing or full disk, another process that recovers.
            Ok(5 | 6 | 7 | 9 | 10 | 13 | 15 | 17) => ErrorClass::Passing,
            Ok(19) => ErrorClass::Constraint,
            // A wrong statement or table, no permission, read-only, cannot be opened, damaged.
            Ok(1 | 3 | 8 | 11 | 14 | 23 | 26) => ErrorClass::Database,
            _ => ErrorClass::Effect,
        }
    }
}
