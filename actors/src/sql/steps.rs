//! Steps, each once: claim the marker, have the effect, write the marker, commit; and again after trouble.
//!
//! Knows no database. Next: `marker.rs` and `trouble.rs`, then `database.rs`.

use std::fmt;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use accompanist_core::{Abort, IdempotencyKey, Message, Retry};
use sqlx::Pool;

use super::database::SqlDatabase;
use super::marker::Marker;
use super::pin::{GONE, NO_MARKER, NOBODYS, Owned, Owner, owner};
use super::trouble::{Pauses, Trouble};
use super::{COMPENSATED_BEFORE, EffectError};

/// The most that is asked of a database's clock: beyond it, dates leave the range of some.
const AGE_MAX: Duration = Duration::from_hours(24 * 365 * 100);

/// Carries out the steps of sagas on one database, each once. Clones share the pool.
///
/// How to use it, and what is owed: see the [module](super).
pub struct SqlSteps<DB: SqlDatabase> {
    pool: Pool<DB>,
    /// The same for all clones.
    pub(super) owned: Owned,
    /// The markers that an operator has given up.
    pub(super) given_up: Option<String>,
}

/// Why a try of a step has no result.
enum Failed {
    Refused(Abort),
    Database(sqlx::Error),
    /// Its markers are lost, or not known to be there.
    Lost(&'static str),
}

impl From<EffectError> for Failed {
    fn from(error: EffectError) -> Self {
        match error {
            EffectError::Refused(abort) => Self::Refused(abort),
            EffectError::Database(error) => Self::Database(error),
        }
    }
}

impl From<sqlx::Error> for Failed {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error)
    }
}

impl<DB: SqlDatabase> SqlSteps<DB> {
    /// Steps of a node on the database of `pool`. Give them to its builder, too
    /// ([`NodeBuilder::sql`](crate::NodeBuilder::sql)): its start makes the table `accompanist_steps` if its store has never
    /// used one, and pins it, so that a table that has lost its markers is noticed. Each node has steps of its own.
    ///
    /// The table is the one that an unqualified name finds (in `PostgreSQL`, along the `search_path`). Where the
    /// user of the pool may not make tables, make it beforehand with the statements of [`SqlSteps::schema`]; that
    /// user needs to select, insert, update and delete.
    ///
    /// Every try of a step holds a connection until its end, also while it waits for another one. For `SQLite`, a pool
    /// of one connection lets steps wait in order, instead of finding the file busy.
    pub fn new(pool: Pool<DB>) -> Self {
        Self { pool, owned: Owned::default(), given_up: None }
    }

    /// Steps without a node, for tests and tools. Makes the table if there is none. Nobody notices when its markers are
    /// lost.
    ///
    /// # Errors
    /// When the database cannot be reached, or the table cannot be made.
    pub async fn standalone(pool: Pool<DB>) -> sqlx::Result<Self> {
        DB::prepare(&pool).await?;
        Ok(Self { pool, owned: Owned::new(RwLock::new(Owner::Standalone)), given_up: None })
    }

    /// Gives up the markers that this node's store has used before, since they are lost for good. The start of a node that
    /// does not find them says with which `token`; once they are given up, this changes nothing any more. From then on steps
    /// that were running run again, and each compensation without a marker needs an operator.
    #[must_use]
    pub fn give_up_markers(mut self, token: impl Into<String>) -> Self {
        self.given_up = Some(token.into());
        self
    }

