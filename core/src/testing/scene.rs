//! What one run of a choreography needs besides its input: services, signals, a deadline, and someone who judges it.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::abort::Abort;
use crate::choreography::Choreography;
use crate::local::Services;
use crate::located::Located;
use crate::message::{Message, Payload, encode};
use crate::role::{Role, RoleSet};
use crate::state::State;

use super::disk::Disk;

/// How a session ended for its caller.
pub type Output<C> = Result<<<C as Choreography>::Output as Located>::Value, Abort>;

/// A session that is over for all its roles.
pub struct Ended<C: Choreography> {
    pub(super) output: Output<C>,
    pub(super) disks: BTreeMap<&'static str, Disk>,
}

impl<C: Choreography> Ended<C> {
    /// What its caller was told.
    pub fn output(&self) -> &Output<C> {
        &self.output
    }

    /// Looks at the built-in state of `role`.
    pub fn read_state<R: Role, T>(&self, _role: R, read: impl FnOnce(&State<'_>) -> T) -> T {
        let empty = Disk::default();
        read(&State::new(self.disks.get(R::NAME).unwrap_or(&empty), R::NAME))
    }
}

impl<C: Choreography> fmt::Debug for Ended<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = self.output.as_ref().map_or("compensated", |_| "finished");
        write!(f, "a session of `{}` that has {how}", C::NAME)
    }
}

type Judge<C> = Box<dyn FnOnce(&Ended<C>) + Send>;

/// The surroundings of one run: made anew for each, so that nothing is left of the last one.
pub struct Scene<C: Choreography> {
    pub(super) services: Services,
    pub(super) signals: Vec<Signal>,
    pub(super) deadline: Option<Duration>,
    pub(super) has_late_requests: bool,
    pub(super) judge: Option<Judge<C>>,
}

/// A signal that a role is given once nothing else happens, in each of its lives.
#[derive(Debug, Clone)]
pub(super) struct Signal {
    pub(super) role: &'static str,
    pub(super) name: String,
    pub(super) key: String,
    pub(super) payload: Payload,
}

impl<C: Choreography> fmt::Debug for Scene<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Scene of `{}` with {:?}", C::NAME, self.services)
    }
}

impl<C: Choreography> Scene<C> {
    /// One with these services.
    pub fn new(services: Services) -> Self {
        Self { services, signals: Vec::new(), deadline: None, has_late_requests: false, judge: None }
    }

    /// `role` is given this signal.
    ///
    /// # Panics
    /// When the value has no bytes.
    #[must_use]
    #[expect(clippy::panic, reason = "fails the test that asks for it")]
    pub fn signal<R: Role, T: Message>(mut self, _role: R, name: &str, key: &str, value: &T) -> Self {
        let payload = encode(value).unwrap_or_else(|error| panic!("signal `{name}` cannot be given: {error}"));
        let (name, key) = (name.to_owned(), key.to_owned());
        self.signals.push(Signal { role: R::NAME, name, key, payload: payload.into() });
        self
    }

    /// What a run in it depends on besides its services, for a fingerprint.
    pub(super) fn fingerprinted(&self, input: &Payload, signals: &[Signal]) -> String {
        let Self { deadline, has_late_requests, .. } = self;
        format!("{:?} {deadline:?} {has_late_requests} {signals:?} {:?}", C::Roles::NAMES, input.as_slice())
    }

    /// The session is started with this deadline.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Requests to services may linger, arrive twice, or arrive after their caller's death: [`check_crashes`](super::check_crashes) has more
    /// runs then. In some, a call of `commit` or `compensate` that was carried out is carried out once more, at each later point, the end
    /// included. In others it is not carried out when it is made, its caller crashes, and it is carried out at each later point. What comes
    /// of a late call, nobody hears.
    ///
    /// So it is seen whether a service does its [third duty](crate::Transaction), to refuse a commit that comes after its compensation (or after it has
    /// said that there was none): in scenes whose session is aborted. A service that panics at a late request fails the run.
    #[must_use]
    pub fn late_requests(mut self) -> Self {
        self.has_late_requests = true;
        self
    }

    /// `judge` looks at the services once all roles have ended, and panics (`assert!`) if something is wrong with them.
    #[must_use]
    pub fn judge(mut self, judge: impl FnOnce(&Ended<C>) + Send + 'static) -> Self {
        self.judge = Some(Box::new(judge));
        self
    }
}
