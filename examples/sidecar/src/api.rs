//! The client of a service over HTTP: what a sidecar has as its `Service`, and what the office calls with.
//!
//! The idempotency key goes along as a header. A refusal is an answer; anything else is trouble on the way, after which
//! the same call, under the same key, is made again.

use std::time::Duration;

use accompanist::{Abort, Retry};
use reqwest::StatusCode;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The header that makes a repeated call one call.
pub const KEY_HEADER: &str = "idempotency-key";
/// The code of an abort by a service's refusal.
pub const REFUSED: &str = "refused";
/// The pause before a call is made again.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// A service behind an address such as `http://127.0.0.1:8080`.
#[derive(Debug, Clone)]
pub struct Api {
    base: String,
    client: reqwest::Client,
}

impl Api {
    /// Connects to nothing yet.
    ///
    /// # Errors
    /// When the client cannot be built.
    pub fn new(base: impl Into<String>) -> reqwest::Result<Self> {
        Ok(Self { base: base.into(), client: reqwest::Client::builder().no_proxy().build()? })
    }

    /// Calls until there is an answer: what the service gives, or its refusal.
    ///
    /// # Errors
    /// The refusal.
    pub async fn call<T: DeserializeOwned>(&self, path: &str, key: &str, body: &impl Serialize) -> Result<T, Abort> {
        loop {
            match self.try_call(path, key, body).await {
                Ok(answer) => return answer,
                Err(error) => tracing::debug!(%error, path, key, "called again soon"),
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }

    /// Takes back what was called under `key`: one try, since the runtime makes the others, with growing pauses.
    ///
    /// # Errors
    /// [`Retry`], with the reason.
    pub async fn undo(&self, path: &str, key: &str, body: &impl Serialize) -> Result<(), Retry> {
        match self.try_call::<serde_json::Value>(&format!("{path}/undo"), key, body).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(refusal)) => Err(Retry::new(refusal.to_string())),
            Err(error) => Err(Retry::new(error.to_string())),
        }
    }

    async fn try_call<T: DeserializeOwned>(
        &self,
        path: &str,
        key: &str,
        body: &impl Serialize,
    ) -> reqwest::Result<Result<T, Abort>> {
        let request = self.client.post(format!("{}/{path}", self.base)).header(KEY_HEADER, key).json(body);
        let response = request.send().await?;
        if response.status() == StatusCode::UNPROCESSABLE_ENTITY {
            return Ok(Err(Abort::new(REFUSED, response.text().await?)));
        }
        Ok(Ok(response.error_for_status()?.json().await?))
    }
}