    /// The statements that make the table, for those who make their tables themselves.
    pub fn schema() -> &'static str {
        DB::SCHEMA
    }

    /// What tells these steps from others, and not from their clones.
    pub(crate) fn identity(&self) -> usize {
        Arc::as_ptr(&self.owned).addr()
    }

    /// The pool, for reads and for work that belongs to no step. What an effect does through it is not part of the
    /// step, and may wait for ever for a connection that the step itself holds.
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
            // Boxed: what the drivers keep over a wait is large, and would be part of every program that takes such a step.
            match Box::pin(self.try_commit(&key, effect.clone())).await {
                Ok(result) => return result,
                Err(Failed::Refused(abort)) => return Err(abort),
                Err(Failed::Lost(reason)) => return Err(Abort::failure(reason)),
                Err(Failed::Database(error)) => {
                    let trouble = Trouble::of::<DB>(&error);
                    tracing::warn!(%key, %error, "a commit did not come to a result and is tried again; {}", trouble.advice());
                    tokio::time::sleep(pauses.next()).await;
                }
            }
        }
    }

    /// Takes back with `effect` what was committed under `key`, once.
    ///
    /// Promised: effect and marker become durable together or not at all; further calls do nothing. If the step was
    /// refused, `effect` does not run.
    ///
    /// The runtime compensates only what it has recorded as committed. So a marker that is not there is lost: nothing is
    /// done, and the step needs an operator at once.
    ///
    /// # Errors
    /// [`Retry`] for any trouble, an `Abort` of `effect` included; it is logged, too, and the runtime calls again, but for
    /// markers that are lost ([`Retry::needs_operator`]).
    pub async fn compensate(
        &self,
        key: &IdempotencyKey,
        effect: impl AsyncFnOnce(&mut DB::Connection) -> Result<(), EffectError>,
    ) -> Result<(), Retry> {
        let key = key.to_string();
        let (error, advice) = match Box::pin(self.try_compensate(&key, effect)).await {
            Ok(()) => return Ok(()),
            Err(Failed::Lost(reason)) => return Err(Retry::needs_operator(reason)),
            Err(Failed::Refused(abort)) => (abort.to_string(), "a compensation cannot be refused"),
            Err(Failed::Database(error)) => (error.to_string(), Trouble::of::<DB>(&error).advice()),
        };
        tracing::warn!(%key, error, "a compensation did not succeed and is tried again; {advice}");
        Err(Retry::new(error))
    }

    /// Deletes the markers that were last written longer than `age` ago, by the clock of the database, and says how
    /// many there were. It works in small transactions; one that fails leaves the earlier ones done.
    ///
    /// # When it is safe
    /// A marker is needed until its session is closed at this role: without it a repeated commit takes effect again, and a
    /// compensation needs an operator.
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
    ) -> Result<Result<T, Abort>, Failed> {
        let committed = self.transact(async |connection| {
            if let Some(marker) = self.claim(&mut *connection, key).await? {
                return Ok(known(&marker)?);
            }
            let output = effect(&mut *connection).await?;
            // Rolled back and refused: another try would not get further, and what cannot be kept cannot be taken back.
            let unkept = |error: sqlx::Error| Abort::new(Abort::NOT_ENCODABLE, error.to_string());
            let marker = Marker::committed(&output).map_err(|error| EffectError::Refused(unkept(error)))?;
            DB::record(connection, key, &marker).await?;
            Ok(Ok(output))
        });
        match committed.await {
            Err(Failed::Refused(abort)) => self.refuse(key, abort).await,
            committed => committed,
        }
    }

    /// Claims the marker of `key`, in the table that the node has pinned.
    async fn claim(&self, connection: &mut DB::Connection, key: &str) -> Result<Option<Marker>, Failed> {
        match owner(&self.owned) {
            Owner::Nobody => Err(Failed::Lost(NOBODYS)),
            Owner::Standalone => Ok(DB::claim(connection, key, "").await?.0),
            Owner::Node(pin) => match DB::claim(connection, key, &pin.key).await? {
                (marker, Some(life)) if life == pin.life => Ok(marker),
                _ => Err(Failed::Lost(GONE)),
            },
        }
    }

    /// Does `work` in a transaction, which is rolled back if it fails. A connection whose transaction does not end as it
    /// should (the effect has ended it, say) is closed: nobody else could work with it.
    async fn transact<T>(&self, work: impl AsyncFnOnce(&mut DB::Connection) -> Result<T, Failed>) -> Result<T, Failed> {
        let mut connection = self.pool.acquire().await?;
        let (result, is_usable) = transact::<DB, T>(&mut connection, work).await;
        if !is_usable {
            connection.close_on_drop();
        }
        drop(connection);
        match result {
            Err(Failed::Database(error))
                if Trouble::of::<DB>(&error) == Trouble::Database && self.lacks_table().await =>
            {
                Err(Failed::Lost(GONE))
            }
            result => result,
        }
    }

    /// Whether the table that the node has pinned is gone.
    async fn lacks_table(&self) -> bool {
        matches!(owner(&self.owned), Owner::Node(_)) && DB::has_table(&self.pool).await.is_ok_and(|there| !there)
    }

    /// Records a refusal whose changes have been rolled back, unless another try was faster: then that one counts.
    async fn refuse<T: Message>(&self, key: &str, abort: Abort) -> Result<Result<T, Abort>, Failed> {
        let recorded = self.transact(async |connection| {
            if let Some(marker) = self.claim(&mut *connection, key).await? {
                return Ok(known(&marker)?);
            }
            DB::record(connection, key, &Marker::refused(&abort)?).await?;
            Ok(Err(abort))
        });
        recorded.await
    }

    async fn try_compensate(
        &self,
        key: &str,
        effect: impl AsyncFnOnce(&mut DB::Connection) -> Result<(), EffectError>,
    ) -> Result<(), Failed> {
        let compensated = self.transact(async |connection| {
            match self.claim(&mut *connection, key).await? {
                Some(Marker::Refused(_) | Marker::Compensated) => return Ok(()),
                Some(Marker::Committed(_)) => effect(&mut *connection).await?,
                None => return Err(Failed::Lost(NO_MARKER)),
            }
            Ok(DB::record(connection, key, &Marker::Compensated).await?)
        });
        compensated.await
    }
}

/// Does `work` in a transaction on this connection; gives its result, and whether the connection is as it was before.
async fn transact<DB: SqlDatabase, T>(
    connection: &mut DB::Connection,
    work: impl AsyncFnOnce(&mut DB::Connection) -> Result<T, Failed>,
) -> (Result<T, Failed>, bool) {
    let mut transaction = match DB::begin(connection).await {
        Ok(transaction) => transaction,
        Err(error) => return (Err(error.into()), false),
    };
    let result = work(&mut transaction).await;
    let ended = if result.is_ok() { transaction.commit().await } else { transaction.rollback().await };
    let is_usable = ended.is_ok();
    (result.and_then(|value| Ok(ended.map(|()| value)?)), is_usable)
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
        Self { pool: self.pool.clone(), owned: self.owned.clone(), given_up: self.given_up.clone() }
    }
}

impl<DB: SqlDatabase> fmt::Debug for SqlSteps<DB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SqlSteps")
    }
}
