//! Steps on a database outside: the marker of a step in the same database transaction as its effect.
//!
//! The runtime may try a commit or a compensation again after a crash, always under the step's own idempotency
//! key. [`SqlSteps`] keeps one row per key, the marker, and writes it in the transaction that holds the effect: so
//! either both are there or neither, and a second try finds the first one's result. Behind the features `postgres`
//! and `sqlite`. Knows nothing of nodes, sessions or stores. Next: `marker.rs`, `trouble.rs`, then one file per
//! database.
//!
//! # A step
//!
//! ```no_run
//! # #[cfg(feature = "postgres")] mod example {
//! use accompanist::prelude::*;
//! use accompanist::sql::PostgresSteps;
//! use sqlx::{PgConnection, PgPool, query, query_scalar};
//!
//! #[derive(Clone, Copy)]
//! struct Bank;
//! impl Role for Bank {
//!     const NAME: &'static str = "bank";
//!     type Service = PostgresSteps;
//! }
//!
//! struct Charge;
//! impl Transaction for Charge {
//!     const NAME: &'static str = "charge";
//!     type Role = Bank;
//!     type Input = (String, i64); // Account and amount.
//!     type Output = i64; // What is left.
//!
//!     async fn commit(&self, here: &Local<Bank>, (account, amount): &Self::Input) -> Result<i64, Abort> {
//!         let charge = async |database: &mut PgConnection| {
//!             let charge = "UPDATE accounts SET amount = amount - $2 WHERE id = $1 RETURNING amount";
//!             let left: i64 = query_scalar(charge).bind(account).bind(amount).fetch_one(database).await?;
//!             if left < 0 {
//!                 return Err(Abort::new("no-cover", "not enough on the account").into()); // Changes nothing.
//!             }
//!             Ok(left)
//!         };
//!         here.service().commit(here.key(), charge).await
//!     }
//!
//!     async fn compensate(&self, here: &Local<Bank>, (account, amount): &Self::Input, _: &i64) -> Result<(), Retry> {
//!         let refund = async |database: &mut PgConnection| {
//!             let refund = "UPDATE accounts SET amount = amount + $2 WHERE id = $1";
//!             query(refund).bind(account).bind(amount).execute(database).await?;
//!             Ok(())
//!         };
//!         here.service().compensate(here.key(), refund).await
//!     }
//! }
//!
//! async fn service() -> sqlx::Result<PostgresSteps> {
//!     PostgresSteps::new(PgPool::connect("postgres://bank@database/bank").await?).await
//! }
//! # }
//! ```
//!
//! # What you owe
//!
//! - All that a step changes, it changes through the connection it is given. What is done elsewhere (a mail, another
//!   database) is not part of the transaction and may be done again.
//! - An effect does not end the transaction itself (`COMMIT`, `ROLLBACK`); savepoints are fine.
//! - One call of [`SqlSteps::commit`] per step, and one database for all tries of a step: the key is the step's.
//! - The database keeps what it has committed: no asynchronous commit, no unlogged tables, no fail-over to a copy that
//!   lags behind. A step whose result the runtime has recorded is not tried again.
//! - For `PostgreSQL`: a bound on how long a session of the database may hang (`tcp_keepalives_idle`,
//!   `idle_in_transaction_session_timeout`), since the next try of a step waits until the one before has ended.

mod database;
mod marker;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "sqlite")]
mod sqlite;
mod trouble;

use std::fmt;
use std::time::Duration;

use accompanist_core::{Abort, IdempotencyKey, Message, Retry};
use sqlx::Pool;

pub use self::database::SqlDatabase;
use self::marker::Marker;
use self::trouble::{Pauses, Trouble};

/// Steps on a `PostgreSQL` database.
#[cfg(feature = "postgres")]
pub type PostgresSteps = SqlSteps<sqlx::Postgres>;

/// Steps on an `SQLite` database.
#[cfg(feature = "sqlite")]
pub type SqliteSteps = SqlSteps<sqlx::Sqlite>;

/// The code of the [`Abort`] with which a commit is refused that comes after its compensation.
pub const COMPENSATED_BEFORE: &str = "accompanist.compensated-before";

