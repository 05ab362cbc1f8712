//! The caller's handle on a session: its known progress, and waiting for its end.

use std::marker::PhantomData;

use accompanist_core::message::decode;
use accompanist_core::record::Closed;
use accompanist_core::{Abort, Choreography, Located, Payload, SessionId};
use tokio::sync::watch;

use crate::error::SessionError;
use crate::node::handle::{AskError, InstanceHandle};
use crate::runtime::messages::InstanceProgress;

/// A session that was started on this node.
///
/// Dropping the value changes nothing: the session continues.
pub struct Session<C: Choreography> {
    initiator: InstanceHandle,
    progress: watch::Receiver<InstanceProgress>,
    choreography: PhantomData<fn() -> C>,
}

impl<C: Choreography> std::fmt::Debug for Session<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Session<{}>({})", C::NAME, self.id())
    }
}

type Output<C> = <<C as Choreography>::Output as Located>::Value;

impl<C: Choreography> Session<C> {
    pub(crate) fn new(initiator: InstanceHandle, progress: watch::Receiver<InstanceProgress>) -> Self {
        Self { initiator, progress, choreography: PhantomData }
    }

    /// A closed session: its retained record has all there is to know.
    pub(crate) fn closed(initiator: InstanceHandle, closed: &Closed) -> Self {
        let version = Some(closed.header.version);
        let mut progress = InstanceProgress { opened: true, version, ..InstanceProgress::default() };
        progress.settle(closed);
        Self::new(initiator, watch::channel(progress).1)
    }

    /// Returns the session's id.
    pub fn id(&self) -> SessionId {
        self.initiator.id().session
    }

    /// Returns the handle on the initiating role's part, to signal it or to query its progress.
    pub fn initiator(&self) -> &InstanceHandle {
        &self.initiator
    }

    /// Aborts the session unless it is over, and compensates what was committed. Cancelling is cooperative: a running
    /// commit is left to end. Durable when it returns. The abort's code is [`Abort::CANCELLED`]. Returns whether the
    /// call was in time; repeated with the same reason it returns the same, until everything is compensated.
    ///
    /// # Errors
    /// Returns [`AskError`]; after [`AskError::NotOpen`] and [`AskError::NodeStopped`] the session may have been
    /// aborted all the same.
    pub async fn cancel(&self, reason: &str) -> Result<bool, AskError> {
        match self.initiator.operator().cancel(reason).await {
            Ok(()) => Ok(true),
            Err(AskError::NotOpen(_)) if self.progress.borrow().settled.is_some() => Ok(false),
            Err(AskError::DoesNotFit { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Returns the version of the choreography that the session runs; `None` if the session stopped before that was
    /// known.
    pub fn version(&self) -> Option<u32> {
        self.progress.borrow().version
    }

    /// Waits for the output, which is available as soon as the program has ended here and all results it depends on
    /// are durable.
    ///
    /// Another role whose part is not over yet can still abort; wait for [`Session::settled`] to be sure.
    ///
    /// # Errors
    /// Returns [`SessionError`] when the session was aborted or is stopped.
    pub async fn output(&self) -> Result<Output<C>, SessionError> {
        self.wait(|progress| progress.output.clone()).await
    }

    /// Waits for the output until the session is settled: all roles have finished, or all have compensated.
    ///
    /// # Errors
    /// Returns [`SessionError::Aborted`] when the session was aborted and everything is compensated, or another
    /// [`SessionError`].
    pub async fn settled(&self) -> Result<Output<C>, SessionError> {
        self.wait(|progress| progress.settled.clone()).await
    }

    async fn wait(
        &self,
        fact: impl Fn(&InstanceProgress) -> Option<Result<Payload, Abort>>,
    ) -> Result<Output<C>, SessionError> {
        let mut progress = self.progress.clone();
        let known = progress.wait_for(|progress| fact(progress).is_some() || progress.stopped.is_some()).await;
        let known = known.map_err(|_| SessionError::NodeStopped)?.clone();
        match (fact(&known), known.stopped) {
            (Some(Ok(output)), _) => Ok(decode(output.as_slice())?),
            (Some(Err(abort)), _) => Err(SessionError::Aborted(abort)),
            (None, reason) => Err(SessionError::Stopped { session: self.id(), reason: reason.unwrap_or_default() }),
        }
    }
}
