//! One session: what an action does to its roles, its frames and its services.

use std::collections::BTreeSet;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex};

use accompanist_core::Path;
use accompanist_core::frame::{Epoch, Receipt};
use accompanist_core::id::RoleIndex;
use accompanist_core::machine::{Effects, OutgoingKey};

use crate::broken::Broken;
use crate::faults;
use crate::life::{Input, Life, Live, Play};
use crate::properties::Watched;
use crate::service::{Call, Task};
use crate::state::{Ack, Entry, State, Stored};

/// What bounds a check.
#[derive(Debug, Clone, Copy, Default)]
pub struct Bounds {
    /// Crashes of all roles together.
    pub crashes: usize,
    /// Whether the caller may cancel, once.
    pub cancel: bool,
    /// Whether time passes at any moment. Otherwise only when nothing else is under way.
    pub any_time: bool,
    /// Frames that are acknowledged and lost.
    pub forgotten: usize,
    /// How often each service may be too busy to take a step back.
    pub busy: u8,
}

pub const LOST_WRITE: &str = "a crash loses a write that was not synced";
pub const UNHEARD_SYNC: &str = "a crash comes between a sync and the news of it";
pub const DOUBT: &str = "a step in doubt is committed again";
pub const DOUBLE: &str = "a frame arrives twice";
pub const LATE: &str = "a frame of an earlier life arrives";
pub const FORGOTTEN: &str = "a frame is acknowledged and lost";
pub const SENT_AGAIN: &str = "what was acknowledged is sent again";
pub const AFTER_CLOSE: &str = "a frame arrives where the session is closed";

/// One session, to be checked.
pub struct Session {
    pub play: Play,
    pub bounds: Bounds,
    pub broken: Option<Broken>,
    pub watched: Vec<Watched>,
    /// What has happened on some way.
    pub happened: Mutex<BTreeSet<&'static str>>,
    /// How many states were gone on from.
    pub expanded: AtomicUsize,
    /// From which state which one comes without a crash, a cancel, or a frame that nobody says again: for the question
    /// whether it can end.
    pub progress: Mutex<Vec<(u64, u64)>>,
    /// The states that are over.
    pub over: Mutex<BTreeSet<u64>>,
    /// The states that are known not to come to an end any more.
    pub dead: BTreeSet<u64>,
}

