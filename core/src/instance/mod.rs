//! One role's part of one session, as a pure state machine.
//!
//! Events go in (a frame, a sync, an acknowledgement, a step's end, time), [`Effects`] come out; the program
//! asks it through [`crate::Context`]. Clock, chance, disk and network are outside, so that the runtime, the
//! simulator and [`crate::run_local`] share this one machine. `delivery` has what arrives, `writes` what leaves,
//! `program` what the program asks (`waiting`, `sagas`, `turns` and `outside` the operations that take long), `saga` the
//! way to an end, `nudges` what a role that waits asks of the others and is answered, `compensation` taking back, `idle`
//! and `restore` the ways out of memory and back, `standing` says for people what an instance waits for.

mod compensation;
mod delivery;
mod digest;
mod effects;
mod idle;
mod limits;
mod nudges;
mod outside;
mod program;
mod restore;
mod saga;
mod sagas;
mod standing;
mod status;
mod steps;
mod turns;
mod waiters;
mod waiting;
mod writes;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crate::abort::Abort;
use crate::choreography::Compensation;
use crate::contract::Batch;
use crate::frame::{Body, Header, Operation, Outcome, Receipt};
use crate::id::{InstanceId, Path, RoleIndex};
use crate::message::{Fingerprint, Payload};
use crate::record::{self, Closed, Opened, Record, Rested};
use crate::role::role_name;

use self::outside::Signals;
use self::sagas::Saga;
use self::steps::StepEntry;
use self::turns::{Heard, Loop};
use self::waiters::Waiters;

pub use compensation::Remedy;
#[cfg(feature = "testing")]
pub(crate) use effects::CAUSES_OF_DIVERGENCE;
pub use effects::{Effects, LocalJob, LocalResult, Outgoing, OutgoingKey, Retried, Stop, Write};
pub(crate) use effects::{Job, JobResult, JobTask};
pub use idle::Idle;
pub use limits::Limits;
pub use outside::{SignalError, TAKEN_SIGNALS_MAX};
pub(crate) use sagas::{SagaPaths, Verdict};
pub use status::Status;
#[cfg(feature = "testing")]
pub(crate) use steps::StepSeen;
pub(crate) use turns::TURN_VOTE;

/// Something a role observed, and under which name.
#[derive(Hash)]
struct Observation {
    name: String,
    result: Payload,
    /// Whether the program (or its replay) has come by.
    visited: bool,
}

impl Observation {
    fn record(&self, path: &Path) -> Record {
        Record::Observed { path: path.clone(), name: self.name.clone(), result: self.result.clone() }
    }
}

/// A message that was said.
#[derive(Hash)]
struct Said {
    fingerprint: Fingerprint,
    /// Its receiver has it on disk.
    heard: bool,
}

/// Changes on their way into the next write.
#[derive(Default, Hash)]
struct Pending {
    changes: Batch,
    acks: Vec<Receipt>,
    urgent: bool,
}

