//! A service's own actors in the node's tree: their description, and the supervisor of one group of them.

use std::fmt::{self, Display};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use accompanist_core::contract::{BoxFuture, Environment};
use accompanist_core::panics;
use ractor::{Actor, ActorCell, ActorId, ActorProcessingErr, ActorRef, SpawnErr, SupervisionEvent};

use super::restarts::Restarts;
use crate::config::Policy;

/// How long an actor may take to stop; after that it is killed, at its next await.
const STOP_MAX: Duration = Duration::from_secs(5);

/// When an actor of a group is restarted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Restart {
    /// Restarted whenever it has ended.
    #[default]
    Permanent,
    /// Restarted when it has failed, but not when it has stopped by itself.
    Transient,
    /// Never restarted. If the group's [strategy](super::Strategy) requires it, the actor is stopped when another one
    /// fails.
    Temporary,
}

type Start = dyn Fn(ActorCell) -> BoxFuture<'static, Result<ActorCell, SpawnErr>> + Send + Sync;

struct Child {
    name: String,
    restart: Restart,
    start: Box<Start>,
}

/// Actors of your own, supervised together. They are placed in the node's tree, after its own actors: see
/// [`NodeBuilder::supervise`](crate::NodeBuilder::supervise).
///
/// ```
/// use accompanist::ractor::{Actor, ActorProcessingErr, ActorRef};
/// use accompanist::supervision::{Group, Policy, Restart, Strategy};
/// use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
/// # use std::sync::Arc;
/// # use accompanist::prelude::*;
/// # use accompanist::store::MemoryDisk;
/// # use accompanist::transport::LocalNetwork;
///
/// /// Fails above 3000 watts. Whoever wants to send it a value hears of each start.
/// struct Meter;
/// impl Actor for Meter {
///     type Msg = u32;
///     type State = ();
///     type Arguments = UnboundedSender<ActorRef<u32>>;
///     async fn pre_start(&self, meter: ActorRef<u32>, starts: Self::Arguments) -> Result<(), ActorProcessingErr> {
///         Ok(starts.send(meter)?)
///     }
///     async fn handle(&self, _: ActorRef<u32>, watts: u32, (): &mut ()) -> Result<(), ActorProcessingErr> {
///         if watts > 3_000 { Err("the fuse has blown".into()) } else { Ok(()) }
///     }
/// }
///
/// # #[derive(Clone, Copy)] struct Seller;
/// # impl Role for Seller { const NAME: &'static str = "seller"; type Service = (); }
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (starts, mut started) = unbounded_channel();
/// let group = Group::new("meters")
///     .policy(Policy { strategy: Strategy::OneForAll, ..Policy::default() })
///     .child("kitchen", Restart::Permanent, move |supervisor| {
///         let starts = starts.clone();
///         async { Ok(Actor::spawn_linked(None, Meter, starts, supervisor).await?.0.get_cell()) }
///     });
/// # let builder = Node::builder(NodeId::new("shop-1")?).store(MemoryDisk::default().open()?);
/// # let builder = builder.transport(LocalNetwork::new()).role(Seller, Arc::new(()));
/// let node = builder.supervise(group).start().await?;
///
/// let meter = started.recv().await.ok_or("never started")?;
/// meter.send_message(4_000)?;
/// let restarted = started.recv().await.ok_or("not restarted")?;
/// assert_ne!(restarted.get_id(), meter.get_id());
/// # node.shutdown().await;
/// # Ok(())
/// # }
/// ```
pub struct Group {
    pub(crate) name: String,
    pub(crate) policy: Policy,
    /// How often a policy was given.
    policies: u32,
    children: Vec<Child>,
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let children: Vec<_> = self.children().collect();
        f.debug_struct("Group").field("name", &self.name).field("children", &children).finish_non_exhaustive()
    }
}

