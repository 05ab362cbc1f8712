//! What the program waits for now, and until when.
//!
//! The times are those of the wall clock, since a timer outlives its process; it is looked at again once a minute, in
//! case it jumps.

use std::task::{Context, Poll};

use super::Instance;
use super::waiters::Shared;
use crate::frame::Operation;
use crate::id::{Path, RoleIndex};
use crate::message::Payload;
use crate::role::role_name;

/// The longest sleep between two looks at the wall clock.
const CLOCK_LOOK_MAX_MS: u64 = 60_000;

/// What an operation waits for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Waiting {
    pub(super) what: What,
    pub(super) until_unix_ms: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum What {
    Message(Operation, RoleIndex),
    /// The news that a turn of a loop is over, from the role that decides: said once, and again only if it is asked for.
    TurnOver(RoleIndex),
    Room(RoleIndex),
    Time,
    Signal(String),
    Step(String),
    Effect(String),
    Writes,
}

impl What {
    /// The role that has to say it.
    pub(super) fn speaker(&self) -> Option<RoleIndex> {
        match self {
            Self::Message(_, from) | Self::TurnOver(from) => Some(*from),
            _ => None,
        }
    }

    /// Whether it comes from outside or with time. What is said only once must not be missed, so that is not among it.
    pub(super) fn is_by_others(&self) -> bool {
        matches!(self, Self::Message(..) | Self::Room(_) | Self::Time | Self::Signal(_))
    }
}

/// Something that another role has to say.
pub(super) struct Wanted {
    /// Where the message is waited for; the end of a turn is none.
    pub(super) path: Option<Path>,
    pub(super) from: RoleIndex,
}

impl Waiting {
    pub(super) fn for_message(operation: Operation, from: RoleIndex) -> Self {
        Self { what: What::Message(operation, from), until_unix_ms: None }
    }
    pub(super) fn for_turn_over(decider: RoleIndex) -> Self {
        Self { what: What::TurnOver(decider), until_unix_ms: None }
    }
    pub(super) fn for_room(to: RoleIndex) -> Self {
        Self { what: What::Room(to), until_unix_ms: None }
    }
    pub(super) fn for_signal(name: &str) -> Self {
        Self { what: What::Signal(name.into()), until_unix_ms: None }
    }
    pub(super) fn for_effect(name: &str) -> Self {
        Self { what: What::Effect(name.into()), until_unix_ms: None }
    }
    pub(super) fn for_step(name: &str) -> Self {
        Self { what: What::Step(name.into()), until_unix_ms: None }
    }
    pub(super) fn for_writes() -> Self {
        Self { what: What::Writes, until_unix_ms: None }
    }
    pub(super) fn for_time(unix_ms: u64) -> Self {
        Self { what: What::Time, until_unix_ms: Some(unix_ms) }
    }
    pub(super) fn until(self, unix_ms: u64) -> Self {
        Self { until_unix_ms: Some(unix_ms), ..self }
    }
}

impl Waiting {
    /// For people, with the roles by their names among `roles`.
    fn described(&self, roles: &[&str]) -> String {
        let name = |role: RoleIndex| role_name(roles, role);
        match &self.what {
            What::Message(operation, from) => format!("a {operation} from {}", name(*from)),
            What::TurnOver(decider) => format!("a {} from {}", Operation::Verdict, name(*decider)),
            What::Room(to) => format!("room for a message to {}", name(*to)),
            What::Time => "time to pass".into(),
            What::Signal(name) => format!("signal `{name}`"),
            What::Step(name) => format!("step `{name}`"),
            What::Effect(name) => format!("effect `{name}`"),
            What::Writes => "the disk".into(),
        }
    }
}

impl Instance {
    /// The operation `path` waits; it looks again when that comes, or when much has changed.
    pub(super) fn wait<T>(&mut self, cx: &Context<'_>, path: &Path, waiting: Waiting) -> Poll<T> {
        self.waiting.insert(path.clone(), waiting, cx.waker().clone());
        self.waits_at = Some(path.clone());
        Poll::Pending
    }

    /// Where the operation waits that has just been asked for, if it does.
    pub(crate) fn take_waits_at(&mut self) -> Option<Path> {
        self.waits_at.take()
    }

    /// The operation that waited at `path` has its result, or was dropped.
    pub(crate) fn forget_waiting(&mut self, path: &Path) {
        self.waiting.remove(path);
    }

    /// Every operation that waits looks again.
    pub(super) fn wake(&mut self) {
        self.waiting.wake_all();
    }

