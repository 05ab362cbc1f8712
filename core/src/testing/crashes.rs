//! A crash of each role at each point of a run, one by one, and at each pair of points.
//!
//! A run of the [`stage`](super::stage) is a list of events; a role can crash before and after each that happens to
//! it. What a crash leads to is a list of events again, with points of its own for the next crash.

use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use crate::abort::Abort;
use crate::choreography::Choreography;
use crate::frame::Outcome;
use crate::located::Located;
use crate::message::{Payload, decode, encode};
use crate::panics;
use crate::role::RoleSet;

use super::disk::Disk;
use super::scene::{Ended, Scene};
use super::stage::{Event, First, Stage};

/// More events than a run of any choreography that ends should have.
const EVENTS_MAX: usize = 100_000;
/// Runs between two words about how far it is.
const RUNS_PER_WORD: usize = 5_000;
/// The variable with the crashes of one run, to run it again.
const AGAIN: &str = "ACCOMPANIST_CRASHES";

/// What was checked, and found in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CrashReport {
    /// Points at which one role could crash, in runs without another crash.
    pub points: usize,
    /// Runs in all.
    pub runs: usize,
    /// Runs that ended as compensated although the one without a crash did not.
    pub aborted: usize,
}

/// A run that did not end as it should.
#[derive(Debug, Clone, thiserror::Error)]
pub struct RunFailure {
    /// What is wrong.
    pub what: String,
    /// What happened, one line for each event.
    pub timeline: Vec<String>,
    /// Which run it was, for the variable `ACCOMPANIST_CRASHES`.
    pub again: String,
}

impl fmt::Display for RunFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.timeline {
            writeln!(f, "{line}")?;
        }
        if !self.again.is_empty() {
            writeln!(f, "this run again: {AGAIN}={} cargo test ..", self.again)?;
        }
        f.write_str(&self.what)
    }
}

impl RunFailure {
    pub(super) fn unusable(what: String) -> Self {
        Self { what, timeline: Vec::new(), again: String::new() }
    }
}

/// What goes wrong at the event of this number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Fault {
    event: usize,
    kind: FaultKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FaultKind {
    /// The role crashes just before.
    Crash(usize),
    /// The frame that would arrive is lost, and acknowledged all the same.
    Forget,
}

/// The faults of one run.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Plan {
    first: First,
    faults: Vec<Fault>,
}

/// How a plan calls a frame that is forgotten, where a crash has its role.
const FORGET: &str = "forget";

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.first {
            First::Disk => "disk",
            First::Network => "network",
        })?;
        self.faults.iter().try_for_each(|Fault { event, kind }| match kind {
            FaultKind::Crash(role) => write!(f, ",{role}@{event}"),
            FaultKind::Forget => write!(f, ",{FORGET}@{event}"),
        })
    }
}

impl Plan {
    fn read(text: &str) -> Option<Self> {
        let mut parts = text.split(',');
        let first = match parts.next()? {
            "disk" => First::Disk,
            "network" => First::Network,
            _ => return None,
        };
        let fault = |part: &str| {
            let (what, event) = part.split_once('@')?;
            let kind = if what == FORGET { FaultKind::Forget } else { FaultKind::Crash(what.parse().ok()?) };
            Some(Fault { event: event.parse().ok()?, kind })
        };
        Some(Self { first, faults: parts.map(fault).collect::<Option<_>>()? })
    }
}

/// How one run ended.
struct Ran {
    events: Vec<Event>,
    output: Result<Payload, Abort>,
    finished: bool,
}

