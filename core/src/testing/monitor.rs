//! Invariants as predicates: a checker that is informed of what happens at the boundaries of nodes, and reports
//! violations.
//!
//! The watch sees what a store and a wire see: batches, syncs, crashes, packets. Not all of `docs/invariants.md` is
//! visible from outside. Everything the watch checks is exactly true of a correct node, so every violation is a bug.
//! `disk` mirrors what a node's disk holds, `rules` judges batches, `wire` judges what is sent, `session` remembers
//! what all nodes together have done.

mod disk;
mod rules;
mod session;
mod wire;

use std::collections::{BTreeMap, BTreeSet};

use self::disk::Disk;
use self::session::Facts;
use self::wire::SentFrame;
use crate::base::error_text::debug_as_text;
use crate::base::id::{IdempotencyKey, InstanceId, NodeId, RoleIndex, SessionId};
use crate::base::role_names::{RoleNames, role_name};
use crate::contract::{Batch, Direction, KeyRange, Space, Store};
use crate::frame::{Header, Receipt};

/// A violated invariant of `docs/invariants.md`.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error("invariant {invariant} ({name}) is violated: {what}")]
#[non_exhaustive]
pub struct Violation {
    /// The number of the invariant.
    pub invariant: u32,
    /// The name of the invariant.
    pub name: &'static str,
    /// A description of what was seen.
    pub what: String,
}

debug_as_text!(Violation);

impl Violation {
    fn new(invariant: u32, what: impl Into<String>) -> Self {
        let name = match invariant {
            1 => "a synced step is never lost",
            2 => "a commit takes effect at most once",
            3 => "all or compensated",
            4 => "all take one path",
            8 => "output commit",
            9 => "acknowledge after sync",
            10 => "intent first",
            11 => "intent, then result",
            12 => "one batch",
            15 => "ended means acknowledged",
            17 => "compensation has its output",
            18 => "latest first",
            20 => "the initiator closes last",
            21 => "closed stays closed",
            22 => "same id, same bytes",
            27 => "round trip",
            32 => "the cast is fixed",
            33 => "a keyed start is one session",
            34 => "nobody invites the closed",
            35 => "one batch for what belongs together",
            42 => "a saga ends alike",
            _ => "an invariant",
        };
        Self { invariant, name, what: what.into() }
    }
}

/// The result of a predicate.
pub(crate) type Verdict = Result<(), Violation>;

fn require(holds: bool, invariant: u32, what: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { Err(Violation::new(invariant, what())) }
}

/// Checks the invariants that are visible at the boundaries of nodes, as events happen. A watch covers one run of a
/// system.
///
/// Report every event of every node to it, in the order in which the events happen: what is sent before it is sent,
/// what a store has done after it was done. Each call returns the first invariant that no longer holds. The watch can
/// continue after that, and assumes that what was reported is true.
///
/// ```
/// use accompanist_core::testing::{InvariantMonitor, Violation};
/// use accompanist_core::{IdempotencyKey, NodeId, Path, SessionId};
/// # fn main() -> Result<(), Violation> {
/// # let node = NodeId::new("seller-1").unwrap_or_else(|_| unreachable!());
/// let mut watch = InvariantMonitor::new();
/// watch.applied(&node, &vec![])?; // A store has applied a batch,
/// watch.synced(&node); // and has synced it.
/// watch.ended()?;
///
/// // A service carries out a commit although no disk has a record that the commit may begin.
/// let key = IdempotencyKey { session: SessionId::fresh(0, 0), path: Path::root().child(0) };
/// assert_eq!(watch.committed(&key).unwrap_err().invariant, 10);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Default)]
pub struct InvariantMonitor {
    disks: BTreeMap<NodeId, Disk>,
    sessions: BTreeMap<SessionId, Facts>,
    /// The sent frames that ask for an acknowledgement.
    sent: BTreeMap<Receipt, SentFrame>,
    /// Choreographies that compensate backwards over all roles, so that the order is not that of each role's commits.
    backwards: BTreeSet<String>,
    /// The names of the roles of each choreography and version.
    names: BTreeMap<String, BTreeMap<u32, RoleNames>>,
    excused: BTreeSet<SessionId>,
    /// Counts what was applied, to order it.
    now: u64,
}