impl Group {
    /// Creates a group without actors. The name is the group's place in `accompanist.toml`,
    /// `[supervision.groups.NAME]`.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), policy: Policy::default(), policies: 0, children: Vec::new() }
    }

    /// Sets how failures of the group's actors are handled, unless the configuration says otherwise. One failure more
    /// than is allowed is the group's own failure, which the node's tree handles.
    #[must_use]
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self.policies += 1;
        self
    }

    /// Adds an actor. `start` is called at each start, with the cell to which the actor must be linked
    /// (`spawn_linked`). The actor must have no ractor name, or a new one at each start. Actors are started in the
    /// order given, and stopped in the reverse order.
    #[must_use]
    pub fn child<F>(
        mut self,
        name: impl Into<String>,
        restart: Restart,
        start: impl Fn(ActorCell) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Result<ActorCell, SpawnErr>> + Send + 'static,
    {
        let start: Box<Start> = Box::new(move |supervisor| Box::pin(start(supervisor)));
        self.children.push(Child { name: name.into(), restart, start });
        self
    }

    /// Returns what was given twice, if anything was.
    pub(crate) fn given_twice(&self) -> Option<String> {
        if self.policies > 1 {
            return Some("two policies were given to it: leave one out".into());
        }
        let twice = |name: &&str| self.children().filter(|other| other == name).count() > 1;
        let name = self.children().find(twice)?;
        Some(format!("two of its actors are named `{name}`: give each a name of its own"))
    }

    /// Returns the names of the group's actors.
    pub fn children(&self) -> impl Iterator<Item = &str> {
        self.children.iter().map(|child| child.name.as_str())
    }
}

/// Returns why an actor cannot be started, in terms that its author understands.
pub(crate) fn why_not_started(error: &SpawnErr) -> String {
    match error {
        SpawnErr::StartupFailed(error) => error.to_string(),
        SpawnErr::ActorAlreadyStarted => "it was started before".into(),
        SpawnErr::ActorAlreadyRegistered(name) => {
            format!("an actor named `{name}` is running in this process: give it no name, or another one at each start")
        }
    }
}

/// Stops an actor and waits until it has ended, so that it never runs twice.
pub(crate) async fn stop(actor: &ActorCell) {
    if actor.stop_and_wait(None, Some(STOP_MAX)).await.is_err() {
        // An error means that the actor is already gone.
        let _ = actor.kill_and_wait(None).await;
    }
}

/// The supervisor of one group.
pub(crate) struct GroupSupervisor;

/// A request to start actors again, by their places.
pub(crate) struct StartAgain(Vec<usize>);

pub(crate) struct GroupState {
    group: Arc<Group>,
    environment: Arc<dyn Environment>,
    /// The running actors, by place.
    running: Vec<Option<ActorCell>>,
    restarts: Restarts,
}

impl Actor for GroupSupervisor {
    type Msg = StartAgain;
    type State = GroupState;
    type Arguments = (Arc<Group>, Arc<dyn Environment>);

    async fn pre_start(
        &self,
        myself: ActorRef<StartAgain>,
        (group, environment): Self::Arguments,
    ) -> Result<GroupState, ActorProcessingErr> {
        let running = group.children.iter().map(|_| None).collect();
        let mut state = GroupState { group, environment, running, restarts: Restarts::default() };
        for place in 0..state.group.children.len() {
            if let Err(error) = state.start(&myself, place).await {
                let whole: Vec<usize> = (0..place).collect();
                state.stop(&whole).await;
                return Err(error.into());
            }
        }
        Ok(state)
    }

