//! The rows of a service's database: reading and writing single ones, within the caller's transaction.

use sqlx::{SqliteConnection, query, query_as};

use crate::ledger::{Effect, Entry};

/// What is known of a key: the answer, and whether it has been compensated.
pub(super) async fn recorded(
    connection: &mut SqliteConnection,
    key: &str,
) -> sqlx::Result<Option<(Option<String>, bool)>> {
    let known = query_as("SELECT answer, compensated FROM answers WHERE key = ?").bind(key);
    known.fetch_optional(connection).await
}

pub(super) async fn entry(
    connection: &mut SqliteConnection,
    effect: Effect,
    order_id: &str,
) -> sqlx::Result<Option<Entry>> {
    let found = query_as("SELECT account, amount, applied, compensated FROM entries WHERE effect = ? AND order_id = ?")
        .bind(effect.name())
        .bind(order_id);
    let found: Option<(String, i64, u32, u32)> = found.fetch_optional(connection).await?;
    Ok(found.map(|(account, amount, applied, compensated)| Entry { account, amount, applied, compensated }))
}

pub(super) async fn balance(
    connection: &mut SqliteConnection,
    effect: Effect,
    account: &str,
) -> sqlx::Result<Option<i64>> {
    let found =
        query_as("SELECT amount FROM balances WHERE effect = ? AND account = ?").bind(effect.name()).bind(account);
    Ok(found.fetch_optional(connection).await?.map(|(amount,)| amount))
}

pub(super) async fn store(
    connection: &mut SqliteConnection,
    effect: Effect,
    order_id: &str,
    entry: &Entry,
    balance: i64,
) -> sqlx::Result<()> {
    query("INSERT OR REPLACE INTO entries VALUES (?, ?, ?, ?, ?, ?)")
        .bind(effect.name())
        .bind(order_id)
        .bind(&entry.account)
        .bind(entry.amount)
        .bind(entry.applied)
        .bind(entry.compensated)
        .execute(&mut *connection)
        .await?;
    let balances = query("INSERT OR REPLACE INTO balances VALUES (?, ?, ?)")
        .bind(effect.name())
        .bind(&entry.account)
        .bind(balance);
    balances.execute(connection).await?;
    Ok(())
}

pub(super) fn effect_of(name: &str) -> sqlx::Result<Effect> {
    Effect::from_name(name).ok_or_else(|| sqlx::Error::Decode(format!("`{name}` is no effect").into()))
}
