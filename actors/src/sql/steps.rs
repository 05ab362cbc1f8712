//! Steps, each once: claim the marker, have the effect, write the marker, commit; and again after trouble.
//!
//! Knows no database. Next: `marker.rs` and `trouble.rs`, then `database.rs`.

use std::fmt;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use accompanist_core::{Abort, IdempotencyKey, Message, Retry, Undecided};
use sqlx::Pool;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::database::SqlDatabase;
use super::lanes::Lanes;
use super::marker::Marker;
use super::pin::{GONE, NO_MARKER, NOBODYS, Owned, Owner, owner};
use super::trouble::{Pauses, Trouble};
use super::{COMPENSATED_BEFORE, EffectError};

/// How long a step waits for its turn among those of [`SqlSteps::at_most`], before it says that it waits.
const PERMIT_WAIT_MAX: Duration = Duration::from_secs(5);

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
    lanes: Arc<Lanes>,
    /// How many connections these steps may hold, if not as many as there are.
    at_most: Option<Arc<Semaphore>>,
}

/// How far a try got that has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Its marker was not claimed: nothing is known of earlier tries.
    Before,
    /// Its marker was claimed, so that no earlier try has taken effect, and this one is rolled back.
    Claimed,
    /// Its transaction was about to be committed, or was ended by the effect: it may have taken effect.
    Ending,
}

/// Why a try of a step has no result.
enum Failed {
    Refused(Abort),
    Database(sqlx::Error, Stage),
    /// What is kept of it cannot be read, though it may have taken effect.
    Unreadable(sqlx::Error),
    /// Its markers are lost, or not known to be there.
    Lost(String),
    /// The database was not reached since the start of the node, or has no room for it, for this reason.
    Away(String),
}

impl Failed {
    fn claimed(error: sqlx::Error) -> Self {
        // No row to be written, since the effect has ended the transaction.
        let stage = if matches!(error, sqlx::Error::Protocol(_)) { Stage::Ending } else { Stage::Claimed };
        Self::Database(error, stage)
    }

