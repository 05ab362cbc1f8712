//! What can be seen of a run from outside: by the checks of its end, by [`lint`](crate::testing::lint), and by people.
//!
//! This module changes nothing in the run.

use super::{Event, ServiceRequests, SessionHarness};
use crate::driver::role_instance::RoleInstance;
use crate::frame::{Body, Outcome};
use crate::language::choreography::Choreography;
use crate::testing::crashes::RunFailure;
use crate::testing::disk::Disk;
use crate::testing::monitor::Violation;

impl<C: Choreography> SessionHarness<C> {
    /// Describes what each role waits for.
    pub(in crate::testing) fn standstill(&self) -> String {
        let roles = self.sites.iter().enumerate().map(|(index, site)| {
            let standing = match (site.driver.instance(), site.disk.closed()) {
                (Some(instance), _) => instance.describe(),
                (None, Some(_)) => "has closed the session".into(),
                (None, None) => "does not know the session".into(),
            };
            format!("role `{}` {standing}", self.name_of(index))
        });
        format!("nothing moves any more: {}", roles.collect::<Vec<_>>().join("; "))
    }

    /// Checks at the end of the run everything that the monitor can see.
    pub(in crate::testing) fn ended(&self) -> Result<(), Violation> {
        self.checks.monitor.ended()
    }

    /// Whether all roles have closed.
    pub(in crate::testing) fn is_over(&self) -> bool {
        self.sites.iter().all(|site| !site.is_alive() && site.disk.closed().is_some())
    }

    /// The outcome of each role.
    pub(in crate::testing) fn outcomes(&self) -> Vec<Outcome> {
        self.sites.iter().filter_map(|site| Some(site.disk.closed()?.outcome)).collect()
    }

    /// The names of the roles for people, by index.
    pub(in crate::testing) fn names(&self) -> Vec<String> {
        self.names.names(self.sites.len())
    }

    /// The names under which the roles are provided, by index.
    pub(in crate::testing) fn provided_as(&self) -> Vec<&'static str> {
        (0..self.sites.len()).map(|role| self.provided_as_at(role)).collect()
    }

    /// The disks, by role.
    pub(in crate::testing) fn disks(&self) -> impl Iterator<Item = &Disk> {
        self.sites.iter().map(|site| &site.disk)
    }

    pub(in crate::testing) fn instance(&self, role: usize) -> Option<&RoleInstance> {
        self.sites.get(role)?.driver.instance()
    }

    /// The unacknowledged frames that a role has sent, by number.
    pub(in crate::testing) fn said(&self, role: usize) -> impl Iterator<Item = (u64, &Body)> {
        let said = self.sites.get(role).into_iter().flat_map(|site| site.driver.outbox());
        said.map(|(number, said)| (*number, &said.frame.body))
    }

    /// The unacknowledged frames that a role has sent, and to which role each goes.
    pub(in crate::testing) fn sent_to(&self, role: usize) -> impl Iterator<Item = (usize, &Body)> {
        let sent = self.sites.get(role).into_iter().flat_map(|site| site.driver.outbox().values());
        sent.map(|sent| (usize::from(sent.frame.to.0), &sent.frame.body))
    }

    pub(in crate::testing) fn saying(&self, role: usize, number: u64) -> Option<&Body> {
        Some(&self.sites.get(role)?.driver.outbox().get(&number)?.frame.body)
    }

    /// The events so far.
    pub(in crate::testing) fn events(&self) -> &[Event] {
        self.log.events()
    }

    /// The requests so far, if some of them may be late.
    pub(in crate::testing) fn requests(&self) -> &ServiceRequests {
        &self.requests
    }

    /// Takes the reason why a role is stopped or needs an operator, or the run is wrong otherwise.
    pub(in crate::testing) fn take_failure(&mut self) -> Option<String> {
        self.checks.take_failure()
    }

    /// Returns all events, and for each request the event at which it was made.
    pub(in crate::testing) fn into_events(self) -> (Vec<Event>, Vec<usize>) {
        (self.log.into_events(), self.requests.into_made_at())
    }

    /// Returns the report of a run that did not end as it should.
    pub(in crate::testing) fn failed(&mut self, what: String, again: String) -> RunFailure {
        RunFailure::new(what, self.log.lines(), again)
    }
}
