//! Access rights: which nodes belong to a system, which roles each may play, and which choreographies it may start.
//!
//! Every receiver checks what it receives against this list (decision 0036). The transport determines who the sender
//! is; this list determines what a name may do. Pure, except for reading the file. Next: [`watch`].

pub(crate) mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use accompanist_core::frame::Header;
use accompanist_core::{NodeId, RoleNames};
use serde::{Deserialize, Serialize};

use crate::security::seal::{SEAL_KEYS_MAX, SealKey};

/// The members of a system, as written in a members file.
///
/// Each node has a separate table. A name that ends in `*` stands for all nodes whose names begin with the rest; an
/// exact name takes precedence. `"*"` in a list stands for all.
///
/// ```
/// use accompanist::{Members, NodeId};
///
/// let file = r#"
/// system = "shop-floor"
///
/// [nodes.shop]
/// roles = ["shop"]
/// starts = ["order"]
/// operator = true
///
/// [nodes."sensor-*"]
/// roles = ["sensor"]
/// "#;
/// let members = Members::from_toml("members.toml", file)?;
/// let (shop, sensor) = (NodeId::new("shop")?, NodeId::new("sensor-7")?);
/// assert!(members.may_start(&shop, "order") && members.is_operator(&shop));
/// assert!(members.may_play(&sensor, "sensor") && !members.may_start(&sensor, "order"));
/// assert!(!members.has(&NodeId::new("stranger")?));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Members {
    /// The system to which they belong: the transport's namespace.
    pub system: String,
    /// The names in the certificates of the routers between them, if there are any. A router may name any sender.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub routers: BTreeSet<String>,
    /// The rights of each node, by its name or by a prefix of its name and `*`.
    #[serde(default)]
    pub nodes: BTreeMap<String, Member>,
}

/// The rights of one node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// The roles that the node may play; `"*"` is any.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub roles: BTreeSet<String>,
    /// The choreographies that the node may start; `"*"` is any.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub starts: BTreeSet<String>,
    /// Whether an operator's commands on this node about other nodes are valid everywhere: a node that is forgotten
    /// there ([`Operator::forget`](crate::Operator::forget)) is forgotten by all.
    #[serde(default, skip_serializing_if = "is_false")]
    pub operator: bool,
    /// The node's public keys, which seal what it sends and receives: the one in use, the next one, the former one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub seal_keys: Vec<SealKey>,
    /// The node is no longer a member: nothing from it is accepted, though its certificate may still be valid.
    #[serde(default, skip_serializing_if = "is_false")]
    pub revoked: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_false(value: &bool) -> bool {
    !value
}

/// A members file that cannot be used.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MembersError {
    /// The file cannot be read.
    #[error("the members file `{file}` cannot be read ({reason}): `accompanist security init` makes one")]
    Unreadable {
        /// The file.
        file: String,
        /// Why.
        reason: String,
    },
    /// The file is not a members file.
    #[error("the members file `{file}` is not understood: {reason}")]
    Malformed {
        /// The file.
        file: String,
        /// The problem, with its line.
        reason: String,
    },
    /// The node to be started is not in the file, or may not do what it is built for.
    #[error(
        "the members file does not allow this node to start: {0}; an operator can add it with `accompanist security \
         add-node`"
    )]
    Refused(String),
    /// Other machines can reach the node, and nothing says who they are.
    #[error(
        "other machines reach this node, and no members file says who may do what: make one with `accompanist security \
         init` and give it to `NodeBuilder::members`, or allow it with `ZenohConfig::insecure` where nobody else \
         reaches this network"
    )]
    Missing,
}

accompanist_core::debug_as_text!(MembersError);

impl Members {
    /// Reads a file.
    ///
    /// # Errors
    /// [`MembersError::Unreadable`] and [`MembersError::Malformed`].
    pub fn load(file: impl AsRef<Path>) -> Result<Self, MembersError> {
        let name = file.as_ref().display().to_string();
        match std::fs::read_to_string(file) {
            Ok(text) => Self::from_toml(&name, &text),
            Err(error) => Err(MembersError::Unreadable { file: name, reason: error.to_string() }),
        }
    }

    /// Reads a file's text; `file` names the file in errors.
    ///
    /// # Errors
    /// [`MembersError::Malformed`] for text that is not a members file, including unknown keys and invalid names.
    pub fn from_toml(file: &str, text: &str) -> Result<Self, MembersError> {
        let malformed = |reason: String| MembersError::Malformed { file: file.to_owned(), reason };
        let members: Self = toml::from_str(text).map_err(|error| malformed(error.to_string()))?;
        for name in members.nodes.keys() {
            // The part that `*` stands for is arbitrary, so the prefix alone need not be a valid name.
            let whole = name.strip_suffix('*').map_or_else(|| name.clone(), |beginning| format!("{beginning}x"));
            NodeId::new(whole).map_err(|error| malformed(format!("nodes.{name}: {error}")))?;
        }
        if let Some((name, member)) = members.nodes.iter().find(|(_, member)| member.seal_keys.len() > SEAL_KEYS_MAX) {
            let found = member.seal_keys.len();
            return Err(malformed(format!("nodes.{name}: {found} seal keys, the limit is {SEAL_KEYS_MAX}")));
        }
        Ok(members)
    }