impl InvariantMonitor {
    /// Creates a watch that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes that the sessions of this choreography compensate with
    /// [`Compensation::Backwards`](crate::Compensation::Backwards), so that the order of invariant 18 does not apply
    /// to them.
    pub fn note_backwards(&mut self, choreography: &str) {
        self.backwards.insert(choreography.into());
    }

    /// Notes the role names of this choreography and version, for the texts of violations.
    pub fn note_roles(&mut self, choreography: &str, version: u32, roles: impl Into<RoleNames>) {
        self.names.entry(choreography.into()).or_default().insert(version, roles.into());
    }

    /// Returns the name of a role of a session, for people.
    pub fn role_name(&self, session: SessionId, role: RoleIndex) -> String {
        role_name(self.roles_of(session), role)
    }

    /// Like [`InvariantMonitor::role_name`], for a session with this header.
    pub fn role_name_in(&self, header: &Header, role: RoleIndex) -> String {
        let names = self.names.get(&header.choreography).and_then(|versions| versions.get(&header.version));
        role_name(names.copied().unwrap_or_default(), role)
    }

    fn roles_of(&self, session: SessionId) -> RoleNames {
        let header = self.sessions.get(&session).and_then(|facts| facts.header.as_ref());
        let names = header.and_then(|header| self.names.get(&header.choreography)?.get(&header.version));
        names.copied().unwrap_or_default()
    }

    /// Lists the roles of a session in a text for people.
    fn role_names(&self, session: SessionId, roles: &[RoleIndex]) -> String {
        let names: Vec<String> = roles.iter().map(|role| self.role_name(session, *role)).collect();
        names.join(", ")
    }

    /// Replaces the instances in a violation's text by the names of their roles.
    fn named(&self, violation: Violation) -> Violation {
        let Violation { invariant, name, mut what } = violation;
        for session in
            self.sessions.keys().filter(|session| what.contains(&session.to_string())).copied().collect::<Vec<_>>()
        {
            let names = self.roles_of(session);
            let header = self.sessions.get(&session).and_then(|facts| facts.header.as_ref());
            for role in header.into_iter().flat_map(|header| header.roles()) {
                let (id, role) = (InstanceId { session, role }, role_name(names, role));
                what = what.replace(&id.to_string(), &format!("role {role} of session {session}"));
            }
        }
        Violation { invariant, name, what }
    }

    /// Reports that the store of `node` has applied `batch`, which is not synced yet.
    ///
    /// # Errors
    /// [`Violation`] of 1, 2, 3, 11, 12, 15, 18, 20, 21, 32, 33, 35, 42; of 4 and 22 for a message other than was
    /// sent; of 27 for a value that cannot be read.
    pub fn applied(&mut self, node: &NodeId, batch: &Batch) -> Result<(), Violation> {
        let facts = disk::read(batch)?;
        self.now += 1;
        let verdict = self.judge(node, &facts);
        self.disks.entry(node.clone()).or_default().apply(facts, self.now);
        verdict.map_err(|violation| self.named(violation))
    }

    /// Reports that the store of `node` has synced everything it has applied. Call this before anything acts on it.
    pub fn synced(&mut self, node: &NodeId) {
        let Some(disk) = self.disks.get_mut(node) else { return };
        for facts in disk.sync(usize::MAX) {
            session::learn(&mut self.sessions, &facts);
        }
    }

    /// Reports that the machine of `node` has lost power, and that of the applied but unsynced batches the first
    /// `kept` reached the disk.
    pub fn crashed(&mut self, node: &NodeId, kept: usize) {
        let Some(disk) = self.disks.get_mut(node) else { return };
        for facts in disk.sync(kept) {
            session::learn(&mut self.sessions, &facts);
        }
        disk.lose();
    }

