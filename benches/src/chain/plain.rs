//! What people write by hand: services behind HTTP, and a client that calls one after the other. Nothing is durable.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use axum::Router;
use axum::extract::State;
use axum::routing::post;
use axum::serve::ListenerExt;
use fleet::DelayLine;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::layout::Layout;
use super::program::ROLES;

/// The services, each behind a line from the client.
pub(super) struct Plain {
    client: reqwest::Client,
    lines: Vec<DelayLine>,
    services: Vec<JoinHandle<std::io::Result<()>>>,
}

/// The same work as a step of the chain: a number per key.
type Sums = Arc<Mutex<BTreeMap<u64, u64>>>;

async fn work(State(sums): State<Sums>, body: String) -> Result<String, String> {
    let number: u64 = body.parse().map_err(|_| format!("`{body}` is no number"))?;
    *sums.lock().unwrap_or_else(PoisonError::into_inner).entry(number % 100).or_default() += number;
    Ok((number + 1).to_string())
}

impl Plain {
    pub(super) async fn start(layout: Layout) -> Result<Self> {
        let (mut lines, mut services) = (Vec::new(), Vec::new());
        for place in 1..ROLES.len() {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            lines.push(DelayLine::start(listener.local_addr()?, layout.delay(0, place))?);
            let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
            let router = Router::new().route("/work", post(work)).with_state(Sums::default());
            services.push(tokio::spawn(async move { axum::serve(listener, router).await }));
        }
        Ok(Self { client: reqwest::Client::builder().no_proxy().build()?, lines, services })
    }

    /// Calls so many services, one after the other.
    pub(super) async fn run(&self, services: usize, mut number: u64) -> Result<u64> {
        for line in self.lines.iter().take(services) {
            let request = self.client.post(format!("http://{}/work", line.address())).body(number.to_string());
            number = request.send().await?.error_for_status()?.text().await?.parse()?;
        }
        Ok(number)
    }
}

impl Drop for Plain {
    fn drop(&mut self) {
        self.services.iter().for_each(JoinHandle::abort);
    }
}
