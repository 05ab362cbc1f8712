//! Runs simulated worlds one after the other, each from a seed, and says how to rerun the one that failed.

use std::fmt;
use std::time::Duration;

use accompanist_core::panics;
use accompanist_core::testing::test_command;

use super::fault_profile::FaultProfile;
use super::trace::{Event, Trace, What};
use super::world::World;

/// The environment variable with the one seed to run.
const SEED: &str = "ACCOMPANIST_SEED";
/// The environment variable with the number of seeds to run.
const SEEDS: &str = "ACCOMPANIST_SEEDS";
/// The usual reasons why two runs of one seed differ.
const CAUSES: &str = "The usual causes: a clock other than tokio's, a random number that is not drawn from the world, \
    the order of a HashMap, a static, a thread";
/// The number of lines of the trace that a failure shows.
const LINES: usize = 40;

/// How many worlds are run, and how rough they are. [`Simulation::run`] runs them.
#[derive(Debug, Clone)]
pub struct Simulation {
    seeds: u64,
    rough: FaultProfile,
    time_max: Duration,
    twice: bool,
}

impl Default for Simulation {
    fn default() -> Self {
        Self { seeds: 100, rough: FaultProfile::rough(), time_max: Duration::from_mins(10), twice: false }
    }
}

/// A summary of the worlds that were run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Summary {
    /// The number of worlds.
    pub seeds: u64,
    /// The number of events in all of them.
    pub events: u64,
    /// The number of crashes among those.
    pub crashes: u64,
    /// The number of lost packets.
    pub lost: u64,
    /// The combined fingerprints of all traces.
    pub fingerprint: u64,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seeds, events, crashes, lost, fingerprint } = self;
        write!(f, "{seeds} worlds with {events} events, {crashes} crashes, {lost} packets lost: {fingerprint:016x}")
    }
}

/// A world in which something is wrong. Its text says what is wrong, shows what happened before, and says how to
/// reproduce it.
#[derive(Clone)]
#[non_exhaustive]
pub struct Failure {
    /// The world's seed.
    pub seed: u64,
    /// The reason for the failure.
    pub reason: String,
    /// The events up to the failure.
    pub trace: Trace,
    /// The command that runs the test in which the failure was found, and no other test.
    pub command: String,
}

accompanist_core::debug_as_text!(Failure);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, reason, trace, command } = self;
        let events = trace.events.len();
        writeln!(f, "seed {seed} failed: {reason}\n\nthe last of {events} events, without routine:")?;
        write!(f, "{}\n\nonce more: {SEED}={seed} {command}", trace.tail(LINES))
    }
}

impl std::error::Error for Failure {}

impl Simulation {
    /// Creates a simulation of a hundred [rough](FaultProfile::rough) worlds, each of at most ten simulated minutes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how many worlds to run: those of the seeds from 0 on.
    #[must_use]
    pub fn seeds(mut self, seeds: u64) -> Self {
        self.seeds = seeds;
        self
    }

    /// Sets how rough the worlds are.
    #[must_use]
    pub fn fault_profile(mut self, rough: FaultProfile) -> Self {
        self.rough = rough;
        self
    }

    /// Sets the simulated time after which a world that has not ended counts as stuck. Choose far more than your
    /// choreographies take.
    #[must_use]
    pub fn time_max(mut self, time_max: Duration) -> Self {
        self.time_max = time_max;
        self
    }

    /// Runs each world twice, and fails if anything differs: something in the world then depends on more than the
    /// seed.
    #[must_use]
    pub fn twice(mut self) -> Self {
        self.twice = true;
        self
    }

    /// Runs `body` in each world. The body adds nodes, starts sessions, and may [settle](World::settle) and then
    /// check its services' data; if it does not settle the world, that is done after it.
    ///
    /// With `ACCOMPANIST_SEED=17` in the environment only that world is run; `ACCOMPANIST_SEEDS=5000` sets the number
    /// of worlds.
    ///
    /// # Panics
    /// With a [`Failure`], when something is wrong in a world; and for an environment variable that is not a number.
    #[expect(clippy::panic, reason = "that is how a test fails")]
    pub fn run(&self, body: impl AsyncFn(World)) -> Summary {
        self.try_run(body).unwrap_or_else(|failure| panic!("{failure}"))
    }

    /// Runs `body` in each world, as [`Simulation::run`] does, and returns a failure instead of panicking.
    ///
    /// # Errors
    /// The first [`Failure`].
    ///
    /// # Panics
    /// For an environment variable that is not a number.
    pub fn try_run(&self, body: impl AsyncFn(World)) -> Result<Summary, Box<Failure>> {
        let seeds = match (number(SEED), number(SEEDS)) {
            (Some(seed), _) => seed..seed.saturating_add(1),
            (None, seeds) => 0..seeds.unwrap_or(self.seeds),
        };
        let mut summary = Summary::default();
        for seed in seeds {
            let trace = self.run_seed(seed, &body)?;
            if self.twice {
                let again = self.run_seed(seed, &body)?;
                if let Some((one, other)) = trace.difference(&again) {
                    let told = |event: Option<&Event>| event.map_or("it was over".into(), Event::to_string);
                    let reason = format!(
                        "it ran in two ways: {}, and then {}. Something is not deterministic: it depends on more than \
                         the seed. {CAUSES}",
                        told(one).trim_start(),
                        told(other).trim_start()
                    );
                    return Err(Box::new(Failure { seed, reason, trace: again, command: test_command() }));
                }
            }
            summary.add(&trace);
        }
        Ok(summary)
    }

    /// Runs `body` in the world of one seed, and returns what happened.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn run_seed(&self, seed: u64, body: &impl AsyncFn(World)) -> Result<Trace, Box<Failure>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        let failed = |reason: String, trace: Trace| Box::new(Failure { seed, reason, trace, command: test_command() });
        let runtime = runtime.map_err(|error| failed(error.to_string(), Trace::default()))?;
        let guard = runtime.enter();
        let world = World::new(seed, self.rough);
        drop(guard);
        let reason = panics::catch(|| runtime.block_on(self.end(&world, body))).unwrap_or_else(Some);
        let reason = world.recorder().failure().or(reason);
        let trace = world.take_trace();
        reason.map_or(Ok(trace.clone()), |reason| Err(failed(reason, trace)))
    }

    /// Runs the world to its end; returns why it has failed, if it has.
    async fn end(&self, world: &World, body: &impl AsyncFn(World)) -> Option<String> {
        let recorder = world.recorder();
        let whole = async {
            body(world.clone()).await;
            world.end().await;
        };
        tokio::select! {
            biased;
            () = recorder.failed() => recorder.failure(),
            ended = tokio::time::timeout(self.time_max, whole) => match ended {
                Ok(()) => None,
                Err(_) => {
                    let who = world.standstill().await;
                    Some(format!("it is stuck: it has not ended after {:?}\n{who}", self.time_max))
                }
            },
        }
    }
}

impl Summary {
    fn add(&mut self, trace: &Trace) {
        self.seeds += 1;
        self.fingerprint = self.fingerprint.rotate_left(1) ^ trace.fingerprint();
        for event in &trace.events {
            self.events += 1;
            match &event.what {
                What::Crashed { .. } => self.crashes += 1,
                What::Sent { lost, .. } => self.lost += lost,
                _ => {}
            }
        }
    }
}

#[expect(clippy::panic, reason = "that is how a test fails")]
fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} has to be a number, and is `{text}`")))
}
