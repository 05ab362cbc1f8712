//! What each process does: one node, with one role. The client's also asks for trips.
//!
//! On standard output each says `ready`; the client then says of each trip what has become of it, in a line.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use accompanist::NodeBuilder;
use accompanist::prelude::*;
use accompanist::store::FjallStore;
use accompanist::transport::{ZenohConfig, ZenohTransport};
use anyhow::bail;
use clap::Args;
use fleet::{StoreArguments, told_to_stop};
use tokio::sync::Semaphore;
use travel::atlas::{Atlas, SEED};
use travel::program::{BookTrip, BookTripCentrally, Client, Flight, Geo, Reservation};

/// The roles, in the order of the program.
pub(crate) const ROLES: [&str; 4] = [Client::NAME, Geo::NAME, Flight::NAME, Reservation::NAME];
/// Trips that are asked for at the same time.
const IN_FLIGHT: usize = 8;
/// The pause before a trip is asked for again that could not be started.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

#[derive(Debug, Args)]
pub(crate) struct RoleArguments {
    /// The role to play: client, geo, flight or reservation
    role: String,
    /// Where to listen for the other roles, such as tcp/127.0.0.1:7601
    #[arg(long)]
    listen: String,
    /// Where another role listens; may be given several times
    #[arg(long)]
    connect: Vec<String>,
    /// The data folder, of this role alone
    #[arg(long)]
    data: PathBuf,
    #[command(flatten)]
    begin: StoreArguments,
    /// How many trips the client asks for
    #[arg(long, default_value_t = 0)]
    trips: u32,
    /// Makes airports, flights, hotels and wishes; the same for all roles
    #[arg(long, default_value_t = SEED)]
    seed: u64,
    /// Stop when standard input ends
    #[arg(long, hide = true)]
    until_stdin_closes: bool,
}

/// Where a role's node keeps its journal, in its data folder.
pub(crate) fn store_folder(data: &Path) -> PathBuf {
    data.join("journal")
}

/// Gives a node the role at that place of [`ROLES`], and the programs.
pub(crate) fn with_role(builder: NodeBuilder, place: usize, atlas: &Arc<Atlas>) -> NodeBuilder {
    let builder =
        builder.choreography(BookTrip).choreography(BookTripCentrally::<false>).choreography(BookTripCentrally::<true>);
    match place {
        0 => builder.role(Client, Arc::new(())),
        1 => builder.role(Geo, atlas.clone()),
        2 => builder.role(Flight, atlas.clone()),
        _ => builder.role(Reservation, atlas.clone()),
    }
}

pub(crate) async fn play(arguments: RoleArguments) -> anyhow::Result<ExitCode> {
    let RoleArguments { role, listen, connect, data, begin, trips, seed, until_stdin_closes } = arguments;
    let Some(place) = ROLES.iter().position(|name| *name == role) else {
        bail!("there is no role `{role}`: the roles are {}", ROLES.join(", "));
    };
    let atlas = Arc::new(Atlas::new(seed));
    let config = connect.iter().fold(ZenohConfig::new().listen(&listen), ZenohConfig::connect);
    let builder = Node::builder(NodeId::new(&*role)?)
        .store(FjallStore::open(store_folder(&data))?)
        .transport(ZenohTransport::open(config).await?);
    let node = begin.given_to(with_role(builder, place, &atlas)).start().await?;
    println!("ready");
    let trips = async {
        if place == 0 {
            ask_for(&node, &atlas, trips).await;
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        error = node.failed() => return Err(error.into()),
        () = trips => {}
        () = told_to_stop(until_stdin_closes) => {}
    }
    node.shutdown().await;
    Ok(ExitCode::SUCCESS)
}

/// Asks for all trips, some at a time. A trip's name is its key: after a restart all are asked for again, and those
/// that there are already are found.
async fn ask_for(node: &Node, atlas: &Arc<Atlas>, trips: u32) {
    let places = Arc::new(Semaphore::new(IN_FLIGHT));
    for number in 1..=trips {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let (node, atlas) = (node.clone(), atlas.clone());
        tokio::spawn(async move {
            if let Some(answer) = answer(&node, &atlas, number).await {
                println!("{number} {answer}");
            }
            drop(place);
        });
    }
}

/// `None` if the node has stopped: the next one asks again.
async fn answer(node: &Node, atlas: &Atlas, number: u32) -> Option<String> {
    let wish = atlas.wish(number);
    let session = loop {
        match node.start(BookTrip, wish.clone()).key(&wish.trip).await {
            Ok(session) => break session,
            Err(StartError::NodeStopped) => return None,
            Err(error) => tracing::debug!(%error, number, "not started yet"),
        }
        tokio::time::sleep(RETRY_PAUSE).await;
    };
    // Settled at all roles, so that the books can be read when the last one is.
    match session.settled().await {
        Ok(_) => Some("booked".into()),
        Err(SessionError::Aborted(abort)) => Some(abort.code().to_owned()),
        Err(error) => {
            tracing::debug!(%error, number, "not known here");
            None
        }
    }
}