/// The most that is asked of a database's clock: beyond it, dates leave the range of some.
const AGE_MAX: Duration = Duration::from_hours(24 * 365 * 100);

/// Why an effect did not succeed. Both kinds come out of `?`: an [`Abort`] and an [`sqlx::Error`].
#[derive(Debug, thiserror::Error)]
pub enum EffectError {
    /// A decision: the step is refused, for ever, and what it has changed is rolled back.
    #[error("{0}")]
    Refused(#[from] Abort),
    /// No decision: it is tried again.
    #[error("{0}")]
    Database(#[from] sqlx::Error),
}

/// Carries out the steps of sagas on one database, each once. Clones share the pool.
///
/// How to use it, and what is owed: see the [module](self).
pub struct SqlSteps<DB: SqlDatabase> {
    pool: Pool<DB>,
}

impl<DB: SqlDatabase> SqlSteps<DB> {
    /// Works with the database of `pool`, and makes the table `accompanist_steps` in it if there is none.
    ///
    /// The table is the one that an unqualified name finds (in `PostgreSQL`, along the `search_path`). Where the
    /// user of the pool may not make tables, make it beforehand with the statements of [`SqlSteps::schema`]; that
    /// user needs to select, insert, update and delete.
    ///
    /// # Errors
    /// When the database cannot be reached, or the table cannot be made.
    pub async fn new(pool: Pool<DB>) -> sqlx::Result<Self> {
        DB::prepare(&pool).await?;
        Ok(Self { pool })
    }

    /// The statements that make the table, for those who make their tables themselves.
    pub fn schema() -> &'static str {
        DB::SCHEMA
    }

    /// The pool, for reads and for work that belongs to no step.
    pub fn pool(&self) -> &Pool<DB> {
        &self.pool
    }

    /// Does `effect` once under `key`, and gives its result on this and on every later call.
    ///
    /// Promised: effect and marker become durable together or not at all. Tries of one key run one after the other,
    /// over all processes. A refusal is kept too: its changes are rolled back, and later calls give the same
    /// [`Abort`] without asking again.
    ///
    /// Trouble with the database is no decision. It is logged as a warning that says what to do, and everything is
    /// tried again with growing pauses of up to ten seconds, until there is a result: so `effect` may run more than
    /// once, though only one run of it is kept. If trouble of one kind is a refusal, as a violated constraint may
    /// be, then say so: turn that error into an `Abort` inside of `effect`.
    ///
    /// When this is dropped before it has ended, it was either done or not, as a later call finds out.
    ///
    /// # Errors
    /// The `Abort` that `effect` gave, or gave before; or one with the code [`COMPENSATED_BEFORE`] if
    /// [`SqlSteps::compensate`] was called with this key before.
    pub async fn commit<T: Message>(
        &self,
        key: &IdempotencyKey,
        effect: impl AsyncFnOnce(&mut DB::Connection) -> Result<T, EffectError> + Clone,
    ) -> Result<T, Abort> {
        let key = key.to_string();
        let mut pauses = Pauses::new();
        loop {
            match self.try_commit(&key, effect.clone()).await {
                Ok(result) => return result,
                Err(error) => {
                    let trouble = Trouble::of::<DB>(&error);
                    tracing::warn!(%key, %error, "a commit did not come to a result and is tried again; {}", trouble.advice());
                    tokio::time::sleep(pauses.next()).await;
                }
            }
        }
    }

    /// Takes back with `effect` what was committed under `key`, once.
    ///
    /// Promised: effect and marker become durable together or not at all; further calls do nothing. If nothing was
    /// committed (not yet, or it was refused), `effect` does not run, and a commit that comes later is refused.
    ///
    /// # Errors
    /// [`Retry`] for any trouble, an `Abort` of `effect` included: nothing has changed, and the runtime calls again.
    pub async fn compensate(
        &self,
        key: &IdempotencyKey,
        effect: impl AsyncFnOnce(&mut DB::Connection) -> Result<(), EffectError>,
    ) -> Result<(), Retry> {
        let key = key.to_string();
        self.try_compensate(&key, effect).await.map_err(|error| {
            let advice = match &error {
                EffectError::Refused(_) => "a compensation cannot be refused",
                EffectError::Database(error) => Trouble::of::<DB>(error).advice(),
            };
            tracing::warn!(%key, %error, "a compensation did not succeed and is tried again; {advice}");
            Retry::new(error.to_string())
        })
    }

    /// Deletes the markers that were last written longer than `age` ago, by the clock of the database, and says how
    /// many there were. It works in small transactions; one that fails leaves the earlier ones done.
    ///
    /// # When it is safe
    /// A marker is needed until its session is closed at this role: without it a repeated commit takes effect again.
    /// So `age` must be longer than the longest life of a session, times in which nodes are down or sessions stand
    /// still ([`Node::stopped_sessions`](crate::Node::stopped_sessions)) included. Nothing checks that.
    ///
    /// # Errors
    /// When the database fails. It can be called again.
    pub async fn forget_before(&self, age: Duration) -> sqlx::Result<u64> {
        let age_s = i64::try_from(age.min(AGE_MAX).as_secs()).unwrap_or(i64::MAX);
        let mut forgotten = 0;
        loop {
            match DB::forget(&self.pool, age_s).await? {
                0 => return Ok(forgotten),
                deleted => forgotten += deleted,
            }
        }
    }

    async fn try_commit<T: Message>(
        &self,
        key: &str,
        effect: impl AsyncFnOnce(&mut DB::Connection) -> Result<T, EffectError>,
    ) -> sqlx::Result<Result<T, Abort>> {
        let mut transaction = DB::begin(&self.pool).await?;
        if let Some(marker) = DB::claim(&mut transaction, key).await? {
            return known(&marker);
        }
        match effect(&mut transaction).await {
            Ok(output) => {
                DB::record(&mut transaction, key, &Marker::committed(&output)?).await?;
                transaction.commit().await?;
                Ok(Ok(output))
            }
            Err(EffectError::Refused(abort)) => {
                transaction.rollback().await?;
                self.refuse(key, abort).await
            }
            Err(EffectError::Database(error)) => Err(error),
        }
    }

    /// Records a refusal whose changes have been rolled back, unless another try was faster: then that one counts.
    async fn refuse<T: Message>(&self, key: &str, abort: Abort) -> sqlx::Result<Result<T, Abort>> {
        let mut transaction = DB::begin(&self.pool).await?;
        if let Some(marker) = DB::claim(&mut transaction, key).await? {
            return known(&marker);
        }
        DB::record(&mut transaction, key, &Marker::refused(&abort)?).await?;
        transaction.commit().await?;
        Ok(Err(abort))
    }

    async fn try_compensate(
        &self,
        key: &str,
        effect: impl AsyncFnOnce(&mut DB::Connection) -> Result<(), EffectError>,
    ) -> Result<(), EffectError> {
        let mut transaction = DB::begin(&self.pool).await?;
        match DB::claim(&mut transaction, key).await? {
            Some(Marker::Refused(_) | Marker::Compensated) => return Ok(()),
            Some(Marker::Committed(_)) => effect(&mut transaction).await?,
            None => {}
        }
        DB::record(&mut transaction, key, &Marker::Compensated).await?;
        Ok(transaction.commit().await?)
    }
}

/// What a commit gives whose key has a marker already.
fn known<T: Message>(marker: &Marker) -> sqlx::Result<Result<T, Abort>> {
    Ok(match marker {
        Marker::Committed(output) => Ok(output.decode()?),
        Marker::Refused(abort) => Err(abort.decode()?),
        Marker::Compensated => Err(Abort::new(COMPENSATED_BEFORE, "this step was compensated before it was committed")),
    })
}

impl<DB: SqlDatabase> Clone for SqlSteps<DB> {
    fn clone(&self) -> Self {
        Self { pool: self.pool.clone() }
    }
}

impl<DB: SqlDatabase> fmt::Debug for SqlSteps<DB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SqlSteps")
    }
}
