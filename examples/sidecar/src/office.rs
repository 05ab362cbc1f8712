//! The orchestrator that was there before: workflows step by step from one place, each step's answer in its journal.
//!
//! What was under way when it ended goes on when it starts again: answered steps are not asked again, and the one that
//! had no answer is asked under the same key. `order` has become shorter, since the delivery is a choreography now;
//! `customs` is as it was, and is called by that choreography.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use accompanist::Abort;
use axum::extract::{Path as Segment, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use fleet::open_database;
use sqlx::sqlite::SqlitePool;

use crate::api::Api;
use crate::model::{Noted, Order, Outcome};
use crate::service::key_of;

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS workflows (key TEXT PRIMARY KEY, name TEXT NOT NULL, input TEXT NOT NULL, outcome TEXT) STRICT;
    CREATE TABLE IF NOT EXISTS steps (key TEXT PRIMARY KEY, answer TEXT NOT NULL) STRICT;";

/// The pause before it is tried again to take something back.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// What the office calls.
#[derive(Debug, Clone)]
pub struct Services {
    /// Charges cards.
    pub billing: Api,
    /// Declares and stamps.
    pub customs: Api,
    /// The sidecar that starts deliveries.
    pub deliveries: Api,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Office {
    journal: SqlitePool,
    services: Services,
    /// One run of a workflow at a time.
    running: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

/// The journal, or a value in it, cannot be used.
type Trouble = anyhow::Error;

impl Office {
    /// Opens the journal, and lets go on what is in it without an end.
    ///
    /// # Errors
    /// When the journal cannot be used.
    pub async fn open(file: &Path, services: Services) -> Result<Arc<Self>, Trouble> {
        let office =
            Arc::new(Self { journal: open_database(file, SCHEMA).await?, services, running: Mutex::default() });
        let unfinished = sqlx::query_as("SELECT name, key, input FROM workflows WHERE outcome IS NULL");
        let unfinished: Vec<(String, String, String)> = unfinished.fetch_all(&office.journal).await?;
        for (name, key, input) in unfinished {
            let (office, order) = (office.clone(), serde_json::from_str::<Order>(&input)?);
            tokio::spawn(async move {
                if let Err(error) = office.run(&name, &key, &order).await {
                    tracing::error!(%error, key, "a workflow waits for the next start");
                }
            });
        }
        Ok(office)
    }

    /// Where workflows are asked for.
    pub fn router(self: Arc<Self>) -> Router {
        let router =
            Router::new().route("/workflows/{name}", post(ask)).route("/workflows/{name}/undo", post(ask_to_undo));
        router.with_state(self)
    }

    /// Runs a workflow, once for each key: whoever asks again gets the same outcome.
    async fn run(&self, name: &str, key: &str, order: &Order) -> Result<Outcome, Trouble> {
        let turn = {
            let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
            running.entry(key.to_owned()).or_default().clone()
        };
        let _turn = turn.lock().await;
        let insert = "INSERT INTO workflows (key, name, input) VALUES (?, ?, ?) ON CONFLICT (key) DO NOTHING";
        let input = serde_json::to_string(order)?;
        sqlx::query(insert).bind(key).bind(name).bind(input).execute(&self.journal).await?;
        let select = sqlx::query_scalar("SELECT outcome FROM workflows WHERE key = ?");
        let known: Option<String> = select.bind(key).fetch_one(&self.journal).await?;
        if let Some(known) = known {
            return Ok(serde_json::from_str(&known)?);
        }
        let outcome = match name {
            "order" => self.order(key, order).await?,
            "customs" => self.customs(key, order).await?,
            "customs-undo" => self.undo_customs(key, order).await?,
            _ => anyhow::bail!("there is no workflow `{name}`"),
        };
        let update =
            sqlx::query("UPDATE workflows SET outcome = ? WHERE key = ?").bind(serde_json::to_string(&outcome)?);
        update.bind(key).execute(&self.journal).await?;
        Ok(outcome)
    }

    /// An order: charged here, delivered by the choreography, which is a step like any other.
    async fn order(&self, key: &str, order: &Order) -> Result<Outcome, Trouble> {
        let Services { billing, deliveries, .. } = &self.services;
        if let Err(refusal) = self.step(billing, "charge", &format!("{key}/charge"), order).await? {
            return Ok(Outcome::Refused(refusal.message().into()));
        }
        match self.step(deliveries, "deliveries", &format!("{key}/deliver"), order).await? {
            Ok(tracking) => Ok(Outcome::Done(tracking.number)),
            Err(refusal) => {
                self.undo(billing, "charge", &format!("{key}/charge"), order).await;
                Ok(Outcome::Refused(refusal.message().into()))
            }
        }
    }

    /// The papers of a parcel: declared, then stamped.
    async fn customs(&self, key: &str, order: &Order) -> Result<Outcome, Trouble> {
        let customs = &self.services.customs;
        let mut papers = 0;
        for effect in ["declare", "stamp"] {
            match self.step(customs, effect, &format!("{key}/{effect}"), order).await? {
                Ok(noted) => papers = noted.number,
                Err(refusal) => return Ok(Outcome::Refused(refusal.message().into())),
            }
        }
        Ok(Outcome::Done(papers))
    }

    async fn undo_customs(&self, key: &str, order: &Order) -> Result<Outcome, Trouble> {
        let of = key.strip_suffix("/undo").unwrap_or(key);
        for effect in ["stamp", "declare"] {
            self.undo(&self.services.customs, effect, &format!("{of}/{effect}"), order).await;
        }
        Ok(Outcome::Done(0))
    }

    /// A step: its answer from the journal, or from the service and then into the journal.
    async fn step(&self, api: &Api, path: &str, key: &str, order: &Order) -> Result<Result<Noted, Abort>, Trouble> {
        let select = sqlx::query_scalar("SELECT answer FROM steps WHERE key = ?").bind(key);
        if let Some(known) = select.fetch_optional(&self.journal).await? {
            let known: String = known;
            return Ok(serde_json::from_str(&known)?);
        }
        let answer: Result<Noted, Abort> = api.call(path, key, order).await;
        let insert = sqlx::query("INSERT INTO steps (key, answer) VALUES (?, ?)").bind(key);
        insert.bind(serde_json::to_string(&answer)?).execute(&self.journal).await?;
        Ok(answer)
    }

    async fn undo(&self, api: &Api, path: &str, key: &str, order: &Order) {
        while let Err(retry) = api.undo(path, key, order).await {
            tracing::debug!(?retry, key, "taken back later");
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }
}

async fn ask(
    State(office): State<Arc<Office>>,
    Segment(name): Segment<String>,
    headers: HeaderMap,
    Json(order): Json<Order>,
) -> Response {
    let Some(key) = key_of(&headers) else {
        return (StatusCode::BAD_REQUEST, "without an idempotency key a repeated request is a second workflow")
            .into_response();
    };
    // A task of its own: it goes on when whoever asks has gone.
    let key = key.to_owned();
    let outcome = tokio::spawn(async move { office.run(&name, &key, &order).await }).await;
    match outcome {
        Ok(Ok(outcome)) => Json(outcome).into_response(),
        Ok(Err(error)) => (StatusCode::SERVICE_UNAVAILABLE, error.to_string()).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// Taking back is a workflow, too, under a key of its own.
async fn ask_to_undo(
    State(office): State<Arc<Office>>,
    Segment(name): Segment<String>,
    mut headers: HeaderMap,
    order: Json<Order>,
) -> Response {
    let key = key_of(&headers).and_then(|key| format!("{key}/undo").parse().ok());
    if let Some(key) = key {
        headers.insert(crate::api::KEY_HEADER, key);
    }
    ask(State(office), Segment(format!("{name}-undo")), headers, order).await
}
