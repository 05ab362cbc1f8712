//! The run: orders all the time, one fault after the other, and at the end the books are checked.
//!
//! [`crate::fleet`] has the processes, [`crate::source`] the orders, [`crate::audit`] the checks.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use fastrand::Rng;
use fleet::security::Protection;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::audit::{audit, late};
use crate::damage::{Patient, Verdict, copy_folder};
use crate::fleet::{Ended, Fleet};
use crate::inspect;
use crate::model::{Outcome, RoleName};
use crate::network::{Cut, Namespaces, Network};
use crate::node::Sabotage;
use crate::report::Report;
use crate::source::{Pace, Source};
use crate::sweep::{own_name, sweep};
use crate::volume::{Volume, VolumeKind};
use crate::wire::Answer;

/// The pause between two faults.
const CALM_MS: std::ops::Range<u64> = 50..1_500;
/// How long a partition lasts; Zenoh gives up a silent peer after ten seconds.
const PARTITION_MS: std::ops::Range<u64> = 300..14_000;
/// As [`PARTITION_MS`], in a short run.
const PARTITION_SHORT_MS: std::ops::Range<u64> = 300..4_000;
/// A run below this is short.
const SHORT_RUN: Duration = Duration::from_mins(2);
/// How long a node may work on a full disk before the disk is freed again.
const FULL_DISK_WAIT_MAX: Duration = Duration::from_secs(15);
/// How long it is looked what a node does that is started on a full disk.
const FULL_DISK_START_WAIT_MAX: Duration = Duration::from_secs(3);
/// How far a clock may be set forward at once. In all it stays below a week, for which results are kept.
const CLOCK_FORWARD_MS_MAX: i64 = 2 * 3_600_000;
const CLOCK_AHEAD_MS_MAX: i64 = 5 * 24 * 3_600_000;
/// How far a clock may be set back at once: a sleep takes as much longer.
const CLOCK_BACK_MS_MAX: i64 = 3_000;
/// Damages that are tried on copies of one store.
const DAMAGES_PER_STORE: u32 = 8;
/// How long roles may take to close their last sessions.
const CLOSE_WAIT_MAX: Duration = Duration::from_mins(2);
const CLOSE_POLL_PERIOD: Duration = Duration::from_millis(200);

/// What is done to the nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Fault {
    /// kill -9
    Kills,
    /// Connections between nodes are cut
    Partitions,
    /// A node's disk is full
    FullDisks,
    /// A node's clock is set
    Clocks,
    /// Copies of a node's store are damaged
    Damage,
    /// Somebody who has no part sends packets to the nodes, all the time
    Attacks,
}

/// What protects the nodes from each other, and from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProtectedBy {
    /// The protocol alone
    Nothing,
    /// Keys, with which nodes seal what they send, and members
    Seal,
    /// Certificates, access control and members
    Certificates,
    /// Both
    Both,
}

impl ProtectedBy {
    fn protection(self) -> Protection {
        Protection {
            secured: matches!(self, Self::Certificates | Self::Both),
            sealed: matches!(self, Self::Seal | Self::Both),
        }
    }
}

#[derive(Debug, Clone, Args)]
pub(crate) struct RunArguments {
    /// How long faults are injected
    #[arg(long, default_value_t = 1.0)]
    minutes: f64,
    /// How many orders to place at most
    #[arg(long, default_value_t = u32::MAX, hide_default_value = true, value_parser = clap::value_parser!(u32).range(1..))]
    orders: u32,
    /// Orders that are placed in a second, at most
    #[arg(long, default_value_t = 80, value_parser = clap::value_parser!(u32).range(1..))]
    per_second: u32,
    /// Orders that are under way at the same time, at most
    #[arg(long, default_value_t = 48, value_parser = clap::value_parser!(u32).range(1..))]
    in_flight: u32,
    /// Draws the same orders and the same sequence of faults again
    #[arg(long)]
    seed: Option<u64>,
    /// Leave a kind of fault out; may be given several times
    #[arg(long, value_enum, value_name = "FAULT")]
    without: Vec<Fault>,
    /// What protects the nodes; drawn if not given
    #[arg(long, value_enum, value_name = "WHAT")]
    protected_by: Option<ProtectedBy>,
    /// Keep the folder with the stores and logs also if all is well
    #[arg(long)]
    keep: bool,
    /// Make a mistake on purpose, to see that it is found
    #[arg(long, value_enum)]
    sabotage: Option<Sabotage>,
}

