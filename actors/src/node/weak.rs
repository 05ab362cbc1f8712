//! A weak handle on a node, for parts that the node itself holds.

use std::sync::{Arc, Weak};

use ractor::ActorRef;

use super::Node;
use super::root::RootMessage;
use crate::shared::Shared;

/// A weak handle on a node; see the module's documentation.
pub(crate) struct WeakNode {
    shared: Weak<Shared>,
    root: ActorRef<RootMessage>,
}

impl WeakNode {
    /// Returns the node, unless it has been dropped.
    pub(crate) fn upgrade(&self) -> Option<Node> {
        let shared = self.shared.upgrade()?;
        Some(Node { shared, root: self.root.clone() })
    }
}

impl Node {
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(crate) fn downgrade(&self) -> WeakNode {
        WeakNode { shared: Arc::downgrade(&self.shared), root: self.root.clone() }
    }
}