    /// There is room for another message.
    pub(super) fn wake_for_room(&mut self) {
        // One for each acknowledgement. If those that were woken do not take it, the last acknowledgement wakes all.
        let count_max = if self.unacked.is_empty() { usize::MAX } else { 1 };
        self.waiting.wake_shared(&Shared::Room, count_max);
    }

    /// What the program waits for, for people.
    pub fn waits_for(&self) -> Vec<(Path, String)> {
        self.waiting.iter().map(|(path, waiting)| (path.clone(), waiting.described(self.roles))).collect()
    }

    /// What it waits for, but for what has a time limit or comes about by itself.
    #[cfg(feature = "testing")]
    pub(crate) fn waits_without_limit(&self) -> Vec<(Path, String)> {
        let others = |(_, waiting): &(&Path, &Waiting)| {
            let by_others = matches!(waiting.what, What::Message(..) | What::TurnOver(_) | What::Signal(_));
            by_others && waiting.until_unix_ms.is_none()
        };
        self.waiting
            .iter()
            .filter(others)
            .map(|(path, waiting)| (path.clone(), waiting.described(self.roles)))
            .collect()
    }

    /// What the program waits for that other roles say.
    pub(super) fn wanted_messages(&self) -> impl Iterator<Item = Wanted> {
        self.waiting.iter().filter_map(|(path, waiting)| match waiting.what {
            What::Message(_, from) => Some(Wanted { path: Some(path.clone()), from }),
            What::TurnOver(from) => Some(Wanted { path: None, from }),
            _ => None,
        })
    }

    /// Whether the wall clock has come to where an operation (or the session's deadline) waits for it.
    pub(super) fn wake_when_due(&mut self) {
        self.waiting.wake_until(self.unix_ms);
    }

    /// Whether the program waits, and only for what comes from outside or with time.
    pub(super) fn waits_for_others(&self) -> bool {
        !self.waiting.is_empty() && !self.waiting.has_own()
    }

    /// When an operation, or the session's deadline, has waited long enough.
    pub(super) fn next_time_unix_ms(&self) -> Option<u64> {
        self.waiting.first_time_unix_ms().into_iter().chain(self.open_deadline_unix_ms()).min()
    }

    /// When time alone brings the instance on (a timer, a time limit, the session's deadline, the next try of a step), on the
    /// clock of [`Instance::settle`], as long as the wall clock does not jump. Unlike [`Instance::next_wake_ms`] it leaves out
    /// nudges, and looks at the wall clock before its time.
    pub fn next_due_ms(&self) -> Option<u64> {
        if self.stopped.is_some() {
            return None;
        }
        let left = |until_unix_ms: u64| until_unix_ms.saturating_sub(self.unix_ms).max(1);
        let time = self.next_time_unix_ms().map(|until| self.now_ms.saturating_add(left(until)));
        self.next_tries_ms().chain(time).filter(|due_ms| *due_ms > self.now_ms).min()
    }

    /// When the wall clock has to be looked at, on the other clock.
    pub(super) fn next_look_ms(&self) -> Option<u64> {
        let until = self.next_time_unix_ms()?.saturating_sub(self.unix_ms).clamp(1, CLOCK_LOOK_MAX_MS);
        Some(self.now_ms.saturating_add(until))
    }

    /// Waits until the wall clock shows `unix_ms`.
    pub(crate) fn poll_time(&mut self, cx: &Context<'_>, path: &Path, unix_ms: u64) -> Poll<()> {
        if self.stands_still() || self.is_aborted(path) {
            return Poll::Pending;
        }
        if self.unix_ms >= unix_ms {
            return Poll::Ready(());
        }
        self.wait(cx, path, Waiting::for_time(unix_ms))
    }

    /// The message `path` from `from`, or nothing when the wall clock shows `unix_ms` first.
    pub(crate) fn poll_receive_within(
        &mut self,
        cx: &Context<'_>,
        path: &Path,
        from: RoleIndex,
        unix_ms: u64,
    ) -> Poll<Option<Payload>> {
        if let Poll::Ready(payload) = self.poll_receive(cx, path, Operation::Comm, from) {
            // That it came in time is a result like any other: it must not be lost, and found late, after a crash.
            self.barrier = self.barrier.max(self.all_so_far());
            return Poll::Ready(Some(payload));
        }
        if self.stands_still() || self.is_aborted(path) {
            return Poll::Pending;
        }
        if self.unix_ms >= unix_ms {
            return Poll::Ready(None);
        }
        self.wait(cx, path, Waiting::for_message(Operation::Comm, from).until(unix_ms))
    }
}
