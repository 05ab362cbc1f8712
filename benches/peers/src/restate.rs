//! Restate: a server that keeps the journal of each invocation, and calls the handler that we serve.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use restate_sdk::prelude::{Context, ContextSideEffects, Endpoint, HandlerError, HttpServer, Json, RunFuture, service};
use serde_json::json;
use socket2::SockRef;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::saga::{Answer, Order, Outcome, Services, Step};
use crate::server::{Server, free};

pub(crate) struct Restate {
    http: reqwest::Client,
    place: String,
    endpoint: JoinHandle<()>,
    _server: Server,
}

struct Orders(Services);

#[service]
impl Orders {
    #[handler]
    async fn place(&self, context: Context<'_>, order: Json<Order>) -> Result<Json<Outcome>, HandlerError> {
        let Json(order) = order;
        let Self(services) = self;
        let mut done = Vec::new();
        for step in Step::ALL {
            let call = context.run(|| async { Ok(Json(services.call(step, &order).await?)) });
            let Json(answer) = call.name(step.name()).await?;
            if answer == Answer::Refused {
                for step in done.into_iter().rev() {
                    let undo = context.run(|| async { Ok(Json(services.undo(step, &order).await?)) });
                    undo.name(step.undo_name()).await?;
                }
                return Ok(Json(Outcome::Refused));
            }
            done.push(step);
        }
        Ok(Json(Outcome::Shipped))
    }
}

/// What is not as it comes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    /// Whether our handler's connections have `TCP_NODELAY`. The SDK's own server leaves Nagle's algorithm on, which
    /// costs 40 ms a step when there is little to do.
    pub(crate) nodelay: bool,
    /// How many partitions; without it, as many as the server makes.
    pub(crate) partitions: Option<u16>,
}

impl Restate {
    pub(crate) async fn start(services: Services, folder: &Path, program: &Path, settings: Settings) -> Result<Self> {
        let Settings { nodelay, partitions } = settings;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        // What is accepted inherits it.
        SockRef::from(&listener).set_tcp_nodelay(nodelay)?;
        let address = listener.local_addr()?;
        let handlers = Endpoint::builder().bind(Orders(services)).build();
        let endpoint = tokio::spawn(HttpServer::new(handlers).serve(listener));

        let (node, ingress, admin) = (free()?, free()?, free()?);
        let mut command = Command::new(program);
        command.arg("--base-dir").arg(folder.join("data")).env("RESTATE_DISABLE_TELEMETRY", "true");
        for (name, value) in [
            ("RESTATE_BIND_ADDRESS", node.to_string()),
            ("RESTATE_ADVERTISED_ADDRESS", format!("http://{node}/")),
            ("RESTATE_INGRESS__BIND_ADDRESS", ingress.to_string()),
            ("RESTATE_ADMIN__BIND_ADDRESS", admin.to_string()),
        ] {
            command.env(name, value);
        }
        if let Some(partitions) = partitions {
            command.env("RESTATE_DEFAULT_NUM_PARTITIONS", partitions.to_string());
        }
        let mut server = Server::start(&mut command, &folder.join("restate.log"))?;
        server.listens(ingress).await?;
        server.listens(admin).await?;
        let http = reqwest::Client::new();
        let ready = async || {
            let health = http.get(format!("http://{ingress}/restate/health")).send().await;
            health.is_ok_and(|response| response.status().is_success())
        };
        server.until(ready).await?;
        let register =
            http.post(format!("http://{admin}/deployments")).json(&json!({ "uri": format!("http://{address}") }));
        let answer = register.send().await.context("the server cannot be told of the handler")?;
        ensure!(answer.status().is_success(), "the server refuses the handler: {}", answer.text().await?);
        Ok(Self { http, place: format!("http://{ingress}/Orders/place"), endpoint, _server: server })
    }

    pub(crate) async fn order(&self, order: &Order) -> Result<Outcome> {
        let response = self.http.post(&self.place).json(order).send().await?;
        if !response.status().is_success() {
            bail!("the server answers {}: {}", response.status(), response.text().await?);
        }
        Ok(response.json().await?)
    }

    pub(crate) fn end(self) {
        self.endpoint.abort();
    }
}

/// Which version it is.
pub(crate) fn version(program: &Path) -> Result<String> {
    let output = Command::new(program).arg("--version").output().context("restate-server cannot be run")?;
    Ok(format!("restate-sdk 0.13.0, {}", String::from_utf8_lossy(&output.stdout).trim()))
}
