//! The names of a choreography's roles by index, and the layout of the indices.
//!
//! The single roles have the first indices, in the order of the tuple; the members of the role family have those
//! after them. So the index of a single role does not depend on the size of the family, and the size of the family is
//! what the cast of a session has beyond the single roles. This module does not know types; see [`super::role`].

use std::ops::Range;

use crate::base::error_text::debug_as_text;
use crate::base::id::RoleIndex;

/// The maximum number of members of a role family in one session. It bounds what a header, an abort and backwards
/// compensation cost: a header names the node of each member, and each role sends to each other role.
pub const MEMBERS_MAX: usize = 64;

/// The names of a choreography's roles; see the module's documentation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RoleNames {
    single: &'static [&'static str],
    family: Option<&'static str>,
}

impl From<&'static [&'static str]> for RoleNames {
    fn from(single: &'static [&'static str]) -> Self {
        Self::new(single, None)
    }
}

impl RoleNames {
    /// Creates the names of the single roles, in order, and of the role family if there is one.
    pub const fn new(single: &'static [&'static str], family: Option<&'static str>) -> Self {
        Self { single, family }
    }

    /// The names of the single roles, by index.
    pub fn single(self) -> &'static [&'static str] {
        self.single
    }

    /// The name of the role family.
    pub fn family(self) -> Option<&'static str> {
        self.family
    }

    /// All names as a node advertises them: those of the single roles and that of the family.
    pub fn all(self) -> impl Iterator<Item = &'static str> {
        self.single.iter().copied().chain(self.family)
    }

    /// The index of a single role.
    pub fn index_of(self, name: &str) -> Option<RoleIndex> {
        let index = self.single.iter().position(|single| *single == name)?;
        u8::try_from(index).ok().map(RoleIndex)
    }

    /// The index of a member of the family, by its number from 0. A number that no cast can have gets an index that
    /// no role has.
    pub fn member(self, number: u8) -> RoleIndex {
        let first = u8::try_from(self.single.len()).unwrap_or(u8::MAX);
        RoleIndex(first.saturating_add(number))
    }

    /// The number of a role among the members of the family, if it is one of them.
    pub fn number_of(self, role: RoleIndex) -> Option<u8> {
        self.family?;
        role.0.checked_sub(self.member(0).0)
    }

    /// The name under which a role is provided: its own, or that of the family that it is a member of.
    pub fn provided_as(self, role: RoleIndex) -> Option<&'static str> {
        self.single.get(usize::from(role.0)).copied().or(self.family)
    }

    /// The name of a role for people: `seller`, or `worker/3` for a member of a family.
    pub fn name_of(self, role: RoleIndex) -> Option<String> {
        match (self.single.get(usize::from(role.0)), self.family, self.number_of(role)) {
            (Some(name), ..) => Some((*name).to_owned()),
            (None, Some(family), Some(number)) => Some(format!("{family}/{number}")),
            _ => None,
        }
    }

    /// The roles of a session whose cast has this many entries.
    pub fn roles(self, cast: usize) -> Range<u8> {
        0..u8::try_from(cast).unwrap_or(u8::MAX)
    }

    /// The names for people of all roles of a session whose cast has this many entries.
    pub fn names(self, cast: usize) -> Vec<String> {
        self.roles(cast).filter_map(|role| self.name_of(RoleIndex(role))).collect()
    }

    /// The number of members of the family in a session whose cast has this many entries; `None` if the choreography
    /// cannot have such a cast.
    pub fn members_in(self, cast: usize) -> Option<u8> {
        let members = cast.checked_sub(self.single.len())?;
        let members_max = if self.family.is_some() { MEMBERS_MAX } else { 0 };
        u8::try_from(members).ok().filter(|_| members <= members_max)
    }

    /// The number of entries of a cast in which the family has `members` members.
    ///
    /// # Errors
    /// [`FamilySizeError`] if the family has no size, if it is too large, or if there is no family to have one.
    pub fn cast_len(self, members: Option<usize>) -> Result<usize, FamilySizeError> {
        match (self.family, members) {
            (None, None) => Ok(self.single.len()),
            (None, Some(_)) => Err(FamilySizeError::NoFamily),
            (Some(family), None) => Err(FamilySizeError::NoSize { family }),
            (Some(family), Some(members)) if members > MEMBERS_MAX => {
                Err(FamilySizeError::TooLarge { family, members })
            }
            (Some(_), Some(members)) => Ok(self.single.len() + members),
        }
    }
}

/// Returns a role's name for texts read by people: from `names`, or, if it is not there, by its index.
pub(crate) fn role_name(names: RoleNames, role: RoleIndex) -> String {
    names.name_of(role).map_or_else(|| format!("role {}", role.0), |name| format!("`{name}`"))
}

/// The error for the size of a role family that a session cannot have.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FamilySizeError {
    /// The choreography has a role family, and the caller gave no number of members.
    #[error("the role family `{family}` has no size: give the number of its members with `members`")]
    NoSize {
        /// The name of the family.
        family: &'static str,
    },
    /// The family would have too many members.
    #[error("the role family `{family}` cannot have {members} members: give it {MEMBERS_MAX} at most")]
    TooLarge {
        /// The name of the family.
        family: &'static str,
        /// The number of members that was asked for.
        members: usize,
    },
    /// The choreography has no role family.
    #[error("the choreography has no role family whose members could be counted: leave `members` out")]
    NoFamily,
}

debug_as_text!(FamilySizeError);

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: RoleNames = RoleNames::new(&["client", "store"], Some("worker"));

    #[test]
    fn members_come_after_the_single_roles() {
        assert_eq!(NAMES.index_of("store"), Some(RoleIndex(1)));
        assert_eq!(NAMES.index_of("worker"), None);
        assert_eq!(NAMES.member(3), RoleIndex(5));
        assert_eq!((NAMES.number_of(RoleIndex(5)), NAMES.number_of(RoleIndex(1))), (Some(3), None));
        assert_eq!(NAMES.names(4), ["client", "store", "worker/0", "worker/1"]);
        assert_eq!(
            (NAMES.provided_as(RoleIndex(0)), NAMES.provided_as(RoleIndex(3))),
            (Some("client"), Some("worker"))
        );
    }

    #[test]
    fn the_cast_tells_the_size_of_the_family() {
        assert_eq!(NAMES.members_in(5), Some(3));
        assert_eq!((NAMES.members_in(2), NAMES.members_in(1)), (Some(0), None));
        assert_eq!(NAMES.members_in(2 + MEMBERS_MAX + 1), None);
        assert_eq!(RoleNames::new(&["client"], None).members_in(2), None);
        assert_eq!(NAMES.cast_len(Some(3)), Ok(5));
        assert_eq!(NAMES.cast_len(None), Err(FamilySizeError::NoSize { family: "worker" }));
        assert!(matches!(NAMES.cast_len(Some(MEMBERS_MAX + 1)), Err(FamilySizeError::TooLarge { members: 65, .. })));
        assert_eq!(RoleNames::new(&["client"], None).cast_len(Some(1)), Err(FamilySizeError::NoFamily));
    }
}