impl Session {
    pub fn new(play: &Play, bounds: Bounds, broken: Option<Broken>, watched: &[&'static str]) -> Self {
        Self {
            play: play.clone(),
            bounds,
            broken,
            watched: watched.iter().map(|name| Watched::new(name)).collect(),
            happened: Mutex::default(),
            expanded: AtomicUsize::new(0),
            progress: Mutex::default(),
            over: Mutex::default(),
            dead: BTreeSet::new(),
        }
    }

    pub fn is(&self, broken: Broken) -> bool {
        self.broken == Some(broken)
    }

    fn note(&self, what: &'static str) {
        self.happened.lock().unwrap().insert(what);
    }

    pub fn again(&self, role: usize, life: &Life) -> Live {
        Live::again(&self.play, role, life, self.is(Broken::SyncedTooEarly), |write| self.spoil(write))
    }

    /// `inputs` happen to a role that is alive.
    fn happen(&self, next: &mut State, role: usize, inputs: Vec<Input>) {
        let Some(life) = next.seats[role].life.clone() else { return };
        let mut life = Life::clone(&life);
        let mut part = self.again(role, &life);
        let mut all = Vec::new();
        for input in inputs {
            all.push(part.feed(&input, |write| self.spoil(write)));
            life.inputs.push(input);
        }
        let known = std::mem::take(&mut next.seats[role].shape.calls);
        next.seats[role].set(&part, life);
        faults::of_calls(next, role, &known);
        for effects in all {
            self.carry_out(next, role, effects);
        }
    }

    /// As above, and the role is polled.
    pub fn happen_and_turn(&self, next: &mut State, role: usize, input: Input) {
        self.happen(next, role, vec![input, Input::Turn]);
    }

    fn live(next: &mut State, role: usize, lacking: BTreeSet<(Path, RoleIndex)>) {
        let seat = &mut next.seats[role];
        let origin = Arc::new(seat.stored.disk.clone());
        seat.life = Some(Arc::new(Life { origin, lacking, number: seat.epoch, inputs: Vec::new() }));
    }

    pub fn begin(&self, next: &mut State, role: usize) {
        self.begin_resending(next, role, BTreeSet::new());
    }

    fn begin_resending(&self, next: &mut State, role: usize, lacking: BTreeSet<(Path, RoleIndex)>) {
        Self::live(next, role, lacking);
        self.happen(next, role, vec![Input::Turn]);
    }

    fn carry_out(&self, next: &mut State, role: usize, effects: Effects) {
        faults::of_effects(next, role, &effects);
        match effects.output {
            Some(Ok(_)) if role == 0 => next.told_output = true,
            Some(Err(_)) if role == 0 => next.told_abort = true,
            _ => {}
        }
        for outgoing in effects.frames {
            let fresh = outgoing.key.is_acknowledged();
            next.send(outgoing.key, outgoing.frame, fresh);
        }
        for receipt in effects.acks {
            acknowledge(next, role, Some(&receipt));
        }
        if effects.closed.is_some() {
            next.forget_sender(role);
            let seat = &mut next.seats[role];
            seat.closed = true;
            seat.end();
            if self.is(Broken::NoTombstone) {
                seat.stored = Arc::default();
            }
        } else if !effects.lacking.is_empty() && !self.is(Broken::SendsOnce) {
            self.make_anew(next, role, effects.lacking);
        }
    }

    /// `role` leaves memory and comes back, to send again what counted as acknowledged.
    fn make_anew(&self, next: &mut State, role: usize, lacking: BTreeSet<(Path, RoleIndex)>) {
        self.note(SENT_AGAIN);
        let Some(life) = next.seats[role].life.clone() else { return };
        let mut begun = self.again(role, &life);
        if let Some(change) = begun.part.passivation_without(&lacking) {
            begun.disk.apply(vec![change]);
        }
        next.forget_sender(role);
        let seat = &mut next.seats[role];
        // Its link goes on with the numbers of its life, so that is no other one.
        seat.stored = Stored::of(begun.disk);
        seat.end();
        self.begin_resending(next, role, lacking);
    }

    /// The frame is acknowledged; it may arrive, or never.
    pub fn forget(&self, next: &mut State, number: u64) {
        self.note(FORGOTTEN);
        next.forgotten += 1;
        let flight = next.flights.get_mut(&number).unwrap();
        flight.fresh = false;
        let (from, key) = (usize::from(flight.frame.from.0), flight.key.clone());
        self.happen_and_turn(next, from, Input::Acked(key));
    }

    pub fn deliver(&self, next: &mut State, number: u64) {
        let flight = next.flights[&number].clone();
        let (frame, to) = (&flight.frame, usize::from(flight.frame.to.0));
        let from = usize::from(frame.from.0);
        let receipt = flight.fresh.then(|| Receipt {
            to: self.play.header.cast[from].clone(),
            epoch: Epoch(next.seats[from].epoch.into()),
            number,
        });
        if flight.ack != Ack::Missing {
            self.note(DOUBLE);
        }
        if !flight.fresh && flight.key.is_acknowledged() {
            self.note(LATE);
        }
        let seat = &next.seats[to];
        if let Some(outcome) = seat.tombstone() {
            self.note(AFTER_CLOSE);
            acknowledge(next, to, receipt.as_ref());
            if flight.asks_the_closed() {
                next.send(OutgoingKey::Nudge(frame.from), frame.answered(Some(outcome)), false);
            }
            return;
        }
        if seat.life.is_none() && flight.takes_for_known() {
            return next.send(OutgoingKey::Nudge(frame.from), frame.answered(None), false);
        }
        if seat.life.is_none() {
            Self::live(next, to, BTreeSet::new());
        }
        let frame = if self.is(Broken::NoDedup) { self.doubled(next, to, number) } else { frame.clone() };
        let receipt = if self.is(Broken::AckBeforeSync) {
            acknowledge(next, to, receipt.as_ref());
            None
        } else {
            receipt
        };
        self.happen_and_turn(next, to, Input::Frame(frame, receipt));
    }

    /// The service does what it is asked for, or does not want to.
    pub fn answer(&self, next: &mut State, role: usize, call: Call, accepted: bool) {
        faults::of_answer(next, role, &call);
        let place = next.book.keys().filter(|(of, _)| *of == role).count();
        let new = || Entry { place, ..Entry::default() };
        let entry = next.book.entry((role, call.path.clone())).or_insert_with(new);
        match call.task {
            Task::Commit => {
                let first = entry.accepted.is_none();
                if !first {
                    self.note(DOUBT);
                }
                entry.accepted = Some(accepted);
                if accepted && (first || self.is(Broken::DeafService)) {
                    entry.committed += 1;
                }
            }
            Task::Compensate if accepted => entry.undone = 1,
            Task::Compensate => entry.busy += 1,
        }
        self.happen_and_turn(next, role, Input::Answer(call, accepted));
    }

    pub fn sync_and_crash(&self, next: &mut State, role: usize) {
        self.note(UNHEARD_SYNC);
        self.happen(next, role, vec![Input::Synced]);
        self.crash(next, role);
    }

    pub fn crash(&self, next: &mut State, role: usize) {
        next.crashes += 1;
        next.forget_sender(role);
        let seat = &mut next.seats[role];
        if seat.shape.writes > 0 {
            self.note(LOST_WRITE);
        }
        seat.epoch += 1;
        seat.end();
        // It is back at once: while it is away nothing happens that could not as well happen to be lost.
        if seat.stored.is_opened {
            self.begin(next, role);
        }
    }
}

/// `role` acknowledges what `receipt` is of.
fn acknowledge(next: &mut State, role: usize, receipt: Option<&Receipt>) {
    let Some(receipt) = receipt else { return };
    faults::of_acknowledgement(next, role, receipt);
    let Some(flight) = next.flights.get_mut(&receipt.number) else { return };
    let of_this_life = u128::from(next.seats[usize::from(flight.frame.from.0)].epoch) == receipt.epoch.0;
    if of_this_life && flight.fresh && flight.ack == Ack::Missing {
        flight.ack = Ack::UnderWay;
    }
}