    async fn handle(
        &self,
        myself: ActorRef<StartAgain>,
        StartAgain(places): StartAgain,
        state: &mut GroupState,
    ) -> Result<(), ActorProcessingErr> {
        for (index, place) in places.iter().enumerate() {
            if let Err(error) = state.start(&myself, *place).await {
                let rest = places.get(index..).unwrap_or_default();
                return state.failed(&myself, *place, rest, &error).await;
            }
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<StartAgain>,
        event: SupervisionEvent,
        state: &mut GroupState,
    ) -> Result<(), ActorProcessingErr> {
        match event {
            SupervisionEvent::ActorFailed(actor, error) => match state.ended(actor.get_id()) {
                Some((place, Restart::Permanent | Restart::Transient)) => {
                    state.failed(&myself, place, &[], &error).await?;
                }
                Some((place, Restart::Temporary)) => state.note(place, &error),
                None => {} // It was stopped here.
            },
            SupervisionEvent::ActorTerminated(actor, kept, reason) => {
                let reason = reason.unwrap_or_else(|| "it has stopped".into());
                // An actor that was killed, or whose task is gone, has not stopped by itself and leaves no state.
                let (has_failed, ended) = (kept.is_none(), state.ended(actor.get_id()));
                if let Err(panic) = panics::catch(|| drop(kept)) {
                    tracing::error!(
                        group = state.group.name,
                        error = panic,
                        "the state of an actor panicked when it was dropped"
                    );
                }
                match ended {
                    Some((place, Restart::Permanent)) => state.failed(&myself, place, &[], &reason).await?,
                    Some((place, Restart::Transient)) if has_failed => {
                        state.failed(&myself, place, &[], &reason).await?;
                    }
                    Some((place, Restart::Temporary)) if has_failed => state.note(place, &reason),
                    _ => {} // It was stopped here, or stopped by itself.
                }
            }
            _ => {}
        }
        Ok(())
    }

    async fn post_stop(&self, _: ActorRef<StartAgain>, state: &mut GroupState) -> Result<(), ActorProcessingErr> {
        let whole: Vec<usize> = (0..state.running.len()).collect();
        state.stop(&whole).await;
        Ok(())
    }
}

impl GroupState {
    async fn start(&mut self, myself: &ActorRef<StartAgain>, place: usize) -> Result<(), String> {
        let (Some(child), Some(running)) = (self.group.children.get(place), self.running.get_mut(place)) else {
            return Ok(());
        };
        if running.is_some() {
            return Ok(()); // Two failures both requested this start.
        }
        let started = (child.start)(myself.get_cell()).await;
        let why = |error| format!("actor `{}` cannot be started: {}", child.name, why_not_started(&error));
        *running = Some(started.map_err(why)?);
        Ok(())
    }

    /// Stops the running actors among these, the last first.
    async fn stop(&mut self, places: &[usize]) {
        for place in places.iter().rev() {
            if let Some(actor) = self.running.get_mut(*place).and_then(Option::take) {
                stop(&actor).await;
            }
        }
    }

    /// Returns the place of the actor that has ended, and when it is to be restarted.
    fn ended(&mut self, actor: ActorId) -> Option<(usize, Restart)> {
        let is_it = |running: &Option<ActorCell>| running.as_ref().is_some_and(|running| running.get_id() == actor);
        let place = self.running.iter().position(is_it)?;
        *self.running.get_mut(place)? = None;
        Some((place, self.group.children.get(place)?.restart))
    }

    fn name(&self, place: usize) -> &str {
        self.group.children.get(place).map_or("", |child| child.name.as_str())
    }

    fn note(&self, place: usize, reason: &(dyn Display + Sync)) {
        tracing::warn!(
            group = self.group.name, actor = self.name(place), error = %reason,
            "an actor failed and is not restarted"
        );
    }

    /// Handles the failure of one actor; the `rest` has not been started yet.
    async fn failed(
        &mut self,
        myself: &ActorRef<StartAgain>,
        place: usize,
        rest: &[usize],
        reason: &(dyn Display + Sync),
    ) -> Result<(), ActorProcessingErr> {
        let policy = &self.group.policy;
        let pause = self.restarts.failed(policy, self.environment.monotonic_ms(), self.environment.random());
        let times = self.restarts.times();
        let Some(pause) = pause else {
            let period = humantime::format_duration(policy.period);
            let text = format!(
                "its actors failed {times} times in {period}, the last one, `{}`, with: {reason}",
                self.name(place)
            );
            let all: Vec<usize> = (0..self.running.len()).collect();
            self.stop(&all).await;
            return Err(text.into());
        };
        tracing::warn!(
            group = self.group.name, actor = self.name(place), error = %reason, times,
            "an actor failed and is restarted"
        );
        let strategy = policy.strategy;
        let mut places: Vec<usize> = (0..self.running.len()).collect();
        places.retain(|other| strategy.concerns(&place, other) || rest.contains(other));
        self.stop(&places).await;
        places.retain(|place| self.group.children.get(*place).is_some_and(|child| child.restart != Restart::Temporary));
        myself.send_after(pause, move || StartAgain(places));
        Ok(())
    }
}
