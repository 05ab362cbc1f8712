//! Steps, each once: claim the marker, run the effect, write the marker, commit; and retry after trouble.
//!
//! This module knows no particular database. Next: `marker.rs` and `error_class.rs`, then `database.rs`.

use std::fmt;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use accompanist_core::{Abort, IdempotencyKey, Message, Retry, Undecided};
use sqlx::Pool;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::database::SqlDatabase;
use super::error_class::{ErrorClass, Pauses};
use super::lanes::Lanes;
use super::marker::Marker;
use super::pin::{GONE, NO_MARKER, NOBODYS, Owned, Owner, owner};
use super::{COMPENSATED_BEFORE, EffectError};

/// How long a step waits for a permit of [`SqlSteps::at_most`] before it fails and is tried again.
const PERMIT_WAIT_MAX: Duration = Duration::from_secs(5);

/// The greatest age that is passed to a database's clock: beyond it, dates leave the range of some databases.
const AGE_MAX: Duration = Duration::from_hours(24 * 365 * 100);

/// Runs the steps of sagas on one database, each once. Clones share the pool.
///
/// The [module](super) describes how to use it, and what you owe.
pub struct SqlSteps<DB: SqlDatabase> {
    pool: Pool<DB>,
    /// The owner, shared by all clones.
    pub(super) owned: Owned,
    /// The markers that an operator has given up.
    pub(super) given_up: Option<String>,
    lanes: Arc<Lanes>,
    /// How many connections these steps may hold, if there is a bound besides the pool's.
    at_most: Option<Arc<Semaphore>>,
}

/// How far a failed try got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TryStage {
    /// The marker was not claimed: nothing is known of earlier tries.
    Before,
    /// The marker was claimed, so no earlier try has taken effect, and this one is rolled back.
    Claimed,
    /// The transaction was about to be committed, or was ended by the effect: it may have taken effect.
    Ending,
}

/// The reason why a try of a step has no result.
enum Failed {
    Refused(Abort),
    Database(sqlx::Error, TryStage),
    /// The stored result cannot be read, though the step may have taken effect.
    Unreadable(sqlx::Error),
    /// The markers are lost, or not known to be present.
    Lost(String),
    /// The database was not reached since the start of the node, or has no capacity for the step, for this reason.
    Away(String),
}

impl Failed {
    fn claimed(error: sqlx::Error) -> Self {
        // No row could be written, since the effect has ended the transaction.
        let stage = if matches!(error, sqlx::Error::Protocol(_)) { TryStage::Ending } else { TryStage::Claimed };
        Self::Database(error, stage)
    }

    fn claiming(error: sqlx::Error) -> Self {
        match error {
            error @ sqlx::Error::Decode(_) => Self::Unreadable(error),
            error => Self::Database(error, TryStage::Before),
        }
    }
}

impl From<EffectError> for Failed {
    fn from(error: EffectError) -> Self {
        match error {
            EffectError::Refused(abort) => Self::Refused(abort),
            EffectError::Database(error) => Self::claimed(error),
        }
    }
}

impl<DB: SqlDatabase> SqlSteps<DB> {
    /// Creates the steps of a node on the database of `pool`. Also give them to the node's builder
    /// ([`NodeBuilder::sql`](crate::NodeBuilder::sql)): the start of the node creates the table `accompanist_steps`
    /// if its store has never used one, and pins it, so that a table that has lost its markers is detected. Each node
    /// needs separate steps.
    ///
    /// The table is the one that an unqualified name finds (in `PostgreSQL`, along the `search_path`). If the user of
    /// the pool may not create tables, create it beforehand with the statements of [`SqlSteps::schema`]; that user
    /// needs to select, insert, update and delete.
    ///
    /// Every try of a step holds a connection until its end. The try waits for a lock of `PostgreSQL` for a tenth of
    /// a second. If that was not enough, it releases its connection and waits longer the next time. Steps that have
    /// waited before hold at most half of the pool's connections, so one locked row does not stop the steps on
    /// others. For `SQLite`, which has one lock for the whole file, use a pool of one connection: steps then wait in
    /// order, instead of finding the file busy.
    pub fn new(pool: Pool<DB>) -> Self {
        Self::owned_by(pool, Owner::default())
    }

    fn owned_by(pool: Pool<DB>, owner: Owner) -> Self {
        let lanes = Arc::new(Lanes::new(pool.options().get_max_connections()));
        Self { pool, owned: Owned::new(RwLock::new(owner)), given_up: None, lanes, at_most: None }
    }

