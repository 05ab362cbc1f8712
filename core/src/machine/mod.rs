//! One role's part of one session, as a pure state machine.
//!
//! Events go in (a frame, a sync, an acknowledgement, the end of a step, time), and [`Effects`] come out; the program
//! calls the machine through [`crate::Context`]. Clock, chance, disk and network are outside, so that the runtime, the
//! simulator and [`crate::run_local`] share this one machine.
//!
//! A machine is made of parts, each of which owns its data and the rules about that data alone: `identity`, `phase`,
//! `journal`, `inputs`, `steps`, `turns` (loops), `nested_saga`, `caller` (with `signals`), `outbox`, `peers`,
//! `waiters`, `timers`. [`Machine`] coordinates them, in a module for each concern: `delivery` handles what arrives,
//! `writes` what is sent and written, `apply` what a record changes (for the machine that writes it and for the one
//! that reads it back), `program` the program's operations (`waiting`, `nested_saga`, `turns` and `signals` those that
//! take long), `results` what steps come to (`calls` for statistics), `ending` the end of a session, `nudges` what a
//! waiting role asks of the others and how they answer, `compensation` the compensation of steps, `idle` and `restore`
//! passivation and reactivation, `trouble` what the roles tell the initiator about steps and parts that need an
//! operator. `description` and `inspection` show people what an instance waits for: as a sentence, and as data.

mod apply;
mod caller;
mod calls;
mod compensation;
mod debug;
mod delivery;
mod description;
mod digest;
mod effects;
mod ending;
mod identity;
mod idle;
mod inputs;
mod inspection;
mod jobs;
mod journal;
mod limits;
mod nested_saga;
mod nudges;
mod outbox;
mod peers;
mod phase;
mod program;
mod restore;
mod results;
mod signals;
mod status;
mod steps;
mod stop;
mod timers;
mod trouble;
mod turns;
mod waiters;
mod waiting;
mod writes;

use std::sync::Arc;

use crate::base::id::InstanceId;
use crate::base::role_names::RoleNames;
use crate::frame::Header;
use crate::record::Opened;
use crate::step::Compensation;

use self::caller::Caller;
use self::identity::Identity;
use self::inputs::Inputs;
use self::journal::Journal;
use self::nested_saga::Sagas;
use self::outbox::Outbox;
use self::peers::Peers;
use self::phase::{Phase, Program};
use self::steps::Steps;
use self::timers::Timers;
use self::turns::Loops;
use self::waiters::Waiters;

pub use calls::{CallOutcome, EndedCall};
pub use compensation::Resolution;
pub use effects::{Effects, Forget, Outgoing, OutgoingKey, Retried, Write};
pub use idle::Idle;
pub use inspection::{
    INSPECTED_MAX, InspectedSignal, InspectedStep, InspectedWait, Inspection, SessionRole, SessionTrouble, StepState,
    UnacknowledgedFrames, WaitKind,
};
pub(crate) use jobs::{Job, JobResult, JobTask, followed};
pub use jobs::{LocalJob, LocalResult};
pub use limits::Limits;
pub(crate) use nested_saga::{SagaPaths, Verdict};
pub use signals::{SignalError, TAKEN_SIGNALS_MAX};
pub use status::Status;
#[cfg(feature = "testing")]
pub(crate) use steps::StepSeen;
#[cfg(feature = "testing")]
pub(crate) use stop::CAUSES_OF_DIVERGENCE;
pub use stop::Stop;
pub(crate) use turns::TURN_VOTE;

/// The state machine of a role instance. See the module's documentation.
pub struct Machine {
    identity: Identity,
    program: Program,
    phase: Phase,
    /// Why the instance does nothing until an operator acts.
    stopped: Option<Stop>,
    journal: Journal,
    inputs: Inputs,
    steps: Steps,
    loops: Loops,
    sagas: Sagas,
    caller: Caller,
    outbox: Outbox,
    peers: Peers,
    waits: Waiters,
    timers: Timers,
    effects: Effects,
}

impl Machine {
    /// Creates an instance that begins now, and records its beginning.
    pub fn begin(id: InstanceId, role: &'static str, opened: &Opened, limits: Limits) -> Self {
        let mut instance = Self::new(id, role, opened, limits);
        if let Err(stop) = instance.journal.open(opened) {
            instance.stop(stop);
        }
        instance
    }

    fn new(id: InstanceId, role: &'static str, opened: &Opened, limits: Limits) -> Self {
        Self {
            identity: Identity::new(id, role, opened, limits),
            program: Program::Running,
            phase: Phase::Running,
            stopped: None,
            journal: Journal::new(id),
            inputs: Inputs::default(),
            steps: Steps::default(),
            loops: Loops::new(id.role),
            sagas: Sagas::default(),
            caller: Caller::default(),
            outbox: Outbox::default(),
            peers: Peers::default(),
            waits: Waiters::default(),
            timers: Timers::default(),
            effects: Effects::default(),
        }
    }

    /// Sets the choreography's compensation order, before the first turn.
    pub(crate) fn with_compensation(mut self, compensation: Compensation) -> Self {
        self.identity.compensation = compensation;
        self
    }

    /// Sets whether a message that is too large stops the instance instead of aborting the session.
    pub(crate) fn stopping_on_oversize(mut self, stops_on_oversize: bool) -> Self {
        self.identity.stops_on_oversize = stops_on_oversize;
        self
    }

    /// Sets the names of the choreography's roles, for texts.
    pub(crate) fn naming(mut self, roles: RoleNames) -> Self {
        self.identity.roles = roles;
        self
    }

    /// Makes the instance replay its records without performing anything.
    pub(crate) fn rehearsing(mut self) -> Self {
        self.identity.rehearsing = true;
        self
    }

    /// The identity of this instance.
    pub fn id(&self) -> InstanceId {
        self.identity.id
    }

    /// The header of the session.
    pub fn header(&self) -> &Arc<Header> {
        &self.identity.header
    }

    /// Whether the program runs, and what it waits for may still come.
    fn runs(&self) -> bool {
        self.phase == Phase::Running && !self.program.is_over()
    }

    /// The time at which [`Machine::settle`] must be called again even if nothing happens, on the clock of `settle`.
    pub fn next_wake_ms(&self) -> Option<u64> {
        if self.stopped.is_some() {
            return None;
        }
        let nudge = self.timers.nudge.map(|pause| pause.until_ms);
        let wakes = self.steps.next_tries_ms().chain(nudge).chain(self.next_look_ms());
        wakes.filter(|until_ms| *until_ms > self.timers.now_ms).min()
    }

    /// Does whatever is due, given the time and the events so far. The first clock never goes back; the second is the
    /// wall clock.
    pub fn settle(&mut self, now_ms: u64, unix_ms: u64) {
        self.timers.note(now_ms, unix_ms);
        if self.stopped.is_none() && !self.identity.rehearsing {
            self.abort_at_deadline();
            self.wake_when_due();
            self.advance();
            self.nudge_when_due();
            self.warn_of_a_long_journal();
        }
    }

    fn warn_of_a_long_journal(&mut self) {
        let records = self.inputs.len() + self.steps.len();
        if self.journal.has_become_long(records, self.identity.limits.journal_records_warn) {
            self.effects.long_journal = Some(records);
        }
    }
}
