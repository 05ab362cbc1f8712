//! A handle on a node that does not keep it: for what the node itself holds.

use std::sync::{Arc, Weak};

use ractor::ActorRef;

use super::Node;
use super::root::RootMessage;
use crate::shared::Shared;

/// See the module's documentation.
pub(crate) struct WeakNode {
    shared: Weak<Shared>,
    root: ActorRef<RootMessage>,
}

impl WeakNode {
    /// The node, unless all of it has gone.
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
