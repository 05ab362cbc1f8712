//! Examines a choreography in one run without faults, for habits that become expensive later.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use crate::base::id::Path;
use crate::base::located::Located;
use crate::base::message::{decode, encode};
use crate::base::uses::{self, Received};
use crate::frame::{Body, Operation};
use crate::language::choreography::Choreography;
use crate::step::Kind;

use super::crashes::{RunFailure, next_event};
use super::harness::{DeliveryOrder, Event, SessionHarness};
use super::setup::TestSetup;

/// Something in a choreography that should be reviewed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Finding {
    /// A pivot can be committed while a step that may still refuse is not. If that step refuses, the session is
    /// aborted, the effect of the pivot stays, and an operator is needed. Let all steps that may refuse end before
    /// the pivot (a message from there to the pivot's role is enough), and make the steps after it
    /// [`Kind::Retriable`].
    AbortBesidePivot {
        /// The pivot's name and path.
        pivot: (String, Path),
        /// The other step's name and path.
        other: (String, Path),
        /// Whether the other step comes after the pivot, and not beside it.
        after: bool,
    },
    /// A role that sends nothing, does nothing and observes nothing, so that the others only wait for its end.
    OnlyWaits {
        /// The role.
        role: &'static str,
    },
    /// A value that was sent, but neither read nor passed on. A unit value is only a signal, and is not reported.
    NeverUsed {
        /// The path of the operation.
        path: Path,
        /// The role that sent the value.
        from: &'static str,
        /// The role that received it.
        to: &'static str,
    },
    /// The session has no deadline, and this wait has no limit: if the other side does not come back, it never ends.
    NoDeadline {
        /// The waiting role.
        role: &'static str,
        /// The path of the operation.
        path: Path,
        /// A description of the awaited event.
        what: String,
    },
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AbortBesidePivot { pivot, other, after } => {
                let when = if *after { "comes after it" } else { "can run beside it" };
                write!(
                    f,
                    "pivot `{}` at {} and step `{}` at {}, which may refuse and {when}: let it end before, or make it \
                     `Kind::Retriable`",
                    pivot.0, pivot.1, other.0, other.1
                )
            }
            Self::OnlyWaits { role } => {
                write!(f, "role `{role}` sends and does nothing: leave it out, or to the conclaves that need it")
            }
            Self::NeverUsed { path, from, to } => {
                write!(f, "the value that `{from}` sends to `{to}` at {path} is never used: send `()`, or nothing")
            }
            Self::NoDeadline { role, path, what } => write!(
                f,
                "the session has no deadline, and role `{role}` waits for {what} at {path} for as long as it takes: \
                 start it with one, or use `comm_within`"
            ),
        }
    }
}

/// Runs `choreography` once, without faults, and reports what should be reviewed, in order.
///
/// The run only sees what this input leads to: not the branches that are not taken, not a `ctx.abort` that is not
/// reached, not what would happen in another order. Every step that is not [`Kind::Retriable`] counts as one that may
/// abort the session, even with `try_transact`. Values that are broadcast, gathered or signalled are not tracked.
///
/// ```
/// use accompanist_core::testing::{Finding, TestSetup, lint};
/// # use accompanist_core::*;
/// # #[derive(Clone, Copy)] struct Buyer;
/// # impl Role for Buyer { const NAME: &'static str = "buyer"; type Service = (); }
/// # #[derive(Clone, Copy)] struct Seller;
/// # impl Role for Seller { const NAME: &'static str = "seller"; type Service = (); }
/// # #[derive(Clone, Copy)] struct Carrier;
/// # impl Role for Carrier { const NAME: &'static str = "carrier"; type Service = (); }
/// # struct Sale;
/// # impl Choreography for Sale {
/// #     const NAME: &'static str = "sale"; type Roles = (Buyer, Seller, Carrier);
/// #     type Input = At<Buyer, u32>; type Output = At<Buyer, u32>;
/// async fn run(&self, ctx: &Context<Self::Roles>, books: At<Buyer, u32>) -> Result<At<Buyer, u32>, Abort> {
///     let books = ctx.comm(Buyer, Seller, &books).await?;
///     let price = ctx.locally(Seller, |seller| seller.get(&books) * 25);
///     ctx.comm(Seller, Buyer, &price).await
/// }
/// # }
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let findings = lint(Sale, 3, TestSetup::new(Services::new())).await.unwrap();
/// assert!(findings.contains(&Finding::OnlyWaits { role: "carrier" }));
/// // Nothing says what happens if the seller never answers.
/// assert!(findings.iter().any(|finding| matches!(finding, Finding::NoDeadline { role: "buyer", .. })));
/// # }
/// ```
///
/// # Errors
/// [`RunFailure`] if the run itself does not end as it should.
pub async fn lint<C: Choreography>(
    choreography: C,
    input: <C::Input as Located>::Value,
    mut setup: TestSetup<C>,
) -> Result<Vec<Finding>, RunFailure> {
    let input = encode(&input).map_err(|error| RunFailure::unusable(format!("the input cannot be used: {error}")))?;
    let has_deadline = setup.deadline.is_some();
    let mut harness = SessionHarness::new(Arc::new(choreography), input.into(), &mut setup, DeliveryOrder::Disk);
    let roles = harness.provided_as();
    let mut seen = Seen::new(roles.len());
    while !harness.is_over() {
        let event = next_event(&mut harness).await.map_err(|what| harness.failed(what, String::new()))?;
        seen.before(&harness, event);
        let heard = seen.heard.get_mut(event.roles().last().unwrap_or_default());
        match heard {
            Some(heard) => uses::listen(heard, || harness.happen(event)),
            None => harness.happen(event),
        }
        seen.after(&harness, event);
    }
    let mut findings = seen.pivots();
    findings.extend(seen.idle_roles(&roles));
    findings.extend(seen.unused(&roles));
    findings.extend(seen.endless_wait(&roles).filter(|_| !has_deadline));
    Ok(findings)
}