/// Runs a choreography once without a crash, then once for each point at which a role can crash (before and after each
/// turn, sync, message, acknowledgement, and so before and after each record, commit, compensation, done and close), with a
/// crash there; and, with `crashes_max` 2, with a second crash at each point after the first. In other runs a message, an
/// acknowledgement of which is false, never arrives, and nobody crashes. All that with writes synced before
/// anything arrives, and once more the other way round.
///
/// Each run has to end at all roles, alike, and leave nothing behind but how it ended: as the run without a crash (with
/// the same output, if nothing is drawn: `random`, `uuid`, `now`, `effect`, time limits), or as compensated. Beyond that, the
/// scene's judge sees what the services were made to do: there is the check that no step took effect twice.
///
/// Time passes at once; services may wait for others as on a runtime. A run that ends in trouble fails.
///
/// ```
/// # use std::sync::Arc;
/// # use std::sync::atomic::{AtomicU32, Ordering};
/// # use accompanist_core::{Abort, At, Choreography, Context, Local, LocalTransaction, Retry, Role, Services, State, Table};
/// use accompanist_core::testing::{Scene, check_crashes};
/// # #[derive(Clone, Copy)] struct Guest; impl Role for Guest { const NAME: &'static str = "guest"; type Service = (); }
/// # #[derive(Clone, Copy)] struct Hotel; impl Role for Hotel { const NAME: &'static str = "hotel"; type Service = (); }
/// # struct Book;
/// # impl LocalTransaction for Book {
/// #     const NAME: &'static str = "book"; type Role = Hotel; type Input = u32; type Output = u32;
/// #     fn commit(&self, _: &mut State<'_>, n: &u32) -> Result<u32, Abort> { Ok(n + 1) }
/// #     fn compensate(&self, _: &mut State<'_>, _: &u32, _: &u32) -> Result<(), Retry> { Ok(()) }
/// # }
/// struct Stay;
/// impl Choreography for Stay {
///     // ..
/// #   const NAME: &'static str = "stay"; type Roles = (Guest, Hotel);
/// #   type Input = At<Guest, u32>; type Output = At<Guest, u32>;
///     async fn run(&self, ctx: &Context<Self::Roles>, n: At<Guest, u32>) -> Result<At<Guest, u32>, Abort> {
///         let n = ctx.comm(Guest, Hotel, &n).await?;
///         let booked = ctx.transact(Book, &n).await?;
///         ctx.comm(Hotel, Guest, &booked).await
///     }
/// }
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let report = check_crashes(Stay, 7, 2, || Scene::new(Services::new()).judge(|ended| assert_eq!(*ended.output(), Ok(8)))).await;
/// let report = report.unwrap_or_else(|failure| panic!("{failure}"));
/// assert!(report.points > 20 && report.aborted == 0);
/// # });
/// ```
///
/// # Errors
/// [`RunFailure`]: the first run that did not end so, what happened in it, and how to run it alone.
pub async fn check_crashes<C: Choreography>(
    choreography: C,
    input: <C::Input as Located>::Value,
    crashes_max: usize,
    scene: impl Fn() -> Scene<C>,
) -> Result<CrashReport, RunFailure> {
    let unusable = RunFailure::unusable;
    let input = encode(&input).map_err(|error| unusable(format!("the input cannot be used: {error}")))?.into();
    let check = Check { choreography: Arc::new(choreography), input, scene };
    let mut report = CrashReport { points: 0, runs: 0, aborted: 0 };
    if let Ok(text) = std::env::var(AGAIN) {
        let plan = Plan::read(&text).ok_or_else(|| unusable(format!("{AGAIN}={text} is not what a failure gave")))?;
        check.run(&plan, None).await?;
        return Ok(CrashReport { runs: 1, ..report });
    }
    for first in [First::Disk, First::Network] {
        let calm = Plan { first, faults: Vec::new() };
        let base = check.run(&calm, None).await?;
        report.runs += 1;
        report.points += points(&base.events, 0).count();
        // Depth first, so that a run is known while its successors are made.
        let mut open: Vec<Plan> = successors(&calm, &base.events).collect();
        while let Some(plan) = open.pop() {
            let ran = check.run(&plan, Some(&base)).await?;
            report.runs += 1;
            report.aborted += usize::from(base.finished && !ran.finished);
            if plan.faults.len() < crashes_max {
                open.extend(successors(&plan, &ran.events));
            }
            if report.runs.is_multiple_of(RUNS_PER_WORD) {
                eprintln!("crashes of `{}`: {} runs, {} to go at least", C::NAME, report.runs, open.len());
            }
        }
    }
    Ok(report)
}

/// The points at which one role can crash, from the event of number `from` on. After an event is the same as before the
/// next one that happens to the role, but for what happens to others in between; so both are taken, unless they are one.
fn points(events: &[Event], from: usize) -> impl Iterator<Item = Fault> {
    let crashes = events.iter().enumerate().skip(from).flat_map(|(event, what)| {
        let next: Vec<usize> = events.get(event + 1).into_iter().flat_map(|next| next.roles()).collect();
        let crash = |event, role| Fault { event, kind: FaultKind::Crash(role) };
        let before = what.roles().map(move |role| crash(event, role));
        let after = what.roles().filter(move |role| !next.contains(role));
        before.chain(after.map(move |role| crash(event + 1, role)))
    });
    crashes.filter(|crash| crash.event < events.len())
}

/// The frames that can be forgotten, from the event of number `from` on.
fn frames(events: &[Event], from: usize) -> impl Iterator<Item = Fault> {
    let arrivals = events.iter().enumerate().skip(from).filter(|(_, what)| matches!(what, Event::Arrive { .. }));
    arrivals.map(|(event, _)| Fault { event, kind: FaultKind::Forget })
}

