//! When the supervisor reactivates instances: as many at a time as have room in memory, and those of a recovery page by
//! page.
//!
//! Next: `queue.rs`, which has their order.

use std::time::Duration;

use accompanist_core::contract::{Entry, Space};
use accompanist_core::id::InstanceId;
use accompanist_core::record::{Opened, read_value};
use metrics::counter;
use ractor::ActorRef;

use super::SupervisorState;
use crate::base::metric;
use crate::runtime::context::Recovery;
use crate::runtime::instance::Origin;
use crate::runtime::messages::{InstanceMessage, Page, Reading, SupervisorMessage};
use crate::writer::Job;

/// The most instances that are read from the store at a time.
const RECOVERY_PAGE: usize = 256;
/// The longest wait between two readings of the wall clock.
const CLOCK_LOOK_MAX_MS: u64 = 60_000;
/// The number of instances after which the log reports the recovery's progress.
const RECOVERY_NEWS: u64 = 100_000;

impl SupervisorState {
    /// Reactivates the next instances, as many as may be in memory. The instances of a recovery come last, page by
    /// page.
    pub(super) fn reactivate(&mut self, myself: &ActorRef<SupervisorMessage>) {
        let (unix_ms, instances_max) = (self.context.environment.unix_ms(), self.context.settings.instances_max / 4);
        let under_way_max = self.context.settings.reactivations_max;
        let nudge_pause_ms = self.nudge_pause_ms();
        loop {
            if let Some((reading, after)) = self.queue.next_page(self.context.now_ms(), nudge_pause_ms) {
                self.read_page(myself, reading, after);
            }
            if self.context.directory.len() >= instances_max.max(1) {
                break; // Passivated instances make room. The rest of the limit is left to new sessions.
            }
            let Some((id, nudges)) = self.queue.next(unix_ms, under_way_max) else { break };
            // An instance in memory nudges by itself.
            if !self.context.directory.has(id) {
                let origin = if nudges { Origin::Nudge } else { Origin::Return };
                self.with(myself, id, origin, InstanceMessage::Wake);
                if self.context.directory.has(id) {
                    counter!(metric::INSTANCES_RETURNED).increment(1);
                    self.queue.begin(id);
                }
            }
        }
        self.look_in_time(myself, unix_ms);
        self.tell_of_recovery();
    }

    /// Returns the pause between two pages of instances that are reactivated to nudge, such that all have nudged
    /// within the period.
    fn nudge_pause_ms(&self) -> u64 {
        let pages = self.context.writer.open().count / RECOVERY_PAGE as u64 + 1;
        let period = self.context.settings.passivated_nudge_period.as_millis();
        u64::try_from(period).unwrap_or(u64::MAX) / pages
    }

    fn look_in_time(&mut self, myself: &ActorRef<SupervisorMessage>, unix_ms: u64) {
        let now_ms = self.context.now_ms();
        let time = self.queue.next_time_unix_ms().map(|due_ms| due_ms.saturating_sub(unix_ms));
        let page = self.queue.next_page_ms().map(|due_ms| due_ms.saturating_sub(now_ms));
        let Some(pause) = time.into_iter().chain(page).min() else { return };
        let pause = pause.clamp(1, CLOCK_LOOK_MAX_MS);
        let at_ms = now_ms.saturating_add(pause);
        if self.look_at_ms.is_none_or(|known| at_ms < known) {
            self.look_at_ms = Some(at_ms);
            // One millisecond more, because clock readings are truncated.
            myself.send_after(Duration::from_millis(pause + 1), || SupervisorMessage::Look);
        }
    }

    /// Reports the progress of the recovery.
    fn tell_of_recovery(&mut self) {
        let (instances, finished) = self.queue.recovered();
        let known = self.context.operator.recovery();
        if finished && !known.finished && instances > 0 {
            tracing::info!(node = %self.context.node, instances, "all that was open is taken up again");
        } else if instances / RECOVERY_NEWS > known.instances / RECOVERY_NEWS {
            tracing::info!(node = %self.context.node, instances, "what was open is being taken up again");
        }
        self.context.operator.note_recovery(Recovery { instances, finished });
    }

    fn read_page(&self, myself: &ActorRef<SupervisorMessage>, reading: Reading, after: Vec<u8>) {
        let (myself, node) = (myself.clone(), self.context.node.clone());
        self.context.writer.submit(Job::Read(Box::new(move |store| {
            let after = Some(after.as_slice()).filter(|after| !after.is_empty());
            let page = store.and_then(|store| store.scan(Space::Open, &[], after, RECOVERY_PAGE));
            match page {
                Ok(entries) => {
                    let page = page_of(&reading, &entries);
                    let _ = myself.cast(SupervisorMessage::Found(reading, page)); // Fails only when the node is gone.
                }
                Err(error) => tracing::error!(%node, %error, "open sessions cannot be read"),
            }
        })));
    }
}

/// Returns the wanted instances of a page. An opening that cannot be read is wanted, too: loading it reports it to an
/// operator.
fn page_of(reading: &Reading, entries: &[Entry]) -> Page {
    let is_wanted = |value: &[u8]| match reading {
        Reading::NudgesOf(node) => {
            let opened = read_value::<Opened>(Space::Open, value);
            opened.map_or(true, |opened| opened.header.cast.contains(node))
        }
        Reading::Recovery | Reading::Nudges => true,
    };
    let wanted = entries.iter().filter(|(_, value)| is_wanted(value));
    Page {
        ids: wanted.filter_map(|(key, _)| InstanceId::from_bytes(key)).collect(),
        last: entries.last().map(|(key, _)| key.clone()),
        is_last: entries.len() < RECOVERY_PAGE,
    }
}
