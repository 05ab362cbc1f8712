//! The choreography beside two orchestrators, with slow lines between all hosts: one order at a time, in turns.
//!
//! A sidecar is on its service's host. What crosses between hosts is delayed: messages between sidecars, and the calls of the
//! orchestrator that has no sidecars.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use accompanist::Node;
use anyhow::Context as _;
use boutique::call::channel;
use boutique::hipstershop::AddItemRequest;
use boutique::hipstershop::cart_service_client::CartServiceClient;
use boutique::messages::Wish;
use boutique::program::{PlaceOrder, PlaceOrderCentrally};
use boutique::{orchestrator, sample, services};
use clap::Args;
use fleet::{DelayLine, Kept, Sites};
use hdrhistogram::Histogram;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::play::{ROLES, with_role};

/// Orders before those that are measured.
const WARMUP: u32 = 5;

#[derive(Debug, Clone, Args)]
pub(crate) struct CompareArguments {
    /// Delays of a line, one way, in milliseconds
    #[arg(long, value_delimiter = ',', default_values_t = [0, 2, 5])]
    delay_ms: Vec<u64>,
    /// Orders of each way, in turns
    #[arg(long, default_value_t = 100)]
    orders: u32,
    /// Write the numbers to this file, too
    #[arg(long)]
    json: Option<PathBuf>,
    /// Where the stores go, instead of the system's folder for temporary files
    #[arg(long, value_name = "DIR")]
    data_in: Option<PathBuf>,
}

/// How an order is placed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Way {
    Choreography,
    /// The same services, steps, stores and network, with the client in the middle.
    DurableOrchestrator,
    /// As the original: gRPC calls from one place.
    PlainOrchestrator,
}

const WAYS: [Way; 3] = [Way::Choreography, Way::DurableOrchestrator, Way::PlainOrchestrator];

/// What was measured of one way with one delay.
#[derive(Debug, Serialize)]
struct Line {
    delay_ms: u64,
    way: Way,
    n: u64,
    p50_ms: f64,
    p99_ms: f64,
    /// The choreography's median by this one's.
    ratio: f64,
}

/// All services, in this process.
struct Services {
    addresses: [String; 6],
    far: [String; 6],
    tasks: Vec<JoinHandle<anyhow::Result<()>>>,
    _lines: Vec<DelayLine>,
}

impl Services {
    async fn start(folder: &Path, delay: Duration) -> anyhow::Result<Self> {
        let (mut addresses, mut far, mut tasks, mut lines) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for name in services::NAMES {
            let folder = folder.join(name);
            std::fs::create_dir_all(&folder)?;
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            let line = DelayLine::start(listener.local_addr()?, delay)?;
            addresses.push(format!("http://{}", listener.local_addr()?));
            far.push(format!("http://{}", line.address()));
            lines.push(line);
            tasks.push(tokio::spawn(async move { services::serve(name, listener, &folder).await }));
        }
        let six = |list: Vec<String>| <[String; 6]>::try_from(list).ok().context("there are six services");
        Ok(Self { addresses: six(addresses)?, far: six(far)?, tasks, _lines: lines })
    }
}

impl Drop for Services {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

pub(crate) async fn run(arguments: CompareArguments) -> anyhow::Result<ExitCode> {
    let CompareArguments { delay_ms, orders, json, data_in } = arguments;
    let mut lines = Vec::new();
    for delay_ms in delay_ms {
        let base = data_in.clone().unwrap_or_else(std::env::temp_dir);
        let folder = tempfile::Builder::new().prefix("boutique-").tempdir_in(base)?;
        let delay = Duration::from_millis(delay_ms);
        let services = Services::start(&folder.path().join("services"), delay).await?;
        let mut beside = vec![channel("http://127.0.0.1:1")?]; // The client has none.
        for address in &services.addresses {
            beside.push(channel(address)?);
        }
        let play = |builder, place| match beside.get(place) {
            Some(service) => with_role(builder, place, service.clone()),
            None => builder,
        };
        let sites = Sites::start(&ROLES, folder.path(), Kept::OverPower, |_, _| delay, play).await?;
        lines.extend(measure(&sites, &services, delay_ms, orders).await?);
        sites.end().await;
    }
    println!("{:<9} {:<22} {:>6} {:>9} {:>9}  choreography by it", "delay ms", "", "n", "p50 ms", "p99 ms");
    for Line { delay_ms, way, n, p50_ms, p99_ms, ratio } in &lines {
        let way = format!("{way:?}");
        println!("{delay_ms:<9} {way:<22} {n:>6} {p50_ms:>9.2} {p99_ms:>9.2}  {ratio:.2}");
    }
    println!(
        "\nOne order at a time, from the wish to the answer; fdatasync before anything is acknowledged, and in the services."
    );
    if let Some(file) = json {
        let processors = std::thread::available_parallelism().map_or(0, usize::from);
        let commit = std::process::Command::new("git").args(["describe", "--always", "--dirty"]).output();
        let commit = commit.map_or_else(|_| String::new(), |said| String::from_utf8_lossy(&said.stdout).trim().into());
        let raw = serde_json::json!({
            "machine": format!("{processors} processors"), "commit": commit,
            "durability": "Power: fdatasync before anything is acknowledged", "lines": lines,
        });
        std::fs::write(&file, serde_json::to_string_pretty(&raw)?)
            .with_context(|| format!("{} cannot be written", file.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn measure(sites: &Sites, services: &Services, delay_ms: u64, orders: u32) -> anyhow::Result<Vec<Line>> {
    let client = sites.first()?;
    let plain = orchestrator::Services::new(&services.far)?;
    let [cart, ..] = &services.addresses;
    let mut carts = CartServiceClient::new(channel(cart)?);
    let mut times = [Histogram::<u64>::new(3)?, Histogram::new(3)?, Histogram::new(3)?];
    for (round, first) in (0..WARMUP + orders).zip((0..WAYS.len()).cycle()) {
        let mut turns: Vec<_> = WAYS.into_iter().zip(&mut times).collect();
        turns.rotate_left(first);
        for (way, times) in turns {
            let wish = Wish { order: format!("{round} {way:?}"), user: format!("{round} {way:?}"), ..sample::wish(1) };
            for item in sample::items(round) {
                carts.add_item(AddItemRequest { user_id: wish.user.clone(), item: Some(item) }).await?;
            }
            let begun = Instant::now();
            place(way, client, &plain, wish).await?;
            let took = begun.elapsed();
            if round >= WARMUP {
                times.record(u64::try_from(took.as_micros())?)?;
            }
            sites.are_idle().await;
        }
    }
    let ms =
        |times: &Histogram<u64>, quantile| Duration::from_micros(times.value_at_quantile(quantile)).as_secs_f64() * 1e3;
    let ours = times.first().map_or(0.0, |times| ms(times, 0.5));
    let lines = WAYS.into_iter().zip(&times).map(|(way, times)| {
        let (p50_ms, p99_ms) = (ms(times, 0.5), ms(times, 0.99));
        Line { delay_ms, way, n: times.len(), p50_ms, p99_ms, ratio: ours / p50_ms }
    });
    Ok(lines.collect())
}

async fn place(way: Way, client: &Node, plain: &orchestrator::Services, wish: Wish) -> anyhow::Result<()> {
    match way {
        Way::Choreography => client.start(PlaceOrder, wish).await?.output().await?,
        Way::DurableOrchestrator => client.start(PlaceOrderCentrally, wish).await?.output().await?,
        Way::PlainOrchestrator => plain.place_order(&wish).await?,
    };
    Ok(())
}
