//! The door of the depot's sidecar: others start the choreography with a request, as if it were a service.
//!
//! The key of the request is that of the session: whoever asks again hears of the session there is.

use std::time::Duration;

use accompanist::prelude::*;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};

use crate::model::Order;
use crate::program::Delivery;
use crate::service::key_of;

/// The pause before a session that could not be started is started again.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// What is behind the door.
pub fn router(node: Node) -> Router {
    Router::new().route("/deliveries", post(deliver)).with_state(node)
}

async fn deliver(State(node): State<Node>, headers: HeaderMap, Json(order): Json<Order>) -> Response {
    let Some(key) = key_of(&headers) else {
        return (StatusCode::BAD_REQUEST, "without an idempotency key a repeated request is a second delivery")
            .into_response();
    };
    let session = loop {
        match node.start(Delivery, order.clone()).key(key).await {
            Ok(session) => break session,
            Err(error @ StartError::NodeStopped) => return stopped(&error),
            Err(error @ StartError::OtherInput { .. }) => {
                return (StatusCode::CONFLICT, error.to_string()).into_response();
            }
            Err(error) => tracing::debug!(%error, key, "not started yet"),
        }
        tokio::time::sleep(RETRY_PAUSE).await;
    };
    // Settled, and not only put out: what it says is not compensated later.
    match session.settled().await {
        Ok(tracking) => Json(tracking).into_response(),
        Err(SessionError::Aborted(abort)) => {
            (StatusCode::UNPROCESSABLE_ENTITY, abort.message().to_owned()).into_response()
        }
        Err(error) => stopped(&error),
    }
}

/// Whoever asked asks again, under the same key.
fn stopped(error: &impl ToString) -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, error.to_string()).into_response()
}
