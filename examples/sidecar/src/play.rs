//! What each process does. Each prints a line when it is ready.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use accompanist::NodeBuilder;
use accompanist::prelude::*;
use accompanist::store::FjallStore;
use accompanist::transport::{ZenohConfig, ZenohTransport};
use anyhow::Context as _;
use axum::Router;
use clap::Args;
use fleet::{Book, StoreArguments, make_data_folder, told_to_stop};
use sidecar::api::Api;
use sidecar::office::{Office, Services};
use sidecar::program::{Carrier, Delivery, Depot, DepotServices};
use sidecar::{door, service};
use tokio::net::TcpListener;

/// What every process has.
#[derive(Debug, Args)]
pub(crate) struct Common {
    /// The data folder, of this process alone
    #[arg(long)]
    data: PathBuf,
    /// Stop when standard input ends
    #[arg(long, hide = true)]
    until_stdin_closes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ServiceArguments {
    /// Where it takes requests, such as 127.0.0.1:8001
    #[arg(long)]
    listen: String,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
pub(crate) struct OfficeArguments {
    /// Where it takes requests, such as 127.0.0.1:8000
    #[arg(long)]
    listen: String,
    /// The address of the billing service: `http://`, host and port
    #[arg(long)]
    billing: String,
    /// The customs service
    #[arg(long)]
    customs: String,
    /// The door of the depot's sidecar
    #[arg(long)]
    deliveries: String,
    #[command(flatten)]
    common: Common,
}

/// What a sidecar has besides its service.
#[derive(Debug, Args)]
pub(crate) struct Sidecar {
    /// Where it listens for the other sidecar, such as tcp/127.0.0.1:7501
    #[arg(long)]
    wire: String,
    /// Where the other one listens
    #[arg(long)]
    peer: String,
    /// The address of the service that it stands beside: `http://`, host and port
    #[arg(long)]
    service: String,
    #[command(flatten)]
    begin: StoreArguments,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
pub(crate) struct DepotArguments {
    /// Where deliveries are asked for, such as 127.0.0.1:8010
    #[arg(long)]
    listen: String,
    /// The office, one of whose workflows is a step of the delivery
    #[arg(long)]
    office: String,
    #[command(flatten)]
    sidecar: Sidecar,
}

#[derive(Debug, Args)]
pub(crate) struct CarrierArguments {
    #[command(flatten)]
    sidecar: Sidecar,
}

impl Common {
    /// The file of that name in the data folder, which is made if need be.
    fn file(&self, name: &str) -> anyhow::Result<PathBuf> {
        let folder = &self.data;
        make_data_folder(folder)?;
        Ok(folder.join(name))
    }

    /// Takes requests until it is told to stop.
    async fn serve(&self, listen: &str, router: Router) -> anyhow::Result<ExitCode> {
        let listener = TcpListener::bind(listen).await.with_context(|| format!("{listen} cannot be listened on"))?;
        println!("ready at {listen}");
        tokio::select! {
            served = axum::serve(listener, router) => served?,
            () = told_to_stop(self.until_stdin_closes) => {}
        }
        Ok(ExitCode::SUCCESS)
    }
}

pub(crate) async fn service(arguments: ServiceArguments) -> anyhow::Result<ExitCode> {
    let ServiceArguments { listen, common } = arguments;
    let router = service::router(Book::open(&common.file(BOOK)?).await?);
    common.serve(&listen, router).await
}

/// The file of a service's book, in its data folder.
pub(crate) const BOOK: &str = "book.sqlite";

pub(crate) async fn office(arguments: OfficeArguments) -> anyhow::Result<ExitCode> {
    let OfficeArguments { listen, billing, customs, deliveries, common } = arguments;
    let services =
        Services { billing: Api::new(billing)?, customs: Api::new(customs)?, deliveries: Api::new(deliveries)? };
    let office = Office::open(&common.file("journal.sqlite")?, services).await?;
    common.serve(&listen, office.router()).await
}

impl Sidecar {
    async fn start(&self, name: &str, role: impl FnOnce(NodeBuilder) -> NodeBuilder) -> anyhow::Result<Node> {
        let config = ZenohConfig::new().listen(&self.wire).connect(&self.peer);
        let builder = Node::builder(NodeId::new(name)?)
            .store(FjallStore::open(self.common.file("journal")?)?)
            .transport(ZenohTransport::open(config).await?)
            .choreography(Delivery);
        Ok(self.begin.given_to(role(builder)).start().await?)
    }
}

pub(crate) async fn depot(arguments: DepotArguments) -> anyhow::Result<ExitCode> {
    let DepotArguments { listen, office, sidecar } = arguments;
    let services = DepotServices { depot: Api::new(&sidecar.service)?, office: Api::new(office)? };
    let node = sidecar.start("depot", |node| node.role(Depot, Arc::new(services))).await?;
    let code = tokio::select! {
        error = node.failed() => return Err(error.into()),
        served = sidecar.common.serve(&listen, door::router(node.clone())) => served?,
    };
    node.shutdown().await;
    Ok(code)
}

pub(crate) async fn carrier(arguments: CarrierArguments) -> anyhow::Result<ExitCode> {
    let CarrierArguments { sidecar } = arguments;
    let api = Api::new(&sidecar.service)?;
    let node = sidecar.start("carrier", |node| node.role(Carrier, Arc::new(api))).await?;
    println!("ready at {}", sidecar.wire);
    tokio::select! {
        error = node.failed() => return Err(error.into()),
        () = told_to_stop(sidecar.common.until_stdin_closes) => {}
    }
    node.shutdown().await;
    Ok(ExitCode::SUCCESS)
}
