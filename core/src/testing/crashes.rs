//! Runs with a crash of each role at each point, one by one, and at each pair of points.
//!
//! A run of the [`harness`](super::harness) is a list of events; a role can crash before and after each event that
//! concerns it. The run after a crash is again a list of events, with points for the next crash.

use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use crate::base::abort::Abort;
use crate::base::error_text::debug_as_text;
use crate::base::located::Located;
use crate::base::message::{Payload, decode, encode};
use crate::base::panics;
use crate::frame::Outcome;
use crate::language::choreography::Choreography;
use crate::machine::CAUSES_OF_DIVERGENCE;

use super::again::{self, AGAIN, Printed, test_command};
use super::carrier::RequestCarrier;
use super::disk::Disk;
use super::harness::{DeliveryOrder, Event, SessionHarness};
use super::plan::{FaultKind, Plan, points, successors};
use super::setup::{Ended, TestSetup};

/// The maximum number of events of a run. No run of a choreography that ends should have more.
const EVENTS_MAX: usize = 100_000;
/// The number of runs between two progress messages.
const RUNS_PER_WORD: usize = 5_000;

/// The extent of a check that found no failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct CrashReport {
    /// The number of points at which a role could crash, in runs without another crash.
    pub points: usize,
    /// The total number of runs.
    pub runs: usize,
    /// The number of runs that ended as compensated although the run without a crash did not.
    pub aborted: usize,
}

/// A run that did not end as it should.
#[derive(Clone, thiserror::Error)]
#[non_exhaustive]
pub struct RunFailure {
    /// A description of the failure.
    pub what: String,
    /// The events, one line for each; of a long run, the lines that help.
    pub timeline: Vec<String>,
    /// The run, as a value for the variable `ACCOMPANIST_CRASHES`; empty if no run was to blame.
    pub again: String,
    /// The command that runs only the test in which the failure was found.
    pub command: String,
}

debug_as_text!(RunFailure);

impl fmt::Display for RunFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.timeline {
            writeln!(f, "{line}")?;
        }
        if !self.again.is_empty() {
            writeln!(f, "this run again: {AGAIN}={} {}", self.again, self.command)?;
        }
        f.write_str(&self.what)
    }
}

impl RunFailure {
    pub(super) fn new(what: String, timeline: Vec<String>, again: String) -> Self {
        Self { what, timeline, again, command: test_command() }
    }

    pub(super) fn unusable(what: String) -> Self {
        Self::new(what, Vec::new(), String::new())
    }
}

/// The result of a run.
struct Ran {
    /// The fingerprint of the events and of the run's surroundings, for a run that others are compared with.
    fingerprint: u32,
    events: Vec<Event>,
    /// The events at which requests to services were made, if requests may be late.
    requests: Vec<usize>,
    output: Result<Payload, Abort>,
    finished: bool,
    /// Whether all planned faults have happened.
    fits: bool,
}

