//! The root of a node's tree: supervises the node's own actors (link and roles, which are restarted together) and the
//! service's groups.

use std::sync::Arc;
use std::time::Duration;

use accompanist_core::contract::Transport;
use accompanist_core::panics;
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio::sync::oneshot;

use crate::error::NodeError;
use crate::runtime::context::NodeContext;
use crate::runtime::link::{Link, LinkArguments};
use crate::runtime::supervisor::Roles;
use crate::supervision::{Group, GroupSupervisor, Guarded, Restarts, stop, why_not_started};

/// The place of the node's own actors in the tree; the groups follow.
const OWN: usize = 0;

/// How long a starting node waits for known nodes to confirm that its store is the one they know. Nodes that are up
/// answer within some hundred milliseconds; waiting longer for nodes that are down would be in vain.
const VOUCHED_WAIT_MAX: Duration = Duration::from_millis(500);

/// A message to the root.
pub(super) enum RootMessage {
    /// Start the parts at these places again: the pause after a failure is over.
    StartAgain(Vec<usize>),
    /// Stop the groups, the last first, while the node still runs for them: the node shuts down.
    StopGroups(oneshot::Sender<()>),
    #[cfg(feature = "testing")]
    Panic,
}

pub(super) struct Root;

pub(super) struct RootArguments {
    pub(super) context: Arc<NodeContext>,
    pub(super) transport: Arc<dyn Transport>,
    pub(super) groups: Vec<Arc<Group>>,
}

/// The node's own actors: link and roles.
struct OwnActors {
    link: ActorCell,
    roles: ActorCell,
}

pub(super) struct RootState {
    arguments: RootArguments,
    own: Option<OwnActors>,
    /// The running groups by place; the first place is not a group's and is left out.
    groups: Vec<Option<ActorCell>>,
    restarts: Restarts,
}

impl Actor for Root {
    type Msg = RootMessage;
    type State = RootState;
    type Arguments = RootArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<RootMessage>,
        arguments: RootArguments,
    ) -> Result<RootState, ActorProcessingErr> {
        let groups = arguments.groups.iter().map(|_| None).collect();
        let mut state = RootState { arguments, own: None, groups, restarts: Restarts::default() };
        for place in OWN..=state.groups.len() {
            if let Err(reason) = state.start(&myself, place).await {
                let all: Vec<usize> = (OWN..place).collect();
                state.stop(&all).await;
                return Err(Box::new(reason));
            }
        }
        Ok(state)
    }

    async fn handle(
        &self,
        myself: ActorRef<RootMessage>,
        message: RootMessage,
        state: &mut RootState,
    ) -> Result<(), ActorProcessingErr> {
        let heard = panics::catch_async(state.hear(&myself, message)).await;
        state.unless_panicked(&myself, heard);
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<RootMessage>,
        event: SupervisionEvent,
        state: &mut RootState,
    ) -> Result<(), ActorProcessingErr> {
        let (actor, reason) = match event {
            SupervisionEvent::ActorFailed(actor, error) => (actor, error.to_string()),
            SupervisionEvent::ActorTerminated(actor, _, reason) => (actor, reason.unwrap_or_default()),
            _ => return Ok(()),
        };
        // A part that is no longer there was stopped by the root itself.
        if let Some((place, part)) = state.place_of(&actor) {
            let answered = panics::catch_async(state.failed(&myself, place, part, &[], reason)).await;
            state.unless_panicked(&myself, answered);
        }
        Ok(())
    }
}

impl RootState {
    async fn hear(&mut self, root: &ActorRef<RootMessage>, message: RootMessage) {
        match message {
            RootMessage::StartAgain(places) => {
                for (index, place) in places.iter().enumerate() {
                    if let Err(reason) = self.start(root, *place).await {
                        let rest = places.get(index..).unwrap_or_default();
                        self.failed(root, *place, self.name(*place), rest, reason.to_string()).await;
                        break;
                    }
                }
            }
            RootMessage::StopGroups(done) => {
                let all: Vec<usize> = (OWN + 1..=self.groups.len()).collect();
                self.stop(&all).await;
                let _ = done.send(()); // The caller no longer waits.
            }
            #[cfg(feature = "testing")]
            RootMessage::Panic => crate::base::faults::as_ordered(),
        }
    }

    /// Ends the node if the root has panicked. No supervisor watches the root, so the root itself reports why the
    /// node ends.
    fn unless_panicked(&self, root: &ActorRef<RootMessage>, answered: Result<(), String>) {
        if let Err(panic) = answered {
            self.give_up(root, NodeError::Ended { part: "root", reason: format!("it panicked: {panic}") });
        }
    }

