//! Steps on an external database: the marker of a step is in the same database transaction as its effect.
//!
//! The runtime may retry a commit or a compensation after a crash, always under the step's own idempotency key.
//! [`SqlSteps`] stores one row per key, the marker, and writes it in the transaction that contains the effect. Either
//! both are present or neither is, and a second try finds the first one's result. Available with the features
//! `postgres` and `sqlite`. This module knows nothing of nodes, sessions or stores. Next: `steps.rs`.
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
//! `sqlx` is version 0.9; whether it uses TLS depends on the features that your own `Cargo.toml` enables.
//!
//! # Lost markers
//!
//! The runtime compensates only what it has recorded as committed. A compensation that finds no marker therefore does
//! not mean "nothing to do": its step needs an operator
//! ([`Operator::troubled_sessions`](crate::Operator::troubled_sessions) lists it). Each start of a node also pins the
//! table of markers with a separate row, which the node's store remembers. A table that was emptied, dropped, recreated
//! or restored from an older copy, or another database, is thus detected in two places: at the start (the node does not
//! start, and says what to do) and by each step (a commit stops its session, a compensation needs an operator; nothing
//! is done). The table is created only for a store that has never used one of that name. A database that moves takes
//! its pin along: nothing needs to be configured. Several nodes may share one database; each has a separate pin.
//!
//! # What you owe
//!
//! - A step makes all of its changes through the connection it is given. Anything done elsewhere (a mail, another
//!   database) is not part of the transaction and may be done again.
//! - An effect does not end the transaction itself (`COMMIT`, `ROLLBACK`); savepoints are fine.
//! - Each step calls [`SqlSteps::commit`] once, and all tries of a step use one database: the key is the step's.
//! - The database does not lose what it has committed: no asynchronous commit, no unlogged tables, no fail-over to a
//!   copy that lags behind. A step whose result the runtime has recorded is not tried again.
//! - For `PostgreSQL`: set a bound on how long a session of the database may hang (`tcp_keepalives_idle`,
//!   `idle_in_transaction_session_timeout`), since the next try of a step waits until the previous one has ended.

mod database;
mod error_class;
mod lanes;
mod marker;
mod pin;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "sqlite")]
mod sqlite;
mod steps;

use accompanist_core::Abort;

pub use self::database::SqlDatabase;
pub use self::steps::SqlSteps;

/// Steps on a `PostgreSQL` database.
#[cfg(feature = "postgres")]
pub type PostgresSteps = SqlSteps<sqlx::Postgres>;

/// Steps on an `SQLite` database.
#[cfg(feature = "sqlite")]
pub type SqliteSteps = SqlSteps<sqlx::Sqlite>;

/// The code of the [`Abort`] that refuses a commit after its compensation.
pub const COMPENSATED_BEFORE: &str = "accompanist.compensated-before";

/// The reason why an effect did not succeed. `?` converts both kinds of error: an [`Abort`] and an [`sqlx::Error`].
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum EffectError {
    /// A decision: the step is refused permanently, and its changes are rolled back.
    #[error("{0}")]
    Refused(Abort),
    /// No decision: the step is tried again.
    #[error("{0}")]
    Database(sqlx::Error),
}

accompanist_core::debug_as_text!(EffectError);

// The variants have no sources: their messages contain the sources' texts.
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