/// Runs a choreography once without a crash, then once for each point at which a role can crash, with a crash at that
/// point. The points are before and after each turn, sync, message and acknowledgement, and so before and after each
/// record, commit, compensation, done and close. With `crashes_max` 2, further runs have a second crash at each point
/// after the first. In other runs, a message never arrives although it is acknowledged, and nobody crashes. All runs
/// are done with writes synced before anything arrives, and once more with the opposite order.
///
/// In each run, all roles must end the session with the same outcome, and leave nothing behind except that outcome.
/// The outcome must be that of the run without a crash (with the same output, if nothing is drawn: `random`, `uuid`,
/// `now`, `effect`, time limits), or compensated. In addition, the scene's judge sees what the services were made to
/// do; this is the place to check that no step took effect twice.
///
/// Time passes at once; services may wait for others as on a runtime. A run that ends in trouble fails.
///
/// A failure prints `ACCOMPANIST_CRASHES=..` with the failed run. With that in the environment, the check that
/// printed it first repeats that run, along with the run without a crash that it is compared with. Either the run
/// fails in the same way, or the check continues with all runs. If that run cannot happen any more, the check fails
/// and says so. Other checks are not affected.
///
/// ```
/// use accompanist_core::testing::{TestSetup, check_crashes};
/// # use accompanist_core::*;
/// # #[derive(Clone, Copy)] struct Buyer;
/// # impl Role for Buyer { const NAME: &'static str = "buyer"; type Service = (); }
/// # #[derive(Clone, Copy)] struct Seller;
/// # impl Role for Seller { const NAME: &'static str = "seller"; type Service = (); }
/// # const SHELF: Table<String, u32> = Table::new("shelf");
/// # struct Reserve;
/// # impl LocalTransaction for Reserve {
/// #     const NAME: &'static str = "reserve"; type Role = Seller; type Input = u32; type Output = u32;
/// #     fn commit(&self, shelf: &mut State<'_>, books: &u32) -> Result<u32, Abort> {
/// #         SHELF.update(shelf, "books", |left| Ok(left.unwrap_or(10) - books))?;
/// #         Ok(books * 25)
/// #     }
/// #     fn compensate(&self, _: &mut State<'_>, _: &u32, _: &u32) -> Result<(), Retry> { Ok(()) }
/// # }
/// # struct Sale;
/// # impl Choreography for Sale {
/// #     const NAME: &'static str = "sale"; type Roles = (Buyer, Seller);
/// #     type Input = At<Buyer, u32>; type Output = At<Buyer, u32>;
/// async fn run(&self, ctx: &Context<Self::Roles>, books: At<Buyer, u32>) -> Result<At<Buyer, u32>, Abort> {
///     let books = ctx.comm(Buyer, Seller, &books).await?;
///     let price = ctx.transact(Reserve, &books).await?; // Takes them off the `SHELF`, where there are ten.
///     ctx.comm(Seller, Buyer, &price).await
/// }
/// # }
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let setup = || {
///     TestSetup::new(Services::new()).judge(|ended| {
///         assert_eq!(*ended.output(), Ok(75));
///         let left = ended.read_state(Seller, |state| SHELF.get(state, "books"));
///         assert_eq!(left, Ok(Some(7)), "they are taken off the shelf once");
///     })
/// };
/// let report = check_crashes(Sale, 3, 2, setup).await;
/// let report = report.unwrap_or_else(|failure| panic!("{failure}"));
/// assert!(report.points > 20 && report.aborted == 0);
/// # }
/// ```
///
/// # Errors
/// [`RunFailure`]: the first run that did not end as required, what happened in it, and how to repeat it alone.
pub async fn check_crashes<C: Choreography>(
    choreography: C,
    input: <C::Input as Located>::Value,
    crashes_max: usize,
    setup: impl Fn() -> TestSetup<C>,
) -> Result<CrashReport, RunFailure> {
    let unusable = RunFailure::unusable;
    let input = encode(&input).map_err(|error| unusable(format!("the input cannot be used: {error}")))?.into();
    let check = Check { choreography: Arc::new(choreography), input, setup, call: again::count_call(C::NAME) };
    let mut report = CrashReport { points: 0, runs: 0, aborted: 0 };
    let roles = (check.setup)().roles();
    if let Some(printed) = Printed::wanted(C::NAME, &roles).map_err(unusable)? {
        check.run_again(&printed).await?;
    }
    for first in [DeliveryOrder::Disk, DeliveryOrder::Network] {
        let calm = Plan { first, faults: Vec::new() };
        let base = check.run(&calm, None).await?;
        report.runs += 1;
        report.points += points(&base.events, 0).count();
        // The search is depth first, so that the events of a run are known when its successors are created.
        let mut open: Vec<Plan> = successors(&calm, &base.events, &base.requests);
        while let Some(plan) = open.pop() {
            let ran = check.run(&plan, Some(&base)).await?;
            report.runs += 1;
            report.aborted += usize::from(base.finished && !ran.finished);
            if plan.faults.len() < crashes_max || plan.lingers() {
                open.extend(successors(&plan, &ran.events, &ran.requests));
            }
            if report.runs.is_multiple_of(RUNS_PER_WORD) {
                eprintln!("crashes of `{}`: {} runs, {} to go at least", C::NAME, report.runs, open.len());
            }
        }
    }
    Ok(report)
}

struct Check<C: Choreography, S> {
    choreography: Arc<C>,
    input: Payload,
    setup: S,
    /// The number of this check among those of this choreography in its test, from 1.
    call: usize,
}

impl<C: Choreography, S: Fn() -> TestSetup<C>> Check<C, S> {
    async fn run(&self, plan: &Plan, base: Option<&Ran>) -> Result<Ran, RunFailure> {
        let mut setup = (self.setup)();
        let mut harness = SessionHarness::new(self.choreography.clone(), self.input.clone(), &mut setup, plan.first);
        let surroundings = setup.fingerprinted(&self.input, &harness.signals);
        let played = play(&mut harness, plan).await;
        let judged = played.and_then(|fits| Ok((fits, judge(&harness, setup, base)?)));
        let calm = |events: &[Event]| again::fingerprint(&surroundings, events);
        let failed = |what: String, harness: &mut SessionHarness<C>| {
            let base = base.map_or_else(|| calm(harness.events()), |base| base.fingerprint);
            let printed = Printed::of::<C>(self.call, base, plan, harness.events(), &harness.names());
            harness.failed(what, printed.to_string())
        };
        let (fits, (output, finished)) = judged.map_err(|what| failed(what, &mut harness))?;
        let fingerprint = if base.is_none() { calm(harness.events()) } else { 0 };
        let (events, requests) = harness.into_events();
        Ok(Ran { fingerprint, events, requests, output, finished, fits })
    }

    /// Repeats a printed run, if this check printed it, and fails if the run is no longer possible.
    async fn run_again(&self, printed: &Printed) -> Result<(), RunFailure> {
        let unfit = |why: &str| RunFailure::unusable(printed.unfit(why));
        let plan = printed.plan.clone().map_err(|why| unfit(&why))?;
        let base = self.run(&Plan { first: plan.first, faults: Vec::new() }, None).await?;
        if printed.base != base.fingerprint {
            let why = "without a crash it takes another way than when that was printed (another input, scene or \
                       program, or one that is not deterministic)";
            return if printed.call == self.call { Err(unfit(why)) } else { Ok(()) };
        }
        let ran = self.run(&plan, Some(&base)).await?;
        if !ran.fits {
            return Err(unfit("what is to go wrong in it never happens"));
        }
        if printed.before != again::before(&plan, &ran.events) {
            return Err(unfit("what happens before its last fault is not what happened when it was printed"));
        }
        eprintln!("{AGAIN}: the run of `{}` that was printed ends as it should now; all others follow", C::NAME);
        Ok(())
    }
}

/// Plays a run. Returns whether all faults of the plan could happen, or the reason why the run fails.
async fn play<C: Choreography>(harness: &mut SessionHarness<C>, plan: &Plan) -> Result<bool, String> {
    let mut fits = true;
    let mut faults = plan.faults.iter().peekable();
    while !harness.is_over() {
        let fault = faults.next_if(|fault| fault.event == harness.events().len()).map(|fault| fault.kind);
        let event = match fault {
            Some(FaultKind::Crash(role)) => Event::Crash(role),
            Some(FaultKind::Request(number)) => {
                fits &= harness.requests().count() > number;
                Event::Request(number)
            }
            Some(FaultKind::Linger) => {
                let event = next_event(harness).await?;
                fits &= linger(harness, event)?;
                continue;
            }
            fault => match next_event(harness).await? {
                Event::Arrive { from, to, number } if fault.is_some() => Event::Forget { from, to, number },
                event => {
                    fits &= fault.is_none();
                    event
                }
            },
        };
        happen(harness, event)?;
    }
    // After the end, the planned late request arrives, and then every request that has not arrived before.
    if let Some(FaultKind::Request(number)) =
        faults.next_if(|fault| fault.event == harness.events().len()).map(|fault| fault.kind)
    {
        fits &= harness.requests().count() > number;
        happen(harness, Event::Request(number))?;
    }
    while let Some(number) = harness.requests().carrier().and_then(RequestCarrier::next_lingering) {
        happen(harness, Event::Request(number))?;
    }
    poll_fn(|cx| harness.poll_requests(cx)).await;
    harness.take_failure().map_or(Ok(fits && faults.peek().is_none()), Err)
}

fn happen<C: Choreography>(harness: &mut SessionHarness<C>, event: Event) -> Result<(), String> {
    panics::catch(|| harness.happen(event)).map_err(|panic| format!("a panic: {panic}"))
}

/// Lets a role's turn happen without its requests arriving, and crashes the role. Returns whether the turn made any
/// request.
fn linger<C: Choreography>(harness: &mut SessionHarness<C>, event: Event) -> Result<bool, String> {
    let (Event::Turn(role), Some(post)) = (event, harness.requests().carrier().cloned()) else {
        return happen(harness, event).map(|()| false);
    };
    let mut happened = Ok(());
    let lingering = post.lingering(|| happened = happen(harness, event));
    happened?;
    if !lingering.is_empty() {
        happen(harness, Event::Crash(role))?;
    }
    Ok(!lingering.is_empty())
}

/// Returns the next event, or the reason why there is none.
pub(super) async fn next_event<C: Choreography>(harness: &mut SessionHarness<C>) -> Result<Event, String> {
    if let Some(stuck) = harness.take_failure() {
        return Err(stuck);
    }
    if harness.events().len() > EVENTS_MAX {
        return Err(format!("it has not ended after {EVENTS_MAX} events; {}", harness.standstill()));
    }
    let next = poll_fn(|cx| {
        harness.wake_later(cx);
        // Time passes only when all requests are carried out.
        let requested = harness.poll_requests(cx);
        match (harness.take_failure(), harness.next()) {
            (Some(stuck), _) => Poll::Ready(Err(stuck)),
            (None, Some(Event::Time)) if requested.is_pending() => Poll::Pending,
            (None, next) => next.map_or(Poll::Pending, |next| Poll::Ready(Ok(next))),
        }
    });
    next.await
}

/// Checks that the run has ended as it should.
fn judge<C: Choreography>(
    harness: &SessionHarness<C>,
    setup: TestSetup<C>,
    base: Option<&Ran>,
) -> Result<(Result<Payload, Abort>, bool), String> {
    let outcomes = harness.outcomes();
    let finished = outcomes.iter().all(|outcome| *outcome == Outcome::Finished);
    if !finished && outcomes.contains(&Outcome::Finished) {
        let ends: Vec<_> = harness.names().into_iter().zip(&outcomes).collect();
        return Err(format!("the roles have ended in different ways: {ends:?}"));
    }
    let records = harness.names().into_iter().zip(harness.disks().map(Disk::records));
    if let Some((role, records)) = { records }.find(|(_, records)| !records.is_empty()) {
        return Err(format!("role `{role}` has closed and left behind {records:?}"));
    }
    harness.ended().map_err(|violation| violation.to_string())?;
    let output = harness.output.clone().ok_or("the caller was never told how it ended")?;
    if let Some(base) = base {
        match (base.finished, finished) {
            (false, true) => return Err("it ended as finished, and without a crash it is aborted".into()),
            (true, true) if !harness.has_drawn && base.output != output => {
                return Err(format!(
                    "its output is another than that without a crash, though nothing was drawn: the program is not \
                     deterministic, or a service has answered one key in two ways. {CAUSES_OF_DIVERGENCE}"
                ));
            }
            _ => {}
        }
    }
    if let Some(judge) = setup.judge {
        let decoded = match &output {
            Ok(output) => Ok(decode(output.as_slice()).map_err(|error| format!("the output cannot be read: {error}"))?),
            Err(abort) => Err(abort.clone()),
        };
        let disks = harness.names().into_iter().zip(harness.disks().cloned()).collect();
        let ended = Ended { output: decoded, disks };
        panics::catch(|| judge(&ended)).map_err(|panic| format!("the test's judge says: {panic}"))?;
    }
    Ok((output, finished))
}
