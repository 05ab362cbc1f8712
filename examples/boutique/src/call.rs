//! How a sidecar, or an orchestrator, calls a service over gRPC.
//!
//! A refusal is an answer; anything else is trouble on the way, and the call is made again under the same key.

use std::error::Error;
use std::future::Future;
use std::time::Duration;

use accompanist::{Abort, Retry};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Response, Status};

/// The metadata that makes a repeated call one call. The original services ignore it.
pub const KEY: &str = "idempotency-key";
/// The code of an abort by a service's refusal.
pub const REFUSED: &str = "refused";
/// The pause before a call is made again.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// A channel to the service at an address such as `http://127.0.0.1:7000`. Connects when it is used.
///
/// # Errors
/// When that is no address.
pub fn channel(address: &str) -> Result<Channel, tonic::transport::Error> {
    Ok(Endpoint::from_shared(address.to_owned())?.connect_lazy())
}

/// A request that comes with an idempotency key.
pub fn with_key<T>(key: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    if let Ok(key) = key.parse() {
        request.metadata_mut().insert(KEY, key);
    }
    request
}

/// Calls until there is an answer: what the service gives, or its refusal.
///
/// # Errors
/// The refusal.
pub async fn answered<T, F>(mut call: impl FnMut() -> F) -> Result<T, Abort>
where
    F: Future<Output = Result<Response<T>, Status>>,
{
    loop {
        match call().await {
            Ok(response) => return Ok(response.into_inner()),
            Err(status) if is_refusal(&status) => return Err(Abort::new(REFUSED, status.message())),
            Err(status) => tracing::debug!(%status, "called again soon"),
        }
        tokio::time::sleep(RETRY_PAUSE).await;
    }
}

/// What the runtime tries again, with growing pauses, until an operator is needed.
pub fn undone<T>(answer: Result<Response<T>, Status>) -> Result<(), Retry> {
    answer.map(|_| ()).map_err(|status| Retry::new(status.to_string()))
}

/// Whether the service has decided. What the original's payment service says of a card that it does not take is
/// `Unknown`; but so is what this end makes of a connection that breaks, and then there is an error behind it.
fn is_refusal(status: &Status) -> bool {
    match status.code() {
        Code::InvalidArgument | Code::FailedPrecondition | Code::NotFound | Code::OutOfRange => true,
        Code::Unknown => status.source().is_none(),
        _ => false,
    }
}
