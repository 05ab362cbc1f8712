//! The command line, for operators: it checks a configuration and shows the resulting supervision tree, and manages
//! certificates, access control and members.

#[cfg(feature = "security")]
mod security;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use accompanist::{Config, NodeError};
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(version, about = "For operators of Accompanist nodes")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Reads a configuration as a node would, with this environment; prints all mistakes in it, or the resulting
    /// supervision tree.
    ///
    /// Names of roles, choreographies and groups are only known to the service: it checks them at its start. A
    /// configuration file of Zenoh that is named is read, too; nothing is opened.
    CheckConfig {
        /// The file, such as accompanist.toml.
        file: PathBuf,
    },
    /// Creates, renews and checks what nodes need to trust each other: certificates, access control, members.
    #[cfg(feature = "security")]
    #[command(subcommand)]
    Security(security::Command),
}

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line")]
fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::CheckConfig { file } => match check(&file) {
            Ok(config) => {
                print!("{}", config.settings.supervision);
                ExitCode::SUCCESS
            }
            Err(error) => {
                eprintln!("{error}");
                ExitCode::FAILURE
            }
        },
        #[cfg(feature = "security")]
        Command::Security(command) => match security::run(&command) {
            Ok(code) => code,
            Err(error) => {
                eprintln!("{error:#}");
                ExitCode::FAILURE
            }
        },
    }
}

/// Checks all that can be checked without opening anything.
fn check(file: &Path) -> Result<Config, NodeError> {
    let config = Config::load(file)?;
    #[cfg(feature = "zenoh")]
    if let Some(zenoh) = &config.zenoh {
        zenoh.check_exposure()?;
    }
    Ok(config)
}
