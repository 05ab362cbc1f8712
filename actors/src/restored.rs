//! What is done here when a peer goes on with an older copy of its store: all sessions that it is cast in are brought back into
//! memory, so that their parts here say again what it may have forgotten, and ask for what they wait for (decision 0033).

use accompanist_core::NodeId;

use crate::roles::RolesMessage;
use crate::shared::Shared;

impl Shared {
    /// Brings back all instances that are open here whose sessions have `node` in their cast, to nudge at once. Those that are in
    /// memory ask by themselves.
    pub(crate) fn ask_anew(&self, node: &NodeId) {
        tracing::warn!(peer = %node, "sessions ask a peer anew, since it goes on with an older copy of its store");
        // Between two trees of actors all instances come back anyway.
        let _ = self.to_roles(RolesMessage::NudgeAllOf(node.clone()));
    }
}
