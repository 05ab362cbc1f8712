//! What an instance measures for metrics: its session, its steps, and how long messages for a durable actor wait.
//! Knows effects, and changes nothing.

use std::collections::VecDeque;
use std::time::Duration;

use accompanist_core::Path;
use accompanist_core::frame::{Body, Delivery, Header, Outcome};
use accompanist_core::machine::{CallOutcome, Effects};
use accompanist_core::record::Record;
use accompanist_core::role_instance::RoleInstance;
use metrics::histogram;
use tokio::time::Instant;

use crate::base::gauge_share::GaugeShare;
use crate::base::metric;
use crate::runtime::channel::is_channel;
use crate::runtime::names::Played;

/// How many batches for a durable actor are measured at a time. If more wait, the oldest are left out.
const ARRIVALS_MAX: usize = 1_024;

/// The statistics of an instance; see the module's documentation.
pub(super) struct Statistics {
    /// Known once the instance is loaded, and of instances that have a program.
    played: Option<Played>,
    kind: Kind,
    /// Whether the output was known before the instance was loaded.
    has_output: bool,
    retried: GaugeShare,
    /// When the batches of messages have arrived that a durable actor has not handled yet, in the order of their paths.
    arrivals: VecDeque<(Path, Instant)>,
}

/// The instances that are measured in different ways.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Initiator,
    /// A durable actor's end of a channel.
    Actor,
    Other,
}

impl Default for Statistics {
    fn default() -> Self {
        Self {
            played: None,
            kind: Kind::Other,
            has_output: false,
            retried: GaugeShare::new(metric::STEPS_RETRIED_NOW),
            arrivals: VecDeque::new(),
        }
    }
}

impl Statistics {
    /// The statistics of an instance that is loaded with these records.
    pub(super) fn new(played: Played, header: &Header, initiates: bool, records: &[Record]) -> Self {
        let kind = match (is_channel(header), initiates) {
            (true, false) => Kind::Actor,
            (false, true) => Kind::Initiator,
            (true, true) | (false, false) => Kind::Other,
        };
        let has_output = records.iter().any(|record| matches!(record, Record::Ended { .. } | Record::Aborted { .. }));
        Self { played: Some(played), kind, has_output, ..Self::default() }
    }

    /// Notes what has arrived.
    pub(super) fn arrived(&mut self, delivery: &Delivery) {
        if self.kind != Kind::Actor {
            return;
        }
        let Body::Deliver { path, .. } = &delivery.frame.body else { return };
        // A duplicate changes nothing.
        if self.arrivals.back().is_none_or(|(latest, _)| latest < path) {
            if self.arrivals.len() >= ARRIVALS_MAX {
                self.arrivals.pop_front();
            }
            self.arrivals.push_back((path.clone(), Instant::now()));
        }
    }

    /// Measures what has happened in a turn.
    pub(super) fn observe(&mut self, part: &RoleInstance, effects: &Effects, unix_ms: u64) {
        // Steps are looked through only while some are retried.
        if !effects.retries.is_empty() || self.retried.value() > 0 {
            self.retried.set(part.retried_steps());
        }
        let Some(Played { choreography, role, .. }) = self.played else { return };
        for call in &effects.calls {
            let (step, outcome, took) = (call.step.clone(), call.outcome.name(), Duration::from_millis(call.took_ms));
            histogram!(metric::STEP, "choreography" => choreography, "step" => step, "outcome" => outcome).record(took);
            if call.outcome == CallOutcome::Committed {
                self.handled(&call.path, role);
            }
        }
        if self.kind == Kind::Initiator && (effects.output.is_some() || effects.closed.is_some()) {
            self.observe_session(choreography, part, effects, unix_ms);
        }
    }

    fn observe_session(&mut self, choreography: &'static str, part: &RoleInstance, effects: &Effects, unix_ms: u64) {
        let took = Duration::from_millis(unix_ms.saturating_sub(part.header().started_unix_ms));
        if let Some(output) = effects.output.as_ref().filter(|_| !std::mem::replace(&mut self.has_output, true)) {
            let outcome = if output.is_ok() { "finished" } else { "aborted" };
            histogram!(metric::SESSION_OUTPUT, "choreography" => choreography, "outcome" => outcome).record(took);
        }
        if let Some(closed) = &effects.closed {
            let outcome = outcome_name(&closed.outcome);
            histogram!(metric::SESSION_SETTLED, "choreography" => choreography, "outcome" => outcome).record(took);
        }
    }

    /// Measures the batches for a durable actor that the step at `path` has handled: those that have arrived for
    /// earlier places of the program.
    fn handled(&mut self, path: &Path, actor: &'static str) {
        while self.arrivals.front().is_some_and(|(arrived, _)| arrived < path)
            && let Some((_, since)) = self.arrivals.pop_front()
        {
            histogram!(metric::ACTOR_MAILBOX_WAIT, "actor" => actor).record(since.elapsed());
        }
    }
}

/// The name of an outcome, as metrics have it.
pub(super) fn outcome_name(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Finished => "finished",
        Outcome::Compensated(_) => "compensated",
    }
}
