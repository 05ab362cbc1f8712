//! The planned faults of a run, and the runs that follow from one run: those with the same faults and one more.

use std::iter;

use super::harness::{DeliveryOrder, Event};

/// A fault at the event of this number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) event: usize,
    pub(super) kind: FaultKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FaultKind {
    /// The role crashes just before the event.
    Crash(usize),
    /// The arriving frame is lost, but acknowledged.
    Forget,
    /// The requests to services of the role whose turn it is do not arrive, and the role crashes.
    Linger,
    /// The request of this number arrives just before the event, belatedly or once more.
    Request(usize),
}

/// The faults of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) first: DeliveryOrder,
    pub(super) faults: Vec<Fault>,
}

/// The name of a forgotten frame in a written plan, in the place of a crash's role.
const FORGET: &str = "forget";
/// The name of lingering requests in a written plan.
const LINGER: &str = "linger";
/// The prefix of a late request's number in a written plan.
const REQUEST: &str = "request-";

impl Plan {
    /// Whether requests linger in this plan without a planned time of arrival.
    pub(super) fn lingers(&self) -> bool {
        self.faults.last().is_some_and(|fault| fault.kind == FaultKind::Linger)
    }

    /// The plan as one word for a shell.
    pub(super) fn written(&self, roles: &[String]) -> String {
        let first = match self.first {
            DeliveryOrder::Disk => "disk",
            DeliveryOrder::Network => "network",
        };
        let faults = self.faults.iter().map(|Fault { event, kind }| {
            let what = match kind {
                FaultKind::Crash(role) => roles.get(*role).map(|role| word(role)).unwrap_or_default(),
                FaultKind::Forget => FORGET.into(),
                FaultKind::Linger => LINGER.into(),
                FaultKind::Request(number) => format!("{REQUEST}{number}"),
            };
            format!("{what}@{event}")
        });
        iter::once(first.to_owned()).chain(faults).collect::<Vec<_>>().join(",")
    }

    /// Decodes the result of [`Plan::written`].
    pub(super) fn read(text: &str, roles: &[String]) -> Result<Self, String> {
        let mut parts = text.split(',');
        let first = match parts.next() {
            Some("disk") => DeliveryOrder::Disk,
            Some("network") => DeliveryOrder::Network,
            _ => return Err(format!("`{text}` is no list of faults")),
        };
        let fault = |part: &str| {
            let no_fault = || format!("`{part}` is no fault");
            let (what, event) = part.split_once('@').ok_or_else(no_fault)?;
            let event = event.parse().map_err(|_| no_fault())?;
            let role = roles.iter().position(|role| word(role) == what);
            let request = what.strip_prefix(REQUEST).and_then(|number| number.parse().ok());
            let kind = match (role, request) {
                (Some(role), _) => FaultKind::Crash(role),
                (None, Some(number)) => FaultKind::Request(number),
                (None, None) if what == FORGET => FaultKind::Forget,
                (None, None) if what == LINGER => FaultKind::Linger,
                (None, None) => return Err(format!("there is no role `{what}`")),
            };
            Ok(Fault { event, kind })
        };
        Ok(Self { first, faults: parts.map(fault).collect::<Result<_, _>>()? })
    }
}

/// Turns a name into a word that a shell does not interpret.
pub(super) fn word(name: &str) -> String {
    let plain = |character: char| character.is_ascii_alphanumeric() || "-_.".contains(character);
    name.chars().map(|character| if plain(character) { character } else { '_' }).collect()
}

/// The points at which a role can crash, from event number `from` on. A crash after an event equals one before the
/// role's next event, except for other roles' events in between; therefore both are included, unless they are the
/// same point.
pub(super) fn points(events: &[Event], from: usize) -> impl Iterator<Item = Fault> {
    let crashes = events.iter().enumerate().skip(from).flat_map(|(event, what)| {
        let next: Vec<usize> = events.get(event + 1).into_iter().flat_map(|next| next.roles()).collect();
        let crash = |event, role| Fault { event, kind: FaultKind::Crash(role) };
        let before = what.roles().map(move |role| crash(event, role));
        let after = what.roles().filter(move |role| !next.contains(role));
        before.chain(after.map(move |role| crash(event + 1, role)))
    });
    crashes.filter(|crash| crash.event < events.len())
}

/// The frames that can be forgotten, from event number `from` on.
fn frames(events: &[Event], from: usize) -> impl Iterator<Item = Fault> {
    let arrivals = events.iter().enumerate().skip(from).filter(|(_, what)| matches!(what, Event::Arrive { .. }));
    arrivals.map(|(event, _)| Fault { event, kind: FaultKind::Forget })
}

/// The repeated arrivals of requests: each request at each event after it was made, and after the end.
fn requests<'a>(events: &'a [Event], requests: &'a [usize]) -> impl Iterator<Item = Fault> + 'a {
    let arrivals = |(number, made): (usize, &usize)| {
        (made + 1..=events.len()).map(move |event| Fault { event, kind: FaultKind::Request(number) })
    };
    requests.iter().enumerate().flat_map(arrivals)
}

/// The turns whose requests linger.
fn lingering(requests: &[usize]) -> impl Iterator<Item = Fault> + '_ {
    let turns = requests.chunk_by(|one, other| one == other).filter_map(|same| same.first());
    turns.map(|event| Fault { event: *event, kind: FaultKind::Linger })
}

/// The plans with one more fault than `plan`, later than its last. A forgotten frame and a repeated request are each
/// the only fault of a run: combined with crashes there would be several times as many runs, and the model covers
/// those. Lingering requests arrive at each event after the crash of their caller. `made` lists the events at which
/// requests were made, if requests may be late.
pub(super) fn successors(plan: &Plan, events: &[Event], made: &[usize]) -> Vec<Plan> {
    let last = plan.faults.last();
    let from = last.map_or(0, |fault| fault.event + 1);
    let faults: Vec<Fault> = match last.map(|fault| fault.kind) {
        None => {
            points(events, 0).chain(frames(events, 0)).chain(lingering(made)).chain(requests(events, made)).collect()
        }
        Some(FaultKind::Crash(_)) => points(events, from).collect(),
        Some(FaultKind::Linger) => {
            let held = made.iter().enumerate().filter(|(_, event)| **event + 1 == from).map(|(number, _)| number);
            // The requests arrive after the crash; after the end they arrive by themselves.
            held.flat_map(|number| (from + 1..events.len()).map(move |event| (number, event)))
                .map(|(number, event)| Fault { event, kind: FaultKind::Request(number) })
                .collect()
        }
        Some(FaultKind::Forget | FaultKind::Request(_)) => Vec::new(),
    };
    let more = faults.into_iter().map(|fault| {
        let mut next = plan.clone();
        next.faults.push(fault);
        next
    });
    more.collect()
}