    fn claiming(error: sqlx::Error) -> Self {
        match error {
            error @ sqlx::Error::Decode(_) => Self::Unreadable(error),
            error => Self::Database(error, Stage::Before),
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
    /// Steps of a node on the database of `pool`. Give them to its builder, too
    /// ([`NodeBuilder::sql`](crate::NodeBuilder::sql)): its start makes the table `accompanist_steps` if its store has never
    /// used one, and pins it, so that a table that has lost its markers is noticed. Each node has steps of its own.
    ///
    /// The table is the one that an unqualified name finds (in `PostgreSQL`, along the `search_path`). Where the
    /// user of the pool may not make tables, make it beforehand with the statements of [`SqlSteps::schema`]; that
    /// user needs to select, insert, update and delete.
    ///
    /// Every try of a step holds a connection until its end. It waits for a lock of `PostgreSQL` for a tenth of a second; if that was
    /// not enough, it lets its connection go and waits longer the next time, and those who have waited hold half of the pool's
    /// connections at most: so one locked row does not stop the steps on others. For `SQLite`, which has one lock for all, a
    /// pool of one connection lets steps wait in order, instead of finding the file busy.
    pub fn new(pool: Pool<DB>) -> Self {
        Self::owned_by(pool, Owner::default())
    }

    fn owned_by(pool: Pool<DB>, owner: Owner) -> Self {
        let lanes = Arc::new(Lanes::new(pool.options().get_max_connections()));
        Self { pool, owned: Owned::new(RwLock::new(owner)), given_up: None, lanes, at_most: None }
    }

    /// The same steps with a bound of their own: what is done through this clone, and clones of it, holds so many connections of
    /// the pool at a time, 1 at least. For a kind of steps that may be slow, so that it leaves connections to the others.
    #[must_use]
    pub fn at_most(&self, connections: u32) -> Self {
        let permits = usize::try_from(connections).unwrap_or(1).clamp(1, Semaphore::MAX_PERMITS);
        Self { at_most: Some(Arc::new(Semaphore::new(permits))), ..self.clone() }
    }

    /// Steps without a node, for tests and tools. Makes the table if there is none. Nobody notices when its markers are
    /// lost.
    ///
    /// # Errors
    /// When the database cannot be reached, or the table cannot be made.
    pub async fn standalone(pool: Pool<DB>) -> sqlx::Result<Self> {
        DB::prepare(&pool).await?;
        Ok(Self::owned_by(pool, Owner::Standalone))
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
    /// Trouble with the database is no decision. The node logs it as a warning that says what to do, and tries everything
    /// again with growing pauses: so `effect` may run more than once, though only one run of it is kept. What passes by itself
    /// (the database is away, a lock is held) is tried as long as it takes; anything else up to `tries_max` of
    /// [`Limits`](crate::instance::Limits), and then the step needs an operator
    /// ([`Node::troubled_sessions`](crate::Node::troubled_sessions)). An abort of the session, by its deadline say, ends either,
    /// unless the step may have taken effect. If trouble of one kind is a refusal, as a violated constraint may be, then
    /// say so: turn that error into an `Abort` inside of `effect`. [`SqlSteps::standalone`] steps try without an end.
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
            let (trouble, error, stage) = match Box::pin(self.try_commit(&key, effect.clone())).await {
                Ok(result) => return result,
                Err(Failed::Refused(abort)) => return Err(abort),
                Err(Failed::Lost(reason)) => return Err(Abort::failure(reason)),
                Err(Failed::Away(reason)) => {
                    return Err(Abort::undecided(reason, Undecided { passes: true, is_known: false }));
                }
                Err(Failed::Unreadable(error)) if self.is_a_nodes() => {
                    return Err(Abort::failure(format!("{error}; {}", Trouble::Effect.advice(false))));
                }
                Err(Failed::Unreadable(error)) => (Trouble::Effect, error, Stage::Ending),
                Err(Failed::Database(error, stage)) => (Trouble::of::<DB>(&error), error, stage),
            };
            let advice = trouble.advice(false);
            // A node tries again, counts, and says whose step it is. What may have taken effect nobody but a next try can tell.
            if self.is_a_nodes() && stage != Stage::Ending {
                let undecided = Undecided { passes: trouble.passes(), is_known: stage == Stage::Claimed };
                return Err(Abort::undecided(format!("{error}; {advice}"), undecided));
            }
            tracing::warn!(%key, %error, "a commit did not come to a result and is tried again; {advice}");
            tokio::time::sleep(pauses.next()).await;
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
    /// [`Retry`] for any trouble, an `Abort` of `effect` included; the runtime logs it and calls again, but for
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
            Err(Failed::Away(reason)) => return Err(Retry::new(reason)),
            Err(Failed::Refused(abort)) => (abort.to_string(), "a compensation cannot be refused"),
            Err(Failed::Unreadable(error)) => (error.to_string(), Trouble::Effect.advice(true)),
            Err(Failed::Database(error, _)) => (error.to_string(), Trouble::of::<DB>(&error).advice(true)),
        };
        if self.is_a_nodes() {
            return Err(Retry::new(format!("{error}; {advice}")));
        }
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
        let committed = self.transact(key, async |connection| {
            if let Some(marker) = self.claim(&mut *connection, key).await? {
                return known(&marker).map_err(Failed::Unreadable);
            }
            let output = effect(&mut *connection).await?;
            // Rolled back and refused: another try would not get further, and what cannot be kept cannot be taken back.
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

    /// Whether a node tries these again.
    fn is_a_nodes(&self) -> bool {
        !matches!(owner(&self.owned), Owner::Standalone)
    }

    /// Does `work` in a transaction, which is rolled back if it fails. A connection whose transaction does not end as it
    /// should (the effect has ended it, say) is closed: nobody else could work with it.
    async fn transact<T>(
        &self,
        key: &str,
        work: impl AsyncFnOnce(&mut DB::Connection) -> Result<T, Failed>,
    ) -> Result<T, Failed> {
        // Before it takes a connection of those who can work.
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
        let mut connection = self.pool.acquire().await.map_err(|error| Failed::Database(error, Stage::Before))?;
        let (result, is_usable) = transact::<DB, T>(&mut connection, lane.lock_wait_max, work).await;
        if !is_usable {
            connection.close_on_drop();
        }
        drop(connection);
        let trouble = match &result {
            Err(Failed::Database(error, _)) => Some(Trouble::of::<DB>(error)),
            _ => None,
        };
        match trouble {
            Some(Trouble::Locked) => self.lanes.note_waited(key),
            _ => self.lanes.forget(key),
        }
        if trouble == Some(Trouble::Database) && self.lacks_table().await {
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

/// Does `work` in a transaction on this connection; gives its result, and whether the connection is as it was before.
async fn transact<DB: SqlDatabase, T>(
    connection: &mut DB::Connection,
    lock_wait_max: Duration,
    work: impl AsyncFnOnce(&mut DB::Connection) -> Result<T, Failed>,
) -> (Result<T, Failed>, bool) {
    let mut transaction = match DB::begin(connection, lock_wait_max).await {
        Ok(transaction) => transaction,
        Err(error) => return (Err(Failed::Database(error, Stage::Before)), false),
    };
    let result = work(&mut transaction).await;
    let ended = if result.is_ok() { transaction.commit().await } else { transaction.rollback().await };
    let is_usable = ended.is_ok();
    let result = result.and_then(|value| match ended {
        Ok(()) => Ok(value),
        // A constraint that is looked at in the end: then it is rolled back.
        Err(error) if Trouble::of::<DB>(&error) == Trouble::Constraint => Err(Failed::Database(error, Stage::Claimed)),
        Err(error) => Err(Failed::Database(error, Stage::Ending)),
    });
    (result, is_usable)
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
