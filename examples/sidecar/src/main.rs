//! The command line: the whole demonstration, and each process by hand.

mod play;
mod run;

use std::io::IsTerminal;
use std::process::ExitCode;

use accompanist::transport::ZenohLogFilter;
use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::prelude::*;

/// A choreography beside an orchestrator, and sidecars beside existing services.
#[derive(Debug, Parser)]
#[command(name = "sidecar", version, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: run::RunArguments,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start all processes, place orders, kill the processes, check the books (the default)
    Run(run::RunArguments),
    /// A service as it was before: a book of effects behind HTTP
    Service(play::ServiceArguments),
    /// The orchestrator
    Office(play::OfficeArguments),
    /// The depot's sidecar, which also is where deliveries are started
    Depot(play::DepotArguments),
    /// The carrier's sidecar
    Carrier(play::CarrierArguments),
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
        Some(Command::Run(arguments)) => run::run(arguments).await,
        Some(Command::Service(arguments)) => play::service(arguments).await,
        Some(Command::Office(arguments)) => play::office(arguments).await,
        Some(Command::Depot(arguments)) => play::depot(arguments).await,
        Some(Command::Carrier(arguments)) => play::carrier(arguments).await,
    };
    ended.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
