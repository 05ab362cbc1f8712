//! One role's part of one session, as a pure state machine.
//!
//! Events go in (a frame, a sync, an acknowledgement, the end of a step, time), and [`Effects`] come out; the program
//! calls the machine through [`crate::Context`]. Clock, chance, disk and network are outside, so that the runtime, the
//! simulator and [`crate::run_local`] share this one machine. The modules: `delivery` handles what arrives, `writes`
//! what is sent and written, `program` the program's operations (`waiting`, `nested_saga`, `turns` and `signals` those
//! that take long), `ending` the end of a session, `nudges` what a waiting role asks of the others and how they answer,
//! `compensation` the compensation of steps, `idle` and `restore` passivation and reactivation. `description` describes
//! for people what an instance waits for.

mod compensation;
mod debug;
mod delivery;
mod description;
mod digest;
mod effects;
mod ending;
mod idle;
mod limits;
mod nested_saga;
mod nudges;
mod program;
mod restore;
mod signals;
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
use crate::record::{self, Closed, Opened, PassivatedState, Record};
use crate::role::role_name;

use self::nested_saga::Saga;
use self::signals::Signals;
use self::steps::StepEntry;
use self::turns::{Loop, LoopKnowledge};
use self::waiters::Waiters;

pub use compensation::Resolution;
#[cfg(feature = "testing")]
pub(crate) use effects::CAUSES_OF_DIVERGENCE;
pub use effects::{Effects, Forget, LocalJob, LocalResult, Outgoing, OutgoingKey, Retried, Stop, Write};
pub(crate) use effects::{Job, JobResult, JobTask};
pub use idle::Idle;
pub use limits::Limits;
pub(crate) use nested_saga::{SagaPaths, Verdict};
pub use signals::{SignalError, TAKEN_SIGNALS_MAX};
pub use status::Status;
#[cfg(feature = "testing")]
pub(crate) use steps::StepSeen;
pub(crate) use turns::TURN_VOTE;

/// The recorded result of an effect or another observation, with its name.
#[derive(Hash)]
struct Observation {
    name: String,
    result: Payload,
    /// Whether the program (or its replay) has reached the operation.
    visited: bool,
}

impl Observation {
    fn record(&self, path: &Path) -> Record {
        Record::Observed { path: path.clone(), name: self.name.clone(), result: self.result.clone() }
    }
}

/// A message of the program that has been sent.
#[derive(Hash)]
struct SentMessage {
    fingerprint: Fingerprint,
    /// Whether the receiver has the message on disk.
    heard: bool,
}

/// Changes that go into the next write.
#[derive(Default, Hash)]
struct Pending {
    changes: Batch,
    acks: Vec<Receipt>,
    urgent: bool,
}

/// The state machine of a role instance. See the module's documentation.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct Machine {
    id: InstanceId,
    role: &'static str,
    /// The names of all roles, by index. Set before the program's first turn.
    roles: &'static [&'static str],
    header: Arc<Header>,
    limits: Limits,

    /// The order in which roles compensate, as the choreography defines it.
    compensation: Compensation,
    /// Whether a message that is too large stops the instance instead of aborting the session.
    stops_on_oversize: bool,
    /// Whether the instance only replays its records and performs nothing, for [`crate::testing::replay`].
    rehearsing: bool,
    /// Whether the replay has not yet reached everything that is recorded.
    replaying: bool,

    mailbox: BTreeMap<(Path, RoleIndex), (Operation, Payload)>,
    observed: BTreeMap<Path, Observation>,
    steps: BTreeMap<Path, StepEntry>,
    next_order: u32,
    /// The number of steps that have something running.
    running: usize,
    /// The steps that are retried after a pause.
    retrying: BTreeSet<Path>,
    loops: BTreeMap<Path, Loop>,
    heard: BTreeMap<RoleIndex, LoopKnowledge>,
    sagas: BTreeMap<Path, Saga>,
    signals: Signals,
    compensating: BTreeMap<RoleIndex, Option<Path>>,
    /// The latest message to the others about the steps that this role still has to compensate.
    announced_compensating: Option<Body>,

    pending: Pending,
    /// The number of the next write, which will contain the pending changes.
    number: u64,
    synced: u64,
    /// The write with the latest recorded result. Everything sent from now on depends on it.
    barrier: u64,
    acks_after: VecDeque<(u64, Receipt)>,
    /// Everything that will be acknowledged after a write.
    acks_due: BTreeSet<Receipt>,
    warned: bool,

    /// The messages that the program has sent, since the instance was loaded or before its last passivation. Empty
    /// once the instance has ended.
    sent: BTreeMap<(Path, RoleIndex), SentMessage>,
    /// The own outcome that the initiator has acknowledged.
    announced: Option<Outcome>,
    /// Receipts to acknowledge once the initiator knows the own outcome.
    acks_once_announced: Vec<Receipt>,
    /// Messages that were acknowledged but that their receivers have requested nevertheless.
    lacking: BTreeSet<(Path, RoleIndex)>,
    /// Messages that an ended instance resends since it was loaded.
    resends: BTreeSet<(Path, RoleIndex)>,
    /// The knowledge that the last passivation has put on disk, if any.
    passivated: Option<PassivatedState>,
    held: VecDeque<(u64, Outgoing)>,
    unacked: BTreeSet<OutgoingKey>,
    /// The roles that are known to have the header.
    acquainted: BTreeSet<RoleIndex>,
    /// The roles that have acknowledged an invitation since this instance was loaded. Those among them that had ended
    /// have reported their outcome to it.
    invited: BTreeSet<RoleIndex>,
    waiting: Waiters,
    /// The path at which the last polled operation waits.
    waits_at: Option<Path>,

    jobs: VecDeque<(u64, Job)>,

    program_ended: bool,
    /// Whether an operator has ended this part without its program.
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
    /// The number of nudges that remain before the instance may be passivated.
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

