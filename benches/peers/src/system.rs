//! The systems that are measured.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::dbos::{self, Dbos};
use crate::plain::Plain;
use crate::restate::{self, Restate};
use crate::saga::{Order, Outcome, Services};
use crate::temporal::{self, Temporal, Tuning};

/// The programs that are not found by themselves.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Programs {
    /// The program `restate-server`.
    #[arg(long, default_value = "restate-server")]
    pub(crate) restate: PathBuf,
    /// The program `temporal`.
    #[arg(long, default_value = "temporal")]
    pub(crate) temporal: PathBuf,
}

/// Which system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    Plain,
    Dbos,
    Restate,
    RestateNodelay,
    RestateTwo,
    Temporal,
    TemporalTuned,
}

impl Kind {
    /// As the table names it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Plain => "HTTP by hand, keeps nothing",
            Self::Dbos => "DBOS",
            Self::Restate => "Restate, as shipped",
            Self::RestateNodelay => "Restate, no delay",
            Self::RestateTwo => "Restate, no delay, two partitions",
            Self::Temporal => "Temporal, as shipped",
            Self::TemporalTuned => "Temporal, tuned",
        }
    }

    pub(crate) fn version(self, programs: &Programs) -> Result<String> {
        match self {
            Self::Plain => Ok("axum 0.8, reqwest 0.13".to_owned()),
            Self::Dbos => dbos::version(),
            Self::Restate | Self::RestateNodelay | Self::RestateTwo => restate::version(&programs.restate),
            Self::Temporal | Self::TemporalTuned => temporal::version(&programs.temporal),
        }
    }

    /// Starts it over an empty store in `folder`.
    pub(crate) async fn start(self, services: Services, folder: &Path, programs: &Programs) -> Result<System> {
        Ok(match self {
            Self::Plain => System::Plain(Plain(services)),
            Self::Dbos => System::Dbos(Box::new(Dbos::start(services, folder).await?)),
            Self::Restate | Self::RestateNodelay | Self::RestateTwo => {
                let settings = restate::Settings {
                    nodelay: self != Self::Restate,
                    partitions: (self == Self::RestateTwo).then_some(2),
                };
                System::Restate(Restate::start(services, folder, &programs.restate, settings).await?)
            }
            Self::Temporal | Self::TemporalTuned => {
                let tuning = if self == Self::Temporal { Tuning::Shipped } else { Tuning::Tuned };
                System::Temporal(Box::new(Temporal::start(services, folder, &programs.temporal, tuning).await?))
            }
        })
    }
}

/// One that runs.
pub(crate) enum System {
    Plain(Plain),
    Dbos(Box<Dbos>),
    Restate(Restate),
    Temporal(Box<Temporal>),
}

impl System {
    pub(crate) async fn order(&self, order: Order) -> Result<Outcome> {
        match self {
            Self::Plain(plain) => plain.order(&order).await,
            Self::Dbos(dbos) => dbos.order(order).await,
            Self::Restate(restate) => restate.order(&order).await,
            Self::Temporal(temporal) => temporal.order(order).await,
        }
    }

    pub(crate) async fn end(self) -> Result<()> {
        match self {
            Self::Plain(_) => Ok(()),
            Self::Dbos(dbos) => {
                dbos.end().await;
                Ok(())
            }
            Self::Restate(restate) => {
                restate.end();
                Ok(())
            }
            Self::Temporal(temporal) => temporal.end(),
        }
    }
}
