//! The supervisor of all role instances: starts an instance when a message for it arrives, and restarts it when it
//! fails.
//!
//! A failed instance is restarted after a pause that doubles each time, and replays. It is restarted alone, unless
//! its role's policy says otherwise. An instance that fails too often is quarantined: it is stopped and listed as
//! such, without effect on the others.

mod reactivation;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use accompanist_core::Abort;
use accompanist_core::contract::{Entry, Space};
use accompanist_core::frame::Delivery;
use accompanist_core::id::InstanceId;
use accompanist_core::record::{Opened, Record, read_value};
use metrics::counter;
use ractor::{Actor, ActorId, ActorProcessingErr, ActorRef, ActorRuntime, SupervisionEvent};

use self::reactivation::Returns;
use crate::base::metric;
use crate::peers::CastReservation;
use crate::runtime::context::{NodeContext, Recovery};
use crate::runtime::directory::Played;
use crate::runtime::instance::{InstanceActor, InstanceArguments, Origin, ends, opened_by_delivery, quarantined};
use crate::runtime::messages::{InstanceMessage, Page, Reading, SupervisorMessage};
use crate::supervision::{Guarded, Restarts, Strategy};
use crate::writer::{Job, Loaded};

/// The most instances that are read from the store at a time.
const RECOVERY_PAGE: usize = 256;
/// The longest wait between two readings of the wall clock.
const CLOCK_LOOK_MAX_MS: u64 = 60_000;
/// The pause before room in memory is checked again.
const ROOM_LOOK: Duration = Duration::from_millis(20);
/// The number of instances after which the log reports the recovery's progress.
const RECOVERY_NEWS: u64 = 100_000;

/// The stop reason of an instance that is to be restarted because another one has failed.
const WITH_ANOTHER: &str = "restarted with another one";

/// The supervisor of roles; see the module's documentation.
pub(crate) struct Roles;

pub(crate) struct SupervisorState {
    context: Arc<NodeContext>,
    children: HashMap<ActorId, InstanceId>,
    /// The failures of instances that have not closed since, and whether a restart is due.
    failures: HashMap<InstanceId, Failures>,
    /// The sessions that callers have started and that are in memory: such an instance may fail before anything of it
    /// is written.
    starts: HashMap<InstanceId, (Opened, Option<Arc<CastReservation>>)>,
    returns: Returns,
    /// The time of the next reading of the wall clock, by the monotonic clock.
    look_at_ms: Option<u64>,
}

#[derive(Default)]
struct Failures {
    restarts: Restarts,
    /// Whether the pause before a restart is under way.
    restart_due: bool,
}

impl Actor for Roles {
    type Msg = SupervisorMessage;
    type State = SupervisorState;
    type Arguments = Arc<NodeContext>;

    async fn pre_start(
        &self,
        myself: ActorRef<SupervisorMessage>,
        context: Arc<NodeContext>,
    ) -> Result<SupervisorState, ActorProcessingErr> {
        context.directory.clear();
        context.routes.set_supervisor(Some(myself.clone()));
        myself.cast(SupervisorMessage::Look)?;
        let (children, failures, starts) = (HashMap::new(), HashMap::new(), HashMap::new());
        Ok(SupervisorState { context, children, failures, starts, returns: Returns::default(), look_at_ms: None })
    }