impl Machine {
    /// Creates an instance that begins now, and records its beginning.
    pub fn begin(id: InstanceId, role: &'static str, opened: &Opened, limits: Limits) -> Self {
        let mut instance = Self::new(id, role, opened, limits);
        instance.opening = true;
        instance.pending.urgent = opened.input.is_some();
        if opened.input.is_some() {
            // No other role may learn of a session that a crash would forget.
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
            stops_on_oversize: false,
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
            compensating: BTreeMap::new(),
            announced_compensating: None,
            pending: Pending::default(),
            number: 1,
            synced: 0,
            barrier: 0,
            acks_after: VecDeque::new(),
            acks_due: BTreeSet::new(),
            warned: false,
            sent: BTreeMap::new(),
            announced: None,
            acks_once_announced: Vec::new(),
            lacking: BTreeSet::new(),
            resends: BTreeSet::new(),
            passivated: None,
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

    /// Sets the choreography's compensation order, before the first turn.
    pub(crate) fn with_compensation(mut self, compensation: Compensation) -> Self {
        self.compensation = compensation;
        self
    }

    /// Sets whether a message that is too large stops the instance instead of aborting the session.
    pub(crate) fn stopping_on_oversize(mut self, stops_on_oversize: bool) -> Self {
        self.stops_on_oversize = stops_on_oversize;
        self
    }

    /// Sets the names of the choreography's roles, by index, for texts.
    pub(crate) fn naming(mut self, roles: &'static [&'static str]) -> Self {
        self.roles = roles;
        self
    }

    /// Returns a role's name for texts read by people.
    fn name_of(&self, role: RoleIndex) -> String {
        role_name(self.roles, role)
    }

    /// Makes the instance replay its records without performing anything.
    pub(crate) fn rehearsing(mut self) -> Self {
        self.rehearsing = true;
        self
    }

    fn step_entry(&mut self, path: Path, name: &str, input: Fingerprint) -> &mut StepEntry {
        self.steps.entry(path).or_insert_with(|| StepEntry::new(name, input))
    }

    /// The identity of this instance.
    pub fn id(&self) -> InstanceId {
        self.id
    }

    /// The header of the session.
    pub fn header(&self) -> &Arc<Header> {
        &self.header
    }

    /// Whether this role started the session.
    fn initiates(&self) -> bool {
        self.header.initiator == self.id.role
    }

    /// The time at which [`Machine::settle`] must be called again even if nothing happens, on the clock of `settle`.
    pub fn next_wake_ms(&self) -> Option<u64> {
        if self.stopped.is_some() {
            return None;
        }
        let nudge = self.nudge.map(|pause| pause.until_ms);
        let wakes = self.next_tries_ms().chain(nudge).chain(self.next_look_ms());
        wakes.filter(|until_ms| *until_ms > self.now_ms).min()
    }

    /// The times at which steps are retried.
    fn next_tries_ms(&self) -> impl Iterator<Item = u64> {
        self.retrying.iter().filter_map(|path| Some(self.steps.get(path)?.pause?.until_ms))
    }

    /// Does whatever is due, given the time and the events so far. The first clock never goes back; the second is the
    /// wall clock.
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
