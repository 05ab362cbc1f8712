//! Carries out the effects of a turn: writes, frames, what is published and what is listed for an operator. Knows no
//! messages.

use std::fmt::Display;

use accompanist_core::Path;
use accompanist_core::frame::{Header, Outcome};
#[cfg(feature = "testing")]
use accompanist_core::machine::Outgoing;
use accompanist_core::machine::{Effects, Retried, SessionTrouble};
use accompanist_core::record::{Closed, StepFailure, Task};
use metrics::counter;
use ractor::ActorRef;
use tokio::time::Instant;
use tracing::Level;
use tracing::level_filters::LevelFilter;

use super::statistics::outcome_name;
use super::{InstanceState, ends, stop};
use crate::base::metric;
use crate::runtime::channel::is_channel;
use crate::runtime::messages::{InstanceMessage, InstanceProgress, LinkMessage};
use crate::runtime::names::log_part;
use crate::runtime::queue_delay::Arrival;
use crate::telemetry::SESSIONS;
use crate::writer::Job;

impl InstanceState {
    pub(super) fn carry_out(&mut self, myself: &ActorRef<InstanceMessage>, effects: Effects) {
        if let Some(live) = self.stage.live() {
            self.statistics.observe(&live.part, &effects, self.context.environment.unix_ms());
        }
        let Effects {
            retries,
            writes,
            forget,
            frames,
            acks,
            output,
            opened,
            closed,
            stopped,
            troubles,
            peer_troubles,
            long_journal,
            lacking: _,
            calls: _,
        } = effects;
        for write in writes {
            let (myself, number) = (myself.clone(), write.number);
            let (id, incarnation) = (self.id, self.incarnation);
            let done = Box::new(move |written| {
                // An actor that is gone needs no answer.
                let _ = myself.cast(match written {
                    Ok(written) => InstanceMessage::Written(number, written),
                    Err(error) => InstanceMessage::Refused(incarnation, error),
                });
            });
            let (begins, since) = (self.stage.ask(), Instant::now());
            self.context.writer.submit(Job::Write { id, incarnation, begins, write, done, since });
        }
        if let Some(what) = forget {
            self.stage.live_mut().into_iter().for_each(|live| live.spans.forgotten(what));
            self.context.routes.to_link(LinkMessage::Forget { id: self.id, what });
        }
        #[cfg(feature = "testing")]
        let frames = self.forget_some(myself, frames);
        if !frames.is_empty() || !acks.is_empty() {
            self.stage.live_mut().into_iter().for_each(|live| live.spans.sent(&frames));
            self.context.routes.to_link(LinkMessage::Send { id: self.id, frames, acks });
        }
        if opened {
            self.context.admissions.queue_delay().stored(&Arrival::Start(self.id), self.context.now_ms());
            self.publish(|progress| progress.opened = true);
            self.log_begin();
        }
        if let Some(output) = output {
            self.publish(|progress| progress.output = Some(output));
        }
        self.list_troubles(troubles, peer_troubles);
        self.log_retries(retries);
        if let Some(records) = long_journal {
            let name = self.context.directory.name(self.id);
            log_part!(warn, name, self.context.node, records, "a journal is long: make the program's loops `repeat`s");
            counter!(metric::LONG_JOURNALS).increment(1);
        }
        if let Some(reason) = stopped {
            if self.stage.is_unproven() {
                // The store may know the instance in a later state, in which, for example, a close is valid.
                return self.load_instead(myself);
            }
            let header = self.stage.live().map(|live| live.part.header());
            let reason = reason.to_string();
            self.stage.live().iter().for_each(|live| live.spans.stopped(&reason));
            self.context.note_stopped(self.id, reason, header);
            stop(myself, ends::IS_STOPPED);
        }
        if let Some(closed) = closed {
            self.context.operator.forget_dead(self.context.operator.dead_letters.of(self.id));
            self.context.admissions.nudged.goes_on(self.id);
            self.context.operator.note_elsewhere(self.id, Vec::new());
            if is_channel(&closed.header) {
                let name = self.context.directory.name(self.id);
                let node = &self.context.node;
                log_part!(error, name, node, "a channel to a durable actor is over; `Address::reopen` opens it anew");
            }
            self.publish(|progress| progress.settle(&closed));
            let outcome = self.log_end(&closed);
            counter!(metric::INSTANCES_CLOSED, "outcome" => outcome).increment(1);
            stop(myself, ends::CLOSED);
        }
    }

