//! What is asked of a database that keeps markers.
//!
//! Knows no database. Next: `postgres.rs` and `sqlite.rs`, which answer.

use std::time::Duration;

use accompanist_core::contract::BoxFuture;
use sqlx::{Database, Pool, Transaction};

use super::marker::Marker;
use super::pin::Pin;
use super::trouble::Trouble;

/// The most markers that are deleted in one transaction: its locks are short, and nobody waits long for it.
pub(super) const FORGET_BATCH: i64 = 1_000;

/// A database that steps can run on: `sqlx::Postgres` or `sqlx::Sqlite`, by the features of the crate.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no database for steps",
    label = "expected `sqlx::Postgres` (feature `postgres`) or `sqlx::Sqlite` (feature `sqlite`)"
)]
pub trait SqlDatabase: Markers {}
impl<DB: Markers> SqlDatabase for DB {}

/// A claimed marker, if its step has run before, and what the markers are pinned with.
pub(super) type Claimed = (Option<Marker>, Option<Vec<u8>>);

/// The table of markers.
pub trait Markers: Database {
    /// Makes the table.
    const SCHEMA: &str;

    /// Makes the table if there is none.
    fn prepare(pool: &Pool<Self>) -> BoxFuture<'_, sqlx::Result<()>>;

    /// Whether the table is there.
    fn has_table(pool: &Pool<Self>) -> BoxFuture<'_, sqlx::Result<bool>>;

    /// What is in the row of a pin; nothing if that is not there, or the table is not.
    fn pinned<'a>(pool: &'a Pool<Self>, key: &'a str) -> BoxFuture<'a, sqlx::Result<Option<Vec<u8>>>>;

    /// Pins the markers, in a table that is made if there is none and `makes_table` is set.
    fn pin<'a>(pool: &'a Pool<Self>, pin: &'a Pin, makes_table: bool) -> BoxFuture<'a, sqlx::Result<()>>;

    /// Begins a transaction that may write, and waits for each lock that long at most, where the database can tell.
    fn begin(
        connection: &mut Self::Connection,
        lock_wait_max: Duration,
    ) -> BoxFuture<'_, sqlx::Result<Transaction<'_, Self>>>;

    /// Gives the marker of `key`, or makes one; and what is in the row of the pin. Waits until no other transaction holds
    /// the marker; then this one does.
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

    /// Deletes up to [`FORGET_BATCH`] markers that were written longer than that ago.
    fn forget(pool: &Pool<Self>, age_s: i64) -> BoxFuture<'_, sqlx::Result<u64>>;

    /// What an error code of this database means.
    fn trouble(code: &str) -> Trouble;
}

/// A claimed marker was written, as far as `rows` tells.
pub(super) fn one_row(rows: u64) -> sqlx::Result<()> {
    if rows == 1 {
        return Ok(());
    }
    Err(sqlx::Error::Protocol("the effect of a step has ended the transaction that it runs in".into()))
}
