//! What the roles tell the initiator of steps and parts that need an operator, so that whoever waits for the session
//! learns on whom, and why.
//!
//! A report asks for no acknowledgement and is recorded nowhere: a role that is in trouble repeats it whenever a role
//! that waits for it nudges it, and the initiator asks a role that it believes to be in trouble. For a part that is
//! stopped, its driver reports ([`Frame::about_trouble`](crate::frame::Frame::about_trouble)). Nothing in the protocol
//! depends on a report. Next: `inspection`, which shows the reports.

use super::{Machine, SessionTrouble};
use crate::base::id::RoleIndex;
use crate::frame::{Body, RoleTrouble};
use crate::record::{StepFailure, Task};

/// Says why a step needs an operator, without the name of the step.
pub(super) fn reason_of(StepFailure { step: _, task, reason, tries, in_doubt: _ }: &StepFailure) -> String {
    match (task, tries) {
        (Task::Record, _) => format!("it has taken effect, and its output cannot be recorded: {reason}"),
        (task, 0) => format!("it has to {task}: {reason}"),
        (task, 1) => format!("it has to {task}, which failed: {reason}"),
        (task, tries) => format!("it has to {task}, which failed {tries} times, the last time with: {reason}"),
    }
}

impl Machine {
    /// The trouble of this role's own part, unless it is stopped.
    fn own_trouble(&self) -> Option<RoleTrouble> {
        let mut troubles = self.steps.iter().filter_map(|(_, entry)| entry.trouble.as_ref());
        let first = troubles.next()?;
        let steps = u32::try_from(troubles.count() + 1).unwrap_or(u32::MAX);
        Some(RoleTrouble::needs_operator(first.step.clone(), reason_of(first), steps))
    }

    /// Reports to the initiator whether this role is in trouble.
    pub(super) fn tell_trouble(&mut self) {
        if !self.identity.initiates() {
            self.answer(self.identity.header.initiator, Body::Trouble(self.own_trouble()));
        }
    }

    /// Reports the trouble of this role once more, if it is in trouble.
    pub(super) fn tell_trouble_again(&mut self) {
        if self.own_trouble().is_some() {
            self.tell_trouble();
        }
    }

    /// Answers the initiator, which believes that this role is in trouble.
    pub(super) fn answer_trouble_asked(&mut self, from: RoleIndex) {
        if from == self.identity.header.initiator {
            self.tell_trouble();
        }
    }

    /// Notes at the initiator whether `from` is in trouble.
    pub(super) fn note_peer_trouble(&mut self, from: RoleIndex, trouble: Option<RoleTrouble>) {
        let is_awaited = self.identity.initiates() && from != self.identity.id.role && !self.phase.closes();
        if is_awaited && self.peers.note_trouble(from, trouble.map(RoleTrouble::cut)) {
            self.effects.peer_troubles = Some(self.peer_troubles());
        }
    }

    /// The roles that the initiator believes to be in trouble, and therefore asks.
    pub(super) fn troubled_peers(&self) -> Vec<RoleIndex> {
        if self.phase.closes() { Vec::new() } else { self.peers.troubles().map(|(role, _)| role).collect() }
    }

    /// The other roles that cannot continue without an operator, as far as the initiator knows.
    pub fn peer_troubles(&self) -> Vec<SessionTrouble> {
        let named = |(role, trouble): (_, &RoleTrouble)| SessionTrouble {
            role: self.session_role(role),
            trouble: trouble.clone(),
        };
        self.peers.troubles().map(named).collect()
    }

    /// The trouble of this role's own part, named like those of the others; `None` if it is in none, or stopped.
    pub fn named_trouble(&self) -> Option<SessionTrouble> {
        let role = self.session_role(self.identity.id.role);
        self.own_trouble().map(|trouble| SessionTrouble { role, trouble })
    }

    /// Gives a restored initiator the reports that its driver has kept. The initiator asks these roles again.
    #[must_use]
    pub fn knowing(mut self, troubles: impl IntoIterator<Item = (RoleIndex, RoleTrouble)>) -> Self {
        for (role, trouble) in troubles.into_iter().filter(|_| self.identity.initiates()) {
            self.peers.note_trouble(role, Some(trouble.cut()));
        }
        self
    }
}
