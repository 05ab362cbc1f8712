//! The HTTP door of the administrative interface: for machines that do not speak Zenoh, for probes and for Prometheus.
//!
//! It takes the same messages as the network. Whoever is on this machine may read; what changes something needs a
//! bearer token from a file, and on an address that others reach reading needs it, too. Probes and metrics need none. A
//! browser's page from elsewhere cannot use it: requests must be JSON, which makes a browser ask first, and name this
//! machine as their host.

use std::future::IntoFuture;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use accompanist_core::contract::AdminAccess;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use subtle::ConstantTimeEq;
use tokio::net::TcpListener;

use super::Admin;
use super::error::{AdminError, AdminErrorCode};
use crate::base::metric;
use crate::config::AdminSettings;
use crate::error::NodeError;
use crate::runtime::context::{End, NodeContext};

/// The largest request, in bytes.
const REQUEST_BYTES_MAX: usize = 64 * 1024;
/// The shortest token, in bytes: one that cannot be guessed.
const TOKEN_BYTES_MIN: usize = 16;
/// How often the histograms of the metrics are drained.
const METRICS_UPKEEP: std::time::Duration = std::time::Duration::from_secs(5);

/// What all handlers share.
struct Door {
    context: std::sync::Weak<NodeContext>,
    token: Option<String>,
    /// Whether the token is needed to read as well.
    is_reachable: bool,
    /// Absent if the service has a recorder of its own.
    metrics: Option<PrometheusHandle>,
}

/// A bound address that is not answered yet.
pub(crate) struct HttpDoor {
    listener: TcpListener,
    token: Option<String>,
    address: SocketAddr,
    metrics: Option<PrometheusHandle>,
}

/// Binds the address of the settings, if there is one.
pub(crate) async fn bind(settings: &AdminSettings) -> Result<Option<HttpDoor>, NodeError> {
    let AdminSettings { http_listen, http_token_file, .. } = settings;
    if http_listen.is_empty() {
        return Ok(None);
    }
    let refused = |reason: String| NodeError::AdminHttp { address: http_listen.clone(), reason };
    let token = match http_token_file {
        None => None,
        Some(file) => {
            let text = std::fs::read_to_string(file);
            let text = text.map_err(|error| {
                refused(format!("the token file `{}` cannot be read ({error}): make one", file.display()))
            })?;
            let token = text.trim().to_owned();
            if token.len() < TOKEN_BYTES_MIN {
                let file = file.display();
                return Err(refused(format!(
                    "the token in `{file}` has fewer than {TOKEN_BYTES_MIN} characters: make one with `openssl rand -hex \
                     32 > {file}`"
                )));
            }
            Some(token)
        }
    };
    let listener = TcpListener::bind(http_listen).await;
    let listener =
        listener.map_err(|error| refused(format!("it cannot be listened on ({error}): give another one")))?;
    let address = listener.local_addr().map_err(|error| refused(error.to_string()))?;
    Ok(Some(HttpDoor { listener, token, address, metrics: install_metrics() }))
}

impl HttpDoor {
    /// Answers requests until the node ends.
    pub(crate) fn answer(self, context: &Arc<NodeContext>) {
        let Self { listener, token, address, metrics } = self;
        if let Some(metrics) = metrics.clone() {
            context.lifecycle.runtime.spawn(keep_up(metrics, context.lifecycle.end.wait()));
        }
        let is_reachable = !address.ip().is_loopback();
        let door = Arc::new(Door { context: Arc::downgrade(context), token, is_reachable, metrics });
        let messages = Router::new()
            .route("/v1/{access}", post(message))
            .layer(middleware::from_fn_with_state(door.clone(), from_this_machine))
            .layer(DefaultBodyLimit::max(REQUEST_BYTES_MAX));
        let probes = Router::new()
            .route("/livez", get(livez))
            .route("/readyz", get(readyz))
            .route("/metrics", get(metrics_text));
        let router = messages.merge(probes).with_state(door);
        let end = context.lifecycle.end.clone();
        tracing::info!(%address, "the administrative interface answers over HTTP");
        context.lifecycle.runtime.spawn(async move {
            tokio::select! {
                _ = end.wait() => {}
                served = axum::serve(listener, router).into_future() => {
                    if let Err(error) = served {
                        tracing::error!(%error, "the administrative interface over HTTP has ended");
                    }
                }
            }
        });
    }
}

/// Installs a recorder for Prometheus, unless the service has one. A process has one recorder, which all of its nodes
/// share.
fn install_metrics() -> Option<PrometheusHandle> {
    static INSTALLED: OnceLock<Option<PrometheusHandle>> = OnceLock::new();
    let install = || {
        let seconds = Matcher::Suffix("_seconds".to_owned());
        let writes = Matcher::Full(metric::GROUP_COMMIT_WRITES.to_owned());
        let builder = PrometheusBuilder::new().set_buckets_for_metric(seconds, &metric::SECONDS_BOUNDS).ok()?;
        let builder = builder.set_buckets_for_metric(writes, &metric::WRITES_BOUNDS).ok()?;
        builder.install_recorder().ok()
    };
    INSTALLED.get_or_init(install).clone()
}

