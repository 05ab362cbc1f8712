//! The supervisor of all role instances: starts an instance when a message for it arrives, and restarts it when it
//! fails.
//!
//! A failed instance is restarted after a pause that doubles each time, and replays. It is restarted alone, unless
//! its role's policy says otherwise. An instance that fails too often is quarantined: it is stopped and listed as
//! such, without effect on the others. `failures` decides about restarts, `reactivation` about what is loaded when.

mod failures;
mod queue;
mod reactivation;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use accompanist_core::frame::Delivery;
use accompanist_core::id::InstanceId;
use accompanist_core::record::Opened;
use ractor::{Actor, ActorId, ActorProcessingErr, ActorRef, ActorRuntime, SupervisionEvent};

use self::failures::Failures;
use self::queue::ReactivationQueue;
use crate::peers::CastReservation;
use crate::runtime::context::NodeContext;
use crate::runtime::instance::{InstanceActor, InstanceArguments, Origin, ends, opened_by_delivery};
use crate::runtime::messages::{InstanceMessage, SupervisorMessage};
use crate::runtime::names::Played;
use crate::supervision::Guarded;

/// The pause before room in memory is checked again.
const ROOM_LOOK: Duration = Duration::from_millis(20);

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
    queue: ReactivationQueue,
    /// The time of the next reading of the wall clock, by the monotonic clock.
    look_at_ms: Option<u64>,
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
        Ok(SupervisorState {
            context,
            children,
            failures,
            starts,
            queue: ReactivationQueue::default(),
            look_at_ms: None,
        })
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
                state.queue.found(&reading, page);
                state.reactivate(&myself);
            }
            SupervisorMessage::NudgeAllOf(node) => {
                state.queue.nudge_all_of(node);
                state.reactivate(&myself);
            }
            SupervisorMessage::Wait(id, unix_ms) => {
                state.queue.wait_until(unix_ms, id);
                state.reactivate(&myself);
            }
            SupervisorMessage::Resend(ids) => {
                state.queue.resend(ids);
                state.reactivate(&myself);
            }
            SupervisorMessage::Returned(id) => {
                state.queue.end(id);
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
            SupervisorMessage::Quarantined(id, reason, header) => {
                if let Some(failures) = state.failures.get_mut(&id) {
                    failures.restart_due = false;
                }
                state.context.note_stopped(id, reason, header);
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
        if self.context.operator.is_stopped(id) {
            return self.context.tell_stopped_again(&delivery);
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
        self.queue.forget_time(id);
        let arguments = InstanceArguments { id, origin, context: self.context.clone() };
        let spawn = || ActorRuntime::spawn_linked_instant(None, Guarded(InstanceActor), arguments, myself.get_cell());
        match self.context.directory.insert_new(id, || spawn().map(|(actor, _)| actor), message) {
            Ok(actor) => {
                self.children.insert(actor, id);
            }
            Err(error) => self.context.note_dropped("cannot be started", || format!("{id}: {error}")),
        }
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
        self.queue.end(id);
        Some((id, self.context.directory.remove(id, actor)))
    }
}
