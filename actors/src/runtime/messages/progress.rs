//! What an instance publishes to those who wait for its session.

use accompanist_core::frame::Outcome;
use accompanist_core::machine::SessionTrouble;
use accompanist_core::record::Closed;
use accompanist_core::{Abort, Payload};

/// The progress that the initiating instance has reported. Each fact is set once and stays, except what an operator
/// ends.
#[derive(Debug, Clone, Default)]
pub(crate) struct InstanceProgress {
    pub(crate) opened: bool,
    /// The version that the session runs, once known.
    pub(crate) version: Option<u32>,
    pub(crate) output: Option<Result<Payload, Abort>>,
    pub(crate) settled: Option<Result<Payload, Abort>>,
    /// Why the initiating instance is stopped, until an operator resumes it.
    pub(crate) stopped: Option<String>,
    /// The roles that need an operator, the initiating one included.
    pub(crate) troubles: Vec<SessionTrouble>,
}

impl InstanceProgress {
    pub(crate) fn settle(&mut self, closed: &Closed) {
        let settled: Result<Payload, Abort> = match &closed.outcome {
            Outcome::Finished => Ok(closed.output.clone().unwrap_or_else(|| Vec::new().into())),
            Outcome::Compensated(abort) => Err(abort.clone()),
        };
        self.output.get_or_insert_with(|| settled.clone());
        self.settled = Some(settled);
        self.troubles.clear();
    }
}