    /// Reports that `node` starts on `store`, which must contain what was durable.
    ///
    /// # Errors
    /// [`Violation`] of 1 for an instance whose records are missing in the store or differ; of 27 for one that cannot
    /// be read.
    pub fn restarted(&mut self, node: &NodeId, store: &dyn Store) -> Result<(), Violation> {
        let disk = self.disks.entry(node.clone()).or_default();
        let mut batch = Batch::new();
        for space in [Space::Open, Space::Closed, Space::Journal] {
            let all = store.range(space, &KeyRange::under(&[]), Direction::Forward, usize::MAX);
            let all = all.map_err(|error| Violation::new(1, format!("{node} cannot read its store: {error}")))?;
            let change = |(key, value)| crate::contract::Change { space, key, value: Some(value) };
            batch.extend(all.into_iter().map(change));
        }
        let verdict = disk.compare(node, &disk::read(&batch)?);
        verdict.map_err(|violation| self.named(violation))
    }

    /// Reports that a service has carried out the commit of a step, for the first time as far as the service knows.
    ///
    /// # Errors
    /// [`Violation`] of 2 if it was carried out before, and of 10 if its intent is not durable.
    pub fn committed(&mut self, key: &IdempotencyKey) -> Result<(), Violation> {
        let facts = self.sessions.entry(key.session).or_default();
        require(facts.is_intended(&key.path), 10, || format!("{key} is committed, and no durable record intends it"))?;
        let effect = facts.effects.entry(key.path.clone()).or_default();
        effect.committed += 1;
        require(effect.committed == 1, 2, || format!("{key} was carried out {} times by its service", effect.committed))
    }

    /// Reports that a service has compensated a commit that was reported to [`InvariantMonitor::committed`].
    ///
    /// # Errors
    /// [`Violation`] of 2 if it was compensated before, and of 17 if no record with its output is durable.
    pub fn compensated(&mut self, key: &IdempotencyKey) -> Result<(), Violation> {
        let facts = self.sessions.entry(key.session).or_default();
        require(facts.has_output(&key.path), 17, || {
            format!("{key} is compensated, and no durable record has its output")
        })?;
        let effect = facts.effects.entry(key.path.clone()).or_default();
        effect.compensated += 1;
        require(effect.compensated == 1, 2, || format!("{key} was compensated {} times", effect.compensated))
    }

    /// Notes that the session is shown to an operator, in `stopped_sessions()` or `troubled_sessions()` of a node,
    /// and therefore need not end.
    pub fn excuse(&mut self, session: SessionId) {
        self.excused.insert(session);
    }

    /// Checks the end state, once everything has happened: every session has ended, with the same outcome for all
    /// roles, and nothing is left of it except tombstones.
    ///
    /// # Errors
    /// [`Violation`] of 3 for a session that is open at a role, or an effect of a service that matches no record; of
    /// 4 for one that has ended in two ways; of 21 for what is left behind.
    pub fn ended(&self) -> Result<(), Violation> {
        self.all_ended().map_err(|violation| self.named(violation))
    }

    fn all_ended(&self) -> Verdict {
        for (node, disk) in &self.disks {
            let open = disk.instances().filter(|(id, _)| !self.excused.contains(&id.session));
            for (id, seen) in open {
                require(seen.opened.is_none(), 3, || format!("{id} is open at {node}, and nothing happens any more"))?;
                let left = seen.records.values().next();
                require(left.is_none(), 21, || format!("{id} at {node} has left {left:?} behind"))?;
            }
        }
        let mut sessions = self.sessions.iter().filter(|(session, _)| !self.excused.contains(session));
        sessions.try_for_each(|(session, facts)| facts.ended(*session, self.roles_of(*session)))
    }

    /// The instances that are open on disks, including unsynced writes, with their nodes.
    pub fn open(&self) -> impl Iterator<Item = (&NodeId, InstanceId)> {
        let instances = self.disks.iter().flat_map(|(node, disk)| disk.instances().map(move |open| (node, open)));
        instances.filter(|(_, (_, seen))| seen.opened.is_some()).map(|(node, (id, _))| (node, id))
    }

    fn header_says_backwards(&self, id: InstanceId) -> bool {
        let header = self.sessions.get(&id.session).and_then(|facts| facts.header.as_ref());
        header.is_some_and(|header| self.backwards.contains(&header.choreography))
    }
}
