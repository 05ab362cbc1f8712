//! The reaction to a peer that continues with an older copy of its store: all sessions that cast it are reactivated,
//! so that their parts here resend what it may have lost, and ask for what they wait for (decision 0033).

use accompanist_core::NodeId;

use crate::runtime::context::NodeContext;
use crate::runtime::supervisor::SupervisorMessage;

impl NodeContext {
    /// Reactivates all instances that are open here and whose sessions cast `node`, to nudge at once. Instances in
    /// memory ask by themselves.
    pub(crate) fn ask_anew(&self, node: &NodeId) {
        tracing::warn!(peer = %node, "sessions ask a peer anew, since it goes on with an older copy of its store");
        // Between two trees of actors all instances are reactivated anyway.
        let _ = self.to_supervisor(SupervisorMessage::NudgeAllOf(node.clone()));
    }
}
