//! What a room above the node gives to its builder, so that the node need not know it.

use super::WeakNode;
use crate::config::Settings;

/// A part above the node that comes to life with it.
pub(crate) trait Extension: Send + Sync {
    /// Takes what it needs of the node's settings, before anything runs.
    fn configure(&self, settings: &Settings);

    /// Takes the node, which runs now.
    fn started(&self, node: WeakNode);
}
