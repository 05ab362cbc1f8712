//! The caller's handle on a session: its known progress, and waiting for its end.

use std::marker::PhantomData;

use accompanist_core::machine::Inspection;
use accompanist_core::message::decode;
use accompanist_core::record::Closed;
use accompanist_core::{Abort, Choreography, Located, Payload, SessionId};
use tokio::sync::watch;

use crate::error::SessionError;
use crate::operator::handle::{AskError, InstanceHandle};
use crate::runtime::messages::InstanceProgress;

/// A session that was started on this node.
///
/// Dropping the value changes nothing: the session continues.
///
/// ```
/// # use std::sync::Arc;
/// # use accompanist::prelude::*;
/// # use accompanist::store::MemoryDisk;
/// # use accompanist::transport::LocalNetwork;
/// # #[derive(Clone, Copy)] struct Buyer;
/// # impl Role for Buyer { const NAME: &'static str = "buyer"; type Service = (); }
/// # #[derive(Clone, Copy)] struct Seller;
/// # impl Role for Seller { const NAME: &'static str = "seller"; type Service = (); }
/// # struct Sale;
/// # impl Choreography for Sale {
/// #     const NAME: &'static str = "sale"; type Roles = (Buyer, Seller);
/// #     type Input = At<Buyer, u32>; type Output = At<Buyer, u32>;
/// #     async fn run(&self, ctx: &Context<Self::Roles>, books: At<Buyer, u32>) -> Result<At<Buyer, u32>, Abort> {
/// #         let books = ctx.comm(Buyer, Seller, &books).await?;
/// #         let enough = ctx.locally(Seller, |seller| *seller.get(&books) <= 10);
/// #         if !ctx.broadcast(Seller, &enough).await? {
/// #             return ctx.abort(Abort::new("sold-out", "there are ten")).await;
/// #         }
/// #         ctx.comm(Seller, Buyer, &ctx.locally(Seller, |seller| seller.get(&books) * 25)).await
/// #     }
/// # }
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let node = Node::builder(NodeId::new("shop-1")?)
/// #     .store(MemoryDisk::default().open()?).transport(LocalNetwork::new())
/// #     .role(Buyer, Arc::new(())).role(Seller, Arc::new(())).choreography(Sale)
/// #     .start().await?;
/// let session = node.start(Sale, 3).await?;
/// assert_eq!(session.output().await?, 75); // Durable here; a role that is not done could still abort.
/// assert_eq!(session.settled().await?, 75); // Final at all roles.
///
/// let id = session.id(); // All that a caller has to keep.
/// assert_eq!(node.session::<Sale>(id).await?.settled().await?, 75);
///
/// let Err(SessionError::Aborted(abort)) = node.start(Sale, 11).await?.settled().await else { panic!("it aborts") };
/// assert_eq!(abort.code(), "sold-out");
/// # node.shutdown().await;
/// # Ok(())
/// # }
/// ```
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

/// How long a caller waits.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Patience {
    /// However long it takes, also for an operator.
    Any,
    /// Until only an operator can help.
    UntilTrouble,
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
        self.wait(|progress| progress.output.clone(), Patience::Any).await
    }

    /// Waits for the output until the session is settled: all roles have finished, or all have compensated.
    ///
    /// # Errors
    /// Returns [`SessionError::Aborted`] when the session was aborted and everything is compensated, or another
    /// [`SessionError`].
    pub async fn settled(&self) -> Result<Output<C>, SessionError> {
        self.wait(|progress| progress.settled.clone(), Patience::Any).await
    }

    /// Waits like [`Session::settled`], but not for an operator: returns [`SessionError::InTrouble`] as soon as any
    /// role of the session reports that its part cannot continue without one, with the role, its node and the reason.
    ///
    /// A report is a hint that arrives a little late: an operator may have acted meanwhile, so a later call may wait
    /// again, and return the output.
    ///
    /// # Errors
    /// As [`Session::settled`], and [`SessionError::InTrouble`].
    pub async fn settled_or_trouble(&self) -> Result<Output<C>, SessionError> {
        self.wait(|progress| progress.settled.clone(), Patience::UntilTrouble).await
    }

    /// Returns what the session waits for, as its initiating role knows: the operations and steps of the initiating
    /// part, the roles whose end it waits for, and those that need an operator, with their nodes and reasons. Its text
    /// form is one sentence. `None` once the session is settled.
    ///
    /// # Errors
    /// Returns [`AskError`]; [`AskError::Stopped`] if the initiating part is stopped.
    pub async fn progress(&self) -> Result<Option<Inspection>, AskError> {
        match self.initiator.inspect().await {
            Ok(inspection) => Ok(Some(inspection)),
            Err(AskError::NotOpen(_)) if self.progress.borrow().settled.is_some() => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn wait(
        &self,
        fact: impl Fn(&InstanceProgress) -> Option<Result<Payload, Abort>>,
        patience: Patience,
    ) -> Result<Output<C>, SessionError> {
        let mut progress = self.progress.clone();
        let is_in_trouble =
            |progress: &InstanceProgress| patience == Patience::UntilTrouble && !progress.troubles.is_empty();
        let is_over = |progress: &InstanceProgress| {
            fact(progress).is_some() || progress.stopped.is_some() || is_in_trouble(progress)
        };
        let known = progress.wait_for(is_over).await.map_err(|_| SessionError::NodeStopped)?.clone();
        let session = self.id();
        match (fact(&known), known.stopped) {
            (Some(Ok(output)), _) => Ok(decode(output.as_slice())?),
            (Some(Err(abort)), _) => Err(SessionError::Aborted(abort)),
            (None, Some(reason)) => Err(SessionError::Stopped { session, reason }),
            (None, None) => Err(SessionError::InTrouble { session, troubles: known.troubles }),
        }
    }
}
