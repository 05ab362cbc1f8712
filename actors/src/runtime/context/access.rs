//! Who may do what, as far as a members file says so: without one everyone may do everything.

use std::sync::Arc;

use accompanist_core::frame::Header;
use accompanist_core::{NodeId, RoleNames};

use crate::security::members::watch::CurrentMembers;
use crate::security::seal::Seal;

/// The rights of the nodes; see the module's documentation.
pub(crate) struct Access(pub(crate) Option<Arc<CurrentMembers>>);

impl Access {
    /// Returns why a session with this header is refused, if it is; `roles` are the names of its roles.
    pub(crate) fn refusal(&self, header: &Header, roles: RoleNames) -> Option<String> {
        self.0.as_ref().and_then(|members| members.get().refusal(header, roles))
    }

    /// Returns whether a members file says who may do what.
    pub(crate) fn has_members(&self) -> bool {
        self.0.is_some()
    }

    /// Returns whether `node` belongs to the system.
    pub(crate) fn is_member(&self, node: &NodeId) -> bool {
        self.0.as_ref().is_none_or(|members| members.get().has(node))
    }

    /// Returns whether `node` may play `role`.
    pub(crate) fn may_play(&self, node: &NodeId, role: &str) -> bool {
        self.0.as_ref().is_none_or(|members| members.get().may_play(node, role))
    }

    /// Returns whether `node` may start sessions of `choreography`.
    pub(crate) fn may_start(&self, node: &NodeId, choreography: &str) -> bool {
        self.0.as_ref().is_none_or(|members| members.get().may_start(node, choreography))
    }

    /// Returns whether `node` is an operator's, so that its statements about other nodes are believed; false without
    /// a members file.
    pub(crate) fn is_operator(&self, node: &NodeId) -> bool {
        self.0.as_ref().is_some_and(|members| members.get().is_operator(node))
    }

    /// Returns the keys that packets are sealed with, if this node seals.
    pub(crate) fn seal(&self) -> Option<Arc<Seal>> {
        self.0.as_ref().and_then(|members| members.seal())
    }
}