    /// Returns the same steps with a separate bound: this clone, and its clones, hold at most `connections`
    /// connections of the pool at a time (at least 1). Use it for a kind of steps that may be slow, so that
    /// connections are left for the others.
    #[must_use]
    pub fn at_most(&self, connections: u32) -> Self {
        let permits = usize::try_from(connections).unwrap_or(1).clamp(1, Semaphore::MAX_PERMITS);
        Self { at_most: Some(Arc::new(Semaphore::new(permits))), ..self.clone() }
    }

    /// Creates steps without a node, for tests and tools. Creates the table if there is none. Lost markers are not
    /// detected.
    ///
    /// # Errors
    /// When the database cannot be reached, or the table cannot be created.
    pub async fn standalone(pool: Pool<DB>) -> sqlx::Result<Self> {
        DB::prepare(&pool).await?;
        Ok(Self::owned_by(pool, Owner::Standalone))
    }

    /// Gives up the markers that this node's store has used before, since they are lost for good. The start of a node
    /// that does not find them reports the `token` to use; once they are given up, this setting has no further
    /// effect. From then on, steps that were running run again, and each compensation without a marker needs an
    /// operator.
    #[must_use]
    pub fn give_up_markers(mut self, token: impl Into<String>) -> Self {
        self.given_up = Some(token.into());
        self
    }

