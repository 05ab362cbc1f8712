//! A service with a database of its own: `SQLite`, one file per service.
//!
//! Shows what a service owes: the idempotency key is stored in the same database transaction as the effect. A
//! repeated commit gives the recorded answer, a compensation compensates once, and a commit that comes after
//! its compensation is refused. Knows nothing of the runtime.

mod rows;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use accompanist::{Abort, Retry};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{SqliteConnection, query, query_as};

use self::rows::{balance, effect_of, entry, recorded, store};
use crate::ledger::{Book, Effect, Entry, Posting};
use crate::model::{Bill, Order, Points, Receipt, Reservation, Shipment};
use crate::roles::{Committed, Compensated, LoyaltyApi, PaymentApi, WarehouseApi};

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS answers (
        key TEXT PRIMARY KEY, answer TEXT, compensated INTEGER NOT NULL) STRICT;
    CREATE TABLE IF NOT EXISTS entries (
        effect TEXT NOT NULL, order_id TEXT NOT NULL, account TEXT NOT NULL, amount INTEGER NOT NULL,
        applied INTEGER NOT NULL, compensated INTEGER NOT NULL, PRIMARY KEY (effect, order_id)) STRICT;
    CREATE TABLE IF NOT EXISTS balances (
        effect TEXT NOT NULL, account TEXT NOT NULL, amount INTEGER NOT NULL, PRIMARY KEY (effect, account)) STRICT;
";

/// How long a call may wait for the connection: longer than any queue here.
const ACQUIRE_WAIT_MAX: Duration = Duration::from_hours(1);
/// The pause before the database is asked again when it failed: a full disk, say.
const RETRY_DELAY: Duration = Duration::from_millis(250);

/// A service on a `SQLite` file; it can be that of any of the three roles.
#[derive(Debug, Clone)]
pub struct SqliteService {
    pool: SqlitePool,
}

