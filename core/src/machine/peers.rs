//! What the other roles have reported about themselves: their outcomes, how far they have compensated, and whether they
//! are in trouble.
//!
//! This module does not know what the reports are good for. Next: `ending` and `compensation`, which ask.

use std::collections::BTreeMap;

use crate::base::id::{Path, RoleIndex};
use crate::frame::{Outcome, RoleTrouble};

/// See the module's documentation.
#[derive(Default, Hash)]
pub(super) struct Peers {
    done: BTreeMap<RoleIndex, Outcome>,
    /// The latest step that each role still has to compensate.
    compensating: BTreeMap<RoleIndex, Option<Path>>,
    /// The roles that cannot continue without an operator; known to the initiator.
    troubles: BTreeMap<RoleIndex, RoleTrouble>,
}

impl Peers {
    pub(super) fn note_done(&mut self, role: RoleIndex, outcome: Outcome) {
        // A late "finished" does not replace "compensated".
        if !matches!(self.done.get(&role), Some(Outcome::Compensated(_))) {
            self.done.insert(role, outcome);
        }
    }

    /// Notes an outcome that nothing can change any more.
    pub(super) fn note_closed(&mut self, role: RoleIndex, outcome: Outcome) {
        self.done.insert(role, outcome);
    }

    /// Whether `role` has reported the same outcome, whatever the abort.
    pub(super) fn is_like(&self, role: RoleIndex, outcome: &Outcome) -> bool {
        let alike = |other: &Outcome| std::mem::discriminant(other) == std::mem::discriminant(outcome);
        self.done.get(&role).is_some_and(alike)
    }

    pub(super) fn done(&self) -> impl Iterator<Item = (RoleIndex, Outcome)> {
        self.done.iter().map(|(role, outcome)| (*role, outcome.clone()))
    }

    /// Notes whether `role` is in trouble. Returns whether that is new.
    pub(super) fn note_trouble(&mut self, role: RoleIndex, trouble: Option<RoleTrouble>) -> bool {
        let is_new = self.troubles.get(&role) != trouble.as_ref();
        match trouble {
            Some(trouble) => drop(self.troubles.insert(role, trouble)),
            None => drop(self.troubles.remove(&role)),
        }
        is_new
    }

    pub(super) fn troubles(&self) -> impl Iterator<Item = (RoleIndex, &RoleTrouble)> {
        self.troubles.iter().map(|(role, trouble)| (*role, trouble))
    }

    pub(super) fn note_compensating(&mut self, role: RoleIndex, next: Option<Path>) {
        // The position only moves backwards; a late message has no effect.
        let known = self.compensating.entry(role).or_insert_with(|| next.clone());
        *known = known.clone().min(next);
    }

    /// Whether `role` may have steps to compensate that come after `path`.
    pub(super) fn may_compensate_after(&self, role: RoleIndex, path: &Path) -> bool {
        self.compensating.get(&role).is_none_or(|next| next.as_ref() > Some(path))
    }
}
