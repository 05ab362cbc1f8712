//! One role's part of one session, as a pure state machine.
//!
//! Events go in (a frame, a sync, an acknowledgement, a step's end, time), [`Effects`] come out; the program
//! asks it through [`crate::Context`]. Clock, chance, disk and network are outside, so that the runtime, the
//! simulator and [`crate::run_local`] share this one machine. `program` has what the program asks (`waiting`, `sagas`,
//! `turns` and `outside` the operations that take long), `saga` the way to an end, `compensation` taking back,
//! `restore` the way back from the records.

mod compensation;
mod effects;
mod outside;
mod program;
mod restore;
mod saga;
mod sagas;
mod status;
mod steps;
mod turns;
mod waiting;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::task::Waker;

use crate::abort::Abort;
use crate::choreography::Compensation;
use crate::contract::Batch;
use crate::frame::{Body, Frame, Header, Operation, Outcome, Receipt};
use crate::id::{InstanceId, Path, RoleIndex};
use crate::message::{Fingerprint, Payload};
use crate::record::{self, Closed, Opened, Record};

use self::outside::Signals;
use self::sagas::Saga;
use self::steps::StepEntry;
use self::turns::{Heard, Loop};
use self::waiting::Waiting;

pub use compensation::Remedy;
pub use effects::{Effects, LocalJob, LocalResult, Outgoing, OutgoingKey, Stop, Write, panic_text};
pub(crate) use effects::{Job, JobResult, JobTask};
pub use outside::{SignalError, TAKEN_SIGNALS_MAX};
pub(crate) use sagas::{SagaPaths, Verdict};
pub use status::Status;
pub(crate) use turns::TURN_VOTE;

/// Bounds and pauses of an instance.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Messages of one instance that are sent and not yet acknowledged. A full window makes `comm` wait.
    pub unacked_max: usize,
    /// The largest message. A larger one aborts the session.
    pub payload_bytes_max: usize,
    /// The pause before the first nudge to a role that is waited for; it doubles from one to the next.
    pub nudge_delay_min_ms: u64,
    /// The longest pause between two nudges.
    pub nudge_delay_max_ms: u64,
    /// The pause before a compensation, or a step that only goes forward, is tried again; it doubles from one to the next.
    pub retry_delay_min_ms: u64,
    /// The longest pause between two tries.
    pub retry_delay_max_ms: u64,
    /// Tries of a compensation, or of a step that only goes forward, before an operator is needed.
    pub tries_max: u32,
    /// Signals that wait to be taken by the program. More are refused.
    pub signals_max: usize,
    /// Records of one instance in its journal beyond which it warns, once: its loops should be checkpoints
    /// ([`Context::repeat`](crate::Context::repeat)).
    pub journal_records_warn: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            unacked_max: 256,
            payload_bytes_max: 512 * 1024,
            nudge_delay_min_ms: 50,
            nudge_delay_max_ms: 5_000,
            retry_delay_min_ms: 20,
            retry_delay_max_ms: 30_000,
            // About twenty minutes.
            tries_max: 50,
            signals_max: 1_024,
            journal_records_warn: 10_000,
        }
    }
}

/// Something a role observed, and under which name.
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

