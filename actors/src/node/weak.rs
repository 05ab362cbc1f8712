//! A weak handle on a node, for parts that the node itself holds.

use std::sync::{Arc, Weak};

use ractor::ActorRef;

use super::Node;
use super::root::RootMessage;
use crate::runtime::context::NodeContext;

/// A weak handle on a node; see the module's documentation.
pub(crate) struct WeakNode {
    context: Weak<NodeContext>,
    root: ActorRef<RootMessage>,
}

impl WeakNode {
    /// Returns the node, unless it has been dropped.
    pub(crate) fn upgrade(&self) -> Option<Node> {
        let context = self.context.upgrade()?;
        Some(Node { context, root: self.root.clone() })
    }
}

impl Node {
    pub(crate) fn context(&self) -> &Arc<NodeContext> {
        &self.context
    }

    pub(crate) fn downgrade(&self) -> WeakNode {
        WeakNode { context: Arc::downgrade(&self.context), root: self.root.clone() }
    }
}