/// The state machine. See the module's documentation.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct Instance {
    id: InstanceId,
    role: &'static str,
    /// The names of all roles, by index, once the program has said them.
    roles: &'static [&'static str],
    header: Arc<Header>,
    limits: Limits,

    /// In which order roles take back, which the program says.
    compensation: Compensation,
    /// A message that is too large does not abort it, but makes it stand still.
    keeps_messages: bool,
    /// Nothing is run, only gone through again: for [`crate::testing::replay`].
    rehearsing: bool,
    /// What is recorded has not been come by yet.
    replaying: bool,

    mailbox: BTreeMap<(Path, RoleIndex), (Operation, Payload)>,
    observed: BTreeMap<Path, Observation>,
    steps: BTreeMap<Path, StepEntry>,
    next_order: u32,
    /// Steps that have something under way.
    running: usize,
    /// Steps that are tried again after a pause.
    retrying: BTreeSet<Path>,
    loops: BTreeMap<Path, Loop>,
    heard: BTreeMap<RoleIndex, Heard>,
    sagas: BTreeMap<Path, Saga>,
    signals: Signals,
    undoing: BTreeMap<RoleIndex, Option<Path>>,
    /// What was said last of what this role has to take back.
    said_undoing: Option<Body>,

    pending: Pending,
    /// The number that the pending changes will be written under.
    number: u64,
    synced: u64,
    /// The write with the latest recorded result: what is said from now on depends on it.
    barrier: u64,
    acks_after: VecDeque<(u64, Receipt)>,
    /// All that is to be acknowledged after a write.
    acks_due: BTreeSet<Receipt>,
    warned: bool,

    /// The messages of the program that were said, in this life or before the last rest: an end leaves none.
    said: BTreeMap<(Path, RoleIndex), Said>,
    /// The own end that the initiator has heard of.
    told: Option<Outcome>,
    /// What is acknowledged once it has.
    acks_once_told: Vec<Receipt>,
    /// Messages that were acknowledged, and that their receivers have asked for all the same.
    lacking: BTreeSet<(Path, RoleIndex)>,
    /// Those that an instance that has ended sends again in this life.
    resends: BTreeSet<(Path, RoleIndex)>,
    /// What is on disk of that, if anything is.
    rested: Option<Rested>,
    held: VecDeque<(u64, Outgoing)>,
    unacked: BTreeSet<OutgoingKey>,
    /// Roles that are known to have the header.
    acquainted: BTreeSet<RoleIndex>,
    /// Roles that have acknowledged an invitation of this life: those that had ended have said so to it.
    invited: BTreeSet<RoleIndex>,
    waiting: Waiters,
    /// Where the operation waits that was asked for last.
    waits_at: Option<Path>,

    jobs: VecDeque<(u64, Job)>,

    program_ended: bool,
    /// An operator has ended it without its program.
    terminated: bool,
    output: Option<Payload>,
    output_after: Option<(u64, Result<Payload, Abort>)>,
    view: Option<Payload>,
    view_after: Option<(u64, Payload)>,
    abort: Option<Abort>,
    ended: Option<(u64, Outcome)>,
    done: BTreeMap<RoleIndex, Outcome>,
    closing: bool,
    close_after: Option<u64>,
    closed: Option<Closed>,
    opening: bool,

    now_ms: u64,
    unix_ms: u64,
    nudge: Option<Pause>,
    /// How often it nudges before it leaves memory.
    nudges_due: u8,
    stopped: Option<Stop>,
    effects: Effects,
}

/// A pause that doubles.
#[derive(Debug, Clone, Copy)]
struct Pause {
    until_ms: u64,
    length_ms: u64,
}

impl Pause {
    fn first(now_ms: u64, length_ms: u64) -> Self {
        Self { until_ms: now_ms.saturating_add(length_ms), length_ms }
    }
    fn next(self, now_ms: u64, length_max_ms: u64) -> Self {
        Self::first(now_ms, self.length_ms.saturating_mul(2).min(length_max_ms))
    }
}

impl Instance {
    /// An instance that begins now, and writes that down.
    pub fn begin(id: InstanceId, role: &'static str, opened: &Opened, limits: Limits) -> Self {
        let mut instance = Self::new(id, role, opened, limits);
        instance.opening = true;
        instance.pending.urgent = opened.input.is_some();
        if opened.input.is_some() {
            // Nobody may hear of a session that a crash would forget.
            instance.barrier = instance.number;
        }
        match record::open(id, opened) {
            Ok(change) => instance.pending.changes.push(change),
            Err(error) => instance.stop(Stop::Undecodable { path: Path::root(), reason: error.to_string() }),
        }
        instance
    }

