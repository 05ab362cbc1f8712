//! A role that no cast can play with a version. Knows no advertisements. Next: `cast.rs`.

use std::fmt;

use accompanist_core::NodeId;

/// A missing role: a role that no known node plays with a version, so that no cast can play that version.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MissingRole {
    /// The version.
    pub version: u32,
    /// The role.
    pub role: &'static str,
    /// A node that plays the role, if there is one, with the versions that it advertises.
    pub player: Option<(NodeId, Vec<u32>)>,
}

impl fmt::Display for MissingRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { version, role, player } = self;
        match player {
            None => write!(f, "version {version}: no node is known that plays role `{role}` and takes new sessions"),
            Some((node, versions)) => {
                write!(f, "version {version}: role `{role}` is played by node `{node}`, which offers ")?;
                let versions: Vec<_> = versions.iter().map(|version| format!("version {version}")).collect();
                f.write_str(if versions.is_empty() { "none of it".into() } else { versions.join(", ") }.as_str())
            }
        }
    }
}
