//! A node: owns the store, the transport, the clock and the actors, and is the entry point for callers. Nothing is
//! global.
//!
//! The supervision tree is `Root -> Link, Roles -> instances`, with the strategy rest for one. When the link fails,
//! the roles are stopped too, because unacknowledged frames were in the link's memory. Both are restarted; the
//! instances replay and send those frames again.

mod builder;
mod configured;
mod extension;
mod given;
mod health;
mod life;
mod lookup;
mod root;
pub(crate) mod session;
mod start;
mod versions;
mod weak;

use std::sync::Arc;

use accompanist_core::contract::StoreError;
use accompanist_core::id::{InstanceId, RoleIndex};
use accompanist_core::{Choreography, Has, Many, NodeId, Role, RoleNames, RoleSet, SessionId, State};
use ractor::ActorRef;

pub use self::builder::NodeBuilder;
pub(crate) use self::extension::Extension;
use self::root::RootMessage;
pub use self::start::Start;
pub(crate) use self::weak::WeakNode;
use crate::admin::Admin;
use crate::operator::Operator;
use crate::operator::handle::InstanceHandle;
use crate::runtime::context::NodeContext;

/// A running node. Clones are handles on the same node. A node runs until [`Node::shutdown`] or [`Node::kill`], or
/// until the tokio runtime that it was started on ends.
///
/// One program on two nodes, here in one process. Between machines a node has a Zenoh transport and a
/// [`FjallStore`](crate::store::FjallStore).
///
/// ```
/// # use std::sync::Arc;
/// use accompanist::prelude::*;
/// use accompanist::store::MemoryDisk;
/// use accompanist::transport::LocalNetwork;
///
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
/// #         ctx.comm(Seller, Buyer, &ctx.locally(Seller, |seller| seller.get(&books) * 25)).await
/// #     }
/// # }
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let network = LocalNetwork::new();
/// let seller = Node::builder(NodeId::new("seller-1")?)
///     .store(MemoryDisk::default().open()?)
///     .transport(network.clone())
///     .role(Seller, Arc::new(()))
///     .choreography(Sale) // The buyer asks for the price of some books, and the seller says it.
///     .start()
///     .await?;
/// let buyer = Node::builder(NodeId::new("buyer-1")?)
///     .store(MemoryDisk::default().open()?)
///     .transport(network)
///     .role(Buyer, Arc::new(()))
///     .choreography(Sale)
///     .start()
///     .await?;
///
/// assert_eq!(buyer.start(Sale, 3).await?.settled().await?, 75);
/// let error = seller.start(Sale, 3).await.unwrap_err(); // The input is the buyer's, so only its node starts sales.
/// assert!(matches!(error, StartError::NotPlayedHere { role: "buyer" }));
/// buyer.shutdown().await;
/// seller.shutdown().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Node {
    context: Arc<NodeContext>,
    root: ActorRef<RootMessage>,
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Node({})", self.context.node)
    }
}

impl Node {
    /// Returns a builder for a node of this name; see [`NodeBuilder`].
    pub fn builder(name: NodeId) -> NodeBuilder {
        NodeBuilder::new(name)
    }

    /// Returns the node's name.
    pub fn name(&self) -> &NodeId {
        &self.context.node
    }

    /// Reads the built-in state of `role`, as of the last group commit.
    ///
    /// # Errors
    /// [`StoreError`] when the store is closed.
    pub async fn read_state<R: Role, T: Send + 'static>(
        &self,
        _role: R,
        read: impl FnOnce(&State<'_>) -> T + Send + 'static,
    ) -> Result<T, StoreError> {
        self.context.writer.read(move |store| Ok(read(&State::new(&store, R::NAME)))).await
    }

    /// Returns a handle on the part of `role` in a session of `choreography` on this node. The session's version must
    /// have the roles of this one.
    pub fn instance<C: Choreography, R: Role, I>(
        &self,
        _choreography: C,
        session: SessionId,
        _role: R,
    ) -> InstanceHandle
    where
        C::Roles: Has<R, I>,
    {
        let role = RoleNames::new(C::Roles::NAMES, C::Roles::FAMILY).index_of(R::NAME);
        let role = role.unwrap_or(RoleIndex(u8::MAX));
        InstanceHandle::new(InstanceId { session, role }, self.context.clone())
    }

    /// Returns a handle on the part of one member of a role family, by its number from 0, as [`Node::instance`] does
    /// for a single role.
    pub fn member_instance<C: Choreography, R: Role, I>(
        &self,
        _choreography: C,
        session: SessionId,
        _role: R,
        number: u8,
    ) -> InstanceHandle
    where
        C::Roles: Has<Many<R>, I>,
    {
        let role = RoleNames::new(C::Roles::NAMES, C::Roles::FAMILY).member(number);
        InstanceHandle::new(InstanceId { session, role }, self.context.clone())
    }

    /// Returns the administrative interface of this node, with which operators' tools speak.
    pub fn admin(&self) -> Admin {
        Admin::new(self.context.clone())
    }

    /// Returns what an operator of this node can see and do.
    pub fn operator(&self) -> Operator<'_> {
        Operator::new(&self.context)
    }
}
