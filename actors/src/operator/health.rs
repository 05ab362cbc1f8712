//! Whether a node is alive, and whether it is ready for its callers: for probes. Knows no protocol of probes.

use std::collections::BTreeMap;
use std::fmt;

use crate::peers::{MemberStatus, MissingRole};
use crate::runtime::channel::CHANNEL;
use crate::runtime::context::NodeContext;
use crate::writer::Open;

/// Whether a node is ready for its callers, and if not, what it lacks; see
/// [`Node::readiness`](crate::Node::readiness). Its text names all that is lacking.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts")]
#[non_exhaustive]
pub struct Readiness {
    /// Whether the node has not ended, and its link and its supervisor of roles run.
    pub running: bool,
    /// Whether the store takes writes. It does until it fails, which ends the node.
    pub store_writable: bool,
    /// Whether the number of open role instances is below [`Settings::open_max`](crate::Settings::open_max), so that
    /// the store has room for new sessions.
    pub has_room: bool,
    /// Whether all sessions that were open at the node's start have been recovered.
    pub recovered: bool,
    /// The node's membership: one that drains or has left takes no new sessions.
    pub status: MemberStatus,
    /// The choreographies that this node may start and cannot start now, since a role of theirs is played by no known
    /// node, with that role. A known node may be away: sessions that are cast to it wait.
    pub missing_roles: BTreeMap<&'static str, MissingRole>,
}

impl Readiness {
    /// Returns whether the node is ready: callers should be sent to it.
    pub fn is_ready(&self) -> bool {
        let Self { running, store_writable, has_room, recovered, status, missing_roles } = self;
        let serves = *status == MemberStatus::Serving && missing_roles.is_empty();
        *running && *store_writable && *has_room && *recovered && serves
    }

    /// What is lacking, a line each.
    fn lacks(&self) -> Vec<String> {
        let membership = match self.status {
            MemberStatus::Serving => None,
            MemberStatus::Draining => Some("it drains and takes no new sessions (`undrain` ends that)"),
            MemberStatus::Left => Some("it has left and takes no new sessions (`undrain` lets it join anew)"),
        };
        let facts = [
            (self.running, "its link and its supervisor of roles do not run (`Node::failure` has the reason)"),
            (self.store_writable, "its store takes no writes: start the node again"),
            (self.has_room, "as many role instances are open as `open_max` allows"),
            (self.recovered, "it has not recovered yet all that was open at its start"),
        ];
        let facts = facts.iter().filter(|(holds, _)| !holds).map(|(_, lack)| *lack).chain(membership);
        let missing = self.missing_roles.iter().map(|(name, role)| format!("it cannot start `{name}`, {role}"));
        facts.map(ToOwned::to_owned).chain(missing).collect()
    }
}

impl fmt::Display for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_ready() { f.write_str("ready") } else { write!(f, "not ready: {}", self.lacks().join("; ")) }
    }
}

impl NodeContext {
    /// Returns whether the node has not ended.
    pub(crate) fn is_alive(&self) -> bool {
        self.lifecycle.end.get().is_none()
    }

    /// Returns whether the node is ready for its callers.
    pub(crate) fn readiness(&self) -> Readiness {
        let Open { count, .. } = self.writer.open();
        let status = self.peers.status();
        let serves = status == MemberStatus::Serving;
        Readiness {
            running: self.is_alive() && self.routes.are_open(),
            store_writable: self.writer.takes_writes(),
            has_room: count < self.settings.open_max,
            recovered: self.operator.recovery().finished,
            status,
            missing_roles: if serves { self.missing_roles() } else { BTreeMap::new() },
        }
    }

    /// Returns the choreographies that this node may start and of which no version can be cast, with the role that the
    /// highest version lacks.
    fn missing_roles(&self) -> BTreeMap<&'static str, MissingRole> {
        let (mut missing, mut able) = (BTreeMap::new(), Vec::new());
        // In the order of their versions.
        for choreography in self.catalog.choreographies.values() {
            let name = choreography.name();
            let is_started_here = self.catalog.roles.contains(&choreography.interface().initiator)
                && self.access.may_start(&self.node, name);
            if name.starts_with(CHANNEL) || !is_started_here {
                continue;
            }
            let may_play = |node: &_, role: &_| self.access.may_play(node, role);
            match self.peers.missing_role(choreography.as_ref(), may_play) {
                Some(role) => drop(missing.insert(name, role)),
                None => able.push(name),
            }
        }
        missing.retain(|name, _| !able.contains(name));
        missing
    }
}