    /// Starts the part at this place, unless it runs already.
    async fn start(&mut self, root: &ActorRef<RootMessage>, place: usize) -> Result<(), NodeError> {
        if place == OWN {
            if self.own.is_none() {
                self.own = Some(self.arguments.start_own(root).await?);
            }
            return Ok(());
        }
        let (Some(group), Some(running)) = (self.arguments.groups.get(place - 1), self.groups.get_mut(place - 1))
        else {
            return Ok(());
        };
        if running.is_none() {
            let arguments = (group.clone(), self.arguments.context.environment.clone());
            let started = Actor::spawn_linked(None, Guarded(GroupSupervisor), arguments, root.get_cell()).await;
            let cannot = |error: ractor::SpawnErr| NodeError::Group {
                name: group.name.clone(),
                reason: why_not_started(&error),
            };
            let (actor, _) = started.map_err(cannot)?;
            *running = Some(actor.get_cell());
        }
        Ok(())
    }

    /// Stops the running parts at these places, the last first.
    async fn stop(&mut self, places: &[usize]) {
        for place in places.iter().rev() {
            if *place == OWN {
                let Some(own) = self.own.take() else { continue };
                // Prevents instances from being started meanwhile: they would have no link to send through.
                self.arguments.context.routes.set_supervisor(None);
                for actor in [own.roles, own.link] {
                    // An error means that the actor has already stopped.
                    let _ = actor.kill_and_wait(None).await;
                }
                self.arguments.context.routes.link_left().await;
            } else if let Some(group) = self.groups.get_mut(place - 1).and_then(Option::take) {
                stop(&group).await;
            }
        }
    }

    fn place_of(&self, actor: &ActorCell) -> Option<(usize, String)> {
        let is_it = |known: &ActorCell| known.get_id() == actor.get_id();
        match &self.own {
            Some(own) if is_it(&own.link) => return Some((OWN, "link".into())),
            Some(own) if is_it(&own.roles) => return Some((OWN, "supervisor of roles".into())),
            _ => {}
        }
        let index = self.groups.iter().position(|group| group.as_ref().is_some_and(is_it))?;
        Some((index + 1, self.name(index + 1)))
    }

    fn name(&self, place: usize) -> String {
        let group = place.checked_sub(1).and_then(|index| self.arguments.groups.get(index));
        group.map_or_else(|| "link".into(), |group| format!("group `{}`", group.name))
    }

    /// Handles a failure of the part at `place`; the parts at `rest` have not been started yet.
    async fn failed(
        &mut self,
        root: &ActorRef<RootMessage>,
        place: usize,
        part: String,
        rest: &[usize],
        reason: String,
    ) {
        let context = self.arguments.context.clone();
        let policy = &context.settings.supervision.tree;
        let pause = self.restarts.failed(policy, context.now_ms(), context.environment.random());
        let times = self.restarts.times();
        let Some(pause) = pause else {
            let period_s = policy.period.as_secs();
            return self.give_up(root, NodeError::RestartedTooOften { part, times, period_s, reason });
        };
        tracing::error!(node = %context.node, part, error = reason, times, "failed, and is restarted");
        let mut places: Vec<usize> = (OWN..=self.groups.len()).collect();
        places.retain(|other| policy.strategy.concerns(&place, other) || rest.contains(other));
        self.stop(&places).await;
        root.send_after(pause, move || RootMessage::StartAgain(places));
    }

    fn give_up(&self, root: &ActorRef<RootMessage>, error: NodeError) {
        self.arguments.context.fail(error);
        root.kill();
    }
}

impl RootArguments {
    async fn start_own(&self, root: &ActorRef<RootMessage>) -> Result<OwnActors, NodeError> {
        let failed = |error: ractor::SpawnErr| NodeError::Transport(why_not_started(&error));
        // The link starts first: a frame that a recovered instance sends while there is no link is lost and not
        // resent. A packet that arrives before the roles run counts as one more that the wire has lost.
        let arguments = LinkArguments { context: self.context.clone(), transport: self.transport.clone() };
        let (link, task) =
            Actor::spawn_linked(None, Guarded(Link), arguments, root.get_cell()).await.map_err(failed)?;
        self.context.routes.set_link_task(task);
        // Wait before anything is done that an older copy of the store may wrongly regard as not yet done.
        let refused = tokio::select! {
            biased;
            failure = self.context.writer.failed() => Some(NodeError::from(failure)),
            () = self.context.peers.vouched(VOUCHED_WAIT_MAX) => None,
        };
        if let Some(error) = refused {
            // An error means that the actor has already stopped.
            let _ = link.get_cell().kill_and_wait(None).await;
            self.context.routes.link_left().await;
            return Err(error);
        }
        match Actor::spawn_linked(None, Guarded(Roles), self.context.clone(), root.get_cell()).await {
            Ok((roles, _)) => Ok(OwnActors { link: link.get_cell(), roles: roles.get_cell() }),
            Err(error) => {
                link.kill();
                Err(failed(error))
            }
        }
    }
}