    /// Returns the rights of `node`, if it is a member: the table under its own name, or that of the longest matching
    /// prefix.
    pub fn get(&self, node: &NodeId) -> Option<&Member> {
        let name = node.as_str();
        let is_beginning =
            |pattern: &str| pattern.strip_suffix('*').is_some_and(|beginning| name.starts_with(beginning));
        let of_pattern = || {
            let matching = self.nodes.iter().filter(|(pattern, _)| is_beginning(pattern));
            matching.max_by_key(|(pattern, _)| pattern.len()).map(|(_, member)| member)
        };
        self.nodes.get(name).or_else(of_pattern).filter(|member| !member.revoked)
    }

    /// Whether `node` belongs to the system.
    pub fn has(&self, node: &NodeId) -> bool {
        self.get(node).is_some()
    }

    /// Whether `node` may play `role`.
    pub fn may_play(&self, node: &NodeId, role: &str) -> bool {
        self.get(node).is_some_and(|member| allows(&member.roles, role))
    }

    /// Whether `node` may start sessions of `choreography`.
    pub fn may_start(&self, node: &NodeId, choreography: &str) -> bool {
        self.get(node).is_some_and(|member| allows(&member.starts, choreography))
    }

    /// Whether an operator's commands on `node` about other nodes are valid everywhere.
    pub fn is_operator(&self, node: &NodeId) -> bool {
        self.get(node).is_some_and(|member| member.operator)
    }

    /// Returns why a session with this header is refused, if it is: its initiator may not start such sessions, or a
    /// node of its cast may not play its role. `roles` are the names of the choreography's roles.
    pub(crate) fn refusal(&self, header: &Header, roles: RoleNames) -> Option<String> {
        let name = &header.choreography;
        match header.node_of(header.initiator) {
            Some(initiator) if !self.may_start(initiator, name) => {
                return Some(format!("`{initiator}` may not start `{name}`"));
            }
            _ => {}
        }
        let mut played = header.cast.iter().zip(header.roles().filter_map(|role| roles.provided_as(role)));
        let (node, role) = played.find(|(node, role)| !self.may_play(node, role))?;
        Some(format!("`{node}` may not play role `{role}` of `{name}`"))
    }

    /// The seal keys of each member that is not revoked, by its name or by a prefix of its name and `*`.
    pub(crate) fn seal_keys(&self) -> impl Iterator<Item = (&str, &[SealKey])> {
        let members = self.nodes.iter().filter(|(_, member)| !member.revoked);
        members.map(|(name, member)| (name.as_str(), member.seal_keys.as_slice()))
    }

    /// The members that have a table under their own name, and are not revoked.
    pub fn names(&self) -> impl Iterator<Item = NodeId> + '_ {
        let members = self.nodes.iter().filter(|(_, member)| !member.revoked);
        members.filter_map(|(name, _)| NodeId::new(name).ok())
    }
}

fn allows(names: &BTreeSet<String>, name: &str) -> bool {
    names.contains(name) || names.contains("*")
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn node(name: &str) -> NodeId {
        NodeId::new(name).unwrap()
    }

    #[test]
    fn an_exact_name_comes_before_a_beginning_and_a_longer_one_before_a_shorter() {
        let text = "system = \"s\"\n[nodes.\"a*\"]\nroles = [\"x\"]\n[nodes.\"ab*\"]\nroles = [\"y\"]\n[nodes.abc]\n\
                    [nodes.abd]\nrevoked = true\nroles = [\"*\"]\n[nodes.\"*\"]\nstarts = [\"*\"]\n";
        let members = Members::from_toml("members.toml", text).unwrap();
        assert!(members.may_play(&node("a"), "x") && !members.may_play(&node("a"), "y"));
        assert!(members.may_play(&node("abz"), "y") && !members.may_play(&node("abz"), "x"));
        assert!(members.has(&node("abc")) && !members.may_play(&node("abc"), "y"), "it has nothing of the pattern");
        assert!(!members.has(&node("abd")), "a revoked name is not a member by a pattern either");
        assert!(members.may_start(&node("z"), "anything") && !members.may_start(&node("abc"), "anything"));
        assert_eq!(members.names().collect::<Vec<_>>(), [node("abc")]);
    }

    #[test]
    fn a_file_that_cannot_be_used_says_where() {
        for (text, word) in [
            ("", "system"),
            ("system = \"s\"\nmembers = []", "members"),
            ("system = \"s\"\n[nodes.a]\nrole = [\"x\"]", "role"),
            ("system = \"s\"\n[nodes.\"a b\"]", "a b"),
            ("system = \"s\"\n[nodes.\"a*b\"]", "a*b"),
            ("system = \"s\"\n[nodes.a]\nroles = \"x\"", "line 3"),
            ("system = \"s\"\n[nodes.a]\nseal_keys = [\"x\"]", "line 3"),
        ] {
            let error = Members::from_toml("members.toml", text).unwrap_err().to_string();
            assert!(error.contains("members.toml") && error.contains(word), "{error}");
        }
        let error = Members::load("/no/such/members.toml").unwrap_err().to_string();
        assert!(error.contains("/no/such/members.toml") && error.contains("security init"), "{error}");
    }

    #[test]
    fn a_file_that_is_written_reads_the_same() {
        let member = Member { roles: ["a".into()].into(), operator: true, ..Member::default() };
        let nodes = [("n".to_owned(), member)].into();
        let members = Members { system: "s".into(), nodes, routers: BTreeSet::new() };
        let text = toml::to_string(&members).unwrap();
        assert_eq!(Members::from_toml("members.toml", &text).unwrap(), members);
        assert!(!text.contains("revoked"), "{text}");
    }
}
