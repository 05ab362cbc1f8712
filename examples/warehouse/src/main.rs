//! The command line: the whole demonstration, one role by hand, orders by hand, and the check of the ledgers.
//!
//! Next: [`run`] for the demonstration, [`role`] for what each process does, `lib.rs` for the saga itself.

mod client;
mod desk;
mod offline;
mod order;
mod role;
mod run;
mod wire;

use std::io::IsTerminal;
use std::process::ExitCode;

use accompanist::transport::ZenohLogFilter;
use clap::{Parser, Subcommand, ValueEnum};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::prelude::*;

/// The warehouse saga on Accompanist: orders that survive kill -9.
#[derive(Debug, Parser)]
#[command(name = "warehouse", version, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: run::RunArguments,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start the three roles as processes, place orders, kill the processes, check the ledgers (the default)
    Run(run::RunArguments),
    /// Play one role, by hand
    Role(role::RoleArguments),
    /// Place orders at a running warehouse role
    Order(order::OrderArguments),
    /// Check the ledgers of stopped roles
    Check(offline::CheckArguments),
}

/// One of the three roles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
enum RoleName {
    /// Holds the stock, takes the orders, ships
    Warehouse,
    /// Charges cards
    Payment,
    /// Awards points
    Loyalty,
}

impl RoleName {
    const ALL: [Self; 3] = [Self::Warehouse, Self::Payment, Self::Loyalty];

    /// The name of the role, and of the node that plays it.
    fn name(self) -> &'static str {
        use accompanist::Role;
        match self {
            Self::Warehouse => warehouse::Warehouse::NAME,
            Self::Payment => warehouse::Payment::NAME,
            Self::Loyalty => warehouse::Loyalty::NAME,
        }
    }
}

/// Where the services keep their ledgers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Ledger {
    /// On the built-in state of the runtime
    BuiltIn,
    /// In databases of their own, one file each
    Sqlite,
}

impl Ledger {
    fn name(self) -> &'static str {
        match self {
            Self::BuiltIn => "built-in",
            Self::Sqlite => "sqlite",
        }
    }
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
        Some(Command::Role(arguments)) => role::play(arguments).await.map(|()| ExitCode::SUCCESS),
        Some(Command::Order(arguments)) => order::place(arguments).await,
        Some(Command::Check(arguments)) => offline::check_by_hand(&arguments).await,
    };
    ended.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
