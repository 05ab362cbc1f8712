//! An actor whose panics are caught here, before ractor catches them.
//!
//! ractor drops a panic's payload without a guard: a payload whose drop panics too ends the actor as if its task had
//! been cancelled. Here a panic becomes a failure with a text, like every other failure. This module knows nothing
//! about particular actors.

use accompanist_core::panics;
use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};

/// See the module's documentation.
pub(crate) struct Guarded<A>(pub(crate) A);

/// Turns a panic in `callback` into its failure.
async fn guard<T>(callback: impl Future<Output = Result<T, ActorProcessingErr>>) -> Result<T, ActorProcessingErr> {
    panics::catch_async(callback).await.unwrap_or_else(|panic| Err(format!("it panicked: {panic}").into()))
}

impl<A: Actor> Actor for Guarded<A> {
    type Msg = A::Msg;
    type State = A::State;
    type Arguments = A::Arguments;

    async fn pre_start(
        &self,
        myself: ActorRef<A::Msg>,
        arguments: A::Arguments,
    ) -> Result<A::State, ActorProcessingErr> {
        guard(self.0.pre_start(myself, arguments)).await
    }

    async fn post_start(&self, myself: ActorRef<A::Msg>, state: &mut A::State) -> Result<(), ActorProcessingErr> {
        guard(self.0.post_start(myself, state)).await
    }

    async fn post_stop(&self, myself: ActorRef<A::Msg>, state: &mut A::State) -> Result<(), ActorProcessingErr> {
        guard(self.0.post_stop(myself, state)).await
    }

    async fn handle(
        &self,
        myself: ActorRef<A::Msg>,
        message: A::Msg,
        state: &mut A::State,
    ) -> Result<(), ActorProcessingErr> {
        guard(self.0.handle(myself, message, state)).await
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<A::Msg>,
        event: SupervisionEvent,
        state: &mut A::State,
    ) -> Result<(), ActorProcessingErr> {
        guard(self.0.handle_supervisor_evt(myself, event, state)).await
    }
}
