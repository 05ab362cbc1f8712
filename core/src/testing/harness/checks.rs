//! The checks of a run while it goes on: the invariants, and whether a role cannot continue.

use crate::testing::monitor::{InvariantMonitor, Violation};

/// The monitor of the invariants, and why the run fails.
pub(super) struct RunChecks {
    pub(super) monitor: InvariantMonitor,
    failure: Option<String>,
}

impl RunChecks {
    pub(super) fn new() -> Self {
        Self { monitor: InvariantMonitor::new(), failure: None }
    }

    /// Fails the run for this reason.
    pub(super) fn fail(&mut self, reason: String) {
        self.failure = Some(reason);
    }

    /// Fails the run for this reason, if there is one, unless it has failed before.
    pub(super) fn fail_if(&mut self, reason: Option<String>) {
        self.failure = self.failure.take().or(reason);
    }

    /// Fails the run with the first invariant that does not hold.
    pub(super) fn require(&mut self, verdict: Result<(), Violation>) {
        self.fail_if(verdict.err().map(|violation| violation.to_string()));
    }

    /// Takes the reason why the run fails.
    pub(super) fn take_failure(&mut self) -> Option<String> {
        self.failure.take()
    }
}