pub(crate) async fn run(arguments: RunArguments) -> anyhow::Result<ExitCode> {
    sweep();
    let prefix = format!("{}-", own_name(std::process::id()));
    let folder = tempfile::Builder::new().prefix(&prefix).tempdir().context("a folder cannot be made")?;
    let started = Instant::now();
    let mut report = Report { seed: arguments.seed.unwrap_or_else(|| fastrand::u64(..)), ..Report::default() };
    report.again = again(&arguments, report.seed);
    let drawn = || Rng::with_seed(report.seed.wrapping_add(2)).choice(ProtectedBy::value_variants()).copied();
    let protected_by = arguments.protected_by.or_else(drawn).unwrap_or(ProtectedBy::Nothing);
    report.protected_by = name_of(&protected_by);
    println!("seed {}, protected by {}", report.seed, report.protected_by);
    let ended = tokio::select! {
        ended = rampage(&arguments, protected_by, folder.path(), &mut report) => Some(ended),
        () = told_to_stop() => None,
    };
    match ended {
        Some(Ok(())) => {}
        Some(Err(error)) => report.violations.push(format!("{error:#}")),
        None => {
            println!("interrupted; nothing was checked");
            return Ok(ExitCode::FAILURE);
        }
    }
    report.took = started.elapsed();
    report.print();
    let holds = report.violations.is_empty();
    if arguments.keep || !holds {
        println!("kept            {}", folder.keep().display());
    }
    Ok(if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The command that draws the same again.
fn again(arguments: &RunArguments, seed: u64) -> String {
    let mut words = vec![format!("cargo run -p chaos --release -- --minutes {}", arguments.minutes)];
    if arguments.orders != u32::MAX {
        words.push(format!("--orders {}", arguments.orders));
    }
    words.push(format!("--per-second {} --in-flight {}", arguments.per_second, arguments.in_flight));
    words.extend(arguments.without.iter().map(|fault| format!("--without {}", name_of(fault))));
    words.extend(arguments.protected_by.iter().map(|what| format!("--protected-by {}", name_of(what))));
    words.push(format!("--seed {seed}"));
    words.join(" ")
}

/// What it is called on the command line.
fn name_of(value: &impl ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

async fn told_to_stop() {
    let interrupted = async {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    let terminated = async {
        use tokio::signal::unix::{SignalKind, signal};
        match signal(SignalKind::terminate()) {
            Ok(mut signal) => {
                signal.recv().await;
            }
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        () = interrupted => {}
        () = terminated => {}
    }
}

/// What of the faults that are asked for this machine can do; the rest is said.
fn prepare(
    arguments: &RunArguments,
    protected_by: ProtectedBy,
    folder: &Path,
    report: &mut Report,
) -> anyhow::Result<(Fleet, mpsc::Receiver<Answer>)> {
    let mut network = None;
    if arguments.without.contains(&Fault::Partitions) {
        report.skipped.push("partitions, as asked for".into());
    } else {
        match Namespaces::new() {
            Ok(namespaces) => network = Some(Network::Namespaces(namespaces)),
            Err(error) => report.skipped.push(format!(
                "partitions: network namespaces cannot be made ({error:#}); the nodes are on the loopback interface"
            )),
        }
    }
    let network = network.map_or_else(Network::loopback, Ok)?;
    let mut volumes = BTreeMap::new();
    if arguments.without.contains(&Fault::FullDisks) {
        report.skipped.push("full disks, as asked for".into());
    } else {
        match make_volumes(folder, VolumeKind::Ext4) {
            Ok(made) => volumes = made,
            Err(error) => match make_volumes(folder, VolumeKind::Tmpfs) {
                Ok(made) => {
                    report.skipped.push(format!("ext4 on a loop device ({error:#}); the stores are in memory"));
                    volumes = made;
                }
                Err(_) => report.skipped.push(format!("full disks: no file system can be made ({error:#})")),
            },
        }
    }
    Fleet::new(folder, network, volumes, protected_by.protection(), arguments.sabotage)
}

fn make_volumes(folder: &Path, kind: VolumeKind) -> anyhow::Result<BTreeMap<RoleName, Volume>> {
    RoleName::ALL.into_iter().map(|role| Ok((role, Volume::new(&folder.join(role.name()), kind)?))).collect()
}

async fn rampage(
    arguments: &RunArguments,
    protected_by: ProtectedBy,
    folder: &Path,
    report: &mut Report,
) -> anyhow::Result<()> {
    let (mut fleet, answers) = prepare(arguments, protected_by, folder, report)?;
    report.skipped.iter().for_each(|skipped| println!("skipped: {skipped}"));
    let done = hurt_and_check(arguments, folder, report, &mut fleet, answers).await;
    if done.is_err() || !report.violations.is_empty() {
        // The volumes are about to go.
        for role in RoleName::ALL {
            let _ = fleet.kill(role).await; // It may be down already.
            copy_folder(&fleet.store(role), &folder.join("stores").join(role.name()))?;
        }
    }
    done
}

async fn hurt_and_check(
    arguments: &RunArguments,
    folder: &Path,
    report: &mut Report,
    fleet: &mut Fleet,
    answers: mpsc::Receiver<Answer>,
) -> anyhow::Result<()> {
    let pace = Pace {
        orders_max: arguments.orders,
        in_flight_max: arguments.in_flight as usize,
        per_second: arguments.per_second,
    };
    let mut source = Source::new(fleet.desk(), answers, Rng::with_seed(report.seed));
    for role in RoleName::ALL {
        fleet.start(role).await?;
    }
    if !arguments.without.contains(&Fault::Attacks) {
        fleet.attack(report.seed)?;
    }
    let (enough, is_enough) = watch::channel(false);
    let mut faults = Faults::new(arguments, folder, report);
    let placing = source.place(pace, &is_enough);
    let hurting = async {
        let hurt = faults.inject(fleet).await;
        enough.send_replace(true);
        hurt
    };
    let done = tokio::try_join!(placing, hurting);
    (report.finished, report.aborted) = (source.count(Outcome::Finished), source.count(Outcome::Aborted));
    (report.late, report.standstill) = (late(&source.told), source.standstill);
    done?;
    report.attacked = fleet.attacked().await?;
    report.dropped = fleet.dropped();
    if report.attacked.packets > 0 && report.dropped.is_empty() {
        report.violations.push("no node has dropped anything of what attackers sent".into());
    }
    close(fleet, &mut source, pace).await?;
    let mut books = BTreeMap::new();
    for role in RoleName::ALL {
        fleet.stop(role).await?;
        let (_, book) = inspect::read(role, &fleet.store(role))?;
        books.insert(role, book);
    }
    report.violations.extend(audit(&books, &source.told));
    Ok(())
}

/// Waits until nothing is open any more; then the shop has to say the same again from its disk.
async fn close(fleet: &mut Fleet, source: &mut Source, pace: Pace) -> anyhow::Result<()> {
    let until = Instant::now() + CLOSE_WAIT_MAX;
    for role in RoleName::ALL {
        loop {
            let (open, stopped) = fleet.report(role).await?;
            if !stopped.is_empty() {
                bail!("at {} these are stopped: {}", role.name(), stopped.join("; "));
            }
            if open == 0 {
                break;
            }
            if Instant::now() > until {
                bail!(
                    "{open} sessions are still open at {} {CLOSE_WAIT_MAX:?} after the last order ended",
                    role.name()
                );
            }
            fleet.pause(CLOSE_POLL_PERIOD).await?;
        }
    }
    fleet.kill(RoleName::Shop).await?;
    fleet.start(RoleName::Shop).await?;
    source.ask_again(pace).await
}

/// Draws faults and does them.
struct Faults<'a> {
    kinds: Vec<Fault>,
    random: Rng,
    lasts: Duration,
    folder: &'a Path,
    report: &'a mut Report,
    patients: u32,
}

impl<'a> Faults<'a> {
    fn new(arguments: &RunArguments, folder: &'a Path, report: &'a mut Report) -> Self {
        // Attacks have processes of their own.
        let kinds = Fault::value_variants().iter().copied().filter(|kind| *kind != Fault::Attacks);
        let kinds = kinds.filter(|kind| !arguments.without.contains(kind));
        Self {
            kinds: kinds.collect(),
            random: Rng::with_seed(report.seed.wrapping_add(1)),
            lasts: Duration::from_secs_f64(arguments.minutes.max(0.0) * 60.0),
            folder,
            report,
            patients: 0,
        }
    }

    /// One fault after the other until the time is over; each kind once at least.
    async fn inject(&mut self, fleet: &mut Fleet) -> anyhow::Result<()> {
        if !fleet.network.can_cut() {
            self.kinds.retain(|kind| *kind != Fault::Partitions);
        }
        if fleet.volume(RoleName::Shop).is_none() {
            self.kinds.retain(|kind| *kind != Fault::FullDisks);
        }
        let until = Instant::now() + self.lasts;
        let mut waiting = Vec::new();
        let mut first = self.kinds.clone();
        self.random.shuffle(&mut first);
        loop {
            fleet.pause(Duration::from_millis(self.random.u64(CALM_MS))).await?;
            let next = first.pop();
            if next.is_none() && Instant::now() >= until {
                return Ok(());
            }
            if waiting.is_empty() {
                // Kills thrice: they are quick, and what is worth most.
                waiting = self.kinds.clone();
                waiting.extend(self.kinds.iter().copied().filter(|kind| *kind == Fault::Kills).cycle().take(2));
                self.random.shuffle(&mut waiting);
            }
            let Some(kind) = next.or_else(|| waiting.pop()) else {
                // No kind is left: orders alone.
                fleet.pause(until.saturating_duration_since(Instant::now())).await?;
                return Ok(());
            };
            let role = self.role();
            tracing::info!(?kind, role = role.name(), "next");
            match kind {
                Fault::Kills => self.kills(fleet, role).await?,
                Fault::Partitions => self.partition(fleet, role).await?,
                Fault::FullDisks => self.full_disk(fleet, role).await?,
                Fault::Clocks => self.clock(fleet, role).await,
                Fault::Damage => self.damage(fleet, role).await?,
                Fault::Attacks => {}
            }
        }
    }

    fn role(&mut self) -> RoleName {
        self.random.choice(RoleName::ALL).unwrap_or(RoleName::Shop)
    }

    async fn kill(&mut self, fleet: &mut Fleet, role: RoleName) -> anyhow::Result<()> {
        self.report.kills += 1;
        fleet.kill(role).await
    }

    /// One node, or two at the same time; now and then it is killed again before it is up.
    async fn kills(&mut self, fleet: &mut Fleet, role: RoleName) -> anyhow::Result<()> {
        let mut roles = vec![role];
        if self.random.u32(0..3) == 0 {
            roles.extend(RoleName::ALL.into_iter().filter(|other| *other != role).take(self.random.usize(1..=2)));
        }
        for role in &roles {
            self.kill(fleet, *role).await?;
        }
        for role in roles {
            while self.random.u32(0..3) == 0 {
                fleet.launch(role).await?;
                tokio::time::sleep(Duration::from_millis(self.random.u64(0..400))).await;
                self.kill(fleet, role).await?;
                self.report.kills_at_start += 1;
            }
            fleet.start(role).await?;
        }
        Ok(())
    }

    /// A node, a connection or one direction of it; now and then a node dies meanwhile.
    async fn partition(&mut self, fleet: &mut Fleet, role: RoleName) -> anyhow::Result<()> {
        let others: Vec<_> = RoleName::ALL.into_iter().filter(|other| *other != role).collect();
        let peer = self.random.choice(&others).copied().unwrap_or(role);
        let cuts: Vec<_> = match self.random.u32(0..4) {
            0 => others.iter().map(|other| Cut::Cable(role, *other)).collect(),
            1 => vec![Cut::Cable(role, peer)],
            2 => vec![Cut::OneWay(role, peer)],
            _ => others.iter().map(|other| Cut::OneWay(*other, role)).collect(),
        };
        for cut in &cuts {
            fleet.network.set(*cut, true)?;
        }
        self.report.partitions += 1;
        let range = if self.lasts < SHORT_RUN { PARTITION_SHORT_MS } else { PARTITION_MS };
        let half = Duration::from_millis(self.random.u64(range) / 2);
        fleet.pause(half).await?;
        if self.kinds.contains(&Fault::Kills) && self.random.u32(0..3) == 0 {
            let victim = self.role();
            self.kill(fleet, victim).await?;
            fleet.start(victim).await?;
        }
        fleet.pause(half).await?;
        for cut in &cuts {
            fleet.network.set(*cut, false)?;
        }
        Ok(())
    }

    /// A node whose disk is full has to say so and stop; it goes on once there is room.
    async fn full_disk(&mut self, fleet: &mut Fleet, role: RoleName) -> anyhow::Result<()> {
        let volume = |fleet: &Fleet| fleet.volume(role).map(Volume::fill).transpose();
        volume(fleet)?;
        self.report.full_disks += 1;
        match fleet.ended(role, FULL_DISK_WAIT_MAX).await? {
            None => self.report.full_disks_survived += 1,
            Some(ended) => {
                self.says_disk_full(role, &ended);
                // Who starts it without looking gets the same again.
                fleet.launch(role).await?;
                if let Some(ended) = fleet.ended(role, FULL_DISK_START_WAIT_MAX).await? {
                    self.says_disk_full(role, &ended);
                    self.report.full_disk_starts_refused += 1;
                } else {
                    self.kill(fleet, role).await?;
                }
                fleet.volume(role).map(Volume::free).transpose()?;
                return fleet.start(role).await;
            }
        }
        fleet.volume(role).map(Volume::free).transpose()?;
        // It may have met the full disk in the last moment.
        if let Some(ended) = fleet.ended(role, Duration::ZERO).await? {
            self.says_disk_full(role, &ended);
            fleet.start(role).await?;
        }
        Ok(())
    }

    fn says_disk_full(&mut self, role: RoleName, ended: &Ended) {
        let clear = ["No space left on device", "disk space"].iter().all(|words| ended.said.contains(words));
        if ended.status.code() != Some(1) || !clear || ended.said.contains("panicked at") {
            let (name, status, said) = (role.name(), ended.status, ended.said.trim());
            self.report.violations.push(format!("{name} on a full disk ended with {status} and said: {said}"));
        }
    }

    async fn clock(&mut self, fleet: &mut Fleet, role: RoleName) {
        let ahead_ms = fleet.clock_ahead_ms(role);
        let jump_ms = if self.random.bool() && ahead_ms < CLOCK_AHEAD_MS_MAX {
            // From a second to hours: the exponent is drawn.
            let jump_ms_max = CLOCK_FORWARD_MS_MAX >> self.random.u32(0..12);
            self.random.i64(1_000..=jump_ms_max.max(1_001))
        } else {
            -self.random.i64(1..=CLOCK_BACK_MS_MAX)
        };
        self.report.clock_jumps += 1;
        fleet.set_clock(role, ahead_ms + jump_ms).await;
    }

    /// Copies the store of a node that is down, and damages copies of the copy.
    async fn damage(&mut self, fleet: &mut Fleet, role: RoleName) -> anyhow::Result<()> {
        if self.random.bool() {
            fleet.stop(role).await?;
            self.report.stops += 1;
        } else {
            self.kill(fleet, role).await?;
        }
        self.patients += 1;
        let folder = self.folder.join(format!("copy-{}-{}", self.patients, role.name()));
        let original = folder.join("store");
        copy_folder(&fleet.store(role), &original)?;
        fleet.start(role).await?;
        let patient = Patient::new(role, original)?;
        let mut is_clean = true;
        for _ in 0..DAMAGES_PER_STORE {
            let (damage, verdict) = patient.damage(&mut self.random).await?;
            tracing::info!(%damage, ?verdict, "a store was damaged");
            self.report.damaged += 1;
            match verdict {
                Verdict::Recovered => self.report.recovered += 1,
                Verdict::TailLost => self.report.tail_lost += 1,
                Verdict::Refused => self.report.refused += 1,
                Verdict::Violation(what) => {
                    is_clean = false;
                    self.report.violations.push(format!("{damage}, of {}: {what}", role.name()));
                }
            }
            fleet.pause(Duration::ZERO).await?;
        }
        if is_clean {
            std::fs::remove_dir_all(&folder)?;
        }
        Ok(())
    }
}
