//! What a role's part of a session is called in logs and spans: the one place that names the fields.
//!
//! `session`, `choreography`, `role` and `node` are the same everywhere; other fields are `peer`, `step`, `path` and
//! `error`. Knows no actors.

use accompanist_core::RoleNames;
use accompanist_core::id::InstanceId;

/// The names of the choreography and of the role that an instance plays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Played {
    pub(crate) choreography: &'static str,
    pub(crate) role: &'static str,
    /// The names of all roles of the choreography.
    pub(crate) roles: RoleNames,
}

/// A role's part of a session, as logs name it. The names are known once the instance was loaded.
#[derive(Debug, Clone)]
pub(crate) struct PartName {
    pub(crate) id: InstanceId,
    pub(crate) choreography: Option<&'static str>,
    /// The name of the role, with its number if it is a member of a family; the index of a role of unknown name.
    pub(crate) role: String,
}

impl PartName {
    pub(crate) fn new(id: InstanceId, played: Option<Played>) -> Self {
        let role = played.and_then(|played| played.roles.name_of(id.role));
        let role = role.unwrap_or_else(|| id.role.0.to_string());
        Self { id, choreography: played.map(|played| played.choreography), role }
    }
}

/// Logs with the fields of a part first: `log_part!(warn, part, node, step, "what happened")`, where `part` is a
/// [`PartName`]. A `target:` may come before the level.
macro_rules! log_part {
    (target: $target:expr, $level:ident, $part:expr, $node:expr, $($rest:tt)+) => {{
        let part: &$crate::runtime::names::PartName = &$part;
        let node: &accompanist_core::NodeId = &$node;
        tracing::$level!(
            target: $target,
            session = %part.id.session, choreography = part.choreography, role = part.role, %node, $($rest)+
        );
    }};
    ($level:ident, $part:expr, $node:expr, $($rest:tt)+) => {
        log_part!(target: module_path!(), $level, $part, $node, $($rest)+)
    };
}
pub(crate) use log_part;
