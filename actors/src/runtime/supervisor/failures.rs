//! What the supervisor does when an instance fails: it restarts the instance after a pause, together with others if the
//! policy says so, or quarantines it.

use accompanist_core::Abort;
use accompanist_core::id::InstanceId;
use accompanist_core::record::Record;
use metrics::counter;
use ractor::{ActorId, ActorRef};

use super::{SupervisorState, WITH_ANOTHER};
use crate::base::metric;
use crate::runtime::instance::quarantined;
use crate::runtime::messages::SupervisorMessage;
use crate::runtime::names::{PartName, Played, log_part};
use crate::supervision::{Restarts, Strategy};
use crate::writer::{Job, Loaded};

/// The failures of an instance that has not closed since.
#[derive(Default)]
pub(super) struct Failures {
    restarts: Restarts,
    /// Whether the pause before a restart is under way.
    pub(super) restart_due: bool,
}

impl SupervisorState {
    /// Returns whether an instance has failed and is about to be restarted.
    pub(super) fn is_due(&self, id: InstanceId) -> bool {
        self.failures.get(&id).is_some_and(|failures| failures.restart_due)
    }

    /// Handles the failure of an instance's actor.
    pub(super) fn failed(
        &mut self,
        myself: &ActorRef<SupervisorMessage>,
        id: InstanceId,
        actor: ActorId,
        played: Option<Played>,
        reason: &str,
    ) {
        let supervision = &self.context.settings.supervision;
        let policy = played.map_or_else(
            || supervision.instances.clone(), // The instance has failed before it was loaded.
            |played| supervision.of_instance(played.choreography, played.role),
        );
        let failures = self.failures.entry(id).or_default();
        let pause = failures.restarts.failed(&policy, self.context.now_ms(), self.context.environment.random());
        let times = failures.restarts.times();
        let Some(pause) = pause else {
            // Keeps the instance from running meanwhile.
            failures.restart_due = true;
            return self.record_quarantine(myself, id, reason, times);
        };
        let name = PartName::new(id, played);
        log_part!(warn, name, self.context.node, error = reason, times, "an instance failed and is restarted");
        counter!(metric::INSTANCES_RESTARTED).increment(1);
        failures.restart_due = true;
        myself.send_after(pause, move || SupervisorMessage::Restart(id));
        if let Some(played) = played.filter(|_| policy.strategy != Strategy::OneForOne) {
            for (_, other) in self.context.directory.that_play(played) {
                // The ids of actors ascend.
                if policy.strategy.concerns(&actor.pid(), &other.get_id().pid()) {
                    other.stop(Some(WITH_ANOTHER.into()));
                }
            }
        }
    }

    /// Records a quarantine, so that the instance does not run after a restart of the node either, until an operator
    /// resumes it. The quarantine is reported only once it is on disk.
    fn record_quarantine(&self, myself: &ActorRef<SupervisorMessage>, id: InstanceId, reason: &str, failures: u32) {
        let quarantine = Record::Quarantined { reason: Abort::new("", reason).message().to_owned(), failures };
        let tell = {
            let (myself, reason) = (myself.clone(), quarantined(failures, reason));
            // Fails only when the node is gone.
            move |header| drop(myself.cast(SupervisorMessage::Quarantined(id, reason, header)))
        };
        let change = match quarantine.change(id) {
            Ok(change) => change,
            Err(error) => {
                let name = self.context.directory.name(id);
                log_part!(error, name, self.context.node, %error, "a quarantine cannot be recorded");
                return tell(None);
            }
        };
        let writer = self.context.writer.clone();
        let done = Box::new(move |loaded| match loaded {
            Ok(Loaded::Open(opened, _)) => {
                // The writer itself reports a failure to the node.
                let done = Box::new(move |_| tell(Some(opened.header)));
                writer.submit(Job::Change { changes: vec![change], done });
            }
            // An instance that failed before anything of it was written leaves nothing to quarantine.
            _ => tell(None),
        });
        // Loading first ensures that the failed actor's writes come before the quarantine, and none after.
        self.context.writer.submit(Job::Load { id, incarnation: self.context.writer.next_incarnation(), done });
    }
}
