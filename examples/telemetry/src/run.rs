//! The demonstration: sensors that measure, a site that goes away in the middle, a gateway that is killed, and the
//! check.
//!
//! [`fleet`] has the processes, [`report`] prints.

mod fleet;
mod report;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use accompanist::State;
use accompanist::prelude::DurableActor;
use accompanist::store::FjallStore;
use anyhow::{Context, bail};
use clap::Args;
use telemetry::{Check, Site, check, read_log};

use self::fleet::{Fleet, Who};
use self::report::{Line, Timeline};
use crate::play::store_folder;

/// The sensors. Their names say where they are.
pub(crate) const SENSORS: [&str; 3] = ["attic", "cellar", "garden"];
/// How often it is looked how far all are.
const LOOK_PERIOD: Duration = Duration::from_millis(10);

#[derive(Debug, Clone, Args)]
pub(crate) struct RunArguments {
    /// How many readings each sensor takes
    #[arg(long, default_value_t = 400, value_parser = clap::value_parser!(u32).range(20..))]
    readings: u32,
    /// The pause between two readings of a sensor, in milliseconds
    #[arg(long, default_value_t = 5)]
    pause_ms: u64,
    /// Keep the data folder
    #[arg(long)]
    keep: bool,
    /// Give up when nothing has arrived for so long
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    stall_max: u64,
}

/// What is done to the processes, and after which part of all readings (in hundredths) it is done.
const PLAN: [(u32, Deed); 6] = [
    (20, Deed::Kill(Who::Site, "the site is cut off: its process is killed (SIGKILL)")),
    (35, Deed::Kill(Who::Gateway, "the gateway is killed (SIGKILL), with what it could not deliver")),
    (45, Deed::Start(Who::Gateway, "the gateway is back, and takes what has waited at the sensors")),
    (65, Deed::Start(Who::Site, "the site is back, and takes what has waited at the gateway")),
    (75, Deed::Kill(Who::Gateway, "the gateway is killed once more, in full flow")),
    (80, Deed::Start(Who::Gateway, "the gateway is back")),
];

#[derive(Debug, Clone, Copy)]
enum Deed {
    Kill(Who, &'static str),
    Start(Who, &'static str),
}

pub(crate) async fn run(arguments: RunArguments) -> anyhow::Result<ExitCode> {
    let folder = tempfile::Builder::new().prefix("telemetry-").tempdir().context("a data folder cannot be made")?;
    let run = demonstrate(&arguments, folder.path()).await;
    let holds = run.as_ref().is_ok_and(|checks| checks.iter().all(Check::holds));
    if arguments.keep || !holds {
        println!("the data is kept in {}", folder.keep().display());
    }
    run?;
    Ok(if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn demonstrate(arguments: &RunArguments, data: &Path) -> anyhow::Result<Vec<Check>> {
    let mut fleet = Fleet::new(data, arguments.readings, arguments.pause_ms)?;
    let all = u32::try_from(SENSORS.len()).unwrap_or(u32::MAX) * arguments.readings;
    println!("telemetry: {} sensors, {all} readings, over a gateway to a site\n", SENSORS.len());
    for who in [Who::Site, Who::Gateway].into_iter().chain((0..SENSORS.len()).map(Who::Sensor)) {
        fleet.start(who).await?;
    }
    let mut timeline = Timeline::begin();
    timeline.say(fleet.line(), "all run");
    for (hundredths, deed) in PLAN {
        let told = all / 100 * hundredths;
        reached(&mut fleet, arguments, |line| line.told >= told).await?;
        let said = match deed {
            Deed::Kill(who, said) => {
                fleet.kill(who).await?;
                said
            }
            Deed::Start(who, said) => {
                fleet.start(who).await?;
                said
            }
        };
        timeline.say(fleet.line(), said);
    }
    reached(&mut fleet, arguments, |line| line.told >= all).await?;
    timeline.say(fleet.line(), "the sensors have measured all they were to");
    reached(&mut fleet, arguments, |line| line.arrived >= all).await?;
    timeline.say(fleet.line(), "all has arrived");
    fleet.stop().await;

    let folder: PathBuf = store_folder(&fleet.data(Who::Site));
    let store = FjallStore::open(folder).context("the site's store cannot be read")?;
    let log = read_log(&State::new(&store, Site::NAME)).context("the site's readings cannot be read")?;
    let checks = check(&log, &SENSORS, arguments.readings);
    report::print(&log, &checks);
    Ok(checks)
}

/// Waits until the fleet is so far. A process that ends by itself ends the demonstration, as does a standstill.
async fn reached(fleet: &mut Fleet, arguments: &RunArguments, is_reached: impl Fn(Line) -> bool) -> anyhow::Result<()> {
    let stall_max = Duration::from_secs(arguments.stall_max);
    let (mut before, mut since) = (fleet.line(), Instant::now());
    loop {
        let line = fleet.line();
        if is_reached(line) {
            return Ok(());
        }
        if line != before {
            (before, since) = (line, Instant::now());
        }
        if let Some(reason) = fleet.ended() {
            bail!(reason);
        }
        if since.elapsed() > stall_max {
            bail!("nothing has happened for {stall_max:?}: {} told, {} arrived", line.told, line.arrived);
        }
        tokio::time::sleep(LOOK_PERIOD).await;
    }
}
