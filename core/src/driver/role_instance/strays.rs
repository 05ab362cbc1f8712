//! What a program does that is no operation, as far as it can be noticed: it awaits something else, or drops an
//! operation that waits.
//!
//! Either leaves to chance what the program does next, and a replay may go another way. Only [`crate::run_local`]
//! refuses it; a node describes it (see [`RoleInstance::describe`]).

use std::sync::atomic::Ordering;

use super::RoleInstance;
use crate::base::id::Path;

/// The advice in texts about a program that awaits something else.
const INSTEAD: &str = "what is awaited belongs into an `effect`, a pause into `sleep`, a limit into `comm_within`";

impl RoleInstance {
    /// Notes at the end of a turn whether the program waits in no operation. Between turns, what an operation waits
    /// for may have come while the program has not been polled yet.
    pub(super) fn note_foreign_await(&mut self) {
        let may_await = self.program.is_some() && !self.is_busy();
        self.awaits_elsewhere = may_await && self.engine.instance().awaits_no_operation();
        let since_unix_ms = self.elsewhere_since_unix_ms;
        let since_unix_ms = || since_unix_ms.unwrap_or_else(|| self.engine.environment().unix_ms());
        self.elsewhere_since_unix_ms = self.awaits_elsewhere.then(since_unix_ms);
    }

    /// Describes, for people, that the program awaits no operation. `None` if it does not.
    pub(crate) fn foreign_await(&self) -> Option<String> {
        self.awaits_elsewhere.then(|| {
            let place = self.engine.latest_call().map_or_else(
                || "before its first operation".into(),
                |(path, call)| format!("after its operation {path} ({call})"),
            );
            format!("awaits something that is no operation, {place}: {INSTEAD}")
        })
    }

    /// Describes, for people, the operation that the program has dropped while it waited. `None` if there is none.
    pub(crate) fn dropped_operation(&self) -> Option<String> {
        let (path, latest) = (self.dropped.as_ref()?, self.engine.latest_call());
        let latest = latest.map(|(path, call)| format!(" (the latest that it has called is {path}, {call})"));
        Some(format!(
            "has dropped its operation {path} while that waited{}: which operation of a `select!` wins is chance, so await \
             all of them (`try_join!`), or use `comm_within` for a limit",
            latest.unwrap_or_default()
        ))
    }

    /// Notes the operation that the program has dropped in its latest poll, unless an abort has made it do so.
    pub(super) fn note_dropped_operation(&mut self) {
        let Some(path) = self.engine.take_abandoned() else { return };
        if !self.engine.instance().is_cut_off(&path) {
            self.dropped.get_or_insert(path);
        }
    }

    /// As [`RoleInstance::foreign_await`]; `None` also if the program is about to be polled.
    pub(super) fn foreign_await_between_turns(&self) -> Option<String> {
        self.foreign_await().filter(|_| !self.alarm.rung.load(Ordering::SeqCst))
    }

    /// What the program awaits besides operations, in the form of [`RoleInstance::waits_for`].
    pub(super) fn waits_elsewhere(&self) -> Option<(Path, String)> {
        let what = self.foreign_await_between_turns()?;
        let path = self.engine.latest_call().map_or_else(Path::root, |(path, _)| path);
        Some((path, format!("nothing known: the program {what}")))
    }
}