    /// Returns the statements that create the table, for users who create their tables themselves.
    pub fn schema() -> &'static str {
        DB::SCHEMA
    }

    /// Returns an identity that these steps share with their clones only.
    pub(super) fn identity(&self) -> usize {
        Arc::as_ptr(&self.owned).addr()
    }

    /// Returns the pool, for reads and for work that belongs to no step. Work that an effect does through the pool is
    /// not part of the step, and may wait forever for a connection that the step itself holds.
    pub fn pool(&self) -> &Pool<DB> {
        &self.pool
    }

    /// Runs `effect` once under `key`, and returns its result on this and on every later call.
    ///
    /// Promised: effect and marker become durable together or not at all. Tries of one key run one after the other,
    /// across all processes. A refusal is stored too: its changes are rolled back, and later calls return the same
    /// [`Abort`] without running `effect` again.
    ///
    /// Trouble with the database is not a decision. The node logs it as a warning that says what to do, and retries the
    /// whole step with growing pauses. `effect` may therefore run more than once, though only one run takes effect.
    /// Trouble that passes by itself (the database is away, a lock is held) is retried as long as necessary. Other
    /// trouble is retried up to `tries_max` of [`Limits`](crate::machine::Limits), and then the step needs an operator
    /// ([`Operator::troubled_sessions`](crate::Operator::troubled_sessions)). An abort of the session, for example by
    /// its deadline, ends both kinds of retries, unless the step may have taken effect. If one kind of trouble means a
    /// refusal, as a violated constraint may, turn that error into an `Abort` inside `effect`. [`SqlSteps::standalone`]
    /// steps retry without limit.
    ///
    /// If the future is dropped before it has finished, the step was either done or not; a later call finds out.
    ///
    /// # Errors
    /// The `Abort` that `effect` returned, now or in an earlier call; or one with the code [`COMPENSATED_BEFORE`] if
    /// [`SqlSteps::compensate`] was called with this key before.
    pub async fn commit<T: Message>(
        &self,
        key: &IdempotencyKey,
        effect: impl AsyncFnOnce(&mut DB::Connection) -> Result<T, EffectError> + Clone,
    ) -> Result<T, Abort> {
        let key = key.to_string();
        let mut pauses = Pauses::new();
        loop {
            // Boxed: the drivers' state across an await is large, and would be part of every program that contains
            // such a step.
            let (trouble, error, stage) = match Box::pin(self.try_commit(&key, effect.clone())).await {
                Ok(result) => return result,
                Err(Failed::Refused(abort)) => return Err(abort),
                Err(Failed::Lost(reason)) => return Err(Abort::failure(reason)),
                Err(Failed::Away(reason)) => {
                    return Err(Abort::undecided(reason, Undecided { passes: true, is_known: false }));
                }
                Err(Failed::Unreadable(error)) if self.is_a_nodes() => {
                    return Err(Abort::failure(format!("{error}; {}", ErrorClass::Effect.advice(false))));
                }
                Err(Failed::Unreadable(error)) => (ErrorClass::Effect, error, TryStage::Ending),
                Err(Failed::Database(error, stage)) => (ErrorClass::of::<DB>(&error), error, stage),
            };
            let advice = trouble.advice(false);
            // A node retries, counts the tries, and reports which step it is. Whether an ending try has taken effect
            // only the next try can find out.
            if self.is_a_nodes() && stage != TryStage::Ending {
                let undecided = Undecided { passes: trouble.passes(), is_known: stage == TryStage::Claimed };
                return Err(Abort::undecided(format!("{error}; {advice}"), undecided));
            }
            tracing::warn!(%key, %error, "a commit did not come to a result and is tried again; {advice}");
            tokio::time::sleep(pauses.next()).await;
        }
    }

    /// Compensates with `effect` what was committed under `key`, once.
    ///
    /// Promised: effect and marker become durable together or not at all; further calls do nothing. If the step was
    /// refused, `effect` does not run.
    ///
    /// The runtime compensates only what it has recorded as committed. A missing marker is therefore lost: nothing is
    /// done, and the step needs an operator at once.
    ///
    /// # Errors
    /// [`Retry`] for any trouble, including an `Abort` of `effect`. The runtime logs it and calls again, except if
    /// the markers are lost ([`Retry::needs_operator`]).
    pub async fn compensate(
        &self,
        key: &IdempotencyKey,
        effect: impl AsyncFnOnce(&mut DB::Connection) -> Result<(), EffectError>,
    ) -> Result<(), Retry> {
        let key = key.to_string();
        let (error, advice) = match Box::pin(self.try_compensate(&key, effect)).await {
            Ok(()) => return Ok(()),
            Err(Failed::Lost(reason)) => return Err(Retry::needs_operator(reason)),
            Err(Failed::Away(reason)) => return Err(Retry::new(reason)),
            Err(Failed::Refused(abort)) => (abort.to_string(), "a compensation cannot be refused"),
            Err(Failed::Unreadable(error)) => (error.to_string(), ErrorClass::Effect.advice(true)),
            Err(Failed::Database(error, _)) => (error.to_string(), ErrorClass::of::<DB>(&error).advice(true)),
        };
        if self.is_a_nodes() {
            return Err(Retry::new(format!("{error}; {advice}")));
        }
        tracing::warn!(%key, error, "a compensation did not succeed and is tried again; {advice}");
        Err(Retry::new(error))
    }

    /// Deletes the markers that were last written more than `age` ago, by the clock of the database, and returns how
    /// many there were. The deletion uses small transactions; if one fails, the earlier ones stay done.
    ///
    /// # When it is safe
    /// A marker is needed until its session is closed at this role: without the marker, a repeated commit takes
    /// effect again, and a compensation needs an operator. `age` must therefore be longer than the longest life of a
    /// session, including times in which nodes are down or sessions are stopped
    /// ([`Operator::stopped_sessions`](crate::Operator::stopped_sessions)). This is not checked.
    ///
    /// # Errors
    /// When the database fails. The call can be repeated.
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
        let committed = self.transact(key, async |connection| {
            if let Some(marker) = self.claim(&mut *connection, key).await? {
                return known(&marker).map_err(Failed::Unreadable);
            }
            let output = effect(&mut *connection).await?;
            // Rolled back and refused: another try would fail the same way, and an output that cannot be stored
            // cannot be compensated.
            let unkept = |error: sqlx::Error| Abort::new(Abort::NOT_ENCODABLE, error.to_string());
            let marker = Marker::committed(&output).map_err(|error| EffectError::Refused(unkept(error)))?;
            DB::record(connection, key, &marker).await.map_err(Failed::claimed)?;
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
            Owner::Nobody => Err(Failed::Lost(NOBODYS.into())),
            Owner::Away(reason) => Err(Failed::Away(reason)),
            Owner::Refused(reason) => Err(Failed::Lost(reason)),
            Owner::Standalone => Ok(DB::claim(connection, key, "").await.map_err(Failed::claiming)?.0),
            Owner::Node(pin) => match DB::claim(connection, key, &pin.key).await.map_err(Failed::claiming)? {
                (marker, Some(life)) if life == pin.life => Ok(marker),
                _ => Err(Failed::Lost(GONE.into())),
            },
        }
    }

    /// Whether a node retries these steps.
    fn is_a_nodes(&self) -> bool {
        !matches!(owner(&self.owned), Owner::Standalone)
    }

    /// Runs `work` in a transaction, which is rolled back if `work` fails. A connection whose transaction does not
    /// end properly (for example because the effect has ended it) is closed: nobody else could use it.
    async fn transact<T>(
        &self,
        key: &str,
        work: impl AsyncFnOnce(&mut DB::Connection) -> Result<T, Failed>,
    ) -> Result<T, Failed> {
        // Fail before taking a connection from steps that can work.
        if let Owner::Away(reason) = owner(&self.owned) {
            return Err(Failed::Away(reason));
        }
        let full =
            || Failed::Away("too many steps wait for the database: look for a transaction that is left open".into());
        let lane = self.lanes.enter(key).await.ok_or_else(full)?;
        let _permit = match &self.at_most {
            Some(at_most) => Some(timeout(PERMIT_WAIT_MAX, at_most.acquire()).await.map_err(|_| full())),
            None => None,
        }
        .transpose()?;
        let mut connection = self.pool.acquire().await.map_err(|error| Failed::Database(error, TryStage::Before))?;
        let (result, is_usable) = transact::<DB, T>(&mut connection, lane.lock_wait_max, work).await;
        if !is_usable {
            connection.close_on_drop();
        }
        drop(connection);
        let trouble = match &result {
            Err(Failed::Database(error, _)) => Some(ErrorClass::of::<DB>(error)),
            _ => None,
        };
        match trouble {
            Some(ErrorClass::Locked) => self.lanes.note_waited(key),
            _ => self.lanes.forget(key),
        }
        if trouble == Some(ErrorClass::Database) && self.lacks_table().await {
            return Err(Failed::Lost(GONE.into()));
        }
        result
    }

    /// Whether the table that the node has pinned is gone.
    async fn lacks_table(&self) -> bool {
        matches!(owner(&self.owned), Owner::Node(_)) && DB::has_table(&self.pool).await.is_ok_and(|there| !there)
    }

    /// Records a refusal whose changes have been rolled back, unless another try was faster: then that one counts.
    async fn refuse<T: Message>(&self, key: &str, abort: Abort) -> Result<Result<T, Abort>, Failed> {
        let recorded = self.transact(key, async |connection| {
            if let Some(marker) = self.claim(&mut *connection, key).await? {
                return known(&marker).map_err(Failed::Unreadable);
            }
            let marker = Marker::refused(&abort).map_err(Failed::claimed)?;
            DB::record(connection, key, &marker).await.map_err(Failed::claimed)?;
            Ok(Err(abort))
        });
        recorded.await
    }

    async fn try_compensate(
        &self,
        key: &str,
        effect: impl AsyncFnOnce(&mut DB::Connection) -> Result<(), EffectError>,
    ) -> Result<(), Failed> {
        let compensated = self.transact(key, async |connection| {
            match self.claim(&mut *connection, key).await? {
                Some(Marker::Refused(_) | Marker::Compensated) => return Ok(()),
                Some(Marker::Committed(_)) => effect(&mut *connection).await?,
                None => return Err(Failed::Lost(NO_MARKER.into())),
            }
            DB::record(connection, key, &Marker::Compensated).await.map_err(Failed::claimed)
        });
        compensated.await
    }
}

