//! A handle on one role's part of one session on this node, to signal it and to query its progress. The submodule
//! `operator` has the operator's actions on such a part.

mod operator;

use std::sync::Arc;

use accompanist_core::contract::StoreError;
use accompanist_core::id::InstanceId;
use accompanist_core::machine::{Inspection, SignalError, Status};
use accompanist_core::message::{CodecError, decode, encode_repeatable};
use accompanist_core::{Message, Path, Payload, SessionId};
use tokio::sync::oneshot;

use crate::runtime::context::NodeContext;
use crate::runtime::messages::{InstanceMessage, InstanceRequest, SupervisorMessage};

pub use self::operator::{InstanceOperator, UncompensatedStep};

/// The reasons why an instance cannot be asked.
#[derive(Clone, thiserror::Error)]
#[non_exhaustive]
pub enum AskError {
    /// The instance is not open here.
    #[error(
        "role {} of session {} is not open on this node: it has not begun here, is over, or is played by another node",
        .0.role.0, .0.session
    )]
    NotOpen(InstanceId),
    /// The instance is stopped.
    #[error(
        "session {session} is stopped: {reason}; `resume` it when what was in its way is gone, `abort` it, or, if its \
         program will not run any more, `terminate` it"
    )]
    Stopped {
        /// The stopped session.
        session: SessionId,
        /// The reason.
        reason: String,
    },
    /// An operator's action does not fit the state of the instance. Nothing has changed.
    #[error("`{way}` does not fit role {} of session {}, which {stands}: {instead}", .id.role.0, .id.session)]
    DoesNotFit {
        /// The instance: which part of which session.
        id: InstanceId,
        /// The action that was asked for.
        way: &'static str,
        /// The state of the instance.
        stands: &'static str,
        /// The action to take instead.
        instead: String,
    },
    /// The signal was refused.
    #[error(transparent)]
    Signal(#[from] SignalError),
    /// A value cannot be encoded, or has another type.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The node has stopped.
    #[error("the node has stopped")]
    NodeStopped,
}

accompanist_core::debug_as_text!(AskError);

/// A handle on one role's part of one session; see [`Node::instance`](crate::Node::instance).
///
/// ```
/// use accompanist::machine::Status;
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
/// async fn run(&self, ctx: &Context<Self::Roles>, books: At<Buyer, u32>) -> Result<At<Buyer, u32>, Abort> {
///     let books = ctx.comm(Buyer, Seller, &books).await?;
///     ctx.publish(Seller, &ctx.locally(Seller, |seller| format!("a price for {}?", seller.get(&books))));
///     let price: At<Seller, u32> = ctx.signal(Seller, "price").await?;
///     ctx.comm(Seller, Buyer, &price).await
/// }
/// # }
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let node = Node::builder(NodeId::new("shop-1")?)
/// #     .store(MemoryDisk::default().open()?).transport(LocalNetwork::new())
/// #     .role(Buyer, Arc::new(())).role(Seller, Arc::new(())).choreography(Sale)
/// #     .start().await?;
/// let session = node.start(Sale, 3).await?;
/// let seller = node.instance(Sale, session.id(), Seller); // The buyer's part is `session.initiator()`.
/// // The error is `AskError::NotOpen` until the seller's part has begun.
/// while seller.query::<String>().await.ok().flatten().as_deref() != Some("a price for 3?") {
///     tokio::task::yield_now().await;
/// }
/// assert_eq!(seller.status().await?, Status::Running);
///
/// seller.signal("price", "form 17", &70_u32).await?;
/// seller.signal("price", "form 17", &70_u32).await.ok(); // Repeated under its key: taken once.
/// assert_eq!(session.settled().await?, 70);
/// # node.shutdown().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct InstanceHandle {
    id: InstanceId,
    context: Arc<NodeContext>,
}

impl std::fmt::Debug for InstanceHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "InstanceHandle({})", self.id)
    }
}

impl InstanceHandle {
    pub(crate) fn new(id: InstanceId, context: Arc<NodeContext>) -> Self {
        Self { id, context }
    }

    /// Returns which instance this is.
    pub fn id(&self) -> InstanceId {
        self.id
    }

    pub(crate) fn operator(&self) -> InstanceOperator {
        InstanceOperator::new(self.id, self.context.clone())
    }

