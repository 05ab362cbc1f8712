//! The command line: the demonstration, the comparison, and each process by hand.

mod compare;
mod play;
mod run;

use std::io::IsTerminal;
use std::process::ExitCode;

use accompanist::transport::ZenohLogFilter;
use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::prelude::*;

/// Travel booking: a trip is two flights and a hotel, or nothing.
#[derive(Debug, Parser)]
#[command(name = "travel", version, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: run::RunArguments,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start the four roles as processes, book trips, kill the processes, check the books (the default)
    Run(run::RunArguments),
    /// Play one role, by hand
    Role(play::RoleArguments),
    /// Measure the choreography beside an orchestrator, with slow lines between the roles
    Compare(fleet::Comparison),
}

/// Without gossip, as in the comparison, Zenoh warns of what is missing where regions meet; there are none.
const LOGGED: &str = "warn,zenoh::net::routing::hat=error";

#[tokio::main]
async fn main() -> ExitCode {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(LOGGED));
    let ansi = std::io::stderr().is_terminal();
    let lines = tracing_subscriber::fmt::layer().with_ansi(ansi).with_writer(std::io::stderr);
    tracing_subscriber::registry().with(filter).with(lines.with_filter(ZenohLogFilter::default())).init();
    let arguments = Arguments::parse();
    let ended = match arguments.command {
        None => run::run(arguments.run).await,
        Some(Command::Run(arguments)) => run::run(arguments).await,
        Some(Command::Role(arguments)) => play::play(arguments).await,
        Some(Command::Compare(arguments)) => compare::run(arguments).await,
    };
    ended.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
