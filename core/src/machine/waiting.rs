//! The events that the program currently waits for, and their time limits.
//!
//! The times are wall-clock times, because a timer outlives its process. The clock is checked again once a minute, in
//! case it jumps.

use std::task::{Context, Poll};

use super::Machine;
use super::waiters::Shared;
use crate::base::id::{Path, RoleIndex};
use crate::base::message::Payload;
use crate::base::role_names::{RoleNames, role_name};
use crate::frame::Operation;

/// The maximum time between two checks of the wall clock.
const CLOCK_LOOK_MAX_MS: u64 = 60_000;

/// An awaited event, with an optional time limit.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Waiting {
    pub(super) what: WaitingFor,
    pub(super) until_unix_ms: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum WaitingFor {
    Message(Operation, RoleIndex),
    /// The end of a turn of a loop, as reported by the role that decides it. The report is sent once, and again only
    /// on request.
    TurnOver(RoleIndex),
    Room(RoleIndex),
    Time,
    Signal(String),
    Step(String),
    Effect(String),
    Writes,
}

impl WaitingFor {
    /// The role whose message is awaited.
    pub(super) fn speaker(&self) -> Option<RoleIndex> {
        match self {
            Self::Message(_, from) | Self::TurnOver(from) => Some(*from),
            _ => None,
        }
    }

    /// Whether the event comes from outside or with time. The end of a turn is excluded, because its report is sent
    /// only once and must not be missed.
    pub(super) fn is_by_others(&self) -> bool {
        matches!(self, Self::Message(..) | Self::Room(_) | Self::Time | Self::Signal(_))
    }
}

/// A message that another role has to send.
pub(super) struct Wanted {
    /// The path at which the message is awaited; `None` for the end of a turn.
    pub(super) path: Option<Path>,
    pub(super) from: RoleIndex,
}

impl Waiting {
    pub(super) fn for_message(operation: Operation, from: RoleIndex) -> Self {
        Self { what: WaitingFor::Message(operation, from), until_unix_ms: None }
    }
    pub(super) fn for_turn_over(decider: RoleIndex) -> Self {
        Self { what: WaitingFor::TurnOver(decider), until_unix_ms: None }
    }
    pub(super) fn for_room(to: RoleIndex) -> Self {
        Self { what: WaitingFor::Room(to), until_unix_ms: None }
    }
    pub(super) fn for_signal(name: &str) -> Self {
        Self { what: WaitingFor::Signal(name.into()), until_unix_ms: None }
    }
    pub(super) fn for_effect(name: &str) -> Self {
        Self { what: WaitingFor::Effect(name.into()), until_unix_ms: None }
    }
    pub(super) fn for_step(name: &str) -> Self {
        Self { what: WaitingFor::Step(name.into()), until_unix_ms: None }
    }
    pub(super) fn for_writes() -> Self {
        Self { what: WaitingFor::Writes, until_unix_ms: None }
    }
    pub(super) fn for_time(unix_ms: u64) -> Self {
        Self { what: WaitingFor::Time, until_unix_ms: Some(unix_ms) }
    }
    pub(super) fn until(self, unix_ms: u64) -> Self {
        Self { until_unix_ms: Some(unix_ms), ..self }
    }
}

impl Waiting {
    /// Describes the wait for people, with role names from `roles`.
    pub(super) fn described(&self, roles: RoleNames) -> String {
        let name = |role: RoleIndex| role_name(roles, role);
        match &self.what {
            WaitingFor::Message(operation, from) => format!("a {operation} from {}", name(*from)),
            WaitingFor::TurnOver(decider) => format!("a {} from {}", Operation::Verdict, name(*decider)),
            WaitingFor::Room(to) => format!("room for a message to {}", name(*to)),
            WaitingFor::Time => "time to pass".into(),
            WaitingFor::Signal(name) => format!("signal `{name}`"),
            WaitingFor::Step(name) => format!("step `{name}`"),
            WaitingFor::Effect(name) => format!("effect `{name}`"),
            WaitingFor::Writes => "the disk".into(),
        }
    }
}

impl Machine {
    /// Lets the operation at `path` wait. The operation is polled again when the event happens, or when much has
    /// changed.
    pub(super) fn wait<T>(&mut self, cx: &Context<'_>, path: &Path, waiting: Waiting) -> Poll<T> {
        let unix_ms = self.timers.begins_unix_ms(path);
        self.waits.insert(path.clone(), waiting, cx.waker().clone(), unix_ms);
        Poll::Pending
    }

    /// Takes the path at which the last polled operation waits, if it waits.
    pub(crate) fn take_waits_at(&mut self) -> Option<Path> {
        self.waits.take_latest()
    }

    /// Removes the wait at `path`, because the operation has its result or was dropped.
    pub(crate) fn forget_waiting(&mut self, path: &Path) {
        self.waits.remove(path);
    }

