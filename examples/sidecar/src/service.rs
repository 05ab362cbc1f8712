//! The services that were there before: a book of effects behind HTTP. It could be written in anything.
//!
//! `POST /EFFECT` does it, `POST /EFFECT/undo` takes it back; under a key each happens once, see [`Book`]. Knows
//! nothing of sidecars and choreographies.

use axum::extract::{Path as Segment, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use fleet::Book;

use crate::api::KEY_HEADER;
use crate::model::{ISLAND, Noted, Order};

/// The key that a request came with.
pub fn key_of(headers: &HeaderMap) -> Option<&str> {
    headers.get(KEY_HEADER)?.to_str().ok().filter(|key| !key.is_empty())
}

/// The service over its book.
pub fn router(book: Book) -> Router {
    Router::new().route("/{effect}", post(commit)).route("/{effect}/undo", post(undo)).with_state(book)
}

async fn commit(
    State(book): State<Book>,
    Segment(effect): Segment<String>,
    headers: HeaderMap,
    Json(order): Json<Order>,
) -> Response {
    let Some(key) = key_of(&headers) else { return no_key() };
    if effect == "book" && order.to == ISLAND {
        return (StatusCode::UNPROCESSABLE_ENTITY, "no ship goes to the island").into_response();
    }
    match book.commit(&effect, key, &order.id).await {
        Ok(Some(number)) => Json(Noted { number }).into_response(),
        Ok(None) => (StatusCode::UNPROCESSABLE_ENTITY, "this was compensated before").into_response(),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, error.to_string()).into_response(),
    }
}

async fn undo(
    State(book): State<Book>,
    Segment(effect): Segment<String>,
    headers: HeaderMap,
    Json(order): Json<Order>,
) -> Response {
    let Some(key) = key_of(&headers) else { return no_key() };
    match book.undo(&effect, key, &order.id).await {
        Ok(number) => Json(Noted { number }).into_response(),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, error.to_string()).into_response(),
    }
}

fn no_key() -> Response {
    (StatusCode::BAD_REQUEST, "without an idempotency key a repeated request would be done again").into_response()
}
