//! Who may do what over the network. What a network lets through is one thing; that the caller is an operator's member
//! is checked here once more, by the members file.

use accompanist_core::NodeId;
use accompanist_core::contract::AdminAccess;

use super::error::{AdminError, AdminErrorCode};
use crate::config::AdminNetworkAccess;
use crate::runtime::context::NodeContext;

/// Checks that `caller` may ask this node over the network.
pub(super) fn check(context: &NodeContext, caller: &NodeId, access: AdminAccess) -> Result<(), AdminError> {
    let forbidden = |text: String| Err(AdminError::new(AdminErrorCode::Forbidden, text));
    match (context.settings.admin.network, access) {
        (AdminNetworkAccess::Off, _) | (AdminNetworkAccess::Read, AdminAccess::Write) => {
            let permitted = context.settings.admin.network.name();
            return forbidden(format!(
                "node `{}` has `admin.network = \"{permitted}\"`: change that, or use another way to it",
                context.node
            ));
        }
        _ => {}
    }
    if context.access.has_members() && !context.access.is_operator(caller) {
        return forbidden(format!(
            "`{caller}` is not an operator's in the members file of node `{}`: `accompanist security add-node {caller} \
             --operator` makes one, or set `operator = true` in its table there",
            context.node
        ));
    }
    Ok(())
}
