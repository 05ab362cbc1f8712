//! What an instance is and by which rules it goes: nothing here changes after its first turn.

use std::sync::Arc;

use super::Limits;
use crate::base::id::{InstanceId, RoleIndex};
use crate::base::role_names::{RoleNames, role_name};
use crate::frame::Header;
use crate::record::Opened;
use crate::step::Compensation;

/// See the module's documentation.
pub(super) struct Identity {
    pub(super) id: InstanceId,
    /// The name of the role; for a member of a role family, that of the family.
    pub(super) role: &'static str,
    /// The names of all roles.
    pub(super) roles: RoleNames,
    pub(super) header: Arc<Header>,
    pub(super) limits: Limits,
    /// The order in which roles compensate, as the choreography defines it.
    pub(super) compensation: Compensation,
    /// Whether a message that is too large stops the instance instead of aborting the session.
    pub(super) stops_on_oversize: bool,
    /// Whether the instance only replays its records and performs nothing, for [`crate::testing::replay`].
    pub(super) rehearsing: bool,
}

impl Identity {
    pub(super) fn new(id: InstanceId, role: &'static str, opened: &Opened, limits: Limits) -> Self {
        Self {
            id,
            role,
            roles: RoleNames::default(),
            header: opened.header.clone(),
            limits,
            compensation: Compensation::SideBySide,
            stops_on_oversize: false,
            rehearsing: false,
        }
    }

    /// Whether this role started the session.
    pub(super) fn initiates(&self) -> bool {
        self.header.initiator == self.id.role
    }

    pub(super) fn others(&self) -> Vec<RoleIndex> {
        self.header.roles().filter(|role| *role != self.id.role).collect()
    }

    /// Returns a role's name for texts read by people.
    pub(super) fn name_of(&self, role: RoleIndex) -> String {
        role_name(self.roles, role)
    }
}
