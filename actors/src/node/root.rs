//! The root of a node's tree: link and roles, restarted together, and given up when that does not help.

use std::collections::VecDeque;
use std::sync::Arc;

use accompanist_core::contract::{StoreError, Transport};
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::error::NodeError;
use crate::link::{Link, LinkArguments};
use crate::roles::Roles;
use crate::shared::Shared;

/// What the root is told.
pub(super) enum RootMessage {
    StoreFailed(StoreError),
}

pub(super) struct Root;

pub(super) struct RootArguments {
    pub(super) shared: Arc<Shared>,
    pub(super) transport: Arc<dyn Transport>,
    pub(super) failed: watch::Sender<Option<NodeError>>,
}

pub(super) struct RootState {
    arguments: RootArguments,
    link: ActorCell,
    roles: ActorCell,
    restarts: VecDeque<Instant>,
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
        let (link, roles) = arguments.start_tree(&myself).await?;
        let mut failed = arguments.shared.writer.failed();
        let root = myself.clone();
        tokio::spawn(async move {
            // An error says that the writer has ended without one.
            if let Ok(Some(error)) = failed.wait_for(Option::is_some).await.map(|error| error.clone()) {
                let _ = root.cast(RootMessage::StoreFailed(error)); // Stopped already, if it is gone.
            }
        });
        Ok(RootState { arguments, link, roles, restarts: VecDeque::new() })
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
        let part = if actor.get_id() == state.link.get_id() {
            "link"
        } else if actor.get_id() == state.roles.get_id() {
            "supervisor of roles"
        } else {
            return Ok(()); // Of an earlier tree.
        };
        state.restart(&myself, part, reason).await
    }
}

impl RootArguments {
    async fn start_tree(&self, root: &ActorRef<RootMessage>) -> Result<(ActorCell, ActorCell), ActorProcessingErr> {
        // The link first: what a recovered instance says into the void it does not say again. A packet that comes
        // before the roles are there is one more that the wire has lost.
        let arguments = LinkArguments { shared: self.shared.clone(), transport: self.transport.clone() };
        let (link, task) = Link::spawn_linked(None, Link, arguments, root.get_cell()).await?;
        self.shared.set_link_task(task);
        match Roles::spawn_linked(None, Roles, self.shared.clone(), root.get_cell()).await {
            Ok((roles, _)) => Ok((link.get_cell(), roles.get_cell())),
            Err(error) => {
                link.kill();
                Err(error.into())
            }
        }
    }
}

impl RootState {
    async fn restart(
        &mut self,
        root: &ActorRef<RootMessage>,
        part: &'static str,
        reason: String,
    ) -> Result<(), ActorProcessingErr> {
        let settings = &self.arguments.shared.settings;
        let (now, period) = (Instant::now(), settings.tree_restart_period);
        self.restarts.push_back(now);
        while self.restarts.front().is_some_and(|at| now.duration_since(*at) > period) {
            self.restarts.pop_front();
        }
        let times = u32::try_from(self.restarts.len()).unwrap_or(u32::MAX);
        if times > settings.tree_restarts_max {
            self.give_up(root, NodeError::RestartedTooOften { part, times, period_s: period.as_secs(), reason });
            return Ok(());
        }
        tracing::error!(part, reason, times, "failed, link and roles are restarted");
        // So that nobody starts an instance meanwhile: it would have no link to speak to.
        self.arguments.shared.set_roles(None);
        for actor in [&self.roles, &self.link] {
            // An error says that it is gone already.
            let _ = actor.kill_and_wait(None).await;
        }
        self.arguments.shared.link_left().await;
        match self.arguments.start_tree(root).await {
            Ok(tree) => (self.link, self.roles) = tree,
            Err(error) => self.give_up(root, NodeError::Transport(error.to_string())),
        }
        Ok(())
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