/// The plans with one fault more than `plan`, later than its last. A frame is forgotten alone: with crashes besides there
/// would be several times the runs, and the model has those.
fn successors<'a>(plan: &'a Plan, events: &'a [Event]) -> impl Iterator<Item = Plan> + 'a {
    let from = plan.faults.last().map_or(0, |fault| fault.event + 1);
    let forgets = plan.faults.iter().any(|fault| fault.kind == FaultKind::Forget);
    let crashes = points(events, from).filter(move |_| !forgets);
    let forgotten = frames(events, from).filter(|_| plan.faults.is_empty());
    crashes.chain(forgotten).map(|fault| {
        let mut next = plan.clone();
        next.faults.push(fault);
        next
    })
}

struct Check<C: Choreography, S> {
    choreography: Arc<C>,
    input: Payload,
    scene: S,
}

impl<C: Choreography, S: Fn() -> Scene<C>> Check<C, S> {
    async fn run(&self, plan: &Plan, base: Option<&Ran>) -> Result<Ran, RunFailure> {
        let mut scene = (self.scene)();
        let mut stage = Stage::set(self.choreography.clone(), self.input.clone(), &mut scene, plan.first);
        let played = play(&mut stage, plan).await;
        let judged = played.and_then(|()| judge(&stage, scene, base));
        let (output, finished) = judged.map_err(|what| stage.failed(what, plan.to_string()))?;
        Ok(Ran { events: stage.events, output, finished })
    }
}

async fn play<C: Choreography>(stage: &mut Stage<C>, plan: &Plan) -> Result<(), String> {
    let mut faults = plan.faults.iter().peekable();
    while !stage.is_over() {
        let fault = faults.next_if(|fault| fault.event == stage.events.len()).map(|fault| fault.kind);
        let event = match fault {
            Some(FaultKind::Crash(role)) => Event::Crash(role),
            fault => match next_event(stage).await? {
                Event::Arrive { from, to, number } if fault.is_some() => Event::Forget { from, to, number },
                event => event,
            },
        };
        let happened = panics::catch(|| stage.happen(event));
        happened.map_err(|panic| format!("a panic at {event:?}: {panic}"))?;
    }
    stage.stuck.take().map_or(Ok(()), Err)
}

/// What happens next, or why nothing does.
pub(super) async fn next_event<C: Choreography>(stage: &mut Stage<C>) -> Result<Event, String> {
    if let Some(stuck) = stage.stuck.take() {
        return Err(stuck);
    }
    if stage.events.len() > EVENTS_MAX {
        return Err(format!("it has not ended after {EVENTS_MAX} events"));
    }
    let next = poll_fn(|cx| {
        stage.wake_later(cx);
        stage.next().map_or(Poll::Pending, Poll::Ready)
    });
    Ok(next.await)
}

/// Whether the run has ended as it should.
fn judge<C: Choreography>(
    stage: &Stage<C>,
    scene: Scene<C>,
    base: Option<&Ran>,
) -> Result<(Result<Payload, Abort>, bool), String> {
    let outcomes = stage.outcomes();
    let finished = outcomes.iter().all(|outcome| *outcome == Outcome::Finished);
    if !finished && outcomes.contains(&Outcome::Finished) {
        let ends: Vec<_> = C::Roles::NAMES.iter().zip(&outcomes).collect();
        return Err(format!("the roles have ended in different ways: {ends:?}"));
    }
    if let Some(records) = stage.disks().map(Disk::records).find(|records| !records.is_empty()) {
        return Err(format!("a role has closed and left behind {records:?}"));
    }
    stage.ended().map_err(|violation| violation.to_string())?;
    let output = stage.output.clone().ok_or("the caller was never told how it ended")?;
    if let Some(base) = base {
        match (base.finished, finished) {
            (false, true) => return Err("it ended as finished, and without a crash it is aborted".into()),
            (true, true) if !stage.has_drawn && base.output != output => {
                return Err("its output is another than that without a crash".into());
            }
            _ => {}
        }
    }
    if let Some(judge) = scene.judge {
        let told = match &output {
            Ok(output) => Ok(decode(output.as_slice()).map_err(|error| format!("the output cannot be read: {error}"))?),
            Err(abort) => Err(abort.clone()),
        };
        let disks = C::Roles::NAMES.iter().copied().zip(stage.disks().cloned()).collect();
        let ended = Ended { output: told, disks };
        panics::catch(|| judge(&ended)).map_err(|panic| format!("the scene's judge says: {panic}"))?;
    }
    Ok((output, finished))
}
