//! The saga, and the services that every orchestrator calls: three processes that answer HTTP.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use axum::extract::{Path as At, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::serve::ListenerExt;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

use crate::books::Books;

/// What a customer wants: the same as in our own saga.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) number: u64,
    customer: String,
    item: String,
    quantity: u32,
    cents: i64,
}

impl Order {
    pub(crate) fn new(number: u64) -> Self {
        let (customer, item) = (format!("customer-{}", number % 1_000), format!("item-{}", number % 100));
        Self { number, customer, item, quantity: 1, cents: 2_500 }
    }

    /// An order that nobody gives points for: it is refused at the third step.
    pub(crate) fn refused(number: u64) -> Self {
        Self { cents: 0, ..Self::new(number) }
    }
}

/// What became of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Outcome {
    Shipped,
    /// What had been done was compensated.
    Refused,
}

/// What a service says to a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Answer {
    Done,
    Refused,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum Step {
    Reserve,
    Charge,
    Award,
    Ship,
}

impl Step {
    pub(crate) const ALL: [Self; 4] = [Self::Reserve, Self::Charge, Self::Award, Self::Ship];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Reserve => "reserve",
            Self::Charge => "charge",
            Self::Award => "award",
            Self::Ship => "ship",
        }
    }

    pub(crate) fn undo_name(self) -> &'static str {
        match self {
            Self::Reserve => "undo-reserve",
            Self::Charge => "undo-charge",
            Self::Award => "undo-award",
            Self::Ship => "undo-ship",
        }
    }

    /// Which of [`SERVICES`] does it.
    fn service(self) -> usize {
        match self {
            Self::Reserve | Self::Ship => 0,
            Self::Charge => 1,
            Self::Award => 2,
        }
    }
}

/// The names of the services.
pub(crate) const SERVICES: [&str; 3] = ["warehouse", "payment", "loyalty"];

/// Calls the services.
#[derive(Debug, Clone)]
pub(crate) struct Services {
    http: reqwest::Client,
    addresses: [SocketAddr; 3],
}

impl Services {
    pub(crate) fn new(addresses: [SocketAddr; 3]) -> Self {
        Self { http: reqwest::Client::new(), addresses }
    }

    pub(crate) async fn call(&self, step: Step, order: &Order) -> Result<Answer> {
        self.post(step, step.name(), order).await
    }

    /// Takes it back.
    pub(crate) async fn undo(&self, step: Step, order: &Order) -> Result<Answer> {
        self.post(step, step.undo_name(), order).await
    }

    async fn post(&self, step: Step, path: &str, order: &Order) -> Result<Answer> {
        let url = format!("http://{}/{path}", self.addresses[step.service()]);
        let response = self.http.post(url).json(order).send().await?;
        match response.status() {
            StatusCode::OK => Ok(Answer::Done),
            StatusCode::CONFLICT => Ok(Answer::Refused),
            status => bail!("the service answers {status} to {path}"),
        }
    }

    /// For each step how many orders have it done.
    pub(crate) async fn done(&self) -> Result<[usize; 4]> {
        let mut counts = [0; 4];
        for (count, step) in counts.iter_mut().zip(Step::ALL) {
            let url = format!("http://{}/{}", self.addresses[step.service()], step.name());
            *count = self.http.get(url).send().await?.error_for_status()?.json().await?;
        }
        Ok(counts)
    }
}

/// The process of a service, until it is killed. Prints its address.
pub(crate) async fn serve(store: Option<&Path>) -> Result<()> {
    let books = Arc::new(store.map_or_else(|| Ok(Books::default()), Books::on_disk)?);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    println!("{}", listener.local_addr()?);
    let routes = Router::new().route("/{path}", post(perform)).route("/{path}", get(count));
    let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
    axum::serve(listener, routes.with_state(books)).await.context("the service has ended")
}

async fn perform(State(books): State<Arc<Books>>, At(path): At<String>, Json(order): Json<Order>) -> StatusCode {
    let found = Step::ALL.into_iter().find(|step| path == step.name() || path == step.undo_name());
    let Some(step) = found else { return StatusCode::NOT_FOUND };
    let done = path == step.name();
    if done && step == Step::Award && order.cents == 0 {
        return StatusCode::CONFLICT;
    }
    match books.note(step, order.number, done).await {
        Ok(()) => StatusCode::OK,
        Err(_) => StatusCode::SERVICE_UNAVAILABLE,
    }
}

async fn count(State(books): State<Arc<Books>>, At(path): At<String>) -> Result<Json<usize>, StatusCode> {
    let step = Step::ALL.into_iter().find(|step| step.name() == path).ok_or(StatusCode::NOT_FOUND)?;
    Ok(Json(books.count(step)))
}
