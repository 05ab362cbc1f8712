//! The demonstration: four processes, many trips, kill -9 again and again, and then the books are checked.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use accompanist::store::FjallStore;
use accompanist::{Role, State};
use anyhow::{Context, bail};
use clap::Args;
use fleet::{Fleet, Ports};
use tokio::process::Command;
use tokio::sync::watch;
use travel::atlas::{Atlas, SEED};
use travel::check::{Answer, Book, Check, check};
use travel::program::{Client, Flight, Reservation};

use crate::play::{ROLES, store_folder};

#[derive(Debug, Clone, Args)]
pub(crate) struct RunArguments {
    /// How many trips to ask for
    #[arg(long, default_value_t = 600, value_parser = clap::value_parser!(u32).range(1..))]
    trips: u32,
    /// How often to kill each role's process
    #[arg(long, default_value_t = 3)]
    kills: u32,
    /// Makes airports, flights, hotels, wishes and the sequence of kills
    #[arg(long, default_value_t = SEED)]
    seed: u64,
    /// Keep the data folder
    #[arg(long)]
    keep: bool,
    /// Give up when nothing is heard of any trip for so long
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    stall_max: u64,
}

/// What the client has said of each trip, and of which it has said two things.
type Answers = Arc<Mutex<BTreeMap<u32, Vec<Answer>>>>;

/// The four processes.
struct Roles {
    fleet: Fleet,
    endpoints: Vec<String>,
    trips: u32,
    seed: u64,
    answers: Answers,
    heard: watch::Sender<u32>,
}

impl Roles {
    fn new(arguments: &RunArguments, data: &Path) -> anyhow::Result<Self> {
        let mut ports = Ports::default();
        let endpoints = ROLES.iter().map(|_| ports.endpoint()).collect::<anyhow::Result<_>>()?;
        let RunArguments { trips, seed, .. } = *arguments;
        let (answers, heard) = (Answers::default(), watch::Sender::new(0));
        Ok(Self { fleet: Fleet::new(data), endpoints, trips, seed, answers, heard })
    }

    async fn start(&mut self, role: &str) -> anyhow::Result<()> {
        let data = self.fleet.data(role);
        let (endpoints, trips, seed) = (&self.endpoints, self.trips, self.seed);
        let arguments = |command: &mut Command| {
            command.args(["role", role, "--until-stdin-closes", "--data"]).arg(data);
            command.args(["--seed", &seed.to_string()]);
            if role == Client::NAME {
                command.args(["--trips", &trips.to_string()]);
            }
            for (other, endpoint) in ROLES.iter().zip(endpoints) {
                command.args([if *other == role { "--listen" } else { "--connect" }, endpoint]);
            }
        };
        let (answers, heard) = (self.answers.clone(), self.heard.clone());
        let hear = move |line: &str| {
            let Some((number, answer)) = parsed(line) else { return };
            let mut answers = answers.lock().unwrap_or_else(PoisonError::into_inner);
            let known = answers.entry(number).or_default();
            if !known.contains(&answer) {
                known.push(answer);
            }
            heard.send_replace(u32::try_from(answers.len()).unwrap_or(u32::MAX));
        };
        self.fleet.start(role, arguments, hear).await
    }

    /// Waits until so much is heard. A process that ends by itself ends the demonstration, as does a standstill.
    async fn reached(&mut self, trips: u32, stall_max: Duration) -> anyhow::Result<()> {
        let mut heard = self.heard.subscribe();
        while *heard.borrow_and_update() < trips {
            tokio::select! {
                changed = tokio::time::timeout(stall_max, heard.changed()) => match changed {
                    Ok(changed) => changed.context("nobody speaks any more")?,
                    Err(_) => bail!("nothing was heard of any trip for {stall_max:?}"),
                },
                reason = self.fleet.until_one_ends() => bail!(reason),
            }
        }
        Ok(())
    }
}

fn parsed(line: &str) -> Option<(u32, Answer)> {
    let (number, answer) = line.split_once(' ')?;
    let answer = if answer == "booked" { Answer::Booked } else { Answer::Refused(answer.into()) };
    Some((number.parse().ok()?, answer))
}

pub(crate) async fn run(arguments: RunArguments) -> anyhow::Result<ExitCode> {
    let folder = tempfile::Builder::new().prefix("travel-").tempdir().context("a data folder cannot be made")?;
    let run = demonstrate(&arguments, folder.path()).await;
    let holds = run.as_ref().is_ok_and(|checks| checks.iter().all(|check| check.faults.is_empty()));
    if arguments.keep || !holds {
        println!("the data is kept in {}", folder.keep().display());
    }
    run?;
    Ok(if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn demonstrate(arguments: &RunArguments, data: &Path) -> anyhow::Result<Vec<Check>> {
    let mut random = fastrand::Rng::with_seed(arguments.seed);
    let mut roles = Roles::new(arguments, data)?;
    let stall_max = Duration::from_secs(arguments.stall_max);
    for role in ROLES {
        roles.start(role).await?;
    }
    let mut victims: Vec<_> = (0..arguments.kills).flat_map(|_| ROLES).collect();
    random.shuffle(&mut victims);
    let parts = u32::try_from(victims.len())? + 1;
    for (number, victim) in (1..).zip(&victims) {
        roles.reached(number * arguments.trips / parts, stall_max).await?;
        roles.fleet.kill(victim).await?;
        roles.start(victim).await?;
    }
    roles.reached(arguments.trips, stall_max).await?;
    roles.fleet.stop().await;

    let book = |role: &str| {
        let store = FjallStore::open(store_folder(&roles.fleet.data(role)))?;
        let book = Book::read(&State::new(&store, if role == Flight::NAME { Flight::NAME } else { Reservation::NAME }));
        book.with_context(|| format!("the book of {role} cannot be read"))
    };
    let said = roles.answers.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let twice = said.iter().filter(|(_, answers)| answers.len() > 1);
    let twice = twice.map(|(number, answers)| format!("trip-{number}: {answers:?}")).collect();
    let answers =
        said.into_iter().filter_map(|(number, answers)| Some((number, answers.into_iter().next()?))).collect();
    let checks = check(&Atlas::new(arguments.seed), &book(Flight::NAME)?, &book(Reservation::NAME)?, &answers);
    let mut checks = Vec::from(checks);
    checks.push(Check { name: "nobody was told two things", faults: twice });
    print(&answers, victims.len(), &checks);
    Ok(checks)
}

fn print(answers: &BTreeMap<u32, Answer>, kills: usize, checks: &[Check]) {
    let booked = answers.values().filter(|answer| **answer == Answer::Booked).count();
    println!("trips   {booked} booked, {} found a flight or hotel full and were compensated", answers.len() - booked);
    println!("kills   {kills} (SIGKILL)\n");
    for Check { name, faults } in checks {
        println!("{}  {name}", if faults.is_empty() { "holds" } else { "FAILS" });
        for fault in faults.iter().take(5) {
            println!("       {fault}");
        }
    }
}
