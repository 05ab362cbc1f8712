//! The benches of Accompanist: they measure and print, and judge nothing. `benches/README.md` says what and how.
//!
//! Next: [`latency`] for the measurement that the others lean on, [`cluster`] for what is measured.

mod actors;
mod chain;
mod child;
mod cluster;
mod counters;
mod crowd;
mod disk;
mod fill;
mod floor;
mod handover;
mod in_flight;
mod latency;
mod loops;
mod machine;
mod opening;
mod orders;
mod overload;
mod plot;
mod probe;
mod process;
mod race;
mod report;
mod saga;
mod scaling;
mod side_by_side;
mod stored;
mod sync;
mod throughput;
mod timed_store;
mod usage;
mod waiting;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Of ours and of the floor. glibc's takes a slow path for what an actor of ractor allocates with its channels.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures Accompanist on this machine.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Debug, Subcommand)]
enum Bench {
    /// The time of one saga over three processes, beside that of the disk and of the wire.
    Latency(latency::Arguments),
    /// Many sagas open at once in one node: time and memory.
    InFlight(in_flight::Arguments),
    /// Many sagas that wait in one node: memory, and the time of a restart with all of them unfinished.
    Waiting(waiting::Arguments),
    /// Many times more orders than the nodes can do: what is refused, and what it takes of memory.
    Overload(overload::Arguments),
    /// Sagas per second over three processes, beside the same written by hand.
    Throughput(throughput::Arguments),
    /// A chain of services with slow lines between them: handed on, or called from one place.
    Chain(chain::Arguments),
    /// Draws what `chain --json` has printed.
    Plot(plot::Arguments),
    /// What an order costs with few and with many sessions in the stores.
    Stored(stored::Arguments),
    /// What a sync costs on files made in different ways.
    Sync(sync::Arguments),
    /// How long it takes to open a store, with its tables verified and without.
    Opening(opening::Arguments),
    /// A loop of many turns: what is left of it on disk, and the time of a restart.
    Loops(loops::Arguments),
    /// Many operations under way at the same time in one session: what each of them costs.
    SideBySide(side_by_side::Arguments),
    /// One session, signal or start while there are many of something: what it costs.
    Crowd(crowd::Arguments),
    /// Messages to a durable actor in another process, per second.
    Actors(actors::Arguments),
    /// The process of that actor.
    #[command(hide = true)]
    ActorChild(actors::ChildArguments),
    /// One of the other two processes; the benches start it themselves.
    #[command(hide = true)]
    Child(child::Arguments),
}

#[tokio::main]
async fn main() -> Result<()> {
    match Arguments::parse().bench {
        Bench::Latency(arguments) => latency::run(arguments).await,
        Bench::InFlight(arguments) => in_flight::run(arguments).await,
        Bench::Waiting(arguments) => waiting::run(arguments).await,
        Bench::Overload(arguments) => overload::run(arguments).await,
        Bench::Throughput(arguments) => throughput::run(arguments).await,
        Bench::Chain(arguments) => chain::run(arguments).await,
        Bench::Plot(arguments) => plot::run(&arguments),
        Bench::Stored(arguments) => stored::run(arguments).await,
        Bench::Sync(arguments) => sync::run(arguments),
        Bench::Opening(arguments) => opening::run(arguments),
        Bench::Loops(arguments) => loops::run(arguments).await,
        Bench::SideBySide(arguments) => side_by_side::run(arguments).await,
        Bench::Crowd(arguments) => crowd::run(arguments).await,
        Bench::Actors(arguments) => actors::run(arguments).await,
        Bench::ActorChild(arguments) => actors::child(arguments).await,
        Bench::Child(arguments) => child::run(arguments).await,
    }
}
