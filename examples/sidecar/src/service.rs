//! The services that were there before: a book of effects behind HTTP, in `SQLite`. It could be written in anything.
//!
//! What it owes is what any service owes whose callers repeat their calls: the idempotency key becomes durable with the
//! effect. `POST /EFFECT` does it, `POST /EFFECT/undo` takes it back; under a key each happens once. Knows nothing of
//! sidecars and choreographies.

use std::path::Path;

use anyhow::Context as _;
use axum::extract::{Path as Segment, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};

use crate::api::KEY_HEADER;
use crate::model::{ISLAND, Noted, Order};

const SCHEMA: &str = "CREATE TABLE IF NOT EXISTS effects (
    number INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, effect TEXT NOT NULL, order_id TEXT NOT NULL,
    undone INTEGER NOT NULL) STRICT;";

/// Opens a database of this example: one connection, and a sync before anything is acknowledged.
///
/// # Errors
/// When the file cannot be used.
pub async fn open(file: &Path, schema: &'static str) -> anyhow::Result<SqlitePool> {
    let options = SqliteConnectOptions::new()
        .filename(file)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full);
    let pool = SqlitePoolOptions::new().max_connections(1).connect_with(options).await;
    let pool = pool.with_context(|| format!("the database {} cannot be used", file.display()))?;
    sqlx::raw_sql(schema).execute(&pool).await?;
    Ok(pool)
}

/// The key that a request came with.
pub fn key_of(headers: &HeaderMap) -> Option<&str> {
    headers.get(KEY_HEADER)?.to_str().ok().filter(|key| !key.is_empty())
}

/// The service over its book in `file`.
///
/// # Errors
/// When the file cannot be used.
pub async fn router(file: &Path) -> anyhow::Result<Router> {
    let book = open(file, SCHEMA).await?;
    Ok(Router::new().route("/{effect}", post(commit)).route("/{effect}/undo", post(undo)).with_state(book))
}

async fn commit(
    State(book): State<SqlitePool>,
    Segment(effect): Segment<String>,
    headers: HeaderMap,
    Json(order): Json<Order>,
) -> Response {
    if effect == "book" && order.to == ISLAND {
        return (StatusCode::UNPROCESSABLE_ENTITY, "no ship goes to the island").into_response();
    }
    answer(note(&book, &effect, key_of(&headers), &order.id, false).await)
}

async fn undo(
    State(book): State<SqlitePool>,
    Segment(effect): Segment<String>,
    headers: HeaderMap,
    Json(order): Json<Order>,
) -> Response {
    answer(note(&book, &effect, key_of(&headers), &order.id, true).await)
}

fn answer(noted: sqlx::Result<Option<Noted>>) -> Response {
    match noted {
        Ok(Some(noted)) => Json(noted).into_response(),
        Ok(None) => (StatusCode::UNPROCESSABLE_ENTITY, "this was taken back before, or has no key").into_response(),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, error.to_string()).into_response(),
    }
}

/// Notes an effect, or that it is taken back: once for each key. `None` when it may not be done any more.
async fn note(
    book: &SqlitePool,
    effect: &str,
    key: Option<&str>,
    order_id: &str,
    undone: bool,
) -> sqlx::Result<Option<Noted>> {
    let Some(key) = key else { return Ok(None) };
    let mut transaction = book.begin_with("BEGIN IMMEDIATE").await?;
    let insert = "INSERT INTO effects (key, effect, order_id, undone) VALUES (?, ?, ?, ?) ON CONFLICT (key) DO NOTHING";
    sqlx::query(insert).bind(key).bind(effect).bind(order_id).bind(undone).execute(&mut *transaction).await?;
    if undone {
        sqlx::query("UPDATE effects SET undone = 1 WHERE key = ?").bind(key).execute(&mut *transaction).await?;
    }
    let select = sqlx::query_as("SELECT number, undone FROM effects WHERE key = ?");
    let (number, is_undone): (i64, bool) = select.bind(key).fetch_one(&mut *transaction).await?;
    transaction.commit().await?;
    Ok((is_undone == undone).then_some(Noted { number }))
}

/// One line of a book.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effect {
    /// What was done.
    pub effect: String,
    /// For which order.
    pub order_id: String,
    /// Whether it was taken back.
    pub undone: bool,
}

/// Reads the book in `file`.
///
/// # Errors
/// When the file cannot be used.
pub async fn read(file: &Path) -> anyhow::Result<Vec<Effect>> {
    let book = open(file, SCHEMA).await?;
    let rows = sqlx::query_as("SELECT effect, order_id, undone FROM effects ORDER BY number");
    let rows: Vec<(String, String, bool)> = rows.fetch_all(&book).await?;
    book.close().await;
    Ok(rows.into_iter().map(|(effect, order_id, undone)| Effect { effect, order_id, undone }).collect())
}
