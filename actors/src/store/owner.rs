//! The owner of a store: the node and the system for which it was created. The owner is in the store itself, so that
//! a folder that was swapped, copied or renamed is detected before anything of it is served (decision 0033).
//!
//! The node's membership is in another row, whose presence is checked here. This module handles rows, and knows no
//! peers.

use accompanist_core::NodeId;
use accompanist_core::contract::{Batch, Change, Space, Store, StoreError};
use accompanist_core::record::{read_value, value_bytes};
use serde::{Deserialize, Serialize};

use super::STANDING_KEY;

/// The key of the owner in [`Space::Meta`].
const OWNER_KEY: &[u8] = b"owner";

/// The owner of a store, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Owner {
    node: NodeId,
    /// `None` until it is opened on a network that has a system.
    system: Option<String>,
}

/// Checks that the store belongs to `node` in `system` (`None` where the network has none; the system is not checked
/// then). Changes nothing; returns the changes to write: an older store, or a fresh one, is bound to its owner at its
/// first opening.
pub(crate) fn check_owner(store: &dyn Store, node: &NodeId, system: Option<&str>) -> Result<Batch, StoreError> {
    let stored: Option<Owner> =
        store.get(Space::Meta, OWNER_KEY)?.map(|value| read_value(Space::Meta, &value)).transpose()?;
    if let Some(owner) = &stored {
        if owner.node != *node {
            return Err(StoreError::OtherNode { found: owner.node.to_string(), given: node.to_string() });
        }
        if let (Some(found), Some(given)) = (&owner.system, system)
            && found != given
        {
            return Err(StoreError::OtherSystem { found: found.clone(), given: given.into() });
        }
        if store.get(Space::Meta, STANDING_KEY)?.is_none() {
            let reason = format!("it belongs to node `{node}`, and its membership is missing");
            return Err(StoreError::Corrupt { space: Space::Meta, reason });
        }
    }
    let known = stored.as_ref().and_then(|owner| owner.system.clone());
    let owner = Owner { node: node.clone(), system: known.or_else(|| system.map(Into::into)) };
    if stored.as_ref() == Some(&owner) {
        return Ok(Batch::new());
    }
    let value = value_bytes(&owner).map_err(|error| StoreError::Failed(error.to_string()))?;
    Ok(vec![Change { space: Space::Meta, key: OWNER_KEY.to_vec(), value: Some(value) }])
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    /// Later releases read these bytes from stores.
    #[test]
    fn the_bytes_of_the_owner_stay() {
        let store = crate::store::MemoryDisk::default().open().unwrap();
        let changes = check_owner(&store, &NodeId::new("bank").unwrap(), Some("shop")).unwrap();
        let value = Some(b"\x01\x04bank\x01\x04shop".to_vec());
        assert_eq!(changes, [Change { space: Space::Meta, key: b"owner".to_vec(), value }]);
    }
}
