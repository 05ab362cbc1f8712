//! A node: owns the store, the transport, the clock and the actors, and is the entry point for callers. Nothing is
//! global.
//!
//! The supervision tree is `Root -> Link, Roles -> instances`, with the strategy rest for one. When the link fails,
//! the roles are stopped too, because unacknowledged frames were in the link's memory. Both are restarted; the
//! instances replay and send those frames again.

mod builder;
mod extension;
mod given;
pub(crate) mod handle;
mod letters;
mod life;
mod lookup;
mod membership;
mod operator;
mod root;
pub(crate) mod session;
mod start;
mod versions;
mod weak;

use std::sync::Arc;

use accompanist_core::contract::StoreError;
use accompanist_core::id::{InstanceId, RoleIndex};
use accompanist_core::{Choreography, Has, NodeId, Role, RoleSet, SessionId, State};
use ractor::ActorRef;

pub use self::builder::NodeBuilder;
pub(crate) use self::extension::Extension;
pub use self::membership::CastSession;
pub use self::operator::Operator;
use self::root::RootMessage;
pub use self::start::Start;
pub(crate) use self::weak::WeakNode;
use crate::node::handle::InstanceHandle;
use crate::runtime::context::NodeContext;

/// A running node. Clones are handles on the same node. A node runs until [`Node::shutdown`] or [`Node::kill`], or
/// until the tokio runtime that it was started on ends.
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
        let index = C::Roles::NAMES.iter().position(|name| *name == R::NAME).and_then(|index| u8::try_from(index).ok());
        let role = RoleIndex(index.unwrap_or(u8::MAX));
        InstanceHandle::new(InstanceId { session, role }, self.context.clone())
    }

    /// Returns what an operator of this node can see and do.
    pub fn operator(&self) -> Operator<'_> {
        Operator::new(&self.context)
    }
}