    async fn handle(
        &self,
        myself: ActorRef<SupervisorMessage>,
        message: SupervisorMessage,
        state: &mut SupervisorState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            SupervisorMessage::Deliver(delivery) => state.deliver(&myself, delivery),
            // A start that only follows an open session waits until there is room.
            SupervisorMessage::Start { id, opened, fresh, placed, admission: None } if state.is_full_for(id) => {
                myself.send_after(ROOM_LOOK, move || SupervisorMessage::Start {
                    id,
                    opened,
                    fresh,
                    placed,
                    admission: None,
                });
            }
            SupervisorMessage::Start { id, opened, fresh, placed, admission } => {
                // The first start stays: the instance may have begun with its cast.
                state.starts.entry(id).or_insert_with(|| (opened.clone(), placed));
                let origin = if fresh { Origin::Fresh(opened.clone()) } else { Origin::Store };
                state.with(&myself, id, origin, InstanceMessage::Start(opened));
                drop(admission); // The directory counts the instance now.
            }
            SupervisorMessage::Found(reading, page) => {
                state.returns.found(&reading, page);
                state.reactivate(&myself);
            }
            SupervisorMessage::NudgeAllOf(node) => {
                state.returns.nudge_all_of(node);
                state.reactivate(&myself);
            }
            SupervisorMessage::Wait(id, unix_ms) => {
                state.returns.wait_until(unix_ms, id);
                state.reactivate(&myself);
            }
            SupervisorMessage::SayAgain(ids) => {
                state.returns.say_again(ids);
                state.reactivate(&myself);
            }
            SupervisorMessage::Returned(id) => {
                state.returns.end(id);
                state.reactivate(&myself);
            }
            SupervisorMessage::Look => {
                state.look_at_ms = None;
                state.reactivate(&myself);
            }
            SupervisorMessage::Restart(id) => {
                if let Some(failures) = state.failures.get_mut(&id) {
                    failures.restart_due = false;
                }
                state.start_again(&myself, id);
            }
            SupervisorMessage::Quarantined(id, reason) => {
                if let Some(failures) = state.failures.get_mut(&id) {
                    failures.restart_due = false;
                }
                state.context.operator.note_stopped(id, reason);
            }
            SupervisorMessage::Ask(id, question) if state.is_full_for(id) => {
                myself.send_after(ROOM_LOOK, move || SupervisorMessage::Ask(id, question));
            }
            SupervisorMessage::Ask(id, question) if state.is_due(id) => {
                let pause = state.context.settings.supervision.instances.delay_min;
                myself.send_after(pause, move || SupervisorMessage::Ask(id, question));
            }
            SupervisorMessage::Ask(id, question) => {
                // If the instance is not open here it drops the question, which answers it.
                state.with(&myself, id, Origin::Store, InstanceMessage::Ask(question));
            }
            SupervisorMessage::Resume(id) => {
                state.failures.remove(&id);
                state.start_again(&myself, id);
            }
            #[cfg(feature = "testing")]
            SupervisorMessage::Panic => crate::base::faults::as_ordered(),
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<SupervisorMessage>,
        event: SupervisionEvent,
        state: &mut SupervisorState,
    ) -> Result<(), ActorProcessingErr> {
        match event {
            SupervisionEvent::ActorTerminated(actor, _, reason) => {
                if let Some((id, played)) = state.forget(actor.get_id()) {
                    let reason = reason.unwrap_or_default();
                    if reason == WITH_ANOTHER {
                        state.start_again(&myself, id);
                    } else if !state.has_ended(&myself, id, &reason) {
                        state.failed(&myself, id, actor.get_id(), played, &format!("it has ended: {reason}"));
                    }
                    state.reactivate(&myself);
                }
            }
            SupervisionEvent::ActorFailed(actor, error) => {
                if let Some((id, played)) = state.forget(actor.get_id()) {
                    state.failed(&myself, id, actor.get_id(), played, &error.to_string());
                    state.reactivate(&myself);
                }
            }
            _ => {}
        }
        Ok(())
    }
}

impl SupervisorState {
    fn deliver(&mut self, myself: &ActorRef<SupervisorMessage>, delivery: Delivery) {
        self.context.admissions.note_taken(&delivery);
        let id = delivery.frame.receiver();
        // A frame whose header gives its sender another role, or this node none, is dropped without further checks.
        if let Some(header) = &delivery.frame.header
            && !(delivery.is_of_cast(header) && header.node_of(id.role) == Some(&self.context.node))
        {
            return self.context.note_not_of_cast(&delivery);
        }
        if self.is_full_for(id) {
            return self.context.note_dropped("too many instances", || id.to_string());
        }
        // With a full disk only known instances continue, so the store is asked first. The same holds when a node of
        // the cast is unknown here (it may have been known when the session began), and when the sender's nudges have
        // created enough sessions.
        let may_begin = |opened: &Opened| {
            !self.context.is_disk_full()
                && !self.context.is_nudge_too_many(&delivery)
                && self.context.peers.unknown_of(&opened.header.cast).is_none()
                && self.context.is_allowed(&opened.header)
        };
        let opened = opened_by_delivery(&delivery).filter(may_begin);
        let origin = opened.map_or(Origin::Store, Origin::Header);
        self.with(myself, id, origin, InstanceMessage::Deliver(delivery));
    }

    /// Returns whether there is no room in memory for an instance that is not in memory yet.
    fn is_full_for(&self, id: InstanceId) -> bool {
        let NodeContext { directory, settings, .. } = self.context.as_ref();
        directory.len() >= settings.instances_max && !directory.has(id)
    }

    /// Sends a message to an instance, and starts its actor if need be. An instance that is stopped or waits for its
    /// restart receives nothing; the sender of a frame resends it.
    fn with(&mut self, myself: &ActorRef<SupervisorMessage>, id: InstanceId, origin: Origin, message: InstanceMessage) {
        let Err(message) = self.context.directory.tell(id, message) else { return };
        if self.context.operator.is_stopped(id) || self.is_due(id) {
            return;
        }
        self.returns.forget_time(id);
        let arguments = InstanceArguments { id, origin, context: self.context.clone() };
        let spawn = || ActorRuntime::spawn_linked_instant(None, Guarded(InstanceActor), arguments, myself.get_cell());
        match self.context.directory.insert_new(id, || spawn().map(|(actor, _)| actor), message) {
            Ok(actor) => {
                self.children.insert(actor, id);
            }
            Err(error) => self.context.note_dropped("cannot be started", || format!("{id}: {error}")),
        }
    }

    /// Returns whether an instance has failed and is about to be restarted.
    fn is_due(&self, id: InstanceId) -> bool {
        self.failures.get(&id).is_some_and(|failures| failures.restart_due)
    }

