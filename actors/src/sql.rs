//! Steps on a database outside: the marker of a step in the same database transaction as its effect.
//!
//! The runtime may try a commit or a compensation again after a crash, always under the step's own idempotency
//! key. [`SqlSteps`] keeps one row per key, the marker, and writes it in the transaction that holds the effect: so
//! either both are there or neither, and a second try finds the first one's result. Behind the features `postgres`
//! and `sqlite`. Knows nothing of nodes, sessions or stores. Next: `steps.rs`.
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
//! async fn node(builder: accompanist::NodeBuilder) -> Result<Node, Box<dyn std::error::Error>> {
//!     let steps = PostgresSteps::new(PgPool::connect("postgres://bank@database/bank").await?);
//!     Ok(builder.sql("bank", &steps).role(Bank, std::sync::Arc::new(steps)).start().await?)
//! }
//! # }
//! ```
//!
//! `sqlx` is version 0.9; whether it speaks TLS is up to the features that your own `Cargo.toml` gives it.
//!
//! # Markers that are lost
//!
//! The runtime compensates only what it has recorded as committed. So a compensation that finds no marker is not "nothing
//! to do": its step needs an operator ([`Node::troubled_sessions`](crate::Node::troubled_sessions)), who is told so. And
//! each start of a node pins the table of markers with a row of its own, which the node's store remembers: a table that
//! was emptied, dropped, made anew or restored from an older copy, or another database, is noticed at the start (the node
//! does not start, and says what to do) and by each step (a commit stops its session, a compensation needs an operator;
//! nothing is done). The table is made only for a store that has never used one of that name. A database that moves
//! takes its pin with it: nothing is to be said. Several nodes may share one database; each has a pin of its own.
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
mod lanes;
mod marker;
mod pin;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "sqlite")]
mod sqlite;
mod steps;
mod trouble;

use accompanist_core::Abort;

pub use self::database::SqlDatabase;
pub(crate) use self::pin::NamedSteps;
pub use self::steps::SqlSteps;

/// Steps on a `PostgreSQL` database.
#[cfg(feature = "postgres")]
pub type PostgresSteps = SqlSteps<sqlx::Postgres>;

/// Steps on an `SQLite` database.
#[cfg(feature = "sqlite")]
pub type SqliteSteps = SqlSteps<sqlx::Sqlite>;

/// The code of the [`Abort`] with which a commit is refused that comes after its compensation.
pub const COMPENSATED_BEFORE: &str = "accompanist.compensated-before";

/// Why an effect did not succeed. Both kinds come out of `?`: an [`Abort`] and an [`sqlx::Error`].
#[derive(Debug, thiserror::Error)]
pub enum EffectError {
    /// A decision: the step is refused, for ever, and what it has changed is rolled back.
    #[error("{0}")]
    Refused(Abort),
    /// No decision: it is tried again.
    #[error("{0}")]
    Database(sqlx::Error),
}

// No sources: their texts are in these.
impl From<Abort> for EffectError {
    fn from(abort: Abort) -> Self {
        Self::Refused(abort)
    }
}

impl From<sqlx::Error> for EffectError {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error)
    }
}
