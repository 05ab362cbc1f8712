//! Markers in `PostgreSQL`.
//!
//! This module knows SQL and error codes, but not when they are used. Next: `sqlite.rs`, the same for `SQLite`.

use std::time::Duration;

use accompanist_core::contract::BoxFuture;
use sqlx::{
    AssertSqlSafe, Connection, PgConnection, Pool, Postgres, Transaction, query, query_as, query_scalar, raw_sql,
};

use super::database::{Claimed, FORGET_BATCH, Markers, one_row};
use super::error_class::ErrorClass;
use super::marker::Marker;
use super::pin::Pin;

/// The advisory lock held while the table is created: if two processes run `CREATE .. IF NOT EXISTS` at once, it
/// fails in one of them.
const SCHEMA_LOCK: i64 = 0x6163_636f_6d70_616e;

const HAS_TABLE: &str = "SELECT to_regclass('accompanist_steps') IS NOT NULL";

/// An existing row is locked and returned as it is; one left in the state `claimed` is nobody's, and becomes
/// `abandoned`.
const CLAIM: &str = "
    INSERT INTO accompanist_steps (key, state) VALUES ($1, 'claimed')
    ON CONFLICT (key) DO UPDATE SET state =
        CASE accompanist_steps.state WHEN 'claimed' THEN 'abandoned' ELSE accompanist_steps.state END
    RETURNING state, result,
        (SELECT pin.result FROM accompanist_steps pin WHERE pin.key = $2 AND pin.state = 'store')";

const PINNED: &str = "SELECT result FROM accompanist_steps WHERE key = $1 AND state = 'store'";

const PIN: &str = "
    INSERT INTO accompanist_steps (key, state, result) VALUES ($1, 'store', $2)
    ON CONFLICT (key) DO UPDATE SET result = excluded.result, written_at = now()";

const RECORD: &str = "
    UPDATE accompanist_steps SET state = $2, result = COALESCE($3, result), written_at = now() WHERE key = $1";

/// The age is checked twice, since a marker may be written while this statement waits for it.
const FORGET: &str = "
    DELETE FROM accompanist_steps WHERE written_at < now() - make_interval(secs => $1) AND key IN (
        SELECT key FROM accompanist_steps WHERE state <> 'store' AND written_at < now() - make_interval(secs => $1)
        ORDER BY written_at LIMIT $2)";

impl Markers for Postgres {
    const SCHEMA: &str = "
        CREATE TABLE IF NOT EXISTS accompanist_steps (
            key TEXT PRIMARY KEY,
            state TEXT NOT NULL,
            result BYTEA,
            written_at TIMESTAMPTZ NOT NULL DEFAULT now());
        CREATE INDEX IF NOT EXISTS accompanist_steps_written_at ON accompanist_steps (written_at);
    ";

    fn prepare(pool: &Pool<Self>) -> BoxFuture<'_, sqlx::Result<()>> {
        Box::pin(async move {
            let mut transaction = pool.begin().await?;
            query("SELECT pg_advisory_xact_lock($1)").bind(SCHEMA_LOCK).execute(&mut *transaction).await?;
            // Check first: a user who may not create tables may not run `CREATE .. IF NOT EXISTS` for an existing one
            // either.
            let there: bool = query_scalar(HAS_TABLE).fetch_one(&mut *transaction).await?;
            if !there {
                raw_sql(Self::SCHEMA).execute(&mut *transaction).await?;
            }
            transaction.commit().await
        })
    }

    fn begin(
        connection: &mut PgConnection,
        lock_wait_max: Duration,
    ) -> BoxFuture<'_, sqlx::Result<Transaction<'_, Self>>> {
        // Sent as one message, to save a round trip.
        let begin = format!("BEGIN; SET LOCAL lock_timeout = {}", lock_wait_max.as_millis().max(1));
        Box::pin(connection.begin_with(AssertSqlSafe(begin)))
    }

    fn claim<'a>(connection: &'a mut PgConnection, key: &'a str, pin: &'a str) -> BoxFuture<'a, sqlx::Result<Claimed>> {
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
        connection: &'a mut PgConnection,
        key: &'a str,
        marker: &'a Marker,
    ) -> BoxFuture<'a, sqlx::Result<()>> {
        let (state, result) = marker.columns();
        let record = query(RECORD).bind(key).bind(state).bind(result);
        Box::pin(async move { one_row(record.execute(connection).await?.rows_affected()) })
    }

    fn forget(pool: &Pool<Self>, age_s: i64) -> BoxFuture<'_, sqlx::Result<u64>> {
        #[expect(clippy::cast_precision_loss, reason = "an age in whole seconds is far below 2^52")]
        let forget = query(FORGET).bind(age_s as f64).bind(FORGET_BATCH);
        Box::pin(async move { Ok(forget.execute(pool).await?.rows_affected()) })
    }

    /// Classifies by the class of the `SQLSTATE`.
    fn trouble(code: &str) -> ErrorClass {
        match (code.get(..2).unwrap_or_default(), code) {
            (_, "55P03") => ErrorClass::Locked,
            (_, "25P02") => ErrorClass::Swallowed,
            // Lost or refused connections, conflicts, no space, shutdown, time-outs, internal errors.
            ("08" | "40" | "53" | "55" | "57" | "58" | "XX", _) | (_, "25P03" | "25P04") => ErrorClass::Passing,
            ("23", _) => ErrorClass::Constraint,
            ("28" | "42" | "3D" | "3F", _) | (_, "25006") => ErrorClass::Database,
            _ => ErrorClass::Effect,
        }
    }
}
