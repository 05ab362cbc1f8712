//! The caller's end of a session: what is known of its progress, and waiting for it.

use std::marker::PhantomData;

use accompanist_core::message::decode;
use accompanist_core::record::Closed;
use accompanist_core::{Abort, Choreography, Located, Payload, SessionId};
use tokio::sync::watch;

use crate::error::SessionError;
use crate::handle::{AskError, InstanceHandle};

/// What the initiating instance has told of itself. Each fact is set once and stays.
#[derive(Debug, Clone, Default)]
pub(crate) struct Progress {
    pub(crate) opened: bool,
    /// The version that it runs, once that is known.
    pub(crate) version: Option<u32>,
    pub(crate) output: Option<Result<Payload, Abort>>,
    pub(crate) settled: Option<Result<Payload, Abort>>,
    pub(crate) stopped: Option<String>,
}

/// A session that was started here.
///
/// Dropping it changes nothing: the session goes on.
pub struct Session<C: Choreography> {
    initiator: InstanceHandle,
    progress: watch::Receiver<Progress>,
    choreography: PhantomData<fn() -> C>,
}

impl<C: Choreography> std::fmt::Debug for Session<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Session<{}>({})", C::NAME, self.id())
    }
}

type Output<C> = <<C as Choreography>::Output as Located>::Value;

impl<C: Choreography> Session<C> {
    pub(crate) fn new(initiator: InstanceHandle, progress: watch::Receiver<Progress>) -> Self {
        Self { initiator, progress, choreography: PhantomData }
    }

    /// One that has closed: what is kept of it tells all there is to know.
    pub(crate) fn closed(initiator: InstanceHandle, closed: &Closed) -> Self {
        let version = Some(closed.header.version);
        let mut progress = Progress { opened: true, version, ..Progress::default() };
        progress.settle(closed);
        Self::new(initiator, watch::channel(progress).1)
    }

    /// Its id.
    pub fn id(&self) -> SessionId {
        self.initiator.id().session
    }

    /// The initiating role's part of it: to signal, or to ask for what it shows of its progress.
    pub fn initiator(&self) -> &InstanceHandle {
        &self.initiator
    }

    /// Aborts the session, unless it is over; what was committed is compensated. Cooperative: a commit that runs is
    /// let to its end. Durable when it returns. The abort's code is [`Abort::CANCELLED`]. Says whether it was in time;
    /// repeated with the same reason it says so again, until all is taken back.
    ///
    /// # Errors
    /// [`AskError`]; after [`AskError::NotOpen`] and [`AskError::NodeStopped`] it may have been aborted all the same.
    pub async fn cancel(&self, reason: &str) -> Result<bool, AskError> {
        match self.initiator.cancel(reason).await {
            Ok(()) => Ok(true),
            Err(AskError::NotOpen(_)) if self.progress.borrow().settled.is_some() => Ok(false),
            Err(AskError::DoesNotFit { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The version of the choreography that it runs; `None` if it stands still since before that was known.
    pub fn version(&self) -> Option<u32> {
        self.progress.borrow().version
    }

    /// The output, as soon as the program has ended here and all results it depends on are durable.
    ///
    /// Another role whose part is not over yet can still abort; use [`Session::settled`] to know.
    ///
    /// # Errors
    /// [`SessionError`] when the session was aborted or stands still.
    pub async fn output(&self) -> Result<Output<C>, SessionError> {
        self.wait(|progress| progress.output.clone()).await
    }

    /// The output, once the session is closed: all roles have finished, or all have compensated.
    ///
    /// # Errors
    /// [`SessionError::Aborted`] when it was aborted and everything is compensated, or another [`SessionError`].
    pub async fn settled(&self) -> Result<Output<C>, SessionError> {
        self.wait(|progress| progress.settled.clone()).await
    }

    async fn wait(
        &self,
        fact: impl Fn(&Progress) -> Option<Result<Payload, Abort>>,
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
