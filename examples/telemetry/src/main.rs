//! The command line: the whole demonstration, or one process of it by hand.
//!
//! Next: [`run`] for the demonstration, [`play`] for what each process does, `lib.rs` for the actors.

mod play;
mod run;

use std::io::IsTerminal;
use std::process::ExitCode;

use accompanist::transport::ZenohLogFilter;
use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::prelude::*;

/// Telemetry on durable actors: readings that survive an outage and kill -9.
#[derive(Debug, Parser)]
#[command(name = "telemetry", version, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: run::RunArguments,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start sensors, gateway and site as processes, cut the site off, kill the gateway, check (the default)
    Run(run::RunArguments),
    /// Be the site, by hand
    Site(play::NodeArguments),
    /// Be the gateway, by hand
    Gateway(play::NodeArguments),
    /// Be a sensor, by hand
    Sensor(play::SensorArguments),
}

#[tokio::main]
async fn main() -> ExitCode {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn,zenoh=error"));
    let ansi = std::io::stderr().is_terminal();
    let lines = tracing_subscriber::fmt::layer().with_ansi(ansi).with_writer(std::io::stderr);
    tracing_subscriber::registry().with(filter).with(lines.with_filter(ZenohLogFilter::default())).init();
    let arguments = Arguments::parse();
    let ended = match arguments.command {
        None => run::run(arguments.run).await,
        Some(Command::Run(arguments)) => run::run(arguments).await,
        Some(Command::Site(arguments)) => play::site(arguments).await,
        Some(Command::Gateway(arguments)) => play::gateway(arguments).await,
        Some(Command::Sensor(arguments)) => play::sensor(arguments).await,
    };
    ended.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