    /// Counts some frames as acknowledged without sending them, if a test wants that.
    #[cfg(feature = "testing")]
    fn forget_some(&self, myself: &ActorRef<InstanceMessage>, frames: Vec<Outgoing>) -> Vec<Outgoing> {
        let (forgotten, frames): (Vec<_>, Vec<_>) = frames
            .into_iter()
            .partition(|Outgoing { key, frame, .. }| key.is_acknowledged() && self.context.faults.forgets(frame));
        for Outgoing { key, .. } in forgotten {
            tracing::debug!(session = %self.id.session, ?key, "a frame is forgotten");
            self.stage.live().iter().for_each(|live| live.part.acked(&key));
            let _ = myself.cast(InstanceMessage::Wake); // Sent to itself, so it cannot fail.
        }
        frames
    }

    /// Lists the steps and roles that need an operator, where that has changed, and publishes them.
    fn list_troubles(&mut self, own: Option<Vec<(Path, StepFailure)>>, peers: Option<Vec<SessionTrouble>>) {
        if own.is_none() && peers.is_none() {
            return;
        }
        if let Some(own) = own {
            self.context.operator.note_troubled(self.id, own);
        }
        if let Some(peers) = peers {
            self.context.operator.note_elsewhere(self.id, peers);
        }
        let troubles = self.stage.live().map(|live| live.part.troubles()).unwrap_or_default();
        self.publish(|progress| progress.troubles = troubles);
    }

    /// Whether anybody might read the log's lines about this part.
    fn logs_sessions(&self, header: &Header) -> bool {
        let level = if header.initiator == self.id.role { Level::INFO } else { Level::DEBUG };
        LevelFilter::current() >= level
    }

    /// Logs that the part has begun, and is on disk: at the initiator, that its session has.
    fn log_begin(&self) {
        let Some(live) = self.stage.live() else { return };
        let header = live.part.header();
        if !self.logs_sessions(&header) {
            return;
        }
        let (name, node, version) = (self.context.directory.name(self.id), &self.context.node, header.version);
        if header.initiator == self.id.role {
            log_part!(target: SESSIONS, info, name, node, version, "a session is started");
        } else {
            log_part!(target: SESSIONS, debug, name, node, version, "a part of a session has begun");
        }
    }

    /// Logs the end of the part: at the initiator, that of its session. Returns the outcome's name.
    fn log_end(&self, Closed { header, outcome, .. }: &Closed) -> &'static str {
        let abort = match outcome {
            Outcome::Finished => None,
            Outcome::Compensated(abort) => Some(abort),
        };
        let outcome = outcome_name(outcome);
        self.stage.live().iter().for_each(|live| live.spans.ended(outcome, abort.map(|abort| abort as &dyn Display)));
        if !self.logs_sessions(header) {
            return outcome;
        }
        let (name, node) = (self.context.directory.name(self.id), &self.context.node);
        let error = abort.map(tracing::field::display);
        let duration_ms = self.context.environment.unix_ms().saturating_sub(header.started_unix_ms);
        if header.initiator == self.id.role {
            log_part!(target: SESSIONS, info, name, node, outcome, error, duration_ms, "a session has ended");
        } else {
            log_part!(target: SESSIONS, debug, name, node, outcome, error, duration_ms, "a part of a session has ended");
        }
        outcome
    }

    /// Logs steps that did not succeed and are retried, with step, session and reason: as a warning the first time, and
    /// then at growing intervals.
    fn log_retries(&self, retries: Vec<Retried>) {
        let Some(live) = self.stage.live().filter(|_| !retries.is_empty()) else { return };
        let header = live.part.header();
        let role = self.context.catalog.choreography_of(&header, self.id.role).map_or("", |(_, role)| role);
        for retried in retries {
            let is_for_the_log = retried.is_for_the_log();
            let Retried { path, step, task, reason, tries, failures, pause_ms } = retried;
            let what = if task == Task::Compensate { "a compensation" } else { "a step" };
            let (choreography, session) = (&header.choreography, self.id.session);
            if is_for_the_log {
                tracing::warn!(
                    choreography, role, step, %session, %path, tries, failures, reason, next_try_in_ms = pause_ms,
                    "{what} did not succeed and is tried again"
                );
            } else {
                tracing::debug!(
                    choreography, role, step, %session, %path, tries, failures, reason, next_try_in_ms = pause_ms,
                    "{what} did not succeed and is tried again"
                );
            }
        }
    }

    fn publish(&mut self, tell: impl FnOnce(&mut InstanceProgress)) {
        if let Some(live) = self.stage.live_mut() {
            tell(&mut live.progress);
            let known = live.progress.clone();
            self.context.directory.publish(self.id, |progress| *progress = known);
        }
    }
}
