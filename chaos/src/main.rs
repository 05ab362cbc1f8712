//! Chaos against the real thing: real processes, real disks, real networks, and books that must be right at the end.
//!
//! Three nodes run a saga over Zenoh, and are killed, cut off from each other, left without disk space, given wrong
//! clocks and attacked; copies of their stores are damaged and read again. `docs/chaos.md` says what it proves.
//!
//! Next: [`run`] for what is done, [`program`] for the saga, [`audit`] for what has to hold.

mod attack;
mod audit;
#[expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    unreachable_pub,
    reason = "written as a part of tests, which allow all of these"
)]
#[path = "../../actors/tests/it/changes.rs"]
mod changes;
mod clock;
mod damage;
mod fleet;
mod inspect;
mod ledger;
mod model;
mod network;
mod node;
mod program;
mod report;
mod run;
mod source;
mod sweep;
mod tap;
mod volume;
mod wire;

use std::io::IsTerminal;
use std::process::ExitCode;

use accompanist::transport::ZenohLogFilter;
use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::prelude::*;

/// Runs a saga on three real nodes, does everything to them that may happen, and checks the books.
#[derive(Debug, Parser)]
#[command(name = "chaos", version, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: run::RunArguments,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Play one role; started by the tool itself
    #[command(hide = true)]
    Node(node::NodeArguments),
    /// Attack one role; started by the tool itself
    #[command(hide = true)]
    Attack(attack::AttackArguments),
    /// Read a whole store whose node has ended, and print what it holds in numbers
    Inspect(inspect::InspectArguments),
}

#[tokio::main]
async fn main() -> ExitCode {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    let ansi = std::io::stderr().is_terminal();
    let lines = tracing_subscriber::fmt::layer().with_ansi(ansi).with_writer(std::io::stderr);
    tracing_subscriber::registry().with(filter).with(lines.with_filter(ZenohLogFilter::default())).init();
    let arguments = Arguments::parse();
    let ended = match arguments.command {
        None => run::run(arguments.run).await,
        Some(Command::Node(arguments)) => node::play(arguments).await.map(|()| ExitCode::SUCCESS),
        Some(Command::Attack(arguments)) => attack::attack(arguments).await.map(|()| ExitCode::SUCCESS),
        Some(Command::Inspect(arguments)) => inspect::inspect(&arguments).map(|()| ExitCode::SUCCESS),
    };
    ended.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