/// Runs `work` in a transaction on this connection; returns its result, and whether the connection can still be used.
async fn transact<DB: SqlDatabase, T>(
    connection: &mut DB::Connection,
    lock_wait_max: Duration,
    work: impl AsyncFnOnce(&mut DB::Connection) -> Result<T, Failed>,
) -> (Result<T, Failed>, bool) {
    let mut transaction = match DB::begin(connection, lock_wait_max).await {
        Ok(transaction) => transaction,
        Err(error) => return (Err(Failed::Database(error, TryStage::Before)), false),
    };
    let result = work(&mut transaction).await;
    let ended = if result.is_ok() { transaction.commit().await } else { transaction.rollback().await };
    let is_usable = ended.is_ok();
    let result = result.and_then(|value| match ended {
        Ok(()) => Ok(value),
        // A deferred constraint is checked at the commit; the transaction is then rolled back.
        Err(error) if ErrorClass::of::<DB>(&error) == ErrorClass::Constraint => {
            Err(Failed::Database(error, TryStage::Claimed))
        }
        Err(error) => Err(Failed::Database(error, TryStage::Ending)),
    });
    (result, is_usable)
}

/// Returns the result of a commit whose key already has a marker.
fn known<T: Message>(marker: &Marker) -> sqlx::Result<Result<T, Abort>> {
    Ok(match marker {
        Marker::Committed(output) => Ok(output.decode()?),
        Marker::Refused(abort) => Err(abort.decode()?),
        Marker::Compensated => Err(Abort::new(COMPENSATED_BEFORE, "this step was compensated before it was committed")),
    })
}

impl<DB: SqlDatabase> Clone for SqlSteps<DB> {
    fn clone(&self) -> Self {
        Self {
            pool: self.pool.clone(),
            owned: self.owned.clone(),
            given_up: self.given_up.clone(),
            lanes: self.lanes.clone(),
            at_most: self.at_most.clone(),
        }
    }
}

impl<DB: SqlDatabase> fmt::Debug for SqlSteps<DB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SqlSteps")
    }
}