    async fn ask<T>(&self, question: impl Fn(oneshot::Sender<T>) -> InstanceRequest) -> Result<T, AskError> {
        let _permit = self.context.admissions.askers.acquire().await.map_err(|_| AskError::NodeStopped)?;
        let (reply, answer) = oneshot::channel();
        if self.context.directory.tell(self.id, InstanceMessage::Ask(question(reply))).is_ok()
            && let Ok(answer) = answer.await
        {
            return Ok(answer);
        }
        // The instance is not in memory, or has just failed without answering: ask its supervisor.
        let (reply, answer) = oneshot::channel();
        if !self.context.routes.to_supervisor(SupervisorMessage::Ask(self.id, question(reply))) {
            return Err(AskError::NodeStopped);
        }
        answer.await.map_err(|_| match self.context.operator.stopped_because(self.id) {
            Some(reason) => AskError::Stopped { session: self.id.session, reason },
            None => AskError::NotOpen(self.id),
        })
    }

    /// Sends a signal to the program, which waits for it with [`Context::signal`](crate::Context::signal) now or
    /// later. Durable when it returns. Repeat the call under the same `key` until it succeeds: the program receives
    /// the signal once (as long as it is among the last 1 024 that were received, or the session is open, whichever
    /// is shorter).
    ///
    /// # Errors
    /// Returns [`AskError`]; after [`AskError::NotOpen`] or [`AskError::NodeStopped`] the signal may have been
    /// received all the same.
    pub async fn signal<T: Message>(&self, name: &str, key: &str, value: &T) -> Result<(), AskError> {
        let payload: Payload = encode_repeatable(value)?.into();
        let question = |reply| {
            let (name, key, payload) = (name.to_owned(), key.to_owned(), payload.clone());
            InstanceRequest::Signal { name, key, payload, reply }
        };
        Ok(self.ask(question).await??)
    }

    /// Returns the progress that the program has last published with [`Context::publish`](crate::Context::publish).
    ///
    /// # Errors
    /// Returns [`AskError`].
    pub async fn query<V: Message>(&self) -> Result<Option<V>, AskError> {
        let view = self.ask(InstanceRequest::View).await?;
        Ok(view.map(|view| decode(view.as_slice())).transpose()?)
    }

    /// Returns the status of the instance. An instance that is over is no longer open.
    ///
    /// # Errors
    /// Returns [`AskError`].
    pub async fn status(&self) -> Result<Status, AskError> {
        self.ask(InstanceRequest::Status).await
    }

    /// Returns what the program waits for, by the path of each operation; for human readers.
    ///
    /// # Errors
    /// Returns [`AskError`].
    pub async fn waits_for(&self) -> Result<Vec<(Path, String)>, AskError> {
        self.ask(InstanceRequest::Waits).await
    }

    /// Returns what the instance waits for, on whom and since when: its program's operations, its steps with tries and
    /// last errors, signals that nobody has taken, roles that have not acknowledged or not ended, and, at the
    /// initiating role, the roles that cannot continue without an operator. For operators and their tools; the text
    /// form is one sentence. A passivated instance is loaded for it.
    ///
    /// ```
    /// use accompanist::machine::WaitKind;
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
    /// # async fn run(&self, ctx: &Context<Self::Roles>, books: At<Buyer, u32>) -> Result<At<Buyer, u32>, Abort> {
    /// #     ctx.comm(Buyer, Seller, &books).await?;
    /// #     let price: At<Seller, u32> = ctx.signal(Seller, "price").await?;
    /// #     ctx.comm(Seller, Buyer, &price).await
    /// # }
    /// # }
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let node = Node::builder(NodeId::new("shop-1")?)
    /// #     .store(MemoryDisk::default().open()?).transport(LocalNetwork::new())
    /// #     .role(Buyer, Arc::new(())).role(Seller, Arc::new(())).choreography(Sale)
    /// #     .start().await?;
    /// let session = node.start(Sale, 3).await?;
    /// let inspection = session.initiator().inspect().await?;
    /// let wait = &inspection.waits[0];
    /// assert_eq!((wait.kind, wait.text.as_str()), (WaitKind::Receive, "a comm from `seller`"));
    /// assert_eq!(
    ///     inspection.to_string(),
    ///     "running, waits for a comm from `seller` at node `shop-1` (operation 2)"
    /// );
    /// # node.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Returns [`AskError`]; [`AskError::Stopped`] for an instance that is stopped.
    pub async fn inspect(&self) -> Result<Inspection, AskError> {
        Ok(*self.ask(InstanceRequest::Inspect).await?)
    }

    /// Returns in one sentence what keeps the instance from progressing: for tests.
    ///
    /// # Errors
    /// Returns [`AskError`].
    #[cfg(feature = "testing")]
    pub(crate) async fn describe(&self) -> Result<String, AskError> {
        self.ask(InstanceRequest::Describe).await
    }
}
