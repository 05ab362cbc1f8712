//! One role's part of one session, as a pure state machine.
//!
//! Events go in (a frame, a sync, an acknowledgement, a step's end, time), [`Effects`] come out; the program
//! asks it through [`crate::Context`]. Clock, chance, disk and network are outside, so that the runtime, the
//! simulator and [`crate::run_local`] share this one machine. `program` has what the program asks,
//! `saga` the way to an end, `restore` the way back from the records.

mod effects;
mod program;
mod restore;
mod saga;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::task::Waker;

use crate::abort::Abort;
use crate::choreography::AnyStep;
use crate::contract::Batch;
use crate::frame::{Body, Frame, Header, Outcome, Receipt};
use crate::id::{InstanceId, Path, RoleIndex};
use crate::message::Payload;
use crate::record::{self, Closed, Opened, Record};

pub use effects::{Effects, LocalJob, LocalResult, Outgoing, OutgoingKey, Stop, Write, panic_text};
pub(crate) use effects::{Job, JobResult};

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
    /// The pause before a compensation is tried again; it doubles from one to the next.
    pub retry_delay_min_ms: u64,
    /// The longest pause between two tries of a compensation.
    pub retry_delay_max_ms: u64,
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
        }
    }
}

/// A step as far as it got.
struct StepEntry {
    name: String,
    result: Option<Result<Payload, Abort>>,
    order: u32,
    compensated: bool,
    /// The typed step: there once the program (or its replay) has come by.
    step: Option<AnyStep>,
}

/// Something a role observed, and under which name.
struct Observation {
    name: String,
    result: Payload,
    /// Whether the program (or its replay) has come by.
    visited: bool,
}

/// Changes on their way into the next write.
#[derive(Default)]
struct Pending {
    changes: Batch,
    acks: Vec<Receipt>,
    urgent: bool,
}

/// The state machine. See the module's documentation.
pub struct Instance {
    id: InstanceId,
    role: &'static str,
    header: Arc<Header>,
    limits: Limits,

    mailbox: BTreeMap<(Path, RoleIndex), Payload>,
    observed: BTreeMap<Path, Observation>,
    steps: BTreeMap<Path, StepEntry>,
    next_order: u32,

    pending: Pending,
    /// The number that the pending changes will be written under.
    number: u64,
    synced: u64,
    /// The write with the latest recorded result: what is said from now on depends on it.
    barrier: u64,
    acks_after: VecDeque<(u64, Receipt)>,
    journal_keys: Vec<Vec<u8>>,

    held: VecDeque<(u64, Outgoing)>,
    unacked: BTreeSet<OutgoingKey>,
    /// Roles that are known to have the header.
    acquainted: BTreeSet<RoleIndex>,
    waiting: BTreeSet<RoleIndex>,
    wakers: Vec<Waker>,

    jobs: VecDeque<(u64, Job)>,
    in_flight: usize,

    program_ended: bool,
    output: Option<Payload>,
    output_after: Option<(u64, Result<Payload, Abort>)>,
    abort: Option<Abort>,
    ended: Option<(u64, Outcome)>,
    done: BTreeMap<RoleIndex, Outcome>,
    closing: bool,
    close_after: Option<u64>,
    closed: Option<Closed>,
    opening: bool,

    now_ms: u64,
    nudge: Option<Pause>,
    retry: Option<Pause>,
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
            mailbox: BTreeMap::new(),
            observed: BTreeMap::new(),
            steps: BTreeMap::new(),
            next_order: 0,
            pending: Pending::default(),
            number: 1,
            synced: 0,
            barrier: 0,
            acks_after: VecDeque::new(),
            journal_keys: Vec::new(),
            held: VecDeque::new(),
            unacked: BTreeSet::new(),
            acquainted: BTreeSet::new(),
            waiting: BTreeSet::new(),
            wakers: Vec::new(),
            jobs: VecDeque::new(),
            in_flight: 0,
            program_ended: false,
            output: None,
            output_after: None,
            abort: None,
            ended: None,
            done: BTreeMap::new(),
            closing: false,
            close_after: None,
            closed: None,
            opening: false,
            now_ms: 0,
            nudge: None,
            retry: None,
            stopped: None,
            effects: Effects::default(),
        }
    }

    fn step_entry(&mut self, path: Path, name: &str) -> &mut StepEntry {
        self.steps.entry(path).or_insert_with(|| StepEntry {
            name: name.into(),
            result: None,
            order: 0,
            compensated: false,
            step: None,
        })
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
            Body::Deliver { path, payload } => self.deliver_message(path, frame.from, payload, receipt),
            Body::Nudge => self.answer_nudge(frame.from),
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

    fn deliver_message(&mut self, path: Path, from: RoleIndex, payload: Payload, receipt: Option<Receipt>) {
        let id = (path, from);
        match self.mailbox.get(&id) {
            None => {
                let (path, from) = id.clone();
                self.record(&Record::Received { path, from, payload: payload.clone() }, false);
                self.mailbox.insert(id, payload);
            }
            Some(known) if *known == payload => {}
            Some(known) => {
                let recorded = format!("a message of {} bytes from role {}", known.len(), from.0);
                let replayed = format!("another message of {} bytes under the same id", payload.len());
                return self.stop(Stop::Diverged { path: id.0, recorded, replayed });
            }
        }
        self.ack_when_written(receipt);
    }

    /// Acknowledges once all that is written or pending now is durable.
    fn ack_when_written(&mut self, receipt: Option<Receipt>) {
        let Some(receipt) = receipt else { return };
        if !self.pending.changes.is_empty() {
            self.pending.acks.push(receipt);
        } else if self.synced.saturating_add(1) < self.number {
            self.acks_after.push_back((self.number - 1, receipt));
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
            self.in_flight = self.in_flight.saturating_sub(1);
            self.local_ended(path, result);
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
        let pauses = [self.nudge, self.retry].into_iter().flatten().map(|pause| pause.until_ms);
        pauses.filter(|until_ms| *until_ms > self.now_ms).min()
    }

    /// Does what time and the events so far call for.
    pub fn settle(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
        if self.stopped.is_none() {
            self.advance();
            self.nudge_when_due();
        }
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
        if let Some(local) = &local {
            self.in_flight += 1;
            self.journal_keys.extend(local.record_key().ok());
        }
        self.effects.writes.push(Write { number: self.number, changes: pending.changes, local, urgent });
        self.number += 1;
    }

    /// Writes `record` with the next write.
    fn record(&mut self, record: &Record, urgent: bool) {
        match record.change(self.id) {
            Ok(change) => {
                self.journal_keys.push(change.key.clone());
                self.pending.changes.push(change);
                self.pending.urgent |= urgent;
            }
            Err(error) => self.stop(Stop::Undecodable { path: Path::root(), reason: error.to_string() }),
        }
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

    /// Every operation that waits looks again.
    fn wake(&mut self) {
        self.waiting.clear();
        for waker in self.wakers.drain(..) {
            waker.wake();
        }
    }
}