/// A vector clock: for each role, how many of its events are known to precede something.
type Clock = Vec<u64>;

/// An observed step.
struct SeenStep {
    name: String,
    kind: Kind,
    role: usize,
    begun: Clock,
    done: Option<Clock>,
}

/// The observations of the run.
struct Seen {
    clocks: Vec<Clock>,
    /// The clocks of the frames in flight, by role and number.
    frames: BTreeMap<(usize, u64), Clock>,
    steps: BTreeMap<Path, SeenStep>,
    heard: Vec<Vec<Received>>,
    /// The paths of messages with a unit value.
    signs: BTreeSet<Path>,
    active: BTreeSet<usize>,
    waits: BTreeSet<(usize, Path, String)>,
}

impl Seen {
    fn new(roles: usize) -> Self {
        Self {
            clocks: vec![vec![0; roles]; roles],
            frames: BTreeMap::new(),
            steps: BTreeMap::new(),
            heard: (0..roles).map(|_| Vec::new()).collect(),
            signs: BTreeSet::new(),
            active: BTreeSet::new(),
            waits: BTreeSet::new(),
        }
    }

    /// Merges the clock of an arriving frame into its receiver's clock.
    fn before<C: Choreography>(&mut self, harness: &SessionHarness<C>, event: Event) {
        let Event::Arrive { from, to, number } = event else { return };
        let (Some(known), Some(clock)) = (self.frames.get(&(from, number)), self.clocks.get_mut(to)) else { return };
        for (mine, theirs) in clock.iter_mut().zip(known) {
            *mine = (*mine).max(*theirs);
        }
        if let Some(Body::Deliver { path, payload, .. }) = harness.saying(from, number) {
            self.signs.extend(decode::<()>(payload.as_slice()).is_ok().then(|| path.clone()));
        }
    }

    fn after<C: Choreography>(&mut self, harness: &SessionHarness<C>, event: Event) {
        for role in event.roles() {
            let Some(clock) = self.clocks.get_mut(role) else { continue };
            if let Some(own) = clock.get_mut(role) {
                *own += 1;
            }
            let clock = clock.clone();
            for (number, body) in harness.said(role) {
                self.frames.entry((role, number)).or_insert_with(|| clock.clone());
                // Every role of a saga or loop sends votes and verdicts, so they do not count.
                let operation = if let Body::Deliver { operation, .. } = body { Some(operation) } else { None };
                if operation.is_some_and(|operation| !matches!(operation, Operation::Vote | Operation::Verdict)) {
                    self.active.insert(role);
                }
            }
            let Some(instance) = harness.instance(role) else { continue };
            for step in instance.steps() {
                let seen = self.steps.entry(step.path).or_insert_with(|| SeenStep {
                    name: step.name,
                    kind: step.kind,
                    role,
                    begun: clock.clone(),
                    done: None,
                });
                if step.is_done && seen.done.is_none() {
                    seen.done = Some(clock.clone());
                }
                self.active.insert(role);
            }
            if instance.has_observed() || instance.view().is_some() {
                self.active.insert(role);
            }
            for (path, what) in instance.waits_without_limit() {
                self.waits.insert((role, path, what));
            }
        }
    }

    fn pivots(&self) -> Vec<Finding> {
        // Whether `one` was known to have ended where `other` began.
        let before = |one: &SeenStep, other: &SeenStep| {
            let done = one.done.as_ref().and_then(|clock| clock.get(one.role));
            done.is_some_and(|done| other.begun.get(one.role).is_some_and(|known| known >= done))
        };
        let pivots = self.steps.iter().filter(|(_, step)| step.kind == Kind::Pivot);
        let pairs = pivots.flat_map(|pivot| self.steps.iter().map(move |other| (pivot, other)));
        let risky = pairs.filter(|((path, pivot), (at, other))| {
            path != at && other.kind != Kind::Retriable && !before(other, pivot)
        });
        let finding =
            |((path, pivot), (at, other)): ((&Path, &SeenStep), (&Path, &SeenStep))| Finding::AbortBesidePivot {
                pivot: (pivot.name.clone(), path.clone()),
                other: (other.name.clone(), at.clone()),
                after: before(pivot, other),
            };
        risky.map(finding).collect()
    }

    fn idle_roles(&self, roles: &[&'static str]) -> impl Iterator<Item = Finding> {
        let idle = roles.iter().enumerate().filter(|(index, _)| !self.active.contains(index));
        idle.map(|(_, role)| Finding::OnlyWaits { role })
    }

    fn unused(&self, roles: &[&'static str]) -> impl Iterator<Item = Finding> {
        let heard =
            self.heard.iter().zip(roles).flat_map(|(heard, to)| heard.iter().map(move |received| (received, to)));
        let unused = heard.filter(|(received, _)| !received.used && !self.signs.contains(&received.path));
        unused.map(|(received, to)| Finding::NeverUsed { path: received.path.clone(), from: received.from, to })
    }

    /// Returns the first wait without a limit, because one deadline ends all of them.
    fn endless_wait(&self, roles: &[&'static str]) -> impl Iterator<Item = Finding> {
        let wait = self.waits.iter().min_by_key(|(_, path, _)| path);
        wait.into_iter().filter_map(|(role, path, what)| {
            Some(Finding::NoDeadline { role: roles.get(*role)?, path: path.clone(), what: what.clone() })
        })
    }
}