    fn new(id: InstanceId, role: &'static str, opened: &Opened, limits: Limits) -> Self {
        Self {
            id,
            role,
            roles: &[],
            header: opened.header.clone(),
            limits,
            compensation: Compensation::SideBySide,
            keeps_messages: false,
            rehearsing: false,
            replaying: false,
            mailbox: BTreeMap::new(),
            observed: BTreeMap::new(),
            steps: BTreeMap::new(),
            next_order: 0,
            running: 0,
            retrying: BTreeSet::new(),
            loops: BTreeMap::new(),
            heard: BTreeMap::new(),
            sagas: BTreeMap::new(),
            signals: Signals::default(),
            undoing: BTreeMap::new(),
            said_undoing: None,
            pending: Pending::default(),
            number: 1,
            synced: 0,
            barrier: 0,
            acks_after: VecDeque::new(),
            acks_due: BTreeSet::new(),
            warned: false,
            said: BTreeMap::new(),
            told: None,
            acks_once_told: Vec::new(),
            lacking: BTreeSet::new(),
            resends: BTreeSet::new(),
            rested: None,
            held: VecDeque::new(),
            unacked: BTreeSet::new(),
            acquainted: BTreeSet::new(),
            invited: BTreeSet::new(),
            waiting: Waiters::default(),
            waits_at: None,
            jobs: VecDeque::new(),
            program_ended: false,
            terminated: false,
            output: None,
            output_after: None,
            view: None,
            view_after: None,
            abort: None,
            ended: None,
            done: BTreeMap::new(),
            closing: false,
            close_after: None,
            closed: None,
            opening: false,
            now_ms: 0,
            unix_ms: 0,
            nudge: None,
            nudges_due: 1,
            stopped: None,
            effects: Effects::default(),
        }
    }

    /// What the program says of itself, before its first turn.
    pub(crate) fn with_compensation(mut self, compensation: Compensation) -> Self {
        self.compensation = compensation;
        self
    }

    /// Whether it stands still instead of aborting when a message is too large.
    pub(crate) fn standing_still(mut self, keeps_messages: bool) -> Self {
        self.keeps_messages = keeps_messages;
        self
    }

    /// The names of the choreography's roles, by index: for texts.
    pub(crate) fn naming(mut self, roles: &'static [&'static str]) -> Self {
        self.roles = roles;
        self
    }

    /// A role in a text for people.
    fn name_of(&self, role: RoleIndex) -> String {
        role_name(self.roles, role)
    }

    /// Goes through what is recorded, and does nothing.
    pub(crate) fn rehearsing(mut self) -> Self {
        self.rehearsing = true;
        self
    }

    fn step_entry(&mut self, path: Path, name: &str, input: Fingerprint) -> &mut StepEntry {
        self.steps.entry(path).or_insert_with(|| StepEntry::new(name, input))
    }

    /// What this instance is.
    pub fn id(&self) -> InstanceId {
        self.id
    }

    /// The session's header.
    pub fn header(&self) -> &Arc<Header> {
        &self.header
    }

    /// Whether this role started the session.
    fn initiates(&self) -> bool {
        self.header.initiator == self.id.role
    }

    /// When [`Instance::settle`] has to be called again though nothing happened, on the clock of `settle`.
    pub fn next_wake_ms(&self) -> Option<u64> {
        if self.stopped.is_some() {
            return None;
        }
        let nudge = self.nudge.map(|pause| pause.until_ms);
        let wakes = self.next_tries_ms().chain(nudge).chain(self.next_look_ms());
        wakes.filter(|until_ms| *until_ms > self.now_ms).min()
    }

    /// When steps are tried again.
    fn next_tries_ms(&self) -> impl Iterator<Item = u64> {
        self.retrying.iter().filter_map(|path| Some(self.steps.get(path)?.pause?.until_ms))
    }

    /// Does what time and the events so far call for. The first clock never goes back, the second is the wall's.
    pub fn settle(&mut self, now_ms: u64, unix_ms: u64) {
        (self.now_ms, self.unix_ms) = (now_ms, unix_ms);
        if self.stopped.is_none() && !self.rehearsing {
            self.abort_at_deadline();
            self.wake_when_due();
            self.advance();
            self.nudge_when_due();
            self.warn_of_a_long_journal();
        }
    }

    fn warn_of_a_long_journal(&mut self) {
        let records = self.mailbox.len() + self.observed.len() + self.steps.len();
        if records > self.limits.journal_records_warn && !self.warned {
            self.warned = true;
            self.effects.long_journal = Some(records);
        }
    }
}
