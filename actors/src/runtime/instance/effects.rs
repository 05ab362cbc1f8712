//! Carries out the effects of a turn: writes, frames, what is published and what is listed for an operator. Knows no
//! messages.

use accompanist_core::Path;
#[cfg(feature = "testing")]
use accompanist_core::machine::Outgoing;
use accompanist_core::machine::{Effects, Retried, SessionTrouble};
use accompanist_core::record::{StepFailure, Task};
use metrics::counter;
use ractor::ActorRef;
use tokio::time::Instant;

use super::statistics::outcome_name;
use super::{InstanceState, ends, stop};
use crate::base::metric;
use crate::runtime::channel::is_channel;
use crate::runtime::messages::{InstanceMessage, InstanceProgress, LinkMessage};
use crate::runtime::queue_delay::Arrival;
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
            self.context.routes.to_link(LinkMessage::Forget { id: self.id, what });
        }
        #[cfg(feature = "testing")]
        let frames = self.forget_some(myself, frames);
        if !frames.is_empty() || !acks.is_empty() {
            self.context.routes.to_link(LinkMessage::Send { id: self.id, frames, acks });
        }
        if opened {
            self.context.admissions.queue_delay().stored(&Arrival::Start(self.id), self.context.now_ms());
            self.publish(|progress| progress.opened = true);
        }
        if let Some(output) = output {
            self.publish(|progress| progress.output = Some(output));
        }
        self.list_troubles(troubles, peer_troubles);
        self.log_retries(retries);
        if let Some(records) = long_journal {
            tracing::warn!(id = %self.id, records, "a journal is long: make the program's loops `repeat`s");
            counter!(metric::LONG_JOURNALS).increment(1);
        }
        if let Some(reason) = stopped {
            if self.stage.is_unproven() {
                // The store may know the instance in a later state, in which, for example, a close is valid.
                return self.load_instead(myself);
            }
            let header = self.stage.live().map(|live| live.part.header());
            self.context.note_stopped(self.id, reason.to_string(), header);
            stop(myself, ends::IS_STOPPED);
        }
        if let Some(closed) = closed {
            self.context.operator.forget_dead(self.context.operator.dead_letters.of(self.id));
            self.context.admissions.nudged.goes_on(self.id);
            self.context.operator.note_elsewhere(self.id, Vec::new());
            if is_channel(&closed.header) {
                tracing::error!(id = %self.id, "a channel to a durable actor is over; `Address::reopen` opens it anew");
            }
            self.publish(|progress| progress.settle(&closed));
            counter!(metric::INSTANCES_CLOSED, "outcome" => outcome_name(&closed.outcome)).increment(1);
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
            tracing::debug!(id = %self.id, ?key, "a frame is forgotten");
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