impl SqliteService {
    /// Opens or makes the database.
    ///
    /// # Errors
    /// When the file cannot be used.
    pub async fn open(file: impl AsRef<Path>) -> sqlx::Result<Self> {
        let options = SqliteConnectOptions::new()
            .filename(file)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full);
        // One connection: writers wait for each other in order, instead of failing as busy.
        let pool = SqlitePoolOptions::new().max_connections(1).acquire_timeout(ACQUIRE_WAIT_MAX).connect_with(options);
        let service = Self { pool: pool.await? };
        sqlx::raw_sql(SCHEMA).execute(&service.pool).await?;
        Ok(service)
    }

    /// Closes the file.
    pub async fn close(&self) {
        self.pool.close().await;
    }

    /// Reads the whole ledger.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn read_book(&self) -> sqlx::Result<Book> {
        let rows = query_as("SELECT effect, order_id, account, amount, applied, compensated FROM entries");
        let rows: Vec<(String, String, String, i64, u32, u32)> = rows.fetch_all(&self.pool).await?;
        let entries = rows.into_iter().map(|(effect, order_id, account, amount, applied, compensated)| {
            Ok(((effect_of(&effect)?, order_id), Entry { account, amount, applied, compensated }))
        });
        let entries = entries.collect::<sqlx::Result<BTreeMap<_, _>>>()?;
        let rows = query_as("SELECT effect, account, amount FROM balances").fetch_all(&self.pool).await?;
        let balances = rows
            .into_iter()
            .map(|(effect, account, amount): (String, String, i64)| Ok(((effect_of(&effect)?, account), amount)));
        Ok(Book { entries, balances: balances.collect::<sqlx::Result<_>>()? })
    }

    /// Commits `posting` once under `key`, and gives the answer that was recorded with it.
    async fn commit<T>(&self, key: &str, posting: Result<Posting, Abort>, output: T) -> Result<T, Abort>
    where
        T: Serialize + DeserializeOwned + Clone + Sync,
    {
        loop {
            match self.try_commit(key, &posting, &output).await {
                Ok(answer) => return answer,
                Err(error) => pause(&error).await,
            }
        }
    }

    async fn try_commit<T>(
        &self,
        key: &str,
        posting: &Result<Posting, Abort>,
        output: &T,
    ) -> sqlx::Result<Result<T, Abort>>
    where
        T: Serialize + DeserializeOwned + Clone + Sync,
    {
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        match recorded(&mut transaction, key).await? {
            Some((_, true)) => return Ok(Err(Abort::new("compensated", "this was compensated before"))),
            Some((Some(answer), false)) => return serde_json::from_str(&answer).map_err(undecodable),
            _ => {}
        }
        let answer = match posting {
            Ok(posting) => post(&mut transaction, posting).await?.map(|()| output.clone()),
            Err(refusal) => Err(refusal.clone()),
        };
        let text = serde_json::to_string(&answer).map_err(undecodable)?;
        let insert = query("INSERT INTO answers (key, answer, compensated) VALUES (?, ?, 0)").bind(key).bind(text);
        insert.execute(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(answer)
    }

    /// Takes back what was committed under `key`, once. The runtime compensates only what was committed, so a commit
    /// that is not known is one that this database has lost.
    async fn compensate(&self, key: &str, effect: Effect, order_id: &str) -> Result<(), Retry> {
        match self.try_compensate(key, effect, order_id).await {
            Ok(true) => Ok(()),
            Ok(false) => {
                Err(Retry::needs_operator("what is to be taken back is not known: look whether it took effect"))
            }
            Err(error) => Err(Retry::new(error.to_string())),
        }
    }

    async fn try_compensate(&self, key: &str, effect: Effect, order_id: &str) -> sqlx::Result<bool> {
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        match recorded(&mut transaction, key).await? {
            None => return Ok(false),
            Some((_, true)) => return Ok(true),
            Some((_, false)) => take_back(&mut transaction, effect, order_id).await?,
        }
        let mark = query("UPDATE answers SET compensated = 1 WHERE key = ?").bind(key);
        mark.execute(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(true)
    }

    /// What is reserved for an order.
    async fn reserved(&self, order_id: &str) -> Option<Entry> {
        loop {
            let found = async { entry(&mut *self.pool.acquire().await?, Effect::Reserve, order_id).await };
            match found.await {
                Ok(entry) => return entry,
                Err(error) => pause(&error).await,
            }
        }
    }
}

async fn post(connection: &mut SqliteConnection, posting: &Posting) -> sqlx::Result<Result<(), Abort>> {
    let Posting { effect, order_id, account, .. } = posting;
    let before = (entry(connection, *effect, order_id).await?, balance(connection, *effect, account).await?);
    match posting.apply(before.0, before.1) {
        Ok((entry, balance)) => store(connection, *effect, order_id, &entry, balance).await.map(Ok),
        Err(refusal) => Ok(Err(refusal)),
    }
}

async fn take_back(connection: &mut SqliteConnection, effect: Effect, order_id: &str) -> sqlx::Result<()> {
    let entry = entry(connection, effect, order_id).await?.unwrap_or_default();
    let balance = balance(connection, effect, &entry.account).await?;
    let (entry, balance) = entry.take_back(effect, balance);
    store(connection, effect, order_id, &entry, balance).await
}

fn undecodable(error: serde_json::Error) -> sqlx::Error {
    sqlx::Error::Decode(error.into())
}

async fn pause(error: &sqlx::Error) {
    tracing::warn!(%error, "the database failed; trying again");
    tokio::time::sleep(RETRY_DELAY).await;
}

impl WarehouseApi for SqliteService {
    fn reserve<'a>(&'a self, key: &'a str, order: &'a Order) -> Committed<'a, Reservation> {
        Box::pin(self.commit(key, Ok(Posting::reserve(order)), Reservation::of(order)))
    }
    fn release<'a>(&'a self, key: &'a str, order_id: &'a str) -> Compensated<'a> {
        Box::pin(self.compensate(key, Effect::Reserve, order_id))
    }
    fn ship<'a>(&'a self, key: &'a str, cleared: &'a Points) -> Committed<'a, Shipment> {
        Box::pin(async move {
            let reserved = self.reserved(&cleared.order_id).await;
            self.commit(key, Posting::ship(cleared, reserved.as_ref()), Shipment::of(cleared)).await
        })
    }
    fn recall<'a>(&'a self, key: &'a str, order_id: &'a str) -> Compensated<'a> {
        Box::pin(self.compensate(key, Effect::Ship, order_id))
    }
}

impl PaymentApi for SqliteService {
    fn charge<'a>(&'a self, key: &'a str, bill: &'a Bill) -> Committed<'a, Receipt> {
        Box::pin(self.commit(key, Posting::charge(bill), Receipt::of(bill)))
    }
    fn refund<'a>(&'a self, key: &'a str, order_id: &'a str) -> Compensated<'a> {
        Box::pin(self.compensate(key, Effect::Charge, order_id))
    }
}

impl LoyaltyApi for SqliteService {
    fn award<'a>(&'a self, key: &'a str, receipt: &'a Receipt) -> Committed<'a, Points> {
        Box::pin(self.commit(key, Ok(Posting::award(receipt)), Points::of(receipt)))
    }
    fn revoke<'a>(&'a self, key: &'a str, order_id: &'a str) -> Compensated<'a> {
        Box::pin(self.compensate(key, Effect::Award, order_id))
    }
}
