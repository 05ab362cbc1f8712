//! The root of a node's tree: its own actors (link and roles, which go together), and the groups of the service.

use std::sync::Arc;

use accompanist_core::contract::{StoreError, Transport};
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio::sync::{oneshot, watch};

use crate::error::NodeError;
use crate::link::{Link, LinkArguments};
use crate::roles::Roles;
use crate::shared::Shared;
use crate::supervision::{Group, GroupSupervisor, Restarts, stop};

/// The place of the node's own actors in the tree; the groups come after.
const OWN: usize = 0;

/// What the root is told.
pub(super) enum RootMessage {
    StoreFailed(StoreError),
    /// The pause after a failure is over: start these again, by their places.
    StartAgain(Vec<usize>),
    /// The node is shut down: let the groups stop, the last first, while the node is still there for them.
    StopGroups(oneshot::Sender<()>),
}

pub(super) struct Root;

pub(super) struct RootArguments {
    pub(super) shared: Arc<Shared>,
    pub(super) transport: Arc<dyn Transport>,
    pub(super) groups: Vec<Arc<Group>>,
    pub(super) failed: watch::Sender<Option<NodeError>>,
}

/// Link and roles.
struct Own {
    link: ActorCell,
    roles: ActorCell,
}

pub(super) struct RootState {
    arguments: RootArguments,
    own: Option<Own>,
    /// By place, but for the first one.
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
        let mut failed = arguments.shared.writer.failed();
        let groups = arguments.groups.iter().map(|_| None).collect();
        let mut state = RootState { arguments, own: None, groups, restarts: Restarts::default() };
        for place in OWN..=state.groups.len() {
            if let Err(reason) = state.start(&myself, place).await {
                let all: Vec<usize> = (OWN..place).collect();
                state.stop(&all).await;
                return Err(Box::new(reason));
            }
        }
        let root = myself.clone();
        tokio::spawn(async move {
            // An error says that the writer has ended without one.
            if let Ok(Some(error)) = failed.wait_for(Option::is_some).await.map(|error| error.clone()) {
                let _ = root.cast(RootMessage::StoreFailed(error)); // Stopped already, if it is gone.
            }
        });
        Ok(state)
    }

    async fn handle(
        &self,
        myself: ActorRef<RootMessage>,
        message: RootMessage,
        state: &mut RootState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            // The store's state is unknown: restarting actors over it would be a trap.
            RootMessage::StoreFailed(error) => state.give_up(&myself, error.into()),
            RootMessage::StartAgain(places) => {
                for (index, place) in places.iter().enumerate() {
                    if let Err(reason) = state.start(&myself, *place).await {
                        let rest = places.get(index..).unwrap_or_default();
                        state.failed(&myself, *place, state.name(*place), rest, reason.to_string()).await;
                        break;
                    }
                }
            }
            RootMessage::StopGroups(done) => {
                let all: Vec<usize> = (OWN + 1..=state.groups.len()).collect();
                state.stop(&all).await;
                let _ = done.send(()); // Nobody waits any more.
            }
        }
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
        // One that is not there any more was stopped here.
        if let Some((place, part)) = state.place_of(&actor) {
            state.failed(&myself, place, part, &[], reason).await;
        }
        Ok(())
    }
}

impl RootState {
    /// Starts what belongs to this place, unless it is there.
    async fn start(&mut self, root: &ActorRef<RootMessage>, place: usize) -> Result<(), NodeError> {
        if place == OWN {
            if self.own.is_none() {
                let own = self.arguments.start_own(root).await;
                self.own = Some(own.map_err(|error| NodeError::Transport(error.to_string()))?);
            }
            return Ok(());
        }
        let (Some(group), Some(running)) = (self.arguments.groups.get(place - 1), self.groups.get_mut(place - 1))
        else {
            return Ok(());
        };
        if running.is_none() {
            let arguments = (group.clone(), self.arguments.shared.environment.clone());
            let started = GroupSupervisor::spawn_linked(None, GroupSupervisor, arguments, root.get_cell()).await;
            let cannot =
                |error: ractor::SpawnErr| NodeError::Group { name: group.name.clone(), reason: error.to_string() };
            let (actor, _) = started.map_err(cannot)?;
            *running = Some(actor.get_cell());
        }
        Ok(())
    }

    /// Stops what is there of these, the last first.
    async fn stop(&mut self, places: &[usize]) {
        for place in places.iter().rev() {
            if *place == OWN {
                let Some(own) = self.own.take() else { continue };
                // So that nobody starts an instance meanwhile: it would have no link to speak to.
                self.arguments.shared.set_roles(None);
                for actor in [own.roles, own.link] {
                    // An error says that it is gone already.
                    let _ = actor.kill_and_wait(None).await;
                }
                self.arguments.shared.link_left().await;
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

    /// What is at `place` has failed, and the `rest` has not been started yet.
    async fn failed(
        &mut self,
        root: &ActorRef<RootMessage>,
        place: usize,
        part: String,
        rest: &[usize],
        reason: String,
    ) {
        let shared = self.arguments.shared.clone();
        let policy = &shared.settings.supervision.tree;
        let pause = self.restarts.failed(policy, shared.now_ms(), shared.environment.random());
        let times = self.restarts.times();
        let Some(pause) = pause else {
            let period_s = policy.period.as_secs();
            return self.give_up(root, NodeError::RestartedTooOften { part, times, period_s, reason });
        };
        tracing::error!(part, reason, times, "failed, and is restarted");
        let mut places: Vec<usize> = (OWN..=self.groups.len()).collect();
        places.retain(|other| policy.strategy.concerns(&place, other) || rest.contains(other));
        self.stop(&places).await;
        root.send_after(pause, move || RootMessage::StartAgain(places));
    }

    fn give_up(&self, root: &ActorRef<RootMessage>, error: NodeError) {
        tracing::error!(%error, "the node stops");
        self.arguments.failed.send_replace(Some(error));
        self.arguments.shared.set_link(None);
        self.arguments.shared.set_roles(None);
        self.arguments.shared.set_wire(None);
        self.arguments.shared.directory.close();
        root.kill();
    }
}

impl RootArguments {
    async fn start_own(&self, root: &ActorRef<RootMessage>) -> Result<Own, ActorProcessingErr> {
        // The link first: what a recovered instance says into the void it does not say again. A packet that comes
        // before the roles are there is one more that the wire has lost.
        let arguments = LinkArguments { shared: self.shared.clone(), transport: self.transport.clone() };
        let (link, task) = Link::spawn_linked(None, Link, arguments, root.get_cell()).await?;
        self.shared.set_link_task(task);
        match Roles::spawn_linked(None, Roles, self.shared.clone(), root.get_cell()).await {
            Ok((roles, _)) => Ok(Own { link: link.get_cell(), roles: roles.get_cell() }),
            Err(error) => {
                link.kill();
                Err(error.into())
            }
        }
    }
}
