//! What a node plays and what its roles use. Fixed when the node starts; knows no sessions.

use std::collections::BTreeMap;
use std::sync::Arc;

use accompanist_core::frame::{Advertisement, Header, OfferedChoreography};
use accompanist_core::id::RoleIndex;
use accompanist_core::role_instance::AnyChoreography;
use accompanist_core::{NodeId, RoleNames, Services};

use crate::runtime::attach::Attach;
use crate::runtime::names::Played;

/// Choreographies, by name and version.
pub(crate) type Choreographies = BTreeMap<(String, u32), Arc<dyn AnyChoreography>>;

/// What a node plays; see the module's documentation.
pub(crate) struct Catalog {
    pub(crate) node: NodeId,
    pub(crate) choreographies: Choreographies,
    pub(crate) services: Services,
    pub(crate) roles: Vec<&'static str>,
    pub(crate) databases: Vec<Arc<dyn Attach>>,
}

impl Catalog {
    /// Returns the choreography of this header, if it is known and fits, and the name of the role.
    pub(crate) fn choreography_of(
        &self,
        header: &Header,
        role: RoleIndex,
    ) -> Result<(Arc<dyn AnyChoreography>, &'static str), String> {
        let Header { choreography: name, version, cast, .. } = header;
        let known = self.choreographies.get(&(name.clone(), *version));
        let choreography = known.ok_or_else(|| {
            format!("choreography `{name}` version {version} is not known here: it waits for a release that has it")
        })?;
        if let Some(patch) = header.patches.iter().find(|patch| !choreography.patches().contains(&patch.as_str())) {
            return Err(format!(
                "patch `{patch}` of `{name}` version {version} is not known here: it waits for a release that has it"
            ));
        }
        let roles = choreography.roles();
        let single = roles.single().len();
        if roles.members_in(cast.len()).is_none() || usize::from(header.initiator.0) >= single {
            let family = roles.family().map_or(String::new(), |family| format!(" and a family `{family}`"));
            return Err(format!("`{name}` version {version} has {single} roles{family} here, {} there", cast.len()));
        }
        let role_name = roles.provided_as(role).filter(|_| usize::from(role.0) < cast.len());
        let role_name = role_name.ok_or_else(|| format!("`{name}` version {version} has no role {}", role.0))?;
        if header.node_of(role) != Some(&self.node) || !self.roles.contains(&role_name) {
            return Err(format!("role `{role_name}` of `{name}` is not played by node `{}`", self.node));
        }
        Ok((choreography.clone(), role_name))
    }

    /// Returns what a role of this header plays, for logs; `None` if the choreography is not known here.
    pub(crate) fn played(&self, header: &Header, role: RoleIndex) -> Option<Played> {
        let choreography = self.choreographies.get(&(header.choreography.clone(), header.version))?;
        let roles = choreography.roles();
        Some(Played { choreography: choreography.name(), role: roles.provided_as(role)?, roles })
    }

    /// Returns the names of the roles of this header's choreography; none if that is not known here.
    pub(crate) fn roles_of(&self, header: &Header) -> RoleNames {
        let known = self.choreographies.get(&(header.choreography.clone(), header.version));
        known.map(|choreography| choreography.roles()).unwrap_or_default()
    }
}

/// Returns the advertisement of a node that plays these roles and has these choreographies, without its
/// [membership](crate::peers::Peers::complete).
pub(crate) fn advertisement_of(roles: &[&'static str], choreographies: &Choreographies, ask: bool) -> Advertisement {
    let offered = choreographies.values().map(|choreography| OfferedChoreography {
        choreography: choreography.name().into(),
        version: choreography.version(),
        patches: choreography.patches().iter().map(ToString::to_string).collect(),
    });
    let roles = roles.iter().map(ToString::to_string).collect();
    Advertisement { roles, ask, choreographies: offered.collect(), ..Advertisement::default() }
}
