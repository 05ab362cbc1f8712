//! Messages to a durable actor in another process: told and handled per second, and the time of one tell and of one
//! ask.

use std::io::{BufRead, BufReader, stdin};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use accompanist::Durability;
use accompanist::prelude::*;
use accompanist::transport::ZenohTransport;
use anyhow::{Context, Result, ensure};
use fleet::Times;
use tokio::task::JoinSet;

use crate::child::READY;
use crate::cluster::wire;
use crate::machine;
use crate::process::free_ports;
use crate::report::Report;

/// Options.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Messages that are told and handled.
    #[arg(long, default_value_t = 50_000)]
    messages: u64,
    /// Tells that wait for their sync at any time.
    #[arg(long, default_value_t = 256)]
    in_flight: u64,
    /// Messages that are told, and questions that are asked, one after the other.
    #[arg(long, default_value_t = 500)]
    single: u64,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Where the stores go, in a folder that is removed at the end [default: the folder for temporary files].
    #[arg(long)]
    folder: Option<PathBuf>,
}

/// What the other process is given.
#[derive(Debug, clap::Args)]
pub(crate) struct ChildArguments {
    /// The folder of its store.
    #[arg(long)]
    folder: PathBuf,
    /// The port of 127.0.0.1 that it listens on.
    #[arg(long)]
    port: u16,
}

/// Adds up, and says how much it is.
struct Sum;
const SUM: Table<u8, u64> = Table::new("sum");
impl DurableActor for Sum {
    const NAME: &'static str = "sum";
    type Message = (u64, [u8; 32]);
    type Reply = u64;
    fn handle(&self, _: &mut ActorContext<'_>, state: &mut State<'_>, (more, _): Self::Message) -> Result<u64, Abort> {
        SUM.update(state, 0, |sum| Ok(sum.unwrap_or_default() + more))
    }
}

fn store(folder: &Path) -> Result<FjallStore> {
    Ok(FjallStore::open(folder)?.durability(Durability::Power))
}

/// Plays the actor until the input ends.
pub(crate) async fn child(ChildArguments { folder, port }: ChildArguments) -> Result<()> {
    let network = ZenohTransport::open(wire(port, &[])).await?;
    let node = Node::builder(NodeId::new("plays")?).store(store(&folder)?).transport(network).actor(Sum);
    let node = node.start().await?;
    println!("{READY}");
    // Blocks this thread, which has nothing else to do.
    for line in stdin().lines() {
        line?;
    }
    node.shutdown().await;
    Ok(())
}

/// Runs the bench.
pub(crate) async fn run(arguments: Arguments) -> Result<()> {
    let Arguments { messages, in_flight, single, json, folder } = arguments;
    let folder = tempfile::Builder::new().prefix("accompanist-bench-").tempdir_in(machine::base(folder))?;
    let [own, other, ..] = free_ports()?;
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["actor-child", "--port", &other.to_string()]).arg("--folder").arg(folder.path().join("plays"));
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("a second process")?;
    let mut ready = String::new();
    BufReader::new(child.stdout.take().context("its output")?).read_line(&mut ready)?;
    ensure!(ready.trim() == READY, "the process of the actor did not start: its message is above");
    let network = ZenohTransport::open(wire(own, &[other])).await?;
    let store = store(&folder.path().join("tells"))?;
    let node = Node::builder(NodeId::new("tells")?).store(store).transport(network).talks_to::<Sum>().start().await?;
    let sum = node.actor::<Sum>();
    sum.ask(&(0, [7; 32])).await?; // The way is open.

    let (mut tells, mut asks) = (Times::new()?, Times::new()?);
    for _ in 0..single {
        let begun = Instant::now();
        sum.tell(&(1, [7; 32])).await?;
        tells.add(begun.elapsed());
    }
    for _ in 0..single {
        let begun = Instant::now();
        sum.ask(&(1, [7; 32])).await?;
        asks.add(begun.elapsed());
    }
    let before = sum.ask(&(0, [7; 32])).await?;
    let begun = Instant::now();
    let told = tell_all(&sum, messages, in_flight).await?;
    let telling = begun.elapsed();
    let handled = sum.ask(&(0, [7; 32])).await?; // Comes behind all.
    let handling = begun.elapsed();
    ensure!(handled == before + told, "{told} were told, {} handled", handled - before);

    let mut report = Report::default();
    machine::describe(&mut report, folder.path());
    report.text("durability", "Power: fdatasync before anything is acknowledged");
    report.text("nodes", "2 processes on loopback, Zenoh over TCP; one sender");
    report.fact("messages", told);
    report.fact("tells in flight", in_flight);
    report.times("one tell, one at a time", &tells);
    report.times("one ask, one at a time", &asks);
    let rate = |seconds: f64| f64::from(u32::try_from(told).unwrap_or(u32::MAX)) / seconds;
    report.result("messages told per second", rate(telling.as_secs_f64()));
    report.result("messages told and handled per second", rate(handling.as_secs_f64()));
    report.print(json)?;
    drop(child.stdin.take());
    node.shutdown().await;
    child.wait()?;
    Ok(())
}

/// Tells as fast as is taken in. A full mailbox makes it wait, as it makes any sender.
async fn tell_all(sum: &Address<Sum>, messages: u64, in_flight: u64) -> Result<u64> {
    let mut tellers = JoinSet::new();
    for teller in 0..in_flight {
        let (sum, share) = (sum.clone(), messages / in_flight + u64::from(teller < messages % in_flight));
        tellers.spawn(async move {
            for _ in 0..share {
                while let Err(error) = sum.tell(&(1, [7; 32])).await {
                    let ActorError::Full { .. } = error else { return Err(error) };
                    tokio::task::yield_now().await;
                }
            }
            Ok(share)
        });
    }
    let mut told = 0;
    while let Some(share) = tellers.join_next().await {
        told += share??;
    }
    Ok(told)
}
