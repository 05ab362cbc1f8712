//! The session of a run: its header and input, and the node that plays each role.
//!
//! This module knows no role's state.

use std::sync::Arc;
use std::time::Duration;

use crate::base::id::{InstanceId, NodeId, RoleIndex, SessionId};
use crate::base::message::Payload;
use crate::frame::Header;
use crate::language::choreography::Choreography;
use crate::record::Opened;

/// What is fixed when the session starts.
pub(super) struct SessionStart {
    /// The nodes' names, by the role that each plays.
    nodes: Vec<NodeId>,
    header: Arc<Header>,
    input: Payload,
}

impl SessionStart {
    pub(super) fn new<C: Choreography>(
        roles: &[String],
        initiator: RoleIndex,
        input: Payload,
        deadline: Option<Duration>,
        now_unix_ms: u64,
    ) -> Self {
        let nodes: Vec<NodeId> = (0..roles.len()).map(|index| node_of(roles, index)).collect();
        let deadline_of =
            |deadline: Duration| now_unix_ms.saturating_add(u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX));
        let header = Header {
            choreography: C::NAME.into(),
            version: C::VERSION,
            initiator,
            cast: nodes.clone(),
            started_unix_ms: now_unix_ms,
            deadline_unix_ms: deadline.map(deadline_of),
            patches: C::PATCHES.iter().map(ToString::to_string).collect(),
            traceparent: None,
        };
        Self { nodes, header: Arc::new(header), input }
    }

    pub(super) fn header(&self) -> &Arc<Header> {
        &self.header
    }

    pub(super) fn initiator(&self) -> usize {
        usize::from(self.header.initiator.0)
    }

    /// Returns the input of the session at a role, which only the initiator has.
    pub(super) fn input_of(&self, role: usize) -> Option<Payload> {
        (role == self.initiator()).then(|| self.input.clone())
    }

    /// Returns the identity of a role's instance, and what it is opened with.
    pub(super) fn opened(&self, role: usize) -> (InstanceId, Opened) {
        let index = RoleIndex(u8::try_from(role).unwrap_or_default());
        let session = SessionId::keyed("stage", "session");
        (InstanceId { session, role: index }, Opened { header: self.header.clone(), input: self.input_of(role) })
    }

    pub(super) fn node(&self, role: usize) -> NodeId {
        self.nodes.get(role).cloned().unwrap_or_else(|| node_of(&[], role))
    }

    pub(super) fn played_by(&self, node: &NodeId) -> usize {
        self.nodes.iter().position(|known| known == node).unwrap_or_default()
    }
}

/// Returns the name of the role's node: that of the one role it plays, or its index if that is no valid node name.
#[expect(clippy::expect_used, reason = "a number is a name")]
fn node_of(roles: &[String], role: usize) -> NodeId {
    let named = roles.get(role).and_then(|name| NodeId::new(name).ok());
    named.unwrap_or_else(|| NodeId::new(role.to_string()).expect("a number is a name"))
}
