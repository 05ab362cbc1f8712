//! The requirements on a database that stores markers.
//!
//! This module knows no particular database. Next: `postgres.rs` and `sqlite.rs`, which implement it.

use std::time::Duration;

use accompanist_core::contract::BoxFuture;
use sqlx::{Database, Pool, Transaction};

use super::error_class::ErrorClass;
use super::marker::Marker;
use super::pin::Pin;

/// The most markers that are deleted in one transaction: its locks are short, and nobody waits long for it.
pub(super) const FORGET_BATCH: i64 = 1_000;

/// A database that steps can run on: `sqlx::Postgres` or `sqlx::Sqlite`, depending on the features of the crate.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no database for steps",
    label = "expected `sqlx::Postgres` (feature `postgres`) or `sqlx::Sqlite` (feature `sqlite`)"
)]
pub trait SqlDatabase: Markers {}
impl<DB: Markers> SqlDatabase for DB {}

/// A claimed marker, if its step has run before, and the contents of the pin's row.
pub(super) type Claimed = (Option<Marker>, Option<Vec<u8>>);

/// The table of markers.
pub trait Markers: Database {
    /// The statements that create the table.
    const SCHEMA: &str;

    /// Creates the table if there is none.
    fn prepare(pool: &Pool<Self>) -> BoxFuture<'_, sqlx::Result<()>>;

    /// Whether the table exists.
    fn has_table(pool: &Pool<Self>) -> BoxFuture<'_, sqlx::Result<bool>>;

    /// Returns the contents of a pin's row; `None` if the row or the table does not exist.
    fn pinned<'a>(pool: &'a Pool<Self>, key: &'a str) -> BoxFuture<'a, sqlx::Result<Option<Vec<u8>>>>;

    /// Pins the markers. If there is no table, it is created if `makes_table` is set.
    fn pin<'a>(pool: &'a Pool<Self>, pin: &'a Pin, makes_table: bool) -> BoxFuture<'a, sqlx::Result<()>>;

    /// Begins a transaction that may write. The transaction waits for each lock at most `lock_wait_max`, where the
    /// database supports this.
    fn begin(
        connection: &mut Self::Connection,
        lock_wait_max: Duration,
    ) -> BoxFuture<'_, sqlx::Result<Transaction<'_, Self>>>;

    /// Returns the marker of `key`, or creates one; also returns the contents of the pin's row. Waits until no other
    /// transaction holds the marker; then this one does.
    fn claim<'a>(
        connection: &'a mut Self::Connection,
        key: &'a str,
        pin: &'a str,
    ) -> BoxFuture<'a, sqlx::Result<Claimed>>;

    /// Writes the claimed marker.
    fn record<'a>(
        connection: &'a mut Self::Connection,
        key: &'a str,
        marker: &'a Marker,
    ) -> BoxFuture<'a, sqlx::Result<()>>;

    /// Deletes up to [`FORGET_BATCH`] markers that were written more than `age_s` seconds ago.
    fn forget(pool: &Pool<Self>, age_s: i64) -> BoxFuture<'_, sqlx::Result<u64>>;

    /// Classifies an error code of this database.
    fn trouble(code: &str) -> ErrorClass;
}

/// Checks, by the number of `rows`, that a claimed marker was written.
pub(super) fn one_row(rows: u64) -> sqlx::Result<()> {
    if rows == 1 {
        return Ok(());
    }
    Err(sqlx::Error::Protocol("the effect of a step has ended the transaction that it runs in".into()))
}
