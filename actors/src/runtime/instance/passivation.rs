//! How an instance leaves memory: passivated when it only waits, and at once to send anew what others lack.

use std::collections::BTreeSet;
use std::task::Context;
use std::time::Duration;

use accompanist_core::id::{Path, RoleIndex};
use accompanist_core::machine::{Forget, Idle};
use metrics::counter;
use ractor::ActorRef;

use super::stage::{LoadedInstance, Stage};
use super::{InstanceState, ends, stop};
use crate::base::metric;
use crate::config::Settings;
use crate::runtime::messages::{InstanceMessage, LinkMessage, SupervisorMessage};
use crate::runtime::names::log_part;
use crate::writer::Job;

/// The least number of times a frame is sent before its instance may be passivated with the frame unacknowledged.
const UNHEARD_TRANSMISSIONS_MIN: u32 = 10;

impl InstanceState {
    /// Handles an idle instance: passivates it if it has been idle for long enough, and otherwise sets a timer to
    /// check again.
    pub(super) fn wait(&mut self, myself: &ActorRef<InstanceMessage>) {
        let Some(live) = self.stage.live_mut() else { return };
        let (now_ms, unix_ms) = (self.context.now_ms(), self.context.environment.unix_ms());
        let idle = live.part.idle().filter(|_| live.answers.is_empty());
        let Some(idle) = idle else {
            live.idle_since_ms = None;
            return live.set_timer(now_ms, None);
        };
        let delay_ms = passivation_delay_ms(&self.context.settings, &idle);
        if idle.until_unix_ms.is_some_and(|until| until <= unix_ms.saturating_add(delay_ms)) {
            return live.set_timer(now_ms, None); // Stay in memory for what is due soon.
        }
        let leave_ms = live.idle_since_ms.get_or_insert(now_ms).saturating_add(delay_ms);
        if leave_ms > now_ms {
            live.set_timer(now_ms, Some(leave_ms));
        } else if live.part.has_nudged() {
            self.leave(myself, idle);
        } else {
            live.set_timer(now_ms, None);
        }
    }

    /// Passivates the instance, unless a message has arrived meanwhile. All that it needs to be reactivated is on
    /// disk; link and supervisor are informed when to reactivate it.
    fn leave(&self, myself: &ActorRef<InstanceMessage>, Idle { until_unix_ms, unacknowledged }: Idle) {
        let farewell = || {
            let passivation = self.stage.live().and_then(|live| live.part.passivation());
            self.context.writer.submit(Job::Passivate { id: self.id, incarnation: self.incarnation, passivation });
            if !unacknowledged.is_empty() {
                self.context.routes.to_link(LinkMessage::Passivated { id: self.id, unacknowledged });
            }
            if let Some(until_unix_ms) = until_unix_ms {
                self.context.routes.to_supervisor(SupervisorMessage::Wait(self.id, until_unix_ms));
            }
        };
        if self.context.directory.leave(self.id, myself.get_id(), self.received, farewell) {
            counter!(metric::INSTANCES_PASSIVATED).increment(1);
            self.stage.live().iter().for_each(|live| live.spans.passivated());
            stop(myself, ends::LEFT);
        }
    }

    /// Resends messages that counted as acknowledged but that other roles lack: reloads the instance, so that its
    /// program sends them again. Done for each role at most once in the longest pause between two nudges.
    pub(super) fn send_anew(&mut self, myself: &ActorRef<InstanceMessage>, mut lacking: BTreeSet<(Path, RoleIndex)>) {
        let (now_ms, pause_ms) = (self.context.now_ms(), self.context.settings.limits.nudge_delay_max_ms);
        let is_due =
            |role: &RoleIndex| self.sent_anew_ms.get(role).is_none_or(|at| at.saturating_add(pause_ms) <= now_ms);
        lacking.retain(|(_, role)| is_due(role));
        // A role that lacks something nudges again.
        let Some(live) = self.stage.live().filter(|live| !lacking.is_empty() && live.answers.is_empty()) else {
            return;
        };
        let name = self.context.directory.name(self.id);
        let roles = self.context.catalog.roles_of(&live.part.header());
        for role in lacking.iter().map(|(_, role)| *role).collect::<BTreeSet<_>>() {
            let messages = lacking.iter().filter(|(_, to)| *to == role).count();
            let to = roles.name_of(role).unwrap_or_else(|| role.0.to_string());
            log_part!(
                info,
                name,
                self.context.node,
                to,
                messages,
                "sends messages again that counted as acknowledged: their receiver lacks them"
            );
            self.sent_anew_ms.insert(role, now_ms);
        }
        counter!(metric::MESSAGES_SENT_ANEW).increment(lacking.len() as u64);
        let passivation = live.part.passivation_without(&lacking);
        self.context.writer.submit(Job::Passivate { id: self.id, incarnation: self.incarnation, passivation });
        // As at a passivation: after reloading, the instance sends what is still to be sent, and nothing else.
        self.context.routes.to_link(LinkMessage::Forget { id: self.id, what: Forget::All });
        self.stage = Stage::Unloaded(self.discard());
        self.incarnation = self.context.writer.next_incarnation();
        self.lacking = lacking;
        self.load(myself);
    }
}

impl LoadedInstance {
    /// Sets the timer that wakes the part at its next turn or at `other_ms`.
    fn set_timer(&mut self, now_ms: u64, other_ms: Option<u64>) {
        let next = self.part.next_wake_ms().into_iter().chain(other_ms).min();
        if self.timer.as_ref().map(|(at, _)| *at) != next {
            self.timer = next.map(|at| {
                let delay = Duration::from_millis(at.saturating_sub(now_ms));
                (at, Box::pin(tokio::time::sleep(delay)))
            });
        }
        if let Some((_, timer)) = &mut self.timer {
            let waker = self.part.waker();
            if timer.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
                self.timer = None;
                waker.wake();
            }
        }
    }
}

/// Returns how long an idle instance stays in memory. Sent frames get the time to be acknowledged: an instance that
/// was passivated earlier would send them again and again.
fn passivation_delay_ms(settings: &Settings, idle: &Idle) -> u64 {
    let transmissions = if idle.unacknowledged.is_empty() { 0 } else { UNHEARD_TRANSMISSIONS_MIN };
    let delay = settings.passivation_delay.max(settings.retransmission_delay_max * transmissions);
    u64::try_from(delay.as_millis()).unwrap_or(u64::MAX)
}