/// Drains the histograms from time to time, until the node ends.
async fn keep_up(metrics: PrometheusHandle, end: impl Future<Output = End>) {
    let upkeep = async {
        let mut ticks = tokio::time::interval(METRICS_UPKEEP);
        loop {
            ticks.tick().await;
            metrics.run_upkeep();
        }
    };
    tokio::select! {
        _ = end => {}
        () = upkeep => {}
    }
}

/// Refuses what a browser sends for a page from elsewhere.
async fn from_this_machine(State(door): State<Arc<Door>>, request: Request, next: Next) -> Response {
    let refused = |text: &str| (StatusCode::FORBIDDEN, format!("{text}\n")).into_response();
    let headers = request.headers();
    let text = |name: header::HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    if !text(header::CONTENT_TYPE).is_some_and(|kind| kind.starts_with("application/json")) {
        return refused("send the message as `Content-Type: application/json`");
    }
    let host = text(header::HOST).unwrap_or_default();
    if !door.is_reachable && !names_this_machine(host) {
        return refused("this address is for this machine: its host is `localhost` or an address");
    }
    next.run(request).await
}

/// Whether a `Host` names a loopback address, so that no other name was made to point here.
fn names_this_machine(host: &str) -> bool {
    let name = host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|digit| digit.is_ascii_digit()));
    let name = name.map_or(host, |(name, _)| name).trim_matches(['[', ']']);
    name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

impl Door {
    /// Returns the node's interface, unless the node has stopped.
    fn admin(&self) -> Option<Admin> {
        let context = self.context.upgrade();
        context.filter(|context| context.is_alive()).map(Admin::new)
    }

    /// Checks the token, where one is needed.
    fn check(&self, headers: &HeaderMap, access: AdminAccess) -> Result<(), AdminError> {
        if access == AdminAccess::Read && !self.is_reachable {
            return Ok(());
        }
        let forbidden = |text: &str| AdminError::new(AdminErrorCode::Forbidden, text.to_owned());
        let Some(token) = &self.token else {
            return Err(forbidden("set `admin.http_token_file` to allow this over HTTP, or use the network"));
        };
        let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let given = given.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
        let is_it = bool::from(given.as_bytes().ct_eq(token.as_bytes()));
        is_it
            .then_some(())
            .ok_or_else(|| forbidden("the bearer token is missing or wrong: see `admin.http_token_file`"))
    }
}

async fn message(
    State(door): State<Arc<Door>>,
    Path(access): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let access = match access.as_str() {
        "read" => AdminAccess::Read,
        "write" => AdminAccess::Write,
        _ => return (StatusCode::NOT_FOUND, "post to /v1/read or /v1/write\n").into_response(),
    };
    let Some(admin) = door.admin() else { return stopped() };
    let allowed = door.check(&headers, access);
    let (code, response) = admin.respond("http", access, allowed, &body).await;
    let status = code.map_or(StatusCode::OK, status_of);
    (status, [(header::CONTENT_TYPE, "application/json")], response).into_response()
}

fn status_of(code: AdminErrorCode) -> StatusCode {
    match code {
        AdminErrorCode::Version | AdminErrorCode::Malformed => StatusCode::BAD_REQUEST,
        AdminErrorCode::Forbidden => StatusCode::FORBIDDEN,
        AdminErrorCode::NotFound => StatusCode::NOT_FOUND,
        AdminErrorCode::DoesNotFit => StatusCode::CONFLICT,
        AdminErrorCode::Failed => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

fn stopped() -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, "the node has stopped\n").into_response()
}

/// Whether the node runs: if not, its process is to be started again.
async fn livez(State(door): State<Arc<Door>>) -> Response {
    door.admin().map_or_else(stopped, |_| "the node runs\n".into_response())
}

/// Whether the node takes new sessions.
async fn readyz(State(door): State<Arc<Door>>) -> Response {
    let Some(admin) = door.admin() else { return stopped() };
    let readiness = admin.context().readiness();
    let status = if readiness.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, format!("{readiness}\n")).into_response()
}

async fn metrics_text(State(door): State<Arc<Door>>) -> Response {
    match &door.metrics {
        Some(metrics) => metrics.render().into_response(),
        None => {
            let text = "the service has installed a metrics recorder of its own: its exporter has the metrics\n";
            (StatusCode::NOT_FOUND, text).into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_names_are_this_machine() {
        for host in ["localhost", "localhost:8181", "127.0.0.1:8181", "127.0.0.1", "[::1]:8181", "[::1]"] {
            assert!(names_this_machine(host), "{host}");
        }
        for host in ["", "evil.example", "evil.example:8181", "127.0.0.1.evil.example", "10.0.0.1:8181", "localhost:x"]
        {
            assert!(!names_this_machine(host), "{host}");
        }
    }
}
