//! What each process does. Each prints a line when it is ready; the client's sidecar then says of each order what has
//! become of it.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use accompanist::prelude::*;
use accompanist::store::FjallStore;
use accompanist::transport::{ZenohConfig, ZenohTransport};
use accompanist::{NodeBuilder, SEAL_KEY_FILE};
use anyhow::{Context as _, bail};
use boutique::call::channel;
use boutique::program::{Cart, Catalog, Client, Currency, Email, Payment, PlaceOrder, PlaceOrderCentrally, Shipping};
use boutique::{orchestrator, sample, services};
use clap::Args;
use fleet::{StoreArguments, make_data_folder, told_to_stop};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tonic::transport::Channel;

/// The roles, in the order of the program.
pub(crate) const ROLES: [&str; 7] =
    [Client::NAME, Cart::NAME, Catalog::NAME, Currency::NAME, Payment::NAME, Shipping::NAME, Email::NAME];
/// Orders that are placed at the same time.
const IN_FLIGHT: usize = 8;
/// The pause before an order is placed again that could not be started.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

#[derive(Debug, Args)]
pub(crate) struct ServiceArguments {
    /// cart, catalog, currency, payment, shipping or email
    name: String,
    /// Where it takes requests, such as 127.0.0.1:7001
    #[arg(long)]
    listen: String,
    /// The data folder, of this service alone
    #[arg(long)]
    data: PathBuf,
    /// Stop when standard input ends
    #[arg(long, hide = true)]
    until_stdin_closes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RoleArguments {
    /// client, cart, catalog, currency, payment, shipping or email
    name: String,
    /// The address of the service it stands beside: `http://`, host and port. The client has none
    #[arg(long, default_value = "http://127.0.0.1:1")]
    service: String,
    /// Where to listen for the other sidecars, such as tcp/127.0.0.1:7701
    #[arg(long)]
    listen: String,
    /// Where another one listens; may be given several times
    #[arg(long)]
    connect: Vec<String>,
    /// The data folder, of this sidecar alone
    #[arg(long)]
    data: PathBuf,
    #[command(flatten)]
    begin: StoreArguments,
    /// The folder that `accompanist security add-node` has made for it, with whose seal keys all is sealed; without one
    /// it reaches this machine alone
    #[arg(long)]
    security: Option<PathBuf>,
    /// How many orders the client places
    #[arg(long, default_value_t = 0)]
    orders: u32,
    /// Stop when standard input ends
    #[arg(long, hide = true)]
    until_stdin_closes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct OrderArguments {
    /// The number of the order
    number: u32,
    /// The services' addresses: cart, catalog, currency, payment, shipping, email
    #[arg(long, value_delimiter = ',', required = true)]
    services: Vec<String>,
}

pub(crate) async fn service(arguments: ServiceArguments) -> anyhow::Result<ExitCode> {
    let ServiceArguments { name, listen, data, until_stdin_closes } = arguments;
    make_data_folder(&data)?;
    let listener = TcpListener::bind(&listen).await.with_context(|| format!("{listen} cannot be listened on"))?;
    println!("ready at {listen}");
    tokio::select! {
        served = services::serve(&name, listener, &data) => served?,
        () = told_to_stop(until_stdin_closes) => {}
    }
    Ok(ExitCode::SUCCESS)
}

/// Gives a node the role at that place of [`ROLES`], with its service, and the programs.
pub(crate) fn with_role(builder: NodeBuilder, place: usize, service: Channel) -> NodeBuilder {
    let builder = builder.choreography(PlaceOrder).choreography(PlaceOrderCentrally);
    let service = Arc::new(service);
    match place {
        0 => builder.role(Client, Arc::new(())),
        1 => builder.role(Cart, service),
        2 => builder.role(Catalog, service),
        3 => builder.role(Currency, service),
        4 => builder.role(Payment, service),
        5 => builder.role(Shipping, service),
        _ => builder.role(Email, service),
    }
}

pub(crate) async fn role(arguments: RoleArguments) -> anyhow::Result<ExitCode> {
    let RoleArguments { name, service, listen, connect, data, begin, security, orders, until_stdin_closes } = arguments;
    let Some(place) = ROLES.iter().position(|role| *role == name) else {
        bail!("there is no role `{name}`: the roles are {}", ROLES.join(", "));
    };
    make_data_folder(&data)?;
    let mut config = connect.iter().fold(ZenohConfig::new().listen(&listen), ZenohConfig::connect);
    let mut builder = Node::builder(NodeId::new(&*name)?).store(FjallStore::open(data.join("journal"))?);
    if let Some(folder) = security {
        config = config.config_file(folder.join("zenoh.json5"));
        builder = builder.members_file(folder.join("members.toml"));
        let seal_keys = folder.join(SEAL_KEY_FILE);
        if seal_keys.exists() {
            builder = builder.seal_key_file(seal_keys);
        }
    }
    let builder = builder.transport(ZenohTransport::open(config).await?);
    let builder = begin.given_to(with_role(builder, place, channel(&service)?));
    let node = builder.start().await?;
    println!("ready at {listen}");
    let orders = async {
        if place == 0 {
            place_all(&node, orders).await;
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        error = node.failed() => return Err(error.into()),
        () = orders => {}
        () = told_to_stop(until_stdin_closes) => {}
    }
    node.shutdown().await;
    Ok(ExitCode::SUCCESS)
}

/// Places all orders, some at a time. An order's name is its key: after a restart all are placed again, and those that
/// there are already are found.
async fn place_all(node: &Node, orders: u32) {
    let places = Arc::new(Semaphore::new(IN_FLIGHT));
    for number in 1..=orders {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let node = node.clone();
        tokio::spawn(async move {
            if let Some(answer) = placed(&node, number).await {
                println!("{number} {answer}");
            }
            drop(place);
        });
    }
}

/// `None` if the node has stopped: the next one places it again.
async fn placed(node: &Node, number: u32) -> Option<&'static str> {
    let wish = sample::wish(number);
    let session = loop {
        match node.start(PlaceOrder, wish.clone()).key(&wish.order).await {
            Ok(session) => break session,
            Err(StartError::NodeStopped) => return None,
            Err(error) => tracing::debug!(%error, number, "not started yet"),
        }
        tokio::time::sleep(RETRY_PAUSE).await;
    };
    // Settled at all roles, so that the books can be read when the last one is.
    match session.settled().await {
        Ok(_) => Some("placed"),
        Err(SessionError::Aborted(_)) => Some("refused"),
        Err(error) => {
            tracing::debug!(%error, number, "not known here");
            None
        }
    }
}

pub(crate) async fn order(arguments: OrderArguments) -> anyhow::Result<ExitCode> {
    let OrderArguments { number, services } = arguments;
    let Ok(addresses) = <[String; 6]>::try_from(services) else {
        bail!("six addresses are needed: {}", services::NAMES.join(", "));
    };
    let result = orchestrator::Services::new(&addresses)?.place_order(&sample::wish(number)).await?;
    println!("{} is on its way: {}", result.order_id, result.shipping_tracking_id);
    Ok(ExitCode::SUCCESS)
}