    /// Wakes every waiting operation.
    pub(super) fn wake(&mut self) {
        self.waits.wake_all();
    }

    /// Wakes operations that wait for room in the window.
    pub(super) fn wake_for_room(&mut self) {
        // Each acknowledgement wakes one operation. If the woken operations do not use the room, the last
        // acknowledgement wakes all.
        let count_max = if self.outbox.all_is_acknowledged() { usize::MAX } else { 1 };
        self.waits.wake_shared(&Shared::Room, count_max);
    }

    /// Describes, for people, what the program waits for.
    pub fn waits_for(&self) -> Vec<(Path, String)> {
        self.waits.iter().map(|(path, waiting)| (path.clone(), waiting.described(self.identity.roles))).collect()
    }

    /// Describes what the program waits for, except waits that have a time limit or end by themselves.
    #[cfg(feature = "testing")]
    pub(crate) fn waits_without_limit(&self) -> Vec<(Path, String)> {
        let others = |(_, waiting): &(&Path, &Waiting)| {
            let by_others =
                matches!(waiting.what, WaitingFor::Message(..) | WaitingFor::TurnOver(_) | WaitingFor::Signal(_));
            by_others && waiting.until_unix_ms.is_none()
        };
        self.waits
            .iter()
            .filter(others)
            .map(|(path, waiting)| (path.clone(), waiting.described(self.identity.roles)))
            .collect()
    }

    /// Wakes the operations whose wall-clock time has come.
    pub(super) fn wake_when_due(&mut self) {
        self.waits.wake_until(self.timers.unix_ms);
    }

    /// Whether the program waits, and only for events from outside or for time to pass.
    pub(super) fn waits_for_others(&self) -> bool {
        !self.waits.is_empty() && !self.waits.has_own()
    }

    /// Whether the program runs and waits in no operation. The driver knows whether an effect runs.
    pub(crate) fn awaits_no_operation(&self) -> bool {
        let waits = !self.waits.is_empty() || self.steps.are_busy() || self.sagas.is_compensating();
        self.runs() && !self.is_stopped() && !waits
    }

    /// Whether an abort may have made the program drop the operation at `path`.
    pub(crate) fn is_cut_off(&self, path: &Path) -> bool {
        self.is_aborted(path) || self.is_stopped()
    }

    /// The next wall-clock time at which a wait, or the session's deadline, is over.
    pub(super) fn next_time_unix_ms(&self) -> Option<u64> {
        self.waits.first_time_unix_ms().into_iter().chain(self.open_deadline_unix_ms()).min()
    }

    /// The time at which the instance continues through the passing of time alone (a timer, a time limit, the
    /// session's deadline, the next try of a step), on the clock of [`Machine::settle`], provided that the wall
    /// clock does not jump. Unlike [`Machine::next_wake_ms`], this leaves out nudges and the periodic checks of the
    /// wall clock.
    pub fn next_due_ms(&self) -> Option<u64> {
        if self.stopped.is_some() {
            return None;
        }
        let time = self.next_time_unix_ms().map(|until| self.timers.time_of(until, u64::MAX));
        self.steps.next_tries_ms().chain(time).filter(|due_ms| *due_ms > self.timers.now_ms).min()
    }

    /// The time at which the wall clock must be checked, on the clock of [`Machine::settle`].
    pub(super) fn next_look_ms(&self) -> Option<u64> {
        Some(self.timers.time_of(self.next_time_unix_ms()?, CLOCK_LOOK_MAX_MS))
    }

    /// Waits until the wall clock shows `unix_ms`.
    pub(crate) fn poll_time(&mut self, cx: &Context<'_>, path: &Path, unix_ms: u64) -> Poll<()> {
        if self.is_stopped() || self.is_aborted(path) {
            return Poll::Pending;
        }
        if self.timers.unix_ms >= unix_ms {
            return Poll::Ready(());
        }
        self.wait(cx, path, Waiting::for_time(unix_ms))
    }

    /// Receives the message at `path` from `from`, or nothing if the wall clock reaches `unix_ms` first.
    pub(crate) fn poll_receive_within(
        &mut self,
        cx: &Context<'_>,
        path: &Path,
        from: RoleIndex,
        unix_ms: u64,
    ) -> Poll<Option<Payload>> {
        if let Poll::Ready(payload) = self.poll_receive(cx, path, Operation::Comm, from) {
            // The timely arrival is a result like any other: a crash must not lose it and let the message be found
            // too late.
            self.journal.raise_barrier();
            return Poll::Ready(Some(payload));
        }
        if self.is_stopped() || self.is_aborted(path) {
            return Poll::Pending;
        }
        if self.timers.unix_ms >= unix_ms {
            return Poll::Ready(None);
        }
        self.wait(cx, path, Waiting::for_message(Operation::Comm, from).until(unix_ms))
    }
}