/// Changes on their way into the next write.
#[derive(Default)]
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
    header: Arc<Header>,
    limits: Limits,

    /// In which order roles take back, which the program says.
    compensation: Compensation,
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
    warned: bool,

    held: VecDeque<(u64, Outgoing)>,
    unacked: BTreeSet<OutgoingKey>,
    /// Roles that are known to have the header.
    acquainted: BTreeSet<RoleIndex>,
    waiting: BTreeMap<Path, Waiting>,
    wakers: Vec<Waker>,

    jobs: VecDeque<(u64, Job)>,

    program_ended: bool,
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
            header: opened.header.clone(),
            limits,
            compensation: Compensation::SideBySide,
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
            warned: false,
            held: VecDeque::new(),
            unacked: BTreeSet::new(),
            acquainted: BTreeSet::new(),
            waiting: BTreeMap::new(),
            wakers: Vec::new(),
            jobs: VecDeque::new(),
            program_ended: false,
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
            stopped: None,
            effects: Effects::default(),
        }
    }

    /// What the program says of itself, before its first turn.
    pub(crate) fn with_compensation(mut self, compensation: Compensation) -> Self {
        self.compensation = compensation;
        self
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

    /// A frame for this instance has arrived; `receipt` is given back as an acknowledgement in time.
    pub fn deliver(&mut self, frame: Frame, receipt: Option<Receipt>) {
        if self.stopped.is_some() {
            return; // Unacknowledged, so the sender keeps it until someone has looked.
        }
        let Some(sender) = self.header.node_of(frame.from) else { return };
        if receipt.as_ref().is_some_and(|receipt| receipt.to != *sender) {
            return; // From a node that does not play this role.
        }
        match frame.body {
            Body::Deliver { path, operation, payload } => {
                self.deliver_message(path, frame.from, operation, payload, receipt);
            }
            Body::Nudge => self.answer_nudge(frame.from),
            Body::Turns { finals, aborted } => self.note_turns(frame.from, finals, aborted),
            Body::Undoing(next) => self.note_undoing(frame.from, next),
            Body::Abort(abort) => {
                self.obey(&abort);
                self.ack_when_written(receipt);
            }
            Body::Done(outcome) => {
                self.note_done(frame.from, outcome);
                // Kept in memory only: after a crash the initiator asks again.
                self.ack_when_written(receipt);
            }
            Body::Close(_) => {
                self.close_after.get_or_insert(0);
                self.pending.acks.extend(receipt);
            }
        }
        self.wake();
    }

    fn deliver_message(
        &mut self,
        path: Path,
        from: RoleIndex,
        operation: Operation,
        payload: Payload,
        receipt: Option<Receipt>,
    ) {
        let id = (path.clone(), from);
        match self.mailbox.get(&id) {
            _ if self.is_over(&path) => {} // Of a turn that this role has done with.
            None => {
                self.record(&Record::Received { path, from, operation, payload: payload.clone() }, false);
                self.hear_of_saga(&id.0, operation, &payload);
                self.mailbox.insert(id, (operation, payload));
            }
            Some((known_operation, known)) if (*known_operation, known) == (operation, &payload) => {}
            Some((known_operation, known)) => {
                let described = |operation: Operation, payload: &Payload| {
                    let fingerprint = Fingerprint::of(payload);
                    format!("a {operation} of {} bytes ({fingerprint}) from role {}", payload.len(), from.0)
                };
                let recorded = described(*known_operation, known);
                return self.stop(Stop::Diverged { path, recorded, replayed: described(operation, &payload) });
            }
        }
        self.ack_when_written(receipt);
    }

    /// Acknowledges once all that is written or pending now is durable.
    fn ack_when_written(&mut self, receipt: Option<Receipt>) {
        let Some(receipt) = receipt else { return };
        if !self.pending.changes.is_empty() {
            self.pending.acks.push(receipt);
        } else if self.synced < self.all_so_far() {
            self.acks_after.push_back((self.all_so_far(), receipt));
        } else {
            self.effects.acks.push(receipt);
        }
    }

    /// The write `number` is durable.
    pub fn synced(&mut self, number: u64, local: Option<(Path, LocalResult)>) {
        self.synced = self.synced.max(number);
        if std::mem::take(&mut self.opening) {
            self.effects.opened = true;
        }
        while let Some((_, receipt)) = self.acks_after.pop_front_if(|(after, _)| *after <= number) {
            self.effects.acks.push(receipt);
        }
        if let Some((path, result)) = local {
            self.local_ended(&path, result);
        }
        self.wake();
    }

    /// The receiver has made `key` durable.
    pub fn acked(&mut self, key: &OutgoingKey) {
        if self.unacked.remove(key) {
            if let OutgoingKey::Deliver(_, to) | OutgoingKey::Abort(to) = key {
                self.acquainted.insert(*to);
            }
            self.wake();
        }
    }

    /// When [`Instance::settle`] has to be called again though nothing happened, on the clock of `settle`.
    pub fn next_wake_ms(&self) -> Option<u64> {
        if self.stopped.is_some() {
            return None;
        }
        let retries = self.retrying.iter().filter_map(|path| self.steps.get(path)?.pause);
        let pauses = retries.chain(self.nudge).map(|pause| pause.until_ms);
        pauses.chain(self.next_look_ms()).filter(|until_ms| *until_ms > self.now_ms).min()
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

    fn stands_still(&self) -> bool {
        self.stopped.is_some()
    }

    /// The write that makes durable all that has happened so far.
    fn all_so_far(&self) -> u64 {
        if self.pending.changes.is_empty() { self.number - 1 } else { self.number }
    }

    /// Everything to be done since the last call.
    pub fn take_effects(&mut self) -> Effects {
        self.flush(None);
        while let Some((_, outgoing)) = self.held.pop_front_if(|(after, _)| *after <= self.synced) {
            self.effects.frames.push(outgoing);
        }
        if let Some((_, output)) = self.output_after.take_if(|(after, _)| *after <= self.synced) {
            self.effects.output = Some(output);
        }
        if let Some((_, view)) = self.view_after.take_if(|(after, _)| *after <= self.synced) {
            self.view = Some(view);
        }
        if self.close_after.is_some_and(|after| after > 0 && after <= self.synced) {
            self.effects.closed = self.closed.take();
        }
        std::mem::take(&mut self.effects)
    }

    /// Makes the pending changes (and a local step with them) the next write.
    fn flush(&mut self, local: Option<LocalJob>) {
        if local.is_none() && self.pending.changes.is_empty() {
            return;
        }
        let pending = std::mem::take(&mut self.pending);
        self.acks_after.extend(pending.acks.into_iter().map(|receipt| (self.number, receipt)));
        let urgent = pending.urgent || local.is_some();
        self.effects.writes.push(Write { number: self.number, changes: pending.changes, local, urgent });
        self.number += 1;
    }

    /// Writes `record` with the next write.
    fn record(&mut self, record: &Record, urgent: bool) {
        match record.change(self.id) {
            Ok(change) => {
                self.pending.changes.push(change);
                self.pending.urgent |= urgent;
            }
            Err(error) => self.stop(Stop::Undecodable { path: Path::root(), reason: error.to_string() }),
        }
    }

    /// Removes `record` with the next write.
    fn unrecord(&mut self, record: &Record) {
        self.pending.changes.push(record::remove(self.id, record));
    }

    /// Writes a result: what is said from now on waits for it.
    fn record_result(&mut self, record: &Record) {
        self.record(record, true);
        self.barrier = self.number;
    }

    /// Says `body` to `to` once write `after` is durable.
    fn say(&mut self, key: OutgoingKey, to: RoleIndex, body: Body, after: u64) {
        let Some(node) = self.header.node_of(to).cloned() else { return };
        let known = self.acquainted.contains(&to) && !matches!(body, Body::Nudge);
        let header = (!known).then(|| self.header.clone());
        let frame = Frame { session: self.id.session, from: self.id.role, to, header, body };
        if !matches!(key, OutgoingKey::Nudge(_)) {
            self.unacked.insert(key.clone());
        }
        self.held.push_back((after, Outgoing { key, node, frame }));
    }

    fn stop(&mut self, stop: Stop) {
        if self.stopped.is_none() {
            self.effects.stopped = Some(stop.clone());
            self.stopped = Some(stop);
        }
    }
}