    /// Loads an instance from the store, or begins it anew if nothing of it is there.
    fn start_again(&mut self, myself: &ActorRef<SupervisorMessage>, id: InstanceId) {
        let opened = self.starts.get(&id).map(|(opened, _)| opened.clone());
        let message = opened.map_or(InstanceMessage::Wake, InstanceMessage::Start);
        self.with(myself, id, Origin::Store, message);
    }

    /// Handles the end of an actor; returns whether the end was regular. If not, it is a failure. Every restart of an
    /// instance is therefore either counted as a failure or requested by a caller.
    fn has_ended(&mut self, myself: &ActorRef<SupervisorMessage>, id: InstanceId, reason: &str) -> bool {
        if reason == ends::CLOSED {
            self.failures.remove(&id);
        }
        let unanswered = !self.context.operator.is_stopped(id) && self.context.directory.is_unanswered(id);
        match reason {
            // A caller asked after the instance's last message was handled, and got no answer.
            ends::CLOSED | ends::LEFT if unanswered => self.start_again(myself, id),
            ends::CLOSED | ends::LEFT | ends::IS_STOPPED => drop(self.starts.remove(&id)),
            ends::DROPPED | ends::REFUSED if !unanswered => drop(self.starts.remove(&id)),
            _ => return false,
        }
        true
    }

    fn forget(&mut self, actor: ActorId) -> Option<(InstanceId, Option<Played>)> {
        let id = self.children.remove(&actor)?;
        self.returns.end(id);
        Some((id, self.context.directory.remove(id, actor)))
    }

    fn failed(
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
        tracing::warn!(%id, reason, times, "an instance failed and is restarted");
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
            move || drop(myself.cast(SupervisorMessage::Quarantined(id, reason))) // Fails only when the node is gone.
        };
        let change = match quarantine.change(id) {
            Ok(change) => change,
            Err(error) => {
                tracing::error!(%id, %error, "a quarantine cannot be recorded");
                return tell();
            }
        };
        let writer = self.context.writer.clone();
        let done = Box::new(move |loaded| match loaded {
            Ok(Loaded::Open(..)) => {
                let done = Box::new(move |_| tell()); // The writer itself reports a failure to the node.
                writer.submit(Job::Change { changes: vec![change], done });
            }
            // An instance that failed before anything of it was written leaves nothing to quarantine.
            _ => tell(),
        });
        // Loading first ensures that the failed actor's writes come before the quarantine, and none after.
        self.context.writer.submit(Job::Load { id, incarnation: self.context.writer.next_incarnation(), done });
    }

    /// Reactivates the next instances, as many as may be in memory. The instances of a recovery come last, page by
    /// page.
    fn reactivate(&mut self, myself: &ActorRef<SupervisorMessage>) {
        let (unix_ms, instances_max) = (self.context.environment.unix_ms(), self.context.settings.instances_max / 4);
        let under_way_max = self.context.settings.reactivations_max;
        let nudge_pause_ms = self.nudge_pause_ms();
        loop {
            if let Some((reading, after)) = self.returns.next_page(self.context.now_ms(), nudge_pause_ms) {
                self.read_page(myself, reading, after);
            }
            if self.context.directory.len() >= instances_max.max(1) {
                break; // Passivated instances make room. The rest of the limit is left to new sessions.
            }
            let Some((id, nudges)) = self.returns.next(unix_ms, under_way_max) else { break };
            // An instance in memory nudges by itself.
            if !self.context.directory.has(id) {
                let origin = if nudges { Origin::Nudge } else { Origin::Return };
                self.with(myself, id, origin, InstanceMessage::Wake);
                if self.context.directory.has(id) {
                    counter!(metric::INSTANCES_RETURNED).increment(1);
                    self.returns.begin(id);
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
        let time = self.returns.next_time_unix_ms().map(|due_ms| due_ms.saturating_sub(unix_ms));
        let page = self.returns.next_page_ms().map(|due_ms| due_ms.saturating_sub(now_ms));
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
        let (instances, finished) = self.returns.recovered();
        let known = self.context.operator.recovery();
        if finished && !known.finished && instances > 0 {
            tracing::info!(instances, "all that was open is taken up again");
        } else if instances / RECOVERY_NEWS > known.instances / RECOVERY_NEWS {
            tracing::info!(instances, "what was open is being taken up again");
        }
        self.context.operator.note_recovery(Recovery { instances, finished });
    }

    fn read_page(&self, myself: &ActorRef<SupervisorMessage>, reading: Reading, after: Vec<u8>) {
        let myself = myself.clone();
        self.context.writer.submit(Job::Read(Box::new(move |store| {
            let after = Some(after.as_slice()).filter(|after| !after.is_empty());
            let page = store.and_then(|store| store.scan(Space::Open, &[], after, RECOVERY_PAGE));
            match page {
                Ok(entries) => {
                    let page = page_of(&reading, &entries);
                    let _ = myself.cast(SupervisorMessage::Found(reading, page)); // Fails only when the node is gone.
                }
                Err(error) => tracing::error!(%error, "open sessions cannot be read"),
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
